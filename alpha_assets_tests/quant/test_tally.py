"""How many signals say what."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant.tally import METRIC_FIELDS, WORDS, tally

DAY = datetime(2024, 3, 1, tzinfo=UTC)


def said(signal: str, confidence: float | None = None, risk: str = "LOW", bar: datetime | None = DAY) -> dict[str, Any]:
    return {"signal": signal, "confidence": confidence, "risk": risk, "bar_time": bar}


def test_every_figure_of_six_signals_by_hand() -> None:
    rows = [
        said("STRONG_BUY", 0.8),
        said("BUY", 0.6, risk="HIGH"),
        said("SELL", 0.7),
        said("HOLD", bar=datetime(2024, 2, 28, tzinfo=UTC)),
        said("HOLD", risk="HIGH"),
        said("HOLD", bar=None),
    ]
    assert tally(rows) == {
        "signals": 6,
        "strong_buy": 1,
        "buy": 2,
        "hold": 3,
        "sell": 1,
        "strong_sell": 0,
        "buy_ratio": 2 / 6,
        "hold_ratio": 0.5,
        "sell_ratio": 1 / 6,
        "mean_confidence": (0.8 + 0.6 + 0.7) / 3,
        "high_risk": 2,
        "oldest_bar": "2024-02-28T00:00:00+00:00",
        "newest_bar": "2024-03-01T00:00:00+00:00",
    }


def test_of_no_signals_there_are_counts_and_nothing_else() -> None:
    told = tally([])
    assert tuple(told) == METRIC_FIELDS
    assert {name for name, figure in told.items() if figure is None} == {
        *("buy_ratio", "hold_ratio", "sell_ratio", "mean_confidence", "oldest_bar", "newest_bar")
    }


@given(st.lists(st.sampled_from(WORDS)))
def test_buys_sales_and_holds_are_all_signals_and_their_ratios_one(words: list[str]) -> None:
    told = tally([said(word) for word in words])
    assert told["buy"] + told["hold"] + told["sell"] == told["signals"] == len(words)
    if words:
        assert abs(told["buy_ratio"] + told["hold_ratio"] + told["sell_ratio"] - 1) < 1e-12

"""The risk is the highest of what volatility, drawdown and dissimilarity say, and each is of the past alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.quant.risk import figures, level

PARAMETERS = SignalParameters()
START = datetime(2020, 1, 1, tzinfo=UTC)


def bars(closes: np.ndarray, symbol: str = "A", listing: object = START.date()) -> pl.DataFrame:
    stamps = [START + timedelta(days=day) for day in range(len(closes))]
    return pl.DataFrame({"symbol": symbol, "timestamp": stamps, "close": closes}).with_columns(listing=pl.lit(listing))


def walk(seed: int, count: int, deviation: float) -> np.ndarray:
    return np.asarray(100 * np.exp(np.cumsum(np.random.default_rng(seed).standard_normal(count) * deviation)))


def test_the_figures_are_those_of_a_count_by_hand() -> None:
    closes = walk(1, 400, 0.01)
    ((symbol, scale, rank, drawdown),) = figures(bars(closes), PARAMETERS).rows()
    moves = np.diff(np.log(closes))
    volatility = np.array([moves[at - 20 : at].std(ddof=1) for at in range(20, 400)])
    assert symbol == "A"
    assert scale == pytest.approx(volatility[-1])
    assert rank == pytest.approx((volatility[-252:] <= volatility[-1] + 1e-15).mean())
    assert drawdown == pytest.approx(1 - closes[-1] / closes[-252:].max())


def test_more_bars_of_the_past_than_are_asked_for_change_nothing() -> None:
    closes = walk(2, 600, 0.01)
    needed = PARAMETERS.risk_bars + 21
    short, long = (figures(bars(part), PARAMETERS).row(0)[1:] for part in (closes[-needed:], closes))
    assert short == pytest.approx(long)


def test_of_a_ticker_that_became_another_company_only_the_newest_counts() -> None:
    old, new = bars(walk(3, 300, 0.05)), bars(walk(4, 30, 0.01) / 50)
    later = new.with_columns(pl.col("timestamp") + timedelta(days=300), listing=pl.lit(datetime(2021, 1, 1).date()))
    together, alone = (figures(part, PARAMETERS).row(0) for part in (pl.concat([old, later]), later))
    assert together == alone


def test_a_listing_of_a_few_bars_has_no_rank() -> None:
    ((_, scale, rank, drawdown),) = figures(bars(walk(5, 10, 0.01)), PARAMETERS).rows()
    assert (scale, rank) == (None, None)
    assert drawdown >= 0


@pytest.mark.parametrize(
    ("rank", "drawdown", "dissimilarity", "wanted"),
    [
        (0.2, 0.05, 0.5, "LOW"),
        (0.6, 0.05, 0.5, "MEDIUM"),
        (0.9, 0.05, 0.5, "HIGH"),
        (0.2, 0.15, 0.5, "MEDIUM"),
        (0.2, 0.30, 0.5, "HIGH"),
        (0.2, 0.05, 1.0, "MEDIUM"),
        (0.2, 0.05, 1.5, "HIGH"),
        (0.2, 0.05, float("inf"), "HIGH"),
        (None, None, 0.5, "LOW"),
        (None, None, None, None),
    ],
)
def test_the_risk_is_the_highest_of_the_three(
    rank: float | None, drawdown: float | None, dissimilarity: float | None, wanted: str | None
) -> None:
    assert level(rank, drawdown, dissimilarity, PARAMETERS, 1.5) == wanted

"""Stored signals, told without a frame: which hold, and how many say what. Imports nothing heavy."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from alpha_assets.quant.parameters import CLOCK_SKEW

#: What a signal can say, from the boldest sale to the boldest purchase.
WORDS = ("STRONG_SELL", "SELL", "HOLD", "BUY", "STRONG_BUY")

#: The key of the tally of all signals.
WHOLE = "all"

#: The namespace of the cache in which what is believed of the views is kept.
RECORD = "record"

#: How much may go wrong, whichever way the signal points.
RISKS = ("LOW", "MEDIUM", "HIGH")

#: What of a signal is a list of objects: JSON text where the storage has no type for it.
DOCUMENTS = ("views", "top_features")

METRIC_FIELDS = (
    *("signals", "strong_buy", "buy", "hold", "sell", "strong_sell"),
    *("buy_ratio", "hold_ratio", "sell_ratio", "mean_confidence", "high_risk", "oldest_bar", "newest_bar"),
)


def tally(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``METRIC_FIELDS`` of these signals (symbol, signal, confidence, risk, bar_time).

    ``buy`` counts the strong ones too, as ``sell`` does; a ratio is a share of all, None of none. ``mean_confidence``
    is over the signals that state a direction, None where none does. Bar times are ISO 8601, so that JSON can hold it.
    """
    counts = {word: sum(row["signal"] == word for row in rows) for word in WORDS}
    buy, sell = counts["BUY"] + counts["STRONG_BUY"], counts["SELL"] + counts["STRONG_SELL"]
    confidences = [row["confidence"] for row in rows if row["confidence"] is not None]
    bars = [row["bar_time"] for row in rows if row["bar_time"] is not None]
    return {
        "signals": len(rows),
        "strong_buy": counts["STRONG_BUY"],
        "buy": buy,
        "hold": counts["HOLD"],
        "sell": sell,
        "strong_sell": counts["STRONG_SELL"],
        "buy_ratio": _share(buy, rows),
        "hold_ratio": _share(counts["HOLD"], rows),
        "sell_ratio": _share(sell, rows),
        "mean_confidence": sum(confidences) / len(confidences) if confidences else None,
        "high_risk": sum(row.get("risk") == "HIGH" for row in rows),
        "oldest_bar": min(bars).isoformat() if bars else None,
        "newest_bar": max(bars).isoformat() if bars else None,
    }


def is_fresh(row: Mapping[str, Any], now: datetime) -> bool:
    """Whether a signal holds: it has not expired, and was not said in the future, of a clock that was set back."""
    return bool(row["created_at"] <= now + CLOCK_SKEW and row["expires_at"] > now)


def _share(count: int, rows: Sequence[object]) -> float | None:
    return count / len(rows) if rows else None

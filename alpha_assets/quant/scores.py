"""Figures of single heads over out-of-fold rows: what an analyst compares, while the gate looks at ``quant.metrics``.

A figure that is undefined (no rows, a constant answer, one class) is None, never 0 or NaN.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from alpha_assets.quant.calibration import loss
from alpha_assets.quant.learners import BUY, SELL, Kind, Lesson
from alpha_assets.quant.metrics import brier

Array = np.ndarray
Figures = dict[str, float | None]

#: Groups of rows, by what was said, over which calibration is shown.
BINS = 10


def figures(kind: Kind, said: Array, rows: Lesson) -> Figures:
    """The figures of a head's answers: returns, P(up) or P(success), or three probabilities."""
    if not len(rows.up):
        return {}
    if kind == "return":
        return _of_returns(said, rows)
    if kind in ("direction", "pattern"):
        return _of_direction(said, rows)
    return _of_signal(said, rows)


def _of_returns(said: Array, rows: Lesson) -> Figures:
    error = rows.earned - said
    mse = float(np.mean(error**2))
    spread = float(np.mean((rows.earned - rows.earned.mean()) ** 2))
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": float(np.mean(np.abs(error))),
        "r2": 1 - mse / spread if spread > 0 else None,
        "direction_accuracy": float(np.mean((said > 0) == (rows.up > 0))),
        **_information(said, rows),
    }


def _of_direction(said: Array, rows: Lesson) -> Figures:
    up, claimed = rows.up > 0, said > 0.5
    return {
        "accuracy": float(np.mean(claimed == up)),
        **_precision(claimed, up),
        "log_loss": loss("direction", said, rows.up, rows.weight),
        "brier": brier(said, up),
        **_information(said, rows),
    }


def _of_signal(said: Array, rows: Lesson) -> Figures:
    claimed = said.argmax(axis=1)
    by_class = [_precision(claimed == each, rows.signal == each) for each in range(3)]
    return {
        "accuracy": float(np.mean(claimed == rows.signal)),
        **{name: _mean([figure[name] for figure in by_class]) for name in ("precision", "recall", "f1")},
        "log_loss": loss("signal", said, rows.signal, rows.weight),
        "brier": float(np.mean(((said - np.eye(3)[rows.signal]) ** 2).sum(axis=1))),
        **_information(said[:, BUY] - said[:, SELL], rows),
    }


def _precision(claimed: Array, true: Array) -> Figures:
    hits = int((claimed & true).sum())
    precision = hits / int(claimed.sum()) if claimed.any() else None
    recall = hits / int(true.sum()) if true.any() else None
    f1 = 2 * hits / int(claimed.sum() + true.sum()) if claimed.any() or true.any() else None
    return {"precision": precision, "recall": recall, "f1": f1}


def _information(said: Array, rows: Lesson) -> Figures:
    """IC and rank IC: correlation with the label's return in units of its volatility, plain and of ranks."""
    scaled = rows.earned * np.sqrt(rows.weight)
    return {"ic": correlation(said, scaled), "rank_ic": correlation(_ranks(said), _ranks(scaled))}


def correlation(one: Array, other: Array) -> float | None:
    """Pearson's correlation, None where either stands still."""
    if len(one) < 2:
        return None
    x, y = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 1e-12 * len(x) * float(np.abs(one).max() * np.abs(other).max()) else None


def confusion(said: Array, rows: Lesson) -> list[list[int]]:
    """Rows by what was true (sell, hold, buy), columns by the likeliest class."""
    counts = np.zeros((3, 3), dtype=int)
    np.add.at(counts, (rows.signal, said.argmax(axis=1)), 1)
    return [[int(count) for count in row] for row in counts]


def reliability(p_up: Array, rows: Lesson) -> list[Mapping[str, Any]]:
    """Rows in ten groups of rising P(up): how many, what was said, and how many went up."""
    groups = np.array_split(np.argsort(p_up, kind="stable"), BINS)
    return [
        {"rows": len(group), "said": float(p_up[group].mean()), "up": float(rows.up[group].mean())}
        for group in groups
        if len(group)
    ]


def _ranks(values: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

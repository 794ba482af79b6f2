"""Whom a family's candidates would succeed: what served their cells within a year, by what it said out of fold.

Held against the version in production alone, a family could slide: each successor a little worse than the one before.
So those before it count too, for a year; but not one that was taken back, whose promise did not come true.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from alpha_assets.quant.lifecycle import Decision, standing
from alpha_assets.stations.train import ALL

#: A symbol and a regime.
Cell = tuple[str, str]

SAID: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "regime": pl.String(),
    "training_id": pl.String(),
    "linear": pl.Boolean(),
}


def who_serves(production: Mapping[Cell, Decision], cell: Cell) -> Decision | None:
    """The decision on whoever speaks of the bars of this cell: where no model of its own serves, that of «all»."""
    return production.get(cell) or production.get((cell[0], ALL))


def succeeded(histories: Mapping[Cell, Sequence[Decision]], cell: Cell) -> Sequence[Decision]:
    """The decisions on those whom a candidate of this cell would succeed.

    Of «all» where the cell has no production of its own: else a regime's first model would be held against nobody, and
    could take the regime's bars over from a better one.
    """
    own = histories.get(cell, ())
    return own if standing(own).production is not None else histories.get((cell[0], ALL), ())


def champions(
    histories: Mapping[str, Sequence[Decision]], pool: Mapping[str, str], since: datetime
) -> list[dict[str, Decision]]:
    """The decisions that brought the champions of a pool into production, by symbol; what serves now first.

    ``histories`` are each symbol's decisions as ``succeeded`` has them, ``pool`` the training of its candidate. Each
    of the following dicts goes one version further back, where a symbol has one that served after ``since``. A
    candidate that serves already succeeds nobody, and no training is its own rival.
    """
    rivals = {symbol: _rivals(histories.get(symbol, ()), training, since) for symbol, training in pool.items()}
    found = {symbol: some for symbol, some in rivals.items() if some}
    deepest = max(map(len, found.values()), default=0)
    return [{symbol: some[min(depth, len(some) - 1)] for symbol, some in found.items()} for depth in range(deepest)]


def scores_of(predictions: pl.DataFrame, generation: Mapping[str, Decision]) -> pl.DataFrame:
    """Symbol, timestamp and score of what these versions said, each by the voice that speaks for it."""
    rows = [
        (symbol, row["regime"], row["training_id"], row["speaker"] == "linear") for symbol, row in generation.items()
    ]
    ours = pl.DataFrame(rows, schema=dict(SAID), orient="row")
    joined = predictions.join(ours, on=["symbol", "regime", "training_id"])
    return joined.select("symbol", "timestamp", score=spoken("score"))


def spoken(opinion: str) -> pl.Expr:
    """An opinion out of fold by the voice that speaks: its own of the linear model, where ``linear`` says so."""
    return pl.when("linear").then(f"linear_{opinion}").otherwise(opinion)


def _rivals(history: Sequence[Decision], training: str, since: datetime) -> list[Decision]:
    served = standing(history).served_since(since)
    if not served or served[0]["training_id"] == training:
        return []
    # Of a training that served twice the newer decision says who speaks.
    distinct = {row["training_id"]: row for row in reversed(served)}
    return [row for row in served if distinct[row["training_id"]] is row and row["training_id"] != training]

"""Weights of the rows of one training set: labels that overlap tell less than as many apart, old ones less than new.

Whatever weighs a row is inside the training set: a function here takes those rows and sees no other.
"""

import numpy as np
import polars as pl


def uniqueness(rows: pl.DataFrame) -> pl.Series:
    """Average uniqueness of each label among the rows of its own symbol, in (0, 1], in the order of the rows.

    ``rows`` are those of one training set: symbol, label_start and held_until, nulls left out by the caller. With c(τ)
    the number of the symbol's labels that are held at the instant τ, it is the mean of 1 / c(τ) over the label's own
    span [label_start, held_until) (Lopez de Prado 2018, 4.4, there by bars; here by the calendar, so that a row which
    a regime filter left out, a halt or a missing bar counts as what it is). Labels of h bars at every bar have 1 / h;
    the sum over the rows is the number of labels that do not overlap.

    Raises ValueError for a null, or a label that is held for no time.
    """
    held = rows.select("symbol", start=pl.col("label_start").dt.epoch("us"), end=pl.col("held_until").dt.epoch("us"))
    if held.null_count().sum_horizontal().item() or not (held["end"] > held["start"]).all():
        raise ValueError("uniqueness is of labels with a label_start before their held_until: leave others out")
    ends = pl.concat(
        [
            held.select("symbol", time="start", step=pl.lit(1)),
            held.select("symbol", time="end", step=pl.lit(-1)),
        ]
    ).with_row_index("place")
    shared = (
        ends.sort("symbol", "time")
        .with_columns(open=pl.col("step").cum_sum().over("symbol"), lasts=_until_next("time"))
        .with_columns(share=pl.when(pl.col("open") > 0).then(pl.col("lasts") / pl.col("open")).otherwise(0.0))
        .with_columns(so_far=pl.col("share").cum_sum().shift(1, fill_value=0.0).over("symbol"))
        .sort("place")["so_far"]
    )
    return ((shared[held.height :] - shared[: held.height]) / (held["end"] - held["start"])).alias("uniqueness")


def _until_next(column: str) -> pl.Expr:
    return (pl.col(column).shift(-1) - pl.col(column)).over("symbol").fill_null(0)


def recency(rows: pl.DataFrame, stamps: pl.Series, half_life: int) -> pl.Series:
    """Weight of each row by its age, 1 for the newest and half of that every ``half_life`` bars; 1 for all if it is 0.

    ``rows`` are those of one training set (timestamp). Age is counted in the distinct ``stamps`` of all bars up to the
    newest row: those of the pool before any regime filter, or a regime that comes once a year would not age. Later
    stamps count for nothing. Raises ValueError for a negative half-life.
    """
    if half_life < 0:
        raise ValueError(f"a half-life of {half_life} bars: it must be at least 1, or 0, which turns it off")
    if not half_life or rows.is_empty():
        return pl.Series("recency", np.ones(rows.height))
    own = rows["timestamp"].dt.epoch("us").to_numpy()
    bars = np.unique(stamps.dt.epoch("us").to_numpy())
    place = np.searchsorted(bars, own, side="right")
    return pl.Series("recency", np.exp2((place - place.max()) / half_life))


def sample_weights(rows: pl.DataFrame, stamps: pl.Series, half_life: int) -> pl.Series:
    """``uniqueness`` times ``recency`` of the rows of one training set, their mean 1, in the order of the rows.

    Nothing outside ``rows`` shapes them but how many ``stamps`` lie between two rows. With mean 1 a threshold that
    counts rows (a leaf's least, a penalty) means the same at every horizon. Raises ValueError as these two.
    """
    weights = uniqueness(rows) * recency(rows, stamps, half_life)
    return (weights / weights.mean()).alias("weight")

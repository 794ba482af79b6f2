"""Walk-forward folds of a panel, purged and embargoed by when things were known.

A row occupies the calendar interval from the instant it was decided (known_at) to the instant its label was
known (label_end). A training row is admitted only if its whole interval ends before the first decision of the
test window, less the embargo; across symbols and exchanges too, where bars of one stamp are known at different hours.
Counting rows instead of time leaks: on a panel of three symbols a gap of h rows overlapped 1,008 times.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Fold:
    """Row numbers, ascending, in the frame the folds were made of. Training lies wholly before the test."""

    train: np.ndarray
    test: np.ndarray


def walk_forward(spans: pl.DataFrame, folds: int, embargo: int, min_train: int) -> list[Fold]:
    """Expanding walk-forward folds over the dates of a panel.

    ``spans`` holds timestamp, known_at and label_end without nulls (rows without a label are for the caller to leave
    out), one row a symbol and bar, in any order; for one symbol its rows alone. The distinct timestamps
    after the first ``min_train`` are cut into ``folds`` consecutive test blocks of nearly equal length; all rows of a
    timestamp are in one block. Training rows of a fold are those with label_end earlier than the known_at of
    every row from ``embargo`` timestamps before the block's first. So the first fold trains on about
    ``min_train`` timestamps less the horizon and the embargo.

    The answer is empty where fewer than ``folds`` timestamps follow the first ``min_train``; a fold without
    training rows is left out. Raises ValueError for a null, or a label known before its decision.
    """
    _refuse(spans, folds, embargo, min_train)
    stamps = spans["timestamp"].to_physical().to_numpy()
    known = spans["known_at"].to_physical().to_numpy()
    ends = spans["label_end"].to_physical().to_numpy()
    distinct, position = np.unique(stamps, return_inverse=True)
    if len(distinct) < min_train + folds:
        return []
    earliest = _earliest_from(known, position, len(distinct))
    made = []
    for block in np.array_split(np.arange(min_train, len(distinct)), folds):
        first, last = int(block[0]), int(block[-1])
        train = np.flatnonzero(ends < earliest[max(first - embargo, 0)])
        if len(train):
            made.append(Fold(train=train, test=np.flatnonzero((position >= first) & (position <= last))))
    return made


def _earliest_from(known: np.ndarray, position: np.ndarray, count: int) -> np.ndarray:
    """The earliest decision at or after each distinct timestamp."""
    earliest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(earliest, position, known)
    return np.minimum.accumulate(earliest[::-1])[::-1]


def _refuse(spans: pl.DataFrame, folds: int, embargo: int, min_train: int) -> None:
    if folds < 1 or embargo < 0 or min_train < 1:
        raise ValueError(f"{folds} folds, embargo {embargo}, min_train {min_train}: wanted at least 1, 0 and 1")
    nulls = {name: spans[name].null_count() for name in ("timestamp", "known_at", "label_end")}
    if any(nulls.values()):
        raise ValueError(f"spans hold nulls ({nulls}): leave rows without a label out before splitting")
    if not (spans["label_end"] > spans["known_at"]).all():
        raise ValueError("a label_end is not after its known_at: a label known at the decision is the future leaking")

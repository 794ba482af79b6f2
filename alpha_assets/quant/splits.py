"""Windows of time that test what was learnt elsewhere, purged and embargoed by when things were known.

A row occupies the calendar interval from the instant it was decided (known_at) to the instant its label was
known (label_end). A training row is admitted only if its whole interval ends before the first decision of the
test window, less the embargo, or begins after the last test label was known; across symbols and exchanges too, where
bars of one stamp are known at different hours. Counting rows instead of time leaks: on a panel of three symbols a gap
of h rows overlapped 1,008 times.

**Windows first, rows later.** A ``Window`` is made of the bars of the whole pool, before any filter, and holds nothing
but instants; which rows of a frame it tests and which may train is asked of each row alone. So what a regime or a
symbol keeps of a window is a part of what the pool has of it: a filter can neither move a border nor shorten an
embargo, and the models of one pool are tested on the same dates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

Stamps = np.ndarray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Fold:
    """Row numbers, ascending, in the frame the folds were made of. No training row overlaps a test row."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Window:
    """Tests the bars stamped from ``first`` to ``last``.

    A row may train if its interval ends earlier than ``before``, or begins at ``after`` or later (None: never, as in a
    walk forward). That nothing overlaps holds for the panel that the window was made of and for every part of it; other
    symbols may close at other hours.
    """

    first: datetime
    last: datetime
    before: datetime
    after: datetime | None = None

    def fold(self, spans: pl.DataFrame) -> Fold:
        """The rows of ``spans`` (timestamp, known_at, label_end) that train and that test; one without a label none."""
        train = pl.col("label_end") < self.before
        if self.after is not None:
            train |= (pl.col("known_at") >= self.after) & pl.col("label_end").is_not_null()
        test = pl.col("timestamp").is_between(self.first, self.last) & pl.col("label_end").is_not_null()
        found = spans.select(train=train.fill_null(value=False), test=test)
        return Fold(*(np.flatnonzero(found[name].to_numpy()) for name in ("train", "test")))


@dataclass(frozen=True)
class _Dates:
    """The distinct stamps of a panel, in µs; of each row its place among them and when it and its label were known."""

    distinct: Stamps
    place: np.ndarray
    known: Stamps
    ends: Stamps

    @classmethod
    def of(cls, spans: pl.DataFrame) -> "_Dates":
        stamps, known, ends = (spans[name].dt.epoch("us").to_numpy() for name in ("timestamp", "known_at", "label_end"))
        distinct, place = np.unique(stamps, return_inverse=True)
        return cls(distinct, place, known, ends)

    @property
    def earliest(self) -> Stamps:
        """The earliest decision at or after each distinct stamp."""
        found = np.full(len(self.distinct), np.iinfo(np.int64).max)
        np.minimum.at(found, self.place, self.known)
        return np.minimum.accumulate(found[::-1])[::-1]

    @property
    def latest(self) -> Stamps:
        """When the last label of each distinct stamp is known."""
        found = np.full(len(self.distinct), np.iinfo(np.int64).min)
        np.maximum.at(found, self.place, self.ends)
        return found


def walk_forward_windows(spans: pl.DataFrame, folds: int, embargo: int, min_train: int) -> list[Window]:
    """Expanding walk-forward windows over the dates of a panel.

    ``spans`` holds timestamp, known_at and label_end without nulls (rows without a label are for the caller to leave
    out), one row a symbol and bar of the pool, in any order. The distinct timestamps after the first ``min_train``
    are cut into ``folds`` consecutive test blocks of nearly equal length. Training rows of a window are those with
    label_end earlier than the known_at of every row from ``embargo`` timestamps before the block's first. So the
    first trains on about ``min_train`` timestamps less the horizon and the embargo.

    The answer is empty where fewer than ``folds`` timestamps follow the first ``min_train``. Raises ValueError for a
    null, or a label known before its decision.
    """
    _refuse(spans, folds, embargo, min_train)
    dates = _Dates.of(spans)
    earliest, count = dates.earliest, len(dates.distinct)
    if count < min_train + folds:
        return []
    return [
        Window(*_instants(dates.distinct[first], dates.distinct[last], earliest[max(first - embargo, 0)]))
        for first, last in _blocks(min_train, count, folds)
    ]


def walk_forward(spans: pl.DataFrame, folds: int, embargo: int, min_train: int) -> list[Fold]:
    """The folds of ``walk_forward_windows`` in the rows of ``spans``; one without training rows is left out."""
    windows = walk_forward_windows(spans, folds, embargo, min_train)
    return [fold for fold in (window.fold(spans) for window in windows) if len(fold.train)]


def purged_k_fold(spans: pl.DataFrame, folds: int, embargo: int) -> list[Window]:
    """Windows that tile all dates of a panel, each tested by what was learnt before and after it.

    For what is chosen inside one training set (calibration, the weights of an ensemble, a search): every row is tested
    once, by fits of nearly full size. As evidence of skill it would be none, for it learns from the future (Lopez de
    Prado 2018, 7.4). ``spans`` as in ``walk_forward_windows``. Beside the purge, ``embargo`` timestamps on either side
    of a block are left out of training.

    The answer is empty where there are fewer than ``folds`` timestamps. Raises ValueError as ``walk_forward_windows``,
    and for fewer than 2 folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: with fewer than 2 nothing is left to learn from")
    _refuse(spans, folds, embargo, min_train=1)
    dates = _Dates.of(spans)
    earliest, latest, count = dates.earliest, dates.latest, len(dates.distinct)
    if count < folds:
        return []
    windows = []
    for first, last in _blocks(0, count, folds):
        borders = _instants(dates.distinct[first], dates.distinct[last], earliest[max(first - embargo, 0)])
        free = int(np.searchsorted(earliest, latest[first : last + 1].max(), side="right")) + embargo
        windows.append(Window(*borders, *_instants(*earliest[free : free + 1])))
    return windows


def inner_windows(spans: pl.DataFrame, outer: Window, folds: int, embargo: int) -> list[Window]:
    """``purged_k_fold`` of what ``outer`` may learn from: nothing inside them overlaps its test window.

    Ask them of the training rows of ``outer`` alone: ``inner.fold(rows[outer.fold(rows).train])``.
    """
    return purged_k_fold(spans[outer.fold(spans).train], folds, embargo)


def vault_begins(stamps: pl.Series, share: float) -> datetime | None:
    """The first of the newest ``share`` of the dates among ``stamps``, in any order.

    Bars that follow only move it later: what is in the vault when it is read was never outside before. None for a share
    of 0, and where it holds no whole date. Raises ValueError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"a vault of {share}: it is a share of the dates, at least 0 and below 1")
    dates = stamps.unique().sort()
    kept = int(len(dates) * share)
    return dates[-kept] if kept else None


def vault(spans: pl.DataFrame, begins: datetime, embargo: int) -> Window:
    """The dates from ``begins`` on as one window: its ``test`` rows are read once a release (GATE.md).

    ``spans`` as in ``walk_forward_windows``, one of them in the vault. Raises ValueError as that.
    """
    dates = spans["timestamp"].unique()
    return walk_forward_windows(spans, 1, embargo, int((dates < begins).sum()))[0]


def learnt_until(spans: pl.DataFrame, folds: Sequence[Fold]) -> pl.DataFrame:
    """Of every row that a fold tests: symbol, timestamp and ``learnt_until``, when its fit's last label was known.

    ``spans`` holds symbol, timestamp and label_end, the rows that the folds number. Stored beside what the fit said of
    the row, it is the proof that the fit had not seen the row's window, whatever became of the splits since.
    """
    nothing = spans.clear().select("symbol", "timestamp", learnt_until="label_end")
    tested = (
        spans[fold.test].select("symbol", "timestamp", learnt_until=pl.lit(spans["label_end"].gather(fold.train).max()))
        for fold in folds
    )
    return pl.concat([nothing, *tested])


def overlapping(predictions: pl.DataFrame) -> pl.DataFrame:
    """The predictions of a fit that had seen a label which was not known before the prediction's own bar.

    ``predictions`` holds known_at of the bar and ``learnt_until``; one that does not say how far its fit had learnt
    (null) is not among the answer.
    """
    return predictions.filter(pl.col("learnt_until") >= pl.col("known_at"))


def _blocks(first: int, count: int, folds: int) -> Iterator[tuple[int, int]]:
    """First and last place of consecutive blocks of nearly equal length."""
    for block in np.array_split(np.arange(first, count), folds):
        yield int(block[0]), int(block[-1])


def _instants(*microseconds: np.int64) -> tuple[datetime, ...]:
    """Exact to the microsecond, as a float of seconds is not."""
    return tuple(_EPOCH + timedelta(microseconds=int(value)) for value in microseconds)


def _refuse(spans: pl.DataFrame, folds: int, embargo: int, min_train: int) -> None:
    if folds < 1 or embargo < 0 or min_train < 1:
        raise ValueError(f"{folds} folds, embargo {embargo}, min_train {min_train}: wanted at least 1, 0 and 1")
    nulls = {name: spans[name].null_count() for name in ("timestamp", "known_at", "label_end")}
    if any(nulls.values()):
        raise ValueError(f"spans hold nulls ({nulls}): leave rows without a label out before splitting")
    if not (spans["label_end"] > spans["known_at"]).all():
        raise ValueError("a label_end is not after its known_at: a label known at the decision is the future leaking")

"""No training label touches a test window: over random panels, across symbols and exchanges, and against purgedcv."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from purgedcv import WalkForwardSplit

from alpha_assets.quant.splits import Fold, walk_forward

START = datetime(2020, 1, 1, tzinfo=UTC)


def panel(random: np.random.Generator, symbols: int, dates: int, share: float) -> pl.DataFrame:
    """Symbols of exchanges that close at different hours, each with its own holes and label lengths."""
    rows = []
    for symbol in range(symbols):
        held = np.flatnonzero(random.random(dates) < share)
        hour, horizon = int(random.integers(6, 60)), int(random.integers(1, 8))
        for place, day in enumerate(held[:-horizon] if horizon < len(held) else []):
            known = START + timedelta(days=int(day), hours=hour)
            end = START + timedelta(days=int(held[place + horizon]), hours=hour)
            rows.append((f"S{symbol}", START + timedelta(days=int(day)), known, end))
    frame = pl.DataFrame(rows, schema=["symbol", "timestamp", "known_at", "label_end"], orient="row")
    return frame.sample(fraction=1.0, shuffle=True, seed=int(random.integers(2**31)))


def overlaps(spans: pl.DataFrame, fold: Fold) -> int:
    """Pairs of a training and a test row whose intervals share an instant, counted the slow way."""
    known, end = spans["known_at"].to_numpy(), spans["label_end"].to_numpy()
    train, test = fold.train, fold.test
    return int(((end[train][:, None] >= known[test][None]) & (known[train][:, None] <= end[test][None])).sum())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    symbols=st.integers(1, 5),
    dates=st.integers(30, 90),
    share=st.floats(0.3, 1.0),
    folds=st.integers(1, 5),
    embargo=st.integers(0, 6),
)
def test_no_training_interval_overlaps_a_test_window(
    seed: int, symbols: int, dates: int, share: float, folds: int, embargo: int
) -> None:
    spans = panel(np.random.default_rng(seed), symbols, dates, share)
    assume(spans.height > 20)
    stamps = spans["timestamp"].to_numpy()
    distinct = np.unique(stamps)
    made = walk_forward(spans, folds, embargo, min_train=10)
    for fold in made:
        assert overlaps(spans, fold) == 0
        first = int(np.searchsorted(distinct, stamps[fold.test].min()))
        assert spans["label_end"].to_numpy()[fold.train].max() < spans["known_at"].to_numpy()[fold.test].min()
        if first >= embargo:
            assert stamps[fold.train].max() < distinct[first - embargo]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), symbols=st.integers(1, 4), folds=st.integers(1, 5))
def test_the_folds_test_every_later_date_once_and_whole(seed: int, symbols: int, folds: int) -> None:
    spans = panel(np.random.default_rng(seed), symbols, 80, 0.9)
    stamps = spans["timestamp"].to_numpy()
    tested = np.concatenate([fold.test for fold in walk_forward(spans, folds, 0, min_train=30)])
    assert sorted(tested) == np.flatnonzero(stamps >= np.unique(stamps)[30]).tolist()


def test_the_gap_is_no_wider_than_purge_and_embargo_ask() -> None:
    spans = regular(200, horizon=5)
    for embargo in (0, 3):
        for fold in walk_forward(spans, 4, embargo, min_train=80):
            # a label of h bars is known h + 1 bars on, and has to be known before the decision it precedes
            assert fold.test.min() - fold.train.max() == 5 + 2 + embargo


def test_folds_agree_with_purgedcv_where_the_definitions_coincide() -> None:
    spans = regular(200, horizon=5)
    theirs = WalkForwardSplit(
        4, 30, prediction_times=spans["known_at"].to_numpy(), evaluation_times=spans["label_end"].to_numpy()
    )
    for (train, test), fold in zip(
        theirs.split(np.zeros((200, 1))), walk_forward(spans, 4, 0, min_train=80), strict=True
    ):
        assert fold.test.tolist() == test.tolist()
        # a label that becomes known at the very instant of the first test decision is an overlap here, not there
        at_most_one = sorted(set(train.tolist()) ^ set(fold.train.tolist()))
        assert at_most_one in ([], [int(fold.train.max()) + 1])


def regular(dates: int, horizon: int) -> pl.DataFrame:
    days = [START + timedelta(days=day) for day in range(dates)]
    return pl.DataFrame(
        {
            "symbol": ["A"] * dates,
            "timestamp": days,
            "known_at": [day + timedelta(hours=21) for day in days],
            "label_end": [day + timedelta(days=horizon + 1, hours=21) for day in days],
        }
    )


def test_too_few_dates_give_no_folds() -> None:
    assert walk_forward(regular(82, 1), 4, 0, min_train=80) == []


def test_a_label_that_is_null_or_known_before_its_decision_is_refused() -> None:
    spans = regular(50, 1)
    with pytest.raises(ValueError, match="without a label"):
        walk_forward(spans.with_columns(label_end=pl.lit(None, dtype=pl.Datetime("us", "UTC"))), 2, 0, 10)
    with pytest.raises(ValueError, match="leaking"):
        walk_forward(spans.with_columns(label_end="known_at"), 2, 0, 10)

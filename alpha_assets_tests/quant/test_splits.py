"""No training label touches a test window: over random panels, across symbols and exchanges, and against purgedcv."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from purgedcv import PurgedKFold, WalkForwardSplit, purge

from alpha_assets.quant.splits import (
    Fold,
    Window,
    inner_windows,
    learnt_until,
    overlapping,
    purged_k_fold,
    vault,
    vault_begins,
    walk_forward,
    walk_forward_windows,
)

START = datetime(2020, 1, 1, tzinfo=UTC)


def panel(random: np.random.Generator, symbols: int, dates: int, share: float) -> pl.DataFrame:
    """Symbols of exchanges that close at different hours, each with its own holes, a halt, and its label lengths."""
    rows = []
    for symbol in range(symbols):
        trades = random.random(dates) < share
        halt = int(random.integers(dates))
        trades[halt : halt + int(random.integers(15))] = False
        held = np.flatnonzero(trades)
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


# -- windows and what a filter keeps of them --------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), symbols=st.integers(1, 5), kept=st.floats(0.05, 0.9), embargo=st.integers(0, 4))
def test_what_a_filter_keeps_of_a_fold_is_a_part_of_it(seed: int, symbols: int, kept: float, embargo: int) -> None:
    random = np.random.default_rng(seed)
    spans = panel(random, symbols, 80, 0.9)
    chosen = np.flatnonzero(random.random(spans.height) < kept)
    for window in [*walk_forward_windows(spans, 4, embargo, 30), *purged_k_fold(spans, 4, embargo)]:
        whole, part = window.fold(spans), window.fold(spans[chosen])
        assert chosen[part.train].tolist() == np.intersect1d(whole.train, chosen).tolist()
        assert chosen[part.test].tolist() == np.intersect1d(whole.test, chosen).tolist()


def test_a_filter_moves_neither_border_nor_embargo() -> None:
    spans = regular(200, horizon=5)
    window = walk_forward_windows(spans, 4, 3, 80)[1]
    rare = spans.gather_every(20)
    # Tested from day 110, so the label of a row must be known before the decision of day 107: up to day 100 it is.
    assert rare[window.fold(rare).train]["timestamp"].to_list() == spans["timestamp"].to_list()[:101:20]
    # Made of the rows that are left, the embargo of three dates reaches back sixty days.
    by_rows = walk_forward(rare, 1, 3, 6)[0]
    assert by_rows.train.tolist() == [0, 1, 2]


def test_a_row_without_a_label_neither_trains_nor_tests() -> None:
    spans = regular(200, horizon=5)
    unknown = spans.with_columns(
        label_end=pl.when(pl.int_range(pl.len()) % 2 == 0).then("label_end"), number=pl.int_range(pl.len())
    )
    for window in purged_k_fold(spans, 4, 0):
        fold = window.fold(unknown)
        assert set(np.concatenate([fold.train, fold.test]) % 2) == {0}


def test_a_window_is_exact_to_the_microsecond() -> None:
    odd = regular(120, 1).with_columns(pl.col("timestamp", "known_at", "label_end").dt.offset_by("123457us"))
    window = walk_forward_windows(odd, 1, 0, 100)[0]
    assert window.first == odd["timestamp"][100]
    assert window.before == odd["known_at"][100]
    assert window.fold(odd).test.tolist() == list(range(100, 120))


# -- inside a training set --------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    symbols=st.integers(1, 5),
    share=st.floats(0.3, 1.0),
    folds=st.integers(2, 6),
    embargo=st.integers(0, 6),
)
def test_a_k_fold_tests_every_row_once_and_nothing_overlaps(
    seed: int, symbols: int, share: float, folds: int, embargo: int
) -> None:
    spans = panel(np.random.default_rng(seed), symbols, 70, share)
    assume(spans.height > 30)
    stamps, known, end = (spans[name].to_numpy() for name in ("timestamp", "known_at", "label_end"))
    distinct = np.unique(stamps)
    made = [window.fold(spans) for window in purged_k_fold(spans, folds, embargo)]
    assert sorted(np.concatenate([fold.test for fold in made])) == list(range(spans.height))
    for fold in made:
        assert overlaps(spans, fold) == 0
        kept = purge(fold.train, fold.test, known, end)
        assert kept.tolist() == fold.train.tolist()
        first = int(np.searchsorted(distinct, stamps[fold.test].min()))
        early, late = (fold.train[side] for side in _sides(known, fold))
        if first >= embargo and len(early):
            assert stamps[early].max() < distinct[first - embargo]
        # Dates of which every decision falls after the last label of the test: the embargo begins with the first.
        after = [day for day in distinct if (known[stamps >= day] > end[fold.test].max()).all()]
        assert len(late) == 0 or known[late].min() >= known[stamps >= after[embargo]].min()


def _sides(known: np.ndarray, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    before = known[fold.train] < known[fold.test].min()
    return before, ~before


def test_a_k_fold_agrees_with_purgedcv_where_the_definitions_coincide() -> None:
    spans = regular(200, horizon=5)
    times = {"prediction_times": spans["known_at"].to_numpy(), "evaluation_times": spans["label_end"].to_numpy()}
    folds = [window.fold(spans) for window in purged_k_fold(spans, 5, 0)]
    for (train, test), fold in zip(PurgedKFold(5, **times).split(np.zeros((200, 1))), folds, strict=True):
        assert fold.test.tolist() == test.tolist()
        # what is known at the very instant of a decision overlaps it here, not there: a row on either side
        assert set(fold.train.tolist()) < set(train.tolist())
        assert set(train.tolist()) - set(fold.train.tolist()) <= {fold.test.min() - 6, fold.test.max() + 6}


def test_nothing_inside_a_training_set_touches_the_window_it_is_trained_for() -> None:
    random = np.random.default_rng(7)
    spans = panel(random, 4, 120, 0.9)
    chosen = spans[np.flatnonzero(random.random(spans.height) < 0.5)]
    outer_windows = walk_forward_windows(spans, 3, 2, 60)
    assert len(outer_windows) == 3
    for outer in outer_windows:
        fold = outer.fold(chosen)
        training, first_decision = chosen[fold.train], spans[outer.fold(spans).test]["known_at"].min()
        tested = []
        for inner in inner_windows(spans, outer, 4, 2):
            part = inner.fold(training)
            assert overlaps(training, part) == 0
            assert training[part.train]["label_end"].max() < first_decision
            assert training[part.test]["label_end"].max() < first_decision
            tested.extend(part.test)
        assert sorted(tested) == list(range(training.height))


def test_a_k_fold_of_too_few_dates_is_none_and_of_one_block_is_refused() -> None:
    assert purged_k_fold(regular(3, 1), 4, 0) == []
    with pytest.raises(ValueError, match="nothing is left"):
        purged_k_fold(regular(30, 1), 1, 0)


# -- the vault --------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), symbols=st.integers(1, 5), share=st.floats(0.05, 0.6), embargo=st.integers(0, 5))
def test_the_vault_holds_the_newest_dates_and_what_is_open_knows_nothing_of_them(
    seed: int, symbols: int, share: float, embargo: int
) -> None:
    spans = panel(np.random.default_rng(seed), symbols, 80, 0.9)
    distinct = np.unique(spans["timestamp"].to_numpy())
    begins = vault_begins(spans["timestamp"], share)
    assert begins is not None
    window = vault(spans, begins, embargo)
    fold = window.fold(spans)
    shut, opened = spans[fold.test], spans[fold.train]
    assert np.unique(shut["timestamp"].to_numpy()).tolist() == distinct[-int(len(distinct) * share) :].tolist()
    assert opened.height == 0 or opened["label_end"].max() < shut["known_at"].min()
    assert overlaps(spans, fold) == 0
    assert opened.height == 0 or opened["timestamp"].n_unique() <= len(distinct) * (1 - share) + 1 - embargo


def test_bars_that_come_in_move_the_vault_on_and_open_nothing_that_was_read() -> None:
    begins = [vault_begins(regular(count, 1)["timestamp"], 0.15) for count in range(20, 300)]
    assert begins == sorted(begins, key=lambda begun: begun or START)
    assert begins[180] == START + timedelta(days=170)
    kept = vault(regular(200, 1), START + timedelta(days=170), 5)
    assert (kept.first, kept.last) == (START + timedelta(days=170), START + timedelta(days=199))
    assert kept.fold(regular(300, 1)).train.tolist() == list(range(163)), "one that is kept stays as it is"


def test_without_a_share_or_a_whole_date_there_is_no_vault() -> None:
    assert vault_begins(regular(100, 1)["timestamp"], 0.0) is None
    assert vault_begins(regular(5, 1)["timestamp"], 0.15) is None
    with pytest.raises(ValueError, match="below 1"):
        vault_begins(regular(100, 1)["timestamp"], 1.0)


def test_a_window_says_what_it_is() -> None:
    (window,) = walk_forward_windows(regular(30, 2), 1, 0, 20)
    known = START + timedelta(days=20, hours=21)
    assert window == Window(START + timedelta(days=20), START + timedelta(days=29), known, None)


# -- what is stored of a fold -----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), symbols=st.integers(1, 4), embargo=st.integers(0, 3))
def test_a_walk_forward_leaves_the_proof_that_nothing_overlaps_and_a_k_fold_that_it_learnt_later(
    seed: int, symbols: int, embargo: int
) -> None:
    spans = panel(np.random.default_rng(seed), symbols, 80, 0.9)

    def told(folds: list[Fold]) -> pl.DataFrame:
        return learnt_until(spans, folds).join(spans, on=["symbol", "timestamp"], validate="1:1")

    walked = told(walk_forward(spans, 4, embargo, 30))
    assert walked.height > 0
    assert overlapping(walked).is_empty()
    tiled = [window.fold(spans) for window in purged_k_fold(spans, 4, embargo)]
    known = spans["known_at"]
    learnt_later = [known.gather(fold.train).max() > known.gather(fold.test).max() for fold in tiled]
    assert (learnt_later[0], learnt_later[-1]) == (True, False)
    seen = sum(len(fold.test) for fold, later in zip(tiled, learnt_later, strict=True) if later)
    assert overlapping(told(tiled)).height == seen


def test_a_prediction_may_have_learnt_until_the_instant_before_its_bar_was_known() -> None:
    known = START + timedelta(days=9, hours=21)
    learnt = [known - timedelta(microseconds=1), known, known + timedelta(days=1), None]
    said = pl.DataFrame({"known_at": [known] * 4, "learnt_until": learnt, "number": range(4)})
    assert overlapping(said)["number"].to_list() == [1, 2]


def test_what_was_learnt_is_the_last_label_of_the_fit_that_answers() -> None:
    spans = regular(100, 5)
    told = learnt_until(spans, walk_forward(spans, 2, 3, 60))
    # tested from day 60 and 80; three dates of embargo and seven of a label before them
    expected = [START + timedelta(days=first - 4, hours=21) for first in (60, 80)]
    assert told["learnt_until"].unique(maintain_order=True).to_list() == expected
    assert told["timestamp"].to_list() == spans["timestamp"].to_list()[60:]
    assert learnt_until(spans, []).is_empty()

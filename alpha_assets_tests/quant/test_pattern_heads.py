"""Pattern heads learn from events of the past which patterns are right, and say so of events that they never saw."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.heads import ANSWERS, Candidate, Learnt, blocks, features_of, learn, pattern_success
from alpha_assets.quant.learners import libraries, training_id
from alpha_assets.quant.patterns import CANDLES
from alpha_assets_tests.quant.test_learners import COLUMNS, PARAMETERS, labelled

HEADS = replace(PARAMETERS, heads=("gb_direction", "xgb_pattern"), pattern_rows=400, rounds=20, min_leaf_rows=40)

RIGHT, WRONG = "CDLENGULFING", "CDLHARAMI"


def fired(rows: pl.DataFrame) -> pl.DataFrame:
    """Two patterns a bar, one of which tells the label's side in three of four bars, the other in one of four."""
    random = np.random.default_rng(5)
    side = np.where(rows["up"].to_numpy(), 1, -1)
    frames = []
    for pattern, share in ((RIGHT, 0.75), (WRONG, 0.25)):
        told = np.where(random.random(rows.height) < share, side, -side)
        direction = pl.Series(told, dtype=pl.Int8)
        strength = pl.Series(random.random(rows.height), dtype=pl.Float32)
        frames.append(
            rows.select("symbol", "timestamp", pattern=pl.lit(pattern), direction=direction, strength=strength)
        )
    return pl.concat(frames).sort("symbol", "timestamp", "pattern")


def learnt(rows: pl.DataFrame, events: pl.DataFrame | None, parameters: object = HEADS) -> Learnt:
    burn_in, folds = blocks(rows, np.ones(rows.height, dtype=bool), parameters, 200)  # type: ignore[arg-type]
    found = learn(rows, COLUMNS, burn_in, folds, parameters, events=events)  # type: ignore[arg-type]
    assert isinstance(found, Learnt), found
    return found


ROWS = labelled(700, edge=0.0)


def test_a_pattern_that_was_right_is_believed_and_the_answer_survives_the_files() -> None:
    made = learnt(ROWS, fired(ROWS)).candidate
    ahead = labelled(60, edge=0.0, seed=9).with_columns(pl.col("timestamp") + timedelta(days=900))
    events = fired(ahead)
    said = pattern_success(made, ahead, events)
    by_pattern = events.with_columns(said=said).group_by("pattern").agg(pl.col("said").mean())
    believed = dict(by_pattern.iter_rows())
    assert believed[RIGHT] > 0.55
    assert believed[WRONG] < 0.45
    assert made.patterns is not None
    assert made.patterns.models["xgb_pattern"].feature_types[-1] == "c", "which pattern it is has no order"
    files = made.files()
    assert "xgb_pattern.ubj" in files
    np.testing.assert_array_equal(pattern_success(Candidate.load(files), ahead, events), said)
    assert Candidate.load(files).files() == files


def test_nothing_is_said_of_an_event_without_direction_or_of_a_bar_without_features() -> None:
    made = learnt(ROWS, fired(ROWS)).candidate
    events = fired(ROWS.head(3))
    undirected = events.with_columns(direction=pl.when(pl.int_range(pl.len()) == 1).then(0).otherwise("direction"))
    said = pattern_success(made, ROWS.head(2), undirected)
    assert np.isnan(said).tolist() == [False, True, False, False, True, True]
    strange = events.with_columns(pattern=pl.lit("CDLOFTOMORROW"))
    assert (np.abs(pattern_success(made, ROWS, strange) - 0.5) < 0.2).all(), "an unknown pattern is nothing special"
    assert len(pattern_success(made, ROWS, events.clear())) == 0
    silent = learnt(ROWS, None).candidate
    assert np.isnan(pattern_success(silent, ROWS, events)).all()


def test_what_is_said_of_bars_does_not_depend_on_the_events() -> None:
    with_events, without = learnt(ROWS, fired(ROWS)), learnt(ROWS, None)
    assert with_events.evidence.equals(without.evidence)
    features = features_of(ROWS, without.candidate)
    for name in ANSWERS:
        np.testing.assert_array_equal(
            *(found.candidate.predict(features)[name] for found in (with_events, without)), err_msg=name
        )


def test_the_folds_of_events_are_those_of_their_bars_and_no_later_outcome_is_heard() -> None:
    """The outcomes from the third block on are turned round: the figures of the two blocks before stand."""
    events = fired(ROWS)
    report = learnt(ROWS, events).report
    assert next(iter(report["heads"]["xgb_pattern"]["importance"])) == "pattern"
    assert len(report["heads"]["xgb_pattern"]["folds"]) == HEADS.folds
    assert report["heads"]["xgb_pattern"]["together"]["ic"] > 0.15, "with the return in the direction of the event"
    assert report["patterns"]["events"] == events.height
    assert report["patterns"]["labels"] == ROWS.height, "the two events of a bar share one outcome"
    assert report["patterns"]["together"]["log_loss"] < report["patterns"]["prior_log_loss"] - 0.04
    later = pl.int_range(pl.len()) >= 200 + 250
    turned = ROWS.with_columns(
        pl.when(later).then(-pl.col(name)).otherwise(name).alias(name) for name in ("scaled_return", "label_return")
    )
    after = learnt(turned, events).report["heads"]["xgb_pattern"]["folds"]
    before = report["heads"]["xgb_pattern"]["folds"]
    assert after[:2] == before[:2]
    assert after[2] != before[2]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (fired(ROWS).head(300), "300 events with a direction and an outcome, 150 of them without overlap"),
        (fired(ROWS).with_columns(direction=pl.lit(0, pl.Int8)), "0 events"),
        (fired(ROWS).clear(), "0 events"),
    ],
)
def test_too_few_events_are_a_named_refusal_and_cost_the_candidate_nothing(events: pl.DataFrame, words: str) -> None:
    found = learnt(ROWS, events)
    assert words in found.report["patterns"]["refused"]
    assert found.candidate.patterns is None
    assert "xgb_pattern.ubj" not in found.candidate.files()
    assert found.evidence.height == 500


def test_no_more_events_are_looked_at_than_a_fit_may_see() -> None:
    whole, thin = (learnt(ROWS, fired(ROWS), replace(HEADS, max_rows=rows)).report["patterns"] for rows in (2000, 500))
    assert (whole["events"], thin["events"]) == (1400, 467)


def test_an_event_makes_another_training() -> None:
    events = fired(ROWS)

    def identity(some: pl.DataFrame | None) -> str:
        return training_id(ROWS, feature_set="x", parameters=HEADS, versions=libraries(HEADS), events=some)

    other = events.with_columns(pattern=pl.lit(next(iter(CANDLES))))
    stronger = events.with_columns(pl.col("strength") * 2)
    assert len({identity(some) for some in (None, events, events.head(9), other, stronger)}) == 5
    shuffled = events.sample(fraction=1.0, shuffle=True, seed=1)
    assert identity(shuffled) == identity(events)
    assert learnt(ROWS, shuffled).candidate.files() == learnt(ROWS, events).candidate.files()

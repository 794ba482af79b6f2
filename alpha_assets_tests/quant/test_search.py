"""A search sees what the first fold may learn from and nothing else, and every trial of it is told."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.heads import blocks
from alpha_assets.quant.learners import LEARNERS
from alpha_assets.quant.parameters import GateParameters, LearningParameters
from alpha_assets.quant.search import SPACE, Found, search, turnable
from alpha_assets_tests.quant.test_learners import COLUMNS, PARAMETERS, labelled

#: Trees that may not split: whatever tells the rows apart has to be found.
BLIND = replace(PARAMETERS, heads=("gb_direction",), min_leaf_rows=400, search_trials=6, inner_folds=3, folds=2)


def pool() -> pl.DataFrame:
    frames = [labelled(500, seed=10 + number, symbol=f"S{number}", edge=0.5) for number in range(3)]
    return pl.concat(frames).sort("timestamp", "symbol")


def never() -> bool:
    return False


def found(rows: pl.DataFrame, parameters: LearningParameters = BLIND, expired: Callable[[], bool] = never) -> Found:
    _, folds = blocks(rows, np.ones(rows.height, dtype=bool), parameters, 250)
    spans = rows.select("timestamp", "known_at", "label_end")
    return search(rows, spans, COLUMNS, folds[0], parameters, GateParameters(), expired)


def test_the_best_of_the_trials_is_chosen_and_the_first_is_what_was_set() -> None:
    made = found(pool())
    assert len(made.trials) == BLIND.search_trials
    assert made.trials[0].parameters == replace(BLIND, search_trials=0), "as a user would have set it without a search"
    assert made.trials[0].score is None, "a blind tree says nothing"
    scores = [trial.score for trial in made.trials if trial.score is not None]
    assert max(scores) > 0.2
    best = next(trial for trial in made.trials if trial.score == max(scores))
    assert made.parameters == replace(best.parameters, search_trials=BLIND.search_trials)
    assert set(made.turned) == set(turnable(BLIND)) == set(LEARNERS["gb_direction"].searched)
    told = made.document()
    assert told["chosen"]["leaves"] == made.parameters.leaves
    assert [trial["score"] for trial in told["trials"]] == [trial.score for trial in made.trials]


def test_nothing_that_a_fold_is_tested_on_changes_a_trial() -> None:
    rows = pool()
    _, folds = blocks(rows, np.ones(rows.height, dtype=bool), BLIND, 250)
    later = ~pl.int_range(pl.len()).is_in(folds[0].train.tolist())
    turned = rows.with_columns(
        *(pl.when(later).then(-pl.col(name)).otherwise(name).alias(name) for name in ("scaled_return", "label_return")),
        up=pl.when(later).then(~pl.col("up")).otherwise("up"),
    )
    assert found(turned).trials == found(rows).trials
    within = pl.int_range(pl.len()) == int(folds[0].train[-1])
    heard = rows.with_columns(scaled_return=pl.when(within).then(9.0).otherwise("scaled_return"))
    assert found(heard).trials != found(rows).trials


def test_a_budget_of_time_ends_it_and_the_seed_decides_what_is_tried() -> None:
    rows = pool()
    asked = count()
    assert len(found(rows, expired=lambda: next(asked) >= 1).trials) == 2
    assert len(found(rows, expired=lambda: True).trials) == 1
    whole = found(rows)
    assert [trial.parameters for trial in found(rows, replace(BLIND, search_trials=3)).trials] == [
        trial.parameters for trial in whole.trials[:3]
    ]
    other = found(rows, replace(BLIND, seed=1)).trials[1].parameters
    assert replace(other, seed=BLIND.seed) != whole.trials[1].parameters


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_what_a_head_lets_a_search_turn_has_a_range_that_holds_the_default(name: str) -> None:
    for turned in LEARNERS[name].searched:
        least, most, _ = SPACE[turned]
        assert least <= getattr(LearningParameters(), turned) <= most


def test_the_linear_candidate_is_searched_by_what_shapes_it() -> None:
    linear = replace(BLIND, learner="linear", heads=("gb_direction", "logistic"), linear_l2=1e6, search_trials=2)
    made = found(pool(), linear)
    assert set(made.turned) == {"linear_l2"}
    assert made.trials[0].parameters.linear_l2 == 1e6, "the range reaches as far as what was set"
    assert made.trials[1].score is not None

"""Out-of-fold predictions come from fits that never saw the row; the same rows give the same model and identity."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.learners import (
    LEARNERS,
    DirectionLightGBM,
    Refusal,
    enough,
    learner,
    library_versions,
    matrix,
    out_of_fold,
    refit,
    training_id,
)
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.splits import walk_forward

PARAMETERS = LearningParameters(horizon=1, min_rows=200, folds=4)
COLUMNS = ("signal", "noise", "gappy")
START = datetime(2020, 1, 1, tzinfo=UTC)


def labelled(count: int, *, edge: float = 1.0, seed: int = 1) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    signal = random.standard_normal(count)
    days = [START + timedelta(days=day) for day in range(count)]
    return pl.DataFrame(
        {
            "symbol": ["SYM"] * count,
            "timestamp": days,
            "known_at": [day + timedelta(hours=21) for day in days],
            "label_end": [day + timedelta(days=2, hours=21) for day in days],
            "signal": signal,
            "noise": random.standard_normal(count),
            "gappy": [None if bar % 7 == 0 else float(bar % 5) for bar in range(count)],
            "up": edge * signal + random.standard_normal(count) > 0,
        }
    )


def folds_of(rows: pl.DataFrame, parameters: LearningParameters = PARAMETERS) -> list:
    return walk_forward(rows, parameters.folds, parameters.embargo, parameters.min_rows)


def test_a_learner_finds_a_plain_edge_out_of_fold() -> None:
    rows = labelled(800)
    said = out_of_fold(rows, COLUMNS, folds_of(rows), PARAMETERS)
    assert isinstance(said, pl.DataFrame)
    assert said.columns == ["timestamp", "p_up", "score", "prior"]
    assert said["timestamp"].to_list() == rows["timestamp"].to_list()[200:]
    assert said["p_up"].is_between(0, 1, closed="none").all()
    hit = (said["p_up"] > 0.5) == rows["up"][200:]
    assert hit.mean() > 0.65


def test_what_is_learnt_later_changes_no_earlier_prediction() -> None:
    rows = labelled(800)
    folds = folds_of(rows)
    turned = rows.with_columns(
        up=pl.when(pl.int_range(pl.len()) >= folds[2].test.min()).then(~pl.col("up")).otherwise("up")
    )
    before, after = (out_of_fold(frame, COLUMNS, folds, PARAMETERS) for frame in (rows, turned))
    assert isinstance(before, pl.DataFrame)
    assert isinstance(after, pl.DataFrame)
    same = len(folds[0].test) + len(folds[1].test) + len(folds[2].test)
    assert before.head(same).equals(after.head(same))
    assert not before.equals(after)


def test_the_score_is_what_the_features_say_beyond_the_prior() -> None:
    rows = labelled(600)
    said = out_of_fold(rows, COLUMNS, folds_of(rows), PARAMETERS)
    assert isinstance(said, pl.DataFrame)
    odds = (said["p_up"] / (1 - said["p_up"])).log() - (said["prior"] / (1 - said["prior"])).log()
    assert (said["score"] - odds).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("rows", "parameters", "words"),
    [
        (labelled(199), PARAMETERS, "199 labelled rows"),
        (labelled(400), replace(PARAMETERS, horizon=5), "80 of them without overlap"),
        (labelled(400).with_columns(up=pl.lit(value=True)), PARAMETERS, "same way"),
    ],
)
def test_too_little_to_learn_from_is_a_named_refusal(
    rows: pl.DataFrame, parameters: LearningParameters, words: str
) -> None:
    for answer in (
        enough(rows, parameters),
        refit(rows, COLUMNS, parameters),
        out_of_fold(rows, COLUMNS, folds_of(rows, parameters), parameters),
    ):
        assert isinstance(answer, Refusal)
        assert words in answer.reason


def test_no_fold_is_a_refusal_too() -> None:
    answer = out_of_fold(labelled(300), COLUMNS, [], PARAMETERS)
    assert isinstance(answer, Refusal)
    assert "no walk-forward fold" in answer.reason


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_the_same_rows_give_the_same_bytes_and_text_predicts_the_same(name: str) -> None:
    fitter = learner(replace(PARAMETERS, learner=name))
    rows = labelled(500)
    features, up = matrix(rows, COLUMNS), rows["up"].to_numpy()
    first, second = (fitter.fit(features, up) for _ in range(2))
    assert fitter.save(first) == fitter.save(second)
    loaded = fitter.load(fitter.save(first))
    np.testing.assert_array_equal(fitter.predict(loaded, features), fitter.predict(first, features))
    assert fitter.save(fitter.load(fitter.save(first))) == fitter.save(first)


def test_another_seed_and_other_weights_are_another_model() -> None:
    rows = labelled(500)
    features, up = matrix(rows, COLUMNS), rows["up"].to_numpy()
    fitter = DirectionLightGBM(PARAMETERS)
    plain = fitter.save(fitter.fit(features, up))
    other = DirectionLightGBM(replace(PARAMETERS, seed=7))
    assert other.save(other.fit(features, up)) != plain
    assert fitter.save(fitter.fit(features, up, np.linspace(0.1, 1.0, 500))) != plain


def test_an_unknown_learner_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'oracle'.*direction-lightgbm"):
        learner(replace(PARAMETERS, learner="oracle"))


def identity(rows: pl.DataFrame, **changed: object) -> str:
    given = {"feature_set": "abc", "parameters": PARAMETERS, "versions": library_versions(DirectionLightGBM.libraries)}
    return training_id(rows, **{**given, **changed})  # type: ignore[arg-type]


def test_the_identity_of_a_training_ignores_how_its_rows_are_stored() -> None:
    rows = labelled(300)
    same = [
        rows.sample(fraction=1.0, shuffle=True, seed=3),
        rows.select(reversed(rows.columns)),
        rows.with_columns(pl.col("gappy").fill_null(float("nan"))),
        rows.with_columns(pl.when(pl.col("noise") == 0).then(-0.0).otherwise("noise").alias("noise")),
        pl.concat([rows.head(100), rows.tail(200)], rechunk=False),
    ]
    assert {identity(frame) for frame in same} == {identity(rows)}


def test_whatever_shapes_a_fit_changes_its_identity() -> None:
    rows = labelled(300)
    third = pl.int_range(pl.len()) == 3
    changed = [
        identity(rows.head(299)),
        identity(rows.with_columns(noise=pl.when(third).then(pl.col("noise") + 1e-12).otherwise("noise"))),
        identity(rows.with_columns(up=pl.when(third).then(~pl.col("up")).otherwise("up"))),
        identity(
            rows.with_columns(
                timestamp=pl.when(third).then(pl.col("timestamp") + timedelta(hours=1)).otherwise("timestamp")
            )
        ),
        identity(rows.rename({"noise": "other"})),
        identity(rows, feature_set="abd"),
        identity(rows, parameters=replace(PARAMETERS, seed=1)),
        identity(rows, parameters=replace(PARAMETERS, rounds=41)),
        identity(rows, versions={"lightgbm": "0"}),
    ]
    assert len({identity(rows), *changed}) == len(changed) + 1

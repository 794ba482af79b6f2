"""Heads keep their library's format, give the same bytes for the same rows, and learn what there is to learn."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.labels import side
from alpha_assets.quant.learners import (
    BUY,
    HOLD,
    LEARNERS,
    SELL,
    Lesson,
    Scaling,
    learner,
    lesson,
    libraries,
    training_id,
)
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.scores import correlation, figures

#: Few trees: quick, and enough for a plain edge.
PARAMETERS = LearningParameters(
    min_rows=200, folds=4, trees=10, rounds=10, return_rounds=10, min_leaf_rows=20, forest_leaf_rows=20, linear_l2=10.0
)
COLUMNS = ("signal", "noise", "gappy")
START = datetime(2020, 1, 1, tzinfo=UTC)


def labelled(
    count: int, *, edge: float = 1.0, seed: int = 1, symbol: str = "SYM", drift: float = 0.0, horizon: int = 1
) -> pl.DataFrame:
    """Labelled rows of one symbol: the scaled return is ``edge`` times a feature, and noise of deviation 1."""
    random = np.random.default_rng(seed)
    signal = random.standard_normal(count)
    days = [START + timedelta(days=day) for day in range(count)]
    scaled = edge * signal + random.standard_normal(count) + drift
    scale = 0.01 * np.exp(0.3 * random.standard_normal(count))
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "timestamp": days,
            "known_at": [day + timedelta(hours=21) for day in days],
            "label_start": [day + timedelta(days=1) for day in days],
            "held_until": [day + timedelta(days=1 + horizon) for day in days],
            "label_end": [day + timedelta(days=1 + horizon, hours=21) for day in days],
            "signal": signal,
            "noise": random.standard_normal(count),
            "gappy": [None if bar % 7 == 0 else float(bar % 5) for bar in range(count)],
            "scaled_return": scaled,
            "scale": scale,
            "label_return": scaled * scale,
            "up": scaled > 0,
        }
    )


def lesson_of(count: int, **how: float) -> Lesson:
    return lesson(labelled(count, **how), COLUMNS, PARAMETERS)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(LEARNERS))
class TestEveryHead:
    def test_gives_the_same_bytes_for_the_same_rows_and_is_read_back_as_it_was(self, name: str) -> None:
        head = learner(name, PARAMETERS)
        first, second = (head.save(head.fit(lesson_of(500))) for _ in range(2))
        assert first == second
        rows = lesson_of(500)
        model = head.fit(rows)
        again = head.load(head.save(model))
        np.testing.assert_array_equal(head.predict(again, rows.features), head.predict(model, rows.features))
        assert head.save(head.load(first)) == first

    def test_finds_a_plain_edge_in_rows_it_has_not_seen(self, name: str) -> None:
        head = learner(name, PARAMETERS)
        model = head.fit(lesson_of(1000))
        asked = lesson_of(1000, seed=2)
        said = head.predict(model, asked.features)
        if head.kind == "signal":
            np.testing.assert_allclose(said.sum(axis=1), 1.0, rtol=1e-6)
        if head.kind != "return":
            assert ((said > 0) & (said < 1)).all()
        score = said[:, BUY] - said[:, SELL] if head.kind == "signal" else said
        told = correlation(score, asked.earned)
        assert told is not None
        assert told > 0.5
        counts = head.importance(model)
        assert counts is not None
        assert counts.argmax() == 0
        assert counts.sum() == pytest.approx(1.0)

    def test_hears_a_row_for_as_much_as_it_counts(self, name: str) -> None:
        """Half of the rows say the opposite; who hears all alike finds nothing in the next ones."""
        head = learner(name, PARAMETERS)
        rows = lesson(pl.concat([labelled(600), labelled(600, edge=-1.0, seed=3)]), COLUMNS, PARAMETERS)
        asked = lesson_of(1000, seed=2)
        model = head.fit(rows.weighed(np.repeat([1.95, 0.05], 600)))
        said = head.predict(model, asked.features)
        told = correlation(said[:, BUY] - said[:, SELL] if head.kind == "signal" else said, asked.earned)
        assert told is not None
        assert told > 0.25

    def test_does_not_depend_on_which_heads_were_fitted_on_the_same_rows_before(self, name: str) -> None:
        shared = lesson_of(400)
        for other in LEARNERS:
            learner(other, PARAMETERS).fit(shared)
        head = learner(name, PARAMETERS)
        assert head.save(head.fit(shared)) == head.save(head.fit(lesson_of(400)))

    def test_says_how_far_each_column_moves_its_answer(self, name: str) -> None:
        """Contributions of two rows differ by as much as the answers do, in the unit that is added up."""
        head, rows = learner(name, PARAMETERS), lesson_of(600)
        model, features = head.fit(rows), lesson_of(40, seed=9).features
        told = head.contributions(model, features)
        if told is None:
            assert name.startswith("skrf"), "no library walks its trees"
            return
        assert told.shape == features.shape
        said = head.predict(model, features)
        if head.kind == "signal":
            added = np.log(said[:, BUY]) - np.log(said[:, SELL])
        else:
            added = said if head.kind == "return" else np.log(said / (1 - said))
        moved = told.sum(axis=1)
        np.testing.assert_allclose(moved - moved[0], added - added[0], atol=2e-5)
        if head.kind != "pattern":
            assert np.abs(told[:, 0]).mean() > np.abs(told[:, 1]).mean(), "the edge is in the first column"

    def test_another_seed_is_another_model_where_anything_is_random(self, name: str) -> None:
        head, other = learner(name, PARAMETERS), learner(name, replace(PARAMETERS, seed=7))
        same = head.save(head.fit(lesson_of(400))) == other.save(other.fit(lesson_of(400)))
        assert same == head.linear


def test_the_ridge_is_the_solution_of_its_normal_equations() -> None:
    rows = lesson_of(300)
    head = learner("ridge", PARAMETERS)
    model = head.fit(rows)
    columns = rows.scaling(rows.features)
    residual = rows.earned - head.predict(model, rows.features)
    np.testing.assert_allclose(columns.T @ (rows.weight * residual), PARAMETERS.linear_l2 * model.slopes, atol=1e-9)
    assert float(rows.weight @ residual) == pytest.approx(0.0, abs=1e-9)


def test_the_logistic_regression_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = lesson_of(500)
    head = learner("logistic", PARAMETERS)
    theirs = LogisticRegression(C=4 / PARAMETERS.linear_l2, tol=1e-10, max_iter=500)
    columns = rows.scaling(rows.features)
    theirs.fit(columns, rows.up)
    np.testing.assert_allclose(
        head.predict(head.fit(rows), rows.features), theirs.predict_proba(columns)[:, 1], atol=1e-6
    )


@pytest.mark.parametrize("kind", ["return", "direction", "signal"])
def test_scikit_learns_forest_says_through_its_arrays_what_it_said_itself(kind: str) -> None:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    rows, asked = lesson_of(500), lesson_of(300, seed=2)
    sized = {"n_estimators": PARAMETERS.trees, "max_depth": PARAMETERS.depth, "max_features": 1 / 3}
    rules = {**sized, "min_samples_leaf": PARAMETERS.forest_leaf_rows, "random_state": PARAMETERS.seed}
    read = [each.features.astype(np.float32) for each in (rows, asked)]
    if kind == "return":
        said = RandomForestRegressor(**rules).fit(read[0], rows.earned, rows.weight).predict(read[1])
    else:
        label = rows.up if kind == "direction" else rows.signal
        said = RandomForestClassifier(**rules).fit(read[0], label).predict_proba(read[1])
        said = said[:, 1] if kind == "direction" else said
    head = learner(f"skrf_{kind}", PARAMETERS)
    assert np.isnan(asked.features).any(), "unknown values go the way that was learnt for them"
    np.testing.assert_allclose(head.predict(head.fit(rows), asked.features), said, rtol=1e-12, atol=1e-15)
    two = rows.at(np.flatnonzero(rows.signal != HOLD))
    three = learner("skrf_signal", PARAMETERS)
    assert (three.predict(three.fit(two), asked.features)[:, HOLD] < 1e-6).all(), "a class it never saw"


def test_a_wild_month_weighs_no_more_than_a_quiet_one() -> None:
    rows = labelled(400)
    wild = pl.int_range(pl.len()) < 200
    scale = pl.when(wild).then(pl.col("scale") * 3).otherwise("scale")
    told = lesson(rows.with_columns(scale=scale, label_return=pl.col("scaled_return") * scale), COLUMNS, PARAMETERS)
    assert told.weight.mean() == pytest.approx(1.0)
    spread = told.weight * told.earned**2
    assert spread[:200].mean() == pytest.approx(spread[200:].mean(), rel=0.35)


def test_the_classes_are_the_sides_of_the_label_in_the_order_of_the_three_probabilities() -> None:
    rows = labelled(300)
    told = lesson(rows, COLUMNS, PARAMETERS).signal
    named = rows.select(side(PARAMETERS.hold_band).cast(pl.String)).to_series().to_list()
    assert [("sell", "hold", "buy")[each] for each in told] == named
    assert {SELL, HOLD, BUY} == set(told.tolist())


def test_columns_that_are_constant_or_never_known_are_nothing_to_a_linear_head() -> None:
    features = np.column_stack([np.ones(50), np.full(50, np.nan), np.arange(50.0)])
    scaled = Scaling.of(features)(features)
    assert np.isfinite(scaled).all()
    assert (scaled[:, :2] == 0).all()


def test_an_unknown_head_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'oracle'.*rf_return"):
        learner("oracle", PARAMETERS)


def test_figures_of_a_perfect_and_of_a_constant_answer() -> None:
    rows = lesson_of(200)
    perfect = figures("return", rows.earned, rows)
    assert (perfect["mse"], perfect["r2"], perfect["direction_accuracy"]) == (0.0, 1.0, 1.0)
    assert perfect["rank_ic"] == pytest.approx(1.0, abs=0.1)
    constant = figures("direction", np.full(200, 0.6), rows)
    assert constant["ic"] is None
    assert constant["recall"] == 1.0
    assert constant["log_loss"] == pytest.approx(-np.mean(np.where(rows.up, np.log(0.6), np.log(0.4))))
    three = figures("signal", np.eye(3)[rows.signal], rows)
    assert (three["accuracy"], three["f1"], three["brier"]) == (1.0, 1.0, 0.0)


def identity(rows: pl.DataFrame, **changed: object) -> str:
    given = {"feature_set": "abc", "parameters": PARAMETERS, "versions": libraries(PARAMETERS)}
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
        identity(rows, parameters=replace(PARAMETERS, heads=("ridge", "logistic"))),
        identity(rows, versions={"lightgbm": "0"}),
    ]
    assert len({identity(rows), *changed}) == len(changed) + 1

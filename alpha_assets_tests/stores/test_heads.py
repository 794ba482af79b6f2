"""A version's folder as MLflow loads it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alpha_assets.quant.heads import ANSWERS, INDEX, Candidate, Learnt, blocks, learn
from alpha_assets.stores.heads import Heads
from alpha_assets_tests.quant.test_heads import FEW, pool
from alpha_assets_tests.quant.test_learners import COLUMNS


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    rows = pool(300, 2)
    burn_in, folds = blocks(rows, np.ones(rows.height, dtype=bool), FEW, FEW.min_rows)
    learnt = learn(rows, COLUMNS, burn_in, folds, FEW, pooled=True)
    assert isinstance(learnt, Learnt)
    return learnt.candidate


@pytest.fixture
def folder(tmp_path: Path, candidate: Candidate) -> Path:
    for name, content in candidate.files().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    values = np.random.default_rng(7).normal(size=(50, len(COLUMNS)))
    return pd.DataFrame(values, columns=list(COLUMNS), index=range(1000, 1050))


def test_it_predicts_what_the_candidate_predicts(folder: Path, candidate: Candidate, features: pd.DataFrame) -> None:
    said = Heads(folder).predict(features)
    assert list(said.columns) == list(ANSWERS)
    assert said.index.equals(features.index)
    told = candidate.predict(features.to_numpy())
    for name in ANSWERS:
        np.testing.assert_array_equal(said[name].to_numpy(), told[name])


def test_a_version_of_before_the_linear_models_were_heard_on_the_return_says_the_rest(
    folder: Path, features: pd.DataFrame
) -> None:
    now = Heads(folder).predict(features)
    assert np.isfinite(now["linear_expected_return"]).all()
    index = json.loads((folder / INDEX).read_text())
    del index["voices"]["linear_return"]
    (folder / INDEX).write_text(json.dumps(index))
    then = Heads(folder).predict(features)
    assert then["linear_expected_return"].isna().all()
    pd.testing.assert_frame_equal(
        then.drop(columns="linear_expected_return"), now.drop(columns="linear_expected_return")
    )


def test_columns_are_taken_by_name_and_not_by_their_place(folder: Path, features: pd.DataFrame) -> None:
    shuffled = features[["gappy", "signal", "noise"]].assign(unknown=1.0)
    pd.testing.assert_frame_equal(Heads(folder).predict(shuffled), Heads(folder).predict(features))


def test_a_symbol_beside_the_features_sets_its_intercept(folder: Path, features: pd.DataFrame) -> None:
    heads = Heads(folder)
    plain, own = heads.predict(features), heads.predict(features.assign(symbol="S1"))
    assert (own["p_up"] != plain["p_up"]).all()
    pd.testing.assert_frame_equal(heads.predict(features.assign(symbol="STRANGER")), plain)


def test_a_missing_column_is_named(folder: Path, features: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match="'gappy'"):
        Heads(folder).predict(features.drop(columns="gappy"))

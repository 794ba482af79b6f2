"""A version's folder as MLflow loads it."""

import json
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest

from alpha_assets.stores.heads import Heads

COLUMNS = ["b", "a", "c"]


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    values = np.random.default_rng(7).normal(size=(300, 3))
    return pd.DataFrame(values, columns=COLUMNS, index=range(1000, 1300))


@pytest.fixture(scope="module")
def booster(features: pd.DataFrame) -> lightgbm.Booster:
    up = (features["a"] + features["b"] > 0).astype(float)
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    return lightgbm.train(settings, lightgbm.Dataset(features.to_numpy(), up), num_boost_round=5)


@pytest.fixture
def folder(tmp_path: Path, booster: lightgbm.Booster) -> Path:
    (tmp_path / "direction.lgb").write_text(booster.model_to_string())
    (tmp_path / "columns.json").write_text(json.dumps(COLUMNS))
    return tmp_path


def test_it_predicts_what_the_native_booster_predicts(
    folder: Path, booster: lightgbm.Booster, features: pd.DataFrame
) -> None:
    said = Heads(folder).predict(features)
    assert list(said.columns) == ["p_up"]
    assert said.index.equals(features.index)
    assert (said["p_up"].to_numpy() == booster.predict(features.to_numpy())).all()


def test_columns_are_taken_by_name_and_not_by_their_place(folder: Path, features: pd.DataFrame) -> None:
    shuffled = features[["c", "a", "b"]].assign(unknown=1.0)
    pd.testing.assert_frame_equal(Heads(folder).predict(shuffled), Heads(folder).predict(features))


def test_a_missing_column_is_named(folder: Path, features: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match="'c'"):
        Heads(folder).predict(features.drop(columns="c"))

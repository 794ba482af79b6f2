"""How unlike its training data a row is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant.dissimilarity import Dissimilarity
from alpha_assets.quant.learners import Scaling


def cloud(count: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 6)) * [1, 10, 0.1, 1, 1, 1] + [0, 50, 0, 0, 0, 0]


def index_of(features: np.ndarray, count: int = 64) -> Dissimilarity:
    return Dissimilarity.of(features, Scaling.of(features), count)


def test_rows_like_the_training_rows_are_near_and_rows_unlike_them_far() -> None:
    index = index_of(cloud(2000))
    near = index(cloud(500, seed=6))
    far = index(cloud(500, seed=6) + np.array([8, 80, 0.8, 8, 8, 8]))
    assert np.quantile(near, 0.99) < 1.5
    assert far.min() > 2.0


def test_a_training_row_among_the_references_is_no_distance_away() -> None:
    features = cloud(64)
    assert index_of(features)(features).max() < 1e-3


@given(st.integers(0, 2**31), st.floats(0.01, 100.0))
def test_neither_units_nor_the_order_of_columns_matter(seed: int, factor: float) -> None:
    rows, asked = cloud(200, seed), cloud(20, seed + 1)
    index = index_of(rows)(asked)
    np.testing.assert_allclose(index_of(rows * factor)(asked * factor), index, rtol=1e-4)
    np.testing.assert_allclose(index_of(rows[:, ::-1])(asked[:, ::-1]), index, rtol=1e-4)


def test_a_null_counts_as_the_median_and_an_outlier_as_far_and_not_as_infinitely_far() -> None:
    features = cloud(500)
    index = index_of(features)
    asked = features[:1].copy()
    asked[0, 1] = np.nan
    middling = features[:1].copy()
    middling[0, 1] = np.median(features[:, 1])
    assert index(asked) == index(middling)
    asked[0, 1] = 1e12
    assert 1.0 < index(asked)[0] < 10.0


def test_it_is_kept_in_a_file_without_pickle_and_says_the_same() -> None:
    index = index_of(cloud(500))
    again = Dissimilarity.load(index.save(), index.scaling, index.mean_distance)
    np.testing.assert_array_equal(again(cloud(50, seed=8)), index(cloud(50, seed=8)))
    assert len(index.save()) < 64 * 6 * 4 + 200


def test_of_rows_that_are_all_one_point_any_other_is_infinitely_far() -> None:
    index = index_of(np.ones((10, 3)))
    assert index(np.ones((1, 3)))[0] == 0.0

"""The compiled loops, beside what ``test_rolling``, ``test_regimes`` and ``test_wilder`` say of their answers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant import kernels
from alpha_assets.quant.feature_set import Feature, FeatureSet, compute
from alpha_assets.quant.wilder import directional_movement
from alpha_assets_tests.quant.walks import walk


@given(
    values=st.lists(st.floats(-1e300, 1e300) | st.sampled_from([np.inf, -np.inf, np.nan]), min_size=1, max_size=20),
    cold=st.sets(st.integers(0, 19)),
)
def test_what_is_put_is_the_value_but_nan_where_it_is_infinite_or_cold(values: list[float], cold: set[int]) -> None:
    out = np.empty(len(values))
    rows = np.array(sorted(row for row in cold if row < len(values)), np.int64)
    kernels.put(np.array(values), rows, out)
    expected = [np.nan if row in cold or np.isinf(value) else value for row, value in enumerate(values)]
    assert np.array_equal(out, expected, equal_nan=True)


@pytest.mark.parametrize(("high", "low"), [(3, 4), (4, 3), (5, 4)])
def test_unequal_series_are_refused_before_a_loop_reads_beyond_one(high: int, low: int) -> None:
    with pytest.raises(ValueError, match="must be as many"):
        directional_movement(np.ones(high), np.ones(low), np.ones(4), 2)


def test_a_feature_that_is_a_bar_short_is_named() -> None:
    short = Feature("short", "test", lambda panel: panel.close[1:], {}, 0, 1, "", "ours", 1)
    with pytest.raises(ValueError, match="feature short has 29 values for 30 bars"):
        compute(walk(30, 1), FeatureSet("test", (short,)))


def test_more_bars_than_sixteen_bits_count_are_ranked() -> None:
    rising = np.arange(-32_768, 32_767, dtype=np.int16)
    last = len(rising) - 1
    assert kernels.below_before(rising, np.array([0]), np.array([last]), 70_000).tolist() == [last]


def used(**environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import numpy as np; from alpha_assets.quant.rolling import rolling_sum; print(rolling_sum(np.ones(3), 2)[2])"
    )
    return run(code, **environment)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = os.environ | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=known)


@pytest.mark.slow
def test_without_a_place_to_keep_machine_code_the_kernels_are_compiled_all_the_same() -> None:
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes = []"
    ran = run(f"{nowhere}; from alpha_assets.quant.kernels import BLOCK; print(BLOCK)")
    assert ran.stdout.strip() == str(kernels.BLOCK), ran.stderr


@pytest.mark.slow
def test_torn_machine_code_is_compiled_anew(tmp_path: Path) -> None:
    assert used(NUMBA_CACHE_DIR=str(tmp_path)).stdout.strip() == "2.0"
    indices = list(tmp_path.rglob("*.nbi"))
    assert indices
    for index in indices:
        index.write_bytes(index.read_bytes()[:20])
    ran = used(NUMBA_CACHE_DIR=str(tmp_path))
    assert ran.stdout.strip() == "2.0", ran.stderr

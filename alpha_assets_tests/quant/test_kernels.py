"""The compiled loops, beside what ``test_rolling``, ``test_regimes`` and ``test_wilder`` say of their answers."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant import kernels


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


@pytest.mark.slow
def test_without_a_place_to_keep_machine_code_the_kernels_are_compiled_all_the_same() -> None:
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes = []"
    used = (
        "import numpy as np; from alpha_assets.quant.rolling import rolling_sum; print(rolling_sum(np.ones(3), 2)[2])"
    )
    ran = subprocess.run([sys.executable, "-c", f"{nowhere}; {used}"], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "2.0", ran.stderr

"""Tests that start from the same expensive home run in one process, so that it is made once."""

import pytest


@pytest.mark.xdist_group("probe")
def test_the_runner_knows_the_group_of_a_test(request: pytest.FixtureRequest) -> None:
    """It did not with pytest 9.2, without a word: every home was made in both processes."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("the tests are not spread over processes by group; make test does")
    assert request.node.nodeid.endswith("@probe")

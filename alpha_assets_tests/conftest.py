"""Fixtures that every folder of tests shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test of ours asserts a time. What lands is judged by the same examples every time; at home new ones are drawn.
settings.register_profile("home", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market samples; a test that needs it skips where it is absent."""
    if not SHARED_DATA.exists():
        pytest.skip(f"real market samples are absent ({SHARED_DATA})")
    return SHARED_DATA

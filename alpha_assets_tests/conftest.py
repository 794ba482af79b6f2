"""Fixtures that every folder of tests shares."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market samples; a test that needs it skips where it is absent."""
    if not SHARED_DATA.exists():
        pytest.skip(f"real market samples are absent ({SHARED_DATA})")
    return SHARED_DATA

"""Homes that several tests of stations start from, each made once a worker."""

from pathlib import Path

import pytest

from alpha_assets_tests.stations.line import EDGELESS, Line, copied


@pytest.fixture(scope="session")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four symbols of the planted market with bars and features."""
    home = tmp_path_factory.mktemp("featured") / "home"
    line = Line(home)
    line.begin()
    line.registry.prepare()
    return home


@pytest.fixture(scope="session")
def trained(featured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a candidate each."""
    line = copied(featured, tmp_path_factory.mktemp("trained") / "home")
    line.train()
    return line.settings.home


@pytest.fixture(scope="session")
def promoted(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the gate's decisions."""
    line = copied(trained, tmp_path_factory.mktemp("promoted") / "home")
    line.promote()
    return line.settings.home


@pytest.fixture(scope="session")
def trained_without_edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four symbols of a market without any edge, with candidates."""
    line = Line(tmp_path_factory.mktemp("edgeless") / "home", simulation=EDGELESS)
    line.begin()
    line.train()
    return line.settings.home


@pytest.fixture
def edgeless(trained_without_edge: Path, tmp_path: Path) -> Line:
    """A line of its own over that market."""
    return copied(trained_without_edge, tmp_path / "edgeless", simulation=EDGELESS)

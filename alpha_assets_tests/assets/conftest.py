"""The world that tests of assets run in."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from alpha_assets.partitions import SYMBOLS
from alpha_assets_tests.assets.world import World


@pytest.fixture
def _bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment and the current folder say, the tests do not hear it."""
    for name in [name for name in os.environ if name.startswith(("ALPHA_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def world(tmp_path: Path, _bare_environment: None) -> Iterator[World]:
    """A fresh home over an instance in memory."""
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield World(tmp_path / "home", instance)


@pytest.fixture(scope="session")
def _lasting_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance in files; making its tables takes seconds, so it is made once and wiped."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        yield instance


@pytest.fixture
def lasting_world(tmp_path: Path, _bare_environment: None, _lasting_instance: dg.DagsterInstance) -> World:
    """A fresh home over an instance in files, which other processes and schedules can open."""
    _lasting_instance.wipe()
    assert _lasting_instance.get_dynamic_partitions(SYMBOLS) == []
    return World(tmp_path / "home", _lasting_instance)

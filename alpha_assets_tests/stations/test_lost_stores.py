"""Somebody removed a part of the home: what can be made anew is, by the next run, and nothing pretends to be whole."""

import shutil
from pathlib import Path

from alpha_assets_tests.stations.line import Line, copied


def test_lost_bars_are_fetched_from_the_first_on(promoted: Path, tmp_path: Path) -> None:
    line = copied(promoted, tmp_path / "home")
    before = line.lake.read("bars").drop("fetched_at")
    shutil.rmtree(line.settings.home / "lake" / "bars")
    line = Line(line.settings.home)
    line.refresh()
    assert line.lake.read("bars").drop("fetched_at").equals(before)


def test_lost_features_are_built_anew(promoted: Path, tmp_path: Path) -> None:
    line = copied(promoted, tmp_path / "home")
    (table,) = [name for name in line.lake.tables() if name.startswith("features/")]
    before = line.lake.read(table)
    shutil.rmtree(line.settings.home / "lake" / "features")
    line = Line(line.settings.home)
    line.refresh()
    assert line.lake.read(table).equals(before)


def test_a_lost_model_registry_is_filled_again_and_the_decisions_stand(promoted: Path, tmp_path: Path) -> None:
    line = copied(promoted, tmp_path / "home")
    decisions, versions = line.ledger.decisions(), line.versions()
    for file in line.settings.home.glob("mlflow.db*"):
        file.unlink()
    line = Line(line.settings.home)
    line.promote()
    line.train()
    line.promote()
    assert line.versions() == versions
    assert line.ledger.decisions() == decisions
    assert line.registry.production_versions() == {
        row["model_name"]: row["model_version"] for row in line.ledger.production().values()
    }

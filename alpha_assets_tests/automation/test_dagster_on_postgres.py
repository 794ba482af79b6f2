"""Dagster's own storage in PostgreSQL, by the file that is shipped for it and a server that really runs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from sqlalchemy.engine import make_url

from alpha_assets.automation.jobs import REFRESH
from alpha_assets_tests import postgres
from alpha_assets_tests.assets.world import World, said

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy" / "postgres" / "dagster.yaml"


@pytest.fixture
def instance(tmp_path: Path, _bare_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance over the shipped file and a database of its own."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(SHIPPED, home)
    with postgres.database() as url:
        driver = make_url(url).set(drivername="postgresql+psycopg2")
        monkeypatch.setenv("DAGSTER_PG_URL", driver.render_as_string(hide_password=False))
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance


def test_only_the_storage_differs_from_the_embedded_default() -> None:
    shipped, default = yaml.safe_load(SHIPPED.read_text()), yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert shipped.pop("storage") == {"postgres": {"postgres_url": {"env": "DAGSTER_PG_URL"}}}
    assert shipped == default


def test_a_refresh_is_recorded_in_postgres(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    world = World(tmp_path / "home", instance)
    world.follow("AAA", "BBB", "CCC")
    result = world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    assert result.success
    assert type(instance.run_storage).__name__ == "PostgresRunStorage"
    assert [run.run_id for run in instance.get_runs()] == [result.run_id]
    assert instance.get_materialized_partitions(dg.AssetKey("signals")) == {"AAA", "BBB", "CCC"}
    assert {figures["state"] for figures in said(result, "ohlcv").values()} == {"updated"}

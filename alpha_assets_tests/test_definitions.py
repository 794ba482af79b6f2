"""The whole of the definitions: they load with no network and no secret, give no secret away, and look as snapshotted.

A structural change shows up as a diff of the snapshot, accepted by ``pytest <this file> --snapshot-update``.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from syrupy.assertion import SnapshotAssertion

from alpha_assets.definitions import assemble
from alpha_assets.settings import Settings

ROOT = Path(__file__).resolve().parents[1]

#: Raises where anything of the process so much as asks for an address, and prints what Dagster would serve to the UI.
WITHOUT_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise AssertionError(f"{event} {arguments} while loading the definitions")

sys.addaudithook(refuse)

import dagster as dg
from dagster._core.remote_representation.external_data import RepositorySnap  # no public way to what the UI is served
from alpha_assets.definitions import defs

dg.Definitions.validate_loadable(defs)
print(dg.serialize_value(RepositorySnap.from_def(defs.get_repository_def(), defer_snapshots=False)))
"""


def bare_environment(**more: str) -> dict[str, str]:
    """The environment without a word about this project or Dagster, and with these words."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHA_", "DAGSTER_", "AWS_"))}
    return {**bare, **more}


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=bare_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done


def described(definitions: dg.Definitions) -> dict[str, Any]:
    """Everything structural of the definitions, in words."""
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": {
            key.to_user_string(): {
                "group": graph.get(key).group_name,
                "partitions": str(graph.get(key).partitions_def),
                "backfill": str(graph.get(key).backfill_policy),
                "deps": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
                "kinds": sorted(graph.get(key).kinds),
                "owners": sorted(graph.get(key).owners),
                "described": bool(graph.get(key).description),
            }
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": sorted(key.to_user_string() for key in graph.asset_check_keys),
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
            for job in repository.get_all_jobs()
            if not job.name.startswith("__")
        },
        "sensors": {
            sensor.name: {
                "type": sensor.sensor_type.value,
                "targets": sorted(target.job_name for target in sensor.targets),
                "seconds": sensor.minimum_interval_seconds,
                "status": sensor.default_status.value,
            }
            for sensor in repository.sensor_defs
        },
        "schedules": {
            schedule.name: {
                "cron": schedule.cron_schedule,
                "zone": schedule.execution_timezone,
                "job": schedule.job_name,
                "status": schedule.default_status.value,
            }
            for schedule in repository.schedule_defs
        },
        "resources": sorted(repository.get_top_level_resources()),
    }


@pytest.fixture
def definitions(tmp_path: Path) -> dg.Definitions:
    return assemble(Settings(home=tmp_path, source="simulated"))


def test_a_decision_of_a_run_is_dated_when_it_is_written_and_not_when_its_pass_began(
    definitions: dg.Definitions,
) -> None:
    ledger: Any = (definitions.resources or {})["ledger"]
    began = datetime.now(UTC) - timedelta(minutes=3)
    cell = {"symbol": "SIM01", "regime": "all", "seq": 1}
    ledger.decide([{**cell, "verdict": "hold", "reason": "wait", "decided_at": began}])
    (decision,) = ledger.decisions()
    assert timedelta(0) <= datetime.now(UTC) - decision["decided_at"] < timedelta(minutes=1)


def test_the_graph_is_as_snapshotted(definitions: dg.Definitions, snapshot: SnapshotAssertion) -> None:
    assert described(definitions) == snapshot


def test_the_chart_in_the_readme_has_the_arrows_of_the_graph(definitions: dg.Definitions) -> None:
    chart = (ROOT / "README.md").read_text().split("```mermaid\n", 1)[1].split("```", 1)[0]
    drawn = set()
    for line in (line for line in chart.splitlines() if "-->" in line):
        steps = [[name.strip() for name in step.split("&")] for step in line.split("-->")]
        drawn |= {arrow for both in pairwise(steps) for arrow in product(*both)}
    assets = described(definitions)["assets"]
    assert {(one, other) for one, other in drawn if not one.startswith("source(")} == {
        (parent, name) for name, what in assets.items() for parent in what["deps"]
    }


def test_every_asset_has_group_kinds_owners_and_a_description(definitions: dg.Definitions) -> None:
    assets = described(definitions)["assets"]
    assert {
        name: what for name, what in assets.items() if not (what["kinds"] and what["owners"] and what["described"])
    } == {}
    assert {what["group"] for what in assets.values()}.isdisjoint({"default", None})


def test_every_partitioned_asset_is_one_run_a_range(definitions: dg.Definitions) -> None:
    assets = described(definitions)["assets"].values()
    assert {what["backfill"] for what in assets if what["partitions"] != "None"} == {
        str(dg.BackfillPolicy.single_run())
    }


def test_all_automation_is_shipped_switched_off(definitions: dg.Definitions) -> None:
    words = described(definitions)
    switches = [what["status"] for kind in ("sensors", "schedules") for what in words[kind].values()]
    assert set(switches) == {"STOPPED"}


def test_the_definitions_load_without_network_and_give_no_secret_away(tmp_path: Path) -> None:
    done = run(
        "-c",
        WITHOUT_NETWORK,
        cwd=ROOT,
        ALPHA_HOME=str(tmp_path / "home-of-nobody"),
        ALPHA_LEDGER_URL="postgresql://alpha:swordfish-ledger@ledger.invalid/alpha",
        ALPHA_MLFLOW_URL="postgresql://alpha:swordfish-mlflow@mlflow.invalid/alpha",
        ALPHA_LAKE_URL="s3://bucket-of-nobody/lake",
        ALPHA_LAKE_OPTIONS=json.dumps({"AWS_SECRET_ACCESS_KEY": "swordfish-lake"}),
    )
    served = done.stdout
    assert "candidate_model" in served
    for secret in ("swordfish", "ledger.invalid", "mlflow.invalid", "bucket-of-nobody", "home-of-nobody"):
        assert secret not in served
    assert not (tmp_path / "home-of-nobody").exists()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The checkout without an installation, leaving a mark where it is loaded."""
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "alpha_assets", root / "alpha_assets", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("workspace.yaml", "pyproject.toml", "dagster.yaml"):
        shutil.copy(ROOT / name, root)
    with (root / "alpha_assets" / "definitions.py").open("a") as module:
        module.write("\nfrom pathlib import Path\nPath(__file__).with_name('loaded').touch()\n")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("-w", "workspace.yaml")], ids=["pyproject", "workspace"])
def test_dagster_loads_the_checkout_from_its_root_uninstalled(clone: Path, arguments: tuple[str, ...]) -> None:
    home = clone / "dagster-home"
    home.mkdir()
    done = run("-m", "dagster", "definitions", "validate", *arguments, cwd=clone, DAGSTER_HOME=str(home))
    assert "Validation successful" in done.stderr + done.stdout
    assert (clone / "alpha_assets" / "loaded").exists()

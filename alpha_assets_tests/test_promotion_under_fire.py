"""Promotion is killed at every step, and written by four at once: ledger and MLflow agree afterwards.

A child that was forked from a process which has imported everything runs one pass over a home of its own and sends
itself SIGKILL before its n-th step: before the row, after it, and before every single call that writes to MLflow. What
follows is a bare ``reconcile``, then the same pass again.
"""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from alpha_assets.quant.lifecycle import standing
from alpha_assets.quant.parameters import PromotionParameters
from alpha_assets.settings import Settings
from alpha_assets.stations.decisions import roll_back
from alpha_assets.stations.promote import reconcile
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import PROMOTION, WHOLE, Registry
from alpha_assets_tests import postgres
from alpha_assets_tests.processes import environment
from alpha_assets_tests.stations.conftest import featured, promoted, trained
from alpha_assets_tests.stations.line import LIGHT, NOW, Line, copied, later

__all__ = ["featured", "promoted", "trained"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: One symbol that is promoted again and one that is rejected again.
PAIR = ("SIM02", "SIM03")

KNOBS = {"learning": replace(LIGHT, seed=1), "promotion": PromotionParameters(shadow_bars=0)}

#: A child a home; the home's place in the list is the step before which it kills itself.
STRIKER = """
import json, os, signal, sys
import mlflow, polars, deltalake, lightgbm, sqlalchemy
from alpha_assets_tests.test_promotion_under_fire import strike
scenario, homes = sys.argv[1], sys.argv[2:]
for step, home in enumerate(homes):
    child = os.fork()
    if child == 0:
        strike(scenario, home, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
"""

#: Everything by which a pass writes to MLflow's database; its files are written by ``Registry.keep``.
WRITES = (
    *("create_run", "log_batch", "set_terminated", "set_model_version_tag", "update_model_version"),
    *("set_registered_model_alias", "delete_registered_model_alias"),
)

#: A step that no pass reaches.
NEVER = 10_000


def act(line: Line, scenario: str) -> None:
    """One pass of the gate, or a rollback by a person with what follows it."""
    if scenario == "gate":
        line.promote(PAIR, later(days=1), run="the run")
        return
    if (line.ledger.last_decisions()[PAIR[0], "all"])["verdict"] != "rollback":
        roll_back(line.ledger, (PAIR[0], "all"), None, why="it scares me", who="ann", now=later(days=2))
    reconcile(line.ledger, line.registry)


def strike(scenario: str, home: str, step: int) -> int:
    """Do it, and die before the step of that number; the number of steps where it has fewer."""
    line, steps = Line(Path(home), **KNOBS), 0

    def counted(whole: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
            return whole(*arguments, **named)

        return call

    line.ledger.decide = counted(line.ledger.decide)  # type: ignore[method-assign]
    line.registry.keep = counted(line.registry.keep)  # type: ignore[method-assign]
    for name in WRITES:
        setattr(line.registry.client, name, counted(getattr(line.registry.client, name)))
    act(line, scenario)
    return steps


@pytest.fixture(scope="module")
def ready(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By scenario the home before it: all trained anew, and both versions promoted one after the other."""
    gate = copied(promoted, tmp_path_factory.mktemp("gate") / "home", **KNOBS)
    gate.train(now=later(days=1))
    person = copied(gate.settings.home, tmp_path_factory.mktemp("person") / "home", **KNOBS)
    act(person, "gate")
    assert person.ledger.production()[PAIR[0], "all"]["model_version"] == "2"
    return {"gate": gate.settings.home, "person": person.settings.home}


def told(line: Line) -> list[tuple[Any, ...]]:
    """Every decision, the clock aside."""
    return [
        (row["symbol"], row["seq"], row["verdict"], row["stage"], row["model_version"], row["previous_version"])
        for row in line.ledger.decisions()
    ]


def assert_agreed(line: Line) -> None:
    """Ledger and MLflow say the same, and one decision explains each version in production."""
    aliases = line.registry.aliases()
    for cell, history in line.ledger.history().items():
        stands, name = standing(history), f"{cell[0]}.{cell[1]}"
        assert [row["seq"] for row in history] == list(range(1, len(history) + 1))
        explained = line.ledger.production().get(cell)
        assert (stands.production or {}).get("id") == (explained or {}).get("id")
        assert aliases[name].get("production") == (explained or {}).get("model_version")
        assert aliases[name].get("previous") == (stands.previous or {}).get("model_version")
        states = {
            str(version.version): version.tags["state"]
            for version in line.registry.client.search_model_versions(f"name='{name}'")
        }
        in_production = [number for number, state in states.items() if state == "production"]
        assert in_production == ([explained["model_version"]] if explained else [])
    experiment = line.registry.client.get_experiment_by_name(PROMOTION)
    assert experiment is not None
    runs = line.registry.client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    parts = Counter((run.data.tags["sitting"], run.data.tags["part"]) for run in runs)
    assert set(parts.values()) == {1}
    sittings = {(row["decided_at"], row["dagster_run"]) for row in line.ledger.decisions()}
    assert sum(part == WHOLE for _, part in parts) == len(sittings)


@pytest.mark.parametrize("scenario", ["gate", "person"])
def test_after_a_kill_at_any_step_ledger_and_mlflow_agree_and_the_same_pass_again_ends_as_if_undisturbed(
    scenario: str, ready: dict[str, Path], tmp_path: Path
) -> None:
    undisturbed = copied(ready[scenario], tmp_path / "undisturbed", **KNOBS)
    steps = strike(scenario, str(undisturbed.settings.home), NEVER)
    expected = Line(undisturbed.settings.home, **KNOBS)
    assert_agreed(expected)
    assert steps > 8
    homes = [tmp_path / f"home-{step}" for step in range(steps)]
    before = told(Line(ready[scenario], **KNOBS))
    for home in homes:
        copied(ready[scenario], home)
    command = [sys.executable, "-c", STRIKER, scenario, *map(str, homes)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(code) for code in ended.stdout.splitlines()] == [-signal.SIGKILL] * steps, ended.stderr
    for step, home in enumerate(homes):
        line = Line(home, **KNOBS)
        committed = told(line) != before
        assert committed == (step > 0), "the row is the first step, and nothing before it writes"
        reconcile(line.ledger, line.registry)
        if step > 0:
            assert_agreed(line)
            assert reconcile(line.ledger, line.registry) == 0
        act(line, scenario)
        assert_agreed(line)
        assert told(line) == told(expected), f"killed before step {step}"


# -- four at once -----------------------------------------------------------------------------------------------------

#: Logs versions of a model of its own and of one that all share, decides on each, and brings MLflow into line.
WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from alpha_assets.settings import load
from alpha_assets.stations.promote import reconcile
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets_tests.stores.test_registry import log
from alpha_assets_tests.test_promotion_under_fire import decided
writer, rounds = sys.argv[1], int(sys.argv[2])
ledger, registry = Ledger(load()), Registry(load())
for number in range(1, rounds + 1):
    own = log(registry, f"W{writer}.all", training_id=f"{writer}-{number}")
    log(registry, "pooled.all", training_id=f"pooled-{writer}-{number}")
    ledger.decide([decided(f"W{writer}", number, own)])
    reconcile(ledger, registry)
"""

WRITERS, ROUNDS = 4, 5


def decided(symbol: str, seq: int, version: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "regime": "all",
        "seq": seq,
        "verdict": "promote",
        "reason": "because",
        "training_id": f"{symbol}-{seq}",
        "model_name": version.name,
        "model_version": version.number,
        "decided_at": NOW.replace(microsecond=seq * 10 + int(symbol[-1])),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """A fresh home whose ledger and MLflow are on either database."""
    if request.param == "sqlite":
        yield Settings(home=tmp_path / "home")
        return
    with postgres.database() as ledger, postgres.database() as mlflow:
        yield Settings(home=tmp_path / "home", ledger_url=SecretStr(ledger), mlflow_url=SecretStr(mlflow))


def test_of_four_who_write_at_once_no_version_and_no_decision_is_lost_and_nobody_finds_a_lock(
    stores: Settings,
) -> None:
    around = {"ALPHA_HOME": str(stores.home), "ALPHA_LEDGER_URL": stores.ledger, "ALPHA_MLFLOW_URL": stores.mlflow}
    writing = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(writer), str(ROUNDS)],
            env=environment(**around),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in range(1, WRITERS + 1)
    ]
    said = [process.communicate()[1] for process in writing]
    assert [process.returncode for process in writing] == [0] * WRITERS, said
    assert not any("locked" in text for text in said)
    ledger, registry = Ledger(stores), Registry(stores)
    numbers: dict[str, list[int]] = {}
    for version in registry.client.search_model_versions():
        numbers.setdefault(version.name, []).append(int(version.version))
    assert sorted(numbers.pop("pooled.all")) == list(range(1, WRITERS * ROUNDS + 1))
    assert {name: sorted(found) for name, found in numbers.items()} == {
        f"W{writer}.all": list(range(1, ROUNDS + 1)) for writer in range(1, WRITERS + 1)
    }
    assert len(ledger.decisions()) == WRITERS * ROUNDS
    assert registry.production_versions() == {f"W{writer}.all": str(ROUNDS) for writer in range(1, WRITERS + 1)}
    mirrored = registry.mirrored_sittings(1000)
    assert len(mirrored) == WRITERS * ROUNDS
    ledger.close()

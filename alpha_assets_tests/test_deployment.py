"""The whole of it really running: ``alpha-assets ui`` over a home, sensors switched on, and a market that goes on.

Nothing is called from inside: pages and runs are looked at over HTTP, the market is moved by the command, and
what becomes fresh became so by the daemon alone.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.settings import Settings
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests import processes
from alpha_assets_tests.processes import alive, descendants, environment, free_ports
from alpha_assets_tests.zygote import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: The daemon ticks every 30 s and starts a process a run; a shared machine takes its time.
PATIENCE_SECONDS = 600.0

#: Time for two more ticks of the sensor that would ask for a second run.
TWO_TICKS_SECONDS = 35.0

#: Few and short series: what runs is looked at here, not what is learnt. Every new bar is worth a training.
MARKET = {"ALPHA_SIMULATION__SYMBOLS": "6", "ALPHA_SIMULATION__YEARS": "4", "ALPHA_RETRAIN_AFTER_BARS": "1"}

RUNS = """
query Runs($job: String!) {
  runsOrError(filter: {pipelineName: $job}) { ... on Runs { results { runId status tags { key value } } } }
}
"""
SWITCH_ON = """
mutation On($sensor: String!) {
  startSensor(sensorSelector: {
    repositoryLocationName: "alpha_assets.definitions", repositoryName: "__repository__", sensorName: $sensor
  }) { __typename ... on Sensor { sensorState { status } } }
}
"""


@dataclass
class Deployment:
    """The three pages over one home, and the process that serves them."""

    home: Path
    dagster: str
    mlflow: str
    process: "subprocess.Popen[str]"

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home, source="simulated", simulation=SimulationParameters(symbols=6, years=4))

    def command(self, *arguments: str) -> str:
        return command(self.home, *arguments)

    def ask(self, query: str, **variables: str) -> Any:
        """What Dagster's page answers to a query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.dagster}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert "errors" not in said, said
        return said["data"]

    def runs(self, job: str) -> dict[str, str]:
        """The status of every run of a job by its id."""
        return {run["runId"]: run["status"] for run in self.ask(RUNS, job=job)["runsOrError"]["results"]}

    def tags(self, job: str) -> list[dict[str, str]]:
        found = self.ask(RUNS, job=job)["runsOrError"]["results"]
        return [{tag["key"]: tag["value"] for tag in run["tags"]} for run in found]

    def switch_on(self, sensor: str) -> None:
        """As a click on the switch does."""
        answer = self.ask(SWITCH_ON, sensor=sensor)["startSensor"]
        assert answer.get("sensorState") == {"status": "RUNNING"}, answer

    def newest(self) -> dict[str, tuple[datetime, datetime, datetime]]:
        """By symbol, the last bar held, with features, and with a signal."""
        ledger = Ledger(self.settings)
        said = {row["symbol"]: row["bar_time"] for row in ledger.signals()}
        return {
            symbol: (state["last_bar"], state["features_until"], said.get(symbol))
            for symbol, state in ledger.states().items()
        }


def command(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alpha_assets.cli", *arguments],
        cwd=PROJECT,
        env=environment(ALPHA_HOME=str(home), **MARKET),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(what: Callable[[], Any], sentence: str) -> None:
    """Waits as long as a daemon on a shared machine may take."""
    processes.until(what, sentence, PATIENCE_SECONDS)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A home in which the simulated universe was ingested, with ``alpha-assets ui`` running over it."""
    for name in [name for name in os.environ if name.startswith(("ALPHA_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    command(home, "universe", "add", "--all")
    command(home, "refresh")
    web, mlflow = free_ports(2)
    process = subprocess.Popen(
        [sys.executable, "-m", "alpha_assets.cli", "ui", "--port", str(web), "--mlflow-port", str(mlflow)],
        cwd=PROJECT,
        env=environment(ALPHA_HOME=str(home), **MARKET),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        addresses = [f"http://127.0.0.1:{port}" for port in (web, mlflow)]
        assert process.stdout is not None
        for name, address in zip(("Dagster", "MLflow"), addresses, strict=True):
            line = process.stdout.readline()
            assert line.split() == [name, address], line + process.communicate()[1]
        yield Deployment(home, *addresses, process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def page(address: str) -> int:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return int(answer.status)


def test_the_line_keeps_itself_fresh_while_the_pages_are_served(deployment: Deployment) -> None:
    assert page(f"{deployment.dagster}/runs") == 200
    assert page(deployment.mlflow) == 200
    assert list(deployment.runs("refresh").values()) == ["SUCCESS"]

    # A bar to come is noticed and fetched, and all that follows from it is brought up to it.
    before = deployment.newest()
    deployment.switch_on("new_bars")
    deployment.command("advance", "--sessions", "1")
    until(lambda: fresh(deployment, before), "the daemon brings the new session to bars, features and signals")
    until(lambda: set(deployment.runs("refresh").values()) == {"SUCCESS"}, "the refresh ends well")
    assert len(deployment.runs("refresh")) == 2
    assert_one_bar_more(deployment, before)

    # A symbol that was never trained is; one signals run follows the training, and no second one.
    deployment.switch_on("signals_after_training")
    deployment.switch_on("retraining")
    until(lambda: "SUCCESS" in deployment.runs("train").values(), "the retraining sensor has the models trained")
    until(lambda: "SUCCESS" in deployment.runs("signals_only").values(), "signals follow the training")
    time.sleep(TWO_TICKS_SECONDS)
    (training,) = deployment.runs("train")
    assert list(deployment.runs("signals_only").values()) == ["SUCCESS"]
    assert [tags["dagster/run_key"] for tags in deployment.tags("signals_only")] == [f"signals-{training}"]
    decided = {row["symbol"] for row in Ledger(deployment.settings).decisions() if row["dagster_run"] == training}
    assert decided
    assert decided <= set(before)

    # Ctrl-C stops all of them.
    served = descendants(deployment.process.pid)
    assert len(served) >= 5
    deployment.process.send_signal(signal.SIGINT)
    deployment.process.communicate(timeout=60)
    assert deployment.process.returncode == 0
    until(lambda: not [pid for pid in served if alive(pid)], "no process is left")
    for address in (deployment.dagster, deployment.mlflow):
        with pytest.raises(urllib.error.URLError):
            page(address)


def fresh(deployment: Deployment, before: dict[str, tuple[datetime, datetime, datetime]]) -> bool:
    """Every symbol that trades on stands at the market's session in bars, features and signals alike."""
    session = Simulated(deployment.settings).clock()
    now = deployment.newest()
    trading = trading_on(deployment, before)
    return all({at.date() for at in now[symbol]} == {session} for symbol in trading)


def trading_on(deployment: Deployment, before: dict[str, tuple[datetime, datetime, datetime]]) -> set[str]:
    """The symbols that were not delisted before the market advanced."""
    source = Simulated(deployment.settings)
    newest = source.complete_until(list(before), datetime.now(UTC))
    return {symbol for symbol, (last, _, _) in before.items() if (at := newest[symbol]) is not None and at > last}


def assert_one_bar_more(deployment: Deployment, before: dict[str, tuple[datetime, datetime, datetime]]) -> None:
    """The lake says what the ledger says: each series ends with the new session, held once."""
    bars = Lake(deployment.settings).read("bars", columns=["symbol", "timestamp"])
    assert not bars.is_duplicated().any()
    trading = trading_on(deployment, before)
    assert len(trading) >= 2
    for symbol, (last, _, _) in before.items():
        newer = bars.filter((bars["symbol"] == symbol) & (bars["timestamp"] > last))
        assert newer.height == (symbol in trading)

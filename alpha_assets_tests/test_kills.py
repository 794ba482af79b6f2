"""Nothing twice, nothing lost: fifty refreshes are killed at random moments, and nobody can tell afterwards.

Half of them are runs that the daemon took from its queue and the code server started, half are refreshes by the
command. After each kill a normal refresh begins at once and must succeed, and all tables must equal those of a twin
home that was never disturbed: clock columns and ids aside, features within the last bit of what is stored. A kill that
came too late, when the run had already ended, does not count.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster_graphql import DagsterGraphQLClient
from polars.testing import assert_frame_equal

from alpha_assets.automation.ranges import RANGE_END, RANGE_START
from alpha_assets.automation.reaper import fail_dead_runs
from alpha_assets.quant.profile_schema import leaves
from alpha_assets.settings import Settings
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stores.lake import Lake, declared
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks
from alpha_assets_tests import processes
from alpha_assets_tests.processes import alive, environment, free_ports, listens
from alpha_assets_tests.zygote import PROJECT, Zygote

SEED = 20240110
KILLS = 25

#: Sessions that the market advances before a kill, at most.
MOST_SESSIONS = 3

#: Of the kills, the share that comes before the run has its lock, while it still imports and opens its stores.
EARLY = 0.1

#: Columns of ledger rows that tell when, not what.
CLOCKS = {"added_at", "created_at", "expires_at", "written_at", "seen_at", "decided_at", "trained_at"}

#: A run that waits for longer waits for a slot that was lost.
PATIENCE_SECONDS = 240.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Tables = dict[str, pl.DataFrame | list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("ALPHA_", "DAGSTER_"))]:
        monkeypatch.delenv(name)


def settings_of(home: Path) -> Settings:
    return Settings(home=home, source="simulated")


def tables(home: Path) -> Tables:
    """Everything that is stored of bars, actions, features, cleaning, predictions and signals, without clocks."""
    settings = settings_of(home)
    lake, ledger = Lake(settings), Ledger(settings)
    held: Tables = {}
    for name in lake.tables():
        frame = lake.read(name).drop(declared(name).clocks)
        held[name] = frame.sort(frame.columns)
    for name, rows in {
        "universe": ledger.universe(retired=True),
        "symbol_state": list(ledger.states().values()),
        "profiles": [{**row, "document": figures(row["document"])} for row in ledger.profiles().values()],
        "latest signals": ledger.signals(),
        "findings": ledger.findings(),
    }.items():
        held[name] = sorted(
            ({key: value for key, value in row.items() if key not in CLOCKS} for row in rows), key=lambda row: str(row)
        )
    return held


def figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """A profile without clocks, to nine digits: merged in other pieces it differs in the last one."""
    clocks = ("fundamentals_asked_at", ".read_at")
    told = {path: value for path, value in leaves(document) if not path.endswith(clocks)}
    return {path: float(f"{value:.9g}") if isinstance(value, float) else value for path, value in told.items()}


def assert_equal(found: Tables, undisturbed: Tables) -> None:
    assert found.keys() == undisturbed.keys()
    for name, expected in undisturbed.items():
        held = found[name]
        if isinstance(expected, list):
            assert held == expected, name
            continue
        assert isinstance(held, pl.DataFrame)
        key = list(declared(name).key)
        assert not held.select(key).is_duplicated().any(), f"{name} holds a key twice"
        assert_frame_equal(held.sort(key), expected.sort(key), check_exact=False, rel_tol=3e-7, abs_tol=1e-12)


# -- the homes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Runs the commands that are killed and those that follow."""
    with Zygote(tmp_path_factory.mktemp("zygote"), environment()) as process:
        yield process


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Path:
    """The simulated universe is followed, and nothing was ever read."""
    home = tmp_path_factory.mktemp("empty") / "home"
    ended = zygote.run(home, "universe", "add", "--all")
    assert ended.code == 0, ended.said
    return home


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote, empty_home: Path) -> Path:
    """The same with bars and models, some of them promoted."""
    home = tmp_path_factory.mktemp("base") / "home"
    shutil.copytree(empty_home, home)
    for command in (["refresh"], ["train"]):
        ended = zygote.run(home, *command)
        assert ended.code == 0, ended.said
    assert Ledger(settings_of(home)).production()
    return home


class Twin:
    """A copy of a home that goes through the same sessions undisturbed, beside the killed one."""

    def __init__(self, home: Path, copy: Path, zygote: Zygote) -> None:
        shutil.copytree(home, copy)
        self._home, self._zygote = copy, zygote
        self._hand = ThreadPoolExecutor(1)

    def advance(self, sessions: int) -> Callable[[], Tables]:
        """Let the twin's market go on and refresh it; call what is returned for its tables."""
        return self._hand.submit(self._advance, sessions).result

    def _advance(self, sessions: int) -> Tables:
        if sessions:
            Simulated(settings_of(self._home)).advance(sessions)
        ended = self._zygote.run(self._home, "refresh")
        assert ended.code == 0, ended.said
        return tables(self._home)


@pytest.fixture
def twin(base: Path, tmp_path: Path) -> Iterator[Twin]:
    with Zygote(tmp_path / "twin-zygote", environment()) as process:
        yield Twin(base, tmp_path / "twin", process)


# -- killing ----------------------------------------------------------------------------------------------------------


def until(what: Callable[[], Any], sentence: str) -> Any:
    """Waits with an eye for a hundredth of a second, because the moment of a kill is counted from what comes."""
    return processes.until(what, sentence, PATIENCE_SECONDS, pause=0.005)


def kill(pid: int) -> bool:
    """Kill; False where the process had gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def locks(home: Path) -> list[Path]:
    return list((home / "run-locks").glob("*.lock"))


def seconds_of_work(zygote: Zygote, home: Path) -> float:
    """How long a refresh holds its lock on this machine at this hour."""
    zygote.start(home, "refresh")
    until(lambda: locks(home), "a refresh takes its lock")
    began = time.monotonic()
    assert zygote.wait().code == 0
    return time.monotonic() - began


def strike(zygote: Zygote, home: Path, moment: float | None) -> bool:
    """Begin a refresh and kill it so many seconds after it took its lock; None: before. True where it struck."""
    before = set(locks(home))
    pid = zygote.start(home, "refresh")
    if moment is not None:
        until(lambda: set(locks(home)) - before or not alive(pid), "a refresh takes its lock")
        time.sleep(moment)
    else:
        time.sleep(0.05)
    kill(pid)
    return zygote.wait().code == -signal.SIGKILL


def strike_command(home: Path, moment: float | None) -> bool:
    """The same with the command as people start it."""
    before = set(locks(home))
    command = [sys.executable, "-m", "alpha_assets.cli", "refresh"]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment(ALPHA_HOME=str(home)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        if moment is not None:
            until(lambda: set(locks(home)) - before or process.poll() is not None, "a refresh takes its lock")
            time.sleep(moment)
        process.kill()
        return process.wait() == -signal.SIGKILL


def moments(seed: int, work: float) -> Iterator[float | None]:
    """Seconds after the lock, spread over the whole of the work; None before it."""
    chance = random.Random(seed)
    while True:
        yield None if chance.random() < EARLY else chance.random() * work


def assert_nothing_is_under_way(instance: dg.DagsterInstance, home: Path) -> None:
    """Every run has ended, and every lock whose run was recorded is gone.

    A process that dies slowly may hold its lock when the next command looks; the look after that, a tick's, is here.
    """
    until(
        lambda: all(run.is_finished for run in instance.get_runs()),
        f"every killed run is failed; now {[(run.run_id, run.status) for run in instance.get_runs()]}",
    )
    settings = settings_of(home)
    fail_dead_runs(instance, RunLocks(settings), Registry(settings))
    assert [lock for lock in locks(home) if instance.get_run_by_id(lock.stem)] == []


# -- the tests --------------------------------------------------------------------------------------------------------


def test_a_first_refresh_that_is_killed_leaves_nothing_behind_that_the_next_one_minds(
    empty_home: Path, zygote: Zygote, tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(empty_home, undisturbed)
    work = seconds_of_work(zygote, undisturbed)
    expected = tables(undisturbed)
    for number, share in enumerate((0.15, 0.3, 0.45, 0.6, 0.8)):
        home = tmp_path / f"home-{number}"
        shutil.copytree(empty_home, home)
        strike(zygote, home, share * work)
        ended = zygote.run(home, "refresh")
        assert ended.code == 0, ended.said
        assert_equal(tables(home), expected)


def test_commands_that_are_killed_lose_and_double_nothing(
    base: Path, zygote: Zygote, twin: Twin, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(base, home)
    chance = random.Random(SEED)
    struck = 0
    work = seconds_of_work(zygote, home)
    for moment in moments(SEED, work):
        sessions = chance.randint(1, MOST_SESSIONS)
        undisturbed = twin.advance(sessions)
        Simulated(settings_of(home)).advance(sessions)
        struck += strike_command(home, moment) if struck % 5 == 0 else strike(zygote, home, moment)
        ended = zygote.run(home, "refresh")
        assert ended.code == 0, ended.said
        assert_equal(tables(home), undisturbed())
        if struck == KILLS:
            break
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        assert_nothing_is_under_way(instance, home)


def test_queued_runs_that_are_killed_lose_and_double_nothing_and_hold_up_nobody(
    base: Path, zygote: Zygote, twin: Twin, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(base, home)
    chance = random.Random(SEED + 1)
    struck = 0
    with deployed(home, tmp_path / "dagster-home") as queue:
        work = seconds_of_work(zygote, home)
        outside = {"DAGSTER_HOME": str(queue.folder)}
        assert zygote.run(home, "refresh", **outside).code == 0
        for moment in moments(SEED + 1, work):
            sessions = chance.randint(1, MOST_SESSIONS)
            undisturbed = twin.advance(sessions)
            Simulated(settings_of(home)).advance(sessions)
            struck += queue.strike(moment)
            ended = zygote.run(home, "refresh", **outside)
            assert ended.code == 0, ended.said
            assert_equal(tables(home), undisturbed())
            if struck == KILLS:
                break
        assert_nothing_is_under_way(queue.instance, home)
        # No slot was lost: the queue still starts what it is given. A run that dies the daemon tries again by itself.
        last = queue.launch(retries=1)
        assert queue.strike_at(last, 0.0)
        retried = dg.RunsFilter(tags={"dagster/parent_run_id": last}, statuses=[dg.DagsterRunStatus.SUCCESS])
        until(lambda: queue.instance.get_runs(retried), f"run {last} is tried again and succeeds")
        assert zygote.run(home, "refresh", **outside).code == 0
        assert_nothing_is_under_way(queue.instance, home)


# -- the queue --------------------------------------------------------------------------------------------------------


class Queue:
    """Daemon, code server and webserver over one home: launches refreshes and kills their processes."""

    def __init__(self, home: Path, folder: Path, instance: dg.DagsterInstance, client: DagsterGraphQLClient) -> None:
        self.home, self.folder, self.instance = home, folder, instance
        self._client = client

    def launch(self, retries: int = 0) -> str:
        """Put a refresh of the universe into the queue; its run id.

        Without retries, because the daemon would try a killed run again beside the run that follows here.
        """
        keys = self.instance.get_dynamic_partitions("alpha_symbols")
        tags = {RANGE_START: keys[0], RANGE_END: keys[-1], "dagster/max_retries": str(retries)}
        return str(
            self._client.submit_job_execution(
                "refresh", repository_location_name="alpha_assets", repository_name="__repository__", tags=tags
            )
        )

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def strike(self, moment: float | None) -> bool:
        """Launch a refresh and kill its process so long after its lock; None: before. True where it struck."""
        return self.strike_at(self.launch(), moment)

    def strike_at(self, run_id: str, moment: float | None) -> bool:
        """The same for a run that was launched already."""
        pid = until(lambda: self._process(run_id), f"the daemon starts run {run_id}")
        if moment is not None:
            lock = self.home / "run-locks" / f"{run_id}.lock"
            until(lambda: lock.exists() or not alive(pid), f"run {run_id} takes its lock")
            time.sleep(moment)
        done = self.status(run_id).value in ("SUCCESS", "FAILURE")
        return kill(pid) and not done

    def _process(self, run_id: str) -> int | None:
        """The run's own process, by the event with which the code server started it."""
        for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            metadata: Mapping[str, Any] = entry.get_dagster_event().engine_event_data.metadata
            if "pid" in metadata:
                return int(metadata["pid"].value)
        return None


@contextmanager
def deployed(home: Path, folder: Path) -> Iterator[Queue]:
    """The queue over a home, with the shipped dagster.yaml but for a queue that is looked at every second."""
    folder.mkdir()
    config = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config | {"run_queue": {"dequeue_interval_seconds": 1}}))
    code, web = free_ports(2)
    server = {"host": "127.0.0.1", "port": code, "location_name": "alpha_assets"}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    workspace = ("-w", str(folder / "workspace.yaml"))
    around = environment(ALPHA_HOME=str(home), DAGSTER_HOME=str(folder))
    # Its tables are made first: three processes at once would each begin to.
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        started = [
            start(around, folder, "dagster", "api", "grpc", "-m", "alpha_assets.definitions", "-p", code),
            start(around, folder, "dagster._daemon", "run", *workspace),
            start(around, folder, "dagster_webserver", "-h", "127.0.0.1", "-p", web, *workspace),
        ]
        try:
            until(lambda: all(map(listens, (code, web))) or dead(started), "code server and webserver answer")
            assert not dead(started), [log.read_text()[-2000:] for log in folder.glob("*.log")]
            yield Queue(home, folder, instance, DagsterGraphQLClient("127.0.0.1", port_number=web))
        finally:
            for process in started:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
            for process in started:
                process.wait(60)


def start(around: Mapping[str, str], folder: Path, module: str, *arguments: object) -> subprocess.Popen[bytes]:
    with (folder / f"{module}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=PROJECT,
            env=dict(around),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def dead(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is not None for process in processes)

"""A killed run blocks nobody: its process is really killed here, and a living one really lives.

What is guarded is what the kernel does with a lock when its holder dies, so the holders are processes of their own.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest

from alpha_assets.automation import jobs
from alpha_assets.automation.reaper import fail_dead_runs
from alpha_assets.automation.sensors import new_bars
from alpha_assets.stores.run_locks import RunLocks
from alpha_assets_tests.assets.world import World

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

HOLDER = """
import sys
from pathlib import Path
from alpha_assets.settings import Settings
from alpha_assets.stores.run_locks import RunLocks

with RunLocks(Settings(home=Path(sys.argv[1]))).hold(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(world: World, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a run until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(world.settings.home), run_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def started(world: World, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED) -> str:
    """A run that Dagster holds to be under way."""
    return world.instance.create_run_for_job(world.definitions.resolve_job_def("refresh"), status=status).run_id


def status(world: World, run_id: str) -> dg.DagsterRunStatus:
    run = world.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def reap(world: World) -> list[str]:
    return fail_dead_runs(world.instance, world.locks, world.registry)


def test_a_killed_run_is_failed_at_the_next_tick_which_then_asks_for_its_own(world: World) -> None:
    world.follow("AAA")
    run_id = started(world)
    resources = {name: world.resources[name] for name in sorted(new_bars.required_resource_keys)}
    with (
        holder(world, run_id) as process,
        dg.build_sensor_context(instance=world.instance, definitions=world.definitions, resources=resources) as context,
    ):
        assert "still under way" in str(new_bars.evaluate_tick(context).skip_message)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(new_bars.evaluate_tick(context).run_requests or ()) == 1
    assert status(world, run_id) == dg.DagsterRunStatus.FAILURE


def test_a_living_run_is_left_alone(world: World) -> None:
    run_id = started(world)
    with holder(world, run_id):
        assert reap(world) == []
    assert status(world, run_id) == dg.DagsterRunStatus.STARTED


def test_a_run_that_has_not_taken_its_lock_yet_is_left_alone(world: World) -> None:
    run_id = started(world)
    assert reap(world) == []
    assert status(world, run_id) == dg.DagsterRunStatus.STARTED


def test_a_run_that_let_go_of_its_lock_by_itself_is_left_alone(world: World) -> None:
    run_id = started(world)
    with holder(world, run_id) as process:
        process.communicate("")
    assert reap(world) == []
    assert status(world, run_id) == dg.DagsterRunStatus.STARTED


def test_a_dead_run_gives_its_slot_back(lasting_world: World) -> None:
    run_id = started(lasting_world)
    slots = lasting_world.instance.event_log_storage
    slots.set_concurrency_slots("vendor", 1)
    slots.claim_concurrency_slot("vendor", run_id, "ohlcv")
    assert slots.get_concurrency_info("vendor").active_slot_count == 1
    with holder(lasting_world, run_id) as process:
        process.kill()
        process.wait()
        assert reap(lasting_world) == [run_id]
    assert slots.get_concurrency_info("vendor").active_slot_count == 0


@pytest.mark.parametrize("reached", UNFINISHED)
def test_a_run_is_failed_however_far_it_had_come(world: World, reached: dg.DagsterRunStatus) -> None:
    run_id = started(world, reached)
    with holder(world, run_id) as process:
        process.kill()
        process.wait()
        assert reap(world) == [run_id]
    assert status(world, run_id) == dg.DagsterRunStatus.FAILURE


def test_a_dead_run_is_reaped_once(world: World) -> None:
    run_id = started(world)
    with holder(world, run_id) as process:
        process.kill()
        process.wait()
        assert reap(world) == [run_id]
        assert reap(world) == []
    assert not list((world.settings.home / "run-locks").iterdir())


def test_a_killed_run_that_dagster_has_failed_already_leaves_no_lock_behind(world: World) -> None:
    run_id = started(world)
    with holder(world, run_id) as process:
        process.kill()
        process.wait()
        world.instance.report_run_failed(world.instance.get_run_by_id(run_id))
        assert reap(world) == []
    assert not list((world.settings.home / "run-locks").iterdir())


def test_the_dead_run_of_another_instance_is_left_for_it(world: World) -> None:
    with holder(world, "recorded-elsewhere") as process:
        process.kill()
        process.wait()
        assert reap(world) == []
        assert world.locks.is_dead("recorded-elsewhere")


def test_a_run_through_dagster_holds_its_lock_while_it_works_and_no_longer(world: World) -> None:
    world.follow("AAA")
    seen: list[bool] = []
    fetch = world.sources["simulated"].fetch

    def watching(*arguments: object) -> object:
        files = list((world.settings.home / "run-locks").glob("*.lock"))
        seen.extend(not world.locks.is_dead(file.stem) for file in files)
        return fetch(*arguments)  # type: ignore[arg-type]

    world.sources["simulated"].fetch = watching  # type: ignore[method-assign, assignment]
    assert world.run("refresh", jobs.REFRESH, ["AAA"]).success
    assert seen == [True]
    assert not list((world.settings.home / "run-locks").iterdir())


def test_nobody_ever_takes_a_run_for_dead_while_it_takes_and_drops_its_lock(world: World) -> None:
    mistaken: list[str] = []
    done = threading.Event()

    def watch() -> None:
        folder = world.settings.home / "run-locks"
        while not done.is_set():
            if folder.exists():
                mistaken.extend(name.stem for name in folder.glob("*.lock") if world.locks.is_dead(name.stem))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(2000):
            with RunLocks(world.settings).hold(f"run-{number}"):
                pass
    finally:
        done.set()
        watcher.join()
    assert mistaken == []


@pytest.mark.parametrize("depth", [1, 2])
def test_a_process_may_hold_its_own_lock_again(world: World, depth: int) -> None:
    with world.locks.hold("run"):
        for _ in range(depth):
            with RunLocks(world.settings).hold("run"):
                assert not world.locks.is_dead("run")
        assert (world.settings.home / "run-locks" / "run.lock").exists()

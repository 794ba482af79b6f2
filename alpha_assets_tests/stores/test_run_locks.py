"""What the kernel knows about a run: it lives, or it has died."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alpha_assets.settings import Settings
from alpha_assets.stores.run_locks import RunLocks

HOLDER = """
import sys
from pathlib import Path
from alpha_assets.settings import Settings
from alpha_assets.stores.run_locks import RunLocks
with RunLocks(Settings(home=Path(sys.argv[1]))).hold("run"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def locks(tmp_path: Path) -> RunLocks:
    return RunLocks(Settings(home=tmp_path))


@contextmanager
def another_process_holds(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that lives as long as its standard input is open, with the run's lock in its hands."""
    command = [sys.executable, "-c", HOLDER, str(home)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_living_run_is_not_dead_and_asking_does_not_disturb_it(tmp_path: Path, locks: RunLocks) -> None:
    with another_process_holds(tmp_path):
        assert [locks.is_dead("run") for _ in range(3)] == [False] * 3


def test_a_killed_run_is_dead_at_once_and_stays_so_until_it_is_forgotten(tmp_path: Path, locks: RunLocks) -> None:
    with another_process_holds(tmp_path) as process:
        process.kill()
        process.wait()
        assert locks.is_dead("run")
        assert locks.is_dead("run")
        locks.forget("run")
        assert not locks.is_dead("run")


def test_a_killed_runs_lock_is_free_for_whoever_takes_the_run_up(tmp_path: Path, locks: RunLocks) -> None:
    with another_process_holds(tmp_path) as process:
        process.kill()
        process.wait()
        with locks.hold("run"):
            assert not locks.is_dead("run")
        assert not locks.is_dead("run")


def test_a_run_that_ended_has_not_died(tmp_path: Path, locks: RunLocks) -> None:
    with another_process_holds(tmp_path) as process:
        process.communicate("\n")
        assert process.returncode == 0
        assert not locks.is_dead("run")


def test_a_run_that_failed_has_not_died_and_leaves_no_file(tmp_path: Path, locks: RunLocks) -> None:
    with pytest.raises(RuntimeError), locks.hold("run"):
        raise RuntimeError("the run failed")
    assert not locks.is_dead("run")
    assert list((tmp_path / "run-locks").iterdir()) == []


def test_a_run_that_never_took_its_lock_is_not_called_dead(locks: RunLocks) -> None:
    assert not locks.is_dead("run")
    locks.forget("run")


def test_a_process_that_holds_the_lock_may_take_it_again(tmp_path: Path, locks: RunLocks) -> None:
    with locks.hold("run"):
        with RunLocks(Settings(home=tmp_path)).hold("run"):
            assert not locks.is_dead("run")
        assert not locks.is_dead("run")
        assert len(list((tmp_path / "run-locks").iterdir())) == 1

"""A process that has imported everything and forks a child for each ``alpha-assets`` command it is told to run.

For tests that kill many commands: most of a command's seconds are imports, in which there is little to kill. The child
is a process like any other: its own locks and connections, and nothing of its memory outlives it. It forks before any
pool of threads was started, which it checks, so that no lock of a pool is copied in a locked state.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

PROJECT = Path(__file__).resolve().parents[1]

#: Threads that libraries start when they are imported and that idle: an allocator's, which knows of forks, and polars'.
HARMLESS = {"jemalloc_bg_thd", "polars-ooc-clea"}


#: What a refresh imports, at its beginning or when it comes to it.
HEAVY = (
    *("dagster", "polars", "deltalake", "mlflow", "lightgbm", "talib", "exchange_calendars", "alembic"),
    *("alpha_assets.definitions", "alpha_assets.commands.line"),
)


@dataclass
class Ended:
    """How a command ended: its code, negative for the signal that killed it, and what it printed."""

    code: int
    printed: str
    said: str


class Zygote:
    """Runs commands one after the other over any home; use as a context manager."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=PROJECT,
            env={**environment, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *trouble: object) -> None:
        self._write.close()
        self._process.wait()

    @property
    def _write(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def start(self, home: Path, *arguments: str, **environment: str) -> int:
        """Begin a command over a home; the process id of its child."""
        order = {"home": str(home), "arguments": arguments, "logs": str(self._logs), "environment": environment}
        self._write.write(json.dumps(order) + "\n")
        self._write.flush()
        return int(self._answer())

    def wait(self) -> Ended:
        """How the command that was begun last ended."""
        code = int(self._answer())
        return Ended(code, (self._logs / "stdout").read_text(), (self._logs / "stderr").read_text())

    def run(self, home: Path, *arguments: str, **environment: str) -> Ended:
        """A command from beginning to end."""
        self.start(home, *arguments, **environment)
        return self.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the zygote ended with code {self._process.wait()}"
        return line


def _serve() -> None:
    for name in HEAVY:
        import_module(name)

    for line in sys.stdin:
        assert _threads() <= HARMLESS, f"{_threads() - HARMLESS} run before the fork"
        child = os.fork()
        if child == 0:
            os._exit(_obey(json.loads(line)))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _threads() -> set[str]:
    """The names of this process's threads but for the one that asks."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    return {(task / "comm").read_text().strip() for task in tasks}


def _obey(order: Mapping[str, Any]) -> int:
    from alpha_assets.cli import main

    os.environ["ALPHA_HOME"] = order["home"]
    os.environ.update(order["environment"])
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(order["logs"]) / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        return main(order["arguments"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    _serve()

"""``alpha-assets ui``: Dagster's webserver and daemon and MLflow's page on loopback, over one home, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from argparse import Namespace
from pathlib import Path

from alpha_assets.commands import home
from alpha_assets.commands.launch import say
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings, project_root
from alpha_assets.stores.registry import Registry, quieten
from alpha_assets.stores.run_locks import RunLocks

HOST = "127.0.0.1"
SECONDS_TO_START = 180.0
SECONDS_TO_STOP = 20.0


def ui(settings: Settings, options: Namespace) -> int:
    """Start the three, print their addresses, stop them together; fails as soon as one of them does."""
    # Explicitly, because a shell starts a background command with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    home.prepare(settings)
    if options.port == options.mlflow_port:
        raise CommandFailed(f"--port and --mlflow-port are both {options.port}: each page needs a port of its own")
    for port in (options.port, options.mlflow_port):
        _refuse_taken(port)
    registry = Registry(settings)
    registry.prepare()
    _open_dagster(settings, registry)
    commands = _commands(settings, options)
    processes = {}
    try:
        for name, command in commands.items():
            processes[name] = _start(settings, name, command)
        _wait_until_up(processes, settings, options)
        print(f"Dagster  http://{HOST}:{options.port}", flush=True)
        print(f"MLflow   http://{HOST}:{options.mlflow_port}", flush=True)
        print("Ctrl-C stops both and the daemon.", flush=True)
        return _watch(processes, settings)
    except KeyboardInterrupt:
        return 0
    finally:
        # Whoever presses Ctrl-C again must not leave half of them running.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        _stop(list(processes.values()))
        say("stopped")


def _open_dagster(settings: Settings, registry: Registry) -> None:
    """Make Dagster's tables, which webserver and daemon would both begin to make, and fail the runs that have died."""
    import dagster as dg

    from alpha_assets.automation.reaper import fail_dead_runs

    with dg.DagsterInstance.get() as instance:
        fail_dead_runs(instance, RunLocks(settings), registry)


def _commands(settings: Settings, options: Namespace) -> dict[str, list[str]]:
    python = sys.executable
    module = ["-m", "alpha_assets.definitions", "-d", str(project_root())]
    return {
        "dagster-webserver": [python, "-m", "dagster_webserver", "-h", HOST, "-p", str(options.port), *module],
        "dagster-daemon": [python, "-m", "dagster._daemon", "run", *module],
        "mlflow": [
            *(python, "-m", "mlflow", "server", "--host", HOST, "--port", str(options.mlflow_port), "--workers", "1"),
            # The store's URL goes through the environment: everybody on the machine can read a command line.
            *("--artifacts-destination", settings.mlflow_artifact_root),
        ],
    }


def _start(settings: Settings, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    quieten()
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    store = Registry(settings).tracking_uri
    environment = {**os.environ, "ALPHA_HOME": str(settings.home), "MLFLOW_BACKEND_STORE_URI": store}
    # A session of its own, so that Ctrl-C reaches this process first and the children are stopped in order.
    with _log(settings, name).open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _log(settings: Settings, name: str) -> Path:
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def _refuse_taken(port: int) -> None:
    if not 0 < port < 65536:
        raise CommandFailed(f"port {port}: a port is a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandFailed(
                f"port {port} on {HOST} is taken ({error.strerror}): --port and --mlflow-port name others"
            ) from error


def _wait_until_up(processes: dict[str, subprocess.Popen[bytes]], settings: Settings, options: Namespace) -> None:
    pages = [f"http://{HOST}:{options.port}/server_info", f"http://{HOST}:{options.mlflow_port}/health"]
    deadline = time.monotonic() + SECONDS_TO_START
    while pages:
        _fail_if_ended(processes, settings)
        if time.monotonic() > deadline:
            raise CommandFailed(
                f"{pages[0]} did not answer within {SECONDS_TO_START:.0f} s; see {settings.home / 'logs'}"
            )
        pages = [page for page in pages if not _answers(page)]
        time.sleep(0.3)


def _answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _fail_if_ended(processes: dict[str, subprocess.Popen[bytes]], settings: Settings) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            tail = _log(settings, name).read_text(errors="replace").strip().splitlines()[-5:]
            raise CommandFailed(f"{name} ended with code {process.returncode}: {' / '.join(tail)}")


def _watch(processes: dict[str, subprocess.Popen[bytes]], settings: Settings) -> int:
    while True:
        _fail_if_ended(processes, settings)
        time.sleep(0.5)


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return

"""What tests that start real processes share: a bare environment, free ports, and waiting for what must come."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Fewer heads than a home has: the commands do the same with them, in a third of the time.
LIGHT_HEADS = '["gb_return", "gb_direction", "ridge", "logistic"]'


def environment(**more: str) -> dict[str, str]:
    """The environment without a word about this project or Dagster, the simulated market, few heads, and ``more``."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHA_", "DAGSTER_"))}
    given = {"ALPHA_SOURCE": "simulated", "ALPHA_LEARNING__HEADS": LIGHT_HEADS, "DAGSTER_DISABLE_TELEMETRY": "1"}
    return {**bare, **given, **more}


def until(what: Callable[[], Any], sentence: str, seconds: float, pause: float = 1.0) -> Any:
    """The first true answer; fails with the sentence where none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(pause)
    raise AssertionError(f"{sentence}: not within {seconds:.0f} s")


def alive(pid: int) -> bool:
    """True while a process is there and has not ended."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(pid: int) -> set[int]:
    """Every process below one, whatever its group or session."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            try:
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: set[int] = set()
    open_ones = [pid]
    while open_ones:
        for child in children.get(open_ones.pop(), []):
            found.add(child)
            open_ones.append(child)
    return found


def _stat(pid: int) -> list[str]:
    """State, parent and what follows; the name before them may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def listens(port: int) -> bool:
    """True where somebody accepts connections on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()

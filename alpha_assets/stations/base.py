"""What every station reports: how it went for each partition, and figures of the whole.

A station is one step of the line without Dagster: it reads stores, calls ``quant``, writes stores and says what it
did. The assets wrap stations and the benchmarks time them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol


class Progress(Protocol):
    """Called as work goes on: the stage, done of total, and the symbol or cell that it is at."""

    def __call__(self, stage: str, done: int, total: int, at: str = "", /) -> None: ...


def silent(stage: str, done: int, total: int, at: str = "") -> None:
    """Progress for callers that do not watch."""


class Pace:
    """A long step in words: how far it has come, where it is, how long it took so far and will still take.

    What is left is that of the count under way, which ends where another total or a smaller number is told: a station
    counts its symbols, then what it does for all of them at once. It is told from a tenth on, because the first of many
    includes what is done once, and would promise hours.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._started = self._counted_from = self._told = clock()
        self._done = self._total = 0

    def words(self, stage: str, done: int, total: int, at: str = "") -> str:
        """The sentence of one call of ``Progress``; of every call, or what is left is not known."""
        now = self._clock()
        if total != self._total or done < self._done:
            self._counted_from = self._told
        self._told, self._done, self._total = now, done, total
        where = f" at {at}" if at else ""
        words = f"{stage}: {done:,} of {total:,}{where}, {now - self._started:.0f} s"
        if not total <= 10 * done < 10 * total:
            return words
        return f"{words}, about {(now - self._counted_from) / done * (total - done):.0f} s left"


class StationFailed(Exception):
    """A station could do its work for none, or for too few, of its partitions; the message says which and why."""


@dataclass
class Report:
    """One run of a station: a small dict of figures a partition, each with its ``state``, and totals."""

    partitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)

    def say(self, partition: str, state: str, **figures: Any) -> None:
        """Record how one partition went; figures that are None are left out."""
        known = {key: value for key, value in figures.items() if value is not None}
        self.partitions[partition] = {"state": state, **known}

    def states(self) -> dict[str, int]:
        """How many partitions ended in each state."""
        counts: dict[str, int] = {}
        for figures in self.partitions.values():
            counts[figures["state"]] = counts.get(figures["state"], 0) + 1
        return counts

    def in_state(self, *states: str) -> list[str]:
        """The partitions that ended in one of these states."""
        return [key for key, figures in self.partitions.items() if figures["state"] in states]


def some_of(names: Iterable[str], most: int = 10) -> str:
    """The first few names and how many more there are, for a sentence."""
    names = list(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings of counts added up, nested ones too."""
    out = dict(first)
    for key, value in second.items():
        out[key] = merged(out.get(key, {}), value) if isinstance(value, Mapping) else out.get(key, 0) + value
    return out

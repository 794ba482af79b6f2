"""What every station reports: how it went for each partition, and figures of the whole.

A station is one step of the line without Dagster: it reads stores, calls ``quant``, writes stores and says what it
did. The assets wrap stations and the benchmarks time them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Called as work goes on: (stage, done, total).
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Progress for callers that do not watch."""


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

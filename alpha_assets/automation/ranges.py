"""From a set of symbols to runs: Dagster starts one run for a contiguous range of partitions, not for a set.

A range is the two tags below; its ends must exist and come in the instance's order, else the tick fails. An arbitrary
set is a few runs of one key each, or the covering range with the run told which keys it is for; keys in between are
then reported as kept and left untouched. Left to itself, Dagster starts a run a partition for a set with holes (50 runs
for every second one of 100).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

#: Tag of a run that the command launched; it goes on to the signals itself.
LAUNCHED_BY = "alpha/launched_by"

#: Up to so many keys that are not adjacent get a run each; more share one covering range.
FEW = 3


@dataclass(frozen=True)
class RangeRun:
    """One run over the partitions from ``first`` to ``last``; ``only`` names the keys it is for, None means all."""

    first: str
    last: str
    only: tuple[str, ...] | None = None

    def tags(self, regime: str | None = None) -> dict[str, str]:
        """The run's range tags, for symbols or for one regime of them."""
        cell = "" if regime is None else f"{regime}|"
        return {RANGE_START: f"{cell}{self.first}", RANGE_END: f"{cell}{self.last}"}

    def config(self, assets: Collection[str], regime: str | None = None, full: bool = False) -> dict[str, Any]:
        """Run config that tells each of ``assets`` its keys, and ``ohlcv`` whether to read the whole history again."""
        ops: dict[str, Any] = {}
        if self.only is not None:
            keys = [symbol if regime is None else f"{regime}|{symbol}" for symbol in self.only]
            ops = {asset: {"config": {"only": keys}} for asset in assets}
        if full:
            ops.setdefault("ohlcv", {"config": {}})["config"]["full"] = True
        return {"ops": ops} if ops else {}


def plan_runs(order: Sequence[str], wanted: Collection[str]) -> list[RangeRun]:
    """The fewest runs that cover ``wanted`` and touch nothing else; ``order`` is the instance's.

    A wanted key that the instance does not know is left out: its partition has to be registered first.
    """
    keys = [key for key in order if key in wanted]
    if not keys:
        return []
    run = covering(order, keys)
    if run.only is not None and len(keys) <= FEW:
        return [RangeRun(key, key) for key in keys]
    return [run]


def covering(order: Sequence[str], wanted: Collection[str]) -> RangeRun:
    """One run over the range that covers ``wanted``, told which keys it is for where there are others between."""
    positions = [number for number, key in enumerate(order) if key in wanted]
    first, last = positions[0], positions[-1]
    whole = last - first + 1 == len(positions)
    return RangeRun(order[first], order[last], None if whole else tuple(order[number] for number in positions))

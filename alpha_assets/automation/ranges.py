"""From a set of symbols to runs: Dagster starts one run for a contiguous range of partitions, not for a set.

A range is the two tags below; its ends must exist and come in the instance's order, else the tick fails. An arbitrary
set is a few runs of one key each, or the covering range with the run told which keys it is for; keys in between are
then reported as kept and left untouched. Left to itself, Dagster starts a run a partition for a set with holes (50 runs
for every second one of 100).

Of (regime, symbol) cells Dagster takes the ends apart: the range is every regime between theirs with every symbol
between theirs, so that all five regimes of the universe are one run.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from alpha_assets.quant.symbols import REGIMES
from alpha_assets.stations.train import key_of

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

    def tags(self) -> dict[str, str]:
        """The run's range tags."""
        return {RANGE_START: self.first, RANGE_END: self.last}

    def config(self, assets: Collection[str], full: bool = False) -> dict[str, Any]:
        """Run config that tells each of ``assets`` its keys, and ``ohlcv`` whether to read the whole history again."""
        ops: dict[str, Any] = {}
        if self.only is not None:
            ops = {asset: {"config": {"only": list(self.only)}} for asset in assets}
        if full:
            ops.setdefault("ohlcv", {"config": {}})["config"]["full"] = True
        return {"ops": ops} if ops else {}


def plan_runs(order: Sequence[str], wanted: Collection[str]) -> list[RangeRun]:
    """The fewest runs that cover the symbols ``wanted`` and touch nothing else; ``order`` is the instance's.

    A symbol that the instance does not know is left out: its partition has to be registered first.
    """
    found, adjacent = _stretch(order, wanted)
    if not found:
        return []
    if not adjacent and len(found) <= FEW:
        return [covering(order, [symbol]) for symbol in found]
    return [covering(order, found)]


def covering(order: Sequence[str], wanted: Collection[str], regimes: Collection[str] | None = None) -> RangeRun:
    """One run over the range that covers ``wanted``, told which keys it is for where there are others between.

    With ``regimes`` its keys are the cells of these regimes and symbols.
    """
    keys, whole = _stretch(order, wanted)
    if regimes is not None:
        among, adjacent = _stretch(REGIMES, regimes)
        keys = [key_of((symbol, regime)) for regime in among for symbol in keys]
        whole = whole and adjacent
    return RangeRun(keys[0], keys[-1], None if whole else tuple(keys))


def _stretch(order: Sequence[str], wanted: Collection[str]) -> tuple[list[str], bool]:
    """Those wanted, in order, and whether no other lies between them."""
    positions = [number for number, key in enumerate(order) if key in wanted]
    adjacent = not positions or positions[-1] - positions[0] + 1 == len(positions)
    return [order[number] for number in positions], adjacent

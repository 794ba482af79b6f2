"""The registry as it fills: ``python -m benchmarks.registry --format json``.

Versions of one size are logged one after the other into two registries, a small and a large one, as a training of a
universe would. Then the same operations take turns on both, so that whatever else the machine does meets both alike.
Milliseconds are medians; ``N`` is the number of versions held.

- ``log_ms_N``: one version with its run
- ``find_ms_N``: the version of a training, which a repeated training looks for before it fits anything
- ``newest_ms_N``: the newest version of a name; ``project_ms_N``: aliases and tags of a decision
- ``log_growth``, ``find_growth``, ``newest_growth``, ``project_growth``: large over small
"""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from alpha_assets.quant.heads import ANSWERS
from alpha_assets.quant.parameters import DEFAULT_HEADS
from alpha_assets.settings import Settings
from alpha_assets.stations.train import model_name
from alpha_assets.stores.registry import ALIASES, Registry
from benchmarks.frame import Figure, lap, median, run

#: What a candidate of the S&P universe weighs, with nine heads.
FILE_BYTES = 24_000
FILES = 12


class Filled:
    """A registry that holds so many versions, one a name."""

    def __init__(self, folder: Path, versions: int) -> None:
        self._registry = Registry(Settings(home=folder))
        self._registry.prepare()
        self._draws = np.random.default_rng(1)
        self._versions = 0
        for _ in range(versions):
            self.log()

    def log(self) -> None:
        """One more version, of a new name."""
        symbol = f"SYM{self._versions:05}"
        self._registry.log_candidate(
            model_name(symbol),
            {f"head_{at}.bin": self._draws.bytes(FILE_BYTES) for at in range(FILES)},
            training_id=f"{self._versions:064}",
            columns=[f"column_{at}" for at in range(76)],
            answers=ANSWERS,
            parameters={f"parameter_{at}": at for at in range(40)},
            metrics={f"metric_{at}": 0.1 for at in range(50)},
            tags={"symbol": symbol, "regime": "all", **{f"tag_{at}": "value" for at in range(10)}},
            report={"heads": {name: {"folds": [dict.fromkeys("abcdefg", 0.1)] * 5} for name in DEFAULT_HEADS}},
            dataset=("features/core", f"{self._versions:036}"),
            note="a note " * 100,
        )
        self._versions += 1

    def find(self) -> None:
        """The version of a training drawn from all."""
        number = self._drawn()
        if self._registry.find(_name(number), f"{number:064}") is None:
            raise LookupError(f"version {number} of {self._versions} is not in the registry")

    def newest(self) -> None:
        """The newest version of a name drawn from all."""
        self._registry.newest(_name(self._drawn()))

    def project(self) -> None:
        """What a decision does to a version drawn from all."""
        tags = {"1": {"stage": "production", "seq": "1"}}
        self._registry.project(_name(self._drawn()), dict.fromkeys(ALIASES, "1"), tags)

    def _drawn(self) -> int:
        return int(self._draws.integers(0, self._versions))


def measure(options: Namespace) -> dict[str, Figure]:
    """Every figure by its documented key."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Filled(Path(folder) / "small", options.small), Filled(Path(folder) / "large", options.large)
        figures: dict[str, Figure] = {"small": options.small, "large": options.large}
        for name in ("log", "find", "newest", "project"):
            few, many = _in_turns(getattr(small, name), getattr(large, name), options.repeats)
            figures |= {
                f"{name}_ms_{options.small}": few,
                f"{name}_ms_{options.large}": many,
                f"{name}_growth": round(many / few, 2),
            }
        return figures


def _in_turns(first: Callable[[], None], second: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Median milliseconds of both; the first turn of each warms up."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for operation, seconds in zip((first, second), taken, strict=True):
            with lap() as one:
                operation()
            seconds.append(1e3 * one.seconds)
    return median(taken[0][1:], 1), median(taken[1][1:], 1)


def _name(number: int) -> str:
    return model_name(f"SYM{number:05}")


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--small", type=int, default=100, help="versions in the small registry (100)")
    parser.add_argument("--large", type=int, default=10_000, help="versions in the large one (10,000: ten minutes)")
    parser.add_argument("--repeats", type=int, default=100, help="turns of each operation (100)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("The registry as it fills", measure, _options, arguments)


if __name__ == "__main__":
    main()

"""What every benchmark shares: one flat object of figures, as JSON for programs or as a table for people."""

import json
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: The market samples beside the checkout; a benchmark that lacks them says so and takes a simulated market.
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Figure = str | int | float | bool | None


@dataclass
class Lap:
    """How long something took: ``seconds`` on the wall, ``cpu`` of this process in all its threads."""

    seconds: float = 0.0
    cpu: float = 0.0


@contextmanager
def lap() -> Iterator[Lap]:
    """Time what happens inside; the figures are there when it ends."""
    taken = Lap()
    wall, cpu = time.perf_counter(), time.process_time()
    yield taken
    taken.seconds, taken.cpu = time.perf_counter() - wall, time.process_time() - cpu


def median(values: Sequence[float], digits: int = 4) -> float:
    """The median, rounded: of several runs on a shared machine the one that says most."""
    return round(statistics.median(values), digits)


def run(
    description: str,
    measure: Callable[[Namespace], Mapping[str, Figure]],
    options: Callable[[ArgumentParser], None] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """The command of a benchmark: its own ``options`` and ``--format``; prints what ``measure`` returns."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json is one flat object")
    if options is not None:
        options(parser)
    chosen = parser.parse_args(arguments)
    show(measure(chosen), chosen.format)


def show(figures: Mapping[str, Figure], form: str) -> None:
    """Print one object of figures."""
    if form == "json":
        print(json.dumps(dict(figures)))
        return
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure:,}" if isinstance(figure, int | float) else f"{name:<{width}}  {figure}")

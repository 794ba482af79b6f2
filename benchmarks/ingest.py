"""How fast bars get in: the full load, one new session over the universe, and the same with ten times the history.

    python -m benchmarks.ingest --format json

One flat object. ``load_s`` and ``rows_per_s`` are the first load of the S&P set: source ``files``, cleaning, lake and
ledger. ``update_s`` is our own work for one new session of all symbols: the ingest station with a source that holds its
answer ready, the source's time taken off; the median of ``updates`` sessions, each with its own date, ``update_cpu_s``
the same in processor time, ``update_worst_s`` the slowest (the one that compacts small files). ``update_growth`` is
``update_s`` over ten times the history, as a multiple. ``rewrite_s`` is the naive way, side by side: read a Parquet
file with pandas, concatenate, drop duplicates, write it again; it cleans nothing and keeps no account.
``update_vs_rewrite`` is how many times as long that takes, ``rewrite_growth`` its own growth.

Without the shared market samples a simulated market takes the place of the S&P set, and ``data`` says so.
"""

import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from alpha_assets.quant.schema import TIME
from alpha_assets.sources.base import Fetched, Source
from alpha_assets.stations.ingest import ingest
from benchmarks.frame import Figure, Lap, lap, median, run
from benchmarks.market import (
    MORE,
    Home,
    as_source_rows,
    bars_of_sessions,
    daily_options,
    daily_rows,
    deepened_home,
    evening,
    loaded_home,
    sessions_from,
)

#: More than the tail that any update reads: a source that must not be timed need not hold more.
TAIL = timedelta(days=120)


@dataclass
class Ready:
    """A source that holds its answers in memory, and counts the time it takes to cut them to what was asked."""

    bars: pl.DataFrame
    name: str = "files"
    seconds: float = 0.0
    cpu: float = 0.0
    whole: list[str] = field(default_factory=list)

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:  # noqa: ARG002
        with lap() as taken:
            self.whole += [symbol for symbol in symbols if since[symbol] is None]
            starts = pl.DataFrame(
                {"symbol": list(symbols), "since": [since[symbol] for symbol in symbols]},
                schema={"symbol": pl.String, "since": TIME},
            )
            wanted = self.bars.join(starts, on="symbol", maintain_order="left")
            bars = wanted.filter((pl.col("timestamp") >= pl.col("since")).fill_null(True)).drop("since")
        self.seconds += taken.seconds
        self.cpu += taken.cpu
        return Fetched(bars)

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:
        newest = self.bars.filter(pl.col("timestamp") < now).group_by("symbol").agg(pl.col("timestamp").max())
        return dict.fromkeys(symbols) | dict(newest.iter_rows())


def measure(options: Namespace) -> dict[str, Figure]:
    """Every figure of this benchmark."""
    with tempfile.TemporaryDirectory(prefix="alpha-ingest-") as folder:
        return _measure(Path(folder), options)


def _measure(folder: Path, options: Namespace) -> dict[str, Figure]:
    rows, what = daily_rows(options)
    symbols = sorted(rows["symbol"].unique())
    last: date = rows["timestamp"].max()  # type: ignore[assignment]
    days = sessions_from(last, options.updates + 1)
    bars = as_source_rows(rows)
    future = bars_of_sessions(bars, days)

    loaded, load = loaded_home(folder, rows, symbols, last)
    deep = deepened_home(folder, loaded, symbols, last)
    onward, onward_deep = _updates((loaded, deep), bars, future, symbols, days)
    rewrite = _rewrites(folder / "naive.parquet", bars, future, days, 1)
    rewrite_deep = _rewrites(folder / "naive.parquet", bars, future, days, MORE)

    update_s, rewrite_s = median([update.seconds for update in onward]), median(rewrite)
    update_ten_s, rewrite_ten_s = median([update.seconds for update in onward_deep]), median(rewrite_deep)
    return {
        "data": what,
        "symbols": len(symbols),
        "rows": rows.height,
        "load_s": round(load, 3),
        "rows_per_s": round(rows.height / load),
        "updates": len(onward),
        "update_s": update_s,
        "update_cpu_s": median([update.cpu for update in onward]),
        "update_worst_s": round(max(update.seconds for update in onward), 4),
        "update_ten_s": update_ten_s,
        "update_growth": round(update_ten_s / update_s, 3),
        "rewrite_s": rewrite_s,
        "rewrite_ten_s": rewrite_ten_s,
        "rewrite_growth": round(rewrite_ten_s / rewrite_s, 3),
        "update_vs_rewrite": round(rewrite_s / update_s, 3),
        "update_vs_rewrite_ten": round(rewrite_ten_s / update_ten_s, 3),
    }


def _updates(
    homes: Sequence[Home], bars: pl.DataFrame, future: pl.DataFrame, symbols: Sequence[str], days: Sequence[date]
) -> list[list[Lap]]:
    """What each update took in each home, the source's part taken off.

    The homes take turns, so that what else the machine does weighs on all alike; the first day, which opens everything,
    is not counted.
    """
    recent = bars.filter(pl.col("timestamp") > pl.lit(evening(days[0]), TIME) - TAIL)
    taken: list[list[Lap]] = [[] for _ in homes]
    for day in days:
        said = pl.concat([recent, future.filter(pl.col("timestamp") < pl.lit(evening(day), TIME))])
        for home, laps in zip(homes, taken, strict=True):
            source = Ready(said)
            sources: dict[str, Source] = {"files": source}
            with lap() as whole:
                report = ingest(home.lake, home.ledger, sources, home.settings, symbols, evening(day))
            assert report.totals["new"] == len(symbols), report.totals
            assert not source.whole, f"{source.whole}: an update read histories whole"
            laps.append(Lap(whole.seconds - source.seconds, whole.cpu - source.cpu))
    return [laps[1:] for laps in taken]


def _rewrites(file: Path, bars: pl.DataFrame, future: pl.DataFrame, days: Sequence[date], times: int) -> list[float]:
    """Seconds of each naive update of one Parquet file."""
    import pandas as pd

    shifted = [bars.with_columns(pl.col("timestamp").dt.offset_by(f"-{5 * block}y")) for block in range(times)]
    pl.concat(shifted).to_pandas().to_parquet(file)
    taken = []
    for day in days[:5]:
        news = future.filter(pl.col("timestamp").dt.date() == day).to_pandas()
        started = time.perf_counter()
        together = pd.concat([pd.read_parquet(file), news])
        together = together.drop_duplicates(["symbol", "timestamp"], keep="last").sort_values(["symbol", "timestamp"])
        together.to_parquet(file)
        taken.append(time.perf_counter() - started)
    return taken


def _options(parser: ArgumentParser) -> None:
    daily_options(parser)
    parser.add_argument("--updates", type=int, default=20, help="new sessions timed (20)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run(str(__doc__).splitlines()[0], measure, _options, arguments)


if __name__ == "__main__":
    main()

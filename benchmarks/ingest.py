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
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.quant.schema import OHLC, RAW_BARS, TIME
from alpha_assets.quant.simulate import default_symbols, simulate
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Fetched, Source
from alpha_assets.sources.files import Files
from alpha_assets.stations.ingest import ingest
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from benchmarks.frame import SHARED_DATA, Figure, Lap, lap, median, run

CALENDAR = "XNYS"
SP500 = SHARED_DATA / "sp500_daily_2013_2018.parquet"

#: Times the history for ``update_growth``.
MORE = 10

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


@dataclass(frozen=True)
class Home:
    """The stores of one folder."""

    settings: Settings

    @property
    def lake(self) -> Lake:
        return Lake(self.settings)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.settings)

    def follow(self, symbols: Sequence[str], now: datetime) -> None:
        rows = [{"symbol": symbol, "source": "files", "calendar": CALENDAR, "added_at": now} for symbol in symbols]
        self.ledger.add_symbols(rows)


def measure(options: Namespace) -> dict[str, Figure]:
    """Every figure of this benchmark."""
    with tempfile.TemporaryDirectory(prefix="alpha-ingest-") as folder:
        return _measure(Path(folder), options)


def _measure(folder: Path, options: Namespace) -> dict[str, Figure]:
    rows, what = _market(options)
    symbols = sorted(rows["symbol"].unique())
    last: date = rows["timestamp"].max()  # type: ignore[assignment]
    sessions = calendars.sessions(CALENDAR, last + timedelta(days=1), last + timedelta(days=3 * options.updates + 10))
    days: list[date] = sessions.head(options.updates + 1).to_list()
    bars = rows.select(pl.col(name).cast(kind) for name, kind in RAW_BARS.items())
    future = _sessions_after(bars, days)

    loaded, load = _load(folder, rows, symbols, last)
    deep = _deepened(folder, loaded, symbols, last)
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


def _market(options: Namespace) -> tuple[pl.DataFrame, str]:
    """Daily rows with a ``timestamp`` of dates, and what they are."""
    if SP500.exists() and not options.simulated:
        rows = pl.read_parquet(SP500)
        chosen = rows["symbol"].unique().sort().head(options.symbols)
        return rows.filter(pl.col("symbol").is_in(chosen.implode())), SP500.name
    first, last = date(2013, 2, 8), date(2013, 2, 8) + timedelta(days=round(365.25 * options.years))
    names = default_symbols(options.symbols)
    parameters = SimulationParameters(symbols=len(names), first=first, late_share=0.0, delisted_share=0.0, split_rate=0)
    simulated = simulate(parameters, symbols=names, first=first, last=last).bars
    absent = "" if SP500.exists() else f" ({SP500} is absent)"
    return simulated.with_columns(pl.col("timestamp").dt.date()), f"simulated market{absent}"


def _sessions_after(bars: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
    """Bars of new sessions: each symbol's last bar on a small random walk."""
    random = np.random.default_rng(7)
    last = bars.drop_nulls(OHLC).sort("symbol", "timestamp").group_by("symbol", maintain_order=True).last()
    last = last.select(bars.columns)
    level = np.ones(last.height)
    parts = []
    for day in days:
        level = level * np.exp(random.normal(0, 0.01, last.height))
        moved = pl.Series(level)
        stamp = pl.lit(datetime(day.year, day.month, day.day, tzinfo=UTC), TIME)
        parts.append(last.with_columns(stamp.alias("timestamp"), *(pl.col(name) * moved for name in OHLC)))
    return pl.concat(parts)


def _load(folder: Path, rows: pl.DataFrame, symbols: Sequence[str], last: date) -> tuple[Home, float]:
    file = folder / "bars.parquet"
    rows.write_parquet(file)
    home = Home(Settings(home=folder / "home", source="files", files=str(file), history_start=date(1990, 1, 1)))
    now = _evening(last)
    home.follow(symbols, now)
    with lap() as taken:
        ingest(home.lake, home.ledger, {"files": Files(home.settings)}, home.settings, symbols, now)
    return home, taken.seconds


def _updates(
    homes: Sequence[Home], bars: pl.DataFrame, future: pl.DataFrame, symbols: Sequence[str], days: Sequence[date]
) -> list[list[Lap]]:
    """What each update took in each home, the source's part taken off.

    The homes take turns, so that what else the machine does weighs on all alike; the first day, which opens everything,
    is not counted.
    """
    recent = bars.filter(pl.col("timestamp") > pl.lit(_evening(days[0]), TIME) - TAIL)
    taken: list[list[Lap]] = [[] for _ in homes]
    for day in days:
        said = pl.concat([recent, future.filter(pl.col("timestamp") < pl.lit(_evening(day), TIME))])
        for home, laps in zip(homes, taken, strict=True):
            source = Ready(said)
            sources: dict[str, Source] = {"files": source}
            with lap() as whole:
                report = ingest(home.lake, home.ledger, sources, home.settings, symbols, _evening(day))
            assert report.totals["new"] == len(symbols), report.totals
            assert not source.whole, f"{source.whole}: an update read histories whole"
            laps.append(Lap(whole.seconds - source.seconds, whole.cpu - source.cpu))
    return [laps[1:] for laps in taken]


def _deepened(folder: Path, loaded: Home, symbols: Sequence[str], last: date) -> Home:
    """A home as of the load, with ``MORE`` times the history: the same bars on earlier sessions, prices joined up."""
    home = Home(loaded.settings.model_copy(update={"home": folder / "deep", "history_start": date(1960, 1, 1)}))
    home.follow(symbols, _evening(last))
    bars = loaded.lake.read("bars", until=_evening(last))
    own = calendars.sessions(CALENDAR, bars["timestamp"].dt.date().min(), last)  # type: ignore[arg-type]
    begin = date(own[0].year - MORE * (own[-1].year - own[0].year + 1), 1, 1)
    before = calendars.sessions(CALENDAR, begin, own[0]).head(-1)
    joined = (pl.col("open").first() / pl.col("close").last()).over("symbol")
    parts = [bars]
    for times in range(1, MORE):
        start = len(before) - times * len(own)
        days = pl.DataFrame({"day": own, "earlier": before.slice(start, len(own))})
        factor = joined**times
        parts.append(
            bars.with_columns(*(pl.col(name) * factor for name in OHLC), day=pl.col("timestamp").dt.date())
            .join(days, on="day", how="inner")
            .with_columns(timestamp=pl.col("earlier").cast(TIME), listing=pl.lit(before[start]))
            .select(bars.columns)
        )
    first_listing = pl.col("listing").min().over("symbol")
    home.lake.append("bars", pl.concat(parts).with_columns(listing=first_listing))
    hints = home.lake.last_rows("bars").rename({"first": "first_bar", "last": "last_bar", "rows": "bars"})
    home.ledger.note_state(hints.to_dicts())
    return home


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


def _evening(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--symbols", type=int, default=505, help="symbols at most (505)")
    parser.add_argument("--updates", type=int, default=20, help="new sessions timed (20)")
    parser.add_argument("--simulated", action="store_true", help="the simulated market also where the data is there")
    parser.add_argument("--years", type=float, default=5.0, help="years of the simulated market (5)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run(str(__doc__).splitlines()[0], measure, _options, arguments)


if __name__ == "__main__":
    main()

"""The market that the benchmarks measure on, and homes that hold it.

The S&P 500 sample is beside the checkout; without it a simulated market takes its place, and ``daily_rows`` says so.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.quant.schema import OHLC, RAW_BARS, TIME
from alpha_assets.quant.simulate import default_symbols, simulate
from alpha_assets.settings import Settings
from alpha_assets.sources.files import Files
from alpha_assets.stations.ingest import ingest
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from benchmarks.frame import SHARED_DATA, lap

CALENDAR = "XNYS"
SP500 = SHARED_DATA / "sp500_daily_2013_2018.parquet"

#: First session of a minute history.
MINUTES_FROM = date(2004, 1, 2)

#: Times the history of a deepened home.
MORE = 10


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

    def hold(self, bars: pl.DataFrame) -> None:
        """Put bars of followed symbols into the lake and their state into the ledger, as an ingestion would."""
        self.lake.append("bars", bars)
        hints = self.lake.last_rows("bars").rename({"first": "first_bar", "last": "last_bar", "rows": "bars"})
        self.ledger.note_state(hints.to_dicts())


def daily_options(parser: ArgumentParser) -> None:
    """The options that ``daily_rows`` reads."""
    parser.add_argument("--symbols", type=int, default=505, help="symbols at most (505)")
    parser.add_argument("--simulated", action="store_true", help="the simulated market also where the data is there")
    parser.add_argument("--years", type=float, default=5.0, help="years of the simulated market (5)")


def daily_rows(options: Namespace) -> tuple[pl.DataFrame, str]:
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


def sessions_from(last: date, count: int) -> list[date]:
    """The sessions after a day."""
    sessions = calendars.sessions(CALENDAR, last + timedelta(days=1), last + timedelta(days=3 * count + 10))
    return sessions.head(count).to_list()


def planned_days(bars: pl.DataFrame) -> pd.DatetimeIndex:
    """The sessions that were planned around the bars, for those who look whether a week is complete."""
    first: date = bars["timestamp"].dt.date().min()  # type: ignore[assignment]
    last: date = bars["timestamp"].dt.date().max()  # type: ignore[assignment]
    planned = calendars.planned_sessions(CALENDAR, first - timedelta(days=40), last + timedelta(days=40))
    return pd.DatetimeIndex(planned.to_pandas())


def bars_of_sessions(bars: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
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


def as_source_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Daily rows with the columns and types of ``RAW_BARS``."""
    return rows.select(pl.col(name).cast(kind) for name, kind in RAW_BARS.items())


def loaded_home(folder: Path, rows: pl.DataFrame, symbols: Sequence[str], last: date) -> tuple[Home, float]:
    """A home that has read the rows from a file, and the seconds of that."""
    file = folder / "bars.parquet"
    rows.write_parquet(file)
    home = Home(Settings(home=folder / "home", source="files", files=str(file), history_start=date(1990, 1, 1)))
    now = evening(last)
    home.follow(symbols, now)
    with lap() as taken:
        ingest(home.lake, home.ledger, {"files": Files(home.settings)}, home.settings, symbols, now)
    return home, taken.seconds


def deepened_home(folder: Path, loaded: Home, symbols: Sequence[str], last: date) -> Home:
    """A home as of the load, with ``MORE`` times the history: the same bars on earlier sessions, prices joined up.

    A symbol that was listed late has no more than it had.
    """
    home = Home(loaded.settings.model_copy(update={"home": folder / "deep", "history_start": date(1960, 1, 1)}))
    home.follow(symbols, evening(last))
    bars = loaded.lake.read("bars", until=evening(last))
    own = calendars.sessions(CALENDAR, bars["timestamp"].dt.date().min(), last)  # type: ignore[arg-type]
    begin = date(own[0].year - MORE * (own[-1].year - own[0].year + 1), 1, 1)
    before = calendars.sessions(CALENDAR, begin, own[0]).head(-1)
    joined = (pl.col("open").first() / pl.col("close").last()).over("symbol")
    parts = [bars]
    old = bars.filter(pl.col("timestamp").min().over("symbol").dt.date() == own[0])
    for times in range(1, MORE):
        start = len(before) - times * len(own)
        days = pl.DataFrame({"day": own, "earlier": before.slice(start, len(own))})
        factor = joined**times
        parts.append(
            old.with_columns(*(pl.col(name) * factor for name in OHLC), day=pl.col("timestamp").dt.date())
            .join(days, on="day", how="inner")
            .with_columns(timestamp=pl.col("earlier").cast(TIME), listing=pl.lit(before[start]))
            .select(bars.columns)
        )
    first_listing = pl.col("listing").min().over("symbol")
    home.hold(pl.concat(parts).with_columns(listing=first_listing))
    return home


def evening(day: date) -> datetime:
    """When the bars of a session are final."""
    return datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)


def peak_gib() -> float | None:
    """The most memory this process held, where the system tells: getrusage would count the parent's in."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 2**20, 3)


def minute_bars(symbol: str, rows: int, more: int) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """A random walk on the minutes of so many sessions, at least ``rows`` bars, and ``more`` sessions after it."""
    random = np.random.default_rng(11)
    end = MINUTES_FROM + timedelta(days=round(rows / 390 * 1.6) + 3 * more + 10)
    bounds = calendars.session_bounds(CALENDAR, MINUTES_FROM, end)
    minutes = bounds.select("session", at=pl.datetime_ranges("opens", "closes", "1m", closed="left")).explode("at")
    held = minutes["session"].unique().sort()
    enough = minutes["session"][rows - 1]
    after = held.filter(held > enough).head(more)
    minutes = minutes.filter(pl.col("session") <= after[-1])
    count = minutes.height
    close = 100 * np.exp(np.cumsum(random.standard_t(4, count) * 0.0003))
    opened = np.concatenate([close[:1], close[:-1]]) * np.exp(random.normal(0, 0.0001, count))
    beyond = np.exp(np.abs(random.normal(0, 0.0002, (2, count))))
    highest, lowest = np.maximum(opened, close) * beyond[0], np.minimum(opened, close) / beyond[1]
    prices = dict(zip(OHLC, (opened, highest, lowest, close), strict=True))
    bars = pl.DataFrame(prices).with_columns(
        symbol=pl.lit(symbol),
        timestamp=minutes["at"].cast(TIME),
        volume=pl.Series(np.rint(1e4 * np.exp(random.normal(0, 0.6, count)))),
        listing=pl.lit(MINUTES_FROM),
        flags=pl.lit(None, pl.String),
        fetched_at=pl.lit(evening(end), TIME),
    )
    past = bars.filter(minutes["session"] <= enough)
    return past, [bars.filter(minutes["session"] == session) for session in after]

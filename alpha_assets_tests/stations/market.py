"""A hand-written source for tests of the stations: a simulated market, soiled on purpose, that misbehaves by a switch.

It knows what the vendor says on which day. A row has ``said_from`` and, where the vendor takes it back,
``said_until``; so a restatement is two rows of one key, and a bar that comes late is a row said later than its day.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.quant.parameters import LearningParameters, SimulationParameters
from alpha_assets.quant.schema import ACTIONS, OHLC, RAW_BARS, TIME
from alpha_assets.quant.simulate import default_symbols, simulate
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, SourceUnavailable
from alpha_assets.stations.base import Report
from alpha_assets.stations.ingest import ingest
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.homes import make_tables

#: Long after the session's close, so that its bar is final, and before the next one opens.
EVENING = time(23, 30)

#: Of the writes of a run, at which ones it is killed: a third of them in passing, each in the slow suite.
EVERY = (3, pytest.param(1, marks=pytest.mark.slow))

Line = dict[str, Any]


@dataclass
class Behaviour:
    """What the source does beside answering; a test changes it between two runs."""

    down: bool = False
    failing: dict[str, Cause] = field(default_factory=dict)
    forgotten: set[tuple[str, date]] = field(default_factory=set)
    #: Symbols whose answer holds a row that no calendar reaches.
    monstrous: set[str] = field(default_factory=set)
    #: Causes by which whole histories fail while overlaps are answered.
    failing_whole: dict[str, Cause] = field(default_factory=dict)


class Market:
    """A source whose ``now`` decides what it says; it keeps a list of what it was asked."""

    name = "market"

    def __init__(self, bars: pl.DataFrame, actions: pl.DataFrame) -> None:
        self.bars = _timed(bars, pl.col("timestamp").dt.date())
        self.actions = _timed(actions, pl.col("ex_date"))
        self.behaviour = Behaviour()
        self.asked: list[dict[str, datetime | None]] = []

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:
        self.asked.append({symbol: since[symbol] for symbol in symbols})
        if self.behaviour.down:
            raise SourceUnavailable("the market cannot be reached: wait, or take ALPHA_SOURCE=files")
        whole = {symbol: cause for symbol, cause in self.behaviour.failing_whole.items() if not since.get(symbol)}
        causes = {symbol: cause for symbol, cause in (self.behaviour.failing | whole).items() if symbol in symbols}
        wanted = pl.DataFrame(
            {"symbol": list(symbols), "since": [since[symbol] for symbol in symbols]},
            schema={"symbol": pl.String, "since": TIME},
        ).filter(~pl.col("symbol").is_in(list(causes)))
        bars = self._said(self.bars, now).join(wanted, on="symbol", maintain_order="left")
        actions = self._said(self.actions, now).join(wanted, on="symbol", maintain_order="left")
        begun = (pl.col("timestamp") >= pl.col("since")).fill_null(True)
        forgotten = pl.struct("symbol", day=pl.col("timestamp").dt.date()).is_in(self._forgotten())
        said = bars.filter(begun & ~forgotten).select(RAW_BARS.keys())
        return Fetched(
            pl.concat([said, *(_monster(symbol) for symbol in wanted["symbol"] if symbol in self.behaviour.monstrous)]),
            actions.filter((pl.col("ex_date") >= pl.col("since").dt.date()).fill_null(True)).select(ACTIONS.keys()),
            {symbol: Failure(symbol, cause, f"{symbol}: {cause}, says the market") for symbol, cause in causes.items()},
        )

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:
        newest = self._said(self.bars, now).group_by("symbol").agg(pl.col("timestamp").max())
        return dict.fromkeys(symbols) | dict(newest.filter(pl.col("symbol").is_in(list(symbols))).iter_rows())

    def sessions(self) -> list[date]:
        """Every day on which it has said anything new of a bar of that day."""
        days = self.bars.filter(pl.col("timestamp").dt.date() == pl.col("said_from"))
        return days["said_from"].unique().sort().to_list()

    def change(self, symbol: str, day: date, how: Callable[[Line], Line], said_from: date | None = None) -> None:
        """Say ``how(row)`` of a bar instead; from ``said_from`` on, or as if it had never been said otherwise."""
        here = (pl.col("symbol") == symbol) & (pl.col("timestamp").dt.date() == day) & pl.col("said_until").is_null()
        row = self.bars.filter(here).row(0, named=True)
        if said_from is None:
            self.bars = self.bars.filter(~here.fill_null(False))
        else:
            until = pl.when(here).then(pl.lit(said_from)).otherwise("said_until")
            self.bars = self.bars.with_columns(said_until=until)
            row["said_from"] = said_from
        self.add(how(row))

    def add(self, *rows: Line) -> None:
        """Say these rows too: columns of the raw bars and ``said_from``."""
        more = pl.DataFrame([{"said_until": None, **row} for row in rows], schema=self.bars.schema)
        self.bars = pl.concat([self.bars, more])

    def act(
        self,
        symbol: str,
        day: date,
        kind: str,
        value: float,
        said_from: date | None = None,
        said_until: date | None = None,
    ) -> None:
        """Say a corporate action, from its ex-date or another day on; on ``said_until`` it is taken back."""
        row = {"symbol": symbol, "ex_date": day, "kind": kind, "value": value}
        said = {"said_from": said_from or day, "said_until": said_until}
        self.actions = pl.concat([self.actions, pl.DataFrame([row | said], self.actions.schema)])

    def _said(self, rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
        taken_back = (pl.col("said_until") <= now.date()).fill_null(False)
        return rows.filter((pl.col("said_from") <= now.date()) & ~taken_back)

    def _forgotten(self) -> pl.Series:
        names, days = zip(*self.behaviour.forgotten, strict=True) if self.behaviour.forgotten else ((), ())
        frame = pl.DataFrame({"symbol": names, "day": days}, schema={"symbol": pl.String, "day": pl.Date})
        return frame.to_struct("forgotten").implode()


def _timed(rows: pl.DataFrame, said_from: pl.Expr) -> pl.DataFrame:
    return rows.with_columns(said_from=said_from, said_until=pl.lit(None, pl.Date))


def _monster(symbol: str) -> pl.DataFrame:
    row = {"symbol": symbol, "timestamp": datetime(1850, 1, 1, tzinfo=UTC), "volume": 1.0}
    return pl.DataFrame([row | dict.fromkeys(OHLC, 1.0)], schema=dict(RAW_BARS))


def simulated(symbols: int, first: date, last: date, seed: int = 7, **parameters: float) -> Market:
    """A clean market of New York, splits and dividends included."""
    return Market(*_drawn(symbols, first, last, seed=seed, **parameters))


@cache
def _drawn(symbols: int, first: date, last: date, **parameters: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and actions; many tests begin with the same."""
    chosen = SimulationParameters(
        **{
            "symbols": symbols,
            "first": first,
            "late_share": 0.0,
            "delisted_share": 0.0,
            "split_rate": 1.0,
            "dividend_share": 1.0,
            **parameters,
        }  # type: ignore[arg-type]
    )
    market = simulate(chosen, symbols=default_symbols(symbols), first=first, last=last)
    return market.bars, market.actions


# --- What can be wrong with a row, by the rule that takes it


def _scaled(factor: float) -> Callable[[Line], Line]:
    return lambda row: row | {name: row[name] * factor for name in OHLC}


def soil(market: Market, symbol: str, day: date, rule: str) -> None:
    """Make the bar of ``symbol`` and ``day`` wrong in the way that ``rule`` is about.

    Beside the cleaning rules: ``missing``, a session of which nothing is ever said; ``late``, a bar said two sessions
    after its own; ``restated``, a bar said otherwise two sessions later.
    """
    days = market.sessions()
    place = days.index(day)
    later = days[min(place + 2, len(days) - 1)]
    here = (pl.col("symbol") == symbol) & (pl.col("timestamp").dt.date() == day)
    row = market.bars.filter(here).row(0, named=True)
    single: dict[str, Callable[[Line], Line]] = {
        "null_price": lambda line: line | {"open": None},
        "nonpositive_price": lambda line: line | {"close": 0.0},
        "ohlc_inconsistent": lambda line: line | {"high": line["low"] * 0.9},
        "range_widened": lambda line: line | {"open": line["high"] * 1.005},
        "volume_unknown": lambda line: line | {"volume": -5.0},
        "unit_slip": _scaled(100.0),
        "level_error": _scaled(3.0),  # flagged as a split-sized jump until the next bar shows it to be an error
    }
    extra: dict[str, Line] = {
        "duplicate_identical": row,
        "duplicate_conflicting": _scaled(1.01)(row) | {"volume": row["volume"] / 2},
        "off_grid": row | {"timestamp": row["timestamp"] + timedelta(hours=15, minutes=7)},
        "not_final": row | {"timestamp": row["timestamp"] + timedelta(days=3650)},
        "closed_day": row | {"timestamp": row["timestamp"] + timedelta(days=(5 - row["timestamp"].weekday()) % 7)},
        "null_key": row | {"timestamp": None},
    }
    if rule in single:
        market.change(symbol, day, single[rule])
    elif rule in extra:
        market.add(extra[rule])
    elif rule == "copy_of_next":
        tomorrow = pl.col("timestamp").dt.date() > day
        after = market.bars.filter(tomorrow, pl.col("symbol") == symbol).sort("timestamp")
        if after.height:
            copied = {name: after[name][0] for name in (*OHLC, "volume")}
            market.change(symbol, day, lambda line: line | copied)
    elif rule == "stale":
        before = market.bars.filter(pl.col("timestamp").dt.date() < day, pl.col("symbol") == symbol).sort("timestamp")
        close = before["close"][-1]
        market.change(symbol, day, lambda line: line | dict.fromkeys(OHLC, close) | {"volume": 0.0})
    elif rule == "split_sized_jump":
        after = (pl.col("symbol") == symbol) & (pl.col("timestamp").dt.date() >= day)
        market.bars = market.bars.with_columns(pl.when(after).then(pl.col(OHLC) / 3).otherwise(pl.col(OHLC)))
    elif rule == "missing":
        market.bars = market.bars.filter(~here.fill_null(False))
    elif rule == "late":
        said = pl.when(here).then(pl.lit(later)).otherwise("said_from")
        market.bars = market.bars.with_columns(said_from=said)
    elif rule == "restated":
        market.change(symbol, day, _scaled(1.003), said_from=later)
    else:
        raise ValueError(f"{rule} is nothing that can be wrong with a bar")


#: Everything ``soil`` can do.
DIRT = (
    *("null_price", "nonpositive_price", "ohlc_inconsistent", "range_widened", "volume_unknown", "unit_slip"),
    *("level_error", "duplicate_identical", "duplicate_conflicting", "off_grid", "not_final", "closed_day", "null_key"),
    *("copy_of_next", "stale", "split_sized_jump", "missing", "late", "restated"),
)


# --- A home whose universe is such a market


class House:
    """Stores in a folder of their own, and the market as their source."""

    def __init__(self, home: Path, market: Market, calendars: Mapping[str, str] | None = None, **knobs: Any) -> None:
        self.settings = Settings(home=home, source="simulated", _env_file=None, **knobs)  # type: ignore[call-arg]
        make_tables(self.settings)
        self.lake = Lake(self.settings)
        self.ledger = Ledger(self.settings)
        self.market = market
        self.symbols = sorted(market.bars["symbol"].unique())
        names = calendars or {}
        self.ledger.add_symbols(
            [
                {
                    "symbol": symbol,
                    "source": "market",
                    "calendar": names.get(symbol, "XNYS"),
                    "added_at": evening(date(2000, 1, 3)),
                }
                for symbol in self.symbols
            ]
        )

    def refresh(
        self, day: date, symbols: Iterable[str] | None = None, at: time = EVENING, full: bool = False
    ) -> Report:
        """One run of the station on the evening of ``day``; its report accounts for every row read."""
        chosen = self.symbols if symbols is None else list(symbols)
        report = ingest(
            self.lake, self.ledger, {"market": self.market}, self.settings, chosen, evening(day, at), full=full
        )
        totals = report.totals
        assert totals["rows_read"] == totals["kept"] + totals["repaired"] + totals["dropped"]
        assert sum(rule["dropped"] for rule in totals["by_rule"].values()) == totals["dropped"]
        assert set(report.partitions) == set(chosen)
        return report

    def tables(self) -> dict[str, pl.DataFrame]:
        """Everything that is stored, the clocks aside."""
        found = pl.DataFrame(
            [(row["rule"], row["symbol"], row["day"]) for row in self.ledger.findings()],
            schema={"rule": pl.String, "symbol": pl.String, "day": pl.Date},
            orient="row",
        )
        names = ("symbol", "bars", "first_bar", "last_bar", "quarantine_cause", "attempts", "rewriting")
        states = [{name: row[name] for name in names} for row in self.ledger.states().values()]
        return {
            "bars": self.lake.read("bars").drop("fetched_at"),
            "actions": self.lake.read("actions").drop("first_seen_at"),
            "cleaning": self.lake.read("cleaning").drop("fetched_at"),
            "findings": found,
            "states": pl.DataFrame(states, infer_schema_length=None).sort("symbol"),
        }


def evening(day: date, at: time = EVENING) -> datetime:
    """An instant of ``day``, after the session's close unless told otherwise."""
    return datetime.combine(day, at, UTC)


#: Heads that fit in milliseconds.
QUICK = LearningParameters(
    heads=("gb_direction", "ridge"), rounds=5, folds=2, min_rows=200, min_labels=50, min_leaf_rows=20
)

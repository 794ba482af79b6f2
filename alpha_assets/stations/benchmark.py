"""The benchmark beside the bars: its log return from one bar of a symbol to the next, as known when the bar was."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.indicators import market_column
from alpha_assets.quant.schema import TIME
from alpha_assets.settings import Settings
from alpha_assets.stations.series import adjusted_bars, with_known_at
from alpha_assets.stores.lake import Lake


@dataclass(frozen=True)
class Benchmark:
    """The benchmark's closes by the time they were known, or nothing; ``held`` says why they cannot be told."""

    column: str
    closes: pl.DataFrame | None
    until: datetime | None
    settings: Settings
    names: Mapping[str, str]
    held: str | None = None

    @classmethod
    def of(
        cls,
        name: str | None,
        lake: Lake,
        settings: Settings,
        names: Mapping[str, str],
        first: datetime | None,
        as_of: datetime | None = None,
    ) -> "Benchmark":
        """The benchmark of this name beside bars from ``first`` on; none where it has no bars or nobody asks for one.

        What was known before ``first`` may be older than that, but not by more than the gap that cuts a listing. With
        ``as_of`` nothing is seen that became known later.
        """
        column = market_column(name)
        if name is None or name not in names:
            return cls(column, None, None, settings, names)
        last = None if first is None else lake.last_times("bars", [name]).get(name)
        days = timedelta(days=2 * settings.cleaning.listing_gap_sessions + 10)
        since = None if first is None or last is None else min(first, last) - days
        bars, held = adjusted_bars(lake, settings, names, [name], {name: since})
        if bars.is_empty():
            return cls(column, None, None, settings, names, held.get(name))
        closes = with_known_at(bars, settings, names).select("known_at", of="close", in_listing="listing")
        if as_of is not None:
            closes = closes.filter(pl.col("known_at") <= as_of)
        until = _next_known(bars["timestamp"][-1], names[name], settings)
        return cls(column, closes.sort("known_at"), until, settings, names)

    def beside(self, bars: pl.DataFrame) -> pl.DataFrame:
        """The bars, sorted by symbol and time, with the benchmark's return.

        Those that became known when its next bar should have been are left out.

        Null without a benchmark, before its first bar and across a cut of it. A benchmark that did not trade between
        two bars returned 0.
        """
        if self.closes is None:
            return bars.with_columns(pl.lit(None, pl.Float64).alias(self.column))
        known = with_known_at(bars, self.settings, self.names)
        # A market has few instants: joined first, they spare two sorts of all bars.
        instants = known.select(pl.col("known_at").unique().sort()).join_asof(self.closes, on="known_at")
        joined = known.join(instants, on="known_at", how="left", maintain_order="left")
        same = pl.all_horizontal(
            pl.col(name).eq_missing(pl.col(name).shift(1)) for name in ("symbol", "listing", "in_listing")
        )
        change = (pl.col("of") / pl.col("of").shift(1)).log()
        return (
            joined.with_columns(pl.when(same).then(change).alias(self.column))
            .filter(pl.col("known_at") < self.until)
            .select(*bars.columns, self.column)
        )


def _next_known(last: datetime, calendar: str, settings: Settings) -> datetime:
    """When the bar after the benchmark's newest one is final, as its calendar has it."""
    stamps = pl.Series("timestamp", [last], dtype=TIME)
    session = calendars.session_of(calendar, stamps)[0] or last.date()
    sessions = calendars.session_bounds(calendar, session, session + timedelta(days=40))
    if settings.interval == "1d":
        following = sessions.filter(pl.col("session") > session)["closes"][0]
        return following + settings.final_lag
    bar = pl.DataFrame({"symbol": "benchmark", "timestamp": stamps})
    end = calendars.bar_ends(bar, settings.interval, {"benchmark": calendar})[0]
    within = sessions.filter(pl.col("closes") > end)
    start = max(end, within["opens"][0])
    after = pl.DataFrame({"symbol": "benchmark", "timestamp": pl.Series([start], dtype=TIME)})
    return calendars.bar_ends(after, settings.interval, {"benchmark": calendar})[0] + settings.final_lag

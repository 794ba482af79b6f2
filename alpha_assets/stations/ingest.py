"""First station: what the sources have and the lake lacks, cleaned, written, and every row accounted for.

The order of writes is what makes a kill harmless. Features are marked for a rebuild before anything that could change
their past is written; actions and the cleaning log go before the bars, because the bars decide what the next run asks
for; hints in the ledger go last. Whatever is cut off is asked for again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.bars import RULES, Cleaned, clean, compare, context_sessions
from alpha_assets.quant.schema import BARS, TIME
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, Source, SourceUnavailable
from alpha_assets.stations.base import Progress, Report, StationFailed, merged, silent, some_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: At least this many failures, and more than this share, for causes that can heal: the step fails, to be tried again.
MANY_FAILURES = 5
MANY_FAILURES_SHARE = 0.2

#: Pause before a quarantined symbol is worth another automatic try; doubles with each attempt up to the longest.
FIRST_PAUSE = timedelta(minutes=15)
LONGEST_PAUSE = timedelta(days=1)

#: Findings of this station beside those of the cleaning rules: sessions without a bar, and where a listing begins.
MISSING_SESSION = "missing_session"
LISTING_BEGINS = "listing_begins"

FINDING_RULES = [*RULES, MISSING_SESSION, LISTING_BEGINS]

#: A bar that is not over yet is dropped and counted, but it is nobody's error.
NOT_FINAL = "not_final"

STORED_BARS = [*BARS, "fetched_at"]

#: What a symbol's state says once it has been read without trouble.
HEALTHY = {"quarantine_cause": None, "quarantine_reason": None, "quarantined_at": None, "attempts": 0, "next_try": None}

#: An action's value this much off the stored one, relatively, is another value and not the vendor's rounding.
ACTION_TOLERANCE = 1e-4


class NothingIngested(StationFailed):
    """Every symbol of the run failed."""


class TooManyFailed(StationFailed):
    """The good symbols are stored, but so many others failed for causes that can heal that it must be tried again."""


def ingest(
    lake: Lake,
    ledger: Ledger,
    sources: Mapping[str, Source],
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    full: bool = False,
    progress: Progress = silent,
) -> Report:
    """Bring bars and actions of ``symbols`` up to date; ``full`` reads their whole history again.

    The report's totals are symbols, rows_read, kept, repaired, dropped, flagged, by_rule, new, restated, quarantined,
    seconds. Rows read as mere context of a verdict are not counted. Raises NothingIngested or
    TooManyFailed after everything that could be stored is stored.
    """
    return _Ingest(lake, ledger, sources, settings, now).run(symbols, full, progress)


@dataclass(frozen=True)
class _Plan:
    """What to ask of one source, and what the lake holds from there on."""

    calendars: dict[str, str]
    since: dict[str, datetime | None]
    judged_from: dict[str, datetime]
    stored: pl.DataFrame

    def of(self, symbols: Sequence[str], stored: pl.DataFrame) -> "_Plan":
        """The same for fewer symbols, from their first bar on."""
        return _Plan({symbol: self.calendars[symbol] for symbol in symbols}, dict.fromkeys(symbols), {}, stored)

    @property
    def carried(self) -> dict[str, tuple[datetime, date]]:
        """Of each symbol, the stored bar before the judged rows and its listing."""
        rows = self._before().group_by("symbol").agg(pl.col("timestamp", "listing").sort_by("timestamp").last())
        return {
            symbol: (at, listing) for symbol, at, listing in rows.select("symbol", "timestamp", "listing").iter_rows()
        }

    @property
    def judged(self) -> pl.DataFrame:
        """The stored bars that the fetched ones are compared with."""
        return (
            self.stored.join(self._starts(), on="symbol", how="left")
            .filter((pl.col("timestamp") >= pl.col("judged_from")).fill_null(True))
            .drop("judged_from")
        )

    def _before(self) -> pl.DataFrame:
        return self.stored.join(self._starts(), on="symbol").filter(pl.col("timestamp") < pl.col("judged_from"))

    def _starts(self) -> pl.DataFrame:
        return pl.DataFrame(
            {"symbol": list(self.judged_from), "judged_from": list(self.judged_from.values())},
            schema={"symbol": pl.String, "judged_from": TIME},
        )


class _Ingest:
    def __init__(
        self, lake: Lake, ledger: Ledger, sources: Mapping[str, Source], settings: Settings, now: datetime
    ) -> None:
        self._lake = lake
        self._ledger = ledger
        self._sources = sources
        self._settings = settings
        self._now = now
        self._report = Report()
        self._counts: dict[str, Any] = {}
        self._failures: dict[str, Failure] = {}
        self._unavailable: SourceUnavailable | None = None
        self._new = 0
        self._restated_rows = 0

    def run(self, symbols: Sequence[str], full: bool, progress: Progress) -> Report:
        started = time.perf_counter()
        members = {row["symbol"]: row for row in self._ledger.universe(retired=True)}
        states = self._states(symbols)
        done = 0
        for source, group in _by_source(symbols, members).items():
            progress(f"fetching from {source}", done, len(symbols))
            self._refresh(self._sources[source], self._plan(group, members, states, full), states, full)
            done += len(group)
        self._note_failures(states)
        self._total(symbols, time.perf_counter() - started)
        progress("stored", len(symbols), len(symbols))
        self._raise_where_too_little(symbols)
        return self._report

    # -- what to ask for ------------------------------------------------------------------------------------------

    def _states(self, symbols: Sequence[str]) -> dict[str, Row]:
        """The ledger's hints; where one is missing the lake is asked, because a kill may have come in between."""
        states = self._ledger.states()
        unknown = [symbol for symbol in symbols if states.get(symbol, {}).get("last_bar") is None]
        if not unknown or self._lake.version("bars") is None:
            return states
        for row in self._lake.last_rows("bars", unknown).iter_rows(named=True):
            hint = {"first_bar": row["first"], "last_bar": row["last"], "bars": row["rows"]}
            states[row["symbol"]] = {**states.get(row["symbol"], {}), **hint}
        return states

    def _plan(self, symbols: list[str], members: Mapping[str, Row], states: Mapping[str, Row], full: bool) -> _Plan:
        names = {symbol: members[symbol]["calendar"] for symbol in symbols}
        last = {symbol: states.get(symbol, {}).get("last_bar") for symbol in symbols}
        held = [symbol for symbol in symbols if last[symbol] is not None]
        if full or not held:
            stored = self._lake.read("bars", symbols=held, columns=STORED_BARS)
            return _Plan(names, dict.fromkeys(symbols), {}, stored)
        spans = {key: self._span(*key) for key in {(names[symbol], last[symbol]) for symbol in held}}
        since: dict[str, datetime | None] = dict.fromkeys(symbols)
        judged_from = {}
        for symbol in held:
            since[symbol], judged_from[symbol] = spans[names[symbol], last[symbol]]
        known = {symbol: at for symbol, at in since.items() if at is not None}
        return _Plan(names, since, judged_from, self._lake.read("bars", symbols=held, since=known, columns=STORED_BARS))

    def _span(self, calendar: str, last: datetime) -> tuple[datetime, datetime]:
        """From where to ask and from where to judge: the overlap, and before it what the verdicts look back on."""
        judged_from = calendars.sessions_back(calendar, last, self._settings.overlap_sessions)
        return calendars.sessions_back(calendar, judged_from, context_sessions(self._settings.interval)), judged_from

    # -- one source -----------------------------------------------------------------------------------------------

    def _refresh(self, source: Source, plan: _Plan, states: Mapping[str, Row], full: bool) -> None:
        fetched = self._fetch(source, plan)
        cleaned = self._clean(fetched, plan)
        self._counts = merged(self._counts, cleaned.counts)
        restated = self._restated(plan, cleaned)
        tail = _of(cleaned, set(plan.since) - set(restated))
        self._append(tail, _rows_of(fetched.actions, set(plan.since) - set(restated)), plan, states)
        if not restated:
            return
        if not full:
            plan = plan.of(restated, self._lake.read("bars", symbols=restated, columns=STORED_BARS))
            fetched = self._fetch(source, plan)
            cleaned = self._clean(fetched, plan)
            self._counts = merged(self._counts, cleaned.counts)
        restated = [symbol for symbol in restated if symbol not in self._failures]
        self._replace(_of(cleaned, set(restated)), _rows_of(fetched.actions, set(restated)), plan, states)

    def _fetch(self, source: Source, plan: _Plan) -> Fetched:
        try:
            fetched = source.fetch(list(plan.since), plan.since, self._now)
        except SourceUnavailable as error:
            self._unavailable = error
            fetched = Fetched(failures={symbol: Failure(symbol, Cause.OUTAGE, str(error)) for symbol in plan.since})
        self._failures |= fetched.failures
        return fetched

    def _clean(self, fetched: Fetched, plan: _Plan) -> Cleaned:
        return clean(
            fetched.bars,
            fetched.actions,
            interval=self._settings.interval,
            calendars=plan.calendars,
            parameters=self._settings.cleaning,
            now=self._now,
            lag=self._settings.final_lag,
            listing_cuts=self._settings.listing_cuts,
            carried=plan.carried,
            judged_from=plan.judged_from,
        )

    def _restated(self, plan: _Plan, cleaned: Cleaned) -> list[str]:
        """Symbols whose overlap is no longer what is stored, or of whose stored bars a rule now drops one."""
        judged = plan.judged
        dropped = cleaned.log.filter(pl.col("action") == "dropped")
        vanished = (
            judged.join(dropped, on=["symbol", "timestamp"], how="semi")
            .join(cleaned.bars, on=["symbol", "timestamp"], how="anti")
            .get_column("symbol")
        )
        restated = {*compare(judged, cleaned.bars).restated, *vanished}
        return sorted(restated - set(self._failures))

    # -- writing --------------------------------------------------------------------------------------------------

    def _append(self, cleaned: Cleaned, actions: pl.DataFrame, plan: _Plan, states: Mapping[str, Row]) -> None:
        late = self._store_actions(actions, states)
        self._store_log(cleaned)
        new = cleaned.bars.join(plan.stored, on=["symbol", "timestamp"], how="anti")
        if new.height:
            self._lake.append("bars", new.with_columns(fetched_at=pl.lit(self._now, TIME)))
        self._note_stored(cleaned, new, plan, states, late)

    def _replace(self, cleaned: Cleaned, actions: pl.DataFrame, plan: _Plan, states: Mapping[str, Row]) -> None:
        """Put the re-read history in place; a stored bar that the source no longer has stays, unless a rule drops it."""
        symbols = cleaned.bars["symbol"].unique(maintain_order=True).to_list()
        if not symbols:
            return
        self._ledger.note_state([{"symbol": symbol, "rebuild_features": True} for symbol in symbols])
        late = self._store_actions(actions, states)
        self._store_log(cleaned)
        key = ["symbol", "timestamp"]
        stored = _rows_of(plan.stored, set(symbols))
        known = stored.select(*BARS, "fetched_at")
        read = cleaned.bars.join(known, on=list(BARS), how="left", nulls_equal=True).with_columns(
            pl.col("fetched_at").fill_null(pl.lit(self._now, TIME))
        )
        kept = stored.join(read, on=key, how="anti").join(cleaned.log, on=key, how="anti")
        together = pl.concat([kept.select(read.columns), read]).sort(key)
        changed = together.join(known, on=list(BARS), how="anti", nulls_equal=True)
        if changed.height or together.height != stored.height:
            self._lake.replace("bars", together, symbols)
        new = together.join(stored, on=key, how="anti")
        self._note_stored(cleaned, new, plan, states, late, restated=_counted(changed.join(stored, on=key, how="semi")))

    def _store_actions(self, actions: pl.DataFrame, states: Mapping[str, Row]) -> set[str]:
        """Record actions not yet stored or stored otherwise; returns the symbols that learnt of one late.

        Late is an action whose ex-date lies in the series already stored: it changes what features said.
        """
        if actions.is_empty():
            return set()
        key = ["symbol", "ex_date", "kind"]
        symbols = actions["symbol"].unique().to_list()
        stored = self._lake.read("actions", symbols=symbols)
        beside = actions.unique(key, keep="last", maintain_order=True).join(
            stored.select(*key, pl.col("value").alias("stored")), on=key, how="left"
        )
        off = ((pl.col("value") - pl.col("stored")).abs() > ACTION_TOLERANCE * pl.col("stored").abs()).fill_null(True)
        news = beside.filter(off).drop("stored").with_columns(first_seen_at=pl.lit(self._now, TIME))
        if news.is_empty():
            return set()
        late = {
            symbol
            for symbol, ex_date in news.select("symbol", "ex_date").iter_rows()
            if (last := states.get(symbol, {}).get("last_bar")) is not None and ex_date <= last.date()
        }
        if late:
            self._ledger.note_state([{"symbol": symbol, "rebuild_features": True} for symbol in sorted(late)])
        corrected = news.join(stored, on=key, how="semi")["symbol"].unique().to_list()
        fresh = news.filter(~pl.col("symbol").is_in(corrected))
        if fresh.height:
            self._lake.append("actions", fresh)
        if corrected:
            untouched = _rows_of(stored, set(corrected)).join(news, on=key, how="anti")
            together = pl.concat([untouched.select(news.columns), _rows_of(news, set(corrected))])
            self._lake.replace("actions", together.sort(key), corrected)
        return late

    def _store_log(self, cleaned: Cleaned) -> None:
        """What cleaning did, beside what the source had said; a bar that is not final yet is no finding."""
        log = cleaned.log.filter(pl.col("rule") != NOT_FINAL, pl.col("timestamp").is_not_null())
        log = log.unique(["symbol", "timestamp", "rule"], keep="first", maintain_order=True)
        if log.height:
            self._lake.append("cleaning", log.with_columns(fetched_at=pl.lit(self._now, TIME)))

    def _note_stored(
        self,
        cleaned: Cleaned,
        new: pl.DataFrame,
        plan: _Plan,
        states: Mapping[str, Row],
        late: set[str],
        restated: Mapping[str, int] | None = None,
    ) -> None:
        restated = restated or {}
        symbols = cleaned.bars["symbol"].unique(maintain_order=True).to_list()
        hints = self._hints(symbols, new, plan, states, restated)
        self._ledger.note_state([{**hint, **HEALTHY} for hint in hints.values()])
        self._ledger.note_findings(
            {symbol: _day(plan.judged_from.get(symbol)) for symbol in symbols},
            FINDING_RULES,
            self._findings(cleaned, plan),
        )
        added, touched = _counted(new), _touched(cleaned.log)
        for symbol in symbols:
            state = "restated" if symbol in restated else "updated" if symbol in added else "unchanged"
            self._report.say(
                symbol,
                state,
                new=added.get(symbol, 0),
                restated=restated.get(symbol),
                late_actions=True if symbol in late else None,
                bars=hints[symbol]["bars"],
                last_bar=str(hints[symbol]["last_bar"]),
                **touched.get(symbol, {}),
            )
        self._new += new.height
        self._restated_rows += sum(restated.values())

    def _hints(
        self,
        symbols: Sequence[str],
        new: pl.DataFrame,
        plan: _Plan,
        states: Mapping[str, Row],
        restated: Mapping[str, int],
    ) -> dict[str, Row]:
        """How each series stands now; counted anew where the hint had fallen behind the lake."""
        spans = _spans(new)
        ahead = _spans(plan.stored)
        hints = {}
        behind = []
        for symbol in symbols:
            state = states.get(symbol, {})
            last = state.get("last_bar")
            lags = last is None or (symbol in ahead and ahead[symbol][1] > last)
            if symbol in restated or (lags and symbol in ahead):
                behind.append(symbol)
                continue
            first, newest, rows = spans.get(symbol, (last, last, 0))
            hints[symbol] = {
                "symbol": symbol,
                "first_bar": state.get("first_bar") or first,
                "last_bar": max(newest, last) if last else newest,
                "bars": (state.get("bars") or 0) + rows,
            }
        if behind:
            for row in self._lake.last_rows("bars", behind).iter_rows(named=True):
                hints[row["symbol"]] = {
                    "symbol": row["symbol"],
                    "first_bar": row["first"],
                    "last_bar": row["last"],
                    "bars": row["rows"],
                }
        return hints

    def _findings(self, cleaned: Cleaned, plan: _Plan) -> list[Row]:
        interval = self._settings.interval
        found = pl.concat(
            [
                cleaned.log.filter(pl.col("rule") != NOT_FINAL).select(
                    "symbol", "rule", day=pl.col("timestamp").dt.date()
                ),
                _listings_begun(cleaned.bars, plan),
                missing_sessions(cleaned, plan.calendars, plan.carried, interval),
            ]
        )
        return found.drop_nulls().unique().with_columns(seen_at=pl.lit(self._now, TIME)).to_dicts()

    # -- what to say ----------------------------------------------------------------------------------------------

    def _note_failures(self, states: Mapping[str, Row]) -> None:
        rows = []
        for symbol, failure in self._failures.items():
            attempts = (states.get(symbol, {}).get("attempts") or 0) + 1
            pause = min(FIRST_PAUSE * 2 ** min(attempts - 1, 10), LONGEST_PAUSE)
            rows.append(
                {
                    "symbol": symbol,
                    "quarantine_cause": str(failure.cause),
                    "quarantine_reason": failure.message,
                    "quarantined_at": states.get(symbol, {}).get("quarantined_at") or self._now,
                    "attempts": attempts,
                    "next_try": self._now + pause,
                }
            )
            self._report.say(symbol, "quarantined", cause=str(failure.cause), reason=failure.message)
        self._ledger.note_state(rows)

    def _total(self, symbols: Sequence[str], seconds: float) -> None:
        # A symbol about which the source had nothing to add was heard all the same: it is healthy.
        silent_ones = [symbol for symbol in symbols if symbol not in self._report.partitions]
        self._ledger.note_state([{"symbol": symbol, **HEALTHY} for symbol in silent_ones])
        for symbol in silent_ones:
            self._report.say(symbol, "unchanged", new=0)
        counted = ("rows_read", "kept", "repaired", "dropped", "flagged")
        self._report.totals = {
            "symbols": len(symbols),
            **{name: self._counts.get(name, 0) for name in counted},
            "by_rule": self._counts.get("by_rule", {}),
            "new": self._new,
            "restated": self._restated_rows,
            "quarantined": len(self._failures),
            "seconds": round(seconds, 3),
        }

    def _raise_where_too_little(self, symbols: Sequence[str]) -> None:
        failures = list(self._failures.values())
        if not failures:
            return
        if len(failures) == len(symbols):
            if self._unavailable is not None:
                raise self._unavailable
            raise NothingIngested(_all_failed(failures))
        healing = [failure for failure in failures if failure.cause.can_heal]
        if len(healing) >= MANY_FAILURES and len(healing) > MANY_FAILURES_SHARE * len(symbols):
            raise TooManyFailed(
                f"{len(healing)} of {len(symbols)} symbols failed for causes that can heal "
                f"({some_of(f'{failure.symbol}: {failure.cause}' for failure in healing)}); the others are stored"
            )


def _by_source(symbols: Sequence[str], members: Mapping[str, Row]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for symbol in symbols:
        if symbol not in members:
            raise StationFailed(f"{symbol} is not in the universe: add it with «alpha-assets universe add {symbol}»")
        groups.setdefault(members[symbol]["source"], []).append(symbol)
    return groups


def missing_sessions(
    cleaned: Cleaned, names: Mapping[str, str], carried: Mapping[str, tuple[datetime, date]], interval: str
) -> pl.DataFrame:
    """Sessions of each symbol's calendar without a bar, inside each listing's span: symbol, rule, day.

    A session whose only bar cleaning dropped is a finding of that rule and not of this one.
    """
    held = cleaned.bars.select("symbol", "listing", day=_session_days(cleaned.bars, names, interval)).unique()
    before = pl.DataFrame(
        [(symbol, listing, at.date()) for symbol, (at, listing) in carried.items()], schema=held.schema, orient="row"
    )
    spans = (
        pl.concat([held, before]).group_by("symbol", "listing").agg(first=pl.col("day").min(), last=pl.col("day").max())
    )
    if spans.is_empty():
        return _no_findings()
    calendar_of = pl.DataFrame({"symbol": list(names), "calendar": list(names.values())})
    spans = spans.join(calendar_of, on="symbol")
    expected = pl.concat(
        [
            spans.filter(pl.col("calendar") == name).join(
                calendars.sessions(name, first, last).alias("day").to_frame(), how="cross"
            )
            for name, first, last in spans.group_by("calendar")
            .agg(pl.col("first").min(), pl.col("last").max())
            .iter_rows()
        ]
    ).filter(pl.col("day").is_between("first", "last"))
    judged = cleaned.log.select("symbol", day=pl.col("timestamp").dt.date())
    return (
        expected.join(pl.concat([held, before]), on=["symbol", "day"], how="anti")
        .join(judged, on=["symbol", "day"], how="anti")
        .select("symbol", rule=pl.lit(MISSING_SESSION), day="day")
    )


def _session_days(bars: pl.DataFrame, names: Mapping[str, str], interval: str) -> pl.Series:
    if interval == "1d":
        return bars["timestamp"].dt.date()
    days = [
        part.select(row=pl.col("row"), day=calendars.session_of(names[str(symbol)], part["timestamp"]))
        for (symbol,), part in bars.with_row_index("row").group_by("symbol")
    ]
    return pl.concat(days).sort("row")["day"] if days else pl.Series("day", [], pl.Date)


def _listings_begun(bars: pl.DataFrame, plan: _Plan) -> pl.DataFrame:
    """Where a listing begins that is not the symbol's first: a cut, named by its day."""
    continued = {(symbol, listing) for symbol, (_, listing) in plan.carried.items()}
    begun = bars.select("symbol", "listing").unique(maintain_order=True).sort("symbol", "listing")
    first_ever = {symbol for symbol in begun["symbol"] if symbol not in plan.carried}
    rows = []
    for symbol, listing in begun.iter_rows():
        if symbol in first_ever:
            first_ever.discard(symbol)
        elif (symbol, listing) not in continued:
            rows.append((symbol, LISTING_BEGINS, listing))
    return pl.DataFrame(rows, schema=_no_findings().schema, orient="row")


def _no_findings() -> pl.DataFrame:
    return pl.DataFrame(schema={"symbol": pl.String, "rule": pl.String, "day": pl.Date})


def _rows_of(frame: pl.DataFrame, symbols: set[str]) -> pl.DataFrame:
    return frame.filter(pl.col("symbol").is_in(list(symbols)))


def _of(cleaned: Cleaned, symbols: set[str]) -> Cleaned:
    return Cleaned(_rows_of(cleaned.bars, symbols), _rows_of(cleaned.log, symbols), {})


def _counted(frame: pl.DataFrame) -> dict[str, int]:
    return dict(frame.group_by("symbol").len().iter_rows())


def _spans(frame: pl.DataFrame) -> dict[str, tuple[datetime, datetime, int]]:
    ends = frame.group_by("symbol").agg(
        pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"), pl.len().alias("rows")
    )
    return {symbol: (first, last, rows) for symbol, first, last, rows in ends.iter_rows()}


def _touched(log: pl.DataFrame) -> dict[str, dict[str, int]]:
    touched: dict[str, dict[str, int]] = {}
    for symbol, action, rows in log.group_by("symbol", "action").len().iter_rows():
        touched.setdefault(symbol, {})[action] = rows
    return touched


def _day(at: datetime | None) -> date | None:
    return None if at is None else at.date()


def _all_failed(failures: Sequence[Failure]) -> str:
    if len(failures) == 1:
        return f"{failures[0].symbol}: {failures[0].message}"
    shown = some_of((f"{failure.symbol}: {failure.message}" for failure in failures), most=3)
    return f"all {len(failures)} symbols failed: {shown}"

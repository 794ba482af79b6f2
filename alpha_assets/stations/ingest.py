"""First station: what the sources have and the lake lacks, cleaned, written, and every row accounted for.

The order of writes is what makes a kill harmless. New bars go last but for the ledger's hints: actions, cleaning log
and findings are there before the bars that decide what the next run asks for, and whatever is cut off is asked for
again. A history that is rewritten is marked in the ledger before its first write and released after the last one; a run
that finds the mark reads that history whole and writes it again.

The mark has two parts. ``rewriting`` says that a rewrite is under way. ``rebuild_features`` is set before the rewrite,
for a kill, and once more after it, because features may have been built in between.

A source may reach back less far than the lake: some vendors give intraday bars of the last weeks only, a history start
is moved, a file is pruned. What lies before its answer stays as it is stored, and so do the answer's first rows, as far
as cleaning would look back past its beginning: a verdict without its context would overrule one that had it.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.bars import RULES, Cleaned, Difference, clean, compare, context_sessions, reach
from alpha_assets.quant.schema import ACTIONS, BARS, CLEANING, OHLCV, SPLIT, TIME, empty
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, Source, SourceUnavailable, by_source
from alpha_assets.stations.base import Progress, Report, StationFailed, merged, silent, some_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

logger = logging.getLogger(__name__)

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

BAR_KEY = ["symbol", "timestamp"]
ACTION_KEY = ["symbol", "ex_date", "kind"]

#: The rules whose verdict on a row waits for the next one: such a row was stored before it is dropped.
LATE_DROPS = [rule for rule, what in RULES.items() if what.lag == 1 and what.action == "dropped"]

#: What a symbol's state says once it has been read without trouble.
HEALTHY = {"quarantine_cause": None, "quarantine_reason": None, "quarantined_at": None, "attempts": 0, "next_try": None}

#: How a series stands of which no bar was ever sound.
NO_BARS: Row = {"first_bar": None, "last_bar": None, "bars": 0}

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
    """What to ask of one source, and what the lake holds from there on.

    ``since`` None asks for the whole history. What lies before ``judged_from`` is read as context: it has the symbols
    that are asked for a part, and once they have answered those whose source reaches back less far than the lake.
    """

    calendars: Mapping[str, str]
    since: Mapping[str, datetime | None]
    judged_from: Mapping[str, datetime]
    stored: pl.DataFrame

    @cached_property
    def starts(self) -> pl.DataFrame:
        """``judged_from`` as a frame."""
        return pl.DataFrame(
            {"symbol": list(self.judged_from), "judged_from": list(self.judged_from.values())},
            schema={"symbol": pl.String, "judged_from": TIME},
        )

    @cached_property
    def carried(self) -> dict[str, tuple[datetime, date]]:
        """Of each symbol, the stored bar before the judged rows and its listing."""
        before = self.stored.join(self.starts, on="symbol").filter(pl.col("timestamp") < pl.col("judged_from"))
        last = before.group_by("symbol").agg(pl.col("timestamp", "listing").sort_by("timestamp").last())
        return {symbol: (at, listing) for symbol, at, listing in last.iter_rows()}

    @cached_property
    def last_bars(self) -> dict[str, datetime]:
        """The newest stored bar of each symbol."""
        return dict(self.stored.group_by("symbol").agg(pl.col("timestamp").max()).iter_rows())


@dataclass(frozen=True)
class _Answer:
    """What a source said to a plan, cleaned and compared with what is stored.

    ``news`` are the actions that are not stored, or stored otherwise; ``withdrawn`` are those that are stored and that
    the source no longer says.
    """

    plan: _Plan
    cleaned: Cleaned
    news: pl.DataFrame
    withdrawn: pl.DataFrame
    difference: Difference

    def of(self, symbols: Iterable[str]) -> "_Answer":
        """The part of it about these symbols, the counts aside."""
        these = set(symbols)
        return _Answer(
            self.plan,
            Cleaned(_rows_of(self.cleaned.bars, these), _rows_of(self.cleaned.log, these), {}),
            _rows_of(self.news, these),
            _rows_of(self.withdrawn, these),
            Difference(_rows_of(self.difference.new, these), _rows_of(self.difference.moved, these)),
        )

    @cached_property
    def gone(self) -> pl.DataFrame:
        """Keys of the stored bars that their successors show to be errors."""
        wrong = self.cleaned.log.filter(pl.col("rule").is_in(LATE_DROPS)).select(BAR_KEY).unique()
        return self.plan.stored.select(BAR_KEY).join(wrong, on=BAR_KEY, how="semi")

    @cached_property
    def symbols(self) -> list[str]:
        """The symbols about which it says anything."""
        frames = (self.cleaned.bars, self.cleaned.log, self.news, self.withdrawn)
        return sorted({symbol for frame in frames for symbol in frame["symbol"].unique().drop_nulls()})

    @cached_property
    def late(self) -> pl.DataFrame:
        """The actions, new or withdrawn, of the series already stored: they change what was said of it."""
        changed = pl.concat([self.news, self.withdrawn])
        held = {symbol: self._session(symbol) for symbol in changed["symbol"].unique() if symbol in self.plan.last_bars}
        last = pl.DataFrame(
            {"symbol": list(held), "session": list(held.values())}, schema={"symbol": pl.String, "session": pl.Date}
        )
        return changed.join(last, on="symbol").filter(pl.col("ex_date") <= pl.col("session")).drop("session")

    @cached_property
    def rewritten(self) -> set[str]:
        """Symbols whose stored past is not what the source says: a bar moved, went or came in between, or a split did.

        A split learnt late leaves the bars as they were traded, but the jump it explains is no longer flagged; one that
        is withdrawn leaves a jump to be flagged.
        """
        last = pl.DataFrame(
            {"symbol": list(self.plan.last_bars), "last": list(self.plan.last_bars.values())},
            schema={"symbol": pl.String, "last": TIME},
        )
        between = self.difference.new.join(last, on="symbol").filter(pl.col("timestamp") < pl.col("last"))
        splits = self.late.filter(pl.col("kind") == SPLIT)
        return {symbol for frame in (self.difference.moved, self.gone, between, splits) for symbol in frame["symbol"]}

    @cached_property
    def held(self) -> pl.DataFrame:
        """Key and listing of every bar that is held once the answer is stored, from where the plan reads on."""
        columns = [*BAR_KEY, "listing"]
        said = pl.concat([self.difference.new, self.difference.moved]).select(columns)
        stored = _rows_of(self.plan.stored, set(self.symbols)).select(columns)
        return pl.concat([stored.join(said, on=BAR_KEY, how="anti").join(self.gone, on=BAR_KEY, how="anti"), said])

    def _session(self, symbol: str) -> date:
        return _session(self.plan.calendars[symbol], self.plan.last_bars[symbol])


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
        self._states: dict[str, Row] = {}
        self._spans: dict[tuple[str, datetime], tuple[datetime, datetime]] = {}
        self._counts: dict[str, Any] = {}
        self._failures: dict[str, Failure] = {}
        self._unavailable: SourceUnavailable | None = None
        self._new = 0
        self._restated = 0

    def run(self, symbols: Sequence[str], full: bool, progress: Progress) -> Report:
        started = time.perf_counter()
        members = {row["symbol"]: row for row in self._ledger.universe(retired=True)}
        stranger = next((symbol for symbol in symbols if symbol not in members), None)
        if stranger is not None:
            raise StationFailed(
                f"{stranger} is not in the universe: add it with «alpha-assets universe add {stranger}»"
            )
        groups = by_source(members[symbol] for symbol in symbols)
        known = self._with_calendar({symbol: members[symbol]["calendar"] for symbol in symbols})
        for sentence in calendars.ended(known.values(), self._now.date()).values():
            logger.warning(sentence)
        self._states = self._known_states(symbols)
        done = 0
        for source, group in groups.items():
            progress(f"fetching from {source}", done, len(symbols))
            names = {symbol: known[symbol] for symbol in group if symbol in known}
            if names:
                with _watched(self._sources[source], progress) as watched:
                    self._refresh(watched, self._plan(names, full))
            done += len(group)
        self._note_failures()
        self._note_silence(symbols)
        self._total(symbols, time.perf_counter() - started)
        progress("stored", len(symbols) - len(self._failures), len(symbols))
        self._raise_where_too_little(symbols)
        return self._report

    # -- what to ask for ------------------------------------------------------------------------------------------

    def _known_states(self, symbols: Sequence[str]) -> dict[str, Row]:
        """The ledger's hints; where one is missing the lake is asked, because a kill may have come in between."""
        states = self._ledger.states()
        if self._lake.version("bars") is None:
            # Somebody removed the table: what the ledger remembers of it is no reason to ask for a tail only.
            states = {symbol: {**state, **NO_BARS} for symbol, state in states.items()}
        unknown = [symbol for symbol in symbols if states.get(symbol, {}).get("last_bar") is None]
        if unknown:
            for hint in self._counted_hints(unknown):
                states[hint["symbol"]] = {**states.get(hint["symbol"], {}), **hint}
        return states

    def _counted_hints(self, symbols: Sequence[str]) -> list[Row]:
        return [
            {"symbol": row["symbol"], "first_bar": row["first"], "last_bar": row["last"], "bars": row["rows"]}
            for row in self._lake.last_rows("bars", symbols).iter_rows(named=True)
        ]

    def _with_calendar(self, names: Mapping[str, str]) -> dict[str, str]:
        """The symbols whose calendar is known; the others fail, each with the reason."""
        known = {}
        for symbol, calendar in names.items():
            try:
                calendars.bounds(calendar)
            except ValueError as error:
                self._failures[symbol] = Failure(symbol, Cause.REFUSED, str(error))
            else:
                known[symbol] = calendar
        return known

    def _plan(self, names: Mapping[str, str], full: bool) -> _Plan:
        last = {symbol: at for symbol in names if (at := self._states.get(symbol, {}).get("last_bar")) is not None}
        onward = [] if full else [symbol for symbol in last if not self._interrupted(symbol)]
        since: dict[str, datetime | None] = dict.fromkeys(names)
        judged_from: dict[str, datetime] = {}
        for symbol in onward:
            since[symbol], judged_from[symbol] = self._span(names[symbol], last[symbol])
        plan = _Plan(names, since, judged_from, self._stored(list(last), {key: since[key] for key in onward}))
        adrift = [
            symbol
            for symbol in onward
            if symbol not in plan.carried and self._states[symbol]["first_bar"] < judged_from[symbol]
        ]
        if not adrift:
            return plan
        # A gap longer than what is read: the bar before it, which is far back, says how the listing goes on.
        stored = pl.concat([plan.stored.filter(~pl.col("symbol").is_in(adrift)), self._stored(adrift)])
        return _Plan(names, since, judged_from, stored)

    def _whole(self, symbols: Sequence[str], plan: _Plan) -> _Plan:
        names = {symbol: plan.calendars[symbol] for symbol in symbols}
        return _Plan(names, dict.fromkeys(symbols), {}, self._stored(symbols))

    def _stored(self, symbols: Sequence[str], since: Mapping[str, datetime | None] | None = None) -> pl.DataFrame:
        return self._lake.read("bars", symbols=symbols, since=since or None, columns=list(BARS))

    def _span(self, calendar: str, last: datetime) -> tuple[datetime, datetime]:
        """From where to ask and from where to judge: the overlap, and before it what the verdicts look back on."""
        if (calendar, last) not in self._spans:
            judged_from = calendars.sessions_back(calendar, last, self._settings.overlap_sessions)
            since = calendars.sessions_back(calendar, judged_from, context_sessions(self._settings.interval))
            self._spans[calendar, last] = since, judged_from
        return self._spans[calendar, last]

    # -- one source -----------------------------------------------------------------------------------------------

    def _refresh(self, source: Source, plan: _Plan) -> None:
        answer = self._ask(source, plan)
        heard = [symbol for symbol in plan.since if symbol not in self._failures]
        rewritten = {symbol for symbol in heard if symbol in answer.rewritten or self._interrupted(symbol)}
        self._append(answer.of(symbol for symbol in heard if symbol not in rewritten))
        again = sorted(symbol for symbol in rewritten if plan.since[symbol] is not None)
        self._rewrite(answer.of(rewritten.difference(again)))
        if again:
            answer = self._ask(source, self._whole(again, plan))
            self._rewrite(answer.of(symbol for symbol in again if symbol not in self._failures))

    def _interrupted(self, symbol: str) -> bool:
        """A run was killed while it rewrote the symbol's history."""
        return bool(self._states.get(symbol, {}).get("rewriting"))

    def _ask(self, source: Source, plan: _Plan) -> _Answer:
        fetched = self._fetch(source, plan)
        answered = _answered(fetched.bars, plan, self._now)
        plan = self._as_far_as_judged(plan, answered)
        cleaned = self._clean(fetched, plan, list(plan.since))
        self._counts = merged(self._counts, cleaned.counts)
        news, withdrawn = self._actions(fetched.actions, plan, answered)
        return _Answer(plan, cleaned, news, withdrawn, compare(plan.stored, cleaned.bars))

    def _as_far_as_judged(self, plan: _Plan, answered: pl.DataFrame) -> _Plan:
        """The plan, with where to judge from of the symbols whose whole answer begins after what is stored.

        That is where cleaning has its context, but no later than the overlap, or a short answer would bring nothing.
        """
        whole = [symbol for symbol in plan.last_bars if plan.since[symbol] is None]
        if not whole:
            return plan
        stored = _rows_of(plan.stored, whole).group_by("symbol").agg(stored=pl.col("timestamp").min())
        short = answered.join(stored, on="symbol").filter(pl.col("first") > pl.col("stored"))
        judged_from = dict(plan.judged_from)
        for symbol, first in short.select("symbol", "first").iter_rows():
            _, overlap = self._span(plan.calendars[symbol], plan.last_bars[symbol])
            judged_from[symbol] = max(first, min(_next_midnight(first + reach(self._settings.interval)), overlap))
        return replace(plan, judged_from=judged_from)

    def _fetch(self, source: Source, plan: _Plan) -> Fetched:
        try:
            fetched = source.fetch(list(plan.since), plan.since, self._now)
        except SourceUnavailable as error:
            self._unavailable = error
            fetched = Fetched(failures={symbol: Failure(symbol, Cause.OUTAGE, str(error)) for symbol in plan.since})
        self._failures |= fetched.failures
        return fetched

    def _clean(self, fetched: Fetched, plan: _Plan, symbols: Sequence[str]) -> Cleaned:
        """All symbols in one pass; where that raises, by halves, until the symbols that make it raise stand alone."""
        try:
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
        except Exception as error:  # one symbol of many: it is quarantined with the reason, and the others go on
            if len(symbols) > 1:
                middle = len(symbols) // 2
                halves = (sorted(symbols)[:middle], sorted(symbols)[middle:])
                first, second = (self._clean(_fetched_of(fetched, half), plan, half) for half in halves)
                return _together(first, second)
            reason = f"what the source says of {symbols[0]} cannot be cleaned: {type(error).__name__}: {error}"
            self._failures[symbols[0]] = Failure(symbols[0], Cause.MALFORMED, reason)
            return Cleaned(empty(BARS), empty(CLEANING), {})

    def _actions(self, said: pl.DataFrame, plan: _Plan, answered: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What is said otherwise than stored, and what is stored and no longer said, both as ``schema.ACTIONS``.

        Silence speaks of the sessions between the first and the last bar of the answer only.
        """
        starts = [None if start is None else start.date() for start in plan.since.values()] + said["ex_date"].to_list()
        since = None if None in starts else _midnight(min(starts))
        stored = self._lake.read("actions", symbols=list(plan.since), since=since, columns=list(ACTIONS))
        said = said.unique(ACTION_KEY, keep="last", maintain_order=True)
        off = (pl.col("value") - pl.col("stored")).abs() > ACTION_TOLERANCE * pl.col("stored").abs()
        known = stored.rename({"value": "stored"})
        news = said.join(known, on=ACTION_KEY, how="left").filter(off.fill_null(True)).select(*ACTIONS)
        unsaid = stored.join(said, on=ACTION_KEY, how="anti")
        asked = _rows_of(answered, unsaid["symbol"].unique())
        sessions = pl.DataFrame(
            [
                (symbol, _session(plan.calendars[symbol], first), _session(plan.calendars[symbol], last))
                for symbol, first, last in asked.iter_rows()
            ],
            schema={"symbol": pl.String, "first": pl.Date, "last": pl.Date},
            orient="row",
        )
        within = unsaid.join(sessions, on="symbol").filter(pl.col("ex_date").is_between("first", "last"))
        return news, within.select(*ACTIONS)

    # -- writing --------------------------------------------------------------------------------------------------

    def _append(self, answer: _Answer) -> None:
        """Store what is new; nothing that is held changes but a dividend that was known otherwise or is withdrawn."""
        late = answer.late["symbol"].unique().sort().to_list()
        self._mark(late)
        self._store_actions(answer)
        log = self._stamped(answer.cleaned.log.filter(pl.col("rule") != NOT_FINAL))
        if log.height:
            self._lake.append("cleaning", log)
        self._note_findings(answer)
        new = answer.difference.new
        if new.height:
            self._lake.append("bars", self._stamped(new))
        self._note(answer, self._hints(answer), {})
        self._mark(late)

    def _rewrite(self, answer: _Answer) -> None:
        """Bring stored histories into line; a bar that the source no longer has, or now spoils, stays as it was."""
        symbols = answer.symbols
        if not symbols:
            return
        self._mark(symbols, rewriting=True)
        self._store_actions(answer)
        log = answer.cleaned.log.filter(pl.col("rule") != NOT_FINAL)
        self._lake.replace("cleaning", self._stamped(log), symbols, gone=self._overruled(log, answer))
        self._note_findings(answer)
        said = pl.concat([answer.difference.new, answer.difference.moved])
        self._lake.replace("bars", self._stamped(said), symbols, gone=answer.gone)
        changed = pl.concat([answer.difference.moved.select("symbol"), answer.gone.select("symbol")])
        counted = {hint["symbol"]: hint for hint in self._counted_hints(symbols)}
        self._note(answer, counted, dict(changed.group_by("symbol").len().iter_rows()))
        self._mark(symbols, rewriting=False)

    def _mark(self, symbols: Sequence[str], **hint: bool) -> None:
        self._ledger.note_state(
            [{"symbol": symbol, "rebuild_features": True, "rebuild_patterns": True, **hint} for symbol in symbols]
        )

    def _store_actions(self, answer: _Answer) -> None:
        rows = answer.news.with_columns(first_seen_at=pl.lit(self._now, TIME))
        symbols = pl.concat([answer.news["symbol"], answer.withdrawn["symbol"]]).unique().to_list()
        if symbols:
            self._lake.replace("actions", rows, symbols, gone=answer.withdrawn.select(ACTION_KEY))

    def _overruled(self, log: pl.DataFrame, answer: _Answer) -> pl.DataFrame:
        """Stored verdicts on rows that the source still delivers alike and that cleaning now judges otherwise."""
        stored = self._lake.read("cleaning", symbols=answer.symbols)
        row = [*BAR_KEY, *OHLCV]
        judged = pl.concat([log.select(row), answer.cleaned.bars.select(row)])
        again = stored.join(judged, on=row, how="semi", nulls_equal=True)
        return again.join(log, on=[*row, "rule"], how="anti", nulls_equal=True)

    def _stamped(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(fetched_at=pl.lit(self._now, TIME))

    # -- what to say ----------------------------------------------------------------------------------------------

    def _note(self, answer: _Answer, hints: Mapping[str, Row], restated: Mapping[str, int]) -> None:
        symbols = answer.symbols
        self._ledger.note_state([{"symbol": symbol, **hints.get(symbol, NO_BARS), **HEALTHY} for symbol in symbols])
        new = dict(answer.difference.new.group_by("symbol").len().iter_rows())
        touched, late = _touched(answer.cleaned.log), set(answer.late["symbol"])
        for symbol in symbols:
            state = "restated" if symbol in restated else "updated" if symbol in new else "unchanged"
            hint = hints.get(symbol, NO_BARS)
            self._report.say(
                symbol,
                state if hint["bars"] else "empty",
                new=new.get(symbol, 0),
                restated=restated.get(symbol),
                late_actions=True if symbol in late else None,
                bars=hint["bars"],
                last_bar=str(hint["last_bar"]) if hint["bars"] else None,
                **touched.get(symbol, {}),
            )
        self._new += sum(new.values())
        self._restated += sum(restated.values())

    def _hints(self, answer: _Answer) -> dict[str, Row]:
        """How each series stands now, counted anew where the ledger's hint had fallen behind the lake."""
        added = {
            symbol: (first, last, rows)
            for symbol, first, last, rows in answer.difference.new.group_by("symbol")
            .agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max(), rows=pl.len())
            .iter_rows()
        }
        hints, behind = {}, []
        for symbol in answer.symbols:
            state = self._states.get(symbol, {})
            known = state.get("last_bar")
            if answer.plan.last_bars.get(symbol) != known:
                behind.append(symbol)
            elif known or symbol in added:
                first, last, rows = added.get(symbol, (known, known, 0))
                hints[symbol] = {
                    "first_bar": state["first_bar"] if known else first,
                    "last_bar": last,
                    "bars": rows + (state["bars"] if known else 0),
                }
        if behind:
            hints |= {hint.pop("symbol"): hint for hint in self._counted_hints(behind)}
        return hints

    def _note_findings(self, answer: _Answer) -> None:
        looked_at = {symbol: _day(answer.plan.judged_from.get(symbol)) for symbol in answer.symbols}
        self._ledger.note_findings(looked_at, FINDING_RULES, self._findings(answer))

    def _findings(self, answer: _Answer) -> list[Row]:
        log = answer.cleaned.log.filter(pl.col("rule") != NOT_FINAL)
        names = answer.plan.calendars
        sessions = calendars.bar_sessions(answer.held, self._settings.interval, names)
        held = answer.held.with_columns(sessions.alias("day"))
        begun = held.group_by("symbol", "listing").agg(day=pl.col("day").min())
        again = begun.filter(pl.col("listing") > pl.col("listing").min().over("symbol"))
        found = pl.concat(
            [
                log.select("symbol", "rule", day=pl.col("timestamp").dt.date()),
                again.select("symbol", rule=pl.lit(LISTING_BEGINS), day="day"),
                missing_sessions(held, answer.cleaned.log, names).select(
                    "symbol", rule=pl.lit(MISSING_SESSION), day="day"
                ),
            ]
        )
        looked_at = (
            found.drop_nulls()
            .unique()
            .join(answer.plan.starts, on="symbol", how="left")
            .filter((pl.col("day") >= pl.col("judged_from").dt.date()).fill_null(True))
        )
        return looked_at.select("symbol", "rule", "day", seen_at=pl.lit(self._now, TIME)).to_dicts()

    def _note_failures(self) -> None:
        rows = []
        for symbol, failure in self._failures.items():
            state = self._states.get(symbol, {})
            attempts = (state.get("attempts") or 0) + 1
            rows.append(
                {
                    "symbol": symbol,
                    "quarantine_cause": str(failure.cause),
                    "quarantine_reason": failure.message,
                    "quarantined_at": state.get("quarantined_at") or self._now,
                    "attempts": attempts,
                    "next_try": self._now + min(FIRST_PAUSE * 2 ** min(attempts - 1, 10), LONGEST_PAUSE),
                }
            )
            self._report.say(symbol, "quarantined", cause=str(failure.cause), reason=failure.message)
        self._ledger.note_state(rows)

    def _note_silence(self, symbols: Sequence[str]) -> None:
        """A symbol about which the source had nothing to add was heard all the same: it is healthy."""
        silent_ones = [symbol for symbol in symbols if symbol not in self._report.partitions]
        self._ledger.note_state([{"symbol": symbol, **HEALTHY} for symbol in silent_ones])
        for symbol in silent_ones:
            if self._states.get(symbol, {}).get("last_bar") is None:
                self._report.say(symbol, "empty", new=0, reason="its source has no bar of it yet")
            else:
                self._report.say(symbol, "unchanged", new=0)

    def _total(self, symbols: Sequence[str], seconds: float) -> None:
        counted = ("rows_read", "kept", "repaired", "dropped", "flagged")
        self._report.totals = {
            "symbols": len(symbols),
            **{name: self._counts.get(name, 0) for name in counted},
            "by_rule": self._counts.get("by_rule", {}),
            "new": self._new,
            "restated": self._restated,
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


@contextmanager
def _watched(source: Source, progress: Progress) -> Iterator[Source]:
    """The source, telling meanwhile of each symbol it has settled where it can: a fetch may take minutes.

    A source that tells somebody else already goes on to do so.
    """
    if getattr(source, "progress", progress) is not None:
        yield source
        return
    source.progress = lambda *counts: progress(f"fetched from {source.name}", *counts)  # type: ignore[attr-defined]
    try:
        yield source
    finally:
        source.progress = None  # type: ignore[attr-defined]


def missing_sessions(held: pl.DataFrame, log: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Sessions of each symbol's calendar without a bar, inside each listing's span: symbol, day.

    ``held`` has symbol, listing and the session ``day`` of each bar. A session whose only bar cleaning dropped is a
    finding of that rule and not of this one. Beyond a calendar's bounds nothing is missing: any day may be a holiday.
    """
    spans = held.group_by("symbol", "listing").agg(first=pl.col("day").min(), last=pl.col("day").max())
    calendar = pl.col("symbol").replace_strict(dict(names), return_dtype=pl.String)
    expected = [empty({"symbol": pl.String(), "day": pl.Date()})]
    for (name,), some in spans.with_columns(calendar=calendar).group_by("calendar"):
        first, last = some.select(pl.col("first").min(), pl.col("last").max()).row(0)
        begins, ends = calendars.bounds(str(name))
        days = calendars.sessions(str(name), max(first, begins), min(last, ends)).alias("day").to_frame()
        inside = some.join(days, how="cross").filter(pl.col("day").is_between("first", "last"))
        expected.append(inside.select("symbol", "day"))
    known = pl.concat([held.select("symbol", "day"), log.select("symbol", day=pl.col("timestamp").dt.date())])
    return pl.concat(expected).join(known, on=["symbol", "day"], how="anti")


def _answered(bars: pl.DataFrame, plan: _Plan, now: datetime) -> pl.DataFrame:
    """Of each symbol the ``first`` and ``last`` bar of an answer; a time that nobody asked for is an error."""
    asked = pl.DataFrame(
        {
            "symbol": list(plan.since),
            "since": [start or _midnight(calendars.EARLIEST) for start in plan.since.values()],
        },
        schema={"symbol": pl.String, "since": TIME},
    )
    inside = bars.join(asked, on="symbol").filter(pl.col("timestamp").is_between("since", pl.lit(now, TIME)))
    return inside.group_by("symbol").agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max())


def _session(calendar: str, timestamp: datetime) -> date:
    found: date | None = calendars.session_of(calendar, pl.Series([timestamp]).cast(TIME))[0]
    return found or timestamp.date()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _next_midnight(at: datetime) -> datetime:
    """The first midnight UTC that is not before ``at``."""
    return at if at == _midnight(at.date()) else _midnight(at.date() + timedelta(days=1))


def _rows_of(frame: pl.DataFrame, symbols: Iterable[str]) -> pl.DataFrame:
    return frame.filter(pl.col("symbol").is_in(list(symbols)))


def _fetched_of(fetched: Fetched, symbols: Sequence[str]) -> Fetched:
    return Fetched(_rows_of(fetched.bars, symbols), _rows_of(fetched.actions, symbols))


def _together(first: Cleaned, second: Cleaned) -> Cleaned:
    bars, log = pl.concat([first.bars, second.bars]), pl.concat([first.log, second.log])
    return Cleaned(bars, log, merged(first.counts, second.counts))


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

"""Second station: features and regime of every final bar, from the warm-up on and only where they are missing.

A feature set is a table of its own. The one that the settings ask for is kept for every symbol; an older one is kept
up to date for the symbols whose promoted model reads it, as long as this program still makes the same numbers of it.

Where the set reads a benchmark, a bar waits for the benchmark's bar that was final by then: computed without it, its
beta would be another after the bar has come.
"""

import math
import os
import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from itertools import pairwise, zip_longest
from threading import Lock, Semaphore

import numpy as np
import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.feature_set import compute
from alpha_assets.quant.regimes import memory as regime_memory
from alpha_assets.quant.regimes import regimes
from alpha_assets.quant.schema import SPLIT, TIME
from alpha_assets.quant.timeframes import with_timeframes
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.benchmark import Benchmark
from alpha_assets.stations.quarantine import (
    FEATURES_FAILED,
    IMPOSSIBLE_ACTION,
    OLDER_FEATURES_FAILED,
    alone,
    quarantine,
    release,
)
from alpha_assets.stations.series import adjusted_bars, calendars_of, pending_bars, prices_only
from alpha_assets.stations.sets import REGIME_COLUMNS, Recipe, recipe_in, recipe_of, restored
from alpha_assets.stations.threads import side_by_side
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: Symbols of one batch, at most, of daily bars; of minutes fewer, or memory would not hold them. A year of so many is
#: more than a row group: the lake merges smaller files, and with 128 the build of 2,000 took half as long again. Each
#: batch costs 70 ms of processor beside its symbols.
SYMBOLS_AT_ONCE = 200

#: What names a bar.
KEY = ("symbol", "timestamp")

#: Up to what time and in how many rows each symbol was written, and for each that was not why: held, failed.
Outcome = tuple[pl.DataFrame, dict[str, str], dict[str, str]]


def featurise(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    symbols: Sequence[str],
    progress: Progress = silent,
    now: datetime | None = None,
) -> Report:
    """Bring the feature tables up to the last bar of ``symbols``; a symbol whose past changed is built anew.

    A symbol with an action that cannot be, or of which a feature raises, is held and quarantined (``now`` dates that)
    until its features are built again; one of which only an older table cannot be made is quarantined too, and trained
    on. Updates read the pending bars and the warm-up before them, nothing else. The totals are symbols, rows, built,
    updated, unchanged, held, seconds, and where older tables are read ``older``: by table rows and states.
    """
    started = time.perf_counter()
    report, older = Report(), dict[str, Report]()
    recipe = recipe_of(settings)
    ledger.note_recipes([{"features_set": recipe.table, "recipe": recipe.document}])
    states = ledger.states()
    if _spread_from_benchmarks(ledger, recipe, states, symbols):
        states = ledger.states()
    anew, onward = _pending(lake, recipe.table, states, symbols, report)
    kitchen = Kitchen(lake, settings, recipe, calendars_of(ledger))
    split = kitchen.split_since(onward)
    anew += [symbol for symbol in onward if symbol in split]
    onward = {symbol: until for symbol, until in onward.items() if symbol not in split}
    _clear_marks(ledger, states, anew)
    _keep_older(ledger, kitchen, states, anew, symbols, older)
    built = kitchen.build(anew, progress)
    updated = kitchen.update(onward)
    progress("features updated", len(symbols), len(symbols))
    why = cache(partial(_why_waiting, kitchen))
    for state, wanted, outcome in (("built", anew, built), ("updated", onward, updated)):
        _note(ledger, recipe.table, outcome)
        _tell(report, state, wanted, outcome, why)
    release(ledger, states, report.in_state("built", "updated", "unchanged"), IMPOSSIBLE_ACTION, FEATURES_FAILED)
    _quarantine(ledger, states, report, now)
    _tell_of_older(ledger, states, report, older, now)
    report.totals = {
        "symbols": len(symbols),
        "rows": _rows(built, updated),
        **report.states(),
        "table": recipe.table,
        **({"older": {table: told.totals | told.states() for table, told in older.items()}} if older else {}),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


@dataclass(frozen=True)
class Kitchen:
    """Makes one table after its recipe; with ``as_of`` from what was known then."""

    lake: Lake
    settings: Settings
    recipe: Recipe
    names: Mapping[str, str]
    as_of: datetime | None = None

    def build(self, symbols: Sequence[str], progress: Progress = silent) -> Outcome:
        """Everything of these symbols, in place of what the table holds of them.

        Batches of symbols go side by side, each on a core from its bars to its features: threads that share one batch
        wait for each other. As many as there are workers compute at a time, and one writes: it has given its core to
        the next by then. So there is one thread more than there are workers.
        """
        if not symbols:
            return self._nothing()
        workers = self._workers
        batches = _batches(symbols, self._at_once(symbols))
        each = workers if len(batches) == 1 else 1
        benchmark, computing, writing = self.benchmark(), Semaphore(workers), Lock()
        outcomes: list[Outcome] = []
        done = 0
        build = partial(self._build, benchmark=benchmark, computing=computing, writing=writing, workers=each)
        # A symbol of minutes may take gigabytes, however many cores there are.
        side = workers + 1 if self.recipe.interval == "1d" else min(workers, 2)
        for some, outcome in zip(batches, side_by_side(side)(build, batches), strict=True):
            outcomes.append(outcome)
            done += len(some)
            progress("features built", done, len(symbols), some[-1])
        rows, held_ones, failed_ones = zip(*outcomes, strict=True)
        return pl.concat(rows), dict(ChainMap(*held_ones)), dict(ChainMap(*failed_ones))

    def _build(
        self, symbols: Sequence[str], benchmark: Benchmark, computing: Semaphore, writing: Lock, workers: int
    ) -> Outcome:
        with computing:
            bars, held = adjusted_bars(self.lake, self.settings, self.names, symbols)
            if benchmark.held is not None:
                return self._nothing()[0], held, {}
            values, failed = alone(bars, lambda some: self.values(some, benchmark, workers=workers))
        # What is stored of a symbol that is held stays.
        sound = bars.filter(~pl.col("symbol").is_in(list(failed))).select("symbol", "timestamp")
        with writing:
            self._store(values, sound)
        return _written(values), held, failed

    def _store(self, values: pl.DataFrame, bars: pl.DataFrame) -> None:
        table, symbols = self.recipe.table, bars["symbol"].unique().to_list()
        self.lake.replace(table, values, symbols, gone=_outdated(self.lake, table, values, bars))

    def update(self, onward: Mapping[str, datetime]) -> Outcome:
        """What is missing after each symbol's time."""
        if not onward:
            return self._nothing()
        stored = self._stored_regimes(onward)
        # Where the row to go on from is gone (a table brought back from a backup) the symbol is built.
        torn = sorted(set(onward) - {symbol for symbol, at, _ in stored.iter_rows() if at == onward[symbol]})
        whole = {symbol: until for symbol, until in onward.items() if symbol not in torn}
        rows, held, failed = self.build(torn)
        if whole:
            bars, held_now = pending_bars(self.lake, self.settings, self.names, whole, self.memory)
            first: datetime | None = bars["timestamp"].min()  # type: ignore[assignment]
            benchmark = self.benchmark(first)
            if benchmark.held is not None:
                return rows, held | held_now, failed
            values, failed_now = alone(bars, lambda some: self.values(some, benchmark, onward, stored, self._workers))
            if values.height:
                self.lake.append(self.recipe.table, values)
            rows = pl.concat([rows, _written(values)])
            held, failed = held | held_now, failed | failed_now
        return rows, held, failed

    @property
    def memory(self) -> int | None:
        """Bars before the first wanted one that features and regimes need; None: the listing from its first bar."""
        remembered = regime_memory(self.recipe.regimes)
        return None if remembered is None else max(self.recipe.feature_set.memory, remembered)

    def values(
        self,
        bars: pl.DataFrame,
        benchmark: Benchmark,
        after: Mapping[str, datetime] | None = None,
        stored: pl.DataFrame | None = None,
        workers: int = 1,
    ) -> pl.DataFrame:
        """Features and regime of the bars, or of those later than ``after``, as they are stored.

        ``stored`` then has the regime at that time, from which the path goes on. Raises ValueError where the bars are
        not sorted by symbol and timestamp.
        """
        seen = with_timeframes(prices_only(bars), self.recipe.interval, self.names)
        seen = benchmark.beside(seen)
        spread = side_by_side(workers)
        features = compute(seen, self.recipe.feature_set, after, np.float32, spread)
        labels = regimes(seen, self.recipe.regimes, stored, spread)
        return self.recipe.stored_form(_of_the_same_bars(features, labels))

    def _at_once(self, symbols: Sequence[str]) -> int:
        if self.recipe.interval == "1d":
            return SYMBOLS_AT_ONCE
        held = {calendars.calendar_name(symbol, self.names) for symbol in symbols}
        a_session = max(calendars.bars_a_session(name, self.recipe.interval) for name in held)
        return max(1, int(SYMBOLS_AT_ONCE / a_session))

    @property
    def _workers(self) -> int:
        return self.settings.workers or os.cpu_count() or 1

    def benchmark(self, first: datetime | None = None) -> Benchmark:
        """The benchmark beside bars from ``first`` on. Where its own past cannot be told, everybody waits for it.

        It is read here and not where a fault counts as one symbol's: a lake out of reach is nobody's.
        """
        return Benchmark.of(self.recipe.benchmark, self.lake, self.settings, self.names, first, self.as_of)

    def split_since(self, onward: Mapping[str, datetime]) -> set[str]:
        """The symbols with a split among their pending bars, where that changes the past: the set is not scale-free."""
        if self.recipe.feature_set.scale_free:
            return set()
        splits = self.lake.read("actions", symbols=list(onward)).filter(pl.col("kind") == SPLIT)
        days = splits.select("symbol", "ex_date").iter_rows()
        return {symbol for symbol, day in days if day > onward[symbol].date()}

    def _stored_regimes(self, after: Mapping[str, datetime]) -> pl.DataFrame:
        columns = ["symbol", "timestamp", "regime"]
        rows = self.lake.read(self.recipe.table, since=after, columns=columns)
        return rows.group_by("symbol", maintain_order=True).first()

    def _nothing(self) -> Outcome:
        return pl.DataFrame(schema={"symbol": pl.String, "until": TIME, "rows": pl.UInt32}), {}, {}


def _of_the_same_bars(features: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The features with the regimes of the same bars beside them.

    Features come sorted, regimes in the order of the bars: in another one they would stand beside another bar's, and
    nobody could tell. To compare the keys takes 1.4 ms for the 619,040 bars of the S&P set. Raises ValueError, naming
    symbol and time, where the two orders differ.
    """
    if not features.select(KEY).equals(labels.select(KEY)):
        both = zip_longest(features.select(KEY).iter_rows(), labels.select(KEY).iter_rows(), fillvalue=("nothing", ""))
        (symbol, at), (other, when) = next(pair for pair in both if pair[0] != pair[1])
        raise ValueError(
            f"features of {symbol} {at} would stand beside the regime of {other} {when}: "
            "the bars must be sorted by symbol and timestamp"
        )
    return features.hstack(labels.select(REGIME_COLUMNS))


def _written(values: pl.DataFrame) -> pl.DataFrame:
    return values.group_by("symbol").agg(until=pl.col("timestamp").max(), rows=pl.len()).sort("symbol")


def _batches(symbols: Sequence[str], at_once: int) -> list[Sequence[str]]:
    """The symbols in batches; of several the first is shorter, or all would want to be written at once."""
    if len(symbols) <= at_once:
        return [symbols]
    edges = [0, *range(math.ceil(0.75 * at_once), len(symbols), at_once), len(symbols)]
    return [symbols[first:end] for first, end in pairwise(edges)]


def _why_waiting(kitchen: Kitchen) -> str:
    name = kitchen.recipe.benchmark
    if name is None:
        return "the lake gave no bars of it: refresh the symbol"
    held = kitchen.benchmark().held
    if held is not None:
        return f"the past of the benchmark cannot be told: {held}"
    return (
        f"no newer bar of the benchmark {name} yet: follow and refresh {name}, or choose another "
        "ALPHA_FEATURES__BENCHMARK"
    )


def _pending(
    lake: Lake, table: str, states: Mapping[str, Row], symbols: Sequence[str], report: Report
) -> tuple[list[str], dict[str, datetime]]:
    """The symbols to build, and those to bring on with the time until which they are there; the others are said."""
    lost = lake.version(table) is None
    anew, onward = [], {}
    for symbol in symbols:
        state = states.get(symbol, {})
        until = state.get("features_until") if state.get("features_set") == table and not lost else None
        if state.get("last_bar") is None:
            report.say(symbol, "empty", reason="no bars yet")
        elif until is None or state["rebuild_features"]:
            anew.append(symbol)
        elif until < state["last_bar"]:
            onward[symbol] = until
        else:
            report.say(symbol, "unchanged", features_until=str(until))
    return anew, onward


def _spread_from_benchmarks(ledger: Ledger, recipe: Recipe, states: Mapping[str, Row], symbols: Sequence[str]) -> bool:
    """A benchmark whose past changed, or that has only now come, changes everybody's features; whether there is one.

    The mark is set before its own can be cleared. One in quarantine has done so when it came.
    """
    recipes = ledger.recipes()
    read = {str(decision["features_set"]) for _, decision in _asked_at_every_bar(ledger)} | {recipe.table}
    made = [recipes[table] for table in sorted(read) if table in recipes]
    for name in set(symbols) & {recipe.benchmark for recipe in map(recipe_in, made) if recipe}:
        state = states.get(name, {})
        came = state.get("last_bar") and state["features_set"] is None and not state["quarantine_cause"]
        if came or state.get("rebuild_features"):
            ledger.note_state([{"symbol": row["symbol"], "rebuild_features": True} for row in ledger.universe()])
            return True
    return False


def _asked_at_every_bar(ledger: Ledger) -> list[tuple[str, Row]]:
    """The decisions, each with its symbol, whose model needs the newest bar: those in production and the canaries."""
    return [(symbol, row) for part in (ledger.production(), ledger.canaries()) for (symbol, _), row in part.items()]


def _keep_older(
    ledger: Ledger,
    kitchen: Kitchen,
    states: Mapping[str, Row],
    anew: Sequence[str],
    symbols: Sequence[str],
    told: dict[str, Report],
) -> None:
    """Bring on the older tables that promoted models and canaries of these symbols read.

    What is built anew because its past changed is built anew in every table, and so is what a kill interrupted. How it
    went for each symbol is ``told`` by table.
    """
    recipes = ledger.recipes()
    readers: dict[str, list[str]] = {}
    for symbol, decision in _asked_at_every_bar(ledger):
        table = str(decision["features_set"])
        if symbol in symbols and table != kitchen.recipe.table and symbol not in readers.get(table, ()):
            readers.setdefault(table, []).append(symbol)
    changed = {name for name in anew if states[name]["rebuild_features"] or states[name]["features_set"] is None}
    for table, wanted in readers.items():
        recipe = restored(recipes.get(table) or {}, table)
        if recipe is None:
            told[table] = _stopped(wanted)
            continue
        older = Kitchen(kitchen.lake, kitchen.settings, recipe, kitchen.names)
        told[table] = _brought_on(older, states, wanted, changed)


def _brought_on(older: Kitchen, states: Mapping[str, Row], wanted: Sequence[str], changed: set[str]) -> Report:
    """One older table brought up to the last bar of the symbols ``wanted``, those of a ``changed`` past built anew."""
    report, table = Report(), older.recipe.table
    held = older.lake.last_times(table, wanted) if older.lake.version(table) is not None else {}
    changed = changed | older.split_since({symbol: until for symbol, until in held.items() if symbol not in changed})
    anew = [symbol for symbol in wanted if symbol in changed or held.get(symbol) is None]
    there = {symbol: held[symbol] for symbol in wanted if symbol not in anew}
    onward = {name: until for name, until in there.items() if until < states[name]["last_bar"]}
    built, updated = older.build(anew), older.update(onward)
    why = cache(partial(_why_waiting, older))
    _tell(report, "built", anew, built, why)
    _tell(report, "updated", onward, updated, why)
    for symbol in there:
        if symbol not in onward:
            report.say(symbol, "unchanged", features_until=str(held[symbol]))
    report.totals = {"rows": _rows(built, updated)}
    return report


def _stopped(wanted: Sequence[str]) -> Report:
    report = Report(totals={"rows": 0})
    for symbol in wanted:
        report.say(symbol, "stopped", reason="this program makes other numbers after its recipe: train the symbol anew")
    return report


def _tell_of_older(
    ledger: Ledger, states: Mapping[str, Row], report: Report, older: Mapping[str, Report], now: datetime | None
) -> None:
    """Beside each symbol why an older table of it does not go on; where that is its own fault it is quarantined.

    Under a cause of its own: training reads the current table, and a new model is what ends the need for the older.
    """
    trouble: dict[str, list[str]] = {}
    ill: dict[str, list[str]] = {}
    for table, told in older.items():
        for symbol in told.in_state("held", "waiting", "stopped"):
            said = f"{table}, which its promoted model reads: {told.partitions[symbol]['reason']}"
            trouble.setdefault(symbol, []).append(said)
            if told.partitions[symbol]["state"] == "held":
                ill.setdefault(symbol, []).append(said)
    for symbol, sentences in trouble.items():
        report.partitions[symbol]["older"] = "; ".join(sentences)
    spoken_for = set(report.in_state("held"))
    well = [symbol for symbol in report.partitions if symbol not in ill and symbol not in spoken_for]
    release(ledger, states, well, OLDER_FEATURES_FAILED)
    reasons = {symbol: "; ".join(sentences) for symbol, sentences in ill.items() if symbol not in spoken_for}
    quarantine(ledger, states, reasons, OLDER_FEATURES_FAILED, now)


def _clear_marks(ledger: Ledger, states: Mapping[str, Row], anew: Sequence[str]) -> None:
    """The mark goes before the bars are read, so that a rewrite that comes in between sets it anew.

    A kill in between leaves a symbol without features, which is built, in every table.
    """
    again = [symbol for symbol in anew if states.get(symbol, {}).get("rebuild_features")]
    ledger.note_state(
        [{"symbol": name, "features_set": None, "features_until": None, "rebuild_features": False} for name in again]
    )


def _outdated(lake: Lake, table: str, values: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Keys of the features that the bars do not give, up to the newest bar; what came meanwhile is somebody else's."""
    newest = bars.group_by("symbol").agg(newest=pl.col("timestamp").max())
    kept = lake.read(table, symbols=newest["symbol"].to_list(), columns=list(KEY))
    if kept.is_empty():
        return kept
    without = kept.join(values, on=KEY, how="anti").join(newest, on="symbol")
    return without.filter(pl.col("timestamp") <= pl.col("newest")).select(KEY)


def _quarantine(ledger: Ledger, states: Mapping[str, Row], report: Report, now: datetime | None) -> None:
    for cause in (IMPOSSIBLE_ACTION, FEATURES_FAILED):
        held = {symbol: report.partitions[symbol] for symbol in report.in_state("held")}
        reasons = {symbol: figures["reason"] for symbol, figures in held.items() if figures["cause"] == cause}
        quarantine(ledger, states, reasons, cause, now)


def _note(ledger: Ledger, table: str, outcome: Outcome) -> None:
    spans = outcome[0].sort("symbol").select("symbol", "until").rows()
    ledger.note_state([{"symbol": symbol, "features_set": table, "features_until": until} for symbol, until in spans])


def _tell(report: Report, state: str, wanted: Iterable[str], outcome: Outcome, why: Callable[[], str]) -> None:
    """How each of the symbols ``wanted`` fared; ``why`` says what those wait for of which nothing is written."""
    written, held, failed = outcome
    for symbol, until, rows in written.sort("symbol").rows():
        report.say(symbol, state, rows=rows, features_until=str(until))
    for symbol, reason in held.items():
        report.say(symbol, "held", cause=IMPOSSIBLE_ACTION, reason=reason)
    for symbol, reason in failed.items():
        report.say(symbol, "held", cause=FEATURES_FAILED, reason=f"its features cannot be computed: {reason}")
    for symbol in wanted:
        if symbol not in report.partitions:
            report.say(symbol, "waiting", reason=why())


def _rows(*outcomes: Outcome) -> int:
    return sum(int(written["rows"].sum()) for written, _, _ in outcomes)

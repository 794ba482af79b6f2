"""Is what was published of a past bar what its own past says? Sampled bars are computed anew from history cut there.

A feature or pattern that looks ahead changes when what came later is taken away. Whatever made the stored value, a new
program or an old one, a rebuild or an update, it is held against the bars up to its own time and nothing else.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import partial

import numpy as np
import polars as pl

from alpha_assets.quant.patterns import EVENTS, events, identity, memory
from alpha_assets.settings import Settings
from alpha_assets.stations.benchmark import Benchmark
from alpha_assets.stations.featurise import Kitchen
from alpha_assets.stations.inspect import Verdict
from alpha_assets.stations.quarantine import alone
from alpha_assets.stations.recognise import TABLE as PATTERNS
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import recipe_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: The finding of a bar whose features or patterns are not what its own past gives.
NOT_OF_ITS_PAST = "not_prefix_invariant"

#: Symbols and bars of each that one look takes.
SYMBOLS, BARS = 4, 4

#: Bars of a past that is computed anew whole, and rows before a sampled one that say how much a column varies.
LONG, AROUND = 20_000, 500

#: What rounding may do to a stored value: two units in the last place of f32, and this share of the column's deviation.
ROUNDING = 1e-8

#: What an adjustment that came later may do to the strength of an event, which is at most 1.
STRENGTH_ROUNDING = 1e-6


def causality_verdict(lake: Lake, ledger: Ledger, settings: Settings, symbols: Sequence[str], now: datetime) -> Verdict:
    """Whether sampled rows, features and pattern events, equal those of history that ends there; names what does not.

    What does not is a finding, and is looked at again each time until it does: a later sample would miss it. The sample
    is another each day and the same all day. Symbols in quarantine are left out, and those whose features
    are to be built anew: what is stored of them is known to be of another past. So are patterns of which that is so.
    """
    recipe, names = recipe_of(settings), calendars_of(ledger)
    until = lake.last_times(recipe.table, symbols) if lake.version(recipe.table) is not None else {}
    chance = random.Random(f"{now.date()}")
    states = ledger.states()
    sound = sorted(symbol for symbol in until if _is_settled(states.get(symbol, {}), recipe.table))
    suspected = _suspected(ledger)
    chosen = sorted({*chance.sample(sound, min(SYMBOLS, len(sound))), *(suspected.keys() & set(sound))})
    looked, seen, wrong, untold = 0, 0, list[str](), None
    rows: dict[tuple[str, date], Row] = {}
    for symbol in chosen:
        times = lake.read(recipe.table, symbols=[symbol], columns=["timestamp"])["timestamp"]
        bars, _ = adjusted_bars(lake, settings, names, [symbol])
        sampled = {times[place] for place in chance.sample(range(len(times)), min(BARS, len(times)))}
        again = times.filter(times.dt.date().is_in(suspected.get(symbol, [])))
        for at in sorted({*sampled, *again}):
            place = times.search_sorted(at)
            stored = lake.read(recipe.table, symbols=[symbol], since=times[max(0, place - AROUND)], until=at)
            past = bars.filter(pl.col("timestamp") <= at)
            known_at = with_known_at(past.tail(1), settings, names)["known_at"]
            kitchen = Kitchen(lake, settings, recipe, names, as_of=known_at[0] if len(known_at) else at)
            first: datetime | None = past["timestamp"].min()  # type: ignore[assignment]
            benchmark = kitchen.benchmark(first)
            if benchmark.held is not None:
                untold = benchmark.held
                continue
            from_its_past = partial(_from_its_past, kitchen, benchmark, stored=stored)
            known, failed = alone(past, from_its_past)
            found = list(failed.values() or _differences(stored, known.filter(pl.col("timestamp") == at)))
            if not failed and _has_patterns(states[symbol], settings, at):
                held, anew = _events(lake, settings, symbol, past, at)
                found += _other_events(held, anew)
                seen += len(held)
            looked += 1
            wrong += [f"{symbol} {at:%Y-%m-%d %H:%M}: {what}" for what in found]
            if found:
                day = at.date()
                rows[symbol, day] = {"symbol": symbol, "rule": NOT_OF_ITS_PAST, "day": day, "seen_at": now}
    if untold is None:
        ledger.note_findings(dict.fromkeys(chosen), [NOT_OF_ITS_PAST], list(rows.values()))
    if not looked:
        return Verdict(True, 0, [], untold or "no features yet")
    seen_rows = f"{looked} rows with {seen} pattern events" if seen else f"{looked} rows"
    told = f"{seen_rows} of {len(chosen)} symbols equal what their own past gives"
    sentence = f"{len(wrong)} values are not what their own past gives" if wrong else told
    return Verdict(not wrong, len(wrong), wrong[:20], sentence)


def _suspected(ledger: Ledger) -> dict[str, list[date]]:
    """The days of each symbol that were found and not cleared."""
    days: dict[str, list[date]] = {}
    for row in ledger.findings([NOT_OF_ITS_PAST]):
        days.setdefault(row["symbol"], []).append(row["day"])
    return days


def _is_settled(state: Row, table: str) -> bool:
    return state.get("features_set") == table and not state["rebuild_features"] and state["quarantine_cause"] is None


def _from_its_past(kitchen: Kitchen, benchmark: Benchmark, past: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The rows of the bars; of a long past the last one, the regime's path taken up from the stored row before.

    The long past is cut where regimes have a memory; a fitted filter needs it from the first bar on.
    """
    if past.height <= LONG or stored.height < 2:
        return kitchen.values(past, benchmark)
    before = stored.slice(stored.height - 2, 1)
    after = {before["symbol"][0]: before["timestamp"][0]}
    read = past if kitchen.memory is None else past.tail(max(LONG, kitchen.memory + 1))
    return kitchen.values(read, benchmark, after, before.select("symbol", "timestamp", "regime"))


def _differences(stored: pl.DataFrame, anew: pl.DataFrame) -> Iterator[str]:
    """The columns of the last stored row that differ from the row computed anew, with both values."""
    if anew.is_empty():
        yield "there is no bar of this time, or it is not known yet"
        return
    held, found = stored.row(-1, named=True), anew.row(0, named=True)
    for name in found:
        ours, theirs = held.get(name), found[name]
        if isinstance(ours, float) and isinstance(theirs, float):
            allowed = 2 * float(np.spacing(np.float32(max(abs(ours), abs(theirs)))))
            allowed += ROUNDING * float(stored[name].std() or 0.0)  # type: ignore[arg-type]
            if abs(ours - theirs) <= allowed:
                continue
        if ours != theirs:
            yield f"{name} is stored as {_said(ours)} and is {_said(theirs)} from the bars until then"


def _has_patterns(state: Row, settings: Settings, at: datetime) -> bool:
    written = state["patterns_set"] == identity(settings.patterns) and not state["rebuild_patterns"]
    return written and state["patterns_until"] is not None and at <= state["patterns_until"]


#: Direction and strength of the events of one bar, by pattern.
_Events = Mapping[str, tuple[int, float]]


def _events(lake: Lake, settings: Settings, symbol: str, past: pl.DataFrame, at: datetime) -> tuple[_Events, _Events]:
    """The events of the last bar of ``past``, as they are stored and as the bars until then give them."""
    stored = lake.read(PATTERNS, symbols=[symbol], since=at, until=at, columns=list(EVENTS))
    read = past.tail(max(LONG, memory(settings.patterns) + 1))
    anew = events(read, settings.patterns).filter(pl.col("timestamp") == at)
    return _by_pattern(stored), _by_pattern(anew)


def _by_pattern(found: pl.DataFrame) -> _Events:
    return {name: (direction, strength) for *_, name, direction, strength in found.select(*EVENTS).iter_rows()}


def _other_events(stored: _Events, anew: _Events) -> Iterator[str]:
    """The patterns that are stored of a bar and are none, are none and are stored, or are otherwise."""
    for name in sorted({*stored, *anew}):
        held, found = stored.get(name), anew.get(name)
        if held and found and held[0] == found[0] and abs(held[1] - found[1]) <= STRENGTH_ROUNDING:
            continue
        yield f"the pattern {name} is stored as {_as_event(held)} and is {_as_event(found)} from the bars until then"


def _as_event(event: tuple[int, float] | None) -> str:
    return "no event" if event is None else f"direction {event[0]:+d} with strength {event[1]:.6g}"


def _said(value: float | str | datetime | None) -> str:
    return "null" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

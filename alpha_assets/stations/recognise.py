"""Patterns: every event of every final bar, and what followed it as soon as that is known."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from alpha_assets.quant.patterns import HORIZONS, events, identity, memory, outcomes
from alpha_assets.quant.schema import TIME
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.quarantine import IMPOSSIBLE_ACTION, PATTERNS_FAILED, alone, quarantine, release
from alpha_assets.stations.series import calendars_of, pending_bars, with_known_at
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

TABLE = "pattern_outcomes"

#: Bars at the end of what is written whose longest outcome is not known yet.
UNSETTLED = max(HORIZONS) + 1

_KEY = ["symbol", "timestamp", "pattern"]


def recognise(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    symbols: Sequence[str],
    progress: Progress = silent,
    now: datetime | None = None,
) -> Report:
    """Bring the table of pattern outcomes up to the last bar of ``symbols``; a changed past is built anew.

    An update writes the events of the pending bars and settles those whose outcomes were not known before; it reads
    the bars that this needs, nothing else. A symbol with an action that cannot be, or of which a pattern raises, is
    held and quarantined (``now`` dates that). The totals are symbols, rows (new or settled), built, updated, unchanged,
    held, seconds.
    """
    started = time.perf_counter()
    report = Report()
    states, names = ledger.states(), calendars_of(ledger)
    chosen = identity(settings.patterns)
    pending = _pending(states, symbols, chosen, lost=lake.version(TABLE) is None, report=report)
    rows = _write(lake, ledger, settings, names, pending, states, report, now) if pending else 0
    progress("patterns written", len(symbols), len(symbols))
    report.totals = {
        "symbols": len(symbols),
        "rows": rows,
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def _pending(
    states: Mapping[str, Row], symbols: Sequence[str], chosen: str, *, lost: bool, report: Report
) -> dict[str, datetime | None]:
    """The symbols with something to write and the bar up to which they are written, None where all is to be built."""
    pending: dict[str, datetime | None] = {}
    for symbol in symbols:
        state = states.get(symbol, {})
        until = state.get("patterns_until") if state.get("patterns_set") == chosen and not lost else None
        if state.get("last_bar") is None:
            report.say(symbol, "empty", reason="no bars yet")
        elif until is None or state["rebuild_patterns"]:
            pending[symbol] = None
        elif until < state["last_bar"]:
            pending[symbol] = until
        else:
            report.say(symbol, "unchanged", patterns_until=str(until))
    return pending


def _write(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    names: Mapping[str, str],
    pending: Mapping[str, datetime | None],
    states: Mapping[str, Row],
    report: Report,
    now: datetime | None,
) -> int:
    again = [symbol for symbol in pending if states[symbol]["rebuild_patterns"]]
    # The mark goes before the bars are read, as in ``featurise``: a rewrite that comes in between sets it anew.
    ledger.note_state([{"symbol": symbol, "patterns_until": None, "rebuild_patterns": False} for symbol in again])
    chosen = settings.patterns
    bars, held = pending_bars(lake, settings, names, pending, memory(chosen) + UNSETTLED)
    computed, failed = alone(bars, lambda some: outcomes(events(some, chosen), with_known_at(some, settings, names)))
    written = bars.filter(~pl.col("symbol").is_in(list(failed)))
    spans = _spans(written, pending)
    values = _from_tail(computed, spans)
    tails = dict(spans.select("symbol", "tail").iter_rows())
    kept = lake.read(TABLE, since=tails, columns=_KEY)
    gone = _from_tail(kept.join(values, on=_KEY, how="anti"), spans)
    rows = lake.replace(TABLE, values, list(tails), gone=gone)
    done = spans.select("symbol", "last").rows()
    ledger.note_state(
        [{"symbol": symbol, "patterns_set": identity(chosen), "patterns_until": last} for symbol, last in done]
    )
    for symbol, last in done:
        report.say(symbol, "built" if pending[symbol] is None else "updated", patterns_until=str(last))
    reasons = {symbol: f"its patterns cannot be computed: {reason}" for symbol, reason in failed.items()}
    for cause, of_cause in ((IMPOSSIBLE_ACTION, held), (PATTERNS_FAILED, reasons)):
        quarantine(ledger, states, of_cause, cause, now)
        for symbol, reason in of_cause.items():
            report.say(symbol, "held", cause=cause, reason=reason)
    release(ledger, states, list(tails), PATTERNS_FAILED)
    return rows


def _untils(pending: Mapping[str, datetime | None]) -> pl.DataFrame:
    schema = {"symbol": pl.String(), "until": TIME}
    return pl.DataFrame({"symbol": list(pending), "until": list(pending.values())}, schema=schema)


def _spans(bars: pl.DataFrame, pending: Mapping[str, datetime | None]) -> pl.DataFrame:
    """A row a symbol: its last bar, and from which bar on its rows are written (``tail``), null for all."""
    written = pl.col("timestamp").filter((pl.col("timestamp") <= pl.col("until")).fill_null(value=False))
    return (
        bars.join(_untils(pending), on="symbol", maintain_order="left")
        .group_by("symbol", maintain_order=True)
        .agg(last=pl.col("timestamp").max(), tail=written.tail(UNSETTLED).min())
    )


def _from_tail(rows: pl.DataFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """Of ``rows`` those between the tail and the last bar of their symbol; a later one is another writer's."""
    begun = (pl.col("timestamp") >= pl.col("tail")).fill_null(value=True)
    joined = rows.join(spans, on="symbol", maintain_order="left")
    return joined.filter(begun & (pl.col("timestamp") <= pl.col("last"))).drop("tail", "last")

"""Second station: the features of every final bar, from the warm-up on and only where they are missing."""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.indicators import DEFAULT, FeatureSet, compute
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.quarantine import FEATURES_FAILED, IMPOSSIBLE_ACTION, alone, quarantine, release
from alpha_assets.stations.series import adjusted_bars, calendars_of, prices_only
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row


def table_of(feature_set: FeatureSet = DEFAULT) -> str:
    """The lake table of a feature set: a changed set is a new table."""
    return f"features/{feature_set.name}-{feature_set.hash}"


def featurise(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    symbols: Sequence[str],
    progress: Progress = silent,
    now: datetime | None = None,
) -> Report:
    """Bring the feature table up to the last bar of ``symbols``; a symbol whose past changed is built anew.

    A symbol with an action that cannot be, or of which a feature raises, is held and quarantined (``now`` dates that)
    until its features are built again. Updates read the pending bars and the warm-up before them, nothing else. The
    totals are symbols, rows, built, updated, unchanged, held, seconds.
    """
    started = time.perf_counter()
    report = Report()
    table = table_of()
    states = ledger.states()
    lost = lake.version(table) is None
    names = calendars_of(ledger)
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
    rows = _build(lake, ledger, settings, names, table, anew, states, report)
    progress("features built", len(anew), len(symbols))
    rows += _update(lake, ledger, settings, names, table, onward, report)
    progress("features updated", len(symbols), len(symbols))
    built = report.in_state("built", "updated", "unchanged")
    release(ledger, states, built, IMPOSSIBLE_ACTION, FEATURES_FAILED)
    _quarantine(ledger, states, report, now)
    report.totals = {
        "symbols": len(symbols),
        "rows": rows,
        **report.states(),
        "table": table,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def _build(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    names: Mapping[str, str],
    table: str,
    symbols: Sequence[str],
    states: Mapping[str, Row],
    report: Report,
) -> int:
    if not symbols:
        return 0
    again = [symbol for symbol in symbols if states.get(symbol, {}).get("rebuild_features")]
    # The mark goes before the bars are read, so that a rewrite that comes in between sets it anew; a kill in between
    # leaves a symbol without features, which is built.
    ledger.note_state(
        [{"symbol": name, "features_set": None, "features_until": None, "rebuild_features": False} for name in again]
    )
    bars, held = adjusted_bars(lake, settings, names, symbols)
    values, failed = alone(bars, _values)
    lake.replace(table, values, symbols, gone=_outdated(lake, table, values, symbols))
    _note(ledger, table, values, "built", held, failed, report)
    return values.height


def _outdated(lake: Lake, table: str, values: pl.DataFrame, symbols: Sequence[str]) -> pl.DataFrame:
    """Keys of the features of bars that are no longer held; those of bars that came meanwhile are somebody else's."""
    key = ["symbol", "timestamp"]
    newest = values.group_by("symbol").agg(newest=pl.col("timestamp").max())
    kept = lake.read(table, symbols=symbols, columns=key)
    without = kept.join(values, on=key, how="anti").join(newest, on="symbol", how="left")
    return without.filter((pl.col("timestamp") < pl.col("newest")).fill_null(True)).select(key)


def _update(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    names: Mapping[str, str],
    table: str,
    onward: Mapping[str, datetime],
    report: Report,
) -> int:
    if not onward:
        return 0
    since = _warm_from(settings, names, onward)
    bars, held = adjusted_bars(lake, settings, names, list(onward), since)
    short = _too_short(bars, onward)
    if short:
        whole, _ = adjusted_bars(lake, settings, names, short)
        bars = pl.concat([bars.filter(~pl.col("symbol").is_in(short)), whole]).sort("symbol", "timestamp")
    until = pl.DataFrame(
        {"symbol": list(onward), "until": list(onward.values())}, schema_overrides={"until": pl.Datetime("us", "UTC")}
    )
    computed, failed = alone(bars, _values)
    values = (
        computed.join(until, on="symbol", maintain_order="left")
        .filter(pl.col("timestamp") > pl.col("until"))
        .drop("until")
    )
    if values.height:
        lake.append(table, values)
    _note(ledger, table, values, "updated", held, failed, report)
    return values.height


def _warm_from(settings: Settings, names: Mapping[str, str], onward: Mapping[str, datetime]) -> dict[str, datetime]:
    """From where to read so that the warm-up lies before the first pending bar, were no session missing."""
    starts = {}
    for calendar, until in {(names[symbol], until) for symbol, until in onward.items()}:
        sessions = 1.1 * DEFAULT.warm_up / calendars.bars_a_session(calendar, settings.interval)
        starts[calendar, until] = calendars.sessions_back(calendar, until, math.ceil(sessions) + 1)
    return {symbol: starts[names[symbol], until] for symbol, until in onward.items()}


def _too_short(bars: pl.DataFrame, onward: Mapping[str, datetime]) -> list[str]:
    """Symbols of which halts left fewer bars than the warm-up needs: their whole history is read."""
    counts = dict(bars.group_by("symbol").len().iter_rows())
    return [symbol for symbol in onward if 0 < counts.get(symbol, 0) < DEFAULT.warm_up]


def _values(bars: pl.DataFrame) -> pl.DataFrame:
    return stored_form(compute(prices_only(bars), DEFAULT))


def stored_form(values: pl.DataFrame) -> pl.DataFrame:
    """Features as the lake keeps them: computed in f64, stored in f32."""
    return values.with_columns(pl.col(DEFAULT.columns).cast(pl.Float32))


def _quarantine(ledger: Ledger, states: Mapping[str, Row], report: Report, now: datetime | None) -> None:
    for cause in (IMPOSSIBLE_ACTION, FEATURES_FAILED):
        held = {symbol: report.partitions[symbol] for symbol in report.in_state("held")}
        reasons = {symbol: figures["reason"] for symbol, figures in held.items() if figures["cause"] == cause}
        quarantine(ledger, states, reasons, cause, now)


def _note(
    ledger: Ledger,
    table: str,
    values: pl.DataFrame,
    state: str,
    held: Mapping[str, str],
    failed: Mapping[str, str],
    report: Report,
) -> None:
    spans = values.group_by("symbol").agg(pl.col("timestamp").max(), pl.len()).sort("symbol").rows()
    ledger.note_state(
        [{"symbol": symbol, "features_set": table, "features_until": until} for symbol, until, _ in spans]
    )
    for symbol, until, rows in spans:
        report.say(symbol, state, rows=rows, features_until=str(until))
    for symbol, reason in held.items():
        report.say(symbol, "held", cause=IMPOSSIBLE_ACTION, reason=reason)
    for symbol, reason in failed.items():
        report.say(symbol, "held", cause=FEATURES_FAILED, reason=f"its features cannot be computed: {reason}")

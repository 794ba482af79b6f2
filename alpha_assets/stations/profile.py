"""Profiles: ``statistical``, ``company`` and ``patterns``, a document each a symbol, kept in the ledger.

``quant.profile_schema`` declares their fields; ``profile_patterns`` makes the third.

Whether a symbol's document is up to date is decided by what is stored, never by a mark that somebody else may have
cleared: the closes and events of every wanted symbol are read, and a document whose checksum they no longer match is
computed from nothing. Fundamentals come from the symbol's source where it has them, seldom and a few companies a run;
a source that fails is said in the totals and holds nobody.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.parameters import ProfileParameters
from alpha_assets.quant.profile_schema import COMPANY, PATTERNS, SCHEMA_VERSION, STATE, STATISTICAL
from alpha_assets.quant.profiles import (
    Labels,
    Series,
    company_profile,
    labels_since,
    resumable,
    series_of,
    statistical_profile,
)
from alpha_assets.quant.schema import OHLCV
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Source, by_source, knows_companies
from alpha_assets.stations.base import Report
from alpha_assets.stations.profile_patterns import pattern_documents
from alpha_assets.stations.quarantine import PROFILE_FAILED, quarantine, release
from alpha_assets.stations.series import calendars_of, soundly_adjusted
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: What a profile reads of a bar.
COLUMNS = ("symbol", "timestamp", *OHLCV, "listing", "flags")

#: What a company document holds of fundamentals, whatever the bars do.
FUNDAMENTAL_PARTS = ("fundamentals", "fundamentals_asked_at")

Documents = Mapping[tuple[str, str], Row]


def profile(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    sources: Mapping[str, Source] | None = None,
) -> Report:
    """Write the documents of each symbol of which bars, events, features or fundamentals are not in them yet.

    A symbol whose figures cannot be computed is held and quarantined; the others are written. Without ``sources``
    nobody is asked about companies. The totals are symbols, states (of the first two documents), how many companies
    were read and how many patterns counted, seconds.
    """
    started = time.perf_counter()
    knobs = settings.profiles
    report = Report()
    names, states, known = calendars_of(ledger), ledger.states(), _current(ledger.profiles())
    stored = {symbol: None for symbol in symbols if states.get(symbol, {}).get("last_bar") is not None}
    for symbol in symbols:
        if symbol not in stored:
            report.say(symbol, "empty", reason="no bars yet")
    bars, actions = _read(lake, list(stored), COLUMNS)
    series, held = _series(settings, names, bars, actions)
    sound = bars.filter(pl.col("symbol").is_in(list(series)))
    patterns, failed = pattern_documents(lake, settings, states, known, sound, actions)
    pending = {}
    for symbol, own in series.items():
        if symbol in failed:
            continue
        if _is_current(known.get((symbol, STATISTICAL)), own, states[symbol]):
            report.say(symbol, "unchanged", as_of=known[symbol, STATISTICAL]["document"]["as_of"])
        else:
            pending[symbol] = own
    answers, totals = _ask_companies(ledger, sources or {}, list(series), known, now, knobs)
    rows = []
    labels, indicators = _features(lake, states, known, pending)
    for symbol, own in pending.items():
        try:
            a_year = calendars.bars_a_year(names[symbol], settings.interval)
            before = known.get((symbol, STATISTICAL), {}).get("document")
            figures = statistical_profile(own, a_year, before, labels.get(symbol), indicators.get(symbol), knobs)
            company = company_profile(own, figures, _fundamentals(answers, known, symbol))
        except Exception as error:  # one symbol of many: it is held with the reason, and the others are written
            failed[symbol] = f"its profile cannot be computed: {type(error).__name__}: {error}"
            continue
        rows += [_row(symbol, STATISTICAL, figures, now), _row(symbol, COMPANY, company, now)]
        report.say(symbol, "written", **headline(figures))
    rows += [_row(symbol, PATTERNS, document, now) for symbol, document in patterns.items() if symbol not in failed]
    for symbol in answers.keys() - pending.keys() - failed.keys():
        company = {**known[symbol, COMPANY]["document"], **answers[symbol]}
        rows.append(_row(symbol, COMPANY, company, now))
    ledger.put_profiles(rows)
    release(ledger, states, report.in_state("written", "unchanged"), PROFILE_FAILED)
    quarantine(ledger, states, failed, PROFILE_FAILED, now)
    for symbol, reason in (held | failed).items():
        report.say(symbol, "held", reason=reason)
    for symbol in stored:
        if symbol not in report.partitions:
            report.say(symbol, "empty", reason="its bars are no longer in the lake; the next refresh brings them back")
    seconds = round(time.perf_counter() - started, 3)
    totals |= {"patterns_counted": len(patterns.keys() - failed.keys())} if patterns else {}
    report.totals = {"symbols": len(symbols), **report.states(), **totals, "seconds": seconds}
    return report


def headline(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The four figures that a partition's metadata tell; those that are defined."""
    returns = figures.get("returns", {})
    return {
        "annual_return": returns.get("annual"),
        "annual_volatility": returns.get("annual_volatility"),
        "sharpe": returns.get("sharpe"),
        "max_drawdown": figures.get("drawdown", {}).get("max"),
    }


def read_series(
    lake: Lake, settings: Settings, names: Mapping[str, str], symbols: Sequence[str]
) -> tuple[dict[str, Series], dict[str, str]]:
    """The newest listing of each symbol as profiles see it, and why a symbol is left out."""
    return _series(settings, names, *_read(lake, symbols, COLUMNS))


def _read(lake: Lake, symbols: Sequence[str], columns: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars as traded and events."""
    bars = lake.read("bars", symbols=symbols, columns=list(columns))
    return bars, lake.read("actions", symbols=symbols).drop("first_seen_at")


def _series(
    settings: Settings, names: Mapping[str, str], bars: pl.DataFrame, actions: pl.DataFrame
) -> tuple[dict[str, Series], dict[str, str]]:
    if bars.is_empty():
        return {}, {}
    traded = bars.with_columns(traded_close="close", traded_volume="volume")
    adjusted, reasons = soundly_adjusted(traded, actions, settings, names)
    series, wrong = series_of(adjusted.with_columns(volume="traded_volume"), actions, settings.interval, names)
    return series, reasons | wrong


def _row(symbol: str, kind: str, document: Mapping[str, Any], now: datetime) -> Row:
    return {
        "symbol": symbol,
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "document": dict(document),
        "written_at": now,
    }


def _current(documents: Documents) -> Documents:
    """The documents of this schema: an older one is as good as none."""
    return {key: row for key, row in documents.items() if row["schema_version"] == SCHEMA_VERSION}


def _is_current(row: Row | None, series: Series, state: Row) -> bool:
    if row is None or row["document"][STATE]["bars"] != len(series):
        return False
    told = row["document"].get("indicators", {})
    return (told.get("table"), told.get("at")) == _built(state) and resumable(row["document"], series)


def _built(state: Row) -> tuple[str | None, str | None]:
    """The table of a symbol's features and the newest bar in it; nothing while they are to be built anew."""
    if state.get("features_set") is None or state.get("features_until") is None or state["rebuild_features"]:
        return None, None
    return state["features_set"], state["features_until"].isoformat()


# -- features ---------------------------------------------------------------------------------------------------------


def _features(
    lake: Lake, states: Mapping[str, Row], known: Documents, pending: Mapping[str, Series]
) -> tuple[dict[str, Labels], dict[str, dict[str, Any]]]:
    """The regimes that the documents lack, and the newest row of features, of each symbol whose features are built."""
    labels: dict[str, Labels] = {}
    indicators: dict[str, dict[str, Any]] = {}
    tables: dict[str, list[str]] = {}
    for symbol in pending:
        if (table := _built(states[symbol])[0]) is not None:
            tables.setdefault(table, []).append(symbol)
    for table, symbols in tables.items():
        if lake.version(table) is None:
            continue
        until = {symbol: states[symbol]["features_until"] for symbol in symbols}
        newest = lake.read(table, symbols=symbols, since=until).group_by("symbol", maintain_order=True).last()
        indicators |= _indicators(table, newest)
        if "regime" in newest.columns:
            labels |= _labels(lake, table, known, {symbol: pending[symbol] for symbol in symbols})
    return labels, indicators


def _indicators(table: str, newest: pl.DataFrame) -> dict[str, dict[str, Any]]:
    numbers = [name for name, kind in newest.schema.items() if kind.is_float() or kind.is_integer()]
    # The seven digits that an f32 has: as f64 it would be written with seventeen.
    values = (pl.col(name).cast(pl.Float64).round_sig_figs(7) for name in numbers)
    rows = newest.select("symbol", "timestamp", *values).iter_rows()
    return {
        symbol: {"table": table, "at": at.isoformat(), "values": dict(zip(numbers, values, strict=True))}
        for symbol, at, *values in rows
    }


def _labels(lake: Lake, table: str, known: Documents, series: Mapping[str, Series]) -> dict[str, Labels]:
    since = {}
    for symbol, own in series.items():
        until = labels_since(known.get((symbol, STATISTICAL), {}).get("document"), own, table)
        since[symbol] = None if until is None else _EPOCH + timedelta(microseconds=until)
    frame = lake.read(table, symbols=list(series), since=since, columns=["symbol", "timestamp", "regime"])
    regimes = sorted(frame["regime"].drop_nulls().unique())
    codes = frame["regime"].replace_strict(
        {name: code for code, name in enumerate(regimes)}, default=-1, return_dtype=pl.Int64
    )
    spans = frame.with_row_index("place").group_by("symbol", maintain_order=True)
    at = frame["timestamp"].to_physical().to_numpy()
    return {
        symbol: Labels(table, tuple(regimes), at[start : end + 1], codes.to_numpy()[start : end + 1])
        for symbol, start, end in spans.agg(start=pl.col("place").min(), end=pl.col("place").max()).iter_rows()
    }


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


# -- fundamentals -----------------------------------------------------------------------------------------------------


def _ask_companies(
    ledger: Ledger,
    sources: Mapping[str, Source],
    symbols: Sequence[str],
    known: Documents,
    now: datetime,
    knobs: ProfileParameters,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What the sources say of the companies that were not asked about for long, and how that went."""
    if not sources:
        return {}, {}
    due = _due(symbols, known, now, knobs)
    wanted = set(due)
    members = [row for row in ledger.universe(retired=True) if row["symbol"] in wanted]
    answers: dict[str, dict[str, Any]] = {}
    trouble: list[str] = []
    for name, asked in by_source(members).items():
        try:
            source = sources[name]
            if not knows_companies(source):
                continue
            said = source.fundamentals([symbol for symbol in due if symbol in set(asked)], now)
        except Exception as error:  # whatever it is, the figures of the bars do not wait for it
            trouble.append(f"the source {name} cannot be asked about companies: {type(error).__name__}: {error}")
            continue
        read_at = now.isoformat()
        for symbol, facts in said.facts.items():
            told = {field: {"value": value, "read_at": read_at} for field, value in facts.items()}
            answers[symbol] = {"fundamentals_asked_at": read_at}
            # Nothing said of a company of which something was said before is no news: what is known stays.
            if told or not known.get((symbol, COMPANY), {}).get("document", {}).get("fundamentals"):
                answers[symbol]["fundamentals"] = told
        for symbol, failure in said.failures.items():
            trouble.append(failure.message)
            if not failure.cause.can_heal:
                answers[symbol] = {"fundamentals_asked_at": read_at}
    totals: dict[str, Any] = {"companies_read": len(answers)} if answers else {}
    if trouble:
        totals |= {"companies_failed": len(trouble), "companies_trouble": trouble[0]}
    return answers, totals


def _due(symbols: Iterable[str], known: Documents, now: datetime, knobs: ProfileParameters) -> list[str]:
    """Those not asked about for so many days, longest ago first, at most a batch."""
    asked = {symbol: _asked_at(known, symbol) for symbol in symbols}
    due = [symbol for symbol, at in asked.items() if at <= now - timedelta(days=knobs.fundamentals_days)]
    return sorted(due, key=lambda symbol: asked[symbol])[: knobs.fundamentals_batch]


def _asked_at(known: Documents, symbol: str) -> datetime:
    """When the source last answered about it; long ago where it never did."""
    at = known.get((symbol, COMPANY), {}).get("document", {}).get("fundamentals_asked_at")
    return _EPOCH if at is None else datetime.fromisoformat(at)


def _fundamentals(answers: Mapping[str, dict[str, Any]], known: Documents, symbol: str) -> dict[str, Any]:
    """What is known of a company: what was said now, else what was said before, each with its own time."""
    before = known.get((symbol, COMPANY), {}).get("document", {})
    return {name: before[name] for name in FUNDAMENTAL_PARTS if name in before} | answers.get(symbol, {})

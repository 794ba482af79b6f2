"""Reading: signals, status, findings. Opens the ledger and nothing else; signals do without SQLAlchemy."""

import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from alpha_assets.commands import show
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.reading import SIGNAL_FIELDS, SignalsDegraded, refuse_unfollowed
from alpha_assets.reading import signals as newest_signals
from alpha_assets.settings import Settings
from alpha_assets.stores.home import refuse_other_interval

SHOWN_SIGNAL_FIELDS = ("symbol", "signal", "confidence", "risk", "bar_time", "model_version", "reason")

STATUS_FIELDS = (
    "symbol",
    "bars",
    "first_bar",
    "last_bar",
    "features_until",
    "models",
    "production_version",
    "production_regimes",
    "signal",
    "signal_age_s",
    "findings",
    "quarantined",
)
FINDING_FIELDS = ("symbol", "rule", "day", "seen_at")


def signals(settings: Settings, options: Namespace) -> None:
    """The newest signal of each symbol."""
    fields = SHOWN_SIGNAL_FIELDS if options.format == "table" else SIGNAL_FIELDS
    refuse_other_interval(settings)
    _refuse_no_symbol(options.symbols)
    if options.refresh:
        _say_anew(settings, options.symbols)
    with trouble_told() as troubles:
        rows = signal_rows(settings, options.symbols, options.max_age, **_filters(options))
    none = "no signals are held: alpha-assets refresh"
    chosen = any(value is not None for value in _filters(options).values())
    if not rows and chosen:
        none = "no signal fits"
    elif not rows and options.max_age is not None:
        none = _too_old(signal_rows(settings, options.symbols, None), options.max_age) or none
    show.table(rows, fields, options.format, none)
    missing = sorted(set(options.symbols or ()) - {row["symbol"] for row in rows})
    if rows and missing and not (chosen or troubles or options.max_age is not None):
        print(f"no signal is held of {', '.join(missing)}: alpha-assets refresh", file=sys.stderr)
    if options.format == "table" and rows:
        from alpha_assets.quant.parameters import DISCLAIMER

        stale = sum(not row["fresh"] for row in rows)
        if stale:
            word, advice = ("not fresh", "") if troubles else ("expired", "; alpha-assets refresh")
            print(f"{word}: {stale} of {show.counted(len(rows), 'signal')}{advice}")
        print(DISCLAIMER)


def _too_old(held: Sequence[dict[str, Any]], max_age: float) -> str | None:
    """Of signals that are all older than was asked for: how many there are, and how old the youngest is."""
    if not held:
        return None
    hours = (datetime.now(UTC) - max(row["created_at"] for row in held)) / timedelta(hours=1)
    return (
        f"{show.counted(len(held), 'signal')} held, none within --max-age {max_age:g} hours: "
        f"the youngest is {hours:.1f} hours old; alpha-assets refresh"
    )


def metrics(settings: Settings, options: Namespace) -> None:
    """How many signals say what."""
    _refuse_no_symbol(options.symbols)
    with trouble_told():
        told = newest_signals.metrics(options.symbols, options.max_age, settings, **_filters(options))
    if options.format == "table":
        times = {name: told[name] for name in ("oldest_bar", "newest_bar") if told[name] is not None}
        told = {**told, **{name: datetime.fromisoformat(at) for name, at in times.items()}}
    show.record(told, options.format)


def _say_anew(settings: Settings, symbols: Sequence[str] | None) -> None:
    """Make the signals of these symbols from the bars that are held, whatever is cached."""
    from alpha_assets.stations.signal import signal
    from alpha_assets.stores.lake import Lake
    from alpha_assets.stores.ledger import Ledger
    from alpha_assets.stores.registry import Registry

    ledger = Ledger(settings)
    if symbols is not None:
        _refuse_unfollowed(settings, symbols)
    chosen = list(dict.fromkeys(symbols or [row["symbol"] for row in ledger.universe()]))
    if not chosen:
        raise CommandFailed("the universe is empty: alpha-assets universe add SYMBOL")
    now = datetime.now(UTC)
    report = signal(Lake(settings), ledger, Registry(settings), settings, chosen, now, show.progress(), anew=True)
    if "trouble" in report.totals:
        print(f"alpha-assets: {report.totals['trouble']}", file=sys.stderr)


@contextmanager
def trouble_told() -> Iterator[list[warnings.WarningMessage]]:
    """Collects what the reader warns of, and says it on stderr in the end."""
    with warnings.catch_warnings(record=True) as troubles:
        warnings.simplefilter("always", SignalsDegraded)
        try:
            yield troubles
        finally:
            for trouble in troubles:
                print(f"alpha-assets: {trouble.message}", file=sys.stderr)


def _filters(options: Namespace) -> dict[str, Any]:
    return {"words": options.words, "min_confidence": options.min_confidence, "risks": options.risks}


def signal_rows(
    settings: Settings, symbols: Sequence[str] | None, max_age: float | None, **filters: Any
) -> list[dict[str, Any]]:
    """Signals as dicts, see ``reading.signals``."""
    return newest_signals(symbols, max_age, settings, **filters)


def status(settings: Settings, options: Namespace) -> None:
    """A line a symbol: how far each station has come."""
    from alpha_assets.stores.ledger import Ledger

    refuse_other_interval(settings)
    ledger = Ledger(settings)
    if options.symbols is not None:
        _refuse_unfollowed(settings, options.symbols)
    states, production = ledger.states(), ledger.production()
    said = {row["symbol"]: row for row in ledger.signals()}
    versions = Counter(symbol for (symbol, _), row in ledger.candidates().items() if row["model_version"])
    found = Counter(row["symbol"] for row in ledger.findings())
    now = datetime.now(UTC)
    rows = []
    for member in ledger.universe():
        symbol = member["symbol"]
        if options.symbols is not None and symbol not in options.symbols:
            continue
        state = states.get(symbol, {})
        signal = said.get(symbol)
        rows.append(
            {
                "symbol": symbol,
                "bars": state.get("bars") or 0,
                "first_bar": state.get("first_bar"),
                "last_bar": state.get("last_bar"),
                "features_until": state.get("features_until"),
                "models": versions[symbol],
                "production_version": production.get((symbol, "all"), {}).get("model_version"),
                "production_regimes": ", ".join(regime for regime in REGIMES if (symbol, regime) in production) or None,
                "signal": signal["signal"] if signal else None,
                "signal_age_s": round((now - signal["created_at"]).total_seconds()) if signal else None,
                "findings": found[symbol],
                "quarantined": _quarantine(state),
            }
        )
    show.table(rows, STATUS_FIELDS, options.format, "the universe is empty: alpha-assets universe add SYMBOL")


def findings(settings: Settings, options: Namespace) -> None:
    """What cleaning and the checks found and nobody cleared, of the symbols that are followed."""
    from alpha_assets.stores.ledger import Ledger

    refuse_other_interval(settings)
    ledger = Ledger(settings)
    if options.symbols is not None:
        _refuse_unfollowed(settings, options.symbols)
    wanted = options.symbols or [row["symbol"] for row in ledger.universe()]
    rows = [row for row in ledger.findings() if row["symbol"] in set(wanted)]
    rows.sort(key=lambda row: (row["symbol"], row["day"], row["rule"]))
    show.table(rows, FINDING_FIELDS, options.format, "nothing was found")


def _refuse_unfollowed(settings: Settings, symbols: Sequence[str]) -> None:
    _refuse_no_symbol(symbols)
    refuse_unfollowed(settings, symbols)


def _refuse_no_symbol(symbols: Sequence[str] | None) -> None:
    if symbols is not None and not symbols:
        raise CommandFailed("--symbols names no symbol: write them as A,B")


def _quarantine(state: dict[str, Any]) -> str | None:
    if not state.get("quarantine_cause"):
        return None
    return f"{state['quarantine_cause']}: {state['quarantine_reason']}"

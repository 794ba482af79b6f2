"""Profiles: one JSON document a symbol of return, volatility, drawdown and Sharpe ratio, kept in the ledger."""

from collections.abc import Sequence
from datetime import datetime

from alpha_assets.quant import calendars
from alpha_assets.quant.profiles import statistical_profile
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Report
from alpha_assets.stations.quarantine import PROFILE_FAILED, quarantine, release
from alpha_assets.stations.series import adjusted_bars, calendars_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger

STATISTICAL = "statistical"
SCHEMA_VERSION = 1


def profile(lake: Lake, ledger: Ledger, settings: Settings, symbols: Sequence[str], now: datetime) -> Report:
    """Write the statistical profile of each symbol whose newest bar is not in its document yet.

    A symbol whose figures cannot be computed is held and quarantined; the others are written.
    """
    report = Report()
    names = calendars_of(ledger)
    states, known = ledger.states(), ledger.profiles()
    pending = []
    for symbol in symbols:
        last = states.get(symbol, {}).get("last_bar")
        document = known.get((symbol, STATISTICAL), {}).get("document", {})
        if last is None:
            report.say(symbol, "empty", reason="no bars yet")
        elif document.get("bars_held") == states[symbol]["bars"] and document.get("as_of") == last.isoformat():
            report.say(symbol, "unchanged", as_of=document["as_of"])
        else:
            pending.append(symbol)
    if pending:
        bars, held = adjusted_bars(lake, settings, names, pending)
        rows, failed = [], {}
        for (symbol,), series in bars.group_by("symbol", maintain_order=True):
            a_year = calendars.bars_a_year(names[str(symbol)], settings.interval)
            state = states[str(symbol)]
            try:
                figures = statistical_profile(series, a_year)
            except Exception as error:  # one symbol of many: it is held with the reason, and the others are written
                failed[str(symbol)] = f"its profile cannot be computed: {type(error).__name__}: {error}"
                continue
            document = {**figures, "as_of": state["last_bar"].isoformat(), "bars_held": state["bars"]}
            rows.append(
                {
                    "symbol": symbol,
                    "kind": STATISTICAL,
                    "schema_version": SCHEMA_VERSION,
                    "document": document,
                    "written_at": now,
                }
            )
            report.say(str(symbol), "written", **_headline(figures))
        ledger.put_profiles(rows)
        release(ledger, states, report.in_state("written"), PROFILE_FAILED)
        quarantine(ledger, states, failed, PROFILE_FAILED, now)
        for symbol, reason in (held | failed).items():
            report.say(symbol, "held", reason=reason)
    report.totals = {"symbols": len(symbols), **report.states()}
    return report


def _headline(figures: dict[str, object]) -> dict[str, object]:
    return {name: figures[name] for name in ("annual_return", "annual_volatility", "sharpe", "max_drawdown")}

"""Checks of the bars. One step evaluates them all; each verdict is over the stored findings of the whole universe."""

from collections.abc import Iterator

import dagster as dg

from alpha_assets.assets.market import ohlcv
from alpha_assets.checks.frame import result_of, symbols_of
from alpha_assets.clock import Clock
from alpha_assets.sources.all import Sources
from alpha_assets.stations import inspect
from alpha_assets.stations.inspect import FINDING_CHECKS
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger

#: What is wrong with the program or the lake is an error; what is wrong with the world is a warning.
ERRORS = {"schema", "keys_unique", "ohlc_consistent"}

DESCRIPTIONS = {
    "schema": "The stored columns and types are the declared ones",
    "keys_unique": "One bar a symbol and time, in order",
    "ohlc_consistent": "Prices are positive and open and close lie within low and high",
    "sessions_complete": "Every session of the calendar inside a listing has a bar",
    "jumps_explained": "Every split-sized jump has a split",
    "fresh": "Each symbol holds what its source could have by now",
    "none_quarantined": "No symbol is quarantined",
}


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=ohlcv, description=text) for name, text in DESCRIPTIONS.items()],
    name="ohlcv_checks",
)
def ohlcv_checks(
    context: dg.AssetCheckExecutionContext,
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    sources: dg.ResourceParam[Sources],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.AssetCheckResult]:
    now = clock.now()
    inspect.inspect_bars(lake, ledger, symbols_of(context, ledger), now)
    verdicts = {
        "schema": inspect.schema_verdict(lake),
        **{name: inspect.findings_verdict(ledger, rules, what) for name, (rules, what) in FINDING_CHECKS.items()},
        "fresh": inspect.freshness_verdict(ledger, sources, now),
        "none_quarantined": inspect.quarantine_verdict(ledger),
    }
    for name, verdict in verdicts.items():
        severity = dg.AssetCheckSeverity.ERROR if name in ERRORS else dg.AssetCheckSeverity.WARN
        yield result_of(ohlcv, name, verdict, severity)


CHECKS = [ohlcv_checks]

"""Checks of the features, in the run that makes them or by themselves over the whole universe."""

from collections.abc import Iterator

import dagster as dg

from alpha_assets.assets.features import features
from alpha_assets.checks.frame import result_of, symbols_of
from alpha_assets.clock import Clock
from alpha_assets.settings import Settings
from alpha_assets.stations.inspect import features_verdict
from alpha_assets.stations.replay import causality_verdict
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger

DESCRIPTIONS = {
    "prefix_invariant": "Sampled past rows and their patterns equal what the bars up to then give: nothing looks ahead",
    "features_complete": "Features reach the last bar of every symbol that is not quarantined",
}


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=features, description=text) for name, text in DESCRIPTIONS.items()],
    name="features_checks",
)
def features_checks(
    context: dg.AssetCheckExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.AssetCheckResult]:
    symbols = symbols_of(context, ledger)
    causal = causality_verdict(lake, ledger, settings, symbols, clock.now())
    yield result_of(features, "prefix_invariant", causal, dg.AssetCheckSeverity.ERROR)
    yield result_of(features, "features_complete", features_verdict(ledger), dg.AssetCheckSeverity.WARN)


CHECKS = [features_checks]

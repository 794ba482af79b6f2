"""Checks of drift: what was found of the symbols of a run, and what stands of the whole universe."""

from collections.abc import Iterator

import dagster as dg

from alpha_assets.assets.promotion import promoted_model
from alpha_assets.checks.frame import result_of, symbols_of_cells
from alpha_assets.clock import Clock
from alpha_assets.settings import Settings
from alpha_assets.stations.drift import confirmed_verdict, drift, drift_verdict
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks

DESCRIPTIONS = {
    "features_undrifted": "The newest features look like those the models were trained on, by calibrated thresholds",
    "loss_undrifted": "No drift is borne out by realised loss",
}


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=promoted_model, description=text) for name, text in DESCRIPTIONS.items()],
    name="drift_checks",
)
def drift_checks(
    context: dg.AssetCheckExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - the checks have a job of their own, and hold it too
) -> Iterator[dg.AssetCheckResult]:
    symbols = symbols_of_cells(context, ledger)
    drift(lake, ledger, registry, settings, symbols, clock.now(), {"dagster_run_id": context.run.run_id})
    verdicts = {"features_undrifted": drift_verdict(ledger), "loss_undrifted": confirmed_verdict(ledger)}
    for name, verdict in verdicts.items():
        yield result_of(promoted_model, name, verdict, dg.AssetCheckSeverity.WARN)


CHECKS = [drift_checks]

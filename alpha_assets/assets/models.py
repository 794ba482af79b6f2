"""Candidates, one partition a (symbol, regime), and the pooled models that stand in where a symbol has too little."""

import dagster as dg

from alpha_assets.assets.features import features
from alpha_assets.assets.frame import OWNERS, Only, plain_failures, run_tags, say, speak, symbols_of
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbol_regime
from alpha_assets.settings import Settings
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.train import train
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    deps=[features],
    group_name="models",
    kinds={"lightgbm", "mlflow"},
    owners=OWNERS,
)
def pooled_models(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """One model a regime over all symbols: it stands in where a symbol has too little, and is the one to beat."""
    with plain_failures(context):
        report = train_pools(lake, ledger, registry, settings, clock.now(), run_tags(context), speak(context))
    return dg.MaterializeResult(metadata={**report.partitions, "run": report.totals | {"states": report.states()}})


@dg.asset(
    partitions_def=symbol_regime,
    backfill_policy=ONE_RUN,
    deps=[features, pooled_models],
    group_name="models",
    kinds={"lightgbm", "xgboost", "mlflow"},
    owners=OWNERS,
)
def candidate_model(
    context: dg.AssetExecutionContext,
    config: Only,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """All heads of a (symbol, regime), trained where its data changed, with their out-of-fold predictions."""
    keys, kept = symbols_of(context, config)
    cells = [(symbol, regime) for regime, symbol in (key.split("|", 1) for key in keys)]
    with plain_failures(context):
        report = train(lake, ledger, registry, settings, cells, clock.now(), run_tags(context), speak(context))
    return say(context, report, kept)

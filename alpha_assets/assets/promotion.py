"""Promotions, one partition a (symbol, regime)."""

import dagster as dg

from alpha_assets.assets.frame import OWNERS, Only, plain_failures, run_tags, say, speak, symbols_of
from alpha_assets.assets.models import candidate_model
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbol_regime
from alpha_assets.settings import Settings
from alpha_assets.stations.promote import promote
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    partitions_def=symbol_regime,
    backfill_policy=ONE_RUN,
    deps=[candidate_model],
    group_name="models",
    kinds={"mlflow", "sql"},
    owners=OWNERS,
)
def promoted_model(
    context: dg.AssetExecutionContext,
    config: Only,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """The decision on each version: a row in ``decisions``, the aliases that follow from it, a run in MLflow."""
    keys, kept = symbols_of(context, config)
    cells = [(symbol, regime) for regime, symbol in (key.split("|", 1) for key in keys)]
    run_id, tags = context.run.run_id, run_tags(context)
    with plain_failures(context):
        report = promote(lake, ledger, registry, settings, cells, clock.now(), run_id, tags, speak(context))
    return say(context, report, kept)

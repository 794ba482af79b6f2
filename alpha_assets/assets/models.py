"""Candidates, one partition a (symbol, regime)."""

import dagster as dg

from alpha_assets.assets.features import features
from alpha_assets.assets.frame import OWNERS, Only, plain_failures, run_tags, say, speak, symbols_of
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbol_regime
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Report
from alpha_assets.stations.train import ALL, train
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


def cells_of(context: dg.AssetExecutionContext, config: Only) -> tuple[list[str], list[str]]:
    """The symbols whose ``all`` cell this run works on, and the keys of the range it was not asked for."""
    keys, kept = symbols_of(context, config)
    return [key.removeprefix(f"{ALL}|") for key in keys if key.startswith(f"{ALL}|")], kept


def by_cell(context: dg.AssetExecutionContext, report: Report) -> Report:
    """A report by symbol as one by partition key; a cell of another regime than ``all`` says that it has no model."""
    cells = Report({f"{ALL}|{symbol}": figures for symbol, figures in report.partitions.items()}, report.totals)
    for key in context.partition_keys:
        if not key.startswith(f"{ALL}|"):
            cells.say(key, "not_trained", reason=f"no model of this regime is trained yet; «{ALL}» serves it")
    return cells


@dg.asset(
    partitions_def=symbol_regime,
    backfill_policy=ONE_RUN,
    deps=[features],
    group_name="models",
    kinds={"lightgbm", "mlflow"},
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
    """A direction classifier a symbol, trained where its data changed, with its out-of-fold predictions."""
    wanted, kept = cells_of(context, config)
    with plain_failures(context):
        report = train(lake, ledger, registry, settings, wanted, clock.now(), run_tags(context), speak(context))
    return say(context, by_cell(context, report), kept)

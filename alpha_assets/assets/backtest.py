"""The backtest of the whole universe, unpartitioned: one account that follows every model's word."""

import dagster as dg

from alpha_assets.assets.frame import OWNERS, plain_failures, run_tags, speak
from alpha_assets.assets.pictures import as_markdown
from alpha_assets.assets.promotion import promoted_model
from alpha_assets.clock import Clock
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.settings import Settings
from alpha_assets.stations.backtest import backtest as look_back
from alpha_assets.stations.backtest import brief
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    deps=[promoted_model],
    group_name="performance",
    kinds={"polars", "mlflow"},
    owners=OWNERS,
    description=(
        "What an account would have become that traded what models said out of fold, after costs, promoted or not. "
        f"{DISCLAIMER}"
    ),
)
def backtest(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    with plain_failures(context):
        found = look_back(lake, ledger, registry, settings, clock.now(), run_tags(context), speak(context))
    metadata = brief(found.told)
    if found.picture is not None:
        metadata["picture"] = dg.MetadataValue.md(f"{as_markdown(found.picture, 'backtest')}\n\n{DISCLAIMER}")
    return dg.MaterializeResult(metadata=metadata)

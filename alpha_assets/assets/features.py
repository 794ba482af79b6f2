"""Features, one partition a symbol."""

import dagster as dg

from alpha_assets.assets.frame import OWNERS, Only, plain_failures, say, speak, symbols_of
from alpha_assets.assets.market import ohlcv
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbols
from alpha_assets.quant.indicators import DEFAULT
from alpha_assets.settings import Settings
from alpha_assets.stations.featurise import featurise
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    partitions_def=symbols,
    backfill_policy=ONE_RUN,
    deps=[ohlcv],
    group_name="features",
    kinds={"deltalake", "talib"},
    owners=OWNERS,
    metadata={
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn("symbol", "string", "partition of the row"),
                dg.TableColumn("timestamp", "datetime", "start of the bar, UTC"),
                *(dg.TableColumn(feature.name, "float", feature.doc) for feature in DEFAULT.features),
            ]
        )
    },
)
def features(
    context: dg.AssetExecutionContext,
    config: Only,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """Dimensionless, causal features of every final bar, one row a bar."""
    wanted, kept = symbols_of(context, config)
    with plain_failures(context):
        report = featurise(lake, ledger, settings, wanted, speak(context), clock.now())
    return say(context, report, kept)

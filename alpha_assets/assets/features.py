"""Features, one partition a symbol."""

import dagster as dg

from alpha_assets.assets.frame import OWNERS, Only, plain_failures, say, speak, symbols_of
from alpha_assets.assets.market import ohlcv
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbols
from alpha_assets.quant.indicators import default_set
from alpha_assets.quant.regimes import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.recognise import recognise
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
                *(dg.TableColumn(one.name, "float", f"{one.doc} ({one.source})") for one in default_set().features),
                dg.TableColumn("regime", "string", "regime at the bar; null during its warm-up"),
                *(dg.TableColumn(f"regime_p_{name}", "float", f"probability of {name}") for name in REGIMES),
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
    """Dimensionless, causal features and the regime of every final bar; the columns shown are the set ``core``'s."""
    wanted, kept = symbols_of(context, config)
    with plain_failures(context):
        report = featurise(lake, ledger, settings, wanted, speak(context), clock.now())
        found = recognise(lake, ledger, settings, wanted, speak(context), clock.now())
    for symbol, figures in found.partitions.items():
        report.partitions[symbol]["patterns"] = figures["state"]
    report.totals["patterns"] = found.totals
    return say(context, report, kept)

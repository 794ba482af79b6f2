"""Signals, one partition a symbol."""

import dagster as dg

from alpha_assets.assets.features import features
from alpha_assets.assets.frame import OWNERS, Only, plain_failures, say, speak, symbols_of
from alpha_assets.assets.promotion import promoted_model
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbols
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.settings import Settings
from alpha_assets.stations.signal import signal
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    partitions_def=symbols,
    backfill_policy=ONE_RUN,
    deps=[features, promoted_model],
    group_name="signals",
    kinds={"sql", "deltalake"},
    owners=OWNERS,
    description=(
        "What model, indicators and patterns say of the latest final bar of each symbol, weighed by their track "
        "records: STRONG_BUY, BUY, HOLD, SELL or STRONG_SELL with a calibrated confidence, a price and its interval, "
        f"a risk and the reasons. Without a promoted model: HOLD. {DISCLAIMER}"
    ),
)
def signals(
    context: dg.AssetExecutionContext,
    config: Only,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    wanted, kept = symbols_of(context, config)
    with plain_failures(context):
        report = signal(lake, ledger, registry, settings, wanted, clock.now(), speak(context))
    return say(context, report, kept)

"""Profiles, one partition a symbol."""

import dagster as dg

from alpha_assets.assets.frame import OWNERS, Only, plain_failures, say, symbols_of
from alpha_assets.assets.market import ohlcv
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbols
from alpha_assets.settings import Settings
from alpha_assets.stations.profile import profile
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    partitions_def=symbols,
    backfill_policy=ONE_RUN,
    deps=[ohlcv],
    group_name="features",
    kinds={"json", "sql"},
    owners=OWNERS,
)
def statistical_profiles(
    context: dg.AssetExecutionContext,
    config: Only,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """Return, volatility, drawdown and Sharpe ratio of each symbol, as a JSON document in the ledger."""
    wanted, kept = symbols_of(context, config)
    with plain_failures(context):
        report = profile(lake, ledger, settings, wanted, clock.now())
    return say(context, report, kept)

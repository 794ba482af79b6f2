"""Bars and corporate actions, one partition a symbol."""

import dagster as dg

from alpha_assets.assets.frame import OWNERS, Refresh, plain_failures, say, speak, symbols_of
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbols
from alpha_assets.settings import Settings
from alpha_assets.sources.all import Sources
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.series import follow_calendars
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.run_locks import RunLocks


@dg.asset(
    partitions_def=symbols,
    backfill_policy=ONE_RUN,
    group_name="market",
    kinds={"deltalake", "polars"},
    owners=OWNERS,
    metadata={
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn("symbol", "string", "partition of the row"),
                dg.TableColumn("timestamp", "datetime", "start of the bar, UTC; a daily bar: its session at 00:00"),
                dg.TableColumn("open", "float", "first price as traded, listing currency"),
                dg.TableColumn("high", "float", "highest price as traded"),
                dg.TableColumn("low", "float", "lowest price as traded"),
                dg.TableColumn("close", "float", "last price as traded"),
                dg.TableColumn("volume", "float", "units traded"),
                dg.TableColumn("listing", "date", "first session of this company's use of the ticker"),
                dg.TableColumn("flags", "string", "cleaning rules that fired, null where none"),
                dg.TableColumn("fetched_at", "datetime", "when the row was learnt"),
            ]
        )
    },
)
def ohlcv(
    context: dg.AssetExecutionContext,
    config: Refresh,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    sources: dg.ResourceParam[Sources],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """Final bars as traded with their corporate actions: fetched, cleaned, every row accounted for."""
    wanted, kept = symbols_of(context, config)
    with plain_failures(context):
        follow_calendars(ledger, settings)
        report = ingest(lake, ledger, sources, settings, wanted, clock.now(), config.full, speak(context))
    return say(context, report, kept)

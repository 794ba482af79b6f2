"""What all checks share: whom a run is about, and how a verdict becomes Dagster's."""

import dagster as dg

from alpha_assets.stations.inspect import Verdict
from alpha_assets.stores.ledger import Ledger


def symbols_of(context: dg.AssetCheckExecutionContext, ledger: Ledger) -> list[str]:
    """The symbols of the run, or the universe where the checks were started by themselves."""
    op = context.op_execution_context
    if op.has_partition_key or op.has_partition_key_range:
        return list(op.partition_keys)
    return [row["symbol"] for row in ledger.universe()]


def symbols_of_cells(context: dg.AssetCheckExecutionContext, ledger: Ledger) -> list[str]:
    """As ``symbols_of`` where a partition of the asset is a cell, ``regime|symbol``."""
    return sorted({key.rpartition("|")[2] for key in symbols_of(context, ledger)})


def result_of(
    asset: dg.AssetsDefinition, name: str, verdict: Verdict, severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    """The verdict with its count and sample."""
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset.key,
        passed=verdict.passed,
        severity=severity,
        description=verdict.sentence,
        metadata={"count": verdict.count, "sample": verdict.sample},
    )

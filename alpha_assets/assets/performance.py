"""What became of signals, and how strategies did: unpartitioned, after the signals in the same run."""

from typing import Any

import dagster as dg

from alpha_assets.assets.frame import OWNERS, plain_failures, run_tags, speak, warn
from alpha_assets.assets.pictures import as_markdown
from alpha_assets.assets.signals import signals
from alpha_assets.clock import Clock
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.settings import Settings
from alpha_assets.stations.outcome import outcome
from alpha_assets.stations.perform import RELIABILITY_PICTURE, perform
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import PICTURE, Registry
from alpha_assets.stores.run_locks import RunLocks

#: By the file in MLflow the name of a picture in Dagster, and what it shows.
SHOWN = {
    PICTURE: ("picture", "account, falls, months and hit rate of the blend"),
    RELIABILITY_PICTURE: ("reliability", "share of stated confidences that came true, by confidence"),
}


class Rebuild(dg.Config):
    """``rebuild`` trades every signal anew with the bars of now, after bars or actions were restated."""

    rebuild: bool = False


@dg.asset(deps=[signals], group_name="performance", kinds={"sql"}, owners=OWNERS)
def signal_outcomes(
    context: dg.AssetExecutionContext,
    config: Rebuild,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """The position of every signal that would open one, entered at the next open: its return, costs and profit."""
    with plain_failures(context):
        report = outcome(lake, ledger, settings, clock.now(), speak(context), rebuild=config.rebuild)
    return dg.MaterializeResult(metadata={"run": report.totals})


@dg.asset(
    deps=[signal_outcomes],
    group_name="performance",
    kinds={"sql", "mlflow"},
    owners=OWNERS,
    description=(
        "How each strategy (the blend, each view, each kind of model) did by symbol, regime and window, beside holding "
        f"the same symbols and the naive rivals. {DISCLAIMER}"
    ),
)
def strategy_performance(
    context: dg.AssetExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    with plain_failures(context):
        report, pictures = perform(lake, ledger, registry, settings, clock.now(), run_tags(context))
    warn(context, report)
    metadata: dict[str, Any] = {"run": report.totals, "strategies": report.partitions}
    for file, (name, what) in SHOWN.items():
        if file in pictures:
            metadata[name] = dg.MetadataValue.md(f"{as_markdown(pictures[file], what)}\n\n{DISCLAIMER}")
    return dg.MaterializeResult(metadata=metadata)

"""Checks of the candidates, in the run that trains them or by themselves over the whole universe."""

from collections.abc import Iterator

import dagster as dg

from alpha_assets.assets.models import candidate_model
from alpha_assets.checks.frame import result_of, symbols_of_cells
from alpha_assets.clock import Clock
from alpha_assets.settings import Settings
from alpha_assets.stations.audit import overlap_verdict
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger

DESCRIPTIONS = {
    "windows_unseen": "Every out-of-fold prediction is of a bar that was known only after the last label its fit saw",
}


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=candidate_model, description=text) for name, text in DESCRIPTIONS.items()],
    name="training_checks",
)
def training_checks(
    context: dg.AssetCheckExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.AssetCheckResult]:
    symbols = symbols_of_cells(context, ledger)
    verdict = overlap_verdict(lake, ledger, settings, symbols, clock.now())
    yield result_of(candidate_model, "windows_unseen", verdict, dg.AssetCheckSeverity.ERROR)


CHECKS = [training_checks]

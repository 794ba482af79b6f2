"""Checks of the models that serve, in the run that decides on them or by themselves over the whole universe."""

from collections.abc import Iterator

import dagster as dg

from alpha_assets.assets.promotion import promoted_model
from alpha_assets.checks.frame import result_of, symbols_of_cells
from alpha_assets.clock import Clock
from alpha_assets.settings import Settings
from alpha_assets.stations.inspect_models import MODEL_CHECKS, aliases_verdict, inspect_models, models_verdict
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry

DESCRIPTIONS = {
    "production_predicts": "Every version in production loads and gives a probability for the newest bar",
    "feature_set_matches": "Every column that a version in production asks for is in the feature table it reads",
    "none_expired": "No model in production is older than its expiry",
    "aliases_decided": "Every alias in MLflow is explained by a recorded decision",
}

#: Age asks for a successor; the rest is a model that cannot serve, or serves without a decision.
WARNINGS = {"none_expired"}


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=promoted_model, description=text) for name, text in DESCRIPTIONS.items()],
    name="models_checks",
)
def models_checks(
    context: dg.AssetCheckExecutionContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    clock: dg.ResourceParam[Clock],
) -> Iterator[dg.AssetCheckResult]:
    symbols = symbols_of_cells(context, ledger)
    inspect_models(lake, ledger, registry, settings, symbols, clock.now())
    verdicts = {name: models_verdict(ledger, name) for name in MODEL_CHECKS}
    verdicts["aliases_decided"] = aliases_verdict(ledger, registry)
    for name, verdict in verdicts.items():
        severity = dg.AssetCheckSeverity.WARN if name in WARNINGS else dg.AssetCheckSeverity.ERROR
        yield result_of(promoted_model, name, verdict, severity)


CHECKS = [models_checks]

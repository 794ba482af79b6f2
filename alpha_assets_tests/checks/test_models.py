"""Checks of the models, evaluated by Dagster; what they find is tested beside the station that looks."""

from datetime import timedelta

import dagster as dg

from alpha_assets.checks.models import DESCRIPTIONS
from alpha_assets_tests.assets.world import NOW, World
from alpha_assets_tests.checks.test_bars import by_themselves


def test_each_speaks_for_the_whole_universe_and_only_age_is_a_warning(world: World) -> None:
    world.follow("AAA", "BBB")
    model = {"training_id": "t", "features_set": "features/core-of-old", "model_name": "AAA.all", "model_version": "1"}
    place = {"model_location": str(world.settings.home / "nowhere"), "model_digest": "d"}
    told = {"symbol": "AAA", "regime": "all", "seq": 1, "verdict": "promote", "reason": "because"}
    world.ledger.decide([{**told, **model, **place, "decided_at": NOW - timedelta(days=400)}])
    said = {name: verdict for name, verdict in by_themselves(world).items() if name in DESCRIPTIONS}
    assert {name: verdict["passed"] for name, verdict in said.items()} == {
        "production_predicts": False,
        "feature_set_matches": True,
        "none_expired": False,
        "aliases_decided": True,
    }
    assert said["production_predicts"]["sample"] == said["none_expired"]["sample"] == ["AAA all"]
    assert said["none_expired"]["severity"] == dg.AssetCheckSeverity.WARN
    assert said["production_predicts"]["severity"] == dg.AssetCheckSeverity.ERROR

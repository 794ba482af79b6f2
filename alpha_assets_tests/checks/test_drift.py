"""Checks of drift: what stands of the universe is reported, whomever a run was about."""

from typing import Any

import dagster as dg

from alpha_assets.automation.jobs import TRAIN
from alpha_assets.checks.drift import DESCRIPTIONS
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.stations.drift import CONFIRMED, DRIFTED, RULES, UNTOLD, rule_of
from alpha_assets_tests.assets.world import LAST, NOW, World
from alpha_assets_tests.checks.test_bars import verdicts


def note(world: World, symbol: str, *rules: str) -> None:
    """Findings as an earlier look has left them."""
    rows = [{"symbol": symbol, "rule": rule, "day": LAST, "seen_at": NOW} for rule in rules]
    world.ledger.note_findings({symbol: None}, RULES, rows)


def trained(world: World, *symbols: str) -> dict[str, dict[str, Any]]:
    result = world.run("train", TRAIN, symbols, ["all"])
    assert result.success
    return verdicts(result)


def looked(world: World) -> dict[str, dict[str, Any]]:
    """What the job of the checks alone says."""
    result = world.launch("look_for_drift", {}, {})
    assert result.success
    return verdicts(result)


def test_a_universe_without_models_passes(world: World) -> None:
    world.follow("AAA")
    found = looked(world)
    assert set(found) == set(DESCRIPTIONS)
    assert all(check["passed"] for check in found.values())
    assert found["features_undrifted"]["said"] == "no models see features unlike those they were trained on"


def test_a_run_over_others_forgets_no_drift_and_one_over_the_symbol_looks_again(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    note(world, "AAA", rule_of(DRIFTED, "all"), rule_of(CONFIRMED, "all"))
    note(world, "CCC", rule_of(DRIFTED, "volatile"))
    found = trained(world, "BBB")
    drifted, losing = (found[name] for name in ("features_undrifted", "loss_undrifted"))
    assert (drifted["passed"], drifted["count"]) == (False, 2)
    assert drifted["sample"] == [f"AAA all {LAST}", f"CCC volatile {LAST}"]
    assert drifted["said"] == "2 models see features unlike those they were trained on"
    assert (losing["passed"], losing["sample"]) == (False, [f"AAA all {LAST}"])
    assert {check["severity"] for check in (drifted, losing)} == {dg.AssetCheckSeverity.WARN}
    again = trained(world, "AAA")
    assert again["features_undrifted"]["sample"] == [f"CCC volatile {LAST}"]
    assert again["loss_undrifted"]["passed"]


def test_of_how_many_nothing_can_be_told_is_said_and_fails_nothing(world: World) -> None:
    world.follow("AAA", "BBB")
    note(world, "AAA", *(rule_of(UNTOLD, regime) for regime in REGIMES[:2]))
    found = trained(world, "BBB")["features_undrifted"]
    assert found["passed"]
    assert found["said"].endswith("; of 2 nothing can be told yet")

"""Checks of the candidates: a prediction whose fit had seen its window is an error of the run that trains."""

from datetime import date, timedelta

import dagster as dg
import polars as pl

from alpha_assets.automation.jobs import TRAIN
from alpha_assets.checks.training import DESCRIPTIONS
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets_tests.assets.world import NOW, World, at
from alpha_assets_tests.checks.test_bars import refreshed, verdicts

DAY = date(2023, 12, 6)


def predicted(world: World, symbol: str, learnt: timedelta) -> None:
    """A candidate with one prediction, made by a fit that had learnt until so long after the bar began."""
    row = {"symbol": symbol, "regime": "all", "timestamp": at(DAY), "training_id": "t", "origin": "oof"}
    said = dict.fromkeys(PREDICTIONS) | row | {"learnt_until": at(DAY) + learnt, "p_up": 0.5, "made_at": NOW}
    world.lake.append("predictions", pl.DataFrame([said], schema=dict(PREDICTIONS)))
    candidate = {"symbol": symbol, "regime": "all", "training_id": "t", "state": "trained", "reason": "by a test"}
    world.ledger.note_candidates([{**candidate, "trained_at": NOW}])


def test_a_training_looks_at_the_symbols_of_its_cells_and_names_a_fit_that_had_seen_its_window(world: World) -> None:
    world.follow("AAA", "BBB")
    refreshed(world, "AAA", "BBB")
    # New York closes at 21:00 UTC in December, and half an hour later the bar is known.
    predicted(world, "AAA", timedelta(hours=21, minutes=29))
    predicted(world, "BBB", timedelta(hours=21, minutes=30))
    found = verdicts(world.run("train", TRAIN, ["AAA", "BBB"], ["all"]))
    assert set(found) >= set(DESCRIPTIONS)
    overlap = found["windows_unseen"]
    assert (overlap["passed"], overlap["count"], overlap["sample"]) == (False, 1, [f"BBB {DAY}"])
    assert overlap["severity"] == dg.AssetCheckSeverity.ERROR

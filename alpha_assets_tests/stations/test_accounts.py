"""From what the station of signals says to what became of it: every view and kind is held to account."""

from pathlib import Path

import polars as pl
import pytest

from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.outcome import booked, outcome
from alpha_assets.stations.perform import perform
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets_tests.stations.line import copied, later

pytestmark = pytest.mark.xdist_group("line")


def test_what_views_and_kinds_said_day_by_day_is_booked_and_told_on_the_run_of_their_model(
    promoted: Path, tmp_path: Path
) -> None:
    line = copied(promoted, tmp_path / "home")
    for day in range(8):
        now = later(days=day)
        line.signal(now=now)
        outcome(line.lake, line.ledger, line.settings, now)
        Simulated(line.settings).advance(1)
        line.refresh(later(days=day + 1))
    outcome(line.lake, line.ledger, line.settings, later(days=9))
    found = booked(Outcomes(line.ledger).all())
    strategies = set(found["strategy"])
    assert {"view:technical", "view:model", "kind:direction"} <= strategies
    said = line.lake.read("signals").filter(pl.col("signal").is_in(["BUY", "SELL", "STRONG_BUY", "STRONG_SELL"]))
    blend = found.filter(pl.col("strategy") == "blend").select("symbol", "bar_time")
    assert blend.join(said, on=["symbol", "bar_time"], how="anti").is_empty()
    report, _ = perform(line.lake, line.ledger, line.registry, line.settings, later(days=9))
    assert set(report.partitions) == strategies
    assert report.totals["versions"] >= 1
    of_model = found.filter(pl.col("strategy") == "view:model", pl.col("status") == "closed").row(0, named=True)
    run = line.registry.client.get_model_version(of_model["model_name"], of_model["model_version"]).run_id
    told = line.registry.client.get_metric_history(run, "live_closed")
    assert (
        told[-1].value
        == found.filter(
            pl.col("model_name") == of_model["model_name"],
            pl.col("model_version") == of_model["model_version"],
            pl.col("strategy") == "view:model",
            pl.col("status") == "closed",
        ).height
    )

"""Checks of the bars: what each names, and that none forgets what a run over other symbols did not look at."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from alpha_assets.automation.jobs import REFRESH
from alpha_assets.checks import features
from alpha_assets.checks.bars import DESCRIPTIONS
from alpha_assets.quant.schema import TIME
from alpha_assets.sources.base import Cause
from alpha_assets.stations.ingest import FINDING_RULES
from alpha_assets_tests.assets.world import LAST, NOW, World, at


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """What each check said: whether it passed, how many it counted and whom it named."""
    return {
        check.check_name: {
            "passed": check.passed,
            "severity": check.severity,
            "said": check.description,
            **{name: value.value for name, value in check.metadata.items()},
        }
        for check in result.get_asset_check_evaluations()
    }


def refreshed(world: World, *symbols: str) -> dict[str, dict[str, Any]]:
    result = world.run("refresh", REFRESH, symbols)
    assert result.success
    return verdicts(result)


def by_themselves(world: World) -> dict[str, dict[str, Any]]:
    """All checks without any asset, over the universe."""
    job = dg.Definitions(
        assets=world.definitions.assets,
        asset_checks=world.definitions.asset_checks,
        jobs=[dg.define_asset_job("look", selection=dg.AssetSelection.all_asset_checks())],
        resources={**(world.definitions.resources or {}), **world.resources},
        executor=dg.in_process_executor,
    ).resolve_job_def("look")
    return verdicts(job.execute_in_process(instance=world.instance))


def store_broken(world: World, symbol: str, day: date, **prices: float) -> None:
    """Write a bar that cleaning would never let through, as a fault of the program would."""
    values = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1e6} | prices
    row = {"symbol": symbol, "timestamp": at(day), **values, "listing": day, "flags": None, "fetched_at": NOW}
    held = world.lake.read("bars", symbols=[])
    world.lake.append("bars", pl.DataFrame([row], schema=held.schema))


def test_clean_bars_pass_every_check(world: World) -> None:
    world.follow("AAA", "BBB")
    found = refreshed(world, "AAA", "BBB")
    assert set(found) == {*DESCRIPTIONS, *features.DESCRIPTIONS}
    assert {name for name, verdict in found.items() if not verdict["passed"]} == set()
    assert {verdict["count"] for verdict in found.values()} == {0}


def test_a_missing_session_is_named_by_symbol_and_date_and_counted_in_full(world: World) -> None:
    world.follow("AAA", "BBB")
    world.behaviour.without = {"BBB": {date(2023, 12, 5), date(2023, 12, 6)}}
    found = refreshed(world, "AAA", "BBB")["sessions_complete"]
    assert (found["passed"], found["count"]) == (False, 2)
    assert found["sample"] == ["BBB 2023-12-05", "BBB 2023-12-06"]
    assert found["severity"] == dg.AssetCheckSeverity.WARN


def test_a_long_list_is_a_sample_beside_the_full_count(world: World) -> None:
    world.follow("AAA")
    world.behaviour.without = {"AAA": {date(2023, 11, 6) + timedelta(days=number) for number in range(39)}}
    found = refreshed(world, "AAA")["sessions_complete"]
    assert found["count"] > 20
    assert len(found["sample"]) == 20
    assert found["said"].startswith(f"{found['count']} ")


def test_a_run_over_other_symbols_does_not_turn_a_failed_check_green(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.behaviour.without = {"AAA": {date(2023, 12, 5)}}
    assert not refreshed(world, "AAA")["sessions_complete"]["passed"]
    later = refreshed(world, "BBB", "CCC")["sessions_complete"]
    assert (later["passed"], later["sample"]) == (False, ["AAA 2023-12-05"])


def test_a_price_outside_its_range_is_an_error_named_by_symbol_and_date(world: World) -> None:
    world.follow("AAA", "BBB")
    refreshed(world, "AAA", "BBB")
    store_broken(world, "BBB", date(2023, 10, 2), high=9.5)
    found = refreshed(world, "AAA", "BBB")["ohlc_consistent"]
    assert (found["passed"], found["sample"]) == (False, ["BBB 2023-10-02"])
    assert found["severity"] == dg.AssetCheckSeverity.ERROR


def test_an_explained_look_clears_what_was_found(world: World) -> None:
    world.follow("AAA")
    refreshed(world, "AAA")
    world.ledger.note_findings({"AAA": None}, ["ohlc_broken"], [_finding("AAA", "ohlc_broken", date(2023, 12, 1))])
    assert refreshed(world, "AAA")["ohlc_consistent"]["passed"]


def test_a_split_sized_jump_without_an_event_is_named(world: World) -> None:
    assert "split_sized_jump" in FINDING_RULES
    world.follow("AAA", "BBB")
    refreshed(world, "AAA")
    world.ledger.note_findings({"AAA": None}, ["split_sized_jump"], [_finding("AAA", "split_sized_jump", LAST)])
    found = refreshed(world, "BBB")["jumps_explained"]
    assert (found["passed"], found["sample"]) == (False, [f"AAA {LAST}"])


def test_a_symbol_behind_its_source_is_named_with_both_dates(world: World) -> None:
    world.follow("AAA", "BBB")
    refreshed(world, "AAA")
    found = refreshed(world, "AAA")["fresh"]
    assert (found["passed"], found["count"]) == (False, 1)
    assert found["sample"] == ["BBB: holds nothing, its source could have 2024-01-09 00:00"]


def test_a_bar_stored_under_one_key_twice_is_an_error_named_by_symbol_and_date(world: World) -> None:
    world.follow("AAA", "BBB")
    refreshed(world, "AAA", "BBB")
    table = DeltaTable(f"{world.settings.lake}/bars")
    one = pl.DataFrame(table.to_pyarrow_table()).filter(pl.col("symbol") == "BBB", pl.col("timestamp") == at(LAST))
    assert one.height == 1
    write_deltalake(table, one.to_arrow(), mode="append")
    found = refreshed(world, "BBB")["keys_unique"]
    assert (found["passed"], found["count"], found["sample"]) == (False, 1, [f"BBB {LAST}"])
    assert found["severity"] == dg.AssetCheckSeverity.ERROR


@pytest.mark.parametrize("cause", [Cause.UNKNOWN_SYMBOL, Cause.OUTAGE])
def test_a_quarantined_symbol_is_named_until_it_is_well(world: World, cause: Cause) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.behaviour.failing = {"AAA": cause}
    refreshed(world, "AAA", "BBB", "CCC")
    world.behaviour.failing = {}
    later = refreshed(world, "BBB")["none_quarantined"]
    assert (later["passed"], later["sample"]) == (False, [f"AAA: {cause}"])
    assert refreshed(world, "AAA")["none_quarantined"]["passed"]


def test_the_checks_run_by_themselves_over_the_whole_universe(world: World) -> None:
    world.follow("AAA", "BBB")
    refreshed(world, "AAA", "BBB")
    store_broken(world, "AAA", date(2023, 10, 2), low=-1.0)
    found = by_themselves(world)
    assert found["ohlc_consistent"]["sample"] == ["AAA 2023-10-02"]


def _finding(symbol: str, rule: str, day: date) -> dict[str, Any]:
    assert TIME.time_zone == NOW.tzname()
    return {"symbol": symbol, "rule": rule, "day": day, "seen_at": NOW}

"""A run works on a range of partitions at once: what becomes of each is told apart, and one bad symbol stops nobody.

These tests drive real runs through Dagster over a real lake and ledger, because everything they guard is what Dagster
does with a range: which metadata lands on which partition, and what a failing step leaves behind.
"""

import json

import dagster as dg
import pytest

from alpha_assets.assets import frame
from alpha_assets.automation.jobs import REFRESH, TRAIN
from alpha_assets.sources.base import Cause
from alpha_assets.stores.lake import Lake
from alpha_assets_tests.assets.world import LAST, World, at, said, why

MANY = tuple(f"S{number:02}" for number in range(10))


def bars_held(lake: Lake) -> dict[str, int]:
    """How many bars of each symbol the lake holds."""
    return dict(lake.read("bars", columns=["symbol"]).group_by("symbol").len().sort("symbol").iter_rows())


def in_one_kilobyte(figures: dict[str, object]) -> bool:
    return len(json.dumps(figures, default=str).encode()) <= 1024


def test_a_run_of_one_partition_says_how_it_went(world: World) -> None:
    world.follow("AAA")
    result = world.run("refresh", REFRESH, ["AAA"])
    assert result.success
    for asset in REFRESH:
        assert list(said(result, asset)) == ["AAA"]
    assert said(result, "ohlcv")["AAA"]["state"] == "updated"
    assert world.ledger.states()["AAA"]["last_bar"] == at(LAST)


def test_a_run_over_three_partitions_says_of_each_how_it_went(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.run("refresh", REFRESH, ["BBB"])
    result = world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    assert result.success
    assert {key: figures["state"] for key, figures in said(result, "ohlcv").items()} == {
        "AAA": "updated",
        "BBB": "unchanged",
        "CCC": "updated",
    }
    for asset in REFRESH:
        metadata = said(result, asset)
        assert set(metadata) == {"AAA", "BBB", "CCC"}
        assert all("state" in figures and in_one_kilobyte(figures) for figures in metadata.values())


def test_a_run_says_its_totals_once_an_asset(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    result = world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    observed = result.asset_observations_for_node("ohlcv")
    assert [list(event.metadata) for event in observed] == [["run"]]
    assert observed[0].metadata["run"].value["states"] == {"updated": 3}
    assert not any("run" in figures for figures in said(result, "ohlcv").values())


def test_a_partition_the_run_is_not_for_is_kept_and_untouched(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    result = world.run("refresh", REFRESH, ["AAA", "CCC"])
    assert result.success
    for asset in REFRESH:
        assert said(result, asset)["BBB"]["state"] == "kept"
    assert set(bars_held(world.lake)) == {"AAA", "CCC"}
    assert world.behaviour.fetches == [["AAA", "CCC"]]
    assert "BBB" not in world.ledger.states()
    assert [row["symbol"] for row in world.ledger.signals()] == ["AAA", "CCC"]


def test_a_block_of_regimes_and_symbols_says_of_each_cell_how_it_went(world: World) -> None:
    world.follow("AAA", "BBB")
    world.run("refresh", REFRESH, ["AAA", "BBB"])
    tags = {
        "dagster/asset_partition_range_start": "all|AAA",
        "dagster/asset_partition_range_end": "trending|BBB",
    }
    result = world.launch("train", tags, {})
    assert result.success
    for asset in TRAIN:
        metadata = said(result, asset)
        assert set(metadata) == {"all|AAA", "all|BBB", "trending|AAA", "trending|BBB"}
        assert "kept" not in {figures["state"] for figures in metadata.values()}
        assert all(in_one_kilobyte(figures) for figures in metadata.values())
    assert {cell for cell, row in world.ledger.candidates().items() if row["reason"]} == {
        (symbol, regime) for symbol in ("AAA", "BBB") for regime in ("all", "trending")
    }


def test_a_training_told_its_cells_keeps_the_others(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    result = world.run("train", TRAIN, ["AAA", "CCC"], ["all", "sideways"])
    assert result.success
    for asset in TRAIN:
        kept = {cell for cell, figures in said(result, asset).items() if figures["state"] == "kept"}
        assert kept == {"all|BBB", "sideways|BBB", "trending|AAA", "trending|BBB", "trending|CCC"}
    assert set(world.ledger.candidates()) == {
        (name, regime) for name in ("AAA", "CCC") for regime in ("all", "sideways")
    }


def test_a_failing_symbol_is_quarantined_and_the_others_are_stored(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.behaviour.failing = {"BBB": Cause.OUTAGE}
    result = world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    assert result.success
    assert set(bars_held(world.lake)) == {"AAA", "CCC"}
    partition = said(result, "ohlcv")["BBB"]
    assert partition["state"] == "quarantined"
    assert partition["cause"] == "outage"
    assert partition["reason"] == "the source did not answer"
    state = world.ledger.states()["BBB"]
    assert (state["quarantine_cause"], state["attempts"]) == ("outage", 1)
    assert state["next_try"] > world.clock.now()


def test_the_check_names_the_quarantined_symbol_and_its_cause(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.behaviour.failing = {"BBB": Cause.MALFORMED}
    result = world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    check = next(one for one in result.get_asset_check_evaluations() if one.check_name == "none_quarantined")
    assert not check.passed
    assert check.metadata["count"].value == 1
    assert check.metadata["sample"].value == ["BBB: malformed"]


def test_a_quarantined_symbol_is_healthy_again_once_it_can_be_read(world: World) -> None:
    world.follow("AAA", "BBB")
    world.behaviour.failing = {"BBB": Cause.OUTAGE}
    world.run("refresh", REFRESH, ["AAA", "BBB"])
    world.behaviour.failing = {}
    world.run("refresh", REFRESH, ["AAA", "BBB"])
    state = world.ledger.states()["BBB"]
    assert (state["quarantine_cause"], state["attempts"], state["next_try"]) == (None, 0, None)
    assert bars_held(world.lake)["AAA"] == bars_held(world.lake)["BBB"]


def test_a_run_of_one_partition_fails_plainly_with_the_cause(world: World) -> None:
    world.follow("AAA", "BBB")
    world.behaviour.failing = {"BBB": Cause.UNKNOWN_SYMBOL}
    result = world.run("refresh", REFRESH, ["BBB"])
    assert not result.success
    assert why(result) == "BBB: the source does not know it"
    assert not any(event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)
    assert world.ledger.states()["BBB"]["quarantine_cause"] == "unknown_symbol"


def test_a_source_that_cannot_be_reached_fails_the_step_with_its_own_sentence(world: World) -> None:
    world.follow("AAA", "BBB")
    world.behaviour.unavailable = "the market is closed for repair: try the files"
    result = world.run("refresh", REFRESH, ["AAA", "BBB"])
    assert not result.success
    assert why(result) == "the market is closed for repair: try the files"
    assert {row["quarantine_cause"] for row in world.ledger.states().values()} == {"outage"}


@pytest.fixture
def _retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tries as ever, without the pauses of 20 seconds and more."""
    monkeypatch.setattr(frame, "PAUSES", (0.0, 0.0))


@pytest.mark.usefixtures("_retries_at_once")
def test_many_failures_that_can_heal_fail_the_step_after_the_good_ones_are_stored(world: World) -> None:
    world.follow(*MANY)
    world.behaviour.failing = dict.fromkeys(MANY[:5], Cause.RATE_LIMITED)
    result = world.run("refresh", REFRESH, MANY)
    assert not result.success
    assert "5 of 10 symbols failed for causes that can heal" in why(result)
    assert set(bars_held(world.lake)) == set(MANY[5:])
    assert len(world.behaviour.fetches) == 3


@pytest.mark.usefixtures("_retries_at_once")
def test_a_step_that_is_tried_again_heals_what_can_heal(world: World) -> None:
    world.follow(*MANY)
    world.behaviour.failing = dict.fromkeys(MANY[:5], Cause.RATE_LIMITED)
    world.behaviour.heals_at_fetch = 2
    result = world.run("refresh", REFRESH, MANY)
    assert result.success
    assert set(bars_held(world.lake)) == set(MANY)
    assert len(set(bars_held(world.lake).values())) == 1


@pytest.mark.parametrize(
    ("failing", "cause"),
    [(9, Cause.UNKNOWN_SYMBOL), (4, Cause.OUTAGE)],
    ids=["nine-unknown", "four-that-can-heal"],
)
def test_unknown_symbols_and_a_few_outages_do_not_fail_the_step(world: World, failing: int, cause: Cause) -> None:
    world.follow(*MANY)
    world.behaviour.failing = dict.fromkeys(MANY[:failing], cause)
    result = world.run("refresh", REFRESH, MANY)
    assert result.success
    states = [figures["state"] for figures in said(result, "ohlcv").values()]
    assert (states.count("quarantined"), states.count("updated")) == (failing, 10 - failing)


def test_long_reasons_are_cut_to_fit_the_event_and_whole_in_the_ledger(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alpha_assets_tests.assets import world as scripted

    monkeypatch.setitem(scripted.REASONS, Cause.OUTAGE, "no answer, " * 300)
    world.follow("AAA", "BBB")
    world.behaviour.failing = {"BBB": Cause.OUTAGE}
    result = world.run("refresh", REFRESH, ["AAA", "BBB"])
    assert in_one_kilobyte(said(result, "ohlcv")["BBB"])
    assert world.ledger.states()["BBB"]["quarantine_reason"] == "no answer, " * 300


def test_a_run_of_one_partition_shows_its_profile_and_a_run_of_many_one_picture_of_all(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    one = world.run("refresh", REFRESH, ["BBB"])
    summary = said(one, "statistical_profiles")["BBB"]["summary"]
    assert summary.startswith("![BBB: price, drawdown and volatility](data:image/png;base64,")
    assert "| drawdown.max |" in summary
    assert "| coverage.missing_sessions |" in summary
    many = world.run("refresh", REFRESH, ["AAA", "BBB", "CCC"])
    assert all(in_one_kilobyte(figures) for figures in said(many, "statistical_profiles").values())
    (observed,) = many.asset_observations_for_node("statistical_profiles")
    assert set(observed.metadata) == {"run", "universe"}
    assert str(observed.metadata["universe"].value).startswith("![return and volatility of 3 symbols](data:image/png")

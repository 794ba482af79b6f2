"""Sensors and schedules, each ticked for real on an instance: what they ask for, and what they say when they do not."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from alpha_assets.automation import jobs
from alpha_assets.automation.ranges import LAUNCHED_BY, RANGE_END, RANGE_START
from alpha_assets.automation.schedules import daily_drift_check, daily_refresh, daily_training_check
from alpha_assets.automation.sensors import new_bars, retraining, signals_after_training, watched_models
from alpha_assets.automation.wishes import ASK_AGAIN
from alpha_assets.partitions import SYMBOLS
from alpha_assets.quant.calendars import bounds, calendar_name
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.sources.base import Cause
from alpha_assets.sources.files import Files
from alpha_assets.sources.yahoo import Yahoo
from alpha_assets.stations.drift import CONFIRMED, DRIFTED, RULES, rule_of
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets_tests.assets.world import LAST, NOW, World, at, said


def tick(world: World, sensor: dg.SensorDefinition, cursor: str | None = None) -> Any:
    """One tick as the daemon does it: partitions resolved and checked, the cursor handed on."""
    with dg.build_sensor_context(
        instance=world.instance,
        definitions=world.definitions,
        cursor=cursor,
        resources={name: world.resources[name] for name in sorted(sensor.required_resource_keys)},
    ) as context:
        return sensor.evaluate_tick(context)


def span(request: dg.RunRequest) -> tuple[str, str]:
    return request.tags[RANGE_START], request.tags[RANGE_END]


def cells(first: str, last: str) -> tuple[str, str]:
    """The ends of a range over every regime of these symbols and those between."""
    return f"all|{first}", f"consolidation|{last}"


def unfinished(world: World, job: str, status: dg.DagsterRunStatus, tags: Mapping[str, str] | None = None) -> str:
    """A run of a job that is in this state and stays there."""
    run = world.instance.create_run_for_job(world.definitions.resolve_job_def(job), tags=tags or {}, status=status)
    return run.run_id


def candidates(*symbols: str, **known: Any) -> list[dict[str, Any]]:
    """As if every regime of these symbols had been trained a week ago, on 600 bars: old enough for another round."""
    row = {"state": "trained", "reason": "trained", "bars": 600, "trained_at": NOW - timedelta(days=7), **known}
    return [{"symbol": symbol, "regime": regime, **row} for symbol in symbols for regime in REGIMES]


def holds(world: World, *symbols: str, bars: int) -> None:
    """As if so many bars of each symbol, and their features, were stored."""
    last = at(LAST)
    world.ledger.note_state(
        [{"symbol": name, "bars": bars, "last_bar": last, "features_until": last} for name in symbols]
    )


def decide(world: World, run_id: str, *symbols: str) -> None:
    world.ledger.decide(
        [
            {
                "symbol": name,
                "regime": "all",
                "seq": 1,
                "verdict": "reject",
                "reason": "no skill",
                "evidence": {},
                "dagster_run": run_id,
                "decided_at": NOW,
            }
            for name in symbols
        ]
    )


# -- new bars ---------------------------------------------------------------------------------------------------------


def test_new_bars_asks_for_one_run_over_the_range_and_says_why(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    said = tick(world, new_bars)
    assert [(request.job_name, span(request)) for request in said.run_requests] == [("refresh", ("AAA", "CCC"))]
    assert said.run_requests[0].tags["alpha/reason"] == "3 of 3 symbols have a bar to come, first AAA"


def test_new_bars_registers_a_new_symbol_and_asks_for_it_in_the_same_tick(world: World) -> None:
    world.follow("MMM")
    world.follow("AAA", "ZZZ", register=False)
    said = tick(world, new_bars)
    assert [list(request.partition_keys) for request in said.dynamic_partitions_requests] == [["AAA", "ZZZ"]]
    assert [span(request) for request in said.run_requests] == [("MMM", "ZZZ")]
    assert said.run_requests[0].run_config == {}


def test_the_run_that_new_bars_asked_for_makes_the_next_tick_silent(world: World) -> None:
    world.follow("AAA", "BBB")
    first = tick(world, new_bars)
    request = first.run_requests[0]
    assert world.launch("refresh", request.tags, request.run_config).success
    second = tick(world, new_bars, first.cursor)
    assert second.run_requests == []
    assert second.skip_message == "all 2 symbols hold what their sources could have by now"


def test_a_quarantined_symbol_waits_for_its_next_try(world: World) -> None:
    world.follow("AAA", "BBB")
    world.behaviour.failing = {"BBB": Cause.OUTAGE}
    world.run("refresh", jobs.REFRESH, ["AAA", "BBB"])
    assert "1 quarantined, their next try is later" in tick(world, new_bars).skip_message
    world.clock.pass_by(timedelta(minutes=16))
    assert [span(request) for request in tick(world, new_bars).run_requests] == [("BBB", "BBB")]


def test_a_wish_that_no_run_fulfilled_is_asked_again_only_after_the_pause(world: World) -> None:
    world.follow("AAA")
    cursor = tick(world, new_bars).cursor
    world.clock.pass_by(ASK_AGAIN - timedelta(seconds=1))
    again = tick(world, new_bars, cursor)
    assert again.run_requests == []
    assert "just that was asked at 12:00 UTC and is asked again at 12:30" in again.skip_message
    world.clock.pass_by(timedelta(seconds=1))
    assert len(tick(world, new_bars, again.cursor or cursor).run_requests) == 1


def test_another_wish_is_asked_at_once(world: World) -> None:
    world.follow("AAA")
    cursor = tick(world, new_bars).cursor
    world.follow("BBB")
    assert [span(request) for request in tick(world, new_bars, cursor).run_requests] == [("AAA", "BBB")]


@pytest.mark.parametrize(
    "status",
    [
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ],
)
def test_new_bars_waits_for_a_refresh_under_way_and_names_it(world: World, status: dg.DagsterRunStatus) -> None:
    world.follow("AAA")
    run_id = unfinished(world, "refresh", status)
    said = tick(world, new_bars)
    assert said.run_requests == []
    assert f"run {run_id[:8]} of refresh is still under way" in said.skip_message


def test_a_run_that_was_recorded_and_never_queued_holds_up_nobody(world: World) -> None:
    world.follow("AAA")
    unfinished(world, "refresh", dg.DagsterRunStatus.NOT_STARTED)
    assert len(tick(world, new_bars).run_requests) == 1


def test_a_set_with_holes_is_one_run_told_its_symbols(world: World) -> None:
    names = [f"S{number}" for number in range(9)]
    world.follow(*names)
    holds(world, *names[1::2], bars=10)
    said = tick(world, new_bars)
    assert [span(request) for request in said.run_requests] == [("S0", "S8")]
    config = said.run_requests[0].run_config["ops"]
    assert {asset: part["config"]["only"] for asset, part in config.items()} == dict.fromkeys(jobs.REFRESH, names[::2])


def test_a_retired_symbol_is_not_asked_for(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.ledger.retire(["CCC"], NOW)
    assert [span(request) for request in tick(world, new_bars).run_requests] == [("AAA", "BBB")]


def test_an_empty_universe_asks_for_nothing(world: World) -> None:
    assert tick(world, new_bars).run_requests == []


def follow_source(world: World, source: str, symbol: str) -> None:
    row = {"symbol": symbol, "source": source, "calendar": calendar_name(symbol), "added_at": NOW}
    world.ledger.add_symbols([row])
    world.instance.add_dynamic_partitions(SYMBOLS, [symbol])


def test_a_source_that_cannot_say_what_it_has_stops_no_other_and_is_named_in_the_reason(world: World) -> None:
    world.follow("AAA")
    follow_source(world, "vanished", "BBB")
    answer = tick(world, new_bars)
    assert [span(request) for request in answer.run_requests] == [("AAA", "AAA")]
    holds(world, "AAA", bars=10)
    assert tick(world, new_bars).skip_message == (
        "all 1 symbols hold what their sources could have by now; the source vanished cannot say what it has of its "
        "symbols, 1 of them: KeyError: 'vanished'"
    )


@pytest.mark.parametrize("source", ["files", "yahoo"])
def test_new_bars_asks_for_a_symbol_whose_calendar_has_ended(world: World, tmp_path: Path, source: str) -> None:
    last = bounds("XBOM")[1]
    day = last + timedelta(days=(7 - last.weekday()) % 7 + 1)
    file = tmp_path / "TCS.NS.csv"
    file.write_text(f"date,open,high,low,close,volume\n{last},1,1,1,1,1\n{day},1,1,1,1,1\n")
    settings = world.settings.model_copy(update={"files": str(file)})
    world.sources |= {"files": Files(settings), "yahoo": Yahoo(settings)}
    follow_source(world, source, "TCS.NS")
    world.ledger.note_state([{"symbol": "TCS.NS", "bars": 9, "last_bar": at(last)}])
    world.clock.time = at(day) + timedelta(hours=12)
    assert [span(request) for request in tick(world, new_bars).run_requests] == [("TCS.NS", "TCS.NS")]
    world.ledger.note_state([{"symbol": "TCS.NS", "bars": 10, "last_bar": at(day)}])
    assert tick(world, new_bars).skip_message == "all 1 symbols hold what their sources could have by now"


# -- retraining -------------------------------------------------------------------------------------------------------


def test_a_symbol_never_trained_is_trained_once_it_holds_enough(world: World) -> None:
    world.follow("AAA", "BBB")
    holds(world, "AAA", "BBB", bars=world.settings.learning.min_rows)
    said = tick(world, retraining)
    assert [(request.job_name, span(request)) for request in said.run_requests] == [("train", cells("AAA", "BBB"))]
    assert said.run_requests[0].tags["alpha/reason"] == "2 of 2 symbols are due for a training, first AAA"


def test_a_training_that_was_asked_for_leaves_nothing_to_ask_for_whatever_came_of_each_cell(world: World) -> None:
    world.follow("AAA", "BBB")
    world.run("refresh", jobs.REFRESH, ["AAA", "BBB"])
    holds(world, "AAA", "BBB", bars=5000)
    (request,) = tick(world, retraining).run_requests
    assert world.launch("train", request.tags, request.run_config).success
    assert {row["state"] for row in world.ledger.candidates().values()} == {"empty"}
    assert tick(world, retraining).run_requests == []


def test_a_regime_that_nobody_has_looked_at_is_asked_for_beside_one_that_is_trained(world: World) -> None:
    world.follow("AAA")
    holds(world, "AAA", bars=600)
    of_all, *others = candidates("AAA")
    world.ledger.note_candidates([of_all])
    assert [span(request) for request in tick(world, retraining).run_requests] == [cells("AAA", "AAA")]
    world.ledger.note_candidates(others)
    assert tick(world, retraining).run_requests == []


def test_a_hundred_new_bars_ask_for_a_training(world: World) -> None:
    world.follow("AAA", "BBB")
    world.ledger.note_candidates(candidates("AAA", "BBB"))
    holds(world, "AAA", bars=699)
    holds(world, "BBB", bars=700)
    assert [span(request) for request in tick(world, retraining).run_requests] == [cells("BBB", "BBB")]


def test_a_week_old_model_is_trained_again_only_with_something_new(world: World) -> None:
    world.follow("AAA", "BBB")
    week = NOW - timedelta(days=7, minutes=1)
    world.ledger.note_candidates(candidates("AAA", "BBB", trained_at=week))
    holds(world, "AAA", bars=601)
    holds(world, "BBB", bars=600)
    assert [span(request) for request in tick(world, retraining).run_requests] == [cells("AAA", "AAA")]


def test_a_drift_that_the_loss_bears_out_asks_for_a_training_and_one_that_it_does_not_asks_for_none(
    world: World,
) -> None:
    world.follow("AAA", "BBB")
    world.ledger.note_candidates(candidates("AAA", "BBB"))
    holds(world, "AAA", "BBB", bars=600 + world.settings.drift.stride)
    rules = {"AAA": [DRIFTED], "BBB": [DRIFTED, CONFIRMED]}
    for symbol, whats in rules.items():
        found = [{"symbol": symbol, "rule": rule_of(what, "all"), "day": LAST, "seen_at": NOW} for what in whats]
        world.ledger.note_findings({symbol: None}, RULES, found)
    (request,) = tick(world, retraining).run_requests
    assert (request.job_name, span(request)) == ("train", cells("BBB", "BBB"))
    assert request.tags["alpha/reason"].endswith("1 because their drift is confirmed, first BBB")


def test_a_few_symbols_apart_are_trained_in_one_run_because_each_run_is_a_look_at_their_families(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.ledger.note_candidates(candidates("AAA", "BBB", "CCC"))
    holds(world, "AAA", "CCC", bars=700)
    holds(world, "BBB", bars=600)
    (request,) = tick(world, retraining).run_requests
    assert span(request) == cells("AAA", "CCC")
    assert "all|BBB" not in request.run_config["ops"]["candidate_model"]["config"]["only"]


def test_symbols_that_are_due_the_day_after_a_training_wait_for_the_next_round(world: World) -> None:
    world.follow("AAA", "BBB")
    world.ledger.note_candidates(candidates("AAA", "BBB", trained_at=NOW - timedelta(days=1)))
    holds(world, "AAA", bars=700)
    holds(world, "BBB", bars=600)
    said = tick(world, retraining)
    assert said.run_requests == []
    assert "wait for the round of" in said.skip_message


def test_why_no_training_is_due_is_said(world: World) -> None:
    world.follow("AAA")
    assert tick(world, retraining).skip_message == (
        "no symbol of 1 has 100 new bars or a model older than 7 days with news"
    )


def test_a_training_waits_for_the_refresh_under_way(world: World) -> None:
    world.follow("AAA")
    holds(world, "AAA", bars=5000)
    unfinished(world, "refresh", dg.DagsterRunStatus.STARTED)
    assert "a refresh is under way" in tick(world, retraining).skip_message


# -- signals after a training -----------------------------------------------------------------------------------------


def trained(world: World, decided: list[str], tags: Mapping[str, str] | None = None) -> Any:
    """What the sensor says after a successful training that decided on these symbols."""
    symbols = world.instance.get_dynamic_partitions("alpha_symbols")
    result = world.launch(
        "train", {RANGE_START: f"all|{symbols[0]}", RANGE_END: f"all|{symbols[-1]}", **(tags or {})}, {}
    )
    assert result.success
    decide(world, result.run_id, *decided)
    with dg.build_run_status_sensor_context(
        sensor_name="signals_after_training",
        dagster_event=result.get_run_success_event(),
        dagster_instance=world.instance,
        dagster_run=result.dagster_run,
        resources={"ledger": world.ledger},
    ) as context:
        return signals_after_training(context)


def test_a_training_is_followed_by_exactly_one_signals_run(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    said = trained(world, ["AAA", "BBB", "CCC"])
    assert [span(request) for request in said.run_requests] == [("AAA", "CCC")]
    assert said.run_requests[0].run_config == {}


def test_a_signals_run_after_a_training_leaves_holes_alone(world: World) -> None:
    world.follow("AAA", "BBB", "CCC", "DDD")
    answer = trained(world, ["AAA", "DDD"])
    assert [span(request) for request in answer.run_requests] == [("AAA", "DDD")]
    request = answer.run_requests[0]
    assert request.run_config == {"ops": {"signals": {"config": {"only": ["AAA", "DDD"]}}}}
    states = {
        key: what["state"]
        for key, what in said(world.launch("signals_only", request.tags, request.run_config), "signals").items()
    }
    assert states["BBB"] == states["CCC"] == "kept"
    assert [row["symbol"] for row in world.ledger.signals()] == ["AAA", "DDD"]


def test_a_training_is_answered_under_a_key_of_its_own_so_that_no_second_run_follows(world: World) -> None:
    world.follow("AAA")
    said = trained(world, ["AAA"])
    run_id = world.ledger.decisions()[0]["dagster_run"]
    assert [request.run_key for request in said.run_requests] == [f"signals-{run_id}"]


def test_a_training_that_decided_nothing_is_followed_by_nothing(world: World) -> None:
    world.follow("AAA")
    said = trained(world, [])
    assert isinstance(said, dg.SkipReason)
    assert "left no decision without its signal" in str(said.skip_message)


def test_a_training_that_died_after_it_decided_is_followed_by_the_signals_of_its_repetition(world: World) -> None:
    world.follow("AAA", "BBB")
    decide(world, "a-run-that-died", "AAA")
    said = trained(world, [], {LAUNCHED_BY: "alpha-assets", "dagster/parent_run_id": "a-run-that-died"})
    assert isinstance(said, dg.SensorResult)
    assert [span(request) for request in said.run_requests] == [("AAA", "AAA")]


def test_a_training_by_the_command_is_left_to_the_command(world: World) -> None:
    world.follow("AAA")
    said = trained(world, ["AAA"], {LAUNCHED_BY: "alpha-assets"})
    assert isinstance(said, dg.SkipReason)


# -- what is watched --------------------------------------------------------------------------------------------------


def canary(world: World, symbol: str, *said: float | None) -> None:
    """As if a version of a symbol were canary, and had said this of as many of its newest bars."""
    decision = {"symbol": symbol, "regime": "all", "seq": 1, "verdict": "hold", "stage": "canary", "reason": "passed"}
    model = {"training_id": f"of-{symbol}", "model_name": f"{symbol}.all", "model_version": "1"}
    world.ledger.decide([{**decision, **model, "decided_at": NOW}])
    stamps = world.lake.read("bars", symbols=[symbol])["timestamp"].tail(len(said)).to_list()
    view = dict.fromkeys(PREDICTIONS) | {"symbol": symbol, "regime": "all", "origin": "shadow"}
    rows = [
        {**view, "training_id": f"of-{symbol}", "timestamp": stamp, "p_up": p_up, "made_at": NOW}
        for stamp, p_up in zip(stamps, said, strict=True)
    ]
    world.lake.append("predictions", pl.DataFrame(rows, schema=dict(PREDICTIONS)))


def test_a_canary_whose_shadow_has_ended_asks_for_one_decision_and_one_that_waits_for_none(world: World) -> None:
    world.follow("AAA", "BBB", "CCC")
    world.run("refresh", jobs.REFRESH, ["AAA", "BBB", "CCC"])
    canary(world, "AAA", 0.5)
    answer = tick(world, watched_models)
    assert answer.run_requests == []
    assert "no canary has completed its shadow" in answer.skip_message
    canary(world, "BBB", None)
    (request,) = tick(world, watched_models).run_requests
    assert span(request) == ("all|BBB", "all|BBB")
    result = world.launch("decide", request.tags, request.run_config)
    assert said(result, "promoted_model")["all|BBB"]["state"] == "rejected"
    assert world.ledger.last_decisions()["BBB", "all"]["who"] == "watch"
    assert tick(world, watched_models).run_requests == []


# -- schedules --------------------------------------------------------------------------------------------------------


def scheduled(world: World, schedule: dg.ScheduleDefinition) -> Any:
    with dg.build_schedule_context(
        instance=world.instance,
        scheduled_execution_time=NOW,
        repository_def=world.definitions.get_repository_def(),
        resources={name: world.resources[name] for name in sorted(schedule.required_resource_keys)},
    ) as context:
        return schedule.evaluate_tick(context)


def test_the_daily_refresh_is_one_run_over_the_universe(lasting_world: World) -> None:
    lasting_world.follow("AAA", "BBB", "CCC", "DDD")
    lasting_world.ledger.retire(["BBB"], NOW)
    requests = scheduled(lasting_world, daily_refresh).run_requests
    assert [span(request) for request in requests] == [("AAA", "DDD")]
    assert requests[0].run_config["ops"]["ohlcv"]["config"]["only"] == ["AAA", "CCC", "DDD"]


def test_the_daily_refresh_gives_a_new_member_its_partition(lasting_world: World) -> None:
    lasting_world.follow("AAA")
    lasting_world.follow("BBB", register=False)
    assert [span(request) for request in scheduled(lasting_world, daily_refresh).run_requests] == [("AAA", "BBB")]


def test_the_daily_refresh_of_nothing_says_what_to_do(lasting_world: World) -> None:
    assert "universe add" in scheduled(lasting_world, daily_refresh).skip_message


def test_the_daily_training_check_asks_for_one_run_or_says_why_not(lasting_world: World) -> None:
    lasting_world.follow("AAA", "BBB")
    assert "no symbol of 2" in scheduled(lasting_world, daily_training_check).skip_message
    holds(lasting_world, "AAA", "BBB", bars=5000)
    assert [span(request) for request in scheduled(lasting_world, daily_training_check).run_requests] == [
        cells("AAA", "BBB")
    ]


def test_the_daily_look_for_drift_is_one_run_without_partitions_once_there_is_a_model(lasting_world: World) -> None:
    lasting_world.follow("AAA")
    assert "no model is trained yet" in scheduled(lasting_world, daily_drift_check).skip_message
    lasting_world.ledger.note_candidates(candidates("AAA"))
    (request,) = scheduled(lasting_world, daily_drift_check).run_requests
    assert lasting_world.launch("look_for_drift", request.tags, request.run_config).success
    run_id = unfinished(lasting_world, "look_for_drift", dg.DagsterRunStatus.STARTED)
    assert f"run {run_id[:8]}" in scheduled(lasting_world, daily_drift_check).skip_message


@pytest.mark.parametrize(("schedule", "job"), [(daily_refresh, "refresh"), (daily_training_check, "train")])
def test_a_schedule_waits_for_the_run_under_way(
    lasting_world: World, schedule: dg.ScheduleDefinition, job: str
) -> None:
    lasting_world.follow("AAA")
    holds(lasting_world, "AAA", bars=5000)
    run_id = unfinished(lasting_world, job, dg.DagsterRunStatus.STARTED)
    assert f"run {run_id[:8]} of {job} is still under way" in scheduled(lasting_world, schedule).skip_message

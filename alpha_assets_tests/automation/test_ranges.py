"""From a set of symbols to runs: every wanted key is worked on exactly once, and nothing else is."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.automation.ranges import FEW, RANGE_END, RANGE_START, RangeRun, covering, plan_runs

orders = st.lists(st.text("ABCDEFGHIJ", min_size=1, max_size=3), unique=True, max_size=30)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[list[str], set[str]]:
    """An instance's keys, and a set of wanted ones: a few, or a stretch with holes, or none."""
    order = draw(orders)
    start, stop = sorted((draw(st.integers(0, len(order))), draw(st.integers(0, len(order)))))
    holes = draw(st.sets(st.integers(0, 29)))
    return order, {key for number, key in enumerate(order[start:stop]) if number not in holes}


def worked_on(order: Sequence[str], run: RangeRun) -> list[str]:
    """The keys that Dagster and the assets make of a run's tags and config."""
    span = order[order.index(run.first) : order.index(run.last) + 1]
    config = run.config(["features"])
    only = config["ops"]["features"]["config"]["only"] if config else span
    assert set(only) <= set(span)
    return [key for key in span if key in only]


@given(wishes())
def test_the_runs_work_on_every_wanted_key_once_and_on_nothing_else(wish: tuple[list[str], set[str]]) -> None:
    order, wanted = wish
    runs = plan_runs(order, wanted)
    assert [key for run in runs for key in worked_on(order, run)] == [key for key in order if key in wanted]


@given(wishes())
def test_one_run_is_enough_but_for_a_few_keys_that_are_not_adjacent(wish: tuple[list[str], set[str]]) -> None:
    order, wanted = wish
    runs = plan_runs(order, wanted)
    assert len(runs) <= FEW
    if len(wanted) > FEW:
        assert len(runs) == 1
    if len(runs) > 1:
        assert all(run.first == run.last and run.only is None for run in runs)


@given(wishes())
def test_the_covering_run_works_on_exactly_the_wanted_keys(wish: tuple[list[str], set[str]]) -> None:
    order, wanted = wish
    if wanted:
        assert worked_on(order, covering(order, wanted)) == [key for key in order if key in wanted]


@given(orders)
def test_a_key_the_instance_does_not_know_is_left_out(order: list[str]) -> None:
    assert plan_runs(order, {"stranger"}) == []
    runs = plan_runs(order, {*order, "stranger"})
    assert [key for run in runs for key in worked_on(order, run)] == order


def test_the_whole_universe_is_one_plain_range() -> None:
    assert plan_runs(["A", "B", "C"], {"A", "B", "C"}) == [RangeRun("A", "C")]
    assert RangeRun("A", "C").config(["ohlcv"]) == {}


def test_range_ends_follow_the_instances_order_and_not_the_alphabet() -> None:
    assert plan_runs(["Z", "M", "A"], {"A", "Z", "M"}) == [RangeRun("Z", "A")]


def test_a_regime_is_part_of_tags_and_keys() -> None:
    run = covering(["A", "B", "C"], {"A", "C"})
    assert run.tags("all") == {RANGE_START: "all|A", RANGE_END: "all|C"}
    assert run.config(["candidate_model"], "all") == {
        "ops": {"candidate_model": {"config": {"only": ["all|A", "all|C"]}}}
    }


def test_a_full_refresh_tells_ohlcv_beside_the_keys() -> None:
    config = covering(["A", "B", "C"], {"A", "C"}).config(["ohlcv", "features"], full=True)
    assert config["ops"]["ohlcv"]["config"] == {"only": ["A", "C"], "full": True}
    assert config["ops"]["features"]["config"] == {"only": ["A", "C"]}

"""From a set of symbols to runs: every wanted key is worked on exactly once, and nothing else is."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.automation.ranges import FEW, RANGE_END, RANGE_START, RangeRun, covering, plan_runs
from alpha_assets.quant.symbols import REGIMES

orders = st.lists(st.text("ABCDEFGHIJ", min_size=1, max_size=3), unique=True, max_size=30)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[list[str], set[str]]:
    """An instance's keys, and a set of wanted ones: a few, or a stretch with holes, or none."""
    order = draw(orders)
    start, stop = sorted((draw(st.integers(0, len(order))), draw(st.integers(0, len(order)))))
    holes = draw(st.sets(st.integers(0, 29)))
    return order, {key for number, key in enumerate(order[start:stop]) if number not in holes}


regimes = st.none() | st.sets(st.sampled_from(REGIMES), min_size=1)


def product(order: Sequence[str], wanted: set[str], some: set[str] | None) -> list[str]:
    """The wanted symbols, or these regimes of them, in the instance's order."""
    symbols = [key for key in order if key in wanted]
    return symbols if some is None else [f"{name}|{key}" for name in REGIMES if name in some for key in symbols]


def between(order: Sequence[str], first: str, last: str) -> list[str]:
    """From one key to another, as Dagster reads a range: of a cell's key it takes regime and symbol apart."""
    if "|" not in first:
        return list(order[order.index(first) : order.index(last) + 1])
    ends = zip((REGIMES, order), first.split("|"), last.split("|"), strict=True)
    among, symbols = (between(axis, *pair) for axis, *pair in ends)
    return [f"{name}|{key}" for name in among for key in symbols]


def worked_on(order: Sequence[str], run: RangeRun) -> list[str]:
    """The keys that Dagster and the assets make of a run's tags and config."""
    span = between(order, run.tags()[RANGE_START], run.tags()[RANGE_END])
    config = run.config(["features"])
    only = config["ops"]["features"]["config"]["only"] if config else span
    assert set(only) <= set(span)
    return [key for key in span if key in only]


@given(wishes())
def test_the_runs_work_on_every_wanted_key_once_and_on_nothing_else(wish: tuple[list[str], set[str]]) -> None:
    order, wanted = wish
    done = [key for run in plan_runs(order, wanted) for key in worked_on(order, run)]
    assert sorted(done) == sorted(wanted)


@given(wishes())
def test_one_run_is_enough_but_for_a_few_keys_that_are_not_adjacent(wish: tuple[list[str], set[str]]) -> None:
    order, wanted = wish
    runs = plan_runs(order, wanted)
    assert len(runs) <= FEW
    if len(wanted) > FEW:
        assert len(runs) == 1
    if len(runs) > 1:
        assert all(run.first == run.last and run.only is None for run in runs)


@given(wishes(), regimes)
def test_the_covering_run_works_on_exactly_the_wanted_keys(
    wish: tuple[list[str], set[str]], some: set[str] | None
) -> None:
    order, wanted = wish
    if wanted:
        assert worked_on(order, covering(order, wanted, some)) == product(order, wanted, some)


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


def test_all_regimes_of_the_whole_universe_are_one_plain_range() -> None:
    assert covering(["A", "B", "C"], {"A", "B", "C"}, REGIMES) == RangeRun("all|A", "consolidation|C")


def test_a_hole_among_symbols_or_regimes_tells_the_run_its_cells() -> None:
    run = covering(["A", "B", "C"], {"A", "C"}, ["all"])
    assert run.tags() == {RANGE_START: "all|A", RANGE_END: "all|C"}
    assert run.config(["candidate_model"]) == {"ops": {"candidate_model": {"config": {"only": ["all|A", "all|C"]}}}}
    assert covering(["A", "B"], {"A", "B"}, ["all", "trending"]).only is None
    assert covering(["A"], {"A"}, ["volatile", "all"]).only == ("all|A", "volatile|A")


def test_a_full_refresh_tells_ohlcv_beside_the_keys() -> None:
    config = covering(["A", "B", "C"], {"A", "C"}).config(["ohlcv", "features"], full=True)
    assert config["ops"]["ohlcv"]["config"] == {"only": ["A", "C"], "full": True}
    assert config["ops"]["features"]["config"] == {"only": ["A", "C"]}

"""What automation wants, from what is stored and what the sources could have."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.automation.wishes import ASK_AGAIN, Asked, Wish, bars_wanted, training_wanted
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.sources.base import Reach

NOW = datetime(2024, 1, 10, 12, tzinfo=UTC)
NEWEST = datetime(2024, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)

Row = dict[str, Any]


def members(*symbols: str) -> list[Row]:
    return [{"symbol": symbol, "source": "simulated"} for symbol in symbols]


def bars(state: Row | None, newest: datetime | None = NEWEST) -> Wish:
    states = {} if state is None else {"A": state}
    return bars_wanted(members("A"), states, Reach({"A": newest}), NOW)


def training(state: Row, candidate: Row | None, **limits: Any) -> Wish:
    whole = {"last_bar": NEWEST, "features_until": NEWEST, **state}
    whole_cell = None if candidate is None else {"trained_at": NOW - DAY, **candidate}
    candidates = {("A", regime): whole_cell for regime in REGIMES if whole_cell}
    rules = {"after_bars": 100, "after": timedelta(days=7), "apart": timedelta(0), "least_bars": 500} | limits
    return training_wanted(members("A"), {"A": whole}, candidates, NOW, **rules)


def test_a_symbol_never_read_is_wanted() -> None:
    assert bars(None).symbols == ["A"]


def test_a_symbol_whose_source_could_have_a_newer_bar_is_wanted() -> None:
    assert bars({"last_bar": NEWEST - DAY}).symbols == ["A"]


def test_a_symbol_that_holds_the_newest_bar_is_not_wanted_and_the_reason_says_so() -> None:
    wish = bars({"last_bar": NEWEST})
    assert wish.symbols == []
    assert wish.reason == "all 1 symbols hold what their sources could have by now"


def test_a_symbol_of_which_the_source_knows_nothing_is_not_wanted() -> None:
    assert bars({"last_bar": None}, None).symbols == []


def test_a_quarantined_symbol_waits_until_its_next_try_is_due() -> None:
    ill = {"last_bar": NEWEST - DAY, "next_try": NOW + timedelta(minutes=1)}
    assert bars(ill).symbols == []
    assert "1 quarantined" in bars(ill).reason
    assert bars({**ill, "next_try": NOW}).symbols == ["A"]


def test_the_symbols_of_a_source_that_cannot_say_are_neither_wanted_nor_counted_and_the_reason_names_it() -> None:
    both = [*members("A"), {"symbol": "B", "source": "files"}]
    held = {"A": {"last_bar": NEWEST}}
    wish = bars_wanted(both, held, Reach({"A": NEWEST}, {"files": "the source files cannot say"}), NOW)
    assert (wish.symbols, wish.marks) == ([], {})
    assert wish.reason == "all 1 symbols hold what their sources could have by now; the source files cannot say"


@given(st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(-3, 3), min_size=1))
def test_exactly_the_symbols_that_are_behind_are_wanted(ahead: dict[str, int]) -> None:
    states = {symbol: {"last_bar": NEWEST + days * DAY} for symbol, days in ahead.items()}
    wish = bars_wanted(members(*ahead), states, Reach(dict.fromkeys(ahead, NEWEST)), NOW)
    assert wish.symbols == sorted(symbol for symbol, days in ahead.items() if days < 0)
    assert set(wish.marks) == set(wish.symbols)


def test_a_symbol_never_trained_is_wanted_once_it_holds_enough_bars() -> None:
    assert training({"bars": 499}, None).symbols == []
    assert training({"bars": 500}, None).symbols == ["A"]


def test_a_hundred_new_bars_ask_for_a_training() -> None:
    assert training({"bars": 1099}, {"bars": 1000}).symbols == []
    assert training({"bars": 1100}, {"bars": 1000}).symbols == ["A"]


def test_an_old_model_is_trained_again_only_with_something_new() -> None:
    old = {"trained_at": NOW - timedelta(days=7, seconds=1), "bars": 1000}
    assert training({"bars": 1001}, old).symbols == ["A"]
    assert training({"bars": 1000}, old).symbols == []
    assert training({"bars": 1001}, {**old, "trained_at": NOW - timedelta(days=7)}).symbols == []


def test_a_model_whose_regime_rests_is_looked_at_as_seldom_as_the_others() -> None:
    rested = {"trained_at": NOW - timedelta(days=90), "bars": 1000}
    assert training({"bars": 1005}, {**rested, "trained_until": NEWEST - 5 * DAY}).symbols == []
    assert training({"bars": 1005}, {**rested, "trained_until": NEWEST - 7 * DAY}).symbols == ["A"]


def test_one_cell_that_nobody_has_looked_at_makes_its_symbol_due_once_it_holds_enough_bars() -> None:
    known = {("A", regime): {"trained_at": NOW, "bars": 900} for regime in REGIMES[:-1]}
    rules = {"after_bars": 100, "after": timedelta(days=7), "apart": timedelta(0), "least_bars": 500}
    state = {"bars": 900, "last_bar": NEWEST, "features_until": NEWEST}
    assert training_wanted(members("A"), {"A": state}, known, NOW, **rules).symbols == ["A"]
    known["A", REGIMES[-1]] = {"trained_at": NOW, "bars": 900}
    assert training_wanted(members("A"), {"A": state}, known, NOW, **rules).symbols == []


def test_a_symbol_whose_features_lag_behind_its_bars_waits_for_them() -> None:
    assert training({"bars": 5000, "features_until": NEWEST - DAY}, None).symbols == []


def test_confirmed_drift_asks_sooner_for_a_training_but_not_at_every_bar_and_the_reason_says_so() -> None:
    fewer = {"drifted": {"A"}, "drifted_after_bars": 30}
    assert training({"bars": 1029}, {"bars": 1000}, **fewer).symbols == []
    assert training({"bars": 1030}, {"bars": 1000}).symbols == []
    wish = training({"bars": 1030}, {"bars": 1000}, **fewer)
    assert wish.symbols == ["A"]
    assert wish.reason.endswith("due for a training, first A; 1 because their drift is confirmed, first A")
    assert "drift" not in training({"bars": 1100}, {"bars": 1000}, **fewer).reason


def test_why_no_training_is_wanted_is_a_sentence() -> None:
    assert (
        training({"bars": 0}, None).reason == "no symbol of 1 has 100 new bars or a model older than 7 days with news"
    )


def test_the_same_wish_is_recognised_whatever_the_order_and_another_is_not() -> None:
    wish = Wish(["A", "B"], "", {"A": "1", "B": "2"})
    assert Wish(["A", "B"], "", {"B": "2", "A": "1"}).digest == wish.digest
    assert Wish(["A", "B"], "", {"A": "1", "B": "3"}).digest != wish.digest


@given(st.timedeltas(timedelta(0), timedelta(hours=2)))
def test_a_wish_just_asked_is_not_asked_again_until_the_pause_is_over(later: timedelta) -> None:
    wish = Wish(["A"], "", {"A": "1"})
    memory = Asked.read(Asked().now(wish, NOW).write())
    again = memory.again(wish)
    assert again is not None
    assert (NOW + later < again) == (later < ASK_AGAIN)
    assert memory.again(Wish(["A"], "", {"A": "2"})) is None


def test_the_pause_doubles_while_the_same_wish_stays_unfulfilled_up_to_a_day() -> None:
    wish, memory, now = Wish(["A"], "", {"A": "1"}), Asked(), NOW
    pauses = []
    for _ in range(8):
        memory = memory.now(wish, now)
        again = memory.again(wish)
        assert again is not None
        pauses.append(again - now)
        now = again
    assert pauses[:3] == [ASK_AGAIN, 2 * ASK_AGAIN, 4 * ASK_AGAIN]
    assert pauses[-1] == timedelta(days=1)
    assert memory.now(Wish(["B"], "", {"B": "1"}), now).times == 1


def test_an_empty_cursor_remembers_nothing() -> None:
    assert Asked.read(None).again(Wish(["A"], "")) is None


def rounds(looked: dict[str, datetime], now: datetime = NOW) -> Wish:
    """What is wanted where each of these symbols has 200 new bars, a week lying between rounds."""
    known = {(symbol, regime): {"trained_at": at, "bars": 800} for symbol, at in looked.items() for regime in REGIMES}
    states = {symbol: {"bars": 1000, "last_bar": NEWEST, "features_until": NEWEST} for symbol in [*looked, "NEW"]}
    rules = {"after_bars": 100, "after": timedelta(days=7), "apart": timedelta(days=7), "least_bars": 500}
    return training_wanted(members(*states), states, known, now, **rules)


def test_whoever_is_due_waits_for_the_next_round_and_the_reason_says_when_and_why() -> None:
    wish = rounds({"A": NOW - 30 * DAY, "B": NOW - 2 * DAY})
    assert wish.symbols == []
    assert wish.reason == (
        "3 of 3 symbols are due for a training, first A, and wait for the round of 2024-01-15 12:00 UTC, because each "
        "spends level at the gate; «alpha-assets train» waits for none"
    )
    assert rounds({"A": NOW - 30 * DAY, "B": NOW - 2 * DAY}, NOW + 5 * DAY).symbols == ["A", "B", "NEW"]


def test_symbols_that_fall_due_day_by_day_are_trained_in_one_round_a_week() -> None:
    looked = {symbol: NOW - number * DAY for number, symbol in enumerate("ABCDEFG", start=20)}
    asked = []
    for day in range(28):
        wish = rounds(looked, NOW + day * DAY)
        looked |= dict.fromkeys(wish.symbols, NOW + day * DAY)
        asked += [day] if wish.symbols else []
    assert asked == [0, 7, 14, 21]


def test_a_regime_that_nobody_has_looked_at_waits_for_no_round() -> None:
    known = {("A", regime): {"trained_at": NOW, "bars": 900} for regime in REGIMES[:-1]}
    rules = {"after_bars": 100, "after": timedelta(days=7), "apart": timedelta(days=7), "least_bars": 500}
    state = {"bars": 900, "last_bar": NEWEST, "features_until": NEWEST}
    assert training_wanted(members("A"), {"A": state}, known, NOW, **rules).symbols == ["A"]

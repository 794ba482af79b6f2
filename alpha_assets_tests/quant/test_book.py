"""A position earns what its label says, to the cent what a hand computes, and the same however the book is fed."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.book import POSITIONS, marks, positions, resume_points
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.schema import DIVIDEND, SPLIT, TIME
from alpha_assets_tests.quant.trading import (
    ALL_WAYS,
    LAG,
    PLAIN,
    actions_of,
    bars_of,
    both,
    day,
    market,
    random_signals,
    said,
)

# -- ten trades by hand -----------------------------------------------------------------------------------------------

#: symbol: bars, actions, signals (bar, side), and what is booked. Every position is 1,000 at its entry; horizon 3 bars,
#: stop 10 % and target 20 % of the entry's price; 10 bp of the traded value a side; 1 % a year for what is borrowed.
FLAT = (50.0, 51.0, 49.0, 50.0)
TRADES: dict[str, Any] = {
    # Long of 20 units at 50, left at the open of the third bar after at 55. 20 x 55 = 1,100.
    # Costs 1.00 + 1.10. 100 - 2.10 = 97.90.
    "LONG": {
        "bars": [FLAT, FLAT, FLAT, FLAT, (55.0, 56.0, 54.0, 55.0)],
        "signals": [(0, 1)],
        "booked": [(0, 1, "closed", "horizon", 1, 4, 50.0, 55.0, 20.0, 20.0, 0.0, 100.0, 2.10, 97.90)],
    },
    # Short of 20 at 50, bought back at 52 after 3 days: 20 x 52 = 1,040, a loss of 40.
    # Costs 1.00 + 1.04, borrowing 1,000 x 1 % x 3 / 365 = 0.0822. -40 - 2.1222 = -42.1222.
    "SHORT": {
        "bars": [FLAT, FLAT, FLAT, FLAT, (52.0, 53.0, 51.0, 52.0)],
        "signals": [(0, -1)],
        "booked": [(0, -1, "closed", "horizon", 1, 4, 50.0, 52.0, 20.0, 20.0, 0.0, -40.0, 2.1222, -42.1222)],
    },
    # Long of 20 at 50: the stop is 45, and bar 2 falls to 44 from an open above it. 20 x 45 = 900.
    # Costs 1.00 + 0.90. -100 - 1.90 = -101.90.
    "STOP": {
        "bars": [FLAT, FLAT, (49.0, 50.0, 44.0, 46.0), FLAT, FLAT],
        "signals": [(0, 1)],
        "booked": [(0, 1, "closed", "stop", 1, 2, 50.0, 45.0, 20.0, 20.0, 0.0, -100.0, 1.90, -101.90)],
    },
    # Short of 20 at 50: the target is 40, which bar 1 itself reaches. 20 x 40 = 800, a gain of 200.
    # Costs 1.00 + 0.80, nothing borrowed overnight. 200 - 1.80 = 198.20.
    "TARGET": {
        "bars": [FLAT, (50.0, 51.0, 39.0, 42.0), FLAT, FLAT, FLAT],
        "signals": [(0, -1)],
        "booked": [(0, -1, "closed", "target", 1, 1, 50.0, 40.0, 20.0, 20.0, 0.0, 200.0, 1.80, 198.20)],
    },
    # Long of 20 at 50, split 5 : 1 before bar 2: 100 units, left at 11. 100 x 11 = 1,100.
    # The stop of 45 has become 9, which the lows of 9.80 do not meet. Costs 1.00 + 1.10. 100 - 2.10 = 97.90.
    "SPLIT": {
        "bars": [FLAT, FLAT, (10.0, 10.2, 9.8, 10.0), (10.0, 10.2, 9.8, 10.0), (11.0, 11.2, 10.8, 11.0)],
        "actions": [(2, SPLIT, 5.0)],
        "signals": [(0, 1)],
        "booked": [(0, 1, "closed", "horizon", 1, 4, 50.0, 11.0, 20.0, 100.0, 0.0, 100.0, 2.10, 97.90)],
    },
    # Short of 20 at 50 pays a dividend of 2 a unit, 40, on bar 3, and to pay it sells 40 / 48 more at the 48 that the
    # close of 50 leaves: 20.8333 units, bought back at 48: 1,000. Nothing won, nothing lost.
    # Costs 1.00 + 1.00, borrowing 0.0822. -2.0822.
    "DIVIDEND": {
        "bars": [FLAT, FLAT, FLAT, (48.0, 49.0, 47.0, 48.0), (48.0, 49.0, 47.0, 48.0)],
        "actions": [(3, DIVIDEND, 2.0)],
        "signals": [(0, -1)],
        "booked": [(0, -1, "closed", "horizon", 1, 4, 50.0, 48.0, 20.0, 20.8333, -40.0, 0.0, 2.0822, -2.0822)],
    },
    # Long of 20 at 50; a SELL of bar 1 closes it at the open of bar 2, 51, and opens a short of 1,000 / 51 = 19.6078.
    # The long: 20 x 51 = 1,020; costs 1.00 + 1.02; 20 - 2.02 = 17.98.
    # The short is left at the last open of the three, 51: costs 1.00 + 1.00, borrowing 0.0822; -2.0822.
    "TURN": {
        "bars": [FLAT, FLAT, *[(51.0, 52.0, 50.0, 51.0)] * 4],
        "signals": [(0, 1), (1, -1)],
        "booked": [
            (0, 1, "closed", "opposite", 1, 2, 50.0, 51.0, 20.0, 20.0, 0.0, 20.0, 2.02, 17.98),
            (1, -1, "closed", "horizon", 2, 5, 51.0, 51.0, 19.6078, 19.6078, 0.0, 0.0, 2.0822, -2.0822),
        ],
    },
    # Long of 20 at 50, still held at the close of bar 2, 53: 1,060. So far it has cost 1.00 to enter. 60 - 1 = 59.
    "OPEN": {
        "bars": [FLAT, FLAT, (52.0, 54.0, 51.0, 53.0)],
        "signals": [(0, 1)],
        "booked": [(0, 1, "open", None, 1, None, 50.0, 53.0, 20.0, 20.0, 0.0, 60.0, 1.00, 59.0)],
    },
    # Long of 20 at 50, stop 45: bar 2 opens at 42, below it, and fills there. 20 x 42 = 840.
    # Costs 1.00 + 0.84. -160 - 1.84 = -161.84.
    "GAP": {
        "bars": [FLAT, FLAT, (42.0, 47.0, 41.0, 46.0), FLAT, FLAT],
        "signals": [(0, 1)],
        "booked": [(0, 1, "closed", "stop", 1, 2, 50.0, 42.0, 20.0, 20.0, 0.0, -160.0, 1.84, -161.84)],
    },
    # Long of 20 at 50; bar 2 is the last one there ever is, at 50: left at 50 less 30 %, 35. 20 x 35 = 700.
    # Costs 1.00 + 0.70. -300 - 1.70 = -301.70.
    "GONE": {
        "bars": [FLAT, FLAT, FLAT],
        "signals": [(0, 1)],
        "booked": [(0, 1, "closed", "delisted", 1, 2, 50.0, 35.0, 20.0, 20.0, 0.0, -300.0, 1.70, -301.70)],
    },
}

BOOKED = ("bar_time", "side", "status", "reason", "entered_at", "left_at", "entry_price", "exit_price")
MONEY = ("quantity", "exit_quantity", "dividends", "gross", "cost", "pnl")
BY_HAND = replace(PLAIN, stop=0.1, target=0.2, barrier_unit="share")


def test_ten_trades_by_hand_match_to_the_cent() -> None:
    bars = pl.concat([bars_of(trade["bars"], symbol) for symbol, trade in TRADES.items()])
    events = [(symbol, *event) for symbol, trade in TRADES.items() for event in trade.get("actions", ())]
    signals = pl.concat([said(*trade["signals"], symbol=symbol) for symbol, trade in TRADES.items()])
    booked = positions(signals, market(bars, actions_of(*events)), 3, BY_HAND, ended=["GONE"])
    found = {
        symbol: part.with_columns(gross=pl.col("gross_return") * 1000).select(*BOOKED, *MONEY).rows()
        for (symbol,), part in booked.group_by("symbol")
    }
    assert found.keys() == TRADES.keys()
    for symbol, trade in TRADES.items():
        for row, (bar, side, status, reason, entered, left, *numbers) in zip(
            found[symbol], trade["booked"], strict=True
        ):
            stamps = (day(bar), side, status, reason, day(entered), None if left is None else day(left))
            assert row[:6] == stamps, symbol
            assert row[6:] == pytest.approx(tuple(numbers), abs=0.00005), symbol


# -- one return -------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 8), flagged=st.integers(2, 59))
def test_the_gross_return_of_a_position_is_the_label_of_its_bar(seed: int, horizon: int, flagged: int) -> None:
    bars, actions = both(seed)
    bars = bars.with_columns(flags=pl.when(pl.col("timestamp") == day(flagged)).then(pl.lit("unexplained_jump")))
    traded = market(bars, actions)
    labels = open_to_open(
        adjusted(bars, actions, calendars={"SYM": "24/7", "ZZZ": "24/7"}).with_columns(traded["known_at"]), horizon
    )
    booked = positions(random_signals(seed, bars, 0.3, changing=False), traded, horizon, PLAIN)
    beside = booked.join(labels, left_on=["symbol", "bar_time"], right_on=["symbol", "timestamp"])
    assert beside.height == booked.height
    closed = beside.filter(pl.col("status") == "closed")
    assert closed.height
    assert not closed["label_return"].null_count(), "a position with a flagged bar inside is not void"
    difference = (closed["gross_return"] - closed["side"] * closed["label_return"]).abs().max()
    assert difference < 1e-12
    assert (closed["left_at"] == closed["held_until"]).all()
    assert (closed["settled_at"] == closed["label_end"]).all()
    assert beside.filter(pl.col("status") == "void")["label_return"].null_count() == (beside["status"] == "void").sum()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 8))
def test_a_short_earns_the_negative_of_a_long_before_costs(seed: int, horizon: int) -> None:
    bars, actions = both(seed)
    signals = random_signals(seed, bars, 0.3, changing=True)
    free = replace(PLAIN, commission_bp=0.0, slippage_bp=0.0, borrow_bp_year=0.0)
    one = positions(signals, market(bars, actions), horizon, free)
    other = positions(signals.with_columns(side=-pl.col("side")), market(bars, actions), horizon, free)
    assert_frame_equal(one.select("bar_time", "status", "left_at"), other.select("bar_time", "status", "left_at"))
    assert (one["net_return"] + other["net_return"]).drop_nulls().abs().max() < 1e-12


# -- incremental equals full, and nothing looks ahead -----------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    horizon=st.integers(1, 8),
    share=st.sampled_from([0.15, 0.5, 0.9]),
    cuts=st.lists(st.integers(1, 59), min_size=1, max_size=5, unique=True).map(sorted),
    late=st.booleans(),
)
def test_going_on_from_where_one_was_gives_the_ledger_of_a_rebuild(
    seed: int, horizon: int, share: float, cuts: list[int], late: bool
) -> None:
    bars, actions = both(seed)
    relisted = pl.when(pl.col("timestamp") >= day(40)).then(pl.lit(day(40).date())).otherwise("listing")
    bars = bars.with_columns(listing=pl.when(pl.col("symbol") == "ZZZ").then(relisted).otherwise("listing"))
    traded = market(bars, actions)
    signals = random_signals(seed, bars, share, changing=True)
    if late:
        signals = signals.with_columns(known_at=pl.col("known_at") + pl.duration(hours=20))
    whole = positions(signals, traded, horizon, ALL_WAYS)
    booked = pl.DataFrame(schema=dict(POSITIONS))
    until: dict[str, datetime] = {}
    for cut in [*cuts, 60]:
        seen = traded.filter(pl.col("timestamp") < day(cut))
        told = signals.filter(pl.col("bar_time") < day(cut))
        since = resume_points(booked, until)
        points = told.join(since, on=["symbol", "strategy"], how="left")
        # A strategy without a row has opened nothing until the newest bar that was traded.
        unknown = pl.col("symbol").replace_strict(until, default=day(0), return_dtype=TIME)
        new = points.filter(pl.col("bar_time") >= pl.coalesce("since", unknown)).drop("since")
        start = new["bar_time"].min() if new.height else day(0)
        lead = seen.filter(pl.col("timestamp") >= start - timedelta(days=25))
        found = positions(new, lead, horizon, ALL_WAYS)
        kept = booked.join(since, on=["symbol", "strategy"]).filter(pl.col("bar_time") < pl.col("since")).drop("since")
        booked = pl.concat([kept, found])
        until = dict(told.group_by("symbol").agg(pl.col("bar_time").max()).iter_rows())
    assert_frame_equal(booked.sort("symbol", "strategy", "bar_time"), whole, check_exact=False, rel_tol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 8), cut=st.integers(25, 58))
def test_what_is_settled_depends_on_no_later_bar(seed: int, horizon: int, cut: int) -> None:
    bars, actions = both(seed)
    traded, signals = market(bars, actions), random_signals(seed, bars, 0.5, changing=True)
    whole = positions(signals, traded, horizon, ALL_WAYS)
    then = positions(
        signals.filter(pl.col("bar_time") < day(cut)), traded.filter(pl.col("timestamp") < day(cut)), horizon, ALL_WAYS
    )
    settled = then.filter(pl.col("settled_at").is_not_null())
    assert_frame_equal(settled, whole.filter(pl.col("settled_at") <= day(cut - 1) + LAG))


# -- single rules -----------------------------------------------------------------------------------------------------


def booked_of(signals: pl.DataFrame, bars: pl.DataFrame, horizon: int = 3, **parameters: Any) -> list[dict[str, Any]]:
    return positions(signals, market(bars), horizon, replace(PLAIN, **parameters)).rows(named=True)


def test_the_same_side_opens_no_second_position_and_a_hold_closes_none() -> None:
    rows = booked_of(said((0, 1), (1, 1), (2, 0), (3, 1)), bars_of([FLAT] * 9))
    assert [(row["bar_time"], row["entered_at"], row["left_at"]) for row in rows] == [
        (day(0), day(1), day(4)),
        (day(3), day(4), day(7)),
    ]


def test_a_signal_that_came_late_enters_at_the_first_open_after_it_was_known() -> None:
    (row,) = booked_of(said((0, 1), late=timedelta(days=1)), bars_of([FLAT] * 9))
    assert row["entered_at"] == day(2)


def test_what_is_said_again_of_a_bar_counts_as_long_as_it_is_in_time_for_the_open() -> None:
    first, again = said((0, 1)), said((0, -1), late=timedelta(hours=1))
    (row,) = booked_of(pl.concat([first, again]), bars_of([FLAT] * 9))
    assert row["side"] == -1
    (row,) = booked_of(pl.concat([first, said((0, -1), late=timedelta(days=1))]), bars_of([FLAT] * 9))
    assert row["side"] == 1


def test_a_bar_that_holds_stop_and_target_meets_the_stop() -> None:
    wild = bars_of([FLAT, (50.0, 70.0, 40.0, 50.0), FLAT, FLAT, FLAT])
    for side, price in ((1, 45.0), (-1, 55.0)):
        (row,) = booked_of(said((0, side)), wild, stop=0.1, target=0.2, barrier_unit="share")
        assert (row["reason"], row["exit_price"]) == ("stop", pytest.approx(price))


def test_an_entry_takes_no_more_than_its_share_of_the_volume() -> None:
    (row,) = booked_of(said((0, 1)), bars_of([FLAT] * 9, volume=500.0))
    assert row["quantity"] == pytest.approx(5.0)
    (row,) = booked_of(said((0, 1)), bars_of([FLAT] * 9, volume=0.0))
    assert row["quantity"] == pytest.approx(20.0), "of an index no volume is known at all"
    halted = bars_of([FLAT] * 9).with_columns(volume=pl.when(pl.col("timestamp") == day(1)).then(0.0).otherwise(1e6))
    (row,) = booked_of(said((0, 1)), halted)
    assert (row["status"], row["reason"], row["net_return"]) == ("unfilled", "no volume", None)


def test_a_ticker_that_becomes_another_company_ends_the_position_at_the_last_close() -> None:
    bars = bars_of([FLAT] * 9).with_columns(
        listing=pl.when(pl.col("timestamp") >= day(3)).then(day(3).date()).otherwise("listing")
    )
    for side, price in ((1, 35.0), (-1, 50.0)):
        (row,) = booked_of(said((0, side)), bars)
        assert (row["reason"], row["left_at"], row["exit_price"]) == ("delisted", day(2), pytest.approx(price))
    (row,) = booked_of(said((2, 1)), bars)
    assert (row["status"], row["reason"]) == ("unfilled", "delisted")


def test_the_next_open_is_awaited_and_only_where_something_would_be_opened() -> None:
    bars = bars_of([FLAT] * 3)
    assert [row["status"] for row in booked_of(said((0, 1), (2, 1)), bars)] == ["open"]
    assert [row["status"] for row in booked_of(said((0, 1), (2, -1)), bars)] == ["open", "pending"]
    assert [row["status"] for row in booked_of(said((2, 1)), bars)] == ["pending"]
    ended = positions(said((2, 1)), market(bars), 3, PLAIN, ended=["SYM"])
    assert ended["status"].to_list() == ["unfilled"]


def test_an_action_that_cannot_be_voids_the_position() -> None:
    wrong = actions_of(("SYM", 2, DIVIDEND, 60.0))
    booked = positions(said((0, 1)), market(bars_of([FLAT] * 9), wrong), 3, PLAIN)
    assert booked.select("status", "reason", "pnl").rows() == [("void", "flagged", None)]


def test_a_signal_of_a_symbol_without_bars_and_a_horizon_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="OTHER"):
        positions(said((0, 1), symbol="OTHER"), market(bars_of([FLAT])), 3, PLAIN)
    with pytest.raises(ValueError, match="at least 1"):
        positions(said((0, 1)), market(bars_of([FLAT])), 0, PLAIN)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 8))
def test_the_marks_of_a_position_add_up_to_it_and_end_with_nothing_held(seed: int, horizon: int) -> None:
    bars, actions = both(seed)
    traded = market(bars, actions)
    booked = positions(random_signals(seed, bars, 0.5, changing=True), traded, horizon, ALL_WAYS)
    found = marks(booked, traded, ALL_WAYS)
    key = ["symbol", "strategy", "bar_time"]
    sums = found.group_by(key).agg(pl.col("pnl").sum(), held=pl.col("exposure").last(), bars=pl.len())
    beside = booked.filter(pl.col("pnl").is_not_null()).join(sums, on=key, how="left", suffix="_marked")
    assert beside.height == sums.height
    assert (beside["pnl"] - beside["pnl_marked"]).abs().max() < 1e-9 * 1000
    assert (beside["bars"] == beside["bars_held"] + 1).all()
    assert ((beside["held"] == 0) == (beside["status"] == "closed")).all()

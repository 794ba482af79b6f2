"""Booking is one transaction that replaces what is traded anew and nothing else, on SQLite and on PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import StatementError

from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.outcomes import Outcomes, row_of

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


def day(number: int) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


def position(bar: int, status: str = "closed", strategy: str = "blend", **more: Any) -> dict[str, Any]:
    row = {"symbol": "SYM", "strategy": strategy, "bar_time": day(bar), "signal_id": "x", "regime": None, "side": 1}
    return row_of({**row, "status": status, "pnl": 1.5, "left_at": day(bar + 1), "exit_price": None, **more}, NOW)


def test_a_row_holds_what_is_known_of_a_position_and_no_nulls(ledger: Ledger) -> None:
    store = Outcomes(ledger)
    store.book([], [position(1)], {"SYM": day(1)})
    (row,) = store.all()
    assert row["document"] == {"pnl": 1.5, "left_at": day(2).isoformat()}
    assert (row["bar_time"], row["written_at"]) == (day(1), NOW)
    assert ledger.states()["SYM"]["outcomes_until"] == day(1)


def test_what_is_traded_anew_goes_and_every_other_row_stays(ledger: Ledger) -> None:
    store = Outcomes(ledger)
    store.book([], [position(1), position(2, "open"), position(3, "pending"), position(3, strategy="view:x")], {})
    store.book([{"symbol": "SYM", "strategy": "blend", "since": day(2)}], [position(4)], {})
    kept = [(row["strategy"], row["bar_time"], row["status"]) for row in store.all()]
    assert kept == [("blend", day(1), "closed"), ("blend", day(4), "closed"), ("view:x", day(3), "closed")]


def test_a_booking_that_fails_half_way_leaves_nothing_behind(ledger: Ledger) -> None:
    store = Outcomes(ledger)
    store.book([], [position(1)], {"SYM": day(1)})
    naive = datetime(2024, 1, 9)
    with pytest.raises(StatementError):
        store.book([{"symbol": "SYM", "strategy": "blend", "since": day(1)}], [position(5)], {"SYM": naive})
    assert [row["bar_time"] for row in store.all()] == [day(1)]


def test_the_last_of_each_strategy_are_its_newest_and_those_that_are_not_over(ledger: Ledger) -> None:
    store = Outcomes(ledger)
    rows = [position(1), position(2, "open"), position(3), position(4), position(1, strategy="view:x")]
    store.book([], rows, {})
    assert sorted((row["strategy"], row["bar_time"]) for row in store.last()) == [
        ("blend", day(2)),
        ("blend", day(4)),
        ("view:x", day(1)),
    ]


def test_performance_is_replaced_whole_and_read_by_symbol_strategy_and_window(ledger: Ledger) -> None:
    def cell(symbol: str, window: str) -> dict[str, Any]:
        key = {"strategy": "blend", "symbol": symbol, "regime": "*", "window": window}
        return {**key, "document": {"wins": 3}, "written_at": NOW}

    store = Outcomes(ledger)
    store.put_performance([cell("*", "all"), cell("SYM", "all"), cell("SYM", "30")])
    store.put_performance([cell("*", "all"), cell("SYM", "all")])
    assert [(row["symbol"], row["window"]) for row in store.performance()] == [("*", "all"), ("SYM", "all")]
    assert store.performance(["SYM"], ["blend"], ["all"]) == [cell("SYM", "all")]
    assert (
        store.performance(["OTHER"])
        == store.performance(None, ["view:x"])
        == store.performance(None, None, ["9"])
        == []
    )

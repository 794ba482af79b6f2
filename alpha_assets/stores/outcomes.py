"""What became of signals, and how strategies did: two tables of the ledger's database behind verbs.

``book`` is one transaction: rows that are traded anew go, what became of them comes, and how far each symbol is traded
is noted; a kill leaves all of it or nothing. ``put_performance`` replaces every cell, so that one which is no more is
gone. Both may be repeated.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select

from alpha_assets.stores import tables
from alpha_assets.stores.ledger import Ledger, Row, upsert_in

#: Statuses of a position that is not over.
RUNNING = ("pending", "open")

LANE = ("symbol", "strategy")


class Outcomes:
    """Positions by symbol, strategy and bar, and figures by cell, in the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def book(self, anew: Sequence[Row], rows: Sequence[Row], until: Mapping[str, datetime]) -> None:
        """Replace the rows from ``since`` on of each (symbol, strategy) of ``anew`` by those of ``rows``.

        ``until`` is the bar up to which each symbol's signals have been traded now.
        """
        if not rows and not anew and not until:
            return
        table = tables.outcomes
        gone = table.delete().where(
            table.c.symbol == bindparam("of_symbol"),
            table.c.strategy == bindparam("of_strategy"),
            table.c.bar_time >= bindparam("from_bar", type_=table.c.bar_time.type),
        )
        with self._ledger.writing() as connection:
            if anew:
                keys = [
                    {"of_symbol": row["symbol"], "of_strategy": row["strategy"], "from_bar": row["since"]}
                    for row in sorted(anew, key=lambda row: (row["symbol"], row["strategy"]))
                ]
                connection.execute(gone, keys)
            if rows:
                upsert_in(connection, table, rows)
            if until:
                told = [{"symbol": symbol, "outcomes_until": at} for symbol, at in until.items()]
                upsert_in(connection, tables.symbol_state, told)

    def all(self, symbols: Sequence[str] | None = None) -> list[Row]:
        """Every position, of ``symbols`` (None: all), by symbol, strategy and bar."""
        table = tables.outcomes
        query = select(table).order_by(table.c.symbol, table.c.strategy, table.c.bar_time)
        return self._ledger.rows(query if symbols is None else query.where(table.c.symbol.in_(symbols)))

    def last(self) -> list[Row]:
        """Of every symbol and strategy the newest position and those that are not over."""
        table = tables.outcomes
        newest = select(table.c.symbol, table.c.strategy, func.max(table.c.bar_time).label("bar_time")).group_by(
            table.c.symbol, table.c.strategy
        )
        of_lane = newest.subquery()
        same = and_(*(table.c[name] == of_lane.c[name] for name in LANE))
        query = select(table).join(of_lane, same)
        return self._ledger.rows(query.where(or_(table.c.bar_time == of_lane.c.bar_time, table.c.status.in_(RUNNING))))

    def put_performance(self, rows: Sequence[Row]) -> None:
        """The figures of every cell; those of before are gone."""
        with self._ledger.writing() as connection:
            connection.execute(tables.performance.delete())
            if rows:
                upsert_in(connection, tables.performance, rows)

    def performance(
        self,
        symbols: Sequence[str] | None = None,
        strategies: Sequence[str] | None = None,
        windows: Sequence[str] | None = None,
    ) -> list[Row]:
        """The cells of these symbols («*»: all together), strategies and windows (None: of all), in order."""
        table = tables.performance
        query = select(table).order_by(table.c.strategy, table.c.symbol, table.c.regime, table.c.window)
        for column, wanted in ((table.c.symbol, symbols), (table.c.strategy, strategies), (table.c.window, windows)):
            query = query if wanted is None else query.where(column.in_(wanted))
        return self._ledger.rows(query)


#: What a row says outside of its document.
OUTSIDE = ("symbol", "strategy", "bar_time", "signal_id", "regime", "side", "status")


def row_of(position: Mapping[str, Any], now: datetime) -> Row:
    """The row of a position (``quant.book.POSITIONS``): what is null is left out of its document."""
    told = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in position.items()
        if name not in OUTSIDE and value is not None
    }
    return {**{name: position[name] for name in OUTSIDE}, "document": told, "written_at": now}

"""Keyed data with a time to live: metrics of signals, and whatever else is dear to compute.

It lives in the ledger's database, in any namespace. What is here can be computed again, so a database that does not
answer costs time and nothing else: ``through`` computes, and says what the trouble was.

An entry is fresh from the instant it was made until it expires. One that was made in the future is not: the clock was
set back, and nobody knows how long it would live. Clocks of two machines may differ by ``CLOCK_SKEW``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Integer, Table, Text, cast, func, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from alpha_assets.quant.parameters import CLOCK_SKEW
from alpha_assets.stores import tables
from alpha_assets.stores.ledger import Ledger, Row, upsert_in
from alpha_assets.stores.trouble import StoreTrouble

#: The namespaces that have tables of their own.
SIGNALS, METRICS = "signals", "metrics"

#: What ``status`` says of a namespace; ``bytes`` are those of its documents and sentences as they are stored.
STATUS_FIELDS = ("namespace", "entries", "fresh", "expired", "newest", "hits", "misses", "bytes")


@dataclass(frozen=True)
class Answer:
    """A value, whether it was held, and why the cache could not be used where it could not."""

    value: Any
    held: bool
    trouble: str | None = None


@dataclass(frozen=True)
class Look:
    """The fresh entry that was found under a key, if any, or why nobody could look."""

    namespace: str
    key: str
    found: Answer | None
    trouble: str | None = None


class Cache:
    """Entries by namespace and key in the ledger's database."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, namespace: str, key: str, now: datetime) -> Answer | None:
        """The fresh entry of this key; None where there is none. Raises LedgerUnavailable."""
        table, condition = _place(namespace, key)
        stored = table.c.document if namespace == METRICS else table.c.value
        query = select(stored.label("value")).where(*condition, *_fresh(table, now))
        found = self._ledger.rows(query)
        return Answer(found[0]["value"], held=True) if found else None

    def newest(self, namespace: str) -> Any | None:
        """The value that was kept last in a namespace of one's own, fresh or not; None where there is none."""
        table = tables.cache
        ours = select(table.c.value).where(table.c.namespace == _keyed(namespace))
        found = self._ledger.rows(ours.order_by(table.c.created_at.desc(), table.c.key).limit(1))
        return found[0]["value"] if found else None

    def put(self, namespace: str, key: str, value: Any, ttl: timedelta, now: datetime) -> None:
        """Keep a value, as JSON has it, for so long; what has expired in its namespace goes.

        Raises ValueError for no time at all, LedgerUnavailable.
        """
        if ttl <= timedelta(0):
            raise ValueError(f"{namespace} {key}: a time to live of {ttl} keeps nothing")
        lived = {"key": key, "created_at": now, "expires_at": now + ttl}
        table, row = tables.signal_metrics, {**lived, "document": value}
        ours: tuple[Any, ...] = ()
        if namespace != METRICS:
            table, row = tables.cache, {**lived, "namespace": _keyed(namespace), "value": value}
            ours = (table.c.namespace == namespace,)
        with self._ledger.writing() as connection:
            # Whatever is keyed by what it is made of would else be there for ever.
            connection.execute(table.delete().where(table.c.expires_at <= now, *ours))
            upsert_in(connection, table, [row])

    def through(self, namespace: str, key: str, ttl: timedelta, make: Callable[[], Any], now: datetime) -> Answer:
        """The fresh entry, else what ``make`` makes, kept for so long. Raises what ``make`` raises, and nothing else.

        Counts a hit or a miss.
        """
        return self.completed(self.look(namespace, key, now), ttl, make, now)

    def look(self, namespace: str, key: str, now: datetime) -> "Look":
        """The first half of ``through``, for who begins to make the value before it is asked for. Raises nothing."""
        try:
            return Look(namespace, key, self.get(namespace, key, now))
        except StoreTrouble as error:
            return Look(namespace, key, None, str(error))

    def completed(self, look: "Look", ttl: timedelta, make: Callable[[], Any], now: datetime) -> Answer:
        """The other half of ``through``."""
        if look.trouble is not None:
            return Answer(make(), held=False, trouble=look.trouble)
        namespace, held = look.namespace, look.found is not None
        value = make() if look.found is None else look.found.value
        try:
            if not held:
                self.put(namespace, look.key, value, ttl, now)
            self.count(namespace, hits=int(held), misses=int(not held))
        except StoreTrouble as error:
            return Answer(value, held, str(error))
        return Answer(value, held)

    def count(self, namespace: str, hits: int, misses: int) -> None:
        """Add to how often an entry was there when it was asked for, and how often not."""
        if not hits and not misses:
            return
        with self._ledger.writing() as connection:
            upsert_in(
                connection,
                tables.cache_counts,
                [{"namespace": namespace, "hits": hits, "misses": misses}],
                add=("hits", "misses"),
            )

    def clear(self, now: datetime) -> dict[str, int]:
        """Delete every entry that is no longer fresh; how many by namespace."""
        return self._delete(lambda table: ~_both(_fresh(table, now)))

    def clean(self, now: datetime, older: timedelta) -> dict[str, int]:
        """Delete every entry that was made longer ago than ``older``; how many by namespace."""
        return self._delete(lambda table: table.c.created_at < now - older)

    def status(self, now: datetime) -> list[Row]:
        """``STATUS_FIELDS`` of every namespace that holds something or was ever asked."""
        counts = {row["namespace"]: row for row in self._ledger.rows(select(tables.cache_counts))}
        held = {row["namespace"]: row for table, name in _TABLES for row in self._ledger.rows(_sums(table, name, now))}
        rows = []
        for name in sorted(held.keys() | counts.keys() | {SIGNALS, METRICS}):
            nothing: Mapping[str, Any] = {"entries": 0, "fresh": 0, "newest": None, "bytes": 0}
            row, count = held.get(name, nothing), counts.get(name, {"hits": 0, "misses": 0})
            fresh = int(row["fresh"] or 0)
            told = {"namespace": name, "entries": row["entries"], "fresh": fresh, "expired": row["entries"] - fresh}
            told |= {"newest": row["newest"], "bytes": int(row["bytes"] or 0)}
            rows.append({**told, "hits": count["hits"], "misses": count["misses"]})
        return rows

    def _delete(self, condition: Callable[[Table], Any]) -> dict[str, int]:
        if not self._ledger.exists():
            return {}
        gone: dict[str, int] = {}
        with self._ledger.writing() as connection:
            for table, name in _TABLES:
                column = table.c.namespace if name is None else None
                names = [name] if column is None else list(connection.execute(select(column).distinct()).scalars())
                for each in names:
                    ours = () if column is None else (column == each,)
                    done = connection.execute(table.delete().where(condition(table), *ours))
                    gone[str(each)] = done.rowcount
            if gone.get(SIGNALS):
                # What was counted of signals that are gone is not so any more.
                connection.execute(tables.signal_metrics.delete())
        return {name: count for name, count in gone.items() if count}


#: The tables that hold entries, with the namespace that is theirs alone.
_TABLES: tuple[tuple[Table, str | None], ...] = (
    (tables.signals, SIGNALS),
    (tables.signal_metrics, METRICS),
    (tables.cache, None),
)


def _keyed(namespace: str) -> str:
    """Raises ValueError for signals, which are written by the station that says them and by nobody else."""
    if namespace == SIGNALS:
        raise ValueError("signals are kept by Ledger.put_signals, which knows what may replace what")
    return namespace


def _place(namespace: str, key: str) -> tuple[Table, tuple[Any, ...]]:
    if namespace == METRICS:
        return tables.signal_metrics, (tables.signal_metrics.c.key == key,)
    return tables.cache, (tables.cache.c.namespace == _keyed(namespace), tables.cache.c.key == key)


def _fresh(table: Table, now: datetime) -> tuple[Any, Any]:
    return table.c.created_at <= now + CLOCK_SKEW, table.c.expires_at > now


def _both(conditions: tuple[Any, Any]) -> Any:
    first, second = conditions
    return first & second


class Octets(GenericFunction[int]):
    """The bytes of a text."""

    type = Integer()
    name = "octet_length"
    inherit_cache = True


@compiles(Octets, "sqlite")
def _of_a_blob(octets: Octets, compiler: SQLCompiler, **more: Any) -> str:
    """SQLite has ``octet_length`` from 3.43 on, and the length of a text in it is in characters."""
    return f"length(CAST({compiler.process(octets.clauses, **more)} AS BLOB))"


def _sums(table: Table, name: str | None, now: datetime) -> Any:
    """Entries, those that are fresh, the newest and the bytes of a table, by namespace."""
    stored = [column for column in table.c if isinstance(column.type, JSON | Text)]
    namespace = table.c.namespace if name is None else literal(name)
    query = select(
        namespace.label("namespace"),
        func.count().label("entries"),
        func.sum(cast(_both(_fresh(table, now)), Integer)).label("fresh"),
        func.max(table.c.created_at).label("newest"),
        func.sum(sum(func.coalesce(Octets(cast(column, Text)), 0) for column in stored)).label("bytes"),
    )
    return query.group_by(namespace) if name is None else query.having(func.count() > 0)

"""The ledger: what SQL is better at than a lake. Who is in the universe, what was decided, what was said last.

Promises: every public method is one transaction. ``decide`` is the commit point of a promotion: a decision is there
wholly or not at all, and never changes afterwards; of two that decide the same step, the second raises
``DecidedElsewhere``. Bar columns of ``symbol_state`` are hints that are written after the lake and may lag behind it.
Reading creates and migrates nothing; writing migrates once, under a file lock.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from alpha_assets.settings import Settings
from alpha_assets.stores import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]

HEAD = "0001"


class DecidedElsewhere(Exception):
    """Another process recorded the next decision of this (symbol, regime) first; read again before deciding anew."""


class LedgerOutdated(Exception):
    """The database's schema is older or newer than this program; the message says what to run."""


class Ledger:
    """Tables of the ledger behind verbs; SQLite under ``ALPHA_HOME`` or PostgreSQL by ``ALPHA_LEDGER_URL``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._ready = False

    # -- life -----------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """True once somebody has written; False on a fresh home, where every read answers «nothing»."""
        if self._ready:
            return True
        file = self._sqlite_file()
        if file is not None and not file.exists():
            return False
        self._ready = inspect(self._open()).has_table("universe")
        return self._ready

    def migrate(self) -> None:
        """Bring the schema to this program's revision; safe to call from many processes at once."""
        if self._current() == HEAD:
            self._ready = True
            return
        from alembic import command
        from alembic.config import Config
        from filelock import FileLock

        self._settings.home.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with FileLock(self._settings.home / "ledger.lock"):
            if self._current() != HEAD:
                with self._open().begin() as connection:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
        self._ready = True

    def _current(self) -> str | None:
        file = self._sqlite_file()
        if file is not None and not file.exists():
            return None
        engine = self._open()
        if not inspect(engine).has_table("alembic_version"):
            return None
        with engine.connect() as connection:
            return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()

    def _sqlite_file(self) -> Path | None:
        url = make_url(self._settings.ledger)
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    def _open(self) -> Engine:
        if self._engine is None:
            url = make_url(self._settings.ledger)
            if url.get_backend_name() == "sqlite":
                self._settings.home.mkdir(parents=True, exist_ok=True)
                self._engine = create_engine(url, connect_args={"timeout": 30})
                event.listen(self._engine, "connect", _readers_beside_one_writer)
            else:
                # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3; the driver installed is psycopg2.
                driver = url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url
                self._engine = create_engine(driver, pool_pre_ping=True)
        return self._engine

    @contextmanager
    def _writing(self) -> "Iterator[Connection]":
        if not self._ready:
            self.migrate()
        with self._open().begin() as connection:
            yield connection

    def _rows(self, query: Any) -> list[Row]:
        if not self.exists():
            return []
        with self._open().connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert, or overwrite the named columns of the row that has the key; rows must name the same columns."""
        if not rows:
            return
        with self._writing() as connection:
            self._upsert_in(connection, table, rows)

    def _upsert_in(self, connection: Connection, table: Table, rows: Sequence[Row]) -> None:
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        keys = [column.name for column in table.primary_key]
        changed = [name for name in rows[0] if name not in keys]
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_={name: statement.excluded[name] for name in changed}
        )
        connection.execute(statement, list(rows))

    # -- universe -------------------------------------------------------------------------------------------------

    def add_symbols(self, rows: Sequence[Row]) -> None:
        """Register symbols (symbol, source, calendar, added_at); one that was retired comes back."""
        self._upsert(tables.universe, [{**row, "retired_at": None} for row in rows])

    def retire(self, symbols: Sequence[str], now: datetime) -> None:
        """Mark symbols as no longer followed; their data and partitions stay."""
        with self._writing() as connection:
            connection.execute(
                update(tables.universe).where(tables.universe.c.symbol.in_(symbols)).values(retired_at=now)
            )

    def universe(self, retired: bool = False) -> list[Row]:
        """Members in alphabetical order: symbol, source, calendar, added_at, retired_at."""
        query = select(tables.universe).order_by(tables.universe.c.symbol)
        return self._rows(query if retired else query.where(tables.universe.c.retired_at.is_(None)))

    # -- state of a symbol ----------------------------------------------------------------------------------------

    def states(self) -> dict[str, Row]:
        """The state of every symbol that has one."""
        return {row["symbol"]: row for row in self._rows(select(tables.symbol_state))}

    def note_state(self, rows: Sequence[Row]) -> None:
        """Overwrite the named columns of these symbols' states."""
        self._upsert(tables.symbol_state, rows)

    # -- findings of checks ---------------------------------------------------------------------------------------

    def note_findings(self, looked_at: Mapping[str, date | None], rules: Sequence[str], rows: Sequence[Row]) -> None:
        """Replace what ``rules`` found for each symbol from a day on (None: ever) by ``rows``.

        A row has symbol, rule, day and seen_at. Days before the one looked at from, and other rules, stay.
        """
        table = tables.findings
        with self._writing() as connection:
            for day, symbols in _grouped(looked_at).items():
                for some in _chunks(symbols):
                    gone = table.delete().where(table.c.symbol.in_(some), table.c.rule.in_(rules))
                    connection.execute(gone if day is None else gone.where(table.c.day >= day))
            if rows:
                connection.execute(table.insert(), list(rows))

    def findings(self, rules: Sequence[str] | None = None) -> list[Row]:
        """Everything found and not cleared: symbol, rule, day, seen_at, in this order."""
        table = tables.findings
        query = select(table).order_by(table.c.rule, table.c.symbol, table.c.day)
        return self._rows(query if rules is None else query.where(table.c.rule.in_(rules)))

    # -- models ---------------------------------------------------------------------------------------------------

    def note_candidates(self, rows: Sequence[Row]) -> None:
        """The latest training of each (symbol, regime)."""
        self._upsert(tables.candidates, rows)

    def candidates(self) -> dict[tuple[str, str], Row]:
        """The latest training of every (symbol, regime)."""
        return {(row["symbol"], row["regime"]): row for row in self._rows(select(tables.candidates))}

    def spend_attempt(self, family: str, evidence_digest: str, now: datetime, since: datetime) -> int:
        """Count this look at the family's evidence and return its number since ``since``, from 1.

        The same evidence looked at again is the same attempt: a repeated or killed run spends nothing.
        """
        table = tables.attempts
        with self._writing() as connection:
            known = select(table.c.attempted_at).where(
                table.c.family == family, table.c.evidence_digest == evidence_digest
            )
            at = connection.execute(known).scalar()
            if at is None:
                at = now
                connection.execute(
                    table.insert(), {"family": family, "evidence_digest": evidence_digest, "attempted_at": now}
                )
            counted = select(func.count()).where(
                table.c.family == family, table.c.attempted_at > since, table.c.attempted_at <= at
            )
            return int(connection.execute(counted).scalar_one())

    def decide(self, rows: Sequence[Row]) -> None:
        """Append decisions, all or none; each carries the ``seq`` after the last one its author had read.

        Raises DecidedElsewhere where one of them is taken.
        """
        if not rows:
            return
        try:
            with self._writing() as connection:
                connection.execute(tables.decisions.insert(), list(rows))
        except IntegrityError as error:
            names = ", ".join(f"{row['symbol']}|{row['regime']}#{row['seq']}" for row in rows[:5])
            raise DecidedElsewhere(
                f"a decision among {names} was already taken by another run: run it again"
            ) from error

    def decisions(self, symbol: str | None = None) -> list[Row]:
        """Every decision ever taken, oldest first."""
        query = select(tables.decisions).order_by(tables.decisions.c.id)
        return self._rows(query if symbol is None else query.where(tables.decisions.c.symbol == symbol))

    def last_decisions(self) -> dict[tuple[str, str], Row]:
        """The newest decision of every (symbol, regime)."""
        return self._newest(tables.decisions.c.verdict.is_not(None))

    def production(self) -> dict[tuple[str, str], Row]:
        """The decision that put the present production version of each (symbol, regime) in place."""
        return self._newest(tables.decisions.c.verdict.in_(("promote", "rollback")))

    def _newest(self, condition: Any) -> dict[tuple[str, str], Row]:
        table = tables.decisions
        newest = select(func.max(table.c.id)).where(condition).group_by(table.c.symbol, table.c.regime)
        return {(row["symbol"], row["regime"]): row for row in self._rows(select(table).where(table.c.id.in_(newest)))}

    # -- signals and profiles -------------------------------------------------------------------------------------

    def put_signals(self, rows: Sequence[Row]) -> None:
        """The newest signal of each symbol."""
        self._upsert(tables.signals, rows)

    def signals(self, symbols: Sequence[str] | None = None, newer_than: datetime | None = None) -> list[Row]:
        """Newest signals in alphabetical order, of ``symbols`` (None: all), created after ``newer_than``."""
        query = select(tables.signals).order_by(tables.signals.c.symbol)
        if symbols is not None:
            query = query.where(tables.signals.c.symbol.in_(symbols))
        if newer_than is not None:
            query = query.where(tables.signals.c.created_at > newer_than)
        return self._rows(query)

    def put_profiles(self, rows: Sequence[Row]) -> None:
        """The newest document of each (symbol, kind)."""
        self._upsert(tables.profiles, rows)

    def profiles(self) -> Mapping[tuple[str, str], Row]:
        """Every profile document."""
        return {(row["symbol"], row["kind"]): row for row in self._rows(select(tables.profiles))}


def _readers_beside_one_writer(connection: Any, record: Any) -> None:  # noqa: ARG001
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _grouped(mapping: Mapping[str, Any]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for name, key in mapping.items():
        groups.setdefault(key, []).append(name)
    return groups


def _chunks(symbols: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    """Pieces short enough for one IN: SQLite takes a limited number of variables."""
    return [symbols[start : start + size] for start in range(0, len(symbols), size)]

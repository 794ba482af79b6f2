"""The ledger: what SQL is better at than a lake. Who is in the universe, what was decided, what was said last.

Promises: every public method is one transaction, and writers take turns where they must; what is read in a ``snapshot``
is one too. ``decide`` is the commit point of a promotion: a decision is there wholly or not at all, and never changes
afterwards; of two that decide the same step, the second raises ``DecidedElsewhere``. Bar columns of ``symbol_state``
are hints that are written after the lake and may lag behind it. Reading creates and migrates nothing; the first write
of a process migrates, however many do so at once, and a migration that is killed leaves nothing behind.

SQLite makes a file that is missing, and a connection goes on reading and writing one that was removed. So nothing but
a migration makes the file, and every call looks first whether the one that was opened is still in its place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Engine,
    String,
    Table,
    any_,
    bindparam,
    create_engine,
    event,
    exists,
    func,
    inspect,
    select,
    text,
    true,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from alpha_assets.quant.parameters import CLOCK_SKEW
from alpha_assets.settings import Settings
from alpha_assets.stores import tables, unserved
from alpha_assets.stores.home import identity_of, lost_ledger
from alpha_assets.stores.migrations import HEAD, refuse_other_revision
from alpha_assets.stores.trouble import StoreTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = dict[str, Any]

#: Any number, the same in every process: PostgreSQL's lock for the migration.
MIGRATION_LOCK = 2024022901


class DecidedElsewhere(StoreTrouble):
    """Another process recorded the next decision of this (symbol, regime) first; read again before deciding anew."""


class LedgerUnavailable(StoreTrouble):
    """The database cannot be opened or does not answer; the message names it without its password."""


class Ledger:
    """Tables of the ledger behind verbs; SQLite under ``ALPHA_HOME`` or PostgreSQL by ``ALPHA_LEDGER_URL``.

    ``clock`` dates the decisions, see ``decide``.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._engine: Engine | None = None
        self._queries: Engine | None = None
        self._ready = False
        self._opened: tuple[int, int] | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """True once somebody has written; False on a fresh home, where every read answers «nothing».

        Raises LedgerOutdated for a schema that is not this program's.
        """
        if not self._file_is_there():
            return False
        if self._ready:
            return True
        with self._connected() as connection:
            revision = _revision(connection)
        if revision is None:
            return False
        refuse_other_revision(revision)
        self._ready = True
        return True

    def upgrade(self) -> None:
        """Bring the older schema of a program before this one up to date; a fresh home stays fresh.

        For a command that is to write, before it reads: else it would be refused for what it is to mend. Raises
        LedgerOutdated where a newer program has written.
        """
        if not self._file_is_there() or self._ready:
            return
        with self._connected() as connection:
            revision = _revision(connection)
        if revision not in (None, HEAD):
            self.migrate()

    def migrate(self) -> None:
        """Bring the schema to this program's revision; safe to call from many processes at once.

        Raises LedgerOutdated where a newer program has written.
        """
        from filelock import FileLock

        self._refuse_lost()
        self._settings.home.mkdir(parents=True, exist_ok=True)
        # SQLite has the file's lock for its folder, PostgreSQL its own for all hosts.
        with FileLock(self._settings.home / "ledger.lock"):
            if self._file is not None:
                self._make(self._file)
            with self._connected(writing=True) as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                _upgrade(connection)
        self._ready = True

    def close(self) -> None:
        """Give back all connections; the next call opens new ones."""
        for engine in (self._engine, self._queries):
            if engine is not None:
                engine.dispose()

    @cached_property
    def _file(self) -> Path | None:
        """SQLite's file; None for a server."""
        url = make_url(self._settings.ledger)
        return Path(url.database).absolute() if url.get_backend_name() == "sqlite" and url.database else None

    def _file_is_there(self) -> bool:
        self._refuse_lost()
        return self._file is None or self._opened is not None

    def _refuse_lost(self) -> None:
        """Raise LedgerUnavailable where the file was there once: a new one would not know what the lake is about.

        Of one that another has replaced, a backup, nothing stays open.
        """
        if self._file is None:
            return
        found = identity_of(self._file)
        if found is None and (lost := self._lost_here() or lost_ledger(self._settings)):
            raise LedgerUnavailable(lost)
        if found != self._opened:
            self.close()
            self._ready, self._opened = False, found

    def _lost_here(self) -> str | None:
        """What to say where the file is gone that this process has had open."""
        if not self._ready:
            return None
        return (
            f"the ledger {self._file} was in use and is gone: restore it from a backup; «alpha-assets doctor» says "
            "what else can be done"
        )

    def _make(self, file: Path) -> None:
        """An empty database where there is none, with SQLite's write-ahead log: readers go on beside one writer.

        The file keeps the mode, and a transaction cannot change it.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # it is there, or SQLite says that it cannot be made
            file.touch(exist_ok=False)
        with self._connected(autocommit=True) as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        self._opened = identity_of(file)

    def engine(self) -> Engine:
        """The connections of transactions; opened at first use."""
        if self._engine is None:
            url = make_url(self._settings.ledger)
            if url.get_backend_name() == "sqlite":
                self._engine = create_engine(
                    url if self._file is None else _opens(url, self._file),
                    json_deserializer=from_json,
                    connect_args={"timeout": self._settings.ledger_wait_seconds},
                )
                event.listen(self._engine, "connect", _trust_the_log)
                event.listen(self._engine, "begin", _begin)
            else:
                self._engine = self._on_a_server(url)
        return self._engine

    def queries(self) -> Engine:
        """The connections of single queries, which are in no transaction: on a server a pool of their own, since to
        turn one of the others there and back took a fifth of a read."""
        if self._queries is None:
            url = make_url(self._settings.ledger)
            sqlite = url.get_backend_name() == "sqlite"
            engine = self.engine() if sqlite else self._on_a_server(url, isolation_level="AUTOCOMMIT")
            self._queries = engine.execution_options(writing=False, autocommit=True)
        return self._queries

    def _on_a_server(self, url: URL, **options: Any) -> Engine:
        # SQLAlchemy 2.1 takes a bare postgresql:// for psycopg 3; the driver installed is psycopg2.
        driver = url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url
        engine = create_engine(driver, json_deserializer=from_json, pool_pre_ping=True, **options)
        event.listen(engine, "connect", _waits_no_longer_than(self._settings.ledger_wait_seconds))
        return engine

    @contextmanager
    def _connected(
        self, writing: bool = False, autocommit: bool = False, repeatable: bool = False
    ) -> "Iterator[Connection]":
        """A connection in one transaction (or in none), committed at the end.

        ``repeatable``: all that is read in it is of one instant, as it always is on SQLite.
        """
        engine = self.queries() if autocommit else self.engine().execution_options(writing=writing, autocommit=False)
        if engine.dialect.name == "postgresql" and repeatable:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        try:
            with engine.begin() as connection:
                yield connection
        except DatabaseError as error:
            if not _is_of_the_database(error):
                raise
            shown = make_url(self._settings.ledger).render_as_string(hide_password=True)
            reason = str(error.orig).strip().splitlines()[0]
            advice = "see ALPHA_LEDGER_URL and ALPHA_HOME"
            if re.search(r"\block(ed)?\b", reason):
                advice = "another program holds it: run it again; ALPHA_LEDGER_WAIT_SECONDS says how long it is waited"
            raise LedgerUnavailable(f"the ledger at {shown} does not answer ({reason}); {advice}") from error

    @contextmanager
    def writing(self) -> "Iterator[Connection]":
        """A connection in one transaction that keeps other writers out; the first one of a process migrates."""
        self._refuse_lost()
        if not self._ready:
            self.migrate()
        with self._connected(writing=True) as connection:
            yield connection

    def rows(self, query: Any, **bound: Any) -> list[Row]:
        """What a query finds, its parameters ``bound``; nothing on a fresh home."""
        if not self.exists():
            return []
        # A query sees one instant by itself: a transaction would ask the server twice more.
        with self._connected(autocommit=True) as connection:
            return _found(connection, query, bound)

    @contextmanager
    def snapshot(self) -> "Iterator[Ledger]":
        """The ledger as it is now, for reading alone: of what others commit meanwhile nothing is seen."""
        if not self.exists():
            yield Snapshot(self._settings, None)
            return
        with self._connected(repeatable=True) as connection:
            yield Snapshot(self._settings, connection)

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert, or overwrite the named columns of the row that has the key; rows must name the same columns."""
        if not rows:
            return
        with self.writing() as connection:
            upsert_in(connection, table, rows)

    # -- universe -------------------------------------------------------------------------------------------------

    def add_symbols(self, rows: Sequence[Row]) -> None:
        """Register symbols (symbol, source, calendar, added_at); one that was retired comes back."""
        self.upsert(tables.universe, [{**row, "retired_at": None} for row in rows])

    def set_calendars(self, calendars: Mapping[str, str]) -> None:
        """Record the calendar that each of these symbols follows from now on."""
        with self.writing() as connection:
            for symbol, calendar in calendars.items():
                connection.execute(
                    update(tables.universe).where(tables.universe.c.symbol == symbol).values(calendar=calendar)
                )

    def retire(self, symbols: Sequence[str], now: datetime) -> None:
        """Mark symbols as no longer followed; their data and partitions stay."""
        with self.writing() as connection:
            connection.execute(
                update(tables.universe).where(tables.universe.c.symbol.in_(symbols)).values(retired_at=now)
            )
            connection.execute(tables.signal_metrics.delete())

    def universe(self, retired: bool = False) -> list[Row]:
        """Members in alphabetical order: symbol, source, calendar, added_at, retired_at."""
        query = select(tables.universe).order_by(tables.universe.c.symbol)
        return self.rows(query if retired else query.where(tables.universe.c.retired_at.is_(None)))

    # -- state of a symbol ----------------------------------------------------------------------------------------

    def states(self) -> dict[str, Row]:
        """The state of every symbol that has one."""
        return {row["symbol"]: row for row in self.rows(select(tables.symbol_state))}

    def note_state(self, rows: Sequence[Row]) -> None:
        """Overwrite the named columns of these symbols' states; a signal of a bar before the last one is outdated."""
        if not rows:
            return
        with self.writing() as connection:
            upsert_in(connection, tables.symbol_state, rows)
            if "last_bar" in rows[0]:
                _expire_outdated(connection, [row["symbol"] for row in rows])

    # -- findings of checks ---------------------------------------------------------------------------------------

    def note_findings(self, looked_at: Mapping[str, date | None], rules: Sequence[str], rows: Sequence[Row]) -> None:
        """Replace what ``rules`` found for each symbol from a day on (None: ever) by ``rows``.

        A row has symbol, rule, day and seen_at. Days before the one looked at from, and other rules, stay.
        """
        table = tables.findings
        with self.writing() as connection:
            for day, symbols in _grouped(looked_at).items():
                for some in _chunks(symbols):
                    gone = table.delete().where(table.c.symbol.in_(some), table.c.rule.in_(rules))
                    connection.execute(gone if day is None else gone.where(table.c.day >= day))
            if rows:
                upsert_in(connection, table, rows)

    def findings(self, rules: Sequence[str] | None = None) -> list[Row]:
        """Everything found and not cleared: symbol, rule, day, seen_at, in this order."""
        table = tables.findings
        query = select(table).order_by(table.c.rule, table.c.symbol, table.c.day)
        return self.rows(query if rules is None else query.where(table.c.rule.in_(rules)))

    # -- models ---------------------------------------------------------------------------------------------------

    def note_recipes(self, rows: Sequence[Row]) -> None:
        """Remember what feature tables are made of: features_set and recipe."""
        self.upsert(tables.feature_sets, rows)

    def recipes(self) -> dict[str, Any]:
        """The recipe of each feature table that was ever made, by its name."""
        return {row["features_set"]: row["recipe"] for row in self.rows(select(tables.feature_sets))}

    def note_candidates(self, rows: Sequence[Row]) -> None:
        """The latest training of each (symbol, regime)."""
        self.upsert(tables.candidates, rows)

    def candidates(self) -> dict[tuple[str, str], Row]:
        """The latest training of every (symbol, regime)."""
        return {(row["symbol"], row["regime"]): row for row in self.rows(select(tables.candidates))}

    def spend_attempt(self, family: str, evidence_digest: str, now: datetime, since: datetime) -> int:
        """Count this look at the family's evidence and return its number, from 1, among the looks since ``since``.

        The same evidence looked at again is the same attempt and has the number it had: a repeated or killed run spends
        nothing, and waiting makes no look cheaper.
        """
        table = tables.attempts
        ours = table.c.family == family
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("LOCK TABLE attempts IN SHARE ROW EXCLUSIVE MODE"))
            at = connection.execute(
                select(table.c.attempted_at).where(ours, table.c.evidence_digest == evidence_digest)
            ).scalar()
            if at is None:
                newest = connection.execute(select(func.max(table.c.attempted_at)).where(ours)).scalar()
                # No two at one instant, so that the instant orders them.
                at = now if newest is None or newest < now else newest + timedelta(microseconds=1)
                connection.execute(
                    table.insert(), {"family": family, "evidence_digest": evidence_digest, "attempted_at": at}
                )
            window = ours & (table.c.attempted_at > at - (now - since)) & (table.c.attempted_at <= at)
            return int(connection.execute(select(func.count()).where(window)).scalar_one())

    def note_trials(self, rows: Sequence[Row]) -> None:
        """Count configurations of a family as tried, each once however often it is noted.

        A row has family and configuration (``stations.trials`` makes both), score, source and seen_at: ``score`` is
        the Sharpe ratio per date of the pooled portfolio out of sample (``quant.gate.sharpe_of``), None while it is
        unknown; ``source`` says who saw it, ``gate`` or ``search``; ``seen_at`` when. The first score of a
        configuration stays, whatever a refit scores.
        """
        if not rows:
            return
        with self.writing() as connection:
            upsert_in(connection, tables.trials, rows, _scores_first)

    def trials(self, family: str) -> list[Row]:
        """The configurations of a family that were tried, in the order in which they were seen."""
        table = tables.trials
        return self.rows(select(table).where(table.c.family == family).order_by(table.c.seen_at, table.c.configuration))

    def decide(self, rows: Sequence[Row]) -> list[Row]:
        """Append decisions, all or none, and give them back as they were written.

        Each carries the ``seq`` after the last one its author had read.

        Signals that another model would say from now on are outdated. With a clock the decisions bear the instant at
        which they are written, whatever they say: who judges for minutes has begun before signals were said that cannot
        know the outcome.

        Raises DecidedElsewhere where one of them is taken, ValueError where they do not name the same columns.
        """
        if not rows:
            return []
        _refuse_uneven(tables.decisions, rows)
        try:
            with self.writing() as connection:
                written = self._dated(rows)
                connection.execute(tables.decisions.insert(), written)
                _expire_outdated(connection, [row["symbol"] for row in rows])
                return written
        except IntegrityError as error:
            if "unique" not in str(error.orig).lower():
                raise
            names = ", ".join(f"{row['symbol']}|{row['regime']}#{row['seq']}" for row in rows[:5])
            raise DecidedElsewhere(
                f"a decision among {names} was already taken by another run: run it again"
            ) from error

    def _dated(self, decisions: Sequence[Row]) -> list[Row]:
        if self._clock is None:
            return list(decisions)
        now = self._clock()
        return [{**row, "decided_at": now} for row in decisions]

    def decisions(self, symbol: str | None = None) -> list[Row]:
        """Every decision ever taken, oldest first."""
        query = select(tables.decisions).order_by(tables.decisions.c.id)
        return self.rows(query if symbol is None else query.where(tables.decisions.c.symbol == symbol))

    def history(self, symbols: Sequence[str] | None = None) -> dict[tuple[str, str], list[Row]]:
        """Every decision on each (symbol, regime) of ``symbols`` (None: all), oldest first, without its evidence."""
        table = tables.decisions
        query = select(*_without_evidence()).order_by(table.c.seq)
        some = [None] if symbols is None else [table.c.symbol.in_(part) for part in _chunks(symbols)]
        found: dict[tuple[str, str], list[Row]] = {}
        for condition in some:
            for row in self.rows(query if condition is None else query.where(condition)):
                found.setdefault((row["symbol"], row["regime"]), []).append(row)
        return found

    def sittings(self, newest: int) -> list[Row]:
        """The decisions of the newest few instants of deciding, oldest first, without their evidence."""
        table = tables.decisions
        instants = select(table.c.decided_at).distinct().order_by(table.c.decided_at.desc()).limit(newest)
        return self.rows(select(*_without_evidence()).where(table.c.decided_at.in_(instants)).order_by(table.c.id))

    def evidence(self, ids: Sequence[int]) -> dict[int, Any]:
        """What these decisions were taken on, by their ``id``."""
        table = tables.decisions
        found: dict[int, Any] = {}
        for some in _chunks(ids):
            for row in self.rows(select(table.c.id, table.c.evidence).where(table.c.id.in_(some))):
                found[row["id"]] = row["evidence"]
        return found

    # With ``as_of`` the four that follow answer as they did at that instant, from the decisions known then: _known_by.

    def last_decisions(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """The newest decision of every (symbol, regime), without its evidence."""
        return self._newest(tables.decisions.c.verdict.is_not(None), as_of)

    def decided(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """The newest decision on the present candidate of every (symbol, regime) that has one, without its evidence."""
        candidates = tables.candidates.alias()
        table = tables.decisions
        ours = (candidates.c.symbol == table.c.symbol) & (candidates.c.regime == table.c.regime)
        return self._newest(exists().where(ours, candidates.c.training_id == table.c.training_id), as_of)

    def production(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """The decision that put the present production version of each (symbol, regime) in place, without its evidence.

        A rollback to nothing leaves none.
        """
        newest = self._newest(tables.decisions.c.verdict.in_(("promote", "rollback")), as_of)
        return {cell: row for cell, row in newest.items() if row["model_version"] is not None}

    def canaries(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """The decision that made a version the present canary of each (symbol, regime), without its evidence.

        It is one until another becomes canary, a version is promoted, or anything else is decided on it.
        """
        canary, later = tables.decisions, tables.decisions.alias()
        same = (later.c.model_name == canary.c.model_name) & (later.c.model_version == canary.c.model_version)
        over = exists().where(
            later.c.symbol == canary.c.symbol,
            later.c.regime == canary.c.regime,
            later.c.seq > canary.c.seq,
            (later.c.stage == "canary") | (later.c.verdict == "promote") | same,
            _known_by(later, as_of),
        )
        query = select(*_without_evidence()).where(canary.c.stage == "canary", ~over, _known_by(canary, as_of))
        return {(row["symbol"], row["regime"]): row for row in self.rows(query)}

    def _newest(self, condition: Any, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        table = tables.decisions
        known = _known_by(table, as_of)
        newest = select(func.max(table.c.id)).where(condition, known).group_by(table.c.symbol, table.c.regime)
        query = select(*_without_evidence()).where(table.c.id.in_(newest))
        return {(row["symbol"], row["regime"]): row for row in self.rows(query)}

    # -- signals and profiles -------------------------------------------------------------------------------------

    def put_signals(self, rows: Sequence[Row]) -> None:
        """The newest signal of each symbol; what is stored of a newer bar, or was said later of the same, stays.

        What was counted of signals before is forgotten.

        What was said in the future does not: the clock was set back, and nobody could say anything until it catches up.
        """
        if not rows:
            return
        with self.writing() as connection:
            in_the_future = tables.signals.c.created_at > datetime.now(UTC) + CLOCK_SKEW
            upsert_in(connection, tables.signals, rows, lambda stored, new: _says_later(stored, new) | in_the_future)
            _expire_outdated(connection, [row["symbol"] for row in rows])
            connection.execute(tables.signal_metrics.delete())

    def signals(self, symbols: Sequence[str] | None = None, newer_than: datetime | None = None) -> list[Row]:
        """Newest signals by symbol, of ``symbols`` (None: all) but the retired, created after ``newer_than``."""
        bound: dict[str, Any] = {}
        if symbols is not None:
            bound["symbols"] = list(symbols)
        if newer_than is not None:
            bound["newer_than"] = newer_than
        return self.rows(_signals(self._file is None, *bound), **bound)

    def owe(self, symbols: Sequence[str], trouble: str) -> None:
        """Let readers know that the newest signals of these are in the lake alone, and why. Raises OSError."""
        unserved.note(self._settings, symbols, trouble)

    def settle(self, symbols: Sequence[str]) -> None:
        """Let them know that the newest signals of these are here. Raises OSError."""
        unserved.settled(self._settings, symbols)

    def owed(self) -> set[str]:
        """The symbols of which the newest signals are in the lake alone."""
        held = unserved.noted(self._settings)
        return set() if held is None else held[1]

    def put_profiles(self, rows: Sequence[Row]) -> None:
        """The newest document of each (symbol, kind)."""
        self.upsert(tables.profiles, rows)

    def profiles(self) -> Mapping[tuple[str, str], Row]:
        """Every profile document."""
        return {(row["symbol"], row["kind"]): row for row in self.rows(select(tables.profiles))}


class Snapshot(Ledger):
    """What ``Ledger.snapshot`` gives: every read goes through the one transaction; None is a fresh home."""

    def __init__(self, settings: Settings, connection: Connection | None) -> None:
        super().__init__(settings)
        self._connection = connection

    def rows(self, query: Any, **bound: Any) -> list[Row]:
        """What a query finds at the instant of the snapshot."""
        return [] if self._connection is None else _found(self._connection, query, bound)


@cache
def _signals(server: bool, *bound: str) -> Any:
    """The query of ``Ledger.signals``, made once: to put it together took as long as the server takes to answer it."""
    said, universe = tables.signals.c, tables.universe.c
    retired = select(universe.symbol).where(universe.retired_at.is_not(None))
    query = select(tables.signals).where(said.symbol.not_in(retired)).order_by(said.symbol)
    if "symbols" in bound:
        # An array is one parameter; of a list each symbol is another, written into the query anew at every read.
        array, listed = bindparam("symbols", type_=ARRAY(String)), bindparam("symbols", type_=String(), expanding=True)
        query = query.where(said.symbol == any_(array) if server else said.symbol.in_(listed))
    if "newer_than" in bound:
        query = query.where(said.created_at > bindparam("newer_than"))
    return query


def _found(connection: Connection, query: Any, bound: Row) -> list[Row]:
    found = connection.execute(query, bound)
    names = tuple(found.keys())
    # As tuples: SQLAlchemy's mappings take twice as long to become dictionaries.
    return [dict(zip(names, row, strict=True)) for row in found.all()]


def _known_by(decision: Any, as_of: datetime | None) -> Any:
    """Whether a decision had been taken by then; None: whether it has been at all.

    One that was recorded after a later one of its (symbol, regime), or is about a version trained later, was not,
    whatever date it bears.
    """
    if as_of is None:
        return true()
    before = tables.decisions.alias()
    return ~exists().where(
        before.c.symbol == decision.c.symbol,
        before.c.regime == decision.c.regime,
        before.c.seq <= decision.c.seq,
        (before.c.decided_at > as_of) | ((before.c.seq == decision.c.seq) & (before.c.trained_at > as_of)),
    )


def _without_evidence() -> list[Column[Any]]:
    """The columns of a decision that a table of them shows: the evidence of a large pool is longer than the rest."""
    return [column for column in tables.decisions.c if column is not tables.decisions.c.evidence]


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD within the transaction of this connection."""
    revision = _revision(connection)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        refuse_other_revision(revision)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _refuse_uneven(table: Table, rows: Sequence[Row]) -> None:
    """Of rows written together the first decides which columns are: what only another one names would be lost."""
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"the rows for {table.name} do not all name the same columns")


def upsert_in(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    only_where: Callable[[Any, Any], Any] | None = None,
    add: Sequence[str] = (),
) -> None:
    """Overwrite the rows that have the keys, only those for which ``only_where(stored, new)`` holds.

    To the columns named in ``add`` the new value is added instead.
    """
    _refuse_uneven(table, rows)
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=keys,
        set_={
            name: table.c[name] + statement.excluded[name] if name in add else statement.excluded[name]
            for name in rows[0]
            if name not in keys
        },
        where=None if only_where is None else only_where(table.c, statement.excluded),
    )
    # In the order of the key: two writers that lock rows in different orders would wait for each other for ever.
    connection.execute(statement, sorted(rows, key=lambda row: tuple(row[key] for key in keys)))


def _scores_first(stored: Any, new: Any) -> Any:
    """A score where none was known."""
    return stored.score.is_(None) & new.score.is_not(None)


def _says_later(stored: Any, new: Any) -> Any:
    """A signal of a newer bar, or of the same bar said no earlier; no bar at all is the oldest."""
    same = (new.bar_time == stored.bar_time) | (new.bar_time.is_(None) & stored.bar_time.is_(None))
    newer = (new.bar_time > stored.bar_time) | (new.bar_time.is_not(None) & stored.bar_time.is_(None))
    return newer | (same & (new.created_at >= stored.created_at))


def _expire_outdated(connection: Connection, symbols: Sequence[str]) -> None:
    """Let the signals of these symbols end at once that are not of the last bar, or that another model would say now.

    That is a model promoted or taken back since, of the bar's own regime, or of «all» where no model of the regime had
    spoken. Whoever writes one of the three looks, so that it does not matter who comes last.
    """
    said, state, decided = tables.signals, tables.symbol_state, tables.decisions
    newer_bar = exists().where(state.c.symbol == said.c.symbol, state.c.last_bar > said.c.bar_time)
    fallback = said.c.model_name.is_(None) | said.c.model_name.like("%.all") | (said.c.model_name == "all.pooled")
    other_model = exists().where(
        decided.c.symbol == said.c.symbol,
        decided.c.verdict.in_(("promote", "rollback")),
        decided.c.decided_at > said.c.created_at,
        (decided.c.regime == said.c.regime) | ((decided.c.regime == "all") & fallback),
    )
    for some in _chunks(sorted(set(symbols))):
        ours = said.c.symbol.in_(some) & (said.c.expires_at > said.c.created_at)
        connection.execute(update(said).where(ours, newer_bar | other_model).values(expires_at=said.c.created_at))


#: PostgreSQL's codes of what is amiss with the database and not with the statement, though its driver does not call
#: them operational: a table that is gone, one that we may not touch, a transaction that may only read.
OF_THE_DATABASE = ("42P01", "42501", "25006")


def _is_of_the_database(error: DatabaseError) -> bool:
    operational = isinstance(error, OperationalError) or type(error) is DatabaseError
    return operational or getattr(error.orig, "pgcode", None) in OF_THE_DATABASE


def _opens(url: URL, file: Path) -> URL:
    """The URL by which SQLite opens a file that is there and makes none."""
    return url.set(database=file.as_uri()).update_query_dict({"mode": "rw", "uri": "true"})


def _waits_no_longer_than(seconds: float) -> Callable[[Any, Any], None]:
    """PostgreSQL waits for a lock for ever by itself; as in SQLite it is so long."""

    def set_on(connection: Any, record: Any) -> None:  # noqa: ARG001
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {round(seconds * 1000)}")
        connection.commit()

    return set_on


def _trust_the_log(connection: Any, record: Any) -> None:  # noqa: ARG001
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    # Left to itself, Python begins none before a CREATE TABLE or a SELECT: a killed migration would leave half of
    # itself, and what a writer has read could change before it writes.
    options = connection.get_execution_options()
    if not options.get("autocommit"):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writing") else "BEGIN")


def _grouped(mapping: Mapping[str, Any]) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for name, key in mapping.items():
        groups.setdefault(key, []).append(name)
    return groups


def _chunks(items: Sequence[Any], size: int = 500) -> list[Sequence[Any]]:
    """Pieces short enough for one IN: SQLite takes a limited number of variables."""
    return [items[start : start + size] for start in range(0, len(items), size)]

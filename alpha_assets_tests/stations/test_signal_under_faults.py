"""What the ledger keeps for a while fails: signals are made, the lake keeps and serves them, and the trouble is told.

The faults are real ones of both databases. The decisions stay readable in all of them: without them nobody knows which
model serves, and a run fails plainly.
"""

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, event, select, text

from alpha_assets import signals
from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.reading import SignalsDegraded
from alpha_assets.stations.outcome import outcome
from alpha_assets.stations.perform import perform
from alpha_assets.stores import tables, unserved
from alpha_assets.stores.ledger import Ledger, LedgerUnavailable
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets_tests import postgres
from alpha_assets_tests.stations.line import SYMBOLS, Line, copied, later
from alpha_assets_tests.stations.test_outcome import tell_the_last

pytestmark = pytest.mark.xdist_group("line")

#: A symbol with a model in production.
CHOSEN = "SIM02"

#: What the second run says otherwise than the first.
BOLD = SignalParameters(least_confidence=0.01)

Fault = Callable[[Line], AbstractContextManager[None]]


@contextmanager
def locked(line: Line) -> Iterator[None]:
    holder = sqlite3.connect(line.settings.ledger_file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@contextmanager
def _connecting(line: Line, how: Callable[[Any], object]) -> Iterator[None]:
    """Every connection that the line's ledger opens begins with this."""
    own, line.ledger = line.ledger, Ledger(line.settings)
    event.listen(line.ledger.engine(), "connect", lambda raw, _: how(raw) and None)
    yield
    line.ledger.close()
    line.ledger = own


def read_only(line: Line) -> AbstractContextManager[None]:
    return _connecting(line, lambda raw: raw.execute("PRAGMA query_only=ON"))


def full(line: Line) -> AbstractContextManager[None]:
    line.ledger.close()
    database = sqlite3.connect(line.settings.ledger_file, isolation_level=None)
    # A signal takes the place of the one before, so without those there is none.
    database.execute("DELETE FROM signals")
    database.execute("VACUUM")
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.close()
    return _connecting(line, lambda raw: raw.execute(f"PRAGMA max_page_count={pages}"))


def without(table: str) -> Fault:
    @contextmanager
    def dropped(line: Line) -> Iterator[None]:
        with line.ledger.writing() as connection:
            connection.execute(text(f"ALTER TABLE {table} RENAME TO mislaid"))
        yield
        with line.ledger.writing() as connection:
            connection.execute(text(f"ALTER TABLE mislaid RENAME TO {table}"))

    return dropped


def read_only_server(line: Line) -> AbstractContextManager[None]:
    return _connecting(line, lambda raw: raw.set_session(readonly=True))


def locked_table(name: str) -> Fault:
    @contextmanager
    def held(line: Line) -> Iterator[None]:
        engine = create_engine(line.settings.ledger.replace("postgresql://", "postgresql+psycopg2://"))
        with engine.connect() as connection, connection.begin():
            connection.execute(text(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"))
            yield
        engine.dispose()

    return held


@pytest.fixture
def on_sqlite(promoted: Path, tmp_path: Path) -> Line:
    """A home whose signals were said once, and whose owner has become bolder since."""
    line = copied(promoted, tmp_path / "home")
    line.signal()
    return Line(line.settings.home, signal=BOLD, ledger_wait_seconds=0.2)


@pytest.fixture
def on_postgres(on_sqlite: Line) -> Iterator[Line]:
    """The same with its ledger on a server."""
    with postgres.database() as url:
        home, knobs = on_sqlite.settings.home, {"signal": BOLD, "ledger_wait_seconds": 0.2}
        line = Line(home, ledger_url=SecretStr(url), **knobs)
        with line.ledger.writing() as connection:
            for table in tables.metadata.sorted_tables:
                if rows := on_sqlite.ledger.rows(select(table)):
                    connection.execute(table.insert(), rows)
        yield line
        line.ledger.close()


def made_served_and_told(line: Line, fault: Fault, word: str, taken: bool) -> None:
    """Say signals under a fault; ``taken`` says whether the ledger takes them all the same."""
    with fault(line):
        report = line.signal(now=later(hours=1))
        assert set(report.partitions) == set(SYMBOLS)
        assert word in report.totals["trouble"]
        with warnings.catch_warnings(record=True) as troubles:
            warnings.simplefilter("always", SignalsDegraded)
            served = {row["symbol"]: row for row in signals(settings=line.settings)}
    assert "stated from 1.0%" in served[CHOSEN]["reason"], "what the run has just said, and not what was said before"
    assert set(served) == set(SYMBOLS)
    assert [word in str(trouble.message) for trouble in troubles] == ([] if taken else [True])
    said = line.lake.read("signals", symbols=[CHOSEN]).sort("created_at")
    assert said["reason"].to_list()[-1] == served[CHOSEN]["reason"]
    again = line.signal(now=later(hours=2))
    assert "trouble" not in again.totals
    assert unserved.noted(line.settings) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error", SignalsDegraded)
        assert {row["created_at"] for row in signals(settings=line.settings)} == {later(hours=1 if taken else 2)}


@pytest.mark.parametrize(
    ("fault", "word", "taken"),
    [
        (locked, "database is locked", False),
        (full, "database or disk is full", False),
        (read_only, "attempt to write a readonly database", False),
        (without("signals"), "no such table: signals", False),
        (without("signal_metrics"), "no such table: signal_metrics", False),
        (without("cache"), "no such table: cache", True),
        pytest.param(without("cache_counts"), "no such table: cache_counts", True, marks=pytest.mark.slow),
    ],
    ids=["locked", "full", "read_only", "no_signals", "no_metrics", "no_cache", "no_counts"],
)
def test_under_a_fault_of_sqlite_signals_are_made_and_served_and_the_trouble_is_told(
    on_sqlite: Line, fault: Fault, word: str, taken: bool
) -> None:
    made_served_and_told(on_sqlite, fault, word, taken)


@pytest.mark.parametrize(
    ("fault", "word", "taken"),
    [
        (without("signals"), 'relation "signals" does not exist', False),
        pytest.param(without("cache"), 'relation "cache" does not exist', True, marks=pytest.mark.slow),
        (locked_table("signals"), "lock timeout", False),
        pytest.param(locked_table("cache"), "lock timeout", True, marks=pytest.mark.slow),
        (read_only_server, "read-only transaction", False),
    ],
    ids=["no_signals", "no_cache", "locked_signals", "locked_cache", "read_only"],
)
def test_under_a_fault_of_postgresql_too(on_postgres: Line, fault: Fault, word: str, taken: bool) -> None:
    made_served_and_told(on_postgres, fault, word, taken)


def test_one_trouble_is_told_once_and_of_a_lock_what_to_do(on_sqlite: Line) -> None:
    with locked(on_sqlite):
        trouble = on_sqlite.signal(now=later(hours=1)).totals["trouble"]
    assert trouble.count("database is locked") == 1
    assert "another program holds it: run it again" in trouble


def test_where_the_home_cannot_keep_the_note_that_is_told_too(on_sqlite: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(unserved, "_write", full_disk)
    with read_only(on_sqlite):
        report = on_sqlite.signal(now=later(hours=1))
    assert "attempt to write a readonly database" in report.totals["trouble"]
    assert "cannot be noted in the home: no space left on device" in report.totals["trouble"]


def test_without_the_decisions_a_run_fails_plainly(on_sqlite: Line) -> None:
    with without("decisions")(on_sqlite), pytest.raises(LedgerUnavailable, match="no such table: decisions"):
        on_sqlite.signal(now=later(hours=1))


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        pytest.param(locked, "database is locked", marks=pytest.mark.slow),
        pytest.param(full, "database or disk is full", marks=pytest.mark.slow),
        (read_only, "attempt to write a readonly database"),
        (without("performance"), "no such table: performance"),
        pytest.param(without("cache"), "no such table: cache", marks=pytest.mark.slow),
    ],
    ids=["locked", "full", "read_only", "no_performance", "no_cache"],
)
def test_performance_that_the_ledger_does_not_take_is_told_and_logged_and_counts_once_when_it_heals(
    on_sqlite: Line, fault: Fault, word: str
) -> None:
    line = on_sqlite
    tell_the_last(line, SYMBOLS[:2], 30)
    outcome(line.lake, line.ledger, line.settings, later(hours=1))
    with fault(line):
        report, pictures = perform(line.lake, line.ledger, line.registry, line.settings, later(hours=1))
    assert word in report.totals["trouble"]
    assert report.partitions["blend"]["closed"] > 20
    assert pictures
    report, _ = perform(line.lake, line.ledger, line.registry, line.settings, later(hours=2))
    assert "trouble" not in report.totals
    cells = Outcomes(line.ledger).performance(["*"], ["blend"], ["all"])
    assert [row["document"]["closed"] for row in cells] == [report.partitions["blend"]["closed"]]
    (run,) = line.registry.client.search_runs(
        [line.registry.client.get_experiment_by_name("alpha/performance").experiment_id]
    )
    told = line.registry.client.get_metric_history(run.info.run_id, "blend/live_closed")
    settled = pl.Series([row["document"].get("settled_at") for row in Outcomes(line.ledger).all()]).drop_nulls()
    assert len(told) <= settled.n_unique()
    assert len({(point.step, point.value) for point in told}) == len(told), "what was told twice counts once"


def test_an_error_of_the_program_is_no_trouble_of_the_database(on_postgres: Line) -> None:
    """A table that is gone is told as trouble; a wrong statement has to fail where somebody reads it."""
    from sqlalchemy.exc import ProgrammingError

    assert isinstance(on_postgres.ledger, Ledger)
    with pytest.raises(ProgrammingError, match="no_such_column"):
        on_postgres.ledger.rows(text("SELECT no_such_column FROM universe"))

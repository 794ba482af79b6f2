"""The ledger's promises, each on SQLite and on PostgreSQL."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from alpha_assets.automation.wishes import unsaid
from alpha_assets.quant.lifecycle import standing
from alpha_assets.quant.tally import WHOLE
from alpha_assets.reading import STORED, UnknownSymbol, signals
from alpha_assets.settings import Settings
from alpha_assets.stores import ledger as ledger_module
from alpha_assets.stores import tables
from alpha_assets.stores.cache import METRICS, Cache
from alpha_assets.stores.ledger import DecidedElsewhere, Ledger, LedgerUnavailable
from alpha_assets.stores.migrations import HEAD, LedgerOutdated
from alpha_assets.stores.trouble import StoreTrouble
from alpha_assets_tests.quant.test_lifecycle import told

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)

WRITER = """
import sys
from datetime import UTC, datetime
from alpha_assets.settings import load
from alpha_assets.stores.ledger import Ledger
row = {"symbol": sys.argv[1], "source": "simulated", "calendar": "XNYS", "added_at": datetime.now(UTC)}
Ledger(load()).add_symbols([row])
"""


#: Takes the one decision that several want to take, once all of them are ready.
DECIDER = """
import sys
from alpha_assets.settings import load
from alpha_assets.stores.ledger import DecidedElsewhere, Ledger
from alpha_assets_tests.stores.test_ledger import decision
try:
    Ledger(load()).decide([decision("AAA", 1, reason=sys.argv[1])])
    print("decided")
except DecidedElsewhere:
    print("DecidedElsewhere")
"""


def engine_of(settings: Settings) -> sa.Engine:
    url = sa.make_url(settings.ledger)
    return sa.create_engine(url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url)


def decision(symbol: str, seq: int, verdict: str = "promote", **more: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "regime": "all",
        "seq": seq,
        "verdict": verdict,
        "reason": "because",
        "training_id": f"{symbol}-{seq}",
        "features_set": None,
        "model_name": f"{symbol}.all",
        "model_version": str(seq),
        "model_location": None,
        "model_digest": None,
        "previous_version": None,
        "evidence": {"ic": 0.1},
        "dagster_run": None,
        "decided_at": NOW,
        **more,
    }


def trained(symbol: str, training_id: str) -> dict[str, Any]:
    named = {"symbol": symbol, "regime": "all", "training_id": training_id}
    return {**named, "state": "trained", "reason": "because", "trained_at": NOW}


def said(symbol: str, created_at: datetime = NOW, **more: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "signal": "BUY",
        "confidence": 0.6,
        "p_up": 0.6,
        "bar_time": datetime(2024, 2, 29, tzinfo=UTC),
        "created_at": created_at,
        "expires_at": created_at + timedelta(hours=6),
        "model_name": f"{symbol}.all",
        "model_version": "1",
        "reason": "because",
        "signal_id": "x",
        **more,
    }


def member(symbol: str, **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "source": "simulated", "calendar": "XNYS", "added_at": NOW, **more}


def found(symbol: str, day: date, rule: str = "jump", seen_at: datetime = NOW) -> dict[str, Any]:
    return {"symbol": symbol, "rule": rule, "day": day, "seen_at": seen_at}


class TestSchema:
    def test_the_migrations_bring_an_empty_database_to_exactly_the_tables(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.migrate()
        with engine_of(settings).connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
            assert context.get_current_revision() == HEAD

    def test_the_revision_the_program_asks_for_is_the_last_migration(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(ledger_module.__file__).parent / "migrations"))
        assert ScriptDirectory.from_config(config).get_current_head() == HEAD

    def test_a_migration_may_be_repeated(self, ledger: Ledger) -> None:
        ledger.add_symbols([member("AAA")])
        ledger.migrate()
        assert [row["symbol"] for row in ledger.universe()] == ["AAA"]

    @pytest.mark.slow
    def test_many_processes_may_migrate_and_write_at_once(self, settings: Settings, ledger: Ledger) -> None:
        environment = {"ALPHA_HOME": str(settings.home), "ALPHA_LEDGER_URL": settings.ledger}
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, f"S{number}"], env=os.environ | environment, stderr=subprocess.PIPE
            )
            for number in range(3)
        ]
        assert [writer.communicate()[1].decode() for writer in writers] == [""] * 3
        assert [row["symbol"] for row in ledger.universe()] == ["S0", "S1", "S2"]

    def test_many_ledgers_of_one_process_may_migrate_at_once(self, settings: Settings, ledger: Ledger) -> None:
        assert at_once(_migrate, [(settings,)] * 4) == []
        assert ledger.exists()

    def test_a_migration_that_dies_half_way_leaves_nothing_behind(self, settings: Settings) -> None:
        dying = Ledger(settings)
        dying.engine()  # opened, so that its connections can be watched

        def die_at_decisions(_: Any, __: Any, statement: str, *___: Any) -> None:
            if "CREATE TABLE decisions" in statement:
                raise KeyboardInterrupt

        sa.event.listen(dying.engine(), "before_cursor_execute", die_at_decisions)
        with pytest.raises(KeyboardInterrupt):
            dying.add_symbols([member("AAA")])
        dying.close()
        assert sa.inspect(engine_of(settings)).get_table_names() == []
        healthy = Ledger(settings)
        healthy.add_symbols([member("AAA")])
        assert len(healthy.universe()) == 1
        healthy.close()

    def test_reading_a_fresh_home_answers_nothing_and_creates_nothing(self, settings: Settings, ledger: Ledger) -> None:
        assert not ledger.exists()
        assert ledger.universe() == ledger.decisions() == ledger.signals() == ledger.findings() == []
        assert ledger.states() == ledger.candidates() == ledger.production() == ledger.profiles() == {}
        assert signals(settings=settings) == []
        assert not settings.home.exists()
        if settings.ledger_url is not None:
            assert sa.inspect(engine_of(settings)).get_table_names() == []

    @pytest.mark.parametrize("revision", ["0000", "9999"])
    def test_reading_a_database_of_another_revision_is_refused_and_changes_nothing(
        self, settings: Settings, ledger: Ledger, revision: str
    ) -> None:
        ledger.migrate()
        set_revision(settings, revision)
        for read in (Ledger(settings).universe, lambda: signals(settings=settings)):
            with pytest.raises(LedgerOutdated, match=f"schema {revision}.*{HEAD}"):
                read()
        assert revision_of(settings) == revision

    def test_who_is_to_write_brings_an_older_schema_up_to_date_before_reading_and_makes_no_fresh_home(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.upgrade()
        assert not ledger.exists()
        ledger.add_symbols([member("AAA")])
        downgrade(settings, "0005")
        again = Ledger(settings)
        with pytest.raises(LedgerOutdated, match="0005"):
            again.universe()
        again.upgrade()
        assert [row["symbol"] for row in again.universe()] == ["AAA"]
        assert revision_of(settings) == HEAD
        again.close()
        set_revision(settings, "9999")
        with pytest.raises(LedgerOutdated, match="newer"):
            Ledger(settings).upgrade()

    def test_writing_to_a_database_of_a_newer_program_is_refused(self, settings: Settings, ledger: Ledger) -> None:
        ledger.migrate()
        set_revision(settings, "9999")
        with pytest.raises(LedgerOutdated, match="newer"):
            Ledger(settings).add_symbols([member("AAA")])
        assert revision_of(settings) == "9999"

    def test_a_process_that_has_read_an_empty_database_migrates_before_it_writes(self, ledger: Ledger) -> None:
        assert ledger.universe() == []
        ledger.add_symbols([member("AAA")])
        assert len(ledger.universe()) == 1


class TestAReaderBesideAWriter:
    def test_sees_what_was_there_before_the_writer_commits(self, settings: Settings, ledger: Ledger) -> None:
        ledger.put_signals([said("AAA")])
        with engine_of(settings).connect() as writer:
            writer.execute(sa.update(tables.signals).values(signal="SELL"))
            assert [row["signal"] for row in ledger.signals()] == ["BUY"]
            assert [row["signal"] for row in signals(settings=settings)] == ["BUY"]
            writer.commit()
        assert [row["signal"] for row in ledger.signals()] == ["SELL"]

    def test_the_quick_reader_says_what_the_ledger_says(self, settings: Settings, ledger: Ledger) -> None:
        ledger.add_symbols([member("AAA"), member("BBB"), member("CCC")])
        ledger.put_signals(
            [
                said("BBB", confidence=None, bar_time=None, model_version=None),
                said("AAA", created_at=NOW.replace(microsecond=123456)),
                said("CCC"),
            ]
        )
        ledger.retire(["CCC"], NOW)
        rows = signals(settings=settings)
        assert [{name: row[name] for name in STORED} for row in rows] == [
            {name: row[name] for name in STORED} for row in ledger.signals()
        ]
        assert [row["symbol"] for row in rows] == ["AAA", "BBB"]

    def test_a_tally_is_read_as_it_was_counted_until_signals_are_said_or_retired(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        now = datetime.now(UTC)
        ledger.put_signals([said("AAA", now), said("BBB", now)])
        cache = Cache(ledger)
        cache.put(METRICS, WHOLE, {"signals": 77}, timedelta(hours=1), now)
        assert signals.metrics(settings=settings) == {"signals": 77}
        assert signals.metrics(settings=settings, symbols=["AAA"])["signals"] == 1
        for change in (lambda: ledger.put_signals([said("CCC", now)]), lambda: ledger.retire(["BBB"], now)):
            cache.put(METRICS, WHOLE, {"signals": 77}, timedelta(hours=1), now)
            change()
            assert signals.metrics(settings=settings)["signals"] == 3
        cache.put(METRICS, WHOLE, {"signals": 77}, timedelta(hours=1), now - timedelta(hours=2))
        assert signals.metrics(settings=settings)["signals"] == 3

    def test_signals_are_chosen_by_symbol_and_age(self, settings: Settings, ledger: Ledger) -> None:
        now = datetime.now(UTC)
        ledger.put_signals([said("AAA", now), said("BBB", now - timedelta(hours=7)), said("CCC", now)])
        assert [row["symbol"] for row in signals(["CCC", "BBB"], settings=settings)] == ["BBB", "CCC"]
        with pytest.raises(UnknownSymbol, match="ZZZ: not in the universe"):
            signals(["CCC", "ZZZ"], settings=settings)
        assert [row["symbol"] for row in signals(max_age_hours=1, settings=settings)] == ["AAA", "CCC"]
        assert [row["symbol"] for row in ledger.signals(newer_than=now - timedelta(hours=1))] == ["AAA", "CCC"]
        assert [row["symbol"] for row in ledger.signals(["BBB"])] == ["BBB"]
        assert {row["symbol"]: row["fresh"] for row in signals(settings=settings)} == {
            "AAA": True,
            "BBB": False,
            "CCC": True,
        }


class TestSignals:
    def test_an_older_run_that_writes_late_does_not_overwrite_what_was_said_since(self, ledger: Ledger) -> None:
        bar, day = datetime(2024, 2, 29, tzinfo=UTC), timedelta(days=1)
        ledger.put_signals([said("AAA", NOW), said("BBB", NOW), said("CCC", NOW, bar_time=None)])
        ledger.put_signals(
            [
                said("AAA", NOW + day, bar_time=bar - day, reason="an older bar"),
                said("BBB", NOW - day, reason="said earlier"),
                said("CCC", NOW - day, bar_time=None, reason="said earlier"),
            ]
        )
        assert {row["reason"] for row in ledger.signals()} == {"because"}
        ledger.put_signals([said("AAA", NOW + day, bar_time=None, reason="no bar")])
        assert ledger.signals(["AAA"])[0]["reason"] == "because"

    def test_a_newer_bar_or_a_later_word_on_the_same_replaces_it(self, ledger: Ledger) -> None:
        bar, day = datetime(2024, 2, 29, tzinfo=UTC), timedelta(days=1)
        ledger.put_signals([said("AAA", NOW), said("BBB", NOW), said("CCC", NOW, bar_time=None)])
        ledger.put_signals(
            [
                said("AAA", NOW - day, bar_time=bar + day, reason="a newer bar"),
                said("BBB", NOW, reason="said again"),
                said("CCC", NOW - day, reason="a first bar"),
            ]
        )
        assert [row["reason"] for row in ledger.signals()] == ["a newer bar", "said again", "a first bar"]

    def test_what_was_said_in_the_future_gives_way_because_the_clock_was_set_back(self, ledger: Ledger) -> None:
        wall = datetime.now(UTC)
        ledger.put_signals([said("AAA", wall + timedelta(days=300)), said("BBB", wall + timedelta(minutes=1))])
        ledger.put_signals([said("AAA", wall, reason="now"), said("BBB", wall, reason="now")])
        assert [row["reason"] for row in ledger.signals()] == ["now", "because"]


class TestWhatOutdatesASignal:
    """BAR is the bar of every signal; each was said at NOW and lives for six hours."""

    BAR = datetime(2024, 2, 29, tzinfo=UTC)
    LATER = NOW + timedelta(hours=1)

    def outdated(self, ledger: Ledger) -> set[str]:
        return {row["symbol"] for row in ledger.signals() if row["expires_at"] == row["created_at"]}

    def test_a_newer_bar_of_its_symbol_does_and_nothing_else_of_the_state(self, ledger: Ledger) -> None:
        ledger.put_signals([said("AAA"), said("BBB"), said("CCC"), said("DDD")])
        ledger.note_state([{"symbol": name, "last_bar": self.BAR} for name in ("AAA", "BBB", "CCC")])
        ledger.note_state([{"symbol": "CCC", "bars": 7}])
        assert self.outdated(ledger) == set()
        ledger.note_state([{"symbol": "BBB", "last_bar": self.BAR + timedelta(days=1)}])
        assert self.outdated(ledger) == {"BBB"}

    def test_one_of_an_older_bar_that_comes_late_is_outdated_from_the_start(self, ledger: Ledger) -> None:
        ledger.note_state([{"symbol": "AAA", "last_bar": self.BAR + timedelta(days=1)}])
        ledger.put_signals([said("AAA"), said("BBB")])
        assert self.outdated(ledger) == {"AAA"}

    @pytest.mark.parametrize(
        ("regime", "verdict", "expected"),
        [
            ("all", "promote", {"BY_ALL", "BY_POOL", "BY_NONE"}),
            ("all", "rollback", {"BY_ALL", "BY_POOL", "BY_NONE"}),
            ("volatile", "promote", {"BY_ALL", "BY_POOL", "BY_NONE", "BY_OWN"}),
            ("trending", "promote", set()),
            ("all", "reject", set()),
            ("all", "hold", set()),
        ],
    )
    def test_a_decision_on_the_model_that_would_speak_does_and_no_other(
        self, ledger: Ledger, regime: str, verdict: str, expected: set[str]
    ) -> None:
        models = {"BY_ALL": "BY_5fALL.all", "BY_POOL": "all.pooled", "BY_NONE": None, "BY_OWN": "BY_OWN.volatile"}
        ledger.put_signals([said(symbol, regime="volatile", model_name=name) for symbol, name in models.items()])
        ledger.decide([decision(symbol, 1, verdict, regime=regime, decided_at=self.LATER) for symbol in models])
        assert self.outdated(ledger) == expected

    def test_who_says_it_after_the_decision_is_not_outdated_and_who_said_it_before_is_however_late_it_is_written(
        self, ledger: Ledger
    ) -> None:
        ledger.decide([decision(symbol, 1, decided_at=NOW) for symbol in ("AAA", "BBB")])
        before = NOW - timedelta(minutes=1)
        ledger.put_signals([said("AAA", NOW, regime="volatile"), said("BBB", before, regime="volatile")])
        assert self.outdated(ledger) == {"BBB"}

    @pytest.mark.parametrize("verdict", ["promote", "rollback"])
    def test_who_says_it_while_a_pass_judges_is_outdated_by_its_decision_however_late_it_is_written(
        self, settings: Settings, verdict: str
    ) -> None:
        ledger = Ledger(settings, lambda: self.LATER)
        meanwhile, after = NOW + timedelta(minutes=2), self.LATER + timedelta(minutes=1)
        ledger.put_signals([said("AAA", meanwhile, regime="volatile")])
        ledger.decide([decision(symbol, 1, verdict, decided_at=NOW) for symbol in ("AAA", "BBB", "CCC")])
        ledger.put_signals([said("BBB", meanwhile, regime="volatile"), said("CCC", after, regime="volatile")])
        assert self.outdated(ledger) == {"AAA", "BBB"}
        assert unsaid(ledger.last_decisions(), ledger.signals()) == ["AAA", "BBB"]
        assert ledger.production(as_of=meanwhile) == {}, "nobody could know it"
        assert {row["decided_at"] for row in ledger.decisions()} == {self.LATER}, "one sitting"


class TestUniverse:
    def test_a_retired_symbol_is_kept_and_comes_back_when_it_is_added_again(self, ledger: Ledger) -> None:
        ledger.add_symbols([member("BBB"), member("AAA")])
        ledger.retire(["AAA"], NOW)
        assert [row["symbol"] for row in ledger.universe()] == ["BBB"]
        assert [row["retired_at"] for row in ledger.universe(retired=True)] == [NOW, None]
        ledger.add_symbols([member("AAA")])
        assert [row["symbol"] for row in ledger.universe()] == ["AAA", "BBB"]


class TestState:
    def test_only_the_named_columns_change(self, ledger: Ledger) -> None:
        ledger.note_state([{"symbol": "AAA", "bars": 5, "last_bar": NOW}])
        ledger.note_state([{"symbol": "AAA", "features_until": NOW}, {"symbol": "BBB", "features_until": NOW}])
        states = ledger.states()
        assert (states["AAA"]["bars"], states["AAA"]["last_bar"]) == (5, NOW)
        assert (states["BBB"]["bars"], states["BBB"]["rebuild_features"]) == (0, False)

    def test_rows_that_name_different_columns_are_refused_whole(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="same columns"):
            ledger.note_state([{"symbol": "AAA", "bars": 5}, {"symbol": "BBB", "bars": 5, "attempts": 1}])
        assert ledger.states() == {}

    def test_an_instant_without_a_zone_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises((ValueError, sa.exc.StatementError), match="no time zone"):
            ledger.note_state([{"symbol": "AAA", "last_bar": datetime(2024, 1, 1)}])

    def test_two_writers_of_the_same_symbols_lose_nothing_and_do_not_block_each_other(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.migrate()
        names = [f"S{number:02d}" for number in range(40)]
        raised = at_once(
            _note_states, [(settings, names, "bars"), (settings, names[::-1], "attempts"), (settings, names, "bars")]
        )
        assert raised == []
        assert {(row["bars"], row["attempts"]) for row in ledger.states().values()} == {(20, 20)}


class TestFindings:
    def test_are_replaced_only_from_the_day_looked_at_and_only_for_the_rules_looked_for(self, ledger: Ledger) -> None:
        old, day, new = date(2024, 1, 1), date(2024, 1, 10), date(2024, 1, 20)
        ledger.note_findings(
            {"AAA": None, "BBB": None},
            ["jump", "gap"],
            [found("AAA", old), found("AAA", day), found("AAA", new, "gap"), found("BBB", day)],
        )
        ledger.note_findings({"AAA": day}, ["jump"], [found("AAA", new)])
        assert [(row["symbol"], row["rule"], row["day"]) for row in ledger.findings()] == [
            ("AAA", "gap", new),
            ("AAA", "jump", old),
            ("AAA", "jump", new),
            ("BBB", "jump", day),
        ]
        assert {row["rule"] for row in ledger.findings(["gap"])} == {"gap"}

    def test_looked_at_ever_and_found_nothing_clears_a_symbol(self, ledger: Ledger) -> None:
        ledger.note_findings({"AAA": None}, ["jump"], [found("AAA", date(2024, 1, 1))])
        ledger.note_findings({"AAA": None}, ["jump"], [])
        assert ledger.findings() == []

    @hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        looks=st.lists(
            st.tuples(
                st.dictionaries(st.sampled_from("AB"), st.none() | st.integers(1, 9), min_size=1),
                st.sets(st.tuples(st.sampled_from("AB"), st.integers(1, 9))),
            ),
            max_size=4,
        )
    )
    def test_any_series_of_looks_leaves_what_a_plain_set_would_hold(
        self, ledger: Ledger, looks: list[tuple[dict[str, int | None], set[tuple[str, int]]]]
    ) -> None:
        ledger.note_findings({"A": None, "B": None}, ["jump"], [])
        held: set[tuple[str, int]] = set()
        for looked_at, seen in looks:
            held = {
                (symbol, day) for symbol, day in held if symbol not in looked_at or day < (looked_at[symbol] or 0)
            } | seen
            ledger.note_findings(
                {symbol: None if day is None else date(2024, 1, day) for symbol, day in looked_at.items()},
                ["jump"],
                [found(symbol, date(2024, 1, day)) for symbol, day in seen],
            )
        assert {(row["symbol"], row["day"].day) for row in ledger.findings()} == held


class TestAttempts:
    def test_are_counted_from_one_within_their_family(self, ledger: Ledger) -> None:
        assert ledger.spend_attempt("f", "a", NOW, NOW - YEAR) == 1
        assert ledger.spend_attempt("f", "b", NOW, NOW - YEAR) == 2
        assert ledger.spend_attempt("g", "c", NOW, NOW - YEAR) == 1

    def test_the_same_evidence_is_the_same_attempt_however_often_and_late_it_is_looked_at(self, ledger: Ledger) -> None:
        for number, evidence in enumerate("abc", start=1):
            assert ledger.spend_attempt("f", evidence, NOW, NOW - YEAR) == number
        for number, evidence in enumerate("abc", start=1):
            for later in (NOW, NOW + timedelta(days=30), NOW + 3 * YEAR):
                assert ledger.spend_attempt("f", evidence, later, later - YEAR) == number

    def test_looks_of_more_than_a_year_ago_are_forgotten(self, ledger: Ledger) -> None:
        ledger.spend_attempt("f", "a", NOW, NOW - YEAR)
        ledger.spend_attempt("f", "b", NOW + timedelta(days=200), NOW - timedelta(days=165))
        later = NOW + timedelta(days=400)
        assert ledger.spend_attempt("f", "c", later, later - YEAR) == 2

    def test_two_who_look_at_once_spend_two_attempts_or_one_for_the_same_evidence(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.migrate()
        looks = [(settings, [f"{kind}{number}" for number in range(10)]) for kind in "aabc"]
        assert at_once(_spend, looks) == []
        numbers = [
            ledger.spend_attempt("f", f"{kind}{number}", NOW, NOW - YEAR) for kind in "abc" for number in range(10)
        ]
        assert sorted(numbers) == list(range(1, 31))


class TestTrials:
    def test_are_counted_once_a_configuration_and_keep_the_first_score_that_was_known(self, ledger: Ledger) -> None:
        def trial(configuration: str, score: float | None, days: int = 0, **more: Any) -> dict[str, Any]:
            seen = {"source": "gate", "seen_at": NOW + timedelta(days=days)}
            return {"family": "f", "configuration": configuration, "score": score, **seen, **more}

        assert ledger.trials("f") == []
        ledger.note_trials([])
        first, unknown = trial("a", 0.1), trial("b", None, days=1, source="search")
        ledger.note_trials([first, unknown, trial("a", 0.3, family="g")])
        for _ in range(2):
            ledger.note_trials([trial("a", 0.2, days=2), trial("b", None, days=3)])
        assert ledger.trials("f") == [first, unknown]
        known = trial("b", 0.4, days=4)
        ledger.note_trials([known])
        assert ledger.trials("f") == [first, known]


class TestDecisions:
    @pytest.mark.parametrize(
        "rewriting", ["UPDATE decisions SET reason = 'another'", "DELETE FROM decisions", "TRUNCATE decisions"]
    )
    def test_nobody_can_rewrite_the_history_whoever_has_the_database(
        self, settings: Settings, ledger: Ledger, rewriting: str
    ) -> None:
        ledger.decide([decision("AAA", 1)])
        engine = engine_of(settings)
        # SQLite has no TRUNCATE.
        refused = pytest.raises(sa.exc.DatabaseError, match=r'append-only|near "TRUNCATE"')
        with refused, engine.begin() as connection:
            connection.execute(sa.text(rewriting))
        engine.dispose()
        assert [row["reason"] for row in ledger.decisions()] == ["because"]

    def test_are_taken_all_or_none(self, ledger: Ledger) -> None:
        ledger.decide([decision("AAA", 1)])
        with pytest.raises(DecidedElsewhere, match=r"BBB\|all#1, AAA\|all#1"):
            ledger.decide([decision("BBB", 1), decision("AAA", 1)])
        assert [row["symbol"] for row in ledger.decisions()] == ["AAA"]

    def test_what_is_wrong_with_a_row_itself_is_not_blamed_on_another_run(self, ledger: Ledger) -> None:
        with pytest.raises(sa.exc.IntegrityError):
            ledger.decide([decision("AAA", 1, verdict=None)])

    def test_of_many_who_decide_the_same_step_exactly_one_does(self, settings: Settings, ledger: Ledger) -> None:
        ledger.migrate()
        raised = at_once(_decide, [(settings, str(number)) for number in range(4)])
        assert [type(error) for error in raised] == [DecidedElsewhere] * 3
        assert len(ledger.decisions()) == 2

    def test_production_is_the_newest_promotion_or_rollback_and_a_rejection_changes_nothing(
        self, ledger: Ledger
    ) -> None:
        ledger.decide([decision("AAA", 1), decision("BBB", 1, "reject")])
        ledger.decide([decision("AAA", 2)])
        ledger.decide([decision("AAA", 3, "reject")])
        assert {key: row["seq"] for key, row in ledger.production().items()} == {("AAA", "all"): 2}
        ledger.decide([decision("AAA", 4, "rollback", model_version="1")])
        assert ledger.production()["AAA", "all"]["model_version"] == "1"
        assert {key: row["seq"] for key, row in ledger.last_decisions().items()} == {
            ("AAA", "all"): 4,
            ("BBB", "all"): 1,
        }
        assert [row["seq"] for row in ledger.decisions("AAA")] == [1, 2, 3, 4]

    @pytest.mark.parametrize("seed", range(3))
    def test_production_and_canaries_are_after_every_decision_what_the_path_of_each_version_says(
        self, ledger: Ledger, seed: int
    ) -> None:
        chance = random.Random(seed)
        words = [
            (chance.choice(("promote", "reject", "canary", "canary", "block", "back")), chance.randint(1, 3))
            for _ in range(40)
        ]
        ledger.decide([decision("BBB", **row) for row in told([("promote", 1), ("canary", 2)])])
        history = told(words)
        for number, row in enumerate(history, 1):
            ledger.decide([decision("AAA", **row)])
            stands = standing(history[:number])
            for found, expected in ((ledger.production(), stands.production), (ledger.canaries(), stands.canary)):
                explained = found.get(("AAA", "all"))
                assert (explained and explained["seq"]) == (expected and expected["seq"]), history[:number]
                assert found["BBB", "all"]["seq"] in (1, 2)
        assert [row["seq"] for row in ledger.history(["AAA"])["AAA", "all"]] == list(range(1, len(history) + 1))
        assert ledger.history().keys() == {("AAA", "all"), ("BBB", "all")}

    @pytest.mark.parametrize("seed", range(3))
    def test_as_of_an_instant_everybody_is_who_they_were_when_it_was_that_instant(
        self, ledger: Ledger, seed: int
    ) -> None:
        chance = random.Random(seed)
        words = [(chance.choice(("promote", "reject", "canary", "back")), chance.randint(1, 3)) for _ in range(20)]
        ledger.note_candidates([trained("AAA", "AAA-3"), trained("BBB", "BBB-1")])
        ledger.decide([decision("BBB", **row) for row in told([("promote", 1), ("canary", 2)])])
        asked = ("production", "canaries", "decided", "last_decisions")
        then: dict[datetime, list[Any]] = {NOW: [getattr(ledger, name)() for name in asked]}
        for minutes, row in enumerate(told(words), 1):
            at = NOW + timedelta(minutes=minutes)
            ledger.decide([decision("AAA", **row, decided_at=at)])
            then[at] = [getattr(ledger, name)() for name in asked]
        for at, found in then.items():
            for instant in (at, at + timedelta(seconds=59)):
                assert [getattr(ledger, name)(as_of=instant) for name in asked] == found
        before = NOW - timedelta(seconds=1)
        assert [getattr(ledger, name)(as_of=before) for name in asked] == [{}] * 4

    def test_a_decision_that_is_dated_back_was_not_known_before_the_one_that_it_follows_nor_before_its_training(
        self, ledger: Ledger
    ) -> None:
        later, early = NOW + timedelta(days=5), NOW + timedelta(days=1)
        ledger.decide([decision("AAA", 1), decision("BBB", 1)])
        ledger.decide([decision("AAA", 2, "reject", decided_at=later)])
        ledger.decide([decision("AAA", 3, decided_at=early)])
        ledger.decide([decision("BBB", 2, decided_at=early, trained_at=later)])
        for days, seqs in ((1, (1, 1)), (4, (1, 1)), (5, (3, 2))):
            found = ledger.production(as_of=NOW + timedelta(days=days))
            assert tuple(found[symbol, "all"]["seq"] for symbol in ("AAA", "BBB")) == seqs

    def test_a_decision_says_where_it_leaves_its_version_and_the_gate_takes_it_unless_it_says_who(
        self, ledger: Ledger
    ) -> None:
        ledger.decide([decision("AAA", 1), decision("BBB", 1, "reject")])
        ledger.decide([decision("CCC", 1, "hold", who="ann")])
        left = {row["symbol"]: (row["stage"], row["who"]) for row in ledger.decisions()}
        assert left == {"AAA": ("production", "gate"), "BBB": ("failed", "gate"), "CCC": ("staging", "ann")}

    def test_that_do_not_name_the_same_columns_are_refused_because_what_one_alone_names_would_be_lost(
        self, ledger: Ledger
    ) -> None:
        with pytest.raises(ValueError, match="decisions do not all name the same columns"):
            ledger.decide([decision("AAA", 1), decision("BBB", 1, who="ann")])
        assert ledger.decisions() == []

    def test_a_snapshot_sees_nothing_of_what_others_decide_meanwhile(self, settings: Settings, ledger: Ledger) -> None:
        with ledger.snapshot() as fresh:
            ledger.decide([decision("AAA", 1)])
            assert fresh.last_decisions() == {}
        with ledger.snapshot() as then:
            assert then.decided() == {}
            other = Ledger(settings)
            other.decide([decision("AAA", 2), decision("BBB", 1)])
            other.close()
            assert {cell: row["seq"] for cell, row in then.last_decisions().items()} == {("AAA", "all"): 1}
            assert then.production().keys() == {("AAA", "all")}
        assert ledger.last_decisions()["AAA", "all"]["seq"] == 2

    @pytest.mark.slow
    def test_of_many_processes_that_decide_the_same_step_exactly_one_does(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.migrate()
        environment = {**os.environ, "ALPHA_HOME": str(settings.home), "ALPHA_LEDGER_URL": settings.ledger}
        deciding = [
            subprocess.Popen([sys.executable, "-c", DECIDER, str(number)], env=environment, stdout=subprocess.PIPE)
            for number in range(3)
        ]
        said = sorted(process.communicate()[0].decode().strip() for process in deciding)
        assert said == ["DecidedElsewhere", "DecidedElsewhere", "decided"]
        assert len(ledger.decisions()) == 1

    def test_what_was_decided_before_there_were_stages_has_the_stage_of_its_verdict(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.decide([decision(word, 1, word) for word in ("promote", "reject", "hold")])
        downgrade(settings, "0002")
        again = Ledger(settings)
        again.migrate()
        stages = {row["symbol"]: (row["stage"], row["who"]) for row in again.decisions()}
        again.close()
        expected = {"promote": "production", "reject": "failed", "hold": "staging"}
        assert stages == {word: (stage, "gate") for word, stage in expected.items()}

    def test_what_was_tried_of_a_family_at_several_horizons_counts_together_once_migrated(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        families = ("all|core|trees|h1", "all|core|trees|h15", "all|alpha158|trees|h1", "all|core|trees")
        for day, family in enumerate(families):
            at = NOW + timedelta(days=day)
            ledger.spend_attempt(family, f"look {day}", at, at - YEAR)
            trial = {"family": family, "configuration": f"settings {day}", "score": None}
            ledger.note_trials([{**trial, "source": "gate", "seen_at": at}])
        downgrade(settings, "0004")
        again = Ledger(settings)
        again.migrate()
        at = NOW + timedelta(days=9)
        counted = {family: again.spend_attempt(family, "now", at, at - YEAR) for family in families}
        trials = {family: len(again.trials(family)) for family in families}
        again.close()
        assert counted == dict(zip(families, (1, 1, 1, 4), strict=True))
        assert trials == dict(zip(families, (0, 0, 0, 3), strict=True))

    def test_the_newest_sittings_are_told_without_their_evidence_which_is_asked_for_by_id(self, ledger: Ledger) -> None:
        for seq in (1, 2, 3):
            at = NOW + timedelta(days=seq)
            ledger.decide([decision(symbol, seq, decided_at=at, evidence={"seq": seq}) for symbol in ("AAA", "BBB")])
        rows = ledger.sittings(2)
        assert [(row["symbol"], row["seq"]) for row in rows] == [("AAA", 2), ("BBB", 2), ("AAA", 3), ("BBB", 3)]
        assert "evidence" not in rows[0]
        assert ledger.evidence([rows[0]["id"], rows[3]["id"]]) == {
            rows[0]["id"]: {"seq": 2},
            rows[3]["id"]: {"seq": 3},
        }

    def test_are_given_back_as_they_were_taken(self, ledger: Ledger) -> None:
        row = decision("AAA", 1, evidence={"pool": {"ic": 0.1, "lines": [1, None]}})
        ledger.decide([row])
        (stored,) = ledger.decisions()
        assert {name: stored[name] for name in row} == row


class TestTrouble:
    def test_a_server_that_does_not_answer_is_named_without_its_password(self, tmp_path: Path) -> None:
        url = SecretStr("postgresql://somebody:geheim@127.0.0.1:1/ledger")
        with pytest.raises(LedgerUnavailable, match=r"somebody:\*\*\*@127.0.0.1:1/ledger") as raised:
            Ledger(Settings(home=tmp_path, ledger_url=url)).universe()
        assert "geheim" not in str(raised.value)

    def test_a_file_that_is_no_database_is_named(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        settings.ledger_file.write_text("this is no database, only a text that is long enough to be taken for one" * 9)
        with pytest.raises(LedgerUnavailable, match=r"ledger\.db.*not a database"):
            Ledger(settings).universe()
        with pytest.raises(StoreTrouble, match=r"ledger\.db.*not a database"):
            signals(settings=settings)


class TestALostFile:
    """SQLite: the file goes, and the lake knows that it was there; who had it open is to notice as anybody is."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path / "a home #1")

    def test_is_told_by_who_had_it_open_and_nobody_writes_into_it_or_begins_another(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.add_symbols([member("AAA")])
        said_once(settings)
        mislay(settings)
        for asked, words in ((ledger, "was in use and is gone"), (Ledger(settings), "is not there")):
            for ask in everything(asked):
                with pytest.raises(LedgerUnavailable, match=rf"ledger\.db {words}"):
                    ask()
                asked.close()
        assert not settings.ledger_file.exists()

    def test_is_told_by_who_had_it_open_even_where_the_lake_knows_nothing(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.add_symbols([member("AAA")])
        mislay(settings)
        for ask in everything(ledger):
            with pytest.raises(LedgerUnavailable, match=r"ledger\.db .* is gone"):
                ask()
        assert not settings.ledger_file.exists()
        assert Ledger(settings).universe() == []

    def test_is_lost_too_where_an_empty_one_lies_in_its_place(self, settings: Settings, ledger: Ledger) -> None:
        ledger.add_symbols([member("AAA")])
        said_once(settings)
        mislay(settings)
        settings.ledger_file.touch()
        for asked in (ledger, Ledger(settings)):
            for ask in everything(asked):
                with pytest.raises(LedgerUnavailable, match=r"ledger\.db "):
                    ask()
        assert settings.ledger_file.stat().st_size == 0

    def test_that_is_brought_back_is_read_and_written_by_who_had_the_lost_one_open(
        self, settings: Settings, ledger: Ledger
    ) -> None:
        ledger.add_symbols([member("AAA")])
        ledger.close()
        shutil.copyfile(settings.ledger_file, settings.home / "backup.db")
        ledger.add_symbols([member("BBB")])
        mislay(settings)
        (settings.home / "backup.db").rename(settings.ledger_file)
        assert [row["symbol"] for row in ledger.universe()] == ["AAA"]
        ledger.add_symbols([member("CCC")])
        assert [row["symbol"] for row in Ledger(settings).universe()] == ["AAA", "CCC"]

    def test_is_made_by_a_migration_and_by_no_connection(self, settings: Settings, ledger: Ledger) -> None:
        settings.home.mkdir()
        with pytest.raises(sa.exc.OperationalError, match="unable to open"):
            ledger.engine().connect()
        assert not settings.ledger_file.exists()
        ledger.migrate()
        assert ledger.exists()

    @pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
    def test_may_be_one_on_a_server_that_nobody_named_which_is_said_before_anything_that_could_do_harm(
        self, settings: Settings, empty: bool
    ) -> None:
        said_once(settings)
        if empty:
            settings.ledger_file.touch()
        for ask in (Ledger(settings).universe, lambda: Ledger(settings).add_symbols([member("AAA")])):
            with pytest.raises(
                LedgerUnavailable, match=r"is not there.*on a server, set ALPHA_LEDGER_URL; else restore.*; only.* away"
            ):
                ask()

    def test_costs_the_computation_of_what_was_kept_and_is_told(self, settings: Settings, ledger: Ledger) -> None:
        cache = Cache(ledger)
        cache.put("a", "k", 1, YEAR, NOW)
        said_once(settings)
        mislay(settings)
        answer = cache.through("a", "k", YEAR, lambda: 7, NOW)
        assert (answer.value, answer.held) == (7, False)
        assert "ledger.db" in str(answer.trouble)


def said_once(settings: Settings) -> None:
    (Path(settings.lake) / "signals").mkdir(parents=True)


def mislay(settings: Settings) -> None:
    for file in settings.home.glob("ledger.db*"):
        file.unlink()


def everything(ledger: Ledger) -> list[Callable[[], object]]:
    """The ways into a ledger: to ask whether it is there, to read, to write."""
    return [
        ledger.exists,
        ledger.universe,
        ledger.snapshot().__enter__,
        ledger.upgrade,
        ledger.migrate,
        lambda: ledger.add_symbols([member("BBB")]),
    ]


# -- writers beside each other: each has connections of its own ------------------------------------------------------


def at_once(work: Callable[..., None], calls: list[tuple[Any, ...]]) -> list[Exception]:
    """Call ``work`` in as many threads, all let loose together; what they raised."""
    start = Barrier(len(calls))

    def let_loose(call: tuple[Any, ...]) -> Exception | None:
        start.wait(60)
        try:
            work(*call)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return [error for error in pool.map(let_loose, calls) if error is not None]


def _migrate(settings: Settings) -> None:
    Ledger(settings).migrate()


def _note_states(settings: Settings, symbols: list[str], column: str) -> None:
    ledger = Ledger(settings)
    for count in range(1, 21):
        ledger.note_state([{"symbol": symbol, column: count} for symbol in symbols])


def _spend(settings: Settings, looks: list[str]) -> None:
    ledger = Ledger(settings)
    answers = {evidence: ledger.spend_attempt("f", evidence, NOW, NOW - YEAR) for evidence in looks}
    assert answers == {evidence: ledger.spend_attempt("f", evidence, NOW, NOW - YEAR) for evidence in looks}


def _decide(settings: Settings, reason: str) -> None:
    Ledger(settings).decide([decision("AAA", 1, reason=reason), decision("BBB", 1, reason=reason)])


# -- looking at the database from outside ---------------------------------------------------------------------------


def downgrade(settings: Settings, revision: str) -> None:
    """Make of a database what an older program left."""
    config = Config()
    config.set_main_option("script_location", str(Path(ledger_module.__file__).parent / "migrations"))
    with engine_of(settings).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def set_revision(settings: Settings, revision: str) -> None:
    with engine_of(settings).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def revision_of(settings: Settings) -> str:
    with engine_of(settings).connect() as connection:
        return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())

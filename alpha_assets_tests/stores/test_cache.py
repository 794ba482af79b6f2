"""Keyed data with a time to live, on SQLite and on PostgreSQL, and under faults."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from alpha_assets.quant.parameters import CLOCK_SKEW
from alpha_assets.settings import Settings
from alpha_assets.stores.cache import METRICS, SIGNALS, STATUS_FIELDS, Answer, Cache
from alpha_assets.stores.ledger import Ledger, LedgerUnavailable
from alpha_assets_tests import postgres
from alpha_assets_tests.stores.test_ledger import said

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def cache(ledger: Ledger) -> Cache:
    return Cache(ledger)


def never() -> object:
    raise AssertionError("what is held is not computed")


@pytest.mark.parametrize("namespace", [METRICS, "anything"])
class TestAnEntry:
    def test_is_given_back_until_it_expires_and_not_a_moment_longer(self, cache: Cache, namespace: str) -> None:
        value = {"number": 0.1, "none": None, "list": [1, "two"]}
        cache.put(namespace, "k", value, HOUR, NOW)
        assert cache.get(namespace, "k", NOW) == Answer(value, held=True)
        assert cache.get(namespace, "k", NOW + HOUR - timedelta(microseconds=1)) == Answer(value, held=True)
        assert cache.get(namespace, "k", NOW + HOUR) is None

    def test_is_what_was_found_though_it_goes_before_it_is_asked_for(self, cache: Cache, namespace: str) -> None:
        cache.put(namespace, "k", 1, HOUR, NOW)
        look = cache.look(namespace, "k", NOW)
        cache.clean(NOW + HOUR, timedelta(0))
        assert cache.completed(look, HOUR, never, NOW) == Answer(1, held=True)
        assert cache.completed(cache.look(namespace, "k", NOW), HOUR, lambda: 2, NOW) == Answer(2, held=False)
        assert cache.get(namespace, "k", NOW) == Answer(2, held=True)

    def test_is_found_under_its_own_key_only(self, cache: Cache, namespace: str) -> None:
        cache.put(namespace, "k", 1, HOUR, NOW)
        assert cache.get(namespace, "K", NOW) is None
        assert cache.get("other", "k", NOW) is None
        assert cache.get(METRICS if namespace != METRICS else "anything", "k", NOW) is None

    def test_that_is_put_again_lives_anew(self, cache: Cache, namespace: str) -> None:
        cache.put(namespace, "k", 1, HOUR, NOW)
        cache.put(namespace, "k", 2, HOUR, NOW + HOUR)
        assert cache.get(namespace, "k", NOW + HOUR) == Answer(2, held=True)

    def test_made_in_the_future_is_not_trusted_because_the_clock_was_set_back(
        self, cache: Cache, namespace: str
    ) -> None:
        cache.put(namespace, "k", 1, 100 * HOUR, NOW)
        assert cache.get(namespace, "k", NOW - CLOCK_SKEW) is not None
        assert cache.get(namespace, "k", NOW - CLOCK_SKEW - timedelta(seconds=1)) is None
        assert cache.through(namespace, "k", HOUR, lambda: 2, NOW - HOUR) == Answer(2, held=False)
        assert cache.get(namespace, "k", NOW - HOUR) == Answer(2, held=True)

    def test_is_computed_once_and_then_held(self, cache: Cache, namespace: str) -> None:
        assert cache.get(namespace, "k", NOW) is None
        assert cache.through(namespace, "k", HOUR, lambda: None, NOW) == Answer(None, held=False)
        assert cache.through(namespace, "k", HOUR, never, NOW) == Answer(None, held=True)
        (row,) = (row for row in cache.status(NOW) if row["namespace"] == namespace)
        assert (row["hits"], row["misses"]) == (1, 1)

    def test_that_would_never_live_is_refused(self, cache: Cache, namespace: str) -> None:
        with pytest.raises(ValueError, match=rf"{namespace} k: a time to live of 0:00:00"):
            cache.put(namespace, "k", 1, timedelta(0), NOW)


def test_signals_are_kept_by_who_says_them_and_by_nobody_else(cache: Cache) -> None:
    with pytest.raises(ValueError, match="put_signals"):
        cache.put(SIGNALS, "AAA", {}, HOUR, NOW)


def test_what_has_expired_is_cleared_and_what_is_old_is_cleaned_by_namespace(cache: Cache, ledger: Ledger) -> None:
    ledger.put_signals([said("AAA", NOW), said("BBB", NOW - 7 * HOUR), said("CCC", NOW - 30 * HOUR)])
    for age in (0, 2, 30):
        cache.put("a", str(age), age, HOUR, NOW - age * HOUR)
    assert cache.clear(NOW) == {"a": 2, SIGNALS: 2}
    assert [row["symbol"] for row in ledger.signals()] == ["AAA"]
    for age in (0, 2, 30):
        cache.put(METRICS, str(age), age, 100 * HOUR, NOW - age * HOUR)
    assert cache.clean(NOW, older=24 * HOUR) == {METRICS: 1}
    assert cache.clear(NOW) == cache.clean(NOW, older=24 * HOUR) == {}


def test_what_was_counted_of_signals_goes_with_them(cache: Cache, ledger: Ledger) -> None:
    ledger.put_signals([said("AAA", NOW), said("BBB", NOW - 7 * HOUR)])
    cache.put(METRICS, "*", {"total": 2}, HOUR, NOW)
    assert cache.clear(NOW) == {SIGNALS: 1}
    assert cache.get(METRICS, "*", NOW) is None
    cache.put(METRICS, "*", {"total": 1}, HOUR, NOW)
    assert cache.clear(NOW) == {}
    assert cache.get(METRICS, "*", NOW) == Answer({"total": 1}, held=True)


def test_the_status_tells_what_each_namespace_holds_and_how_often_it_helped(cache: Cache, ledger: Ledger) -> None:
    assert {row["namespace"]: row["entries"] for row in cache.status(NOW)} == {SIGNALS: 0, METRICS: 0}
    ledger.put_signals([said("AAA", NOW), said("BBB", NOW - 7 * HOUR)])
    cache.put("a", "k", "four", HOUR, NOW)
    cache.count("a", hits=3, misses=1)
    cache.count("a", hits=2, misses=0)
    rows = {row["namespace"]: row for row in cache.status(NOW)}
    assert [tuple(sorted(row)) for row in rows.values()] == [tuple(sorted(STATUS_FIELDS))] * 3
    assert rows["a"] == {
        "namespace": "a",
        "entries": 1,
        "fresh": 1,
        "expired": 0,
        "newest": NOW,
        "hits": 5,
        "misses": 1,
        "bytes": len('"four"'),
    }
    assert (rows[SIGNALS]["entries"], rows[SIGNALS]["fresh"], rows[SIGNALS]["newest"]) == (2, 1, NOW)


def test_the_bytes_are_those_of_every_document_and_sentence_as_they_are_stored(cache: Cache, ledger: Ledger) -> None:
    row = said("AAA", NOW, reason="no model of «all»", views=[{"name": "model", "reasons": ["«é»"]}], top_features=None)
    ledger.put_signals([row])
    cache.put("a", "k", "«é»", HOUR, NOW)
    held = {row["namespace"]: row["bytes"] for row in cache.status(NOW)}
    documents = [json.dumps(row[name]) for name in ("views", "top_features")]
    assert held == {
        SIGNALS: len(row["reason"].encode()) + sum(map(len, documents)),
        METRICS: 0,
        "a": len(json.dumps("«é»")),
    }


def test_a_fresh_home_is_read_without_being_made(settings: Settings, ledger: Ledger) -> None:
    cache = Cache(ledger)
    if settings.ledger_url is None:
        assert cache.get("a", "k", NOW) is None
        assert cache.clear(NOW) == {}
        assert not settings.home.exists()


def test_many_writers_of_one_key_leave_one_whole_value_and_every_count(settings: Settings, ledger: Ledger) -> None:
    ledger.migrate()

    def write(number: int) -> None:
        own = Ledger(settings)
        for _ in range(5):
            Cache(own).put("a", "k", [number] * 200, HOUR, NOW)
            Cache(own).count("a", hits=1, misses=2)
        own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = Cache(ledger).get("a", "k", NOW)
    assert found is not None
    assert len(found.value) == 200
    assert len(set(found.value)) == 1
    (row,) = (row for row in Cache(ledger).status(NOW) if row["namespace"] == "a")
    assert (row["hits"], row["misses"]) == (20, 40)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("ALTER TABLE cache RENAME TO mislaid", 'relation "cache" does not exist'),
        ("LOCK TABLE cache IN ACCESS EXCLUSIVE MODE", "lock timeout"),
    ],
    ids=["gone", "locked"],
)
def test_a_table_of_a_server_that_is_gone_or_held_costs_the_computation_and_is_told(
    tmp_path: Path, fault: str, word: str
) -> None:
    with postgres.database() as url:
        ledger = Ledger(Settings(home=tmp_path, ledger_url=SecretStr(url), ledger_wait_seconds=0.2))
        ledger.migrate()
        with ledger.engine().connect() as connection:
            connection.exec_driver_sql(fault)
            if "RENAME" in fault:
                connection.commit()
            answer = Cache(ledger).through("a", "k", HOUR, lambda: 7, NOW)
        ledger.close()
    assert (answer.value, answer.held) == (7, False)
    assert word in str(answer.trouble)


class TestUnderFaults:
    """SQLite: the faults of a file; what a server does when it is gone is one of them."""

    def test_a_database_that_is_gone_costs_the_computation_and_is_told(self, tmp_path: Path) -> None:
        ledger = Ledger(Settings(home=tmp_path, ledger_url=SecretStr("postgresql://nobody@127.0.0.1:1/none")))
        with pytest.raises(LedgerUnavailable):
            Cache(ledger).get("a", "k", NOW)
        answer = Cache(ledger).through("a", "k", HOUR, lambda: 7, NOW)
        assert (answer.value, answer.held) == (7, False)
        assert "nobody@127.0.0.1" in str(answer.trouble)

    def test_a_database_that_somebody_holds_locked_costs_the_computation_and_is_told(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, ledger_wait_seconds=0.2)
        ledger = Ledger(settings)
        ledger.migrate()
        holder = sqlite3.connect(settings.ledger_file, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        answer = Cache(ledger).through("a", "k", HOUR, lambda: 7, NOW)
        holder.execute("ROLLBACK")
        assert (answer.value, answer.held) == (7, False)
        assert "locked" in str(answer.trouble)
        assert Cache(ledger).through("a", "k", HOUR, lambda: 8, NOW) == Answer(8, held=False)
        holder.close()

    def test_a_database_that_is_full_costs_the_computation_and_keeps_what_it_holds(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        ledger = Ledger(settings)
        cache = Cache(ledger)
        cache.put("a", "small", 1, HOUR, NOW)
        with ledger.engine().connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        ledger.close()
        full = Ledger(settings)
        from sqlalchemy import event

        event.listen(full.engine(), "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count={pages}"))
        answer = Cache(full).through("a", "large", HOUR, lambda: "x" * 1_000_000, NOW)
        assert (len(answer.value), answer.held) == (1_000_000, False)
        assert "full" in str(answer.trouble)
        assert cache.get("a", "small", NOW) == Answer(1, held=True)

    def test_a_file_that_is_no_database_costs_the_computation_and_is_told(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        settings.ledger_file.write_bytes(b"no database " * 1000)
        answer = Cache(Ledger(settings)).through("a", "k", HOUR, lambda: 7, NOW)
        assert (answer.value, answer.held) == (7, False)
        assert answer.trouble

    def test_an_entry_that_expires_or_is_cleared_while_it_is_read_is_had_whole_or_not_at_all(
        self, tmp_path: Path
    ) -> None:
        settings = Settings(home=tmp_path)
        cache = Cache(Ledger(settings))
        whole = list(range(2000))
        cache.put("a", "k", whole, HOUR, NOW)

        def sweep(_: int) -> None:
            other = Cache(Ledger(settings))
            for _ in range(30):
                other.clear(NOW + 2 * HOUR)
                other.put("a", "k", whole, HOUR, NOW)

        def read(_: int) -> int:
            own = Cache(Ledger(settings))
            found = [own.get("a", "k", NOW) for _ in range(100)]
            assert all(answer is None or answer.value == whole for answer in found)
            return sum(answer is not None for answer in found)

        with ThreadPoolExecutor(3) as pool:
            swept = pool.submit(sweep, 0)
            assert sum(pool.map(read, range(2))) > 0
            swept.result()

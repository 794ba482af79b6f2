"""``alpha-assets cache status|clear|clean``."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alpha_assets.settings import Settings
from alpha_assets.stores.cache import STATUS_FIELDS, Cache
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.commands.call import call, home
from alpha_assets_tests.stores.test_ledger import member, said

HOUR = timedelta(hours=1)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A home that holds signals of now, of ten hours and of two days ago, and an entry of each age."""
    folder = tmp_path / "home"
    now = datetime.now(UTC)
    ledger = Ledger(Settings(home=folder))
    cache = Cache(ledger)
    for symbol, age in (("AAA", 0), ("BBB", 10), ("CCC", 48)):
        ledger.put_signals([said(symbol, now - age * HOUR)])
        cache.put("mine", symbol, age, 24 * HOUR, now - age * HOUR)
    ledger.close()
    return folder


def test_the_status_is_a_row_a_namespace(kept: Path) -> None:
    with home(kept):
        rows = {row["namespace"]: row for row in call("cache", "status", "--format", "json").json}
    assert tuple(rows["mine"]) == STATUS_FIELDS
    assert {name: (row["entries"], row["fresh"], row["expired"]) for name, row in rows.items()} == {
        "signals": (3, 1, 2),
        "metrics": (0, 0, 0),
        "mine": (3, 2, 1),
    }


def test_what_has_expired_is_cleared_and_then_there_is_nothing_to_clear(kept: Path) -> None:
    with home(kept):
        first = call("cache", "clear", "--format", "json").json
        again = call("cache", "clear").out
        left = [row["symbol"] for row in call("signals", "--format", "json").json]
    assert first == [{"namespace": "mine", "deleted": 1}, {"namespace": "signals", "deleted": 2}]
    assert again == "nothing has expired\n"
    assert left == ["AAA"]


def test_whose_signal_has_expired_or_was_cleared_away_is_told_with_what_to_do(kept: Path) -> None:
    Ledger(Settings(home=kept)).add_symbols([member(symbol) for symbol in ("AAA", "BBB", "CCC")])
    with home(kept):
        explained = [call("signals", "explain", symbol).out for symbol in ("AAA", "CCC")]
        cleared, again = call("cache", "clear").err, call("cache", "clear").err
        missing = call("signals", "--symbols", "AAA,BBB,CCC")
        one, filtered = call("signals", "--symbols", "AAA"), call("signals", "--symbols", "AAA,BBB", "--signal", "BUY")
    assert ["expired: alpha-assets refresh" in out for out in explained] == [False, True]
    assert cleared == "2 symbols without a signal until the next: alpha-assets refresh\n"
    assert missing.err == "no signal is held of BBB, CCC: alpha-assets refresh\n"
    assert again == one.err == filtered.err == ""


def test_what_is_old_is_cleaned_a_day_unless_somebody_says_otherwise(kept: Path) -> None:
    with home(kept):
        day = call("cache", "clean", "--format", "json").json
        nothing = call("cache", "clean", "--older-than", "20").out
        hours = call("cache", "clean", "--older-than", "5", "--format", "json").json
    assert day == hours == [{"namespace": "mine", "deleted": 1}, {"namespace": "signals", "deleted": 1}]
    assert nothing == "nothing is older than 20 hours\n"


def test_of_an_empty_home_nothing_is_made(tmp_path: Path) -> None:
    with home(tmp_path / "home"):
        assert call("cache", "clear").code == call("cache", "clean").code == call("cache", "status").code == 0
    assert not (tmp_path / "home").exists()

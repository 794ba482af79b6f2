"""Tables for people: times with their zone, numbers with a noun that fits them."""

from datetime import UTC, datetime

import pytest

from alpha_assets.commands.show import counted, table

MIDNIGHT = datetime(2024, 1, 2, tzinfo=UTC)
HALF_PAST_TWO = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def shown(capsys: pytest.CaptureFixture[str], *times: datetime | None) -> str:
    """The rows of a table of these times."""
    table([{"bar_time": at} for at in times], ["bar_time"], "table")
    return capsys.readouterr().out


def test_daily_bars_are_shown_as_days(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, MIDNIGHT, None)
    assert "2024-01-02" in out
    assert "UTC" not in out


def test_intraday_bars_are_marked_utc_the_one_of_midnight_too(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, MIDNIGHT, HALF_PAST_TWO)
    assert "2024-01-02 00:00 UTC" in out
    assert "2024-01-02 14:30 UTC" in out


@pytest.mark.parametrize(("number", "words"), [(0, "0 symbols"), (1, "1 symbol"), (2000, "2,000 symbols")])
def test_one_is_counted_like_one(number: int, words: str) -> None:
    assert counted(number, "symbol") == words

"""Until when the silence of a symbol says anything, and what has to be read to tell."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.stations.series import followed_until
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

PATIENCE = 60


class Watched:
    """A lake that counts the rows that are read from it."""

    def __init__(self, line: Line) -> None:
        self._lake = line.lake
        self.rows = 0

    def read(self, table: str, **how: Any) -> pl.DataFrame:
        found = self._lake.read(table, **how)
        self.rows += found.height
        return found


@pytest.fixture
def line(featured: Path, tmp_path: Path) -> Line:
    return copied(featured, tmp_path / "home")


def told(line: Line) -> tuple[Mapping[str, Any], int]:
    watched = Watched(line)
    return followed_until(watched, line.ledger, PATIENCE), watched.rows  # type: ignore[arg-type]


def last_bars(line: Line) -> dict[str, Any]:
    return {symbol: row["last_bar"] for symbol, row in line.ledger.states().items()}


def test_where_nobody_is_retired_silence_counts_as_far_as_the_source_went_and_nobodys_history_is_read(
    line: Line,
) -> None:
    last = last_bars(line)
    until, rows = told(line)
    assert until == dict.fromkeys(SYMBOLS, last["SIM01"])
    assert last["SIM03"] < last["SIM01"] - timedelta(days=120)
    assert rows == 1, "the last bar of the one that is silent: was it asked for since it is followed?"


def test_the_only_symbol_of_a_source_says_nothing_beyond_its_last_bar_retired_or_not(line: Line) -> None:
    last = last_bars(line)
    line.ledger.add_symbols([{"symbol": "SIM03", "source": "files", "calendar": "XNYS", "added_at": NOW}])
    for _ in range(2):
        until, rows = told(line)
        assert until == {**dict.fromkeys(SYMBOLS, last["SIM01"]), "SIM03": last["SIM03"]}
        assert rows == 0
        line.ledger.retire(["SIM03"], later(hours=1))

"""The main job on Yahoo data through the command, in processes of its own that find a Yahoo on loopback.

The clock of those processes is the machine's, so the market is simulated up to the newest session that is over.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alpha_assets.quant.calendars import newest_final, sessions_back
from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.quant.schema import ACTIONS, RAW_BARS
from alpha_assets.quant.simulate import simulate
from alpha_assets.settings import Settings
from alpha_assets.stores.lake import Lake
from alpha_assets_tests.yahoo_lookalike import YahooLookalike, offer_control

SYMBOLS = [f"MSYM{number}" for number in range(1, 7)]
YEARS = timedelta(days=3 * 365)
#: Everybody lives from the first day to the last, and splits often, so that undoing them matters.
MARKET = SimulationParameters(seed=7, late_share=0.0, delisted_share=0.0, split_rate=0.4, dividend_share=1.0)


@dataclass
class Desk:
    """A user's shell: the command, a home, and a Yahoo behind the proxy setting."""

    home: Path
    yahoo: YahooLookalike
    started: datetime

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHA_", "DAGSTER_"))}
        alpha = {
            "ALPHA_HOME": str(self.home),
            "ALPHA_SOURCE": "yahoo",
            "ALPHA_HISTORY_START": f"{self.started - YEARS:%Y-%m-%d}",
            "ALPHA_YAHOO_REQUESTS_PER_SECOND": "50",
        }
        return subprocess.run(
            [sys.executable, "-m", "alpha_assets.cli", *arguments],
            env={**clean, **self.yahoo.environment(), **alpha},
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def says(self, *arguments: str) -> Any:
        """What the command answers as JSON."""
        done = self(*arguments, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk before its first command."""
    now = datetime.now(UTC)
    with YahooLookalike(tmp_path / "yahoo", now) as yahoo:
        offer_control(yahoo)
        yield Desk(tmp_path / "home", yahoo, now)


def reason(done: "subprocess.CompletedProcess[str]") -> str:
    """Why a command failed: the one line after those that say what it was about to do."""
    assert done.returncode == 1
    *doing, last = done.stderr.splitlines()
    assert last.startswith("alpha-assets: ")
    assert not [line for line in doing if "step" in line or "reached" in line or "Traceback" in line]
    return last


def assert_names_the_two_other_sources(sentence: str) -> None:
    assert "Yahoo Finance could not be reached" in sentence
    assert "query2.finance.yahoo.com" in sentence
    assert "`ALPHA_SOURCE=files ALPHA_FILES=<file, folder or glob>`" in sentence
    assert "`ALPHA_SOURCE=simulated`" in sentence


@pytest.mark.slow
def test_offline_the_main_job_stops_with_one_sentence_and_leaves_nothing_behind_but_the_wish(desk: Desk) -> None:
    desk.yahoo.refuse()
    done = desk("run", "AAPL", "MSFT")
    assert_names_the_two_other_sources(reason(done))
    assert done.stdout == ""
    status = {row["symbol"]: row for row in desk.says("status")}
    assert {symbol: row["bars"] for symbol, row in status.items()} == {"AAPL": 0, "MSFT": 0}
    assert all("could not be reached" in row["quarantined"] for row in status.values())


@pytest.mark.slow
def test_the_main_job_on_yahoo_data_says_signals_then_what_is_new_then_that_yahoo_is_out_of_reach(desk: Desk) -> None:
    last = newest_final("XNYS", "1d", desk.started, timedelta(minutes=30))
    assert last is not None
    yesterday = sessions_back("XNYS", last, 1)
    market = simulate(MARKET, symbols=SYMBOLS, first=(desk.started - YEARS).date(), last=last.date())

    offer(desk.yahoo, market.bars.filter(pl.col("timestamp") <= yesterday), market.actions)
    done = desk("run", *SYMBOLS)
    assert done.returncode == 0, done.stderr
    assert all(symbol in done.stdout for symbol in SYMBOLS)
    assert "0 restated" in done.stderr
    signals = desk.says("signals")
    assert [row["symbol"] for row in signals] == SYMBOLS
    assert {row["signal"] for row in signals} <= {"BUY", "HOLD", "SELL"}
    assert {row["bar_time"] for row in signals} == {yesterday.isoformat()}
    assert_holds(desk, market.bars.filter(pl.col("timestamp") <= yesterday), market.actions)

    offer(desk.yahoo, market.bars, market.actions)
    figures = desk.says("refresh")
    assert {name: figures[name] for name in ("symbols", "new", "restated", "quarantined", "dropped")} == {
        "symbols": 6,
        "new": 6,
        "restated": 0,
        "quarantined": 0,
        "dropped": 0,
    }
    assert {row["bar_time"] for row in desk.says("signals")} == {last.isoformat()}
    assert_holds(desk, market.bars, market.actions)

    desk.yahoo.refuse()
    for command in (["refresh"], ["run", *SYMBOLS]):
        assert_names_the_two_other_sources(reason(desk(*command)))
    assert {row["bar_time"] for row in desk.says("signals")} == {last.isoformat()}
    assert_holds(desk, market.bars, market.actions)
    assert all("could not be reached" in row["quarantined"] for row in desk.says("status"))

    desk.yahoo.accept()
    assert desk.says("refresh")["new"] == 0
    assert {row["quarantined"] for row in desk.says("status")} == {None}


def offer(yahoo: YahooLookalike, bars: pl.DataFrame, actions: pl.DataFrame) -> None:
    for (symbol,), part in bars.partition_by("symbol", as_dict=True).items():
        yahoo.offer(str(symbol), part, actions.filter(pl.col("symbol") == symbol))


def assert_holds(desk: Desk, bars: pl.DataFrame, actions: pl.DataFrame) -> None:
    """The lake has these bars as they were traded, each once, and the actions of their time."""
    lake = Lake(Settings(home=desk.home))
    held = lake.read("bars", columns=list(RAW_BARS))
    assert_frame_equal(held.drop("volume"), bars.drop("volume"), rel_tol=1e-9)
    assert_frame_equal(held.select("volume"), bars.select("volume"), rel_tol=1e-3, abs_tol=20.0)
    known = actions.filter(pl.col("ex_date") <= desk.started.date()).sort("symbol", "ex_date", "kind")
    assert_frame_equal(lake.read("actions", columns=list(ACTIONS)), known, rel_tol=1e-9)

"""Past signals made again from the command: of a home that the commands have worked in, and of one that was altered."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from alpha_assets.commands.replay import FIELDS
from alpha_assets.settings import load
from alpha_assets.stores.lake import Lake
from alpha_assets_tests.commands.call import Answer, call, home

pytestmark = pytest.mark.xdist_group("commands")

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]


@pytest.fixture
def symbol(worked: Worked) -> str:
    return next(row["symbol"] for row in worked[1]["train"].json if row["decision"] == "promoted")


def test_every_signal_that_the_commands_have_said_comes_out_the_same(worked: Worked, symbol: str) -> None:
    with home(worked[0]):
        told = call("replay", "--format", "json").json
        said = Lake(load()).read("signals")
        shown = call("replay", symbol, "--since", "2000-01-01")
        early, late = call("replay", "--until", "2000-01-01"), call("replay", symbol, "--since", "2050-01-01")
    assert said.filter(symbol=symbol)["model_version"].is_not_null().any()
    runs = said["created_at"].n_unique()
    assert told == {"signals": said.height, "runs": runs, "same": said.height, "different": 0, "untold": 0, "rows": []}
    assert (shown.code, shown.out.count("\n")) == (0, 1)
    own = said.filter(symbol=symbol).height
    assert shown.out.endswith(f"made again from what was known then: {own} came out the same, 0 different.\n")
    for none, bars in ((early, said["bar_time"]), (late, said.filter(symbol=symbol)["bar_time"])):
        days = f"from {bars.min():%Y-%m-%d} to {bars.max():%Y-%m-%d}"
        assert (none.code, none.out) == (0, f"no signal was said of these bars: those there are, are of bars {days}\n")


def test_where_nothing_was_ever_said_the_next_step_is_named(worked: Worked, tmp_path: Path) -> None:
    shutil.copytree(worked[0], tmp_path / "home")
    with home(tmp_path / "home"):
        lake = Lake(load())
        said = lake.read("signals")
        lake.replace("signals", said[:0], sorted(said["symbol"].unique()))
        none = call("replay", "--since", "2000-01-01")
    assert (none.code, none.out) == (0, "no signal was said of these bars yet: alpha-assets refresh\n")


def test_one_that_was_altered_is_told_and_ends_the_command_with_1(worked: Worked, symbol: str, tmp_path: Path) -> None:
    shutil.copytree(worked[0], tmp_path / "home")
    with home(tmp_path / "home"):
        lake = Lake(load())
        said = lake.read("signals", symbols=[symbol])
        lake.replace("signals", said.with_columns(pl.col("price") * 2), [symbol])
        table, plain = call("replay", symbol, "--format", "csv"), call("replay", symbol)
    assert (table.code, plain.code) == (1, 1)
    head, *rows = table.out.splitlines()
    assert head == ",".join(FIELDS)
    different = [row for row in rows if ",different,price," in row]
    assert different, "the newest, at least: of one said before a training that was made anew nothing can be told"
    assert [row for row in rows if not (row.startswith(f"{symbol},") and ",price," in row)] == []
    assert f"0 came out the same, {len(different)} different" in plain.out


def test_who_is_not_followed_and_days_that_lie_the_other_way_round_are_refused(worked: Worked) -> None:
    with home(worked[0]):
        unknown, turned = call("replay", "NOSUCH"), call("replay", "--since", "2020-01-02", "--until", "2020-01-01")
    assert (unknown.code, turned.code) == (1, 1)
    assert "NOSUCH" in unknown.err
    assert "--since 2020-01-02 is after --until 2020-01-01" in turned.err

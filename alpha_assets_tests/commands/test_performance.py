"""Performance from the command: what the assets booked, once bars have come after the signals; the log of trainings."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from alpha_assets.commands.performance import TRAINING_FIELDS
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.quant.performance import CELL, FIGURES
from alpha_assets.quant.reliability import FIGURES as RELIABILITY
from alpha_assets_tests.commands.call import Answer, call, home

pytestmark = pytest.mark.xdist_group("commands")

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]


@pytest.fixture(scope="module")
def settled(worked: Worked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home whose signals are stated however unsure, in which the market went on and was refreshed."""
    folder = tmp_path_factory.mktemp("settled") / "home"
    shutil.copytree(worked[0], folder)
    with home(folder, SIGNAL__LEAST_CONFIDENCE="0.01"):
        assert call("signals", "--refresh").code == 0
        call("advance", "--sessions", "3")
        assert call("refresh").code == 0
    return folder


def test_each_strategy_is_told_over_all_symbols_by_regime_and_window(settled: Path) -> None:
    with home(settled):
        rows = call("performance", "--format", "json").json
        table = call("performance", "--format", "csv").csv
        shown = call("performance")
    fields = (*CELL, "window", *FIGURES, "as_of")
    assert [tuple(rows[0]), tuple(table[0])] == [fields] * 2
    assert {row["symbol"] for row in rows} == {"*"}
    assert {row["window"] for row in rows} == {"30", "90", "365", "all"}
    (whole,) = [row for row in rows if (row["strategy"], row["regime"], row["window"]) == ("blend", "*", "all")]
    assert whole["closed"] >= 1
    counts = {name for name, figure in whole.items() if isinstance(figure, int)}
    assert counts == {"signals", "closed", "open", "void", "wins", "stated"}
    counted = next(line for line in shown.out.splitlines() if "│ blend " in line and "│ * " in line)
    assert f"│ {whole['signals']:,} │" in " ".join(counted.split())
    assert whole["total_pnl"] == pytest.approx(whole["mean_pnl"] * whole["closed"])
    assert DISCLAIMER in shown.out
    assert "Window: all; --window takes 30, 90, 365, all (days)" in shown.out


def test_strategy_window_and_symbols_choose_cells(settled: Path, worked: Worked) -> None:
    symbol = next(row["symbol"] for row in worked[1]["train"].json if row["decision"] == "promoted")
    with home(settled):
        chosen = call("performance", "--strategy", "blend", "--window", "all", "--symbols", symbol, "--format", "json")
        strange = call("performance", "--strategy", "nobody")
        never = call("performance", "--window", "7")
        unknown = call("performance", "--symbols", "NOSUCH")
    assert {(row["strategy"], row["window"], row["symbol"]) for row in chosen.json} == {("blend", "all", symbol)}
    assert (strange.code, never.code, unknown.code) == (1, 1, 1)
    assert "blend" in strange.err
    assert "30, 90, 365, all" in never.err
    assert "NOSUCH" in unknown.err


def test_a_blend_that_nothing_was_settled_of_is_said_to_have_opened_nothing(settled: Path, tmp_path: Path) -> None:
    shutil.copytree(settled, tmp_path / "home")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM performance WHERE strategy = 'blend'")
    with home(tmp_path / "home"):
        told = call("performance", "--strategy", "blend")
    assert told.code == 1
    assert "blend has opened no position that is settled; " in told.err
    assert "view:model" in told.err


def test_how_confidences_held_is_told_apart_for_what_was_said_live_and_for_the_track_record(settled: Path) -> None:
    with home(settled):
        rows = call("performance", "--calibration", "--format", "json").json
        one = call("performance", "--calibration", "--strategy", "blend", "--format", "json").json
        table = call("performance", "--calibration")
        both = call("performance", "--calibration", "--trainings")
        strange = call("performance", "--calibration", "--strategy", "nobody")
        usual = call("performance", "--format", "json").json
    assert tuple(rows[0]) == ("strategy", "source", *RELIABILITY, "sentence", "curve")
    told = {(row["strategy"], row["source"]): row for row in rows}
    assert {("blend", "out of fold"), ("view:model", "out of fold"), ("view:model", "live")} <= set(told)
    record = told["view:model", "out of fold"]
    assert record["outcomes"] > 1_000
    assert [type(record[name]) for name in ("outcomes", "dates", "calibrated")] == [int, int, bool]
    assert len(record["curve"]) == 10
    live = told["view:model", "live"]
    assert live["sentence"].startswith("too few to judge")
    assert (live["slope"], live["ece"], live["curve"]) == (None, None, [])
    assert {row["strategy"] for row in one} == {"blend"}
    assert "too few to judge" in table.out.replace("\n", " ")
    assert (both.code, strange.code) == (2, 1)
    assert {row["window"] for row in usual} == {"30", "90", "365", "all"}, "the track record is no window"


def test_the_log_of_trainings_has_time_rows_accuracy_and_status(settled: Path, worked: Worked) -> None:
    with home(settled):
        rows = call("performance", "--trainings", "--format", "json").json
    assert tuple(rows[0]) == TRAINING_FIELDS
    trained = {(row["symbol"], row["regime"]) for row in worked[1]["train"].json if row["training"] == "trained"}
    told = [row for row in rows if row["version"] is not None]
    assert {(row["symbol"], row["regime"]) for row in told if row["symbol"] != "*"} == trained
    assert len({(row["model"], row["version"]) for row in told}) == len(told), "a pooled model is one training"
    assert all(0.3 < row["accuracy"] < 0.8 and row["seconds"] > 0 and row["rows"] > 100 for row in told)
    assert {type(row["rows"]) for row in told} == {int}
    assert {row["status"] for row in told} <= {"production", "failed", "staging", "canary", "archived"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--calibration", "--symbols", "SIM01"), "--calibration goes without --symbols"),
        (("--calibration", "--window", "30"), "--calibration goes without --window"),
        (("--trainings", "--strategy", "blend"), "--trainings goes without --strategy"),
        (("--trainings", "--window", "all"), "--trainings goes without --window"),
        (("--trainings", "--symbols", "NOPE"), "NOPE: not in the universe"),
    ],
)
def test_a_choice_that_a_table_knows_nothing_of_is_refused(
    settled: Path, options: Sequence[str], sentence: str
) -> None:
    with home(settled):
        said = call("performance", *options)
    assert (said.code, said.out) == (1, "")
    assert sentence in said.err

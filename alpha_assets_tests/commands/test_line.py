"""The line from the command: refresh, train, the main job, one session more."""

import csv
import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.commands import line as line_module
from alpha_assets.commands.home import DAGSTER_DATABASES, _refuse_damaged
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.commands.call import Answer, call, home

pytestmark = pytest.mark.xdist_group("commands")

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]

#: A writer whose pages spill into the file before the kill: the journal that it leaves has to be rolled back.
KILLED_WITHIN_A_WRITE = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("pragma cache_size = 2")
database.execute("create table before (a)")
database.execute("begin immediate")
for _ in range(400):
    database.execute("insert into before values (?)", ("x" * 900,))
os.kill(os.getpid(), signal.SIGKILL)
"""

FOUR = ("SIM01", "SIM02", "SIM03", "SIM04")

#: Fields that programs may rely on.
REFRESH = {
    "symbols",
    "rows_read",
    "kept",
    "repaired",
    "dropped",
    "flagged",
    "new",
    "restated",
    "quarantined",
    "seconds",
}


class TestTheFlowOfAFirstDay:
    def test_a_refresh_answers_one_object_in_which_every_row_is_accounted_for(self, worked: Worked) -> None:
        figures = worked[1]["refresh"].json
        assert set(figures) >= REFRESH
        assert figures["symbols"] == 4
        assert figures["rows_read"] == figures["kept"] + figures["repaired"] + figures["dropped"]
        assert figures["new"] == figures["kept"] + figures["repaired"] > 5000

    def test_a_training_answers_a_row_a_symbol_and_regime(self, worked: Worked) -> None:
        rows = worked[1]["train"].json
        assert [(row["symbol"], row["regime"]) for row in rows] == [(name, other) for name in FOUR for other in REGIMES]
        assert {row["training"] for row in rows if row["regime"] == "all"} == {"trained"}
        assert {row["decision"] for row in rows if row["regime"] == "all"} == {"promoted", "rejected"}
        assert {row["training"] for row in rows} == {"trained", "pooled", "refused"}
        assert {row["decision"] for row in rows if row["training"] == "refused"} == {"no_candidate"}
        assert all(row["version"] == (None if row["training"] == "refused" else "1") for row in rows)
        assert all(row["reason"] for row in rows)

    def test_signals_come_from_the_promoted_and_are_hold_with_the_reason_for_the_others(self, worked: Worked) -> None:
        served = {row["symbol"] for row in worked[1]["train"].json if row["decision"] == "promoted"}
        for row in worked[1]["signals"].json:
            assert (row["model_version"] is not None) == (row["symbol"] in served)
            assert row["fresh"] is True
            assert row["reason"]

    def test_decisions_tell_what_was_promoted_and_why(self, worked: Worked) -> None:
        def cell(row: dict[str, str]) -> tuple[str, str]:
            return row["symbol"], row["regime"]

        verdicts = {cell(row): (row["verdict"], row["reason"]) for row in worked[1]["promotions"].json}
        verbs = {"promoted": "promote", "rejected": "reject"}
        decided = [row for row in worked[1]["train"].json if row["decision"] in verbs]
        assert verdicts == {cell(row): (verbs[row["decision"]], row["reason"]) for row in decided}

    def test_what_is_being_done_is_said_on_stderr_and_stdout_is_the_answer(self, worked: Worked) -> None:
        for answer in worked[1].values():
            assert "Traceback" not in answer.err
        assert worked[1]["refresh"].err.startswith("refresh: bars, features, profiles, signals\n")
        assert "rows read" in worked[1]["refresh"].err
        json.loads(worked[1]["refresh"].out)


class TestTheSameAgain:
    def test_adds_nothing_and_says_so(self, worked: Worked) -> None:
        assert worked[2]["add"].out.startswith("0 symbols followed from now on")
        assert "4 followed already" in worked[2]["add"].out

    def test_fetches_no_bar_twice_and_trains_nothing(self, worked: Worked) -> None:
        figures = worked[2]["refresh"].json
        assert (figures["new"], figures["restated"]) == (0, 0)
        rows = worked[2]["train"].json
        assert {row["training"] for row in rows} == {"unchanged"}
        assert {row["decision"] for row in rows} == {"unchanged", "no_candidate"}
        assert "20 unchanged" in worked[2]["train"].err

    def test_leaves_decisions_and_versions_as_they_are(self, worked: Worked) -> None:
        assert worked[2]["promotions"].json == worked[1]["promotions"].json
        stable = ("symbol", "signal", "confidence", "bar_time", "model_version", "reason")
        assert [[row[name] for name in stable] for row in worked[2]["signals"].json] == [
            [row[name] for name in stable] for row in worked[1]["signals"].json
        ]


class TestOfSomeRegimes:
    def test_only_their_cells_are_worked_on_and_told(self, worked: Worked) -> None:
        with home(worked[0]):
            rows = call(
                "train", "--symbols", "SIM01,SIM03", "--regime", "volatile", "--regime", "all", "--format", "json"
            )
        assert [(row["symbol"], row["regime"]) for row in rows.json] == [
            (symbol, regime) for symbol in ("SIM01", "SIM03") for regime in ("all", "volatile")
        ]
        assert {row["training"] for row in rows.json} == {"unchanged"}


class TestOneSessionMore:
    def test_is_fetched_by_the_next_refresh_of_whom_it_concerns(self, worked: Worked) -> None:
        with home(worked[0]):
            before = {row["symbol"]: row for row in call("status", "--format", "json").json}
            assert call("advance").out == "the simulated market has traded until 2024-01-02\n"
            figures = call("refresh", "--symbols", "SIM01,SIM03", "--format", "json").json
            after = {row["symbol"]: row for row in call("status", "--format", "json").json}
        assert (figures["symbols"], figures["new"]) == (2, 1)
        moved = [symbol for symbol in after if after[symbol]["bars"] != before[symbol]["bars"]]
        assert moved == ["SIM01"], "the third is delisted, and nobody asked for the others"
        assert after["SIM01"]["last_bar"] == after["SIM01"]["features_until"] == "2024-01-02T00:00:00+00:00"

    def test_of_a_market_that_nobody_follows_is_refused(self, tmp_path: Path) -> None:
        with home(tmp_path / "home"):
            said = call("advance")
        assert (said.code, said.out) == (1, "")
        assert "follows no simulated symbol, so there is no market to move on" in said.err
        assert not (tmp_path / "home").exists()

    def test_going_back_in_time_is_refused(self, tmp_path: Path) -> None:
        with home(tmp_path / "home"):
            call("universe", "add", "SIM01")
            said = call("advance", "--sessions", "0")
        assert (said.code, said.out) == (1, "")
        assert "1 session or more" in said.err


class TestWhatCannotBeDone:
    @pytest.mark.parametrize("verb", ["refresh", "train"])
    def test_on_an_empty_universe_is_said_with_what_to_do(self, tmp_path: Path, verb: str) -> None:
        with home(tmp_path / "home"):
            said = call(verb)
        assert (said.code, said.out) == (1, "")
        assert said.err.endswith("the universe is empty: alpha-assets universe add SYMBOL\n")

    @pytest.mark.parametrize("verb", ["refresh", "train"])
    def test_for_a_symbol_that_nobody_follows_is_refused_by_name(self, worked: Worked, verb: str) -> None:
        with home(worked[0]):
            said = call(verb, "--symbols", "SIM01,NOPE")
        assert (said.code, said.out) == (1, "")
        assert "NOPE: not in the universe; alpha-assets universe add NOPE" in said.err

    def test_in_another_interval_is_refused_by_name(self, worked: Worked) -> None:
        with home(worked[0], INTERVAL="1h"):
            for verb in (["refresh"], ["train"], ["signals"], ["status"], ["promotions"], ["universe", "list"]):
                said = call(*verb)
                assert (said.code, said.out) == (1, "")
                assert "ALPHA_INTERVAL=1h" in said.err
                assert "holds 1d bars" in said.err

    def test_in_a_regime_that_there_is_not_is_refused_with_those_there_are(self, worked: Worked) -> None:
        with home(worked[0]):
            said = call("train", "--regime", "calm")
        assert (said.code, said.out) == (2, "")
        assert "'calm'" in said.err
        assert all(regime in said.err for regime in REGIMES)

    def test_in_a_home_that_cannot_be_made_is_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with home(tmp_path / "file" / "home"):
            said = call("universe", "add", "AAPL")
        assert said.code == 1
        assert said.err.startswith(f"alpha-assets: ALPHA_HOME='{tmp_path}/file/home' must be a folder")

    def test_in_a_home_that_the_system_does_not_let_us_make_is_refused_by_name(self) -> None:
        with home(Path("/proc/nowhere"), SOURCE="yahoo"):
            said = call("universe", "add", "AAPL")
        assert said.code == 1
        assert said.err.startswith("alpha-assets: ALPHA_HOME=/proc/nowhere cannot be used")

    @pytest.mark.parametrize("verb", ["refresh", "train"])
    @pytest.mark.parametrize("file", DAGSTER_DATABASES)
    def test_beside_a_damaged_database_of_dagsters_is_one_sentence_that_names_it(
        self, tmp_path: Path, verb: str, file: str
    ) -> None:
        damaged = tmp_path / "home" / "dagster" / file
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"\xff" * 5000)
        with home(tmp_path / "home"):
            said = call(verb)
        assert (said.code, said.out) == (1, "")
        (last,) = said.err.splitlines()[1:]
        assert last.startswith(f"alpha-assets: Dagster's database {damaged} is damaged (file is not a database)")
        assert f"move the folder {tmp_path}/home/dagster away" in last

    def test_what_a_kill_left_of_a_write_is_rolled_back_and_no_damage(self, tmp_path: Path) -> None:
        file = tmp_path / DAGSTER_DATABASES[0]
        file.parent.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", KILLED_WITHIN_A_WRITE, str(file)], check=False)
        assert file.with_name("runs.db-journal").exists()
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database, pytest.raises(sqlite3.Error):
            database.execute("SELECT count(*) FROM sqlite_master")
        _refuse_damaged(tmp_path)
        assert not file.with_name("runs.db-journal").exists()

    @pytest.mark.parametrize(
        ("files", "sentence"),
        [("", "the source files needs ALPHA_FILES"), ("/nowhere/*.csv", "ALPHA_FILES=/nowhere/*.csv: no Parquet")],
    )
    def test_without_the_files_that_are_the_source_is_one_sentence_that_names_the_setting(
        self, tmp_path: Path, files: str, sentence: str
    ) -> None:
        (tmp_path / "AAA.csv").write_text("date,open,high,low,close,volume\n2024-01-02,1,1,1,1,1\n")
        with home(tmp_path / "home", SOURCE="files", FILES=str(tmp_path)):
            call("universe", "add", "AAA")
        with home(tmp_path / "home", SOURCE="files", FILES=files):
            for verb in (["refresh"], ["run"], ["universe", "add", "BBB"], ["universe", "add", "--all"]):
                said = call(*verb)
                assert (said.code, said.out) == (1, "")
                assert said.err.splitlines()[-1].startswith(f"alpha-assets: {sentence}")
            examined = {row["what"]: row for row in csv.DictReader(io.StringIO(call("doctor", "--format", "csv").out))}
            assert examined["source"]["found"].startswith(sentence)
            assert call("status").code == 0

    def test_for_one_symbol_that_its_source_does_not_know_is_one_sentence(self, tmp_path: Path) -> None:
        with home(tmp_path / "home"):
            said = call("run", "NOPE")
        assert said.code == 1
        assert "Traceback" not in said.err
        assert "NOPE" in said.err.splitlines()[-1]
        assert said.err.splitlines()[-1].startswith("alpha-assets: ")

    @pytest.mark.parametrize("verb", ["refresh", "train"])
    def test_symbols_of_files_without_their_files_are_refused_and_nobody_is_quarantined(
        self, tmp_path: Path, verb: str
    ) -> None:
        row = {"symbol": "AAA", "source": "files", "calendar": "XNYS", "added_at": datetime(2024, 1, 2, tzinfo=UTC)}
        with home(tmp_path / "home") as folder:
            ledger = Ledger(Settings(home=folder))
            ledger.add_symbols([row])
            said = call(verb)
        assert said.code == 1
        assert said.err.splitlines()[-1].startswith(
            "alpha-assets: the source files needs ALPHA_FILES: the file, folder or glob that AAA"
        )
        assert ledger.states() == {}

    def test_the_demonstration_begins_its_home_with_a_horizon_that_stays_with_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        monkeypatch.setattr(line_module, "_main_job", lambda settings, *_: seen.append(settings.learning.horizon))
        with home(tmp_path / "home"):
            call("demo")
            kept = call("settings", "--format", "json").json
            (tmp_path / "home" / ".env").write_text("ALPHA_LEARNING__HORIZON=3\n")
            call("demo")
        assert seen == [5, 3]
        assert {row["value"] for row in kept if row["name"] == "ALPHA_LEARNING__HORIZON"} == {5}

    def test_the_demonstration_on_other_than_the_simulated_market_is_refused(self, tmp_path: Path) -> None:
        with home(tmp_path / "home", SOURCE="yahoo"):
            said = call("demo")
        assert said.code == 1
        assert "ALPHA_SOURCE=simulated" in said.err

    def test_yahoo_out_of_reach_is_one_sentence_that_names_the_two_other_sources(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Nobody listens there: no network, whatever machine the test runs on.
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        with home(tmp_path / "home", SOURCE="yahoo", YAHOO_BACKOFF_SECONDS="0.01"):
            said = call("run", "AAPL")
        assert (said.code, said.out) == (1, "")
        last = said.err.splitlines()[-1]
        assert last.startswith("alpha-assets: Yahoo Finance could not be reached")
        assert "ALPHA_SOURCE=files ALPHA_FILES=" in last
        assert "ALPHA_SOURCE=simulated" in last
        assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("training", "candidate", "decision", "model", "words"),
    [
        ("trained", "SIM01.all", "promoted", "all.pooled", "promoted: pooled (own fit trained)"),
        ("trained", "SIM01.all", "rejected", "all.pooled", "rejected: pooled (own fit trained)"),
        ("unchanged", "SIM01.all", "canary", "SIM01.all", "canary: own fit (unchanged)"),
        ("pooled", "all.pooled", "promoted", "all.pooled", "promoted: pooled"),
        ("unchanged", "all.pooled", "rejected", "all.pooled", "rejected: pooled"),
        ("refused", None, "promoted", "all.pooled", "promoted: pooled"),
        ("trained", "SIM01.all", "unchanged", None, "unchanged (trained)"),
        ("unchanged", "SIM01.all", "unchanged", None, "unchanged"),
        ("refused", None, "no_candidate", None, "refused"),
    ],
)
def test_the_main_jobs_table_says_which_model_was_decided_on_and_tells_of_no_own_fit_where_there_is_none(
    training: str, candidate: str | None, decision: str, model: str | None, words: str
) -> None:
    said = {"state": decision, "model": model, "run": {}}
    row = line_module._outcome("all|SIM01", {"state": training}, said, candidate)
    assert line_module._in_words(row) == words


class Said:
    """A line whose training run has said this of its one cell."""

    def __init__(self, settings: Settings, training: str, promoted: dict[str, Any]) -> None:
        self.settings = settings
        self._said = {"candidate_model": {"all|SIM01": {"state": training}}, "promoted_model": {"all|SIM01": promoted}}

    def register(self, members: Any) -> None:
        """Nobody is followed."""

    def launch(self, *what: Any) -> dict[str, Any]:  # noqa: ARG002
        """What the run has said."""
        return self._said


def test_whose_the_candidate_of_a_cell_is_the_ledger_tells_whatever_the_training_says(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    candidate = {"symbol": "SIM01", "regime": "all", "state": "pooled", "reason": "", "model_name": "all.pooled"}
    Ledger(settings).note_candidates([{**candidate, "trained_at": datetime(2024, 3, 1, tzinfo=UTC)}])
    line: Any = Said(settings, "unchanged", {"state": "rejected", "model": "all.pooled", "run": {}})
    (row,) = line_module._train(line, ["SIM01"], None)
    assert line_module._in_words(row) == "rejected: pooled"


@pytest.mark.slow
def test_the_main_job_runs_on_a_file_of_real_bars_without_naming_a_symbol(shared_data: Path, tmp_path: Path) -> None:
    symbols = ["AAPL", "AMD", "BAC", "GE", "IBM", "JPM", "MSFT", "XOM"]
    bars = pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet").filter(pl.col("symbol").is_in(symbols))
    bars.write_parquet(tmp_path / "bars.parquet")
    with home(tmp_path / "home", SOURCE="files", FILES=str(tmp_path / "bars.parquet")):
        said = call("run")
        again = call("run")
        status = call("status", "--format", "json").json
        rows = call("signals", "--format", "json").json
    assert said.code == 0, said.err
    assert f"{bars.height:,} rows read" in said.err
    assert [row["symbol"] for row in status] == symbols
    assert [row["symbol"] for row in rows] == symbols
    assert {row["last_bar"] for row in status} == {"2018-02-07T00:00:00+00:00"}
    assert {row["models"] for row in status} == {len(REGIMES)}
    assert "The gate, over all symbols together:" in said.out
    assert "not financial advice" in said.out
    assert again.code == 0
    assert "Nothing was new" in again.out
    assert "│ unchanged" in again.out
    assert "(unchanged)" not in again.out


@pytest.mark.slow
def test_who_stops_a_training_reads_one_sentence_and_goes_on_by_running_it_again(
    worked: Worked, tmp_path: Path
) -> None:
    shutil.copytree(worked[0], tmp_path / "home", symlinks=True)
    with home(tmp_path / "home", LEARNING__SEED="7"):
        command = [sys.executable, "-m", "alpha_assets.cli", "train"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            heard = next(line for line in process.stderr if "pooled models trained" in line)
            process.send_signal(signal.SIGINT)
            told = process.stderr.read()
        assert process.returncode == 130, told
        assert told.splitlines()[-1] == "alpha-assets: stopped; what was stored is whole, run it again to go on", heard
        assert "Traceback" not in told
        assert call("train").code == 0

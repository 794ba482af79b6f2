"""Models from the command: their versions, the decisions, why one serves, what a person decides, the clean-up."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alpha_assets.commands.decide import person
from alpha_assets.commands.models import MODEL_FIELDS, PROMOTION_FIELDS
from alpha_assets.settings import Settings
from alpha_assets.stations.decisions import row_of
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets_tests.commands.call import Answer, call, home

pytestmark = pytest.mark.xdist_group("commands")

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]


@pytest.fixture(scope="module")
def decided(worked: Worked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home in which persons may decide; its model files are those of the original."""
    folder = tmp_path_factory.mktemp("decided") / "home"
    shutil.copytree(worked[0], folder)
    return folder


def decided_as(worked: Worked, decision: str, regime: str = "all") -> str:
    rows = worked[1]["train"].json
    return str(next(row["symbol"] for row in rows if (row["regime"], row["decision"]) == (regime, decision)))


def promoted(worked: Worked) -> str:
    return decided_as(worked, "promoted")


def rejected(worked: Worked) -> str:
    return decided_as(worked, "rejected")


class TestReading:
    def test_models_are_a_row_a_version_with_its_state_and_one_a_regime_that_has_none_with_the_reason(
        self, worked: Worked
    ) -> None:
        with home(worked[0]):
            rows = call("models", "--format", "json").json
            table = call("models", "--format", "csv").csv
            one = call("models", "SIM02", "--format", "json").json
        assert [tuple(row) for row in (rows[0], table[0])] == [MODEL_FIELDS] * 2
        told = {"promoted": "production", "rejected": "failed", "no_candidate": None}
        assert [(row["symbol"], row["regime"], row["training"], row["state"]) for row in rows] == [
            (row["symbol"], row["regime"], row["training"], told[row["decision"]]) for row in worked[1]["train"].json
        ]
        refused = [row for row in rows if row["training"] == "refused"]
        assert {(row["regime"], row["version"]) for row in refused} == {("trending", None)}
        assert all("labelled rows" in row["reason"] for row in refused)
        assert one == [row for row in rows if row["symbol"] == "SIM02"]

    def test_promotions_are_the_whole_history(self, worked: Worked) -> None:
        with home(worked[0]):
            rows = call("promotions", "--format", "json").json
            one = call("promotions", "SIM02", "--format", "csv").csv
            said = call("promotions").out
        assert tuple(rows[0]) == PROMOTION_FIELDS
        assert {row["who"] for row in rows} == {"gate"}
        assert {row["symbol"] for row in one} == {"SIM02"}
        assert len(one) == len([row for row in rows if row["symbol"] == "SIM02"])
        assert "promote" in said
        assert "SIM01" in said

    def test_a_version_leads_back_to_the_dagster_run_that_trained_it(self, worked: Worked) -> None:
        settings, symbol = Settings(home=worked[0]), promoted(worked)
        client = Registry(settings).client
        tags = client.get_run(client.get_model_version(f"{symbol}.all", "1").run_id).data.tags
        decided_by = Ledger(settings).decisions(symbol)[0]["dagster_run"]
        assert (tags["asset"], tags["dagster_run_id"]) == ("candidate_model", decided_by)

    def test_explain_tells_the_decision_and_the_gates_table(self, worked: Worked) -> None:
        symbol = promoted(worked)
        with home(worked[0]):
            told = call("models", "explain", symbol, "all", "--format", "json").json
            lines = call("models", "explain", symbol, "all", "--format", "csv").csv
            said = call("models", "explain", symbol, "all").out
        assert (told["who"], told["verdict"], told["judged_by"]) == ("gate", "promote", "gate")
        assert [line["line"] for line in lines] == [line["line"] for line in told["lines"]]
        assert {"skill", "symbol"} <= {line["line"] for line in lines}
        skill = next(line for line in told["lines"] if line["line"] == "skill")
        assert skill["bound"] > skill["threshold"]
        assert told["window"]["rows"] > 1000
        assert [row["verdict"] for row in told["history"]] == ["promote"]
        assert f"{symbol} all: {symbol}.all version 1 is in production since" in said
        assert "Out-of-fold predictions from" in said

    def test_picture_draws_the_version_in_production_or_the_one_that_is_named(
        self, worked: Worked, tmp_path: Path
    ) -> None:
        symbol = promoted(worked)
        file = tmp_path / "drawn.png"
        with home(worked[0]):
            said = call("models", "picture", symbol, "all", "--to", str(file)).out
            absent = call("models", "picture", symbol, "all", "--version", "9", "--to", str(file))
            beyond = call("models", "picture", symbol, "all", "--to", str(tmp_path / "no" / "folder.png"))
        assert said.strip() == str(file)
        assert file.read_bytes().startswith(b"\x89PNG")
        assert f"{symbol}.all version 9 has no report in MLflow" in absent.err
        assert "folder.png cannot be written: No such file or directory" in beyond.err

    def test_the_ml_profile_tells_the_models_of_each_regime(self, worked: Worked) -> None:
        symbol = promoted(worked)
        with home(worked[0]):
            told = call("profile", symbol, "--kind", "ml", "--format", "json").json["ml"]["document"]["all"]
            rows = call("profile", symbol, "--kind", "ml", "--format", "csv").csv
            other = call("profile", rejected(worked), "--kind", "ml", "--format", "json").json["ml"]["document"]["all"]
        assert (told["status"], told["versions"], told["training"]["state"]) == ("production", 1, "trained")
        assert told["production"]["model_version"] == "1"
        assert 0 <= told["production"]["age_days"] < 1
        assert told["production"]["metrics"]
        assert told["production"]["parameters"]["features_set"] == told["training"]["features_set"]
        assert told["last_decision"]["verdict"] == "promote"
        assert ("production" in other, other["status"]) == (False, "failed")
        assert "metrics" not in told["training"], "it is the version in production, where they stand"
        assert other["training"]["parameters"]["heads"]
        assert other["training"]["metrics"]["oof_ts_ic"] == pytest.approx(0, abs=0.2)
        assert {"all.status", "all.production.age_days"} <= {row["field"] for row in rows}

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["models", "NOPE"], "NOPE: not in the universe"),
            (["promotions", "NOPE"], "NOPE: not in the universe"),
            (["models", "explain", "NOPE", "all"], "NOPE: not in the universe"),
            (["models", "explain", "SIM01", "calm"], "calm: no regime is called so; there are all, trending"),
            (["models", "explain", "SIM01", "trending"], "SIM01 trending has no version in production"),
            (["models", "picture", "SIM01", "trending"], "SIM01 trending has no version yet"),
            (["profile", "NOPE", "--kind", "ml"], "NOPE: not in the universe"),
            (["profile", "--kind", "ml"], "alpha-assets profile SYMBOL --kind ml"),
            (["rollback", "SIM01", "trending", "--why", "x"], "SIM01.trending has no version"),
            (["promote", "SIM01", "all", "--why", " "], "--why says nothing"),
        ],
    )
    def test_what_is_not_there_is_refused_by_name(self, worked: Worked, arguments: list[str], sentence: str) -> None:
        with home(worked[0]):
            said = call(*arguments)
        assert (said.code, said.out) == (1, "")
        assert sentence in said.err

    def test_of_an_empty_home_say_what_to_do_and_create_nothing(self, tmp_path: Path) -> None:
        with home(tmp_path / "home"):
            assert call("models").out == "no model was trained yet: alpha-assets train\n"
            assert call("promotions").out == "nothing was decided yet: alpha-assets train\n"
            assert call("models", "clean").out == "no version is registered\n"
        assert not (tmp_path / "home").exists()


class TestAPerson:
    def test_takes_a_version_back_and_brings_it_in_again_recorded_with_who_and_why(
        self, worked: Worked, decided: Path
    ) -> None:
        symbol = promoted(worked)
        with home(decided):
            (back,) = call("rollback", symbol, "all", "--why", "it scares me", "--format", "json").json
            gone = call("models", "explain", symbol, "all")
            (again,) = call(
                "promote", symbol, "all", "--version", "1", "--why", "not any more", "--format", "json"
            ).json
            told = call("models", "explain", symbol, "all", "--format", "json").json
        assert (back["verdict"], back["model_version"], back["previous_version"]) == ("rollback", None, "1")
        assert (back["who"], back["reason"], back["stage"]) == (person(), "it scares me", "none")
        assert "the last decision was rollback: it scares me" in gone.err
        assert (again["seq"], again["stage"]) == (3, "production")
        assert (told["who"], told["reason"], told["judged_by"]) == (person(), "not any more", "gate")
        assert told["lines"]

    def test_is_told_which_model_served_before_where_it_was_another_one(self, worked: Worked, tmp_path: Path) -> None:
        shutil.copytree(worked[0], tmp_path / "home")
        symbol = rejected(worked)
        settings = Settings(home=tmp_path / "home")
        ledger = Ledger(settings)
        last = ledger.decisions(symbol)[-1]
        said: dict[str, Any] = {"verdict": "promote", "stage": "production", "reason": "it passes", "who": "gate"}
        pooled = {**last, "model_name": "all.pooled", "model_version": "7", "training_id": "pooled"}
        row = row_of(pooled, (symbol, "all"), last=last, production=None, evidence={}, now=last["decided_at"], **said)
        ledger.decide([row])
        with home(settings.home):
            call("promote", symbol, "all", "--version", "1", "--why", "its own")
            told = call("models", "explain", symbol, "all", "--format", "json").json
            sentences = call("models", "explain", symbol, "all").out
        assert (told["previous_model"], told["previous_version"]) == ("all.pooled", "7")
        assert "Before it all.pooled version 7 was in production." in sentences
        page = Registry(settings).client.get_model_version(f"{symbol}.all", "1").description
        assert "Before it: all.pooled version 7." in str(page)

    def test_who_promotes_what_the_gate_turned_down_is_told_so_and_it_is_on_record(
        self, worked: Worked, decided: Path
    ) -> None:
        symbol = rejected(worked)
        with home(decided):
            said = call("promote", symbol, "all", "--version", "1", "--why", "I know better")
            told = call("models", "explain", symbol, "all").out
        assert "this overrules a reject by gate: " in said.err
        last = Ledger(Settings(home=decided)).decisions(symbol)[-1]
        assert (last["verdict"], last["evidence"]["overrules"]["verdict"]) == ("promote", "reject")
        assert "I know better" in told

    def test_sees_which_model_was_decided_on_and_is_told_where_no_gate_has_judged_it(
        self, worked: Worked, tmp_path: Path
    ) -> None:
        shutil.copytree(worked[0], tmp_path / "home")
        symbol, ledger = rejected(worked), Ledger(Settings(home=tmp_path / "home"))
        last = ledger.decisions(symbol)[-1]
        said: dict[str, Any] = {"verdict": "reject", "stage": "failed", "reason": "too odd", "who": "bob"}
        pooled = {**last, "model_name": "all.pooled", "model_version": "7"}
        row = row_of(pooled, (symbol, "all"), last=last, production=None, evidence={}, now=last["decided_at"], **said)
        ledger.decide([row])
        with home(tmp_path / "home"):
            own = call("promote", symbol, "all", "--version", f"{symbol}.all/1", "--why", "its own")
            other = call("promote", symbol, "all", "--version", "7", "--why", "or so")
            back = call("rollback", symbol, "all", "--why", "not so")
            history = call("promotions", symbol).out
        assert [f"{symbol}.all version 1" in answer.out for answer in (own, other, back)] == [True, False, True]
        assert "all.pooled version 7" in other.out
        assert {"this overrules a reject by bob: too odd", "no gate has judged all.pooled version 7"} <= set(
            other.err.splitlines()
        )
        assert "no gate has judged" not in own.err + back.err
        assert all(name in history for name in (f"{symbol}.all version 1", "all.pooled version 7"))

    def test_has_a_word_dated_when_it_is_recorded_and_not_before_a_clean_up_that_it_waited_for(
        self, worked: Worked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(worked[0], tmp_path / "home")
        symbol, ended = promoted(worked), list[datetime]()

        @contextmanager
        def cleaning(*_: Any, **__: Any) -> Iterator[None]:
            time.sleep(0.05)
            ended.append(datetime.now(UTC))
            yield

        with home(tmp_path / "home"):
            call("rollback", symbol, "all", "--why", "to be sure")
            monkeypatch.setattr(Registry, "alone", cleaning)
            (told,) = call("promote", symbol, "all", "--version", "1", "--why", "again", "--format", "json").json
        last = Ledger(Settings(home=tmp_path / "home")).decisions(symbol)[-1]
        assert last["decided_at"] >= ended[0]
        assert told["decided_at"] == last["decided_at"].isoformat(timespec="seconds")

    def test_is_refused_what_makes_no_sense(self, worked: Worked) -> None:
        with home(worked[0]):
            said = call("reject", rejected(worked), "all", "--why", "twice")
        assert said.code == 1
        assert "version 1 is turned down already" in said.err

    def test_has_to_say_why(self, decided: Path) -> None:
        with home(decided):
            said = call("promote", "SIM01", "all")
        assert said.code == 2
        assert "--why" in said.err


def test_the_clean_up_shows_first_and_keeps_what_has_an_alias(worked: Worked) -> None:
    with home(worked[0]):
        rows = call("models", "clean", "--keep", "1", "--format", "json").json
    assert {row["fate"] for row in rows} == {"keep"}
    assert {row["model"] for row in rows} >= {"SIM01.all"}
    assert all(row["why"] for row in rows)


def test_the_vault_is_read_for_a_reason_and_only_where_there_is_one(tmp_path: Path) -> None:
    with home(tmp_path / "home"):
        mute = call("vault", "--why", " ")
    with home(tmp_path / "home", LEARNING__VAULT_SHARE="0"):
        none = call("vault", "--why", "the release")
    assert (mute.code, none.code) == (1, 1)
    assert "--why says nothing" in mute.err
    assert none.err.startswith("alpha-assets: there is no vault: ALPHA_LEARNING__VAULT_SHARE is 0")

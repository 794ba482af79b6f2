"""Every knob: its default, its variable, its line in .env, and how a wrong one is refused."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from alpha_assets import settings as settings_module
from alpha_assets.cli import main
from alpha_assets.quant.parameters import CALENDAR_NAMES, HEAD_NAMES
from alpha_assets.settings import GROUPS, SECRETS, Settings, WrongSetting, load

#: For every setting a value that is not its default, as text and as it is read.
OTHER: dict[str, tuple[str, Any]] = {
    "home": ("/somewhere/else", Path("/somewhere/else")),
    "source": ("simulated", "simulated"),
    "interval": ("1h", "1h"),
    "history_start": ("2010-05-31", date(2010, 5, 31)),
    "calendars": ('{"VOD.L": "XLON"}', {"VOD.L": "XLON"}),
    "listing_cuts": ('{"FB": ["2012-05-18"]}', {"FB": [date(2012, 5, 18)]}),
    "final_lag_minutes": ("45", 45),
    "overlap_sessions": ("7", 7),
    "files": ("/data/*.csv", "/data/*.csv"),
    "files_timezone": ("Europe/London", "Europe/London"),
    "files_prices": ("adjusted", "adjusted"),
    "yahoo_batch": ("10", 10),
    "yahoo_concurrency": ("2", 2),
    "yahoo_requests_per_second": ("1.5", 1.5),
    "yahoo_attempts": ("2", 2),
    "yahoo_backoff_seconds": ("0.5", 0.5),
    "yahoo_timeout_seconds": ("5", 5.0),
    "yahoo_control_symbol": ("QQQ", "QQQ"),
    "lake_url": ("s3://bucket/lake", "s3://bucket/lake"),
    "lake_options": ('{"AWS_SECRET_ACCESS_KEY": "geheim"}', {"AWS_SECRET_ACCESS_KEY": SecretStr("geheim")}),
    "ledger_url": ("postgresql://me:geheim@host/ledger", SecretStr("postgresql://me:geheim@host/ledger")),
    "ledger_wait_seconds": ("5", 5.0),
    "mlflow_url": ("postgresql://me:geheim@host/mlflow", SecretStr("postgresql://me:geheim@host/mlflow")),
    "dagster_url": ("https://dagster.example", "https://dagster.example"),
    "mlflow_artifacts": ("s3://bucket/mlflow", "s3://bucket/mlflow"),
    "metrics_ttl_hours": ("0.5", 0.5),
    "signal_ttl_hours": ("1.5", 1.5),
    "retrain_after_bars": ("20", 20),
    "retrain_after_days": ("3", 3.0),
    "retrain_round_days": ("1", 1.0),
    "workers": ("3", 3),
    "workers_backend": ("threading", "threading"),
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project root and a current folder of the test's own, and an environment without a word about us."""
    for name in list(settings_module.os.environ):
        if name.upper().startswith("ALPHA_"):
            monkeypatch.delenv(name)
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(settings_module, "project_root", lambda: root)
    monkeypatch.chdir(tmp_path)
    return root


def plain_fields() -> list[str]:
    return [name for name in Settings.model_fields if name not in GROUPS]


def group_fields() -> list[tuple[str, str, Any]]:
    """Every field of every group with its default."""
    return [
        (group, field.name, getattr(Settings.model_fields[group].default, field.name))
        for group in GROUPS
        for field in fields(Settings.model_fields[group].default)
    ]


def near(value: Any) -> Any:
    """A value beside a default, of the same kind and still allowed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.0001 if value else 0.0001
    if isinstance(value, date):
        return date(2019, 1, 2)
    return "SPY" if value is None else value


def text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | tuple) else str(value)


class TestEverySetting:
    def test_is_described(self) -> None:
        assert [name for name, field in Settings.model_fields.items() if not field.description] == []

    def test_has_its_own_example_here(self) -> None:
        assert sorted(OTHER) == sorted(plain_fields())

    def test_has_a_default_that_is_valid(self, root: Path) -> None:
        settings = load()
        assert settings.home == root / ".alpha"
        for name in plain_fields():
            if name != "home":
                assert getattr(settings, name) == Settings.model_fields[name].default

    @pytest.mark.parametrize("name", sorted(OTHER))
    def test_is_read_from_the_environment(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        written, read = OTHER[name]
        monkeypatch.setenv(f"ALPHA_{name.upper()}", written)
        assert getattr(load(), name) == read

    @pytest.mark.parametrize("name", sorted(OTHER))
    def test_is_read_from_the_env_file(self, name: str, root: Path) -> None:
        written, read = OTHER[name]
        (root / ".env").write_text(f"ALPHA_{name.upper()}={written!r}\n")
        assert getattr(load(), name) == read

    @pytest.mark.parametrize("name", sorted(OTHER))
    def test_that_is_empty_is_not_set(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        default = getattr(load(), name)
        monkeypatch.setenv(f"ALPHA_{name.upper()}", "")
        assert getattr(load(), name) == default

    @pytest.mark.parametrize(("group", "field", "default"), group_fields())
    def test_of_a_group_is_read_from_a_variable_of_its_own(
        self, group: str, field: str, default: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"ALPHA_{group}__{field}".upper(), text(near(default)))
        read = getattr(getattr(load(), group), field)
        assert read == near(default)
        assert type(read) is type(near(default))

    def test_of_a_group_leaves_its_neighbours_as_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALPHA_LEARNING__ROUNDS", "7")
        monkeypatch.setenv("ALPHA_CLEANING__SPLIT_RATIOS", "[2, 3]")
        settings = load()
        assert (settings.learning.rounds, settings.learning.folds) == (7, 5)
        assert settings.cleaning.split_ratios == (2.0, 3.0)


class TestWhatWins:
    def test_that_a_home_keeps_counts_where_nobody_says_otherwise(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = "ALPHA_WORKERS=1\nALPHA_LEARNING__HORIZON=5\nALPHA_YAHOO_BATCH=1\n"
        for home in (root / ".alpha", tmp_path / "mine"):
            home.mkdir()
            (home / ".env").write_text(kept)
        (root / ".env").write_text("ALPHA_WORKERS=2\n")
        monkeypatch.setenv("ALPHA_YAHOO_BATCH", "3")
        for name in (None, str(tmp_path / "mine"), "../mine"):
            if name is not None:
                monkeypatch.setenv("ALPHA_HOME", name)
            settings = load()
            assert (settings.workers, settings.learning.horizon, settings.yahoo_batch) == (2, 5, 3)
        monkeypatch.setenv("ALPHA_HOME", str(tmp_path / "another"))
        assert load().learning.horizon == 1

    def test_the_environment_before_the_current_folder_before_the_project_root(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (root / ".env").write_text("ALPHA_WORKERS=1\nALPHA_YAHOO_BATCH=1\nALPHA_OVERLAP_SESSIONS=6\n")
        (tmp_path / ".env").write_text("ALPHA_WORKERS=2\nALPHA_YAHOO_BATCH=2\n")
        monkeypatch.setenv("ALPHA_WORKERS", "3")
        settings = load()
        assert (settings.workers, settings.yahoo_batch, settings.overlap_sessions) == (3, 2, 6)

    def test_what_others_keep_in_the_env_file_is_none_of_our_business(self, root: Path) -> None:
        (root / ".env").write_text("AWS_REGION=eu-west-1\nDAGSTER_HOME=/d\n")
        assert load().source == "yahoo"


class TestPlaces:
    def test_relative_folders_are_those_of_the_project_root_wherever_the_process_started(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HOME", "LAKE_URL", "MLFLOW_ARTIFACTS"):
            monkeypatch.setenv(f"ALPHA_{name}", f"a/{name.lower()}")
        settings = load()
        assert settings.home == root / "a/home"
        assert settings.lake == str(root / "a/lake_url")
        assert settings.mlflow_artifact_root == str(root / "a/mlflow_artifacts")

    def test_everything_is_under_the_home_unless_told_otherwise(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        assert settings.lake == str(tmp_path / "lake")
        assert settings.ledger == f"sqlite:///{tmp_path}/ledger.db"
        assert settings.mlflow == f"sqlite:///{tmp_path}/mlflow.db"
        assert settings.mlflow_artifact_root == str(tmp_path / "mlflow-artifacts")
        assert settings.dagster_home == tmp_path / "dagster"

    def test_a_tilde_is_the_users_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALPHA_HOME", "~/bars")
        assert load().home == Path.home() / "bars"


#: What is wrong, and what the sentence has to say of it.
WRONG = [
    ({"ALPHA_SOURCE": "yaho"}, "ALPHA_SOURCE='yaho' must be 'yahoo', 'files' or 'simulated'"),
    ({"ALPHA_INTERVAL": "2h"}, "ALPHA_INTERVAL='2h' must be '1m', '2m'"),
    ({"ALPHA_HISTORY_START": "yesterday"}, "ALPHA_HISTORY_START='yesterday' must be a date such as 2015-01-31"),
    ({"ALPHA_HISTORY_START": "86400"}, "ALPHA_HISTORY_START='86400' must be a date"),
    ({"ALPHA_WORKERS": "1.5"}, "ALPHA_WORKERS='1.5' must be a whole number"),
    ({"ALPHA_YAHOO_BATCH": "0"}, "ALPHA_YAHOO_BATCH='0' must be greater than or equal to 1"),
    ({"ALPHA_SIGNAL_TTL_HOURS": "inf"}, "ALPHA_SIGNAL_TTL_HOURS='inf' must be less than or equal to 8760"),
    ({"ALPHA_SIGNAL_TTL_HOURS": "nan"}, "ALPHA_SIGNAL_TTL_HOURS='nan' must be"),
    ({"ALPHA_FILES_TIMEZONE": "Mars"}, "ALPHA_FILES_TIMEZONE='Mars' must be a time zone of the IANA database"),
    ({"ALPHA_CALENDARS": "XNYS"}, 'ALPHA_CALENDARS is not JSON, such as {"VOD.L": "XLON"}'),
    (
        {"ALPHA_CALENDARS": '{"VOD.L": "XLOM"}'},
        "ALPHA_CALENDARS={'VOD.L': 'XLOM'} must name calendars of exchange_calen",
    ),
    ({"ALPHA_HISTORY_START": "9999-01-01"}, "ALPHA_HISTORY_START='9999-01-01' must not be after today"),
    ({"ALPHA_HOME": __file__}, f"ALPHA_HOME={__file__!r} must be a folder"),
    ({"ALPHA_HOME": f"{__file__}/home"}, f"ALPHA_HOME='{__file__}/home' must be a folder"),
    ({"ALPHA_HOME": "/a [b]"}, "ALPHA_HOME: the lake cannot be in /a [b]/lake"),
    ({"ALPHA_LAKE_URL": "/a%41"}, "ALPHA_LAKE_URL: the lake cannot be in /a%41"),
    ({"ALPHA_LEARNING__LEARNER": "oracle"}, "ALPHA_LEARNING__LEARNER='oracle': learner must be 'trees' or 'linear'"),
    (
        {"ALPHA_LEARNING__HEADS": '["oracle"]'},
        "ALPHA_LEARNING__HEADS='[\"oracle\"]': heads holds 'oracle': they are among rf_return",
    ),
    ({"ALPHA_CALENDARS": "[]"}, "ALPHA_CALENDARS=[] must be a JSON object"),
    ({"ALPHA_LISTING_CUTS": '{"FB": ["x"]}'}, "ALPHA_LISTING_CUTS__FB__0='x' must be a date"),
    ({"ALPHA_LEDGER_URL": "ledger.db"}, "ALPHA_LEDGER_URL must begin with sqlite:/// or postgresql://"),
    ({"ALPHA_MLFLOW_URL": "mlflow.db"}, "ALPHA_MLFLOW_URL must be a URL"),
    ({"ALPHA_LEARNING__HORIZON": "31"}, "ALPHA_LEARNING__HORIZON='31': horizon is 31: it must be at most 30"),
    (
        {"ALPHA_LEARNING__VAULT_SHARE": "0.6"},
        "ALPHA_LEARNING__VAULT_SHARE='0.6': vault_share is 0.6: it must be at most 0.5",
    ),
    (
        {"ALPHA_LEARNING__STOP_BARRIER": "0"},
        "ALPHA_LEARNING__STOP_BARRIER='0': stop_barrier is 0.0: it must be above 0.0 and at most 20.0",
    ),
    (
        {"ALPHA_LEARNING__SIGNAL_LABEL": "sides"},
        "ALPHA_LEARNING__SIGNAL_LABEL='sides': signal_label is 'sides': it must be one of bands, triple_barrier",
    ),
    (
        {"ALPHA_LEARNING__SEARCH_TRIALS": "-1"},
        "ALPHA_LEARNING__SEARCH_TRIALS='-1': search_trials is -1: it must be at least 0",
    ),
    ({"ALPHA_LEARNING__INNER_FOLDS": "1"}, "ALPHA_LEARNING__INNER_FOLDS='1': inner_folds is 1: it must be at least 2"),
    ({"ALPHA_LEARNING__ROUNDS": "many"}, "ALPHA_LEARNING__ROUNDS='many' must be a whole number"),
    ({"ALPHA_GATE__LEVEL": "2"}, "ALPHA_GATE__LEVEL='2': level is 2.0: it must be above 0.0 and at most 1.0"),
    ({"ALPHA_CLEANING__SPLIT_RATIOS": "[1"}, "ALPHA_CLEANING__SPLIT_RATIOS='[1' must be a JSON list"),
    ({"ALPHA_SIMULATION__MOMENTUM": "perhaps"}, "ALPHA_SIMULATION__MOMENTUM='perhaps' must be true or false"),
    ({"ALPHA_INTERVALL": "1d"}, "ALPHA_INTERVALL: no such setting"),
    ({"alpha_intervall": "1d"}, "ALPHA_INTERVALL: no such setting"),
    ({"ALPHA_SOURCE__NAME": "yahoo"}, "ALPHA_SOURCE__NAME: no such setting"),
    ({"ALPHA_GATE__LEVELS": "0.1"}, "ALPHA_GATE__LEVELS: no such setting"),
    ({"ALPHA_GATE": '{"levels": 0.1}'}, "ALPHA_GATE__LEVELS: no such setting"),
]


class TestAWrongSetting:
    @pytest.mark.parametrize(("variables", "sentence"), WRONG, ids=[next(iter(wrong)) for wrong, _ in WRONG])
    def test_is_refused_by_name_in_one_sentence(
        self,
        variables: dict[str, str],
        sentence: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(WrongSetting) as raised:
            load()
        assert str(raised.value).startswith(sentence)
        assert "\n" not in str(raised.value)
        assert main(["status"]) == 1
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", f"alpha-assets: {raised.value}\n")

    def test_in_the_env_file_is_refused_too(self, root: Path) -> None:
        (root / ".env").write_text("ALPHA_SOURCES=yahoo\nALPHA_WORKERS=x\n")
        with pytest.raises(WrongSetting, match=r"ALPHA_SOURCES: no such setting; ALPHA_WORKERS='x' must be"):
            load()

    def test_does_not_hide_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong = {"ALPHA_FOO": "1", "ALPHA_SOURCE": "x", "ALPHA_GATE__BAR": "1", "ALPHA_LEARNING__FOLDS": "x"}
        for name, value in wrong.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(WrongSetting) as raised:
            load()
        assert [name for name in wrong if str(raised.value).count(name) != 1] == []

    def test_creates_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALPHA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ALPHA_INTERVAL", "1y")
        assert main(["refresh"]) == 1
        assert not (tmp_path / "home").exists()

    def test_is_refused_when_the_definitions_are_loaded(self, tmp_path: Path) -> None:
        wrong = {"ALPHA_CALENDARS": '{"A": "XMARS"}', "ALPHA_LEARNING__LEARNER": "oracle"}
        ended = subprocess.run(
            [sys.executable, "-c", "import alpha_assets.definitions"],
            env={**os.environ, **wrong, "ALPHA_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert all(name in ended.stderr.splitlines()[-1] for name in wrong)

    def test_by_one_letter_is_told_what_is_near_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALPHA_CALENDARS", '{"VOD.L": "xlom"}')
        with pytest.raises(WrongSetting, match="it has no 'xlom', but for example XLON"):
            load()

    def test_of_a_lake_on_an_object_store_is_no_folder_with_a_bracket(self, tmp_path: Path) -> None:
        assert Settings(home=tmp_path / "[x]", lake_url="s3://bucket/lake").lake == "s3://bucket/lake"


class TestWhatIsWrittenDownTwice:
    def test_the_calendars_are_those_of_exchange_calendars(self) -> None:
        from exchange_calendars import get_calendar_names

        assert set(get_calendar_names()) == CALENDAR_NAMES

    def test_the_heads_are_those_that_can_fit(self) -> None:
        from alpha_assets.quant.learners import LEARNERS

        assert tuple(LEARNERS) == HEAD_NAMES

    def test_reading_them_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; from alpha_assets.settings import load; load();"
            "print([name for name in ('exchange_calendars', 'pandas', 'polars', 'lightgbm') if name in sys.modules])"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ALPHA_CALENDARS": '{"A": "XLON"}', "ALPHA_LEARNING__HEADS": '["gb_direction"]'},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout == "[]\n"


class TestSecrets:
    def test_are_the_fields_that_pydantic_hides(self) -> None:
        hidden = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
        assert sorted(SECRETS) == sorted(hidden)

    def test_are_never_printed(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        for name in SECRETS:
            monkeypatch.setenv(f"ALPHA_{name.upper()}", OTHER[name][0])
        settings = load()
        shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
        for form in ("table", "csv", "json"):
            assert main(["settings", "--format", form]) == 0
        said = capsys.readouterr()
        assert "geheim" not in shown + said.out + said.err

    @pytest.mark.parametrize(
        "wrong",
        [
            {"ALPHA_LAKE_OPTIONS": '{"AWS_SECRET_ACCESS_KEY": ["geheim"]}'},
            {"ALPHA_LAKE_OPTIONS": '{"AWS_SECRET_ACCESS_KEY": "geheim"'},
            {"ALPHA_LAKE_OPTIONS": '"geheim"'},
            {"ALPHA_LEDGER_URL": "geheim"},
            {"ALPHA_MLFLOW_URL": "geheim"},
        ],
    )
    def test_are_not_printed_where_they_are_wrong(self, wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in wrong.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(WrongSetting) as raised:
            load()
        assert "geheim" not in str(raised.value)
        assert next(iter(wrong)) in str(raised.value)


@pytest.mark.parametrize("name", ["LAKE_URL", "MLFLOW_URL", "MLFLOW_ARTIFACTS"])
def test_a_url_that_no_library_opens_is_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ALPHA_{name}", "zz://host/path")
    with pytest.raises(WrongSetting, match=rf"ALPHA_{name}.* must begin with .*, not zz://"):
        load()


@pytest.mark.parametrize("name", ["SEED", "L2", "HOLD_BAND", "RECENCY_HALF_LIFE", "VAULT_SHARE"])
def test_what_no_learner_takes_is_refused_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ALPHA_LEARNING__{name}", "-1")
    with pytest.raises(WrongSetting, match="must be at least 0"):
        load()

"""Every knob, read from the environment (prefix ``ALPHA_``) or ``.env``, each with the embedded default.

The ``.env`` in the home is read, that of the project root, that of the current folder, then the environment; the later
wins, and an empty value is no value. Everything under one folder, ``ALPHA_HOME``, is the default; an object-store URL
for the lake and PostgreSQL URLs for ledger and MLflow are the scaled-out form, and nothing else changes. A wrong value
is refused at once, by name, before anything is read or written.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self
from zoneinfo import available_timezones

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from alpha_assets.quant.parameters import (
    CALENDAR_NAMES,
    HEAD_NAMES,
    SPEAKERS,
    BacktestParameters,
    CleaningParameters,
    DriftParameters,
    FeatureParameters,
    GateParameters,
    LearningParameters,
    PatternParameters,
    ProfileParameters,
    PromotionParameters,
    RegimeParameters,
    SignalParameters,
    SimulationParameters,
    TradingParameters,
    ViewParameters,
)

PACKAGE_PARENT = Path(__file__).resolve().parent.parent

#: Folder names that the Delta library reads as URLs: it panics on a bracket and decodes the other.
NO_LAKE = re.compile(r"[\[\]]|%[0-9A-Fa-f]{2}")

#: What the libraries behind these settings open.
SCHEMES = {
    "lake_url": ("file", "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https"),
    "mlflow_url": ("sqlite", "postgresql", "mysql", "mssql", "file", "http", "https", "databricks"),
    "mlflow_artifacts": ("file", "s3", "gs", "wasbs", "abfss", "dbfs", "hdfs", "mlflow-artifacts", "http", "https"),
}

EXAMPLE_CALENDARS = ("XNYS", "BVMF", "XLON", "24/7")

Interval = Literal["1m", "2m", "5m", "15m", "30m", "1h", "1d"]


#: Groups of settings: a field of one is ``ALPHA_GROUP__FIELD``.
GROUPS = (
    "cleaning",
    "simulation",
    "features",
    "regimes",
    "patterns",
    "profiles",
    "learning",
    "gate",
    "promotion",
    "drift",
    "views",
    "signal",
    "trading",
    "backtest",
)


class WrongSetting(Exception):
    """A setting that cannot be used; the message names the variable, what it holds and what it may hold."""


def project_root() -> Path:
    """The checkout the package runs from, or the current folder where it was installed without one."""
    if (PACKAGE_PARENT / "pyproject.toml").exists():
        return PACKAGE_PARENT
    return Path.cwd()


class Settings(BaseSettings):
    """All settings; a field ``x`` is the variable ``ALPHA_X``, a field of a group ``ALPHA_GROUP__X``."""

    model_config = SettingsConfigDict(
        env_prefix="ALPHA_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(Path(".alpha"), description="folder that holds everything; relative to the project root")
    source: Literal["yahoo", "files", "simulated"] = Field("yahoo", description="source of a symbol when it is added")
    interval: Interval = Field("1d", description="length of a bar; one home holds one interval")
    history_start: date = Field(date(2000, 1, 1), description="first session asked for when a symbol is new")
    calendars: dict[str, str] = Field({}, description='calendar by symbol, as JSON: {"VOD.L": "XLON"}')
    listing_cuts: dict[str, list[date]] = Field(
        {}, description='sessions at which a ticker became another company, as JSON: {"FB": ["2012-05-18"]}'
    )
    final_lag_minutes: int = Field(
        30, ge=0, le=1440, description="minutes after its end until a bar counts as final; vendors restate until then"
    )
    overlap_sessions: int = Field(5, ge=5, le=60, description="sessions read again at each refresh to see restatements")

    files: str | None = Field(None, description="file, folder or glob of Parquet or CSV for the source files")
    files_timezone: str | None = Field(None, description="zone of naive intraday times; default: the symbol's exchange")
    files_prices: Literal["as-traded", "split-adjusted", "adjusted"] | None = Field(
        None, description="what the prices are; default: as-traded where the files hold splits, else split-adjusted"
    )

    yahoo_batch: int = Field(50, ge=1, le=500, description="symbols a batch; between batches an outage is noticed")
    yahoo_concurrency: int = Field(4, ge=1, le=16, description="requests under way at once")
    yahoo_requests_per_second: float = Field(4.0, gt=0, le=50, description="sustained rate; Yahoo answers 429 above")
    yahoo_attempts: int = Field(4, ge=1, le=10, description="tries a symbol for causes that can heal")
    yahoo_backoff_seconds: float = Field(
        2.0, ge=0, le=300, description="first pause after such a cause; doubles, jittered"
    )
    yahoo_timeout_seconds: float = Field(
        30.0, gt=0, le=600, description="deadline of one request, slow answers included"
    )
    yahoo_control_symbol: str = Field(
        "SPY", description="asked when a symbol looks unknown: if it fails too, an outage"
    )

    lake_url: str | None = Field(None, description="folder or object-store URL of the lake; default: HOME/lake")
    lake_options: dict[str, SecretStr] = Field(
        {}, description="storage options of the lake as JSON, e.g. AWS_ENDPOINT_URL; AWS_* variables work too"
    )
    ledger_url: SecretStr | None = Field(None, description="SQLAlchemy URL of the ledger; default: SQLite in HOME")
    ledger_wait_seconds: float = Field(
        30.0, gt=0, le=600, description="how long one waits for another to finish with the ledger"
    )
    mlflow_url: SecretStr | None = Field(None, description="MLflow store URL; default: SQLite in HOME")
    dagster_url: str = Field(
        "http://127.0.0.1:3000", description="where people open Dagster's pages; MLflow's link back to its runs"
    )
    mlflow_artifacts: str | None = Field(None, description="where MLflow keeps files; default: HOME/mlflow-artifacts")

    metrics_ttl_hours: float = Field(1.0, gt=0, le=8760, description="hours for which a tally of all signals is served")
    signal_ttl_hours: float = Field(6.0, gt=0, le=8760, description="hours until a signal is no longer served as fresh")
    retrain_after_bars: int = Field(100, ge=1, description="new final bars that ask for a training")
    retrain_after_days: float = Field(
        7.0, gt=0, le=3650, description="age of a model that asks for a training, with news only"
    )
    retrain_round_days: float = Field(
        7.0, ge=0, le=3650, description="days between trainings that a sensor or schedule asks for: each spends level"
    )
    workers: int = Field(
        0, ge=0, description="features and fits computed at once, while one thread more writes features; 0: one a core"
    )
    workers_backend: str = Field(
        "loky", description="joblib's backend of the fits: loky (processes), threading, or one registered by a cluster"
    )

    cleaning: CleaningParameters = Field(CleaningParameters(), description="thresholds of the cleaning rules")
    simulation: SimulationParameters = Field(SimulationParameters(), description="the simulated market")
    features: FeatureParameters = Field(FeatureParameters(), description="which features, filter and benchmark")
    regimes: RegimeParameters = Field(RegimeParameters(), description="thresholds of the regimes")
    patterns: PatternParameters = Field(PatternParameters(), description="what makes a pattern, and its rates")
    profiles: ProfileParameters = Field(ProfileParameters(), description="the documents of a symbol")
    learning: LearningParameters = Field(LearningParameters(), description="labels, splits and heads")
    gate: GateParameters = Field(GateParameters(), description="what counts as evidence")
    promotion: PromotionParameters = Field(PromotionParameters(), description="the path of a version after the gate")
    drift: DriftParameters = Field(DriftParameters(), description="when features have drifted")
    views: ViewParameters = Field(ViewParameters(), description="what each view looks at")
    signal: SignalParameters = Field(SignalParameters(), description="how views become a signal")
    trading: TradingParameters = Field(TradingParameters(), description="what a trade costs and how large it may be")
    backtest: BacktestParameters = Field(BacktestParameters(), description="what a backtest trades, and how large")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        home = project_root() / home.expanduser()
        there = next(place for place in (home, *home.parents) if place.exists())
        if not there.is_dir():
            raise ValueError(f"must be a folder, or a place where one can be made: {there} is a file")
        return home

    @field_validator("lake_url", "mlflow_artifacts")
    @classmethod
    def _absolute_folder(cls, place: str | None) -> str | None:
        # MLflow and Delta would take a relative folder from wherever a process happened to start.
        return place if place is None or "://" in place else str(project_root() / Path(place).expanduser())

    @field_validator("ledger_url")
    @classmethod
    def _known_database(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not re.match(r"(sqlite|postgresql)(\+\w+)?://", url.get_secret_value()):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return url

    @field_validator("mlflow_url")
    @classmethod
    def _is_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and "://" not in url.get_secret_value():
            raise ValueError("must be a URL: sqlite:///…, postgresql://… or the address of a server, http://…")
        return url

    @field_validator("history_start", mode="before")
    @classmethod
    def _iso_date(cls, day: object) -> object:
        # A bare number would be taken for seconds since 1970.
        if isinstance(day, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day):
            raise ValueError("must be a date such as 2015-01-31")
        return day

    @field_validator("history_start")
    @classmethod
    def _begun(cls, day: date) -> date:
        today = datetime.now(UTC).date()
        if day > today:
            raise ValueError(f"must not be after today, {today}")
        return day

    @field_validator("calendars")
    @classmethod
    def _known_calendars(cls, calendars: dict[str, str]) -> dict[str, str]:
        unknown = next((name for name in calendars.values() if name not in CALENDAR_NAMES), None)
        if unknown is not None:
            near = get_close_matches(unknown.upper(), sorted(CALENDAR_NAMES), n=5, cutoff=0.5) or EXAMPLE_CALENDARS
            raise ValueError(
                f"must name calendars of exchange_calendars; it has no {unknown!r}, but for example {', '.join(near)}"
            )
        return calendars

    @field_validator("files_timezone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in available_timezones():
            raise ValueError("must be a time zone of the IANA database, such as America/New_York")
        return zone

    @field_validator(*GROUPS, mode="before")
    @classmethod
    def _known_fields(cls, group: object, info: ValidationInfo) -> object:
        if not isinstance(group, Mapping):
            return group
        known = [field.name for field in fields(type(cls.model_fields[str(info.field_name)].default))]
        unknown = [f"ALPHA_{info.field_name}__{name}".upper() for name in group if name not in known]
        if unknown:
            raise ValueError("; ".join(f"{name}: {NO_SUCH_SETTING}" for name in unknown))
        return {name: _list(value) for name, value in group.items()}

    @field_validator("learning", mode="before")
    @classmethod
    def _known_learner(cls, group: object) -> object:
        # Of a group from the environment only: a program may bring a learner of its own.
        if not isinstance(group, Mapping):
            return group
        if group.get("learner", SPEAKERS[0]) not in SPEAKERS:
            raise ValueError(f"learner must be {' or '.join(map(repr, SPEAKERS))}")
        heads = _list(group.get("heads", HEAD_NAMES))
        strange = [name for name in heads if name not in HEAD_NAMES] if isinstance(heads, list | tuple) else [heads]
        if strange:
            raise ValueError(f"heads holds {', '.join(map(repr, strange))}: they are among {', '.join(HEAD_NAMES)}")
        return group

    @field_validator("lake_url", "mlflow_url", "mlflow_artifacts")
    @classmethod
    def _known_scheme(cls, url: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        text = url.get_secret_value() if isinstance(url, SecretStr) else url or ""
        known = SCHEMES[str(info.field_name)]
        scheme = text.partition("://")[0].partition("+")[0] if "://" in text else ""
        if scheme and scheme not in known:
            raise ValueError(f"must begin with {', '.join(f'{name}://' for name in known)}, not {scheme}://")
        return url

    @model_validator(mode="after")
    def _usable_lake(self) -> Self:
        if "://" not in self.lake and (odd := NO_LAKE.search(self.lake)):
            variable = "ALPHA_LAKE_URL" if self.lake_url else "ALPHA_HOME"
            raise ValueError(
                f"{variable}: the lake cannot be in {self.lake}, because the Delta library takes {odd.group()!r} for "
                "a part of a URL: set ALPHA_HOME or ALPHA_LAKE_URL to another folder"
            )
        return self

    @property
    def final_lag(self) -> timedelta:
        """Time after a bar's end until it counts as final."""
        return timedelta(minutes=self.final_lag_minutes)

    @property
    def lake(self) -> str:
        """Folder or object-store URL that holds the lake tables, no trailing slash."""
        return (self.lake_url or str(self.home / "lake")).rstrip("/")

    @property
    def ledger(self) -> str:
        """SQLAlchemy URL of the ledger, password included: never a resource field, never logged."""
        return self.ledger_url.get_secret_value() if self.ledger_url else f"sqlite:///{self.ledger_file}"

    @property
    def ledger_file(self) -> Path:
        """The ledger where ``ledger_url`` is not set."""
        return self.home / "ledger.db"

    @property
    def mlflow(self) -> str:
        """URL of MLflow's store, password included."""
        return self.mlflow_url.get_secret_value() if self.mlflow_url else f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def mlflow_artifact_root(self) -> str:
        """Where MLflow keeps model and report files: an absolute folder or an object-store URL."""
        return (self.mlflow_artifacts or str(self.home / "mlflow-artifacts")).rstrip("/")

    @property
    def dagster_home(self) -> Path:
        """Dagster's own folder: runs, events, compute logs."""
        return self.home / "dagster"


#: Settings whose value nobody prints.
SECRETS = ("lake_options", "ledger_url", "mlflow_url")

NO_SUCH_SETTING = "no such setting"


def load() -> Settings:
    """The settings of this process.

    Raises WrongSetting, naming every variable that is unknown or holds what it may not, in one sentence.
    """
    files = _files()
    names = {name.upper() for name in (*os.environ, *(name for file in files for name in dotenv_values(file)))}
    wrong = [f"{name}: {NO_SUCH_SETTING}" for name in sorted(names) if _is_unknown(name)]
    try:
        settings = Settings(_env_file=files)
    except ValidationError as error:
        wrong += [_sentence(line["type"], line["loc"], line["input"], line["msg"]) for line in error.errors()]
    except SettingsError as error:
        wrong.append(_no_json(str(error)))
    if wrong:
        raise WrongSetting("; ".join(wrong) + " (README, section Configuration, lists them)")
    return settings


def _files() -> list[Path]:
    """The files that are read, the first counting least: what a home was begun with stays with it."""
    usual = [file for file in dict.fromkeys((project_root() / ".env", Path.cwd() / ".env")) if file.is_file()]
    homes = [*(dotenv_values(file).get("ALPHA_HOME") for file in usual), os.environ.get("ALPHA_HOME")]
    named = next((name for name in reversed(homes) if name), Settings.model_fields["home"].default)
    home = project_root() / Path(named).expanduser()
    own = home / ".env"
    return [*((own,) if own.is_file() and own not in usual else ()), *usual]


def _list(value: object) -> object:
    """A list inside a group: pydantic-settings reads JSON at the top only."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_unknown(name: str) -> bool:
    if not name.startswith("ALPHA_"):
        return False
    field, *inner = name.removeprefix("ALPHA_").lower().split("__")
    # What a group does not hold is said by the group itself, for its JSON form too.
    return field not in Settings.model_fields or (bool(inner) and field not in GROUPS)


#: What pydantic wants in place of a text that it cannot read, in our words.
_WANTED = {
    "bool_parsing": "true or false",
    "dataclass_type": "a JSON object",
    "dict_type": "a JSON object",
    "float_parsing": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "list_type": "a JSON list",
    "tuple_type": "a JSON list",
    **dict.fromkeys(
        ("date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"), "a date such as 2015-01-31"
    ),
}


def _sentence(kind: str, where: tuple[int | str, ...], held: object, message: str) -> str:
    """One wrong value: the variable, what it holds unless that is secret, and what it may hold."""
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    if message.endswith(NO_SUCH_SETTING) or not where:
        return message
    field = str(where[0])
    if isinstance(held, Mapping) and field in GROUPS:
        given = ", ".join(f"ALPHA_{field}__{name}".upper() + f"={value!r}" for name, value in held.items())
        return f"{given}: {message}"
    given = "ALPHA_" + "__".join(str(part) for part in where).upper()
    if field not in SECRETS:
        given += f"={held!r}"
    return f"{given} must be {_WANTED[kind]}" if kind in _WANTED else f"{given} {message}"


def _no_json(message: str) -> str:
    found = re.search(r'field "(\w+)"', message)
    name = found.group(1) if found else ""
    example = {"listing_cuts": {"FB": ["2012-05-18"]}, "calendars": {"VOD.L": "XLON"}}.get(name, {"NAME": "value"})
    return f"ALPHA_{name.upper()} is not JSON, such as {json.dumps(example)}"

"""Every knob, read from the environment (prefix ``ALPHA_``) or ``.env``, each with the embedded default.

Everything under one folder, ``ALPHA_HOME``, is the default; an object-store URL for the lake and PostgreSQL URLs
for ledger and MLflow are the scaled-out form, and nothing else changes. A wrong value is refused at
once, by name, before anything is read or written.
"""

import os
from datetime import date, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import available_timezones

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from alpha_assets.quant.parameters import (
    CleaningParameters,
    GateParameters,
    LearningParameters,
    SignalParameters,
    SimulationParameters,
)

PACKAGE_PARENT = Path(__file__).resolve().parent.parent

Interval = Literal["1m", "2m", "5m", "15m", "30m", "1h", "1d"]


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
        env_file=".env",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(Path(".alpha"), description="folder that holds everything; relative to the project root")
    source: Literal["yahoo", "files", "simulated"] = Field("yahoo", description="source of a symbol when it is added")
    interval: Interval = Field("1d", description="length of a bar; one home holds one interval")
    history_start: date = Field(date(2015, 1, 1), description="first session asked for when a symbol is new")
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
    mlflow_url: SecretStr | None = Field(None, description="MLflow store URL; default: SQLite in HOME")
    mlflow_artifacts: str | None = Field(None, description="where MLflow keeps files; default: HOME/mlflow-artifacts")

    signal_ttl_hours: float = Field(6.0, gt=0, description="hours until a signal is no longer served as fresh")
    retrain_after_bars: int = Field(100, ge=1, description="new final bars that ask for a training")
    retrain_after_days: float = Field(7.0, gt=0, description="age of a model that asks for a training, with news only")
    workers: int = Field(0, ge=0, description="fits under way at once; 0: one a core")

    cleaning: CleaningParameters = Field(CleaningParameters(), description="thresholds of the cleaning rules")
    simulation: SimulationParameters = Field(SimulationParameters(), description="the simulated market")
    learning: LearningParameters = Field(LearningParameters(), description="labels, splits and learner")
    gate: GateParameters = Field(GateParameters(), description="what counts as evidence")
    signal: SignalParameters = Field(SignalParameters(), description="when an opinion is a signal")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home if home.is_absolute() else project_root() / home

    @field_validator("files_timezone")
    @classmethod
    def _known_zone(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in available_timezones():
            raise ValueError("not a time zone of the IANA database (for example America/New_York)")
        return zone

    @field_validator("files", "files_timezone", "files_prices", "lake_url", "mlflow_artifacts", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

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
        return self.ledger_url.get_secret_value() if self.ledger_url else f"sqlite:///{self.home / 'ledger.db'}"

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


def load() -> Settings:
    """The settings of this process.

    Raises WrongSetting, naming every variable that is unknown or holds what it may not.
    """
    names = {*os.environ, *(name.upper() for name in dotenv_values(".env"))}
    unknown = [f"{name}: no such setting" for name in sorted(names) if _is_unknown(name)]
    try:
        settings = Settings()
    except ValidationError as error:
        raise WrongSetting("; ".join(unknown + [_sentence(line) for line in error.errors()])) from None
    except SettingsError as error:
        raise WrongSetting(f"{error}: a setting of several values is written as JSON") from None
    if unknown:
        raise WrongSetting("; ".join(unknown) + " (README, section Configuration, lists them)")
    return settings


def _is_unknown(name: str) -> bool:
    if not name.startswith("ALPHA_"):
        return False
    return name.removeprefix("ALPHA_").split("__")[0].lower() not in Settings.model_fields


def _sentence(line: object) -> str:
    assert isinstance(line, dict)
    where = "__".join(str(part) for part in line["loc"])
    name = where if where.upper().startswith("ALPHA_") else f"ALPHA_{where}"
    return f"{name.upper()}={line['input']!r}: {line['msg']}"

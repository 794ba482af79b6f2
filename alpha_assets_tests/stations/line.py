"""Small simulated homes for the stations after ingestion: bars and features are made once and the folder copied."""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from alpha_assets.quant.parameters import LearningParameters, SimulationParameters
from alpha_assets.settings import Settings
from alpha_assets.sources.all import Sources
from alpha_assets.stations.base import Report
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.promote import promote
from alpha_assets.stations.signal import signal
from alpha_assets.stations.train import train
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry

#: The day after the simulated market's last session.
NOW = datetime(2024, 1, 2, 12, tzinfo=UTC)

SYMBOLS = ("SIM01", "SIM02", "SIM03", "SIM04")

#: The default market with four symbols: the first two have the edge, and the third is delisted early.
PLANTED = SimulationParameters(symbols=4)
EDGELESS = SimulationParameters(symbols=4, edge=0.0)

#: Trees and linear models of two kinds: enough for everything that stations do, in a third of the time of all heads.
#: No vault: of so few symbols the gate tells those with an edge from the others only by every date there is.
LIGHT = LearningParameters(heads=("gb_return", "gb_direction", "ridge", "logistic"), vault_share=0.0)


class Line:
    """The stores of one home and the stations over them."""

    def __init__(self, home: Path, **knobs: Any) -> None:
        self.settings = Settings(
            home=home, source="simulated", **{"simulation": PLANTED, "learning": LIGHT, "workers": 1, **knobs}
        )
        self.lake = Lake(self.settings)
        self.ledger = Ledger(self.settings)
        self.registry = Registry(self.settings)

    def begin(self) -> None:
        """Follow the four symbols and bring their bars and features."""
        members = [{"symbol": name, "source": "simulated", "calendar": "XNYS", "added_at": NOW} for name in SYMBOLS]
        self.ledger.add_symbols(members)
        self.refresh()

    def refresh(self, now: datetime = NOW) -> None:
        ingest(self.lake, self.ledger, Sources(self.settings), self.settings, SYMBOLS, now)
        featurise(self.lake, self.ledger, self.settings, SYMBOLS)

    def train(self, symbols: Sequence[str] = SYMBOLS, now: datetime = NOW, regimes: Sequence[str] = ("all",)) -> Report:
        cells = [(symbol, regime) for symbol in symbols for regime in regimes]
        return train(self.lake, self.ledger, self.registry, self.settings, cells, now)

    def promote(self, symbols: Sequence[str] = SYMBOLS, now: datetime = NOW, run: str | None = None) -> Report:
        """A pass over the regime «all»; the report is by symbol."""
        cells = [(symbol, "all") for symbol in symbols]
        report = promote(self.lake, self.ledger, self.registry, self.settings, cells, now, run)
        by_symbol = {key.removeprefix("all|"): figures for key, figures in report.partitions.items()}
        return Report(by_symbol, report.totals)

    def signal(self, symbols: Sequence[str] = SYMBOLS, now: datetime = NOW, *, anew: bool = False) -> Report:
        return signal(self.lake, self.ledger, self.registry, self.settings, symbols, now, anew=anew)

    def versions(self) -> dict[str, list[str]]:
        """The numbers of every registered model's versions."""
        found: dict[str, list[str]] = {}
        for version in self.registry.client.search_model_versions():
            found.setdefault(version.name, []).append(str(version.version))
        return {name: sorted(numbers) for name, numbers in sorted(found.items())}

    def runs(self) -> list[tuple[str, str]]:
        """Name and state of every MLflow run."""
        experiments = [experiment.experiment_id for experiment in self.registry.client.search_experiments()]
        return sorted((run.info.run_name, run.info.status) for run in self.registry.client.search_runs(experiments))

    def pictures(self, name: str) -> list[str]:
        """The pictures that MLflow runs of this name hold."""
        client = self.registry.client
        runs = client.search_runs(
            [experiment.experiment_id for experiment in client.search_experiments()],
            f"attributes.run_name = '{name}'",
        )
        files = [file.path for run in runs for file in client.list_artifacts(run.info.run_id)]
        return [file for file in files if file.endswith(".png")]

    def predictions(self) -> pl.DataFrame:
        """Every stored prediction, the clock aside."""
        return self.lake.read("predictions").drop("made_at")


#: Where the stores keep absolute places.
PLACES = {
    "ledger.db": [("candidates", "model_location"), ("decisions", "model_location")],
    "mlflow.db": [
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_version_tags", "value"),
    ],
}


@contextmanager
def rewritable(database: sqlite3.Connection) -> Iterator[None]:
    """Lets a test do to the decisions what the ledger lets nobody do."""
    shut = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'decisions'"
    ).fetchall()
    for name, _ in shut:
        database.execute(f"DROP TRIGGER {name}")
    yield
    for _, made in shut:
        database.execute(made)
    database.commit()


def copied(home: Path, to: Path, **knobs: Any) -> Line:
    """A line over a copy of ``home``, whose model files are its own too."""
    shutil.copytree(home, to)
    for file, columns in PLACES.items():
        with closing(sqlite3.connect(to / file)) as database, rewritable(database):
            for table, column in columns:
                database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(home), str(to)))
            database.commit()
    return Line(to, **knobs)


def later(**more: float) -> datetime:
    return NOW + timedelta(**more)


def impossible(line: Line, symbol: str) -> None:
    """Store a dividend far above the price: nothing can be adjusted for it."""
    bars = line.lake.read("bars", symbols=[symbol])
    action = {"symbol": symbol, "ex_date": bars["timestamp"][100].date(), "kind": "dividend", "value": 1e6}
    line.lake.append("actions", pl.DataFrame([{**action, "first_seen_at": NOW}]))

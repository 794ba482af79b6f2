"""Training, evaluation and registration on real bars: ``python -m benchmarks.training --format json``.

Every figure is of one run on this machine.

- ``universe75_s``: pooled models, candidates of every (symbol, regime) and the gate, over the first 75 symbols by name,
  registry included, from features in the lake on; ``pool_s``, ``candidates_s`` and ``gate_s`` are its stages, ``cells``
  and ``versions`` what came of it, ``fit_cpu_s`` the processor's seconds that the fits took.
- ``registry_ms``: one version of that size logged when nothing else is done, over ``registry_versions`` of them;
  ``registry_last_ms`` the last tenth. ``vs_default_logging``: as a multiple of it, the same candidate logged by
  MLflow's ``pyfunc.log_model`` as a tutorial has it.
- ``vs_plain``: how many times longer the plain way takes for the three heads it has too (features by a pandas loop
  over symbols, scikit-learn's forests and boosting on all cores) than ours, features included; ``ours_ic`` and
  ``plain_ic`` are their mean out-of-sample correlations with the scaled return on the last 30 % of the dates, and
  ``ic_difference`` ours less theirs; ``…_error`` by leaving out blocks of dates in turn, all symbols at once.
- ``minute_train_s``, ``minute_peak_gib``: those three heads over one symbol of ``minute_rows`` minute bars, trained,
  walked forward and logged, in a process of its own.
- ``predict505_cold_s``: a new process reads the newest features of 505 symbols from the lake and 505 versions, verifies
  these and has each predict the newest bar of its symbol, from its start to its end; ``predict505_warm_s``: the same
  once more in that process. ``predicted`` is how many there were.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant.heads import ANSWERS, INDEX
from alpha_assets.quant.learners import Lesson, learner, lesson
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.scores import correlation
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.promote import promote
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.series import adjusted_bars, calendars_of
from alpha_assets.stations.sets import recipe_of
from alpha_assets.stations.train import labelled_rows, model_name, train, usable
from alpha_assets.stores.registry import HEADS, Registry, digest_of, quieten
from benchmarks import pandas_twin
from benchmarks.frame import Figure, Lap, lap, run
from benchmarks.market import (
    MINUTES_FROM,
    Home,
    as_source_rows,
    daily_options,
    daily_rows,
    evening,
    loaded_home,
    minute_bars,
    peak_gib,
    planned_days,
)

#: The heads that the plain way has too.
THREE = ("rf_return", "rf_direction", "gb_return")

#: Share of each symbol's dates that the plain way and ours are fitted on; the rest is out of sample.
FITTED = 0.7

#: Blocks of dates that are left out in turn: each is longer than what a symbol's bars remember of each other.
BLOCKS = 20

#: Versions logged the tutorial's way: each takes seconds.
DEFAULT_LOGGED = 3


def measure(options: Namespace) -> dict[str, Figure]:
    """Every figure by its documented key."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        home, symbols, last, data, features = _featured(place, options, options.symbols)
        recognise(home.lake, home.ledger, home.settings, symbols)
        figures: dict[str, Figure] = {"data": data, "symbols": len(symbols)}
        figures |= _universe(home, symbols, evening(last))
        files = _samples(home)
        figures |= _registry(place / "registry", home, files, options.versions)
        figures |= _plain(home, symbols, features.seconds)
        wide = home if options.predicted <= len(symbols) else _featured(place / "wide", options, options.predicted)[0]
        figures |= _predictions(place / "predictions", wide, files, options.predicted)
        return figures | _minutes(place / "minutes", options.minute_rows)


def _featured(folder: Path, options: Namespace, count: int) -> tuple[Home, list[str], date, str, Lap]:
    """A home with the features of so many symbols at most, its symbols, the last day, what data it is, and the time."""
    folder.mkdir(exist_ok=True)
    rows, data = daily_rows(Namespace(**{**vars(options), "symbols": count}))
    source = as_source_rows(rows)
    symbols, last = sorted(source["symbol"].unique()), max(rows["timestamp"].to_list())
    home, _ = loaded_home(folder, source, symbols, last)
    with lap() as taken:
        featurise(home.lake, home.ledger, home.settings, symbols)
    return home, symbols, last, data, taken


def _universe(home: Home, symbols: Sequence[str], now: Any) -> dict[str, Figure]:
    registry = Registry(home.settings)
    cells = [(symbol, regime) for regime in REGIMES for symbol in symbols]
    with lap() as pools:
        pooled = train_pools(home.lake, home.ledger, registry, home.settings, now)
    with lap() as candidates:
        own = train(home.lake, home.ledger, registry, home.settings, cells, now)
    with lap() as gate:
        promote(home.lake, home.ledger, registry, home.settings, cells, now)
    seconds = [
        figures["seconds"]
        for report in (pooled, own)
        for figures in report.partitions.values()
        if figures["state"] == "trained"
    ]
    return {
        "cells": len(cells),
        "versions": len(seconds),
        **{f"cells_{state}": count for state, count in own.states().items()},
        "universe75_s": round(pools.seconds + candidates.seconds + gate.seconds, 1),
        "pool_s": round(pools.seconds, 1),
        "candidates_s": round(candidates.seconds, 1),
        "gate_s": round(gate.seconds, 1),
        "fit_cpu_s": round(sum(seconds), 1),
    }


def _samples(home: Home) -> list[dict[str, bytes]]:
    """The native files of some candidates that were just trained."""
    registry = Registry(home.settings)
    trained = [row for row in home.ledger.candidates().values() if row["state"] == "trained"]
    names = ("model_name", "model_version", "model_location", "model_digest")
    return [registry.read_files(*(row[name] for name in names)) for row in trained[:60]]


def _registry(folder: Path, home: Home, files: Sequence[Mapping[str, bytes]], versions: int) -> dict[str, Figure]:
    settings = Settings(home=folder)
    registry = Registry(settings)
    registry.prepare()
    recipe = recipe_of(home.settings)
    report = {"heads": {name: {"folds": [dict.fromkeys("abcdefg", 0.1)] * 5} for name in home.settings.learning.heads}}
    taken = []
    for number, some in enumerate(islice(cycle(files), versions)):
        with lap() as one:
            registry.log_candidate(
                model_name(f"SYM{number:05}"),
                some,
                training_id=f"{number:064}",
                columns=recipe.columns,
                answers=ANSWERS,
                parameters={f"parameter_{at}": at for at in range(40)},
                metrics={f"metric_{at}": 0.1 for at in range(50)},
                tags={"symbol": f"SYM{number:05}", "regime": "all", **{f"tag_{at}": "value" for at in range(10)}},
                report=report,
                dataset=(recipe.table, f"{number:036}"),
                note="a note " * 100,
            )
        taken.append(one.seconds)
    # The first one opens the store and has MLflow write its template.
    steady = taken[1:]
    ours = 1e3 * float(np.mean(steady))
    default = _default_logging(folder / "default", recipe.columns, files[0])
    return {
        "registry_versions": versions,
        "registry_ms": round(ours, 1),
        "registry_last_ms": round(1e3 * float(np.mean(steady[-max(1, versions // 10) :])), 1),
        "default_logging_ms": round(default, 1),
        "vs_default_logging": round(default / ours, 1),
    }


def _default_logging(folder: Path, columns: Sequence[str], files: Mapping[str, bytes]) -> float:
    """Milliseconds a version that ``mlflow.pyfunc.log_model`` takes with what a tutorial gives it."""
    quieten()
    import mlflow
    import pandas as pd

    data = folder / "heads"
    data.mkdir(parents=True)
    for name, content in files.items():
        (data / name).write_bytes(content)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("default", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("default")
    example = pd.DataFrame(np.zeros((2, len(columns))), columns=list(columns))
    taken = []
    for number in range(DEFAULT_LOGGED):
        with lap() as one, mlflow.start_run():
            mlflow.log_params({f"parameter_{at}": at for at in range(40)})
            for at in range(50):
                mlflow.log_metric(f"metric_{at}", 0.1)
            mlflow.pyfunc.log_model(
                name="model",
                loader_module="alpha_assets.stores.heads",
                data_path=str(data),
                input_example=example,
                registered_model_name=f"default-{number}",
            )
        taken.append(one.seconds)
    return 1e3 * float(np.mean(taken))


# -- the plain way ------------------------------------------------------------------------------------------------


def _plain(home: Home, symbols: Sequence[str], features_seconds: float) -> dict[str, Figure]:
    learning = home.settings.learning
    columns = recipe_of(home.settings).columns
    rows, _ = labelled_rows(home.lake, home.settings, calendars_of(home.ledger), symbols)
    known = usable(rows)
    parts = [part for part in known.partition_by("symbol") if part.height >= learning.min_rows]
    with lap() as ours:
        told = _ours(parts, columns, learning)
    bars, _ = adjusted_bars(home.lake, home.settings, calendars_of(home.ledger), symbols)
    with lap() as plain:
        theirs = _theirs(bars, parts, columns, learning)
    return {
        "ours_s": round(features_seconds + ours.seconds, 1),
        "plain_s": round(plain.seconds, 1),
        "vs_plain": round(plain.seconds / (features_seconds + ours.seconds), 2),
        **_quality(told, theirs),
    }


#: What was said out of sample when, and what followed, of one head and one symbol.
Told = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def _quality(ours: Sequence[Told], theirs: Sequence[Told]) -> dict[str, Figure]:
    """Mean IC of both and what ours has more, with errors by the jackknife over blocks of dates (Kunsch, 1989)."""
    dates = np.unique(np.concatenate([one[1] for one in ours]))
    blocks = np.array_split(dates, BLOCKS)
    spared = [[_mean_ic(some, block) for some in (ours, theirs)] for block in blocks]
    own, plain = (np.array(some) for some in zip(*spared, strict=True))
    whole, other = _mean_ic(ours), _mean_ic(theirs)
    figures = {
        "ours_ic": (whole, own),
        "plain_ic": (other, plain),
        "ic_difference": (whole - other, own - plain),
    }
    found: dict[str, Figure] = {}
    for name, (figure, left) in figures.items():
        found[name] = round(figure, 4)
        found[f"{name}_error"] = round(float(np.sqrt((BLOCKS - 1) * left.var())), 4)
    return found


def _mean_ic(told: Sequence[Told], without: np.ndarray | None = None) -> float:
    """The mean over the heads of the correlation with the scaled return, both demeaned per symbol."""
    figures = []
    for head in THREE:
        own = []
        for name, dates, said, earned in told:
            if name == head:
                kept = np.ones(len(dates), bool) if without is None else ~np.isin(dates, without)
                own.append((said[kept] - said[kept].mean(), earned[kept] - earned[kept].mean()))
        said, earned = (np.concatenate(some) for some in zip(*own, strict=True))
        figures.append(correlation(said, earned) or 0.0)
    return float(np.mean(figures))


def _halves(rows: int, learning: LearningParameters) -> tuple[slice, slice]:
    cut = int(FITTED * rows)
    return slice(0, cut - learning.horizon - 1 - learning.embargo), slice(cut, rows)


def _ours(parts: Sequence[pl.DataFrame], columns: Sequence[str], learning: LearningParameters) -> list[Told]:
    from joblib import Parallel, delayed

    found = Parallel(n_jobs=-1, backend="threading")(delayed(_own)(part, columns, learning) for part in parts)
    return [one for some in found for one in some]


def _own(part: pl.DataFrame, columns: Sequence[str], learning: LearningParameters) -> list[Told]:
    past, future = _halves(part.height, learning)
    whole = lesson(part, columns, learning)
    seen: Lesson = whole.at(np.arange(part.height)[past])
    earned, dates = part["scaled_return"].to_numpy()[future], part["timestamp"].to_numpy()[future]
    heads = {name: learner(name, learning) for name in THREE}
    return [(name, dates, head.predict(head.fit(seen), whole.features[future]), earned) for name, head in heads.items()]


def _theirs(
    bars: pl.DataFrame, parts: Sequence[pl.DataFrame], columns: Sequence[str], learning: LearningParameters
) -> list[Told]:
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor

    naive = bars.with_columns(pl.col("timestamp").dt.replace_time_zone(None)).to_pandas()
    # No benchmark is set in ours: whatever is taken with one is unknown in both.
    naive["market"] = np.nan
    made = pandas_twin.features(naive, planned_days(bars))
    told: list[Told] = []
    for part in parts:
        symbol = part["symbol"][0]
        own = made[naive["symbol"].to_numpy() == symbol]
        stamps = naive.loc[naive["symbol"] == symbol, "timestamp"]
        chosen = np.isin(stamps.to_numpy(), part["timestamp"].dt.replace_time_zone(None).to_numpy())
        values = own[chosen].reindex(columns=list(columns)).to_numpy(dtype=float)
        values = np.where(np.isfinite(values), values, 0.0)
        past, future = _halves(part.height, learning)
        earned = part["scaled_return"].to_numpy()
        forest = {"n_estimators": learning.trees, "max_depth": learning.depth, "n_jobs": -1, "random_state": 1}
        models = {
            "rf_return": RandomForestRegressor(**forest),
            "rf_direction": RandomForestClassifier(**forest),
            "gb_return": GradientBoostingRegressor(n_estimators=50, learning_rate=0.1, random_state=1),
        }
        for name, model in models.items():
            if name == "rf_direction":
                model.fit(values[past], part["up"].to_numpy()[past])
                said = model.predict_proba(values[future])[:, 1]
            else:
                model.fit(values[past], part["label_return"].to_numpy()[past])
                said = model.predict(values[future])
            told.append((name, part["timestamp"].to_numpy()[future], said, earned[future]))
    return told


# -- minutes ------------------------------------------------------------------------------------------------------


def _minutes(folder: Path, rows: int) -> dict[str, Figure]:
    """One symbol of minutes, its features in the lake, trained and logged by a process that does nothing else."""
    symbol = "MINUTE"
    learning = LearningParameters(heads=THREE)
    settings = Settings(home=folder, source="files", interval="1m", history_start=MINUTES_FROM, learning=learning)
    home = Home(settings)
    bars, _ = minute_bars(symbol, rows, 1)
    home.follow([symbol], evening(MINUTES_FROM))
    home.hold(bars)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as alone:
        alone.submit(_minute_features, home, symbol).result()
    with ProcessPoolExecutor(1, mp_context=spawn) as alone:
        seconds, peak, state = alone.submit(_minute_train, home, symbol).result()
    return {
        "minute_rows": bars.height,
        "minute_state": state,
        "minute_train_s": round(seconds, 1),
        "minute_peak_gib": peak,
    }


def _minute_features(home: Home, symbol: str) -> None:
    featurise(home.lake, home.ledger, home.settings, [symbol])


def _minute_train(home: Home, symbol: str) -> tuple[float, float | None, str]:
    registry = Registry(home.settings)
    with lap() as taken:
        report = train(home.lake, home.ledger, registry, home.settings, [(symbol, "all")], evening(MINUTES_FROM))
    return taken.seconds, peak_gib(), str(report.partitions[f"all|{symbol}"]["state"])


# -- predictions --------------------------------------------------------------------------------------------------

#: What the process of the cold prediction does with the versions, a list a symbol, in the file of its first argument.
COLD = """
import json, sys, time
from pathlib import Path
import numpy as np
from alpha_assets.quant.heads import features_of
from alpha_assets.settings import Settings
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.registry import Registry

listed = json.loads(Path(sys.argv[1]).read_text())
settings = Settings(home=Path(sys.argv[2]))
lake, registry = Lake(settings), Registry(settings)
table, versions = listed["table"], listed["versions"]

def everybody():
    started = time.perf_counter()
    newest = lake.read(table, since=lake.last_times(table, list(versions)))
    bars = {symbol: bar for (symbol,), bar in newest.group_by("symbol")}
    said = 0
    for symbol, place in versions.items():
        candidate = registry.candidate(*place)
        answer = candidate.predict(features_of(bars[symbol], candidate), [symbol])
        assert answer["p_up"].shape == (1,) and np.isfinite(answer["p_up"]).all()
        said += 1
    return said, time.perf_counter() - started

said, first = everybody()
print(json.dumps({"said": said, "first": first, "again": everybody()[1]}))
"""


def _predictions(folder: Path, home: Home, files: Sequence[Mapping[str, bytes]], count: int) -> dict[str, Figure]:
    table = recipe_of(home.settings).table
    symbols = home.lake.read(table, columns=["symbol"])["symbol"].unique().sort().head(count).to_list()
    versions = {}
    for number, (symbol, some) in enumerate(zip(symbols, cycle(files), strict=False)):
        # A space more in its index makes each a version of its own.
        own = {**some, INDEX: some[INDEX] + b" " * number}
        place = folder / f"version-{number}"
        (place / HEADS).mkdir(parents=True)
        for name, content in own.items():
            (place / HEADS / name).write_bytes(content)
        versions[symbol] = (model_name(symbol), "1", str(place), digest_of(own))
    listed = folder / "versions.json"
    listed.write_text(json.dumps({"table": table, "versions": versions}))
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", COLD, str(listed), str(home.settings.home)], capture_output=True, text=True, check=True
    )
    cold = time.perf_counter() - started
    said = json.loads(ended.stdout)
    return {
        "predicted": said["said"],
        "version_kib": round(sum(map(len, files[0].values())) / 1024),
        "predict505_cold_s": round(cold, 2),
        "predict505_warm_s": round(said["again"], 2),
    }


def _options(parser: ArgumentParser) -> None:
    daily_options(parser)
    parser.set_defaults(symbols=75)
    parser.add_argument("--versions", type=int, default=200, help="versions logged to time the registry (200)")
    parser.add_argument("--predicted", type=int, default=505, help="versions read and asked, one a symbol (505)")
    parser.add_argument("--minute-rows", type=int, default=1_850_000, help="bars of the minute history (1,850,000)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("Training, evaluation and registration", measure, _options, arguments)


if __name__ == "__main__":
    main()

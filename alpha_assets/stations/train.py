"""Third station: a candidate a (symbol, regime), trained where something changed and logged as a version.

What is unchanged is told by ``training_id``, the hash of everything that shapes the fit: then nothing is trained and
nothing written. A killed training is repeated as if it had not been: predictions are keyed by training_id, and the
version is looked for in MLflow before one is written. Fits run side by side, one thread each; the parent alone writes.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import polars as pl

from alpha_assets.quant import metrics
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.learners import (
    Refusal,
    learner,
    library_versions,
    out_of_fold,
    refit,
    training_id,
)
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.schema import TIME, empty
from alpha_assets.quant.splits import Fold, walk_forward
from alpha_assets.quant.symbols import slug
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.quarantine import TRAINABLE
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import Recipe, recipe_of, table_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry, Version

#: The regime whose models exist so far; the others are cut as partitions and served by this one.
ALL = "all"

OUT_OF_FOLD = "oof"

#: States in which the same training data give the same candidate again.
SETTLED = ("trained", "refused")

#: Fits whose predictions share one commit of the lake; so many are logged before the next ones are looked at.
FITS_A_COMMIT = 32

KEYED: Mapping[str, pl.DataType] = {"symbol": pl.String(), "timestamp": TIME}


@dataclass(frozen=True)
class Fit:
    """What a worker hands back: a head as text with its out-of-fold predictions, or why there is none."""

    symbol: str
    training_id: str
    seconds: float
    head: str | None
    predictions: pl.DataFrame | None
    problem: str | None
    failed: bool = False


def labelled_rows(
    lake: Lake, settings: Settings, names: Mapping[str, str], symbols: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Features beside labels, one row a bar, sorted by symbol and timestamp; and why each other symbol is left out.

    ``warm`` says whether the bar lies past the warm-up of every feature.
    """
    bars, held = adjusted_bars(lake, settings, names, symbols)
    labels = open_to_open(with_known_at(bars, settings, names), settings.learning.horizon)
    recipe = recipe_of(settings)
    warm = bars.select("symbol", "timestamp", warm=recipe.feature_set.warm())
    features = lake.read(recipe.table, symbols=symbols)
    if features.is_empty():
        # A table that nobody has written yet has no columns to join and choose.
        features = empty({**KEYED, **dict.fromkeys(recipe.columns, pl.Float32())})
    key = ["symbol", "timestamp"]
    return features.join(labels, on=key, maintain_order="left").join(warm, on=key, maintain_order="left"), held


def usable(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows a fit may see: labelled, and past the warm-up of every feature.

    A feature may be null even so: a market without volume has no volume ratio, and learners take it as unknown.
    """
    return rows.filter(pl.col("warm") & pl.all_horizontal(pl.col("scaled_return", "label_end").is_not_null()))


def train(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Train the ``all`` candidate of each symbol whose training data changed.

    States: trained, unchanged (points to the version there is), refused (too little data, with the reason),
    failed (the fit raised; the others go on), held (an action that cannot be), quarantined, too_few_bars and empty
    (nothing to learn from, with the reason). ``tags`` go on every MLflow run.
    What was looked at is recorded whatever the state, or automation would ask for the same look again and again.
    """
    started = time.perf_counter()
    report = Report()
    names = calendars_of(ledger)
    recipe = recipe_of(settings)
    rows, held = labelled_rows(lake, settings, names, symbols)
    for symbol, reason in held.items():
        report.say(symbol, "held", reason=reason)
    known = ledger.candidates()
    states = ledger.states()
    # Without MLflow's database there is no version left to point to: everything is logged anew.
    settled = SETTLED if registry.exists() else ()
    work, unchanged = [], []
    for (symbol,), part in usable(rows).group_by("symbol", maintain_order=True):
        identity = _identity(part, recipe, settings.learning)
        before = known.get((str(symbol), ALL))
        if before is not None and before["training_id"] == identity and before["state"] in settled:
            unchanged.append(before)
            report.say(str(symbol), "unchanged", version=before["model_version"], reason=before["reason"])
        else:
            work.append((str(symbol), part, identity))
    for symbol in symbols:
        if symbol not in report.partitions and all(symbol != name for name, _, _ in work):
            state, reason = lacking(states.get(symbol), settings) or ("empty", NO_FEATURES)
            report.say(symbol, state, reason=reason)
    ledger.note_candidates(_looked_at(report, states, now))
    ledger.note_candidates(_moved_on(unchanged, states))
    parts = {symbol: part for symbol, part, _ in work}
    done = 0
    for fits in _batches(_fits(work, settings)):
        _append_predictions(lake, fits, now)
        for fit in fits:
            _keep(lake, ledger, registry, settings, fit, parts[fit.symbol], states[fit.symbol], now, tags or {}, report)
            done += 1
            progress("candidates trained", done, len(work))
    report.totals = {
        "symbols": len(symbols),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


NO_FEATURES = "no bar has features and a label yet: refresh the symbol"


def lacking(state: Row | None, settings: Settings) -> tuple[str, str] | None:
    """In a word and in a sentence why nothing can be learnt of a symbol, where its state alone tells; else None."""
    if state and state["quarantine_cause"] not in (None, *TRAINABLE):
        return "quarantined", f"quarantined: {state['quarantine_cause']}"
    held = state["bars"] if state else 0
    if not held:
        return "empty", "no bars are held yet: refresh the symbol"
    parameters, blank = settings.learning, recipe_of(settings).feature_set.blank
    rows = max(parameters.min_rows, parameters.min_labels * parameters.horizon)
    # A label ends one bar and the horizon after its own bar.
    needed = blank + rows + 1 + parameters.horizon
    if held < needed:
        return "too_few_bars", (
            f"{held:,} bar{'s' * (held != 1)}, {needed:,} needed: {rows:,} to learn from, {blank:,} before "
            "them for the features to warm up"
        )
    return None


def why_untrained(candidate: Row | None, state: Row | None, settings: Settings) -> str:
    """Why a symbol has no version of its own."""
    if (lack := lacking(state, settings)) is not None:
        return lack[1]
    return str(candidate["reason"]) if candidate else "never trained: alpha-assets train"


def _looked_at(report: Report, states: Mapping[str, Row], now: datetime) -> list[Row]:
    """What was seen of the symbols that gave nothing to train on; the version they may have stays theirs."""
    return [
        {
            "symbol": symbol,
            "regime": ALL,
            "state": report.partitions[symbol]["state"],
            "reason": report.partitions[symbol]["reason"],
            "bars": states[symbol]["bars"],
            "trained_until": states[symbol]["last_bar"],
            "trained_at": now,
        }
        for symbol in report.in_state("held", "quarantined", "too_few_bars", "empty")
        if states.get(symbol, {}).get("bars")
    ]


def _moved_on(unchanged: Sequence[Row], states: Mapping[str, Row]) -> list[Row]:
    """The candidates that further bars left as they are, with those bars; when it was trained stays true."""
    return [
        {**before, "bars": states[before["symbol"]]["bars"], "trained_until": states[before["symbol"]]["last_bar"]}
        for before in unchanged
        if states[before["symbol"]]["bars"] != before["bars"]
    ]


def _identity(rows: pl.DataFrame, recipe: Recipe, parameters: LearningParameters) -> str:
    seen = rows.select("symbol", "timestamp", "known_at", "label_end", "label_return", *recipe.columns)
    versions = library_versions(learner(parameters).libraries)
    return training_id(seen, feature_set=recipe.table, parameters=parameters, versions=versions)


def _fits(work: Sequence[tuple[str, pl.DataFrame, str]], settings: Settings) -> Iterator[Fit]:
    """The fits in the order of the work, as they come in; threads, because the boosters leave the interpreter free."""
    if not work:
        return iter(())
    from joblib import Parallel, delayed

    columns = recipe_of(settings).columns
    parallel = Parallel(n_jobs=settings.workers or -1, prefer="threads", return_as="generator")
    calls = (delayed(_fit)(symbol, rows, identity, columns, settings.learning) for symbol, rows, identity in work)
    return parallel(calls)


def _batches(fits: Iterator[Fit]) -> Iterator[list[Fit]]:
    """The fits as they come in, some at a time: a commit of the lake costs as much as a fit."""
    while some := list(islice(fits, FITS_A_COMMIT)):
        yield some


def _fit(symbol: str, rows: pl.DataFrame, identity: str, columns: Sequence[str], parameters: LearningParameters) -> Fit:
    started = time.perf_counter()
    try:
        folds = _folds(rows, parameters)
        predictions = out_of_fold(rows, columns, folds, parameters)
        model = refit(rows, columns, parameters)
    except Exception as error:  # one fit of many: it becomes a record with its reason, and the others go on
        reason = f"the fit failed: {type(error).__name__}: {error}"
        return Fit(symbol, identity, time.perf_counter() - started, None, None, reason, failed=True)
    refusal = next((part for part in (predictions, model) if isinstance(part, Refusal)), None)
    seconds = time.perf_counter() - started
    if refusal is not None:
        return Fit(symbol, identity, seconds, None, None, refusal.reason)
    assert isinstance(predictions, pl.DataFrame)
    return Fit(symbol, identity, seconds, learner(parameters).save(model), predictions, None)


def _folds(rows: pl.DataFrame, parameters: LearningParameters) -> list[Fold]:
    return walk_forward(
        rows.select("timestamp", "known_at", "label_end"),
        parameters.folds,
        parameters.embargo,
        parameters.min_rows // 2,
    )


def _keep(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    fit: Fit,
    rows: pl.DataFrame,
    state: Row,
    now: datetime,
    tags: Mapping[str, str],
    report: Report,
) -> None:
    table = table_of(settings)
    if fit.head is None or fit.predictions is None:
        outcome = "failed" if fit.failed else "refused"
        ledger.note_candidates([_record(fit, table, outcome, str(fit.problem), rows, state, now, None)])
        report.say(fit.symbol, outcome, reason=fit.problem)
        return
    evidence = fit.predictions.join(rows, on="timestamp", maintain_order="left")
    version = registry.find(model_name(fit.symbol), fit.training_id) or _log(
        lake, registry, settings, fit, rows, evidence, tags
    )
    reason = f"trained on {rows.height} bars until {rows['timestamp'][-1]:%Y-%m-%d}"
    ledger.note_candidates([_record(fit, table, "trained", reason, rows, state, now, version)])
    figures = {name: figure for name, figure in metrics.figures(evidence).items() if name in ("ts_ic", "accuracy")}
    report.say(
        fit.symbol, "trained", version=version.number, rows=rows.height, seconds=round(fit.seconds, 3), **figures
    )


def model_name(symbol: str, regime: str = ALL) -> str:
    """The registered model of a (symbol, regime); MLflow takes letters, digits, dots and dashes."""
    return f"{slug(symbol)}.{regime}"


def _log(
    lake: Lake,
    registry: Registry,
    settings: Settings,
    fit: Fit,
    rows: pl.DataFrame,
    evidence: pl.DataFrame,
    tags: Mapping[str, str],
) -> Version:
    assert fit.head is not None
    recipe = recipe_of(settings)
    figures = {name: float(value) for name, value in metrics.figures(evidence).items() if value is not None}
    return registry.log_candidate(
        model_name(fit.symbol),
        fit.head,
        training_id=fit.training_id,
        columns=recipe.columns,
        parameters={**asdict(settings.learning), "features_set": recipe.table, "interval": settings.interval},
        metrics={f"oof_{name}": value for name, value in figures.items()} | {"training_seconds": fit.seconds},
        tags={
            **tags,
            "symbol": fit.symbol,
            "regime": ALL,
            "features_set": recipe.table,
            "rows": str(rows.height),
            "trained_from": f"{rows['timestamp'][0]:%Y-%m-%d}",
            "trained_until": f"{rows['timestamp'][-1]:%Y-%m-%d}",
            "bars_version": str(lake.version("bars")),
            "features_version": str(lake.version(recipe.table)),
        },
        report={"out_of_fold": figures, "rivals": metrics.rivals(evidence), "folds": settings.learning.folds},
        dataset=(recipe.table, fit.training_id),
    )


def _append_predictions(lake: Lake, fits: Sequence[Fit], now: datetime) -> None:
    """Predictions go before the versions that they are the evidence of; those of a killed run are found there."""
    rows = [_prediction_rows(fit, now) for fit in fits if fit.predictions is not None]
    if rows:
        lake.append("predictions", pl.concat(rows))


def _prediction_rows(fit: Fit, now: datetime) -> pl.DataFrame:
    assert fit.predictions is not None
    return fit.predictions.select(
        pl.lit(fit.symbol).alias("symbol"),
        pl.lit(ALL).alias("regime"),
        "timestamp",
        pl.lit(fit.training_id).alias("training_id"),
        pl.lit(OUT_OF_FOLD).alias("origin"),
        "p_up",
        "score",
        "prior",
        pl.lit(now, TIME).alias("made_at"),
    )


def _record(
    fit: Fit,
    table: str,
    state: str,
    reason: str,
    rows: pl.DataFrame,
    symbol_state: Row,
    now: datetime,
    version: Version | None,
) -> dict[str, Any]:
    return {
        "symbol": fit.symbol,
        "regime": ALL,
        "state": state,
        "reason": reason,
        "training_id": fit.training_id,
        "features_set": table,
        "model_name": version.name if version else None,
        "model_version": version.number if version else None,
        "model_location": version.location if version else None,
        "model_digest": version.digest if version else None,
        "rows": rows.height,
        "bars": symbol_state["bars"],
        "trained_until": symbol_state["last_bar"],
        "trained_at": now,
    }

"""Drift: do a symbol's newest features look like those its model was trained on, and does its loss bear that out?

Looked at is each (symbol, regime) that has a version: the one in production, else the candidate. The reference is what
that version was trained on, less the newest two windows where they are part of it, so that a model of yesterday can be
told about too. It is pooled over all symbols of the regime that read the same features, whichever of them a run holds:
thresholds do not depend on who asks.

What is found goes to the ledger, where the checks and the sensor of trainings read it, and, whole, to one MLflow run a
look. A cell that cannot be told about is a finding as well: silence would look like health.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant.drift import Calibration, Confirmation, DriftFinding, calibrate, confirmed, examine_all
from alpha_assets.quant.gate_lines import Drift
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.parameters import DriftParameters
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.champions import spoken
from alpha_assets.stations.inspect import SAMPLE, Verdict
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import Recipe, recipe_of, restored
from alpha_assets.stations.train import ALL, OUT_OF_FOLD
from alpha_assets.stations.watch import looks_elsewhere
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry

#: What a rule found, with the regime after the bar.
DRIFTED, CONFIRMED, UNTOLD = "drift", "drift_confirmed", "drift_untold"

#: Predictions that were made before their outcome: of the version in production, and of a canary in shadow.
AHEAD = ("live", "shadow")

Cell = tuple[str, str]

KEY = ["symbol", "regime", "training_id"]


def rule_of(what: str, regime: str) -> str:
    """The ledger's name of a rule for a regime."""
    return f"{what}|{regime}"


RULES = [rule_of(what, regime) for what in (DRIFTED, CONFIRMED, UNTOLD) for regime in REGIMES]


@dataclass(frozen=True)
class Looked:
    """One look at one cell."""

    symbol: str
    regime: str
    version: Row
    finding: DriftFinding
    confirmation: Confirmation | None

    @property
    def state(self) -> str:
        """What was found, in a word."""
        if self.finding.alarm is None:
            return "untold"
        if not self.finding.alarm:
            return "undrifted"
        return "confirmed" if self.confirmation is not None and self.confirmation.confirmed else "drifted"

    @property
    def rules(self) -> list[str]:
        """The rules under which the ledger keeps it; a confirmed drift is a drift as well."""
        kept = {"untold": [UNTOLD], "drifted": [DRIFTED], "confirmed": [DRIFTED, CONFIRMED]}.get(self.state, [])
        return [rule_of(what, self.regime) for what in kept]

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        return f"{self.finding.sentence}; {self.confirmation.sentence}" if self.confirmation else self.finding.sentence

    @property
    def document(self) -> dict[str, Any]:
        """Everything, for JSON."""
        loss = None if self.confirmation is None else asdict(self.confirmation)
        named = {name: self.version[name] for name in ("model_name", "model_version", "training_id")}
        found = {**named, **self.finding.document(), "regime": self.regime, "state": self.state, "loss": loss}
        return json.loads(json.dumps(found, default=str))


def drift(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    symbols: Sequence[str],
    now: datetime,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Look at every version of ``symbols``; write findings to the ledger and the whole to MLflow.

    The report's partitions are ``regime|symbol``. States: undrifted, drifted, confirmed (drifted, and realised loss
    bears it out), untold (too little reference or too few rows, with the reason), unreadable (its features are no
    longer kept), no_model. ``tags`` go on the MLflow run; the same look again makes no second one.
    """
    started = time.perf_counter()
    report = Report()
    versions = _versions(ledger)
    wanted = {cell for cell in versions if cell[0] in set(symbols)}
    for symbol in sorted(set(symbols) - {symbol for symbol, _ in wanted}):
        report.say(f"{ALL}|{symbol}", "no_model", reason="it has no version: there is nothing to compare with")
    groups = _groups(versions, wanted)
    looked: list[Looked] = []
    for done, (regime, table) in enumerate(sorted(groups), start=1):
        recipe = _recipe(ledger, settings, table)
        pool = groups[regime, table]
        ours = sorted(symbol for symbol, _ in pool if (symbol, regime) in wanted)
        if recipe is None:
            for symbol in ours:
                report.say(f"{regime}|{symbol}", "unreadable", reason=f"its model reads {table}, no longer kept")
            continue
        found, calibration = _look(lake, ledger, registry, settings, recipe, regime, pool, ours)
        _log(registry, regime, calibration, found, tags or {})
        looked += found
        progress("regimes looked at for drift", done, len(groups))
    _note(ledger, symbols, looked, now)
    for one in looked:
        finding = one.finding
        figures = {"flagged": finding.flagged, "needed": finding.k, "share": finding.share}
        report.say(
            f"{one.regime}|{one.symbol}",
            one.state,
            reason=one.sentence,
            version=one.version["model_version"],
            **({} if finding.alarm is None else figures),
        )
    report.totals = {
        "symbols": len(symbols),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def _versions(ledger: Ledger) -> dict[Cell, Row]:
    """The version that each cell is served by, or would be: production's, else the candidate's."""
    candidates = {cell: row for cell, row in ledger.candidates().items() if row["model_version"] is not None}
    return candidates | ledger.production()


def _groups(versions: Mapping[Cell, Row], wanted: set[Cell]) -> dict[tuple[str, str], dict[Cell, Row]]:
    """The cells by regime and feature table, whole pools in which at least one cell is wanted."""
    groups: dict[tuple[str, str], dict[Cell, Row]] = {}
    for cell, row in versions.items():
        groups.setdefault((cell[1], row["features_set"]), {})[cell] = row
    return {key: pool for key, pool in groups.items() if wanted & pool.keys()}


def _recipe(ledger: Ledger, settings: Settings, table: str) -> Recipe | None:
    """What a feature table is made of; None where this program no longer makes the same numbers."""
    current = recipe_of(settings)
    return current if current.table == table else restored(ledger.recipes().get(table, {}), table)


def _look(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    recipe: Recipe,
    regime: str,
    pool: Mapping[Cell, Row],
    ours: Sequence[str],
) -> tuple[list[Looked], Calibration]:
    """The looks at ``ours``, calibrated on the references of the whole pool."""
    parameters = settings.drift
    rows = _rows(lake, recipe, regime, [symbol for symbol, _ in pool])
    predictions = _predictions(lake, pool)
    reference, newest = _cut(rows, _seen(pool, predictions, registry.trained_until(regime)), parameters)
    calibration = calibrate(reference, recipe.columns, parameters)
    findings = examine_all(newest.filter(pl.col("symbol").is_in(ours)), calibration, parameters)
    for symbol in ours:
        findings.setdefault(symbol, DriftFinding(symbol, None, f"{symbol}: no features are warm yet"))
    alarmed = [symbol for symbol in ours if findings[symbol].alarm]
    telling = [symbol for symbol in alarmed if looks_elsewhere(pool[symbol, regime], settings) is None]
    outcomes = _outcomes(lake, ledger, settings, predictions, telling)
    return [
        Looked(
            symbol,
            regime,
            pool[symbol, regime],
            findings[symbol],
            _confirmation(findings[symbol], outcomes, settings) if symbol in alarmed else None,
        )
        for symbol in ours
    ], calibration


def _rows(lake: Lake, recipe: Recipe, regime: str, symbols: Sequence[str]) -> pl.DataFrame:
    """The features of a regime past their warm-up, of each symbol's newest listing: another one is another company."""
    features = lake.read(recipe.table, symbols=symbols)
    listings = lake.read("bars", symbols=symbols, columns=["symbol", "timestamp", "listing"])
    newest = pl.col("listing") == pl.col("listing").max().over("symbol")
    kept = listings.filter(recipe.feature_set.warm() & newest).select("symbol", "timestamp")
    rows = features.join(kept, on=["symbol", "timestamp"], how="semi")
    return rows if regime == ALL else rows.filter(pl.col("regime") == regime)


def _predictions(lake: Lake, pool: Mapping[Cell, Row]) -> pl.DataFrame:
    """What these versions have said, out of fold and ahead of the outcome, each by the voice that speaks for it.

    Ahead only that one was stored; nobody speaks for a candidate but itself.
    """
    said = [(*cell, row["training_id"], row.get("speaker") == "linear") for cell, row in pool.items()]
    ours = pl.DataFrame(said, schema={**dict.fromkeys(KEY, pl.String), "linear": pl.Boolean}, orient="row")
    stored = lake.read("predictions", symbols=ours["symbol"].to_list())
    voice = pl.when(pl.col("origin") == OUT_OF_FOLD).then(spoken("p_up")).otherwise("p_up")
    return stored.join(ours, on=KEY).with_columns(p_up=voice).drop("linear")


def _seen(pool: Mapping[Cell, Row], predictions: pl.DataFrame, told: Mapping[tuple[str, str], date]) -> pl.DataFrame:
    """Symbol and ``trained_until``, the end of what the last fit of its version has seen.

    That has seen more than was predicted out of fold: what is served is fitted on the vault too. ``told`` is the day
    of the last row by version; where nothing is told of one, it is the last of its predictions. A symbol of which
    nothing was predicted has no reference: a pooled version may have been trained before its time.
    """
    predicted = (
        predictions.filter(pl.col("origin") == OUT_OF_FOLD)
        .group_by("symbol")
        .agg(predicted_until=pl.col("timestamp").max())
    )
    days = [(symbol, told.get((row["model_name"], row["model_version"]))) for (symbol, _), row in pool.items()]
    named = pl.DataFrame(days, schema={"symbol": pl.String, "day": pl.Date}, orient="row")
    end_of_day = pl.col("day").dt.offset_by("1d").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    until = pl.coalesce(end_of_day - timedelta(microseconds=1), "predicted_until")
    return predicted.join(named, on="symbol").select("symbol", trained_until=until)


def _cut(rows: pl.DataFrame, seen: pl.DataFrame, parameters: DriftParameters) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The reference and the newest two windows of each symbol.

    The reference ends with what the version has ``seen``; what came between it and the windows is in neither.
    """
    place = pl.col("timestamp").rank("ordinal", descending=True).over("symbol")
    newest = rows.filter(place <= parameters.pair)
    older = rows.filter(place > parameters.pair).join(seen, on="symbol", how="left")
    return older.filter(pl.col("timestamp") <= pl.col("trained_until")).drop("trained_until"), newest


def _outcomes(
    lake: Lake, ledger: Ledger, settings: Settings, predictions: pl.DataFrame, symbols: Sequence[str]
) -> pl.DataFrame:
    """Predictions of these symbols beside what followed, where it is known.

    Of a prediction ahead, ``prior`` is the last that was known out of fold: the share of rising bars in the training.
    """
    said = predictions.filter(pl.col("symbol").is_in(symbols))
    if said.is_empty():
        return said.with_columns(up=pl.lit(None, pl.Boolean))
    names = calendars_of(ledger)
    bars, _ = adjusted_bars(lake, settings, names, symbols)
    labels = open_to_open(with_known_at(bars, settings, names), settings.learning.horizon)
    known = labels.select("symbol", "timestamp", "up").drop_nulls()
    told = said.join(known, on=["symbol", "timestamp"], how="inner").sort("symbol", "timestamp")
    return told.with_columns(pl.col("prior").forward_fill().over("symbol"))


def _confirmation(finding: DriftFinding, outcomes: pl.DataFrame, settings: Settings) -> Confirmation:
    """Whether the predictions made ahead since the windows began lose more than those out of fold."""
    own = outcomes.filter(pl.col("symbol") == finding.symbol)
    ahead = own.filter(pl.col("origin").is_in(AHEAD), pl.col("timestamp") >= finding.first)
    out_of_fold = own.filter(pl.col("origin") == OUT_OF_FOLD)
    return confirmed(finding, ahead, out_of_fold, settings.drift, horizon=settings.learning.horizon)


def _note(ledger: Ledger, symbols: Sequence[str], looked: Sequence[Looked], now: datetime) -> None:
    """What is found now takes the place of what was found of these symbols before."""
    rows = [
        {"symbol": one.symbol, "rule": rule, "day": (one.finding.last or now).date(), "seen_at": now}
        for one in looked
        for rule in one.rules
    ]
    ledger.note_findings(dict.fromkeys(symbols), RULES, rows)


def _log(
    registry: Registry, regime: str, calibration: Calibration, looked: Sequence[Looked], tags: Mapping[str, str]
) -> None:
    documents = [one.document for one in looked]
    digest = hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()[:32]
    states = [one.state for one in looked]
    counts = {state: float(states.count(state)) for state in ("undrifted", "drifted", "confirmed", "untold")}
    pooled = {"replays": calibration.replays, "effective": calibration.effective, "features_needed": calibration.k}
    registry.log_drift(
        f"drift {regime}",
        digest,
        metrics=counts | {name: float(figure) for name, figure in pooled.items() if figure is not None},
        tags={**tags, "regime": regime},
        report={"findings": documents, "thresholds": calibration.only([]).document()},
    )


# -- what the gate, the checks and the sensor read --------------------------------------------------------------------


def on_record(
    ledger: Ledger, regime: str, candidates: Mapping[str, Row], production: Mapping[Cell, Row]
) -> dict[str, Drift]:
    """What the last look found of the symbols of these candidates, for the gate.

    A look at a cell is at its version in production, where there is one. That this loses more says nothing against a
    successor: turned down for it, none could ever heal a drift. What was found before the version that a look would now
    be at was there is out of date.
    """
    confirmed_too = {row["symbol"] for row in ledger.findings([rule_of(CONFIRMED, regime)])}
    found = {}
    for row in ledger.findings([rule_of(DRIFTED, regime)]):
        symbol = row["symbol"]
        candidate, serving = candidates.get(symbol), production.get((symbol, regime))
        since = serving["decided_at"] if serving else candidate and candidate["trained_at"]
        if candidate is None or row["seen_at"] < since:
            continue
        own = serving is None or serving["training_id"] == candidate["training_id"]
        found[symbol] = _told(row, own, symbol in confirmed_too)
    return found


def _told(finding: Row, own: bool, losing: bool) -> Drift:
    whose = "its features have drifted" if own else "the features of the version in production have drifted"
    loss = "and its realised loss confirms it" if losing else "and no realised loss confirms it"
    sentence = f"{finding['symbol']}: {whose}, seen on {finding['seen_at']:%Y-%m-%d}, {loss}"
    return Drift(alarmed=True, confirmed=own and losing, sentence=sentence)


def drift_verdict(ledger: Ledger) -> Verdict:
    """The versions whose features have drifted, over the whole universe; how many nothing can be told of is said."""
    verdict = _verdict(ledger, DRIFTED, "models see features unlike those they were trained on")
    untold = _verdict(ledger, UNTOLD, "").count
    if not untold:
        return verdict
    return Verdict(
        verdict.passed, verdict.count, verdict.sample, f"{verdict.sentence}; of {untold:,} nothing can be told yet"
    )


def confirmed_verdict(ledger: Ledger) -> Verdict:
    """The drifted versions that lose more than their training led to expect, over the whole universe."""
    return _verdict(ledger, CONFIRMED, "drifted models lose more than their training led to expect")


def confirmed_symbols(ledger: Ledger) -> set[str]:
    """The symbols of which some version has drifted and loses more for it."""
    return {symbol for symbol, _, _ in _found(ledger, CONFIRMED)}


def _found(ledger: Ledger, what: str) -> list[tuple[str, str, Any]]:
    """Symbol, regime and day of everything that a rule found, retired symbols aside."""
    members = {row["symbol"] for row in ledger.universe()}
    rules = [rule_of(what, regime) for regime in REGIMES]
    return [
        (row["symbol"], row["rule"].partition("|")[2], row["day"])
        for row in ledger.findings(rules)
        if row["symbol"] in members
    ]


def _verdict(ledger: Ledger, what: str, words: str) -> Verdict:
    wrong = [f"{symbol} {regime} {day}" for symbol, regime, day in _found(ledger, what)]
    sentence = f"{len(wrong):,} {words}" if wrong else f"no {words}"
    return Verdict(not wrong, len(wrong), wrong[:SAMPLE], sentence)

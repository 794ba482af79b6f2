"""Third station: a candidate a (symbol, regime), trained where something changed and logged as a version.

What is unchanged is told by ``training_id``, the hash of everything that shapes the fit: then nothing is trained and
nothing written; where other settings or a failure came in between, the version there is becomes the candidate again.
A killed training is repeated as if it had not been: predictions are keyed by training_id, and the version is looked for
in MLflow before one is written. Fits run side by side, one thread each; the parent alone writes, while they go on.

Where a symbol has too little history in a regime, its candidate is the pooled model of that regime (``stations.pool``):
the ledger's row of the cell then names that version.
"""

import json
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

import polars as pl

from alpha_assets.quant import metrics
from alpha_assets.quant.heads import ANSWERS, Learnt, Refusal, blocks, enough, learn
from alpha_assets.quant.labels import open_to_open, triple_barrier, untrainable_regimes
from alpha_assets.quant.learners import libraries, training_id
from alpha_assets.quant.parameters import SIGNAL_LABELS, GateParameters, LearningParameters
from alpha_assets.quant.pattern_heads import EVENT, pattern_heads
from alpha_assets.quant.schema import TIME, empty
from alpha_assets.quant.search import Found, search
from alpha_assets.quant.splits import Fold, learnt_until, vault_begins
from alpha_assets.quant.symbols import slug
from alpha_assets.quant.weights import recency
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.portrait import portrait
from alpha_assets.stations.quarantine import TRAINABLE
from alpha_assets.stations.recognise import TABLE as PATTERN_TABLE
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import Recipe, recipe_of, table_of
from alpha_assets.stations.trials import configuration, note_training, tried_so_far
from alpha_assets.stores.lake import PREDICTIONS, Lake, declared
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry, Version

#: The regime of every bar: baseline, and fallback where a regime has no promoted model.
ALL = "all"

OUT_OF_FOLD = "oof"

#: States in which the same training data give the same candidate again.
SETTLED = ("trained", "pooled", "refused")

#: The tag of a pooled version that says what a search made of its parameters, as JSON.
TURNED = "searched"

#: The tag of a pooled version that says when it was trained, in ISO format: its age is not that of who leans on it.
TRAINED_AT = "trained_at"

#: Fits whose predictions share one commit of the lake; so many are logged before the next ones are looked at.
FITS_A_COMMIT = 16

#: Metrics of a version: MLflow keeps a row each, and the rest is in the report.
METRICS = 60

#: Of each head, what is worth a metric; everything else is in the report.
TELLING: Mapping[str, tuple[str, ...]] = {
    "return": ("rmse", "r2", "direction_accuracy", "ic", "rank_ic"),
    "direction": ("accuracy", "f1", "log_loss", "ic", "rank_ic"),
    "signal": ("accuracy", "f1", "log_loss", "ic"),
    "pattern": ("accuracy", "log_loss", "ic"),
}

KEYED: Mapping[str, pl.DataType] = {"symbol": pl.String(), "timestamp": TIME}

#: A (symbol, regime).
Cell = tuple[str, str]


def key_of(cell: Cell) -> str:
    """The partition key of a cell."""
    symbol, regime = cell
    return f"{regime}|{symbol}"


@dataclass(frozen=True)
class Task:
    """What a worker gets: the labelled rows of a cell (``name`` tells which), or of a pool, and what they are.

    ``rows`` are those of the cell; ``spans`` are timestamp, known_at and label_end of all labelled rows, and ``member``
    says which of them are of the cell: folds are cut before the regime is chosen. ``stamps`` are the bars that ages are
    counted in, those among them that were thinned out. ``events`` are the patterns that
    fired at bars of ``rows``, None where no head reads them. ``parameters`` are those of the settings, or what a search
    of the pool made of them; a pool's own are searched by its worker. ``shut`` is where the vault begins, None: none.
    """

    name: str
    identity: str
    rows: pl.DataFrame
    spans: pl.DataFrame
    member: pl.Series
    stamps: pl.Series
    parameters: LearningParameters
    events: pl.DataFrame | None = None
    shut: datetime | None = None
    pooled: bool = False


@dataclass(frozen=True)
class Fit:
    """What a worker hands back: a candidate as native files with its evidence, or why there is none.

    ``seconds`` are of the processor: on the wall a fit takes as long as its neighbours let it. ``found`` holds the
    parameters that it was made by, and what was tried for them.
    """

    name: str
    training_id: str
    seconds: float
    files: Mapping[str, bytes] | None
    evidence: pl.DataFrame | None
    report: Mapping[str, Any] | None
    problem: str | None
    found: Found
    failed: bool = False


def labelled_rows(
    lake: Lake, settings: Settings, names: Mapping[str, str], symbols: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Features beside labels, one row a bar, sorted by symbol and timestamp; and why each other symbol is left out.

    ``warm`` says whether the bar lies past the warm-up of every feature.
    """
    bars, held = adjusted_bars(lake, settings, names, symbols)
    labels = _labels(with_known_at(bars, settings, names), settings.learning)
    recipe = recipe_of(settings)
    warm = bars.select("symbol", "timestamp", warm=recipe.feature_set.warm())
    features = lake.read(recipe.table, symbols=symbols)
    if features.is_empty():
        # A table that nobody has written yet has no columns to join and choose.
        features = empty({**KEYED, "regime": pl.String(), **dict.fromkeys(recipe.columns, pl.Float32())})
    key = ["symbol", "timestamp"]
    return features.join(labels, on=key, maintain_order="left").join(warm, on=key, maintain_order="left"), held


def _labels(bars: pl.DataFrame, learning: LearningParameters) -> pl.DataFrame:
    """``open_to_open``, and the ``barrier`` beside it where the three classes are read from that.

    Both are known when the whole horizon is over (``quant.labels``), so one purge holds for them; and rows weigh by the
    whole horizon whichever is met first, as they do for the other heads.
    """
    labels = open_to_open(bars, learning.horizon)
    if learning.signal_label == SIGNAL_LABELS[0]:
        return labels
    met = triple_barrier(bars, learning.horizon, learning.profit_barrier, learning.stop_barrier)
    return labels.join(met.select(*KEYED, "barrier"), on=list(KEYED), how="left", maintain_order="left")


def data_versions(lake: Lake, settings: Settings) -> dict[str, str]:
    """Tags that name the versions of the tables that a training is about to read.

    To be asked before it reads: a refresh beside it makes newer ones, which no fit of it has seen.
    """
    return {
        "bars_version": str(lake.version("bars")),
        "features_version": str(lake.version(table_of(settings))),
    }


def shut_from(lake: Lake, settings: Settings) -> datetime | None:
    """Where the vault begins, by the dates of the whole universe: one border for all, whoever is trained now."""
    share = settings.learning.vault_share
    return vault_begins(lake.read("bars", columns=["timestamp"])["timestamp"], share) if share else None


def untrainable(lake: Lake, settings: Settings) -> Mapping[str, str]:
    """``untrainable_regimes`` by the stored regimes of the whole universe.

    A symbol has few spells of a regime: by those of its own symbols each run would have refused another horizon.
    """
    regimes = lake.read(table_of(settings), columns=["symbol", "timestamp", "regime"])
    return untrainable_regimes(regimes, settings.learning.horizon)


def pattern_events(lake: Lake, settings: Settings, symbols: Sequence[str]) -> pl.DataFrame | None:
    """What the pattern heads learn from: every event of ``symbols`` that says a direction; None without such heads."""
    if not pattern_heads(settings.learning):
        return None
    fired = lake.read(PATTERN_TABLE, symbols=symbols, columns=[*KEYED, *EVENT])
    return fired.filter(pl.col("direction") != 0)


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
    cells: Sequence[Cell],
    now: datetime,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Train the candidate of each (symbol, regime) whose training data changed; the report is by ``key_of`` the cell.

    States: trained, pooled (too little history of its own: the regime's pooled model is its candidate), unchanged
    (points to the version there is), refused (too little data and no pooled model, or a horizon too long for the
    regime's spells, with the reason), failed (the fit raised; the others go on), held (an action that cannot be),
    quarantined, too_few_bars and empty (nothing to learn from, with the reason). ``tags`` go on every MLflow run.
    What was looked at is recorded whatever the state, or automation would ask for the same look again and again; where
    no version is made, one that these settings made before stays the cell's candidate.
    """
    started = time.perf_counter()
    report = Report()
    symbols = list(dict.fromkeys(symbol for symbol, _ in cells))
    told = {**(tags or {}), **data_versions(lake, settings)}
    rows, held = labelled_rows(lake, settings, calendars_of(ledger), symbols)
    states = ledger.states()
    found = {str(symbol): part for (symbol,), part in usable(rows).group_by("symbol", maintain_order=True)}
    idle = {symbol: ("held", reason) for symbol, reason in held.items()}
    for symbol in symbols:
        if symbol not in found and symbol not in idle:
            idle[symbol] = lacking(states.get(symbol), settings) or ("empty", NO_FEATURES)
    known = ledger.candidates()
    ledger.note_candidates(_looked_at([cell for cell in cells if cell[0] in idle], idle, states, known, now))
    for cell in cells:
        if cell[0] in idle:
            state, reason = idle[cell[0]]
            report.say(key_of(cell), state, reason=reason)
    desk = _Desk(lake, ledger, registry, settings, states, now, told, report)
    fired = pattern_events(lake, settings, symbols)
    changed = desk.sort({cell: found[cell[0]] for cell in cells if cell[0] in found}, fired)
    begun = begun_trainings(lake, changed.values())
    work = desk.without_made(changed, begun)
    note_training(ledger, settings, desk.regimes(), now)
    done = 0
    for fits in _batches(fitted(work.values(), settings)):
        append_predictions(lake, fits, now, torn=begun)
        for fit in fits:
            desk.keep(fit, work[fit.name])
            done += 1
            progress("candidates trained", done, len(work), fit.name)
    report.totals = {
        "symbols": len(symbols),
        "cells": len(cells),
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


NO_FEATURES = "no bar has features and a label yet: refresh the symbol"


class _Desk:
    """Decides what each cell of one run needs, and writes down what became of it."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        registry: Registry,
        settings: Settings,
        states: Mapping[str, Row],
        now: datetime,
        tags: Mapping[str, str],
        report: Report,
    ) -> None:
        self._lake = lake
        self._ledger = ledger
        self._registry = registry
        self._settings = settings
        self._states = states
        self._now = now
        self._tags = tags
        self._report = report
        self._known = ledger.candidates()
        self._pools: dict[str, tuple[Version, Mapping[str, str]] | None] = {}
        # Without MLflow's database there is no version left to point to: everything is logged anew.
        self._settled = SETTLED if registry.exists() else ()
        self._cells: dict[str, Cell] = {}
        self._untrainable = untrainable(lake, settings)
        self._shut = shut_from(lake, settings)

    def sort(self, found: Mapping[Cell, pl.DataFrame], fired: pl.DataFrame | None) -> dict[str, Task]:
        """The cells whose training changed, by name; all others are recorded. ``fired`` are their pattern events."""
        work, settled = {}, []
        events = {} if fired is None else fired.partition_by("symbol", as_dict=True)
        for cell, whole in found.items():
            own = None if fired is None else events.get((cell[0],), fired.clear())
            task, row = self._look(cell, whole, own)
            if task is not None:
                work[task.name] = task
                self._cells[task.name] = cell
            elif row is not None:
                settled.append(row)
        self._ledger.note_candidates(settled)
        return work

    def without_made(self, changed: Mapping[str, Task], begun: Mapping[str, datetime]) -> dict[str, Task]:
        """The cells that have to be fitted; of the others the version there is, is recorded as the candidate again.

        ``begun`` are ``begun_trainings``: nothing else can have a version, and MLflow is asked for no more. Fitted anew
        a version would get other predictions in place of those that it was judged by.
        """
        work, again = dict(changed), []
        for name, task in changed.items():
            cell = self._cells[name]
            version = self._registry.find(model_name(*cell), task.identity) if task.identity in begun else None
            if version is None:
                continue
            reason = _trained_on(task)
            self._report.say(name, "unchanged", version=version.number, reason=reason)
            row = self._record(cell, task.identity, "trained", reason, task.rows.height, version)
            again.append({**row, "trained_at": begun[task.identity]})
            del work[name], self._cells[name]
        self._ledger.note_candidates(again)
        return work

    def regimes(self) -> set[str]:
        """The regimes of which a cell has to be fitted."""
        return {regime for _, regime in self._cells.values()}

    def _look(self, cell: Cell, whole: pl.DataFrame, events: pl.DataFrame | None) -> tuple[Task | None, Row | None]:
        """What to fit, or what to record instead (None: nothing new)."""
        _, regime = cell
        learning = self._learning(regime)
        task = task_of(
            *(key_of(cell), thinned(whole, learning), regime, recipe_of(self._settings), learning, events, self._shut),
            stamps=whole["timestamp"],
        )
        if (reason := self._untrainable.get(regime)) is not None:
            return None, self._settle(cell, task, "refused", reason, None)
        refusal = enough(task.rows, learning)
        if refusal is None:
            before = self._known.get(cell)
            unchanged = self._is_unchanged(cell, task.identity, "trained", "refused")
            return (task, None) if not unchanged else (None, self._unchanged(cell, before))
        pool = self._pool(regime)
        if pool is None:
            reason = f"{refusal.reason}; and there is no pooled model of «{regime}» to stand in: train the pool"
            return None, self._settle(cell, task, "refused", reason, None)
        version, _ = pool
        reason = f"{refusal.reason}: {version.name} version {version.number}, of all symbols, stands in"
        return None, self._settle(cell, task, "pooled", reason, pool)

    def _learning(self, regime: str) -> LearningParameters:
        """The parameters of the settings, with what the search of the regime's pool made of them, if there was one."""
        learning = self._settings.learning
        pool = self._pool(regime) if learning.search_trials else None
        return learning if pool is None else turned_by(learning, pool[1])

    def _is_unchanged(self, cell: Cell, identity: str, *states: str) -> bool:
        before = self._known.get(cell)
        return (
            before is not None
            and before["training_id"] == identity
            and before["state"] in states
            and before["state"] in self._settled
            # One that was refused and kept its version is known by that: these very rows made it.
            and (before["state"] != "refused" or before["model_version"] is None)
        )

    def _settle(
        self, cell: Cell, task: Task, state: str, reason: str, pool: tuple[Version, Mapping[str, str]] | None
    ) -> Row | None:
        """Record a cell that is not fitted; the same as before is unchanged."""
        identity = task.identity if pool is None else pool[1]["training_id"]
        if self._is_unchanged(cell, identity, state):
            return self._unchanged(cell, self._known[cell])
        version = None if pool is None else pool[0]
        told = {} if version is None else {"version": version.number, "model": version.name}
        self._report.say(key_of(cell), state, reason=reason, rows=task.rows.height, **told)
        if pool is None:
            return self._without_version(cell, identity, state, reason, task.rows.height)
        row = self._record(cell, identity, state, reason, task.rows.height, version)
        made = pool[1].get(TRAINED_AT)
        return row if made is None else {**row, "trained_at": datetime.fromisoformat(made)}

    def _unchanged(self, cell: Cell, before: Row | None) -> Row | None:
        """Further bars may have left a candidate as it was: they are noted; when it was trained stays true."""
        assert before is not None
        self._report.say(key_of(cell), "unchanged", version=before["model_version"], reason=before["reason"])
        state = self._states[cell[0]]
        if state["bars"] == before["bars"]:
            return None
        return {**before, "bars": state["bars"], "trained_until": state["last_bar"]}

    def _pool(self, regime: str) -> tuple[Version, Mapping[str, str]] | None:
        """The pooled model of a regime that reads today's features by today's parameters, with its tags."""
        if regime not in self._pools:
            self._pools[regime] = newest_pool(self._registry, self._settings, regime)
        return self._pools[regime]

    def keep(self, fit: Fit, task: Task) -> None:
        """Log a fit and record it, or record why there is none."""
        cell = self._cells[fit.name]
        if fit.files is None or fit.evidence is None:
            state = "failed" if fit.failed else "refused"
            row = self._without_version(cell, fit.training_id, state, str(fit.problem), task.rows.height)
            self._ledger.note_candidates([row])
            self._report.say(fit.name, state, reason=fit.problem)
            return
        symbol, regime = cell
        trials = str(tried_so_far(self._ledger, self._settings, regime))
        tags = {**self._tags, "symbol": symbol, "regime": regime, "trials_so_far": trials}
        version, figures = register(self._registry, self._settings, model_name(*cell), fit, task, tags)
        row = self._record(cell, fit.training_id, "trained", _trained_on(task), task.rows.height, version)
        self._ledger.note_candidates([row])
        shown = {name: figure for name, figure in figures.items() if name in ("ts_ic", "accuracy")}
        seconds = round(fit.seconds, 3)
        self._report.say(fit.name, "trained", version=version.number, rows=task.rows.height, seconds=seconds, **shown)

    def _without_version(self, cell: Cell, identity: str, state: str, reason: str, rows: int) -> Row:
        """Record a look that made no version; one that these settings made before stays the cell's candidate.

        What it said out of fold is as true as it was. Left out, its symbol would fall out of the family's evidence, and
        come back with the next fit: two other families to judge, each of which spends level.
        """
        row = self._record(cell, identity, state, reason, rows, None)
        before = self._known.get(cell)
        if before is None or before["model_version"] is None or not _is_of(before, self._settings):
            return row
        return {**before, **{name: row[name] for name in ("state", "reason", "bars", "trained_until")}}

    def _record(
        self, cell: Cell, identity: str, state: str, reason: str, rows: int, version: Version | None
    ) -> dict[str, Any]:
        symbol, regime = cell
        return {
            "symbol": symbol,
            "regime": regime,
            "state": state,
            "reason": reason,
            "training_id": identity,
            "features_set": table_of(self._settings),
            "configuration": configuration(table_of(self._settings), self._settings.learning),
            "model_name": version.name if version else None,
            "model_version": version.number if version else None,
            "model_location": version.location if version else None,
            "model_digest": version.digest if version else None,
            "horizon": self._settings.learning.horizon,
            "rows": rows,
            "bars": self._states[symbol]["bars"],
            "trained_until": self._states[symbol]["last_bar"],
            "trained_at": self._now,
        }


def _trained_on(task: Task) -> str:
    return f"trained on {task.rows.height} bars until {task.rows['timestamp'][-1]:%Y-%m-%d}"


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


def _looked_at(
    cells: Sequence[Cell],
    idle: Mapping[str, tuple[str, str]],
    states: Mapping[str, Row],
    known: Mapping[Cell, Row],
    now: datetime,
) -> list[Row]:
    """What was seen of the symbols that gave nothing to train on; the version they may have stays theirs."""
    return [
        {
            "symbol": symbol,
            "regime": regime,
            "state": idle[symbol][0],
            "reason": idle[symbol][1],
            "bars": states[symbol]["bars"],
            "trained_until": states[symbol]["last_bar"],
            "trained_at": _made_at(known.get((symbol, regime))) or now,
        }
        for symbol, regime in cells
        if states.get(symbol, {}).get("bars")
    ]


def _is_of(candidate: Row, settings: Settings) -> bool:
    """Whether these settings made a candidate; of one from before that was remembered its feature set alone tells."""
    table = table_of(settings)
    made_by = (None, configuration(table, settings.learning))
    return bool(candidate["features_set"] == table and candidate["configuration"] in made_by)


def _made_at(before: Row | None) -> datetime | None:
    """When the version of a cell was trained: its age is not the age of the last look."""
    return None if before is None or before["model_version"] is None else before["trained_at"]


def thinned(rows: pl.DataFrame, parameters: LearningParameters) -> pl.DataFrame:
    """At most ``max_rows`` rows of one symbol, evenly spaced: minutes overlap, and more of them teach little more."""
    return rows if rows.height <= parameters.max_rows else rows.gather_every(-(-rows.height // parameters.max_rows))


def task_of(
    name: str,
    rows: pl.DataFrame,
    regime: str,
    recipe: Recipe,
    parameters: LearningParameters,
    events: pl.DataFrame | None = None,
    shut: datetime | None = None,
    *,
    stamps: pl.Series | None = None,
    pooled: bool = False,
) -> Task:
    """The training of one regime's rows among all labelled ``rows``, which are sorted by timestamp.

    ``stamps`` are those of the rows before they were thinned, if they were.
    """
    bars = (rows["timestamp"] if stamps is None else stamps).unique()
    member = rows["regime"].eq_missing(regime) if regime != ALL else pl.repeat(True, rows.height, eager=True)
    chosen = rows.filter(member).select(
        *("symbol", "timestamp", "known_at", "label_start", "held_until", "label_end"),
        *("label_return", "scaled_return", "scale", "up", "past_return", "momentum_return"),
        *(name for name in ("barrier",) if name in rows.columns),
        *recipe.columns,
    )
    ends = ("known_at", "label_start", "held_until", "label_end")
    labels = (name for name in ("label_return", "barrier") if name in chosen.columns)
    seen = chosen.select("symbol", "timestamp", *ends, *labels, *recipe.columns)
    if parameters.recency_half_life:
        # What a row weighs is told by bars between the rows, too.
        seen = seen.with_columns(recency(chosen, bars, parameters.recency_half_life))
    fired = None if events is None else events.join(chosen, on=list(KEYED), how="semi", maintain_order="left")
    identity = training_id(
        seen, feature_set=recipe.table, parameters=parameters, versions=libraries(parameters), events=fired
    )
    return Task(
        name=name,
        identity=identity,
        rows=chosen,
        spans=rows.select("timestamp", "known_at", "label_end"),
        member=member,
        stamps=bars,
        parameters=parameters,
        events=fired,
        shut=shut,
        pooled=pooled,
    )


def fitted(tasks: Iterable[Task], settings: Settings) -> Iterator[Fit]:
    """The fits in the order of the tasks, as they come in."""
    tasks = list(tasks)
    if not tasks:
        return iter(())
    from joblib import Parallel, delayed

    columns = recipe_of(settings).columns
    workers = settings.workers or -1
    # One fit needs no other process, and starting one takes longer than most fits.
    backend = settings.workers_backend if len(tasks) > 1 else "threading"
    parallel = Parallel(n_jobs=workers, backend=backend, return_as="generator")
    return parallel(delayed(_fit)(task, columns, settings.gate) for task in tasks)


def _batches(fits: Iterator[Fit]) -> Iterator[list[Fit]]:
    """The fits as they come in, some at a time: a commit of the lake costs as much as a fit."""
    while some := list(islice(fits, FITS_A_COMMIT)):
        yield some


def _fit(task: Task, columns: Sequence[str], rules: GateParameters) -> Fit:
    from threadpoolctl import threadpool_limits

    started = time.thread_time()
    try:
        # A sum over two threads rounds otherwise than over one, and the same rows are to give the same bytes.
        with threadpool_limits(1):
            least = task.parameters.min_rows // 2
            burn_in, folds = blocks(task.spans, task.member.to_numpy(), task.parameters, least, task.shut)
            found = _searched(task, columns, folds, rules)
            learnt = learn(
                *(task.rows, columns, burn_in, folds, found.parameters),
                stamps=task.stamps,
                events=task.events,
                pooled=task.pooled,
            )
            files = learnt.candidate.files() if isinstance(learnt, Learnt) else None
    except Exception as error:  # one fit of many: it becomes a record with its reason, and the others go on
        reason = f"the fit failed: {type(error).__name__}: {error}"
        seconds, nothing = time.thread_time() - started, Found(task.parameters)
        return Fit(task.name, task.identity, seconds, None, None, None, reason, nothing, failed=True)
    seconds = time.thread_time() - started
    if isinstance(learnt, Refusal):
        return Fit(task.name, task.identity, seconds, None, None, None, learnt.reason, found)
    evidence = learnt.evidence.join(learnt_until(task.rows, folds), on=list(KEYED), maintain_order="left")
    report = {**learnt.report, "search": found.document()} if found.trials else learnt.report
    return Fit(task.name, task.identity, seconds, files, evidence, report, None, found)


def _searched(task: Task, columns: Sequence[str], folds: Sequence[Fold], rules: GateParameters) -> Found:
    """What a search made of a pool's parameters; of a symbol's own they were found by its pool before."""
    parameters = task.parameters
    if not (task.pooled and parameters.search_trials and folds):
        return Found(parameters)
    until = time.monotonic() + (parameters.search_seconds or math.inf)
    return search(task.rows, task.spans, columns, folds[0], parameters, rules, lambda: time.monotonic() > until)


def turned_by(learning: LearningParameters, tags: Mapping[str, str]) -> LearningParameters:
    """The parameters with what the search behind a pooled version, of these ``tags``, made of them."""
    return replace(learning, **json.loads(tags.get(TURNED, "{}")))


def model_name(symbol: str, regime: str = ALL) -> str:
    """The registered model of a (symbol, regime); MLflow takes letters, digits, dots and dashes."""
    return f"{slug(symbol)}.{regime}"


def pool_name(regime: str) -> str:
    """The registered model of a regime over all symbols; no symbol's model has this name, «pooled» being no regime."""
    return f"{regime}.pooled"


def family_of(settings: Settings) -> str:
    """What a pooled version has to share with a run that leans on it: features, parameters and libraries."""
    nothing = empty(KEYED)
    learning = settings.learning
    return training_id(nothing, feature_set=table_of(settings), parameters=learning, versions=libraries(learning))


def newest_pool(registry: Registry, settings: Settings, regime: str) -> tuple[Version, Mapping[str, str]] | None:
    """The newest pooled version of a regime that these settings made, with its tags; None where there is none.

    Other settings may have made newer ones since: who goes back to these has this one again.
    """
    return registry.newest(pool_name(regime), recipe=family_of(settings)) if registry.exists() else None


def pooled_candidate(registry: Registry, settings: Settings, regime: str) -> Row | None:
    """What a decision says of the pooled version of a regime that these settings made; None where there is none."""
    newest = newest_pool(registry, settings, regime)
    if newest is None:
        return None
    version, tags = newest
    return {
        "training_id": tags["training_id"],
        "features_set": table_of(settings),
        "model_name": version.name,
        "model_version": version.number,
        "model_location": version.location,
        "model_digest": version.digest,
        "horizon": settings.learning.horizon,
    }


def register(
    registry: Registry,
    settings: Settings,
    name: str,
    fit: Fit,
    task: Task,
    tags: Mapping[str, str],
    *,
    drawn: bool = False,
) -> tuple[Version, Mapping[str, Any]]:
    """The version of a fit, logged unless this very training made one before, and the figures of its evidence.

    ``tags`` hold the ``data_versions`` that it was read from. ``drawn``: with its picture, which takes longer than to
    log the rest.
    """
    assert fit.files is not None
    assert fit.evidence is not None
    rows = task.rows
    labels = rows.select("symbol", "timestamp", "scaled_return", "up", "label_return", "past_return", "momentum_return")
    evidence = fit.evidence.join(labels, on=["symbol", "timestamp"], maintain_order="left")
    figures = metrics.figures(evidence)
    recipe = recipe_of(settings)
    told = _metrics(fit, figures)
    rivals = rivals_of(evidence)
    report = {"out_of_fold": figures, "rivals": rivals, **(fit.report or {})}
    said = {
        **tags,
        "recipe": family_of(settings),
        "features_set": recipe.table,
        "rows": str(rows.height),
        "symbols": str(rows["symbol"].n_unique()),
        "trained_from": str(rows["timestamp"].dt.date().min()),
        "trained_until": str(rows["timestamp"].dt.date().max()),
    }
    # Another training of the same rows may have come to this point too: who is second finds the version of the first.
    with registry.naming(name):
        version = registry.find(name, fit.training_id)
        if version is not None:
            return version, figures
        version = registry.log_candidate(
            name,
            fit.files,
            training_id=fit.training_id,
            columns=recipe.columns,
            answers=ANSWERS,
            parameters={
                **{key: _text(value) for key, value in asdict(fit.found.parameters).items()},
                "features_set": recipe.table,
                "interval": settings.interval,
            },
            metrics=told,
            tags=said,
            report=report,
            picture=portrait(report, f"{name}: out of fold") if drawn else None,
            dataset=(recipe.table, fit.training_id),
            note=noted(name, said, figures, rivals, registry),
        )
    return version, figures


#: Figures that a candidate and its rivals share, as the page of a run shows them.
COMPARED = ("log_loss", "accuracy", "brier", "auc", "ts_ic")


def noted(
    name: str,
    tags: Mapping[str, str],
    figures: Mapping[str, Any],
    rivals: Mapping[str, Mapping[str, float | None]],
    registry: Registry,
) -> str:
    """What the page of a training's run says first: of which data it is, and how it did beside the naive rivals."""
    told = [
        f"**{name}**, trained on {tags['rows']} bars from {tags['trained_from']} to {tags['trained_until']}.",
        f"Data: bars version {tags['bars_version']}, {tags['features_set']} version {tags['features_version']}.",
        f"{registry.run_page(tags['dagster_run_id'])}." if "dagster_run_id" in tags else "",
        "Out of fold, beside the rivals (folds, confusion, calibration and importance: Artifacts, report.json):",
    ]
    table = [f"| | {' | '.join(COMPARED)} |", f"|---|{'---|' * len(COMPARED)}"]
    for who, row in {"candidate": figures, **rivals}.items():
        cells = ("" if row.get(figure) is None else f"{row[figure]:.4f}" for figure in COMPARED)
        table.append(f"| {who} | {' | '.join(cells)} |")
    return "\n\n".join([*filter(None, told), "\n".join(table)])


def rivals_of(evidence: pl.DataFrame) -> dict[str, dict[str, float | None]]:
    """The naive rivals' figures, and the linear models' where they speak."""
    found = metrics.rivals(evidence)
    linear = evidence.drop_nulls(["linear_p_up", "linear_score"])
    if not linear.is_empty():
        as_own = linear.with_columns(p_up="linear_p_up", score="linear_score")
        figures = metrics.figures(as_own)
        found["linear"] = {name: figures[name] for name in COMPARED}
    return found


def _metrics(fit: Fit, figures: Mapping[str, Any]) -> dict[str, float]:
    told = {f"oof_{name}": float(value) for name, value in figures.items() if value is not None}
    told["training_seconds"] = fit.seconds
    for name, head in (fit.report or {}).get("heads", {}).items():
        for figure in TELLING[head["kind"]]:
            value = head["together"].get(figure)
            if value is not None:
                told[f"{name}_{figure}"] = float(value)
    return dict(islice(told.items(), METRICS))


def _text(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def begun_trainings(lake: Lake, tasks: Iterable[Task]) -> dict[str, datetime]:
    """Of these trainings those of which there are predictions out of fold, with when they were made.

    Where there is no version of one, a run was killed before it: the training is torn. Its blocks of the calendar may
    have been others, where other symbols have traded on since.
    """
    wanted = {task.identity: set(task.rows["symbol"].unique()) for task in tasks}
    symbols = set().union(*wanted.values())
    ours = lake.read(
        "predictions",
        symbols=sorted(symbols),
        columns=["training_id", "made_at"],
        where=pl.col("training_id").is_in(list(wanted)) & (pl.col("origin") == OUT_OF_FOLD),
        ordered=False,
    )
    return dict(ours.group_by("training_id").agg(pl.col("made_at").min()).iter_rows())


def append_predictions(
    lake: Lake,
    fits: Sequence[Fit],
    now: datetime,
    torn: Collection[str],
) -> None:
    """Predictions go before the versions that they are the evidence of; what a killed run left (``torn``) gives way."""
    rows = [
        fit.evidence.select(
            pl.lit(None, kind).alias(name) if name not in fit.evidence.columns else pl.col(name)
            for name, kind in PREDICTIONS.items()
        ).with_columns(
            regime=pl.lit(fit.name.partition("|")[0]),
            training_id=pl.lit(fit.training_id),
            origin=pl.lit(OUT_OF_FOLD),
            made_at=pl.lit(now, TIME),
        )
        for fit in fits
        if fit.evidence is not None
    ]
    if not rows:
        return
    said = pl.concat(rows)
    again = said.filter(pl.col("training_id").is_in(list(torn)))
    if not again.is_empty():
        symbols, key = again["symbol"].unique().to_list(), list(declared("predictions").key)
        held = lake.read("predictions", symbols=symbols, columns=key)
        theirs = held.join(again, on=["training_id", "origin"], how="semi")
        lake.replace("predictions", again, symbols, gone=theirs)
    lake.append("predictions", said)

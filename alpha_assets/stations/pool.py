"""The pooled models: one a regime, over all symbols, purged by date across them.

A symbol alone has 160 to 400 rows of a regime in five years, and of so few no fit learns an edge of 0.15; all symbols
together have thousands. Their model stands in where a symbol has too little, and is the one that a symbol's own has to
beat. Its out-of-fold predictions are kept a row a symbol and bar, like any other, under its own ``training_id``.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from alpha_assets.quant.heads import enough
from alpha_assets.quant.search import Trial
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets.stations.train import (
    TRAINED_AT,
    TURNED,
    Fit,
    Task,
    append_predictions,
    begun_trainings,
    data_versions,
    fitted,
    labelled_rows,
    pattern_events,
    pool_name,
    register,
    shut_from,
    task_of,
    untrainable,
    usable,
)
from alpha_assets.stations.trials import configuration, family, note_training, tried_so_far
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry

#: Who sees the scores here.
SEARCH = "search"

#: What stands for the symbol in the name of a pool's task.
EVERY = "*"


def train_pools(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    now: datetime,
    tags: Mapping[str, str] | None = None,
    progress: Progress = silent,
    regimes: Sequence[str] = REGIMES,
) -> Report:
    """Train the pooled model of each regime whose rows changed; the report is by regime.

    Every member counts, a retired one too: a pool of survivors alone would learn that nobody goes under. States:
    trained, unchanged, refused (too few rows, or a horizon too long for the regime's spells), failed (the others go
    on).
    """
    started = time.perf_counter()
    report = Report()
    names = calendars_of(ledger)
    read = data_versions(lake, settings)
    rows, _ = labelled_rows(lake, settings, names, list(names))
    known = usable(rows)
    by_date = known.sort("timestamp", "symbol")
    too_short = untrainable(lake, settings)
    fired, shut = pattern_events(lake, settings, list(names)), shut_from(lake, settings)
    tasks: dict[str, Task] = {}
    for regime in regimes:
        task = task_of(
            f"{regime}|{EVERY}", by_date, regime, recipe_of(settings), settings.learning, fired, shut, pooled=True
        )
        refusal = enough(task.rows, settings.learning)
        reason = too_short.get(regime) or (refusal and f"over all symbols: {refusal.reason}")
        if reason is not None:
            report.say(regime, "refused", reason=reason)
            continue
        version = registry.find(pool_name(regime), task.identity) if registry.exists() else None
        if version is not None:
            report.say(regime, "unchanged", version=version.number)
            continue
        tasks[regime] = task
    note_training(ledger, settings, tasks, now)
    torn = begun_trainings(lake, tasks.values())
    for done, (regime, fit) in enumerate(zip(tasks, fitted(tasks.values(), settings), strict=True), start=1):
        append_predictions(lake, [fit], now, torn)
        note_search(ledger, settings, regime, fit.found.trials, now)
        trials = str(tried_so_far(ledger, settings, regime))
        told = {**(tags or {}), **read, TRAINED_AT: now.isoformat(), "trials_so_far": trials}
        _keep(registry, settings, regime, fit, tasks[regime], told, report)
        progress("pooled models trained", done, len(tasks))
    report.totals = {
        "symbols": len(names),
        "rows": known.height,
        **report.states(),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def note_search(ledger: Ledger, settings: Settings, regime: str, trials: Sequence[Trial], now: datetime) -> None:
    """Count what a search tried of a family, before anybody judges what it chose."""
    told = {"family": family(settings, regime), "source": SEARCH, "seen_at": now}
    table = table_of(settings)
    # Of a configuration that was tried twice the first score stands, and one transaction takes it once.
    tried = {configuration(table, trial.parameters): trial.score for trial in reversed(trials)}
    ledger.note_trials([{**told, "configuration": name, "score": score} for name, score in tried.items()])


def _keep(
    registry: Registry,
    settings: Settings,
    regime: str,
    fit: Fit,
    task: Task,
    tags: Mapping[str, str],
    report: Report,
) -> None:
    if fit.files is None:
        report.say(regime, "failed" if fit.failed else "refused", reason=fit.problem)
        return
    told = {**tags, "symbol": EVERY, "regime": regime}
    if fit.found.trials:
        told[TURNED] = json.dumps(dict(fit.found.turned))
    version, figures = register(registry, settings, pool_name(regime), fit, task, told, drawn=True)
    shown = {name: figure for name, figure in figures.items() if name in ("ts_ic", "accuracy")}
    report.say(regime, "trained", version=version.number, rows=task.rows.height, seconds=round(fit.seconds, 3), **shown)

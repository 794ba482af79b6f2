"""Sensors: shells of a few lines around the pure functions of ``wishes`` and ``ranges``.

Nothing here touches the network. Symbols are launched as ranges by ourselves and never by declarative automation: one
upstream run over 1,500 symbols made it start more than 430 tiny runs, because a partition stops being in progress when
its own event lands. All are shipped switched off.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta

import dagster as dg

from alpha_assets.automation import jobs, ranges, wishes
from alpha_assets.automation.reaper import fail_dead_runs
from alpha_assets.automation.wishes import Asked, Wish
from alpha_assets.clock import Clock
from alpha_assets.partitions import SYMBOLS
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.sources.all import Sources
from alpha_assets.sources.base import reach
from alpha_assets.stations.drift import confirmed_symbols
from alpha_assets.stations.promote import due
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks

#: Not NOT_STARTED: that is for a moment, or for ever where who recorded the run died before it was queued.
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def under_way(instance: dg.DagsterInstance, job: str) -> str | None:
    """The id of an unfinished run of this job, if there is one."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
    return runs[0].run_id if runs else None


def missing_keys(instance: dg.DagsterInstance, members: Sequence[Row]) -> list[str]:
    """Members that have no partition yet, sorted by calendar and symbol as they are to be added."""
    known = set(instance.get_dynamic_partitions(SYMBOLS))
    return [
        row["symbol"]
        for row in sorted(members, key=lambda row: (row["calendar"], row["symbol"]))
        if row["symbol"] not in known
    ]


def register(instance: dg.DagsterInstance, members: Sequence[Row]) -> None:
    """Give every member its partition, sorted by calendar and symbol."""
    missing = missing_keys(instance, members)
    if missing:
        instance.add_dynamic_partitions(SYMBOLS, missing)


def _answer(
    context: dg.SensorEvaluationContext,
    job: str,
    assets: Sequence[str],
    wish: Wish,
    clock: Clock,
    regimes: Collection[str] | None = None,
    added: Sequence[str] = (),
) -> dg.SensorResult:
    """One run request for a wish, or the reason why not."""
    adds = [dg.AddDynamicPartitionsRequest(SYMBOLS, list(added))] if added else []
    if not wish.symbols:
        return dg.SensorResult(skip_reason=wish.reason, dynamic_partitions_requests=adds)
    running = under_way(context.instance, job)
    if running:
        reason = f"{wish.reason}; run {running[:8]} of {job} is still under way"
        return dg.SensorResult(skip_reason=reason, dynamic_partitions_requests=adds)
    now = clock.now()
    asked = Asked.read(context.cursor)
    again = asked.again(wish)
    if again is not None and now < again:
        reason = f"{wish.reason}; just that was asked at {asked.at:%H:%M} UTC and is asked again at {again:%H:%M}"
        return dg.SensorResult(skip_reason=reason, dynamic_partitions_requests=adds)
    order = [*context.instance.get_dynamic_partitions(SYMBOLS), *added]
    # Each run over cells is a look at their families, and looks spend level at the gate: never one a symbol.
    runs = [ranges.covering(order, wish.symbols, regimes)] if regimes else ranges.plan_runs(order, wish.symbols)
    context.log.info(wish.reason)
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                job_name=job,
                tags={**run.tags(), "alpha/reason": wish.reason[:200]},
                run_config=run.config(assets),
            )
            for run in runs
        ],
        dynamic_partitions_requests=adds,
        cursor=asked.now(wish, now).write(),
    )


@dg.sensor(job=jobs.refresh, minimum_interval_seconds=30)
def new_bars(
    context: dg.SensorEvaluationContext,
    ledger: dg.ResourceParam[Ledger],
    sources: dg.ResourceParam[Sources],
    registry: dg.ResourceParam[Registry],
    locks: dg.ResourceParam[RunLocks],
    clock: dg.ResourceParam[Clock],
) -> dg.SensorResult:
    """Asks for a refresh of the symbols whose source could have a final bar that the lake lacks."""
    fail_dead_runs(context.instance, locks, registry)
    members = ledger.universe()
    wish = wishes.bars_wanted(members, ledger.states(), reach(members, sources, clock.now()), clock.now())
    added = missing_keys(context.instance, members)
    return _answer(context, "refresh", jobs.REFRESH, wish, clock, added=added)


def training_wish(settings: Settings, ledger: Ledger, clock: Clock) -> Wish:
    """The symbols of which a cell is due for a training by the settings' rules."""
    return wishes.training_wanted(
        ledger.universe(),
        ledger.states(),
        ledger.candidates(),
        clock.now(),
        after_bars=settings.retrain_after_bars,
        after=timedelta(days=settings.retrain_after_days),
        apart=timedelta(days=settings.retrain_round_days),
        least_bars=settings.learning.min_rows,
        drifted=confirmed_symbols(ledger),
        drifted_after_bars=settings.drift.stride,
    )


@dg.sensor(job=jobs.train, minimum_interval_seconds=60)
def retraining(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    locks: dg.ResourceParam[RunLocks],
    clock: dg.ResourceParam[Clock],
) -> dg.SensorResult:
    """Asks for a training of the symbols with enough new bars, an old model and something new, or confirmed drift.

    One run over every regime of them: what has not changed is looked at and left as it is.
    """
    fail_dead_runs(context.instance, locks, registry)
    wish = training_wish(settings, ledger, clock)
    if wish.symbols and under_way(context.instance, "refresh"):
        return dg.SensorResult(skip_reason=f"{wish.reason}; a refresh is under way and may bring more")
    added = missing_keys(context.instance, ledger.universe())
    return _answer(context, "train", jobs.TRAIN, wish, clock, regimes=REGIMES, added=added)


@dg.sensor(job=jobs.decide, minimum_interval_seconds=300)
def watched_models(
    context: dg.SensorEvaluationContext,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    locks: dg.ResourceParam[RunLocks],
    clock: dg.ResourceParam[Clock],
) -> dg.SensorResult:
    """Asks for a decision where a canary's shadow is complete or a production model's live loss is confirmed.

    One regime a tick: a run works on one range of cells. The run decides; this only looks.
    """
    fail_dead_runs(context.instance, locks, registry)
    wanted = wishes.decisions_wanted(due(lake, ledger, settings), ledger.last_decisions())
    if not wanted:
        return dg.SensorResult(skip_reason="no canary has completed its shadow, and no live loss is confirmed")
    regime, wish = next(iter(wanted.items()))
    return _answer(context, "decide", jobs.DECIDE, wish, clock, regimes=[regime])


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[jobs.train, jobs.decide],
    request_job=jobs.say_signals,
    minimum_interval_seconds=15,
)
def signals_after_training(
    context: dg.RunStatusSensorContext, ledger: dg.ResourceParam[Ledger]
) -> dg.SensorResult | dg.SkipReason:
    """After a training or decision, one run of signals over the symbols whose signal is older than their decision."""
    run_id, tags = context.dagster_run.run_id, context.dagster_run.tags
    if ranges.LAUNCHED_BY in tags and "dagster/parent_run_id" not in tags:
        return dg.SkipReason(f"run {run_id[:8]} was launched by a command, which says the signals itself")
    decided = wishes.unsaid(ledger.last_decisions(), ledger.signals())
    if not decided:
        return dg.SkipReason(f"run {run_id[:8]} left no decision without its signal")
    run = ranges.covering(context.instance.get_dynamic_partitions(SYMBOLS), decided)
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"signals-{run_id}", tags=run.tags(), run_config=run.config(jobs.SIGNALS))]
    )


SENSORS = [new_bars, retraining, watched_models, signals_after_training]

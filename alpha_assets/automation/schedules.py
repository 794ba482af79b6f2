"""Schedules: the daily refresh, the daily looks for drift and whether a training is due. Switched off until wanted."""

import dagster as dg

from alpha_assets.automation import jobs, ranges
from alpha_assets.automation.reaper import fail_dead_runs
from alpha_assets.automation.sensors import register, training_wish, under_way
from alpha_assets.clock import Clock
from alpha_assets.partitions import SYMBOLS
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


# 22:30 in UTC is after New York's close and the lag in summer and in winter.
@dg.schedule(job=jobs.refresh, cron_schedule="30 22 * * *", execution_timezone="UTC")
def daily_refresh(
    context: dg.ScheduleEvaluationContext,
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    locks: dg.ResourceParam[RunLocks],
) -> dg.RunRequest | dg.SkipReason:
    """One refresh over every member of the universe."""
    fail_dead_runs(context.instance, locks, registry)
    members = ledger.universe()
    if not members:
        return dg.SkipReason("the universe is empty: «alpha-assets universe add SYMBOL»")
    running = under_way(context.instance, "refresh")
    if running:
        return dg.SkipReason(f"run {running[:8]} of refresh is still under way")
    register(context.instance, members)
    order = context.instance.get_dynamic_partitions(SYMBOLS)
    run = ranges.covering(order, {row["symbol"] for row in members})
    return dg.RunRequest(tags=run.tags(), run_config=run.config(jobs.REFRESH))


@dg.schedule(job=jobs.train, cron_schedule="30 23 * * *", execution_timezone="UTC")
def daily_training_check(
    context: dg.ScheduleEvaluationContext,
    settings: dg.ResourceParam[Settings],
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    locks: dg.ResourceParam[RunLocks],
    clock: dg.ResourceParam[Clock],
) -> dg.RunRequest | dg.SkipReason:
    """One training over every regime of the symbols that are due for it."""
    fail_dead_runs(context.instance, locks, registry)
    wish = training_wish(settings, ledger, clock)
    if not wish.symbols:
        return dg.SkipReason(wish.reason)
    for job in ("refresh", "train"):
        running = under_way(context.instance, job)
        if running:
            return dg.SkipReason(f"{wish.reason}; run {running[:8]} of {job} is still under way")
    register(context.instance, ledger.universe())
    run = ranges.covering(context.instance.get_dynamic_partitions(SYMBOLS), wish.symbols, REGIMES)
    return dg.RunRequest(tags=run.tags(), run_config=run.config(jobs.TRAIN))


@dg.schedule(job=jobs.look_for_drift, cron_schedule="0 23 * * *", execution_timezone="UTC")
def daily_drift_check(
    context: dg.ScheduleEvaluationContext,
    ledger: dg.ResourceParam[Ledger],
    registry: dg.ResourceParam[Registry],
    locks: dg.ResourceParam[RunLocks],
) -> dg.RunRequest | dg.SkipReason:
    """One look at the drift of every version, between the refresh and the look whether a training is due."""
    fail_dead_runs(context.instance, locks, registry)
    if not ledger.candidates():
        return dg.SkipReason("no model is trained yet: there is nothing to compare with")
    running = under_way(context.instance, jobs.look_for_drift.name)
    if running:
        return dg.SkipReason(f"run {running[:8]} of {jobs.look_for_drift.name} is still under way")
    return dg.RunRequest()


SCHEDULES = [daily_refresh, daily_drift_check, daily_training_check]

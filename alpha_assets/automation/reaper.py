"""Runs that died are failed before anything else is done, so that they block nobody.

Dagster leaves a killed run STARTED, holding its place among the runs that may be under way. The kernel has dropped its
lock, which is how we know; see ``stores.run_locks``. A run that died before it took its lock is told by the code
server, which watches the processes it started, or by ``run_monitoring``.
"""

import dagster as dg

from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks


def fail_dead_runs(instance: dg.DagsterInstance, locks: RunLocks, registry: Registry) -> list[str]:
    """Fail every unfinished run whose process is gone, free its slots, end its MLflow runs; returns their ids.

    A run that another instance recorded is that instance's to fail. A command holds its run's lock before the run is
    recorded, so a run may have died without having started.
    """
    dead = [run for run_id in locks.dead() if (run := instance.get_run_by_id(run_id)) is not None]
    failed = [run for run in dead if not run.is_finished]
    for run in failed:
        instance.report_engine_event("The run's process is gone: the kernel has dropped its lock.", run)
        instance.report_run_failed(run, "The run's process died; what it had stored is whole, run it again.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    for run in dead:
        locks.forget(run.run_id)
    if dead:
        registry.close_runs_of([run.run_id for run in dead])
    return [run.run_id for run in failed]

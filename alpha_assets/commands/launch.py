"""Runs of Dagster jobs from the command line, in this process, recorded like any other run."""

import sys
import uuid
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from alpha_assets.commands import home
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings
from alpha_assets.stores.run_locks import RunLocks

if TYPE_CHECKING:
    import dagster as dg

    from alpha_assets.stores.ledger import Row


class Line:
    """The line's jobs over one home: registers partitions, fails dead runs, launches ranges."""

    def __init__(self, settings: Settings) -> None:
        home.prepare(settings)
        import dagster as dg

        from alpha_assets.definitions import assemble

        self.settings = settings
        self.locks = RunLocks(settings)
        self.definitions = assemble(settings)
        self.instance = dg.DagsterInstance.get()
        self._reap()

    def _reap(self) -> None:
        from alpha_assets.automation.reaper import fail_dead_runs
        from alpha_assets.stores.registry import Registry

        for run_id in fail_dead_runs(self.instance, self.locks, Registry(self.settings)):
            say(f"run {run_id[:8]} had died; it is marked as failed and blocks nobody")

    def register(self, members: "Sequence[Row]") -> None:
        """Give every member its partition, sorted by calendar and symbol."""
        from alpha_assets.automation.sensors import register

        register(self.instance, members)

    def launch(
        self,
        job: str,
        assets: Sequence[str],
        symbols: Collection[str],
        regimes: Collection[str] | None = None,
        full: bool = False,
    ) -> dict[str, dict[str, dict[str, Any]]]:
        """Run ``job`` over these symbols, or these regimes of them, in one run; what each asset said, by partition.

        Raises CommandFailed with the failing step's own sentence.
        """
        from alpha_assets.automation.ranges import covering
        from alpha_assets.partitions import SYMBOLS

        run = covering(self.instance.get_dynamic_partitions(SYMBOLS), symbols, regimes)
        result = self._run(job, run.tags(), run.config(assets, full))
        return {asset: _said(result, asset) for asset in assets}

    def launch_whole(self, job: str, asset: str) -> dict[str, Any]:
        """Run ``job``, whose ``asset`` has no partitions; what it said. Raises as ``launch`` does."""
        (event,) = self._run(job, {}, {}).asset_materializations_for_node(asset)
        return {name: value.value for name, value in event.metadata.items()}

    def _run(self, job: str, tags: dict[str, str], config: dict[str, Any]) -> "dg.ExecuteInProcessResult":
        from alpha_assets.automation.ranges import LAUNCHED_BY

        run_id = str(uuid.uuid4())
        voice: dict[str, Any] = {"loggers": {"plain": {}}}
        with self.locks.hold(run_id):
            result = self.definitions.resolve_job_def(job).execute_in_process(
                instance=self.instance,
                run_id=run_id,
                tags={**tags, LAUNCHED_BY: "alpha-assets"},
                run_config={**config, **voice},
                raise_on_error=False,
            )
        if _interrupted(result):
            raise KeyboardInterrupt
        if not result.success:
            raise CommandFailed(_why(result))
        return result


def say(sentence: str) -> None:
    """A word on what is being done; stderr, so that stdout stays the answer."""
    print(sentence, file=sys.stderr, flush=True)


def _said(result: "dg.ExecuteInProcessResult", asset: str) -> dict[str, dict[str, Any]]:
    """By partition what the asset said of it, with the totals of the run under ``run``."""
    totals = {
        name: value.value
        for observed in result.asset_observations_for_node(asset)
        for name, value in observed.metadata.items()
    }
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()} | totals
        for event in result.asset_materializations_for_node(asset)
    }


def _interrupted(result: "dg.ExecuteInProcessResult") -> bool:
    """Whether a step was stopped by Ctrl-C, which Dagster takes for a failure with a trace of its own."""
    failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error is not None and error.cls_name == "DagsterExecutionInterruptedError" for error in failures)


def _why(result: "dg.ExecuteInProcessResult") -> str:
    sentences = []
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        failure = event.step_failure_data
        told = failure.user_failure_data.description if failure.user_failure_data else None
        sentences.append(told or (failure.error_display_string if failure.error else f"{event.step_key} failed"))
    if not sentences:
        failures = [event.job_failure_data for event in result.all_events if event.is_run_failure]
        sentences = [failure.error.message.strip() for failure in failures if failure.error]
    return "; ".join(sentences) or f"run {result.run_id} failed before its first step: see its page in the UI"

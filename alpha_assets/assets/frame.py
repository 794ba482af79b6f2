"""What all assets share: which partitions a run works on, how it says what it did, how a station's trouble ends it."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from alpha_assets.settings import Settings
from alpha_assets.sources.base import SourceUnavailable
from alpha_assets.stations.base import Pace, Progress, Report, StationFailed
from alpha_assets.stations.ingest import TooManyFailed
from alpha_assets.stores.home import stamp
from alpha_assets.stores.run_locks import RunLocks
from alpha_assets.stores.trouble import StoreTrouble

#: An event costs Dagster 15 to 20 ms on SQLite, so a long step speaks this often.
SECONDS_BETWEEN_WORDS = 5.0

#: Seconds before the second and third try of a step in which many symbols failed for causes that can heal, jittered.
PAUSES = (20.0, 40.0)

OWNERS = ["team:alpha"]


class Only(dg.Config):
    """Which partitions of the run's range to work on; null means all. The others are reported as kept."""

    only: list[str] | None = None


class Refresh(Only):
    """``full`` reads the whole history of each symbol again instead of the overlap."""

    full: bool = False


def symbols_of(context: dg.AssetExecutionContext, config: Only) -> tuple[list[str], list[str]]:
    """The symbols to work on, and the keys of the range that are left as they are."""
    keys = list(context.partition_keys)
    if config.only is None:
        return keys, []
    wanted = set(config.only)
    return [key for key in keys if key in wanted], [key for key in keys if key not in wanted]


@contextmanager
def plain_failures(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Turn a station's sentence into the step's failure; only causes that can heal are worth another try.

    A retry policy would try again whatever fails, a fault of the program included.
    """
    try:
        yield
    except TooManyFailed as error:
        if context.retry_number < len(PAUSES):
            context.log.warning(f"{error}; another try follows")
            seconds = PAUSES[context.retry_number] * random.uniform(0.8, 1.2)
            raise dg.RetryRequested(max_retries=len(PAUSES), seconds_to_wait=seconds) from error
        raise dg.Failure(description=str(error)) from error
    except (StationFailed, SourceUnavailable, StoreTrouble) as error:
        raise dg.Failure(description=str(error)) from error


def say(
    context: dg.AssetExecutionContext,
    report: Report,
    kept: Sequence[str] = (),
    pictures: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.MaterializeResult:
    """Give each partition its own line, and the run its totals: one observation of the asset, under ``run``.

    ``pictures`` of the whole stand beside the totals.
    """
    warn(context, report)
    for key in kept:
        if key not in report.partitions:
            report.say(key, "kept", reason="not among the symbols this run was asked for")
    for key, figures in report.partitions.items():
        context.add_asset_metadata(_short(figures), partition_key=key)
    # An event of its own: metadata of the result is copied to every partition, and Dagster keeps each copy.
    totals: dict[str, Any] = {"run": report.totals | {"states": report.states()}, **(pictures or {})}
    context.log_event(dg.AssetObservation(context.asset_key, metadata=totals))
    return dg.MaterializeResult()


def warn(context: dg.AssetExecutionContext, report: Report) -> None:
    """Put the trouble that a run got over into its log, where a step that succeeds is else read by nobody."""
    if "trouble" in report.totals:
        context.log.warning(report.totals["trouble"])


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    """Metadata of at most about 1 KB: long sentences are cut, the ledger keeps them whole."""
    return {
        name: f"{value[:599]}…" if isinstance(value, str) and len(value) > 600 else value
        for name, value in figures.items()
    }


def speak(context: dg.AssetExecutionContext, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Progress in the run's log as ``Pace`` has it; seldom, because each word is an event."""
    pace, spoken = Pace(clock), clock()

    def progress(stage: str, done: int, total: int, at: str = "") -> None:
        nonlocal spoken
        words, now = pace.words(stage, done, total, at), clock()
        # A stage that begins says so: nobody knows yet how long it will be silent.
        if now - spoken < SECONDS_BETWEEN_WORDS and 0 < done < total:
            return
        spoken = now
        context.log.info(words)

    return progress


def run_tags(context: dg.AssetExecutionContext) -> dict[str, str]:
    """The tags that lead from an MLflow run back to Dagster."""
    return {
        "dagster_run_id": context.run.run_id,
        "dagster_job": context.run.job_name,
        "asset": context.asset_key.to_user_string(),
    }


def run_lock_of(locks: RunLocks, settings: Settings) -> dg.ResourceDefinition:
    """A resource that holds the run's operating-system lock from before its first step; see ``stores.run_locks``.

    A run over a home of another interval ends here, before it reads or writes anything.
    """

    @dg.resource(description="Holds the run's operating-system lock while the run lives")
    def run_lock(context: dg.InitResourceContext) -> Iterator[RunLocks]:
        stamp(settings)
        if context.run is None:
            yield locks
            return
        with locks.hold(context.run.run_id):
            yield locks

    return run_lock

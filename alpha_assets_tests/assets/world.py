"""A home, an instance and a market written by hand: real stores and real runs, and a source that does what it is told.

Only two things are not the real ones: the clock stands still, and the bars come from ``Market``, which does what
its ``Behaviour`` says, so that a test can make one symbol fail, many, or the whole source, and heal them again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from alpha_assets.automation.ranges import covering
from alpha_assets.clock import Clock
from alpha_assets.definitions import assemble
from alpha_assets.partitions import SYMBOLS
from alpha_assets.quant import calendars
from alpha_assets.quant.schema import RAW_BARS
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, Source, SourceUnavailable
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from alpha_assets.stores.run_locks import RunLocks
from alpha_assets_tests.homes import make_tables

#: Wednesday noon in New York's night: the newest final session is Tuesday's.
NOW = datetime(2024, 1, 10, 12, tzinfo=UTC)
LAST = date(2024, 1, 9)
FIRST = date(2023, 11, 1)

REASONS = {
    Cause.UNKNOWN_SYMBOL: "the source does not know it",
    Cause.RATE_LIMITED: "asked too often: try later",
    Cause.OUTAGE: "the source did not answer",
    Cause.MALFORMED: "the answer was cut off",
}


@dataclass
class Behaviour:
    """What the market does next: the session it stands at, whom it fails and why, and which fetches came."""

    last: date = LAST
    failing: dict[str, Cause] = field(default_factory=dict)
    heals_at_fetch: int | None = None
    unavailable: str | None = None
    without: dict[str, set[date]] = field(default_factory=dict)
    fetches: list[list[str]] = field(default_factory=list)


class Market:
    """Every symbol trades every session of New York; prices follow from name and session alone."""

    name = "simulated"

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:  # noqa: ARG002
        behaviour = self.behaviour
        behaviour.fetches.append(list(symbols))
        if behaviour.unavailable:
            raise SourceUnavailable(behaviour.unavailable)
        healed = behaviour.heals_at_fetch is not None and len(behaviour.fetches) >= behaviour.heals_at_fetch
        failing = {} if healed else behaviour.failing
        failures = {name: Failure(name, failing[name], REASONS[failing[name]]) for name in symbols if name in failing}
        good = [bars_of(name, behaviour, since.get(name)) for name in symbols if name not in failures]
        return Fetched(bars=pl.concat([pl.DataFrame(schema=dict(RAW_BARS)), *good]), failures=failures)

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:  # noqa: ARG002
        return dict.fromkeys(symbols, at(self.behaviour.last))


def bars_of(symbol: str, behaviour: Behaviour, since: datetime | None) -> pl.DataFrame:
    """A wave of one percent around a level that the name decides."""
    level = 50.0 + sum(map(ord, symbol)) % 50
    days = [day for day in calendars.sessions("XNYS", FIRST, behaviour.last) if since is None or at(day) >= since]
    days = [day for day in days if day not in behaviour.without.get(symbol, set())]
    closes = [level * (1 + 0.01 * ((day.toordinal() * 7) % 5 - 2)) for day in days]
    rows = [
        (symbol, at(day), close, close * 1.004, close * 0.996, close * 1.001, 1e6 + day.day)
        for day, close in zip(days, closes, strict=True)
    ]
    return pl.DataFrame(rows, schema=dict(RAW_BARS), orient="row")


def at(day: date) -> datetime:
    """The timestamp of a session's daily bar."""
    return datetime.combine(day, time(), UTC)


class StandingClock(Clock):
    """Shows what it is set to."""

    def __init__(self, now: datetime = NOW) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time

    def pass_by(self, span: timedelta) -> None:
        """Let so much time go by."""
        self.time += span


class World:
    """One home with its stores, a Dagster instance, a market and a clock."""

    def __init__(self, home: Path, instance: dg.DagsterInstance, **settings: Any) -> None:
        self.settings = Settings(home=home, source="simulated", history_start=FIRST, **settings)
        self.instance = instance
        self.behaviour = Behaviour()
        self.clock = StandingClock()
        self.lake, self.ledger = Lake(self.settings), Ledger(self.settings)
        self.locks = RunLocks(self.settings)
        self.registry = Registry(self.settings)
        self.sources: dict[str, Source] = {"simulated": Market(self.behaviour)}
        self.definitions = assemble(self.settings)
        self.resources: dict[str, object] = {
            "settings": self.settings,
            "lake": self.lake,
            "ledger": self.ledger,
            "registry": self.registry,
            "sources": self.sources,
            "clock": self.clock,
            "locks": self.locks,
        }

    def follow(self, *symbols: str, register: bool = True) -> None:
        """Put symbols into the universe, with their partitions unless told otherwise."""
        make_tables(self.settings)
        self.ledger.add_symbols(
            [{"symbol": name, "source": "simulated", "calendar": "XNYS", "added_at": NOW} for name in symbols]
        )
        if register:
            self.instance.add_dynamic_partitions(SYMBOLS, list(symbols))

    def run(
        self, job: str, assets: Sequence[str], symbols: Collection[str], regimes: Collection[str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """One run of a job over the range that covers ``symbols``, as sensors and commands launch it."""
        run = covering(self.instance.get_dynamic_partitions(SYMBOLS), symbols, regimes)
        return self.launch(job, run.tags(), run.config(assets))

    def launch(self, job: str, tags: Mapping[str, str], config: Mapping[str, Any]) -> dg.ExecuteInProcessResult:
        """One run of a job with these range tags."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags=tags,
            run_config=config,
            raise_on_error=False,
            resources=self.resources,
        )


def said(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dict[str, Any]]:
    """By partition, what the asset's events say of it."""
    return {
        str(event.partition): {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_materializations_for_node(asset)
    }


def why(result: dg.ExecuteInProcessResult) -> str:
    """The sentence of the first step that failed."""
    failure = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    assert failure.user_failure_data is not None, failure.error_display_string
    return str(failure.user_failure_data.description)

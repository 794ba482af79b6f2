"""The one protocol behind which market data comes: bars, actions, and a reason for each symbol that failed."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeGuard

import polars as pl

from alpha_assets.quant.schema import ACTIONS, RAW_BARS, empty

logger = logging.getLogger(__name__)


class Cause(StrEnum):
    """Why a symbol could not be fetched. Callers retry the causes that can heal and never count the others."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    NO_DATA = "no_data"
    RATE_LIMITED = "rate_limited"
    OUTAGE = "outage"
    MALFORMED = "malformed"
    REFUSED = "refused"

    @property
    def can_heal(self) -> bool:
        """True where the same request may succeed later without anybody changing anything."""
        return self in (Cause.RATE_LIMITED, Cause.OUTAGE, Cause.MALFORMED)


@dataclass(frozen=True)
class Failure:
    """One symbol that could not be fetched: the cause, and a sentence for the person who can act."""

    symbol: str
    cause: Cause
    message: str


@dataclass(frozen=True)
class Fetched:
    """What one batch brought.

    ``bars`` follows ``schema.RAW_BARS`` (as traded), ``actions`` follows ``schema.ACTIONS``. A symbol is in
    ``failures`` or its bars are complete from its ``since``; a failed symbol has no row in either frame. A symbol with
    nothing new is in neither: that is an answer, not a failure. The actions of the sessions from a symbol's first bar
    to its last are complete too: one that was said before and is missing has been withdrawn.
    """

    bars: pl.DataFrame = field(default_factory=lambda: empty(RAW_BARS))
    actions: pl.DataFrame = field(default_factory=lambda: empty(ACTIONS))
    failures: Mapping[str, Failure] = field(default_factory=dict)


class SourceUnavailable(Exception):
    """The source as a whole cannot be reached or used; the message is one sentence that says what to do."""


class Source(Protocol):
    """Where bars come from. Implementations hold no state that a restart would miss."""

    name: str

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:
        """Bars and actions of ``symbols``, each from its ``since`` (inclusive; None: the history start) to ``now``.

        Never raises for one symbol's trouble: that is a ``Failure``. Raises ``SourceUnavailable`` only where nothing
        at all could be asked.
        """
        ...

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:
        """The timestamp of the newest final bar the source could have by ``now``, a symbol; None where unknown.

        Never touches the network, so that a sensor may call it every tick.
        """
        ...


@dataclass(frozen=True)
class Reach:
    """How far the sources could be by now.

    ``newest`` is the newest final bar of each symbol, None where unknown. ``silent`` has a sentence for each source
    that could not say, which names it and the error; its symbols are not in ``newest``.
    """

    newest: Mapping[str, datetime | None] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)


def by_source(members: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The symbols of each source; ``members`` have ``symbol`` and ``source``."""
    groups: dict[str, list[str]] = {}
    for member in members:
        groups.setdefault(member["source"], []).append(member["symbol"])
    return groups


def reach(members: Iterable[Mapping[str, Any]], sources: Mapping[str, Source], now: datetime) -> Reach:
    """``complete_until`` of every source that ``members`` have; one that raises takes no other's symbols with it."""
    newest: dict[str, datetime | None] = {}
    silent: dict[str, str] = {}
    for name, symbols in by_source(members).items():
        try:
            newest |= sources[name].complete_until(symbols, now)
        except Exception as error:  # whatever it is, the sensors and checks of the other sources go on
            logger.debug("the source %s cannot say how far it reaches", name, exc_info=True)
            silent[name] = (
                f"the source {name} cannot say what it has of its symbols, {len(symbols):,} of them: "
                f"{type(error).__name__}: {error}"
            )
    return Reach(newest, silent)


@dataclass(frozen=True)
class Companies:
    """What a source said of companies: facts by symbol and field (``profile_schema.FUNDAMENTALS``).

    A field that the source does not have is absent, and a symbol of which it knows nothing has no field. A symbol that
    could not be asked about is in ``failures``.
    """

    facts: Mapping[str, Mapping[str, float | int | str]] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)


class CompanySource(Source, Protocol):
    """A source that knows something of the companies behind its symbols, too; optional."""

    def fundamentals(self, symbols: Sequence[str], now: datetime) -> Companies:
        """What is known of these companies at ``now``. Raises as ``fetch`` does."""
        ...


def knows_companies(source: Source) -> TypeGuard[CompanySource]:
    """True for a source with ``fundamentals``."""
    return callable(getattr(source, "fundamentals", None))

"""The one protocol behind which market data comes: bars, actions, and a reason for each symbol that failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import polars as pl

from alpha_assets.quant.schema import ACTIONS, RAW_BARS, empty


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

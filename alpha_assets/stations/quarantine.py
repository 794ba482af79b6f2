"""Quarantine by the stations after ingestion: what cannot be computed of one symbol is said there and stops no other.

Ingestion clears and sets causes of its own whenever it reads a symbol. These causes are set by a later step of the same
run and cleared by the station that set them; over another's cause they never write.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import polars as pl

from alpha_assets.stores.ledger import Ledger, Row

IMPOSSIBLE_ACTION = "impossible_action"
FEATURES_FAILED = "features_failed"
OLDER_FEATURES_FAILED = "older_features_failed"
PATTERNS_FAILED = "patterns_failed"
PROFILE_FAILED = "profile_failed"

#: The causes that are set and cleared here.
OWN_CAUSES = (IMPOSSIBLE_ACTION, FEATURES_FAILED, OLDER_FEATURES_FAILED, PATTERNS_FAILED, PROFILE_FAILED)

#: Those that are not about bars or current features: they keep nobody from training.
TRAINABLE = (OLDER_FEATURES_FAILED, PATTERNS_FAILED, PROFILE_FAILED)

RELEASED: Row = {"quarantine_cause": None, "quarantine_reason": None, "quarantined_at": None}


def quarantine(
    ledger: Ledger, states: Mapping[str, Row], reasons: Mapping[str, str], cause: str, now: datetime | None
) -> None:
    """Say in the ledger why each of these symbols is held, unless another station has said something."""
    rows = []
    for symbol, reason in reasons.items():
        state = states.get(symbol, {})
        if state.get("quarantine_cause") not in (None, *OWN_CAUSES):
            continue
        since = state.get("quarantined_at") if state.get("quarantine_cause") == cause else None
        told = {"quarantine_cause": cause, "quarantine_reason": reason, "quarantined_at": since or now}
        rows.append({"symbol": symbol, **told})
    ledger.note_state(rows)


def release(ledger: Ledger, states: Mapping[str, Row], symbols: Sequence[str], *causes: str) -> None:
    """End the quarantine of those symbols that are in it for one of these causes."""
    ill = [symbol for symbol in symbols if states.get(symbol, {}).get("quarantine_cause") in causes]
    ledger.note_state([{"symbol": symbol, **RELEASED} for symbol in ill])


def alone(bars: pl.DataFrame, work: Callable[[pl.DataFrame], pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, str]]:
    """``work`` of all bars at once; where that raises, symbol by symbol, and why it raised of some.

    The rows of the answer are in the order of the bars' symbols.
    """
    try:
        return work(bars), {}
    except Exception:  # some symbol's fault: each is tried alone and the reason kept
        done, reasons = [work(bars.head(0))], {}
        for (symbol,), part in bars.group_by("symbol", maintain_order=True):
            try:
                done.append(work(part))
            except Exception as error:  # kept as this symbol's reason
                reasons[str(symbol)] = f"{type(error).__name__}: {error}"
        return pl.concat(done), reasons

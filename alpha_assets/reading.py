"""Reading signals: by the command and by ``from alpha_assets import signals``. Imports the ledger and nothing heavy."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from alpha_assets.settings import Settings, load
from alpha_assets.stores.ledger import Ledger

#: The fields of a signal, in order; these names are stable.
SIGNAL_FIELDS = (
    "symbol",
    "signal",
    "confidence",
    "bar_time",
    "created_at",
    "expires_at",
    "model_version",
    "reason",
    "fresh",
)


def signals(
    symbols: Sequence[str] | None = None, max_age_hours: float | None = None, settings: Settings | None = None
) -> list[dict[str, Any]]:
    """The newest signal of each symbol, in alphabetical order. Research and education, not financial advice.

    Parameters
    ----------
    symbols : sequence of str, optional
        Only these; a symbol without a signal is simply absent.
    max_age_hours : float, optional
        Only signals created within so many hours.
    settings : Settings, optional
        The home to read; by default that of the environment.

    Returns
    -------
    list of dict
        With the fields of ``SIGNAL_FIELDS``: ``signal`` is BUY, SELL or HOLD; ``confidence`` the probability of the stated
        direction, None for HOLD; times are aware datetimes in UTC; ``fresh`` is False once ``expires_at`` has passed.
    """
    now = datetime.now(UTC)
    newer_than = None if max_age_hours is None else now - timedelta(hours=max_age_hours)
    rows = Ledger(settings or load()).signals(symbols, newer_than)
    return [{**{name: row.get(name) for name in SIGNAL_FIELDS}, "fresh": row["expires_at"] > now} for row in rows]

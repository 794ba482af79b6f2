"""Reading signals: by the command and by ``from alpha_assets import signals``. Imports nothing heavy."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from alpha_assets.settings import Settings, load
from alpha_assets.stores.migrations import refuse_other_revision
from alpha_assets.stores.trouble import StoreTrouble

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

STORED = tuple(name for name in SIGNAL_FIELDS if name != "fresh")
INSTANTS = ("bar_time", "created_at", "expires_at")


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
        With the fields of ``SIGNAL_FIELDS``: ``signal`` is BUY, SELL or HOLD; ``confidence`` the probability of the
        stated direction, None for HOLD; times are aware datetimes in UTC; ``fresh`` is False once ``expires_at`` has
        passed.
    """
    now = datetime.now(UTC)
    rows = _stored(settings or load())
    if symbols is not None:
        rows = [row for row in rows if row["symbol"] in symbols]
    if max_age_hours is not None:
        rows = [row for row in rows if row["created_at"] > now - timedelta(hours=max_age_hours)]
    return [{**{name: row.get(name) for name in SIGNAL_FIELDS}, "fresh": row["expires_at"] > now} for row in rows]


def _stored(settings: Settings) -> list[dict[str, Any]]:
    """What ``Ledger.signals`` says; without SQLAlchemy where SQLite will do: importing it takes 0.35 s of 0.6."""
    if settings.ledger_url is not None:
        from alpha_assets.stores.ledger import Ledger

        return Ledger(settings).signals()
    if not settings.ledger_file.exists():
        return []
    try:
        place, wait = f"{settings.ledger_file.as_uri()}?mode=ro", settings.ledger_wait_seconds
        with closing(sqlite3.connect(place, uri=True, timeout=wait)) as connection:
            return _rows(connection)
    except sqlite3.DatabaseError as error:
        raise StoreTrouble(f"the ledger {settings.ledger_file} cannot be read: {error}") from error


def _rows(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    connection.row_factory = sqlite3.Row
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return []
    for found in connection.execute("SELECT version_num FROM alembic_version"):
        refuse_other_revision(found["version_num"])
    stored = connection.execute(
        f"SELECT {', '.join(STORED)} FROM signals "
        "WHERE symbol NOT IN (SELECT symbol FROM universe WHERE retired_at IS NOT NULL) ORDER BY symbol"
    )
    return [
        {name: _instant(row[name]) if name in INSTANTS else row[name] for name in STORED} for row in stored.fetchall()
    ]


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)

"""Reading signals: by the command and by ``from alpha_assets import signals``. Imports nothing heavy."""

import json
import sqlite3
import warnings
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpha_assets.quant.tally import DOCUMENTS, WHOLE, is_fresh, tally
from alpha_assets.settings import Settings, load
from alpha_assets.stores.migrations import LedgerOutdated, refuse_other_revision
from alpha_assets.stores.trouble import StoreTrouble

if TYPE_CHECKING:
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
    *("regime", "score", "expected_return", "price", "predicted_price", "price_low", "price_high", "risk"),
    *("views", "top_features", "data_points", "features_set"),
)

STORED = tuple(name for name in SIGNAL_FIELDS if name != "fresh")
INSTANTS = ("bar_time", "created_at", "expires_at")


def signals(
    symbols: Sequence[str] | None = None,
    max_age_hours: float | None = None,
    settings: Settings | None = None,
    *,
    words: Sequence[str] | None = None,
    min_confidence: float | None = None,
    risks: Sequence[str] | None = None,
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
    words : sequence of str, optional
        Only signals that say one of these (``quant.tally.WORDS``).
    min_confidence : float, optional
        Only signals that state a direction and are at least so sure of it.
    risks : sequence of str, optional
        Only signals of one of these levels of risk.

    Returns
    -------
    list of dict
        With the fields of ``SIGNAL_FIELDS``: ``signal`` is STRONG_BUY, BUY, HOLD, SELL or STRONG_SELL; ``confidence``
        the calibrated probability that the stated direction earns its costs, None for HOLD; times are aware datetimes
        in UTC; ``fresh`` is False once ``expires_at`` has passed, or where the clock was set back to before it was
        said. ``score`` is what the views come to, in [-1, 1]; ``price`` the bar's close as traded, ``predicted_price``
        where it is expected at the end of the horizon, between ``price_low`` and ``price_high``; ``risk`` LOW, MEDIUM
        or HIGH; ``views`` a list of what each view says and why; ``top_features`` those that moved the model most;
        ``data_points`` the bars held of the symbol.
    """
    now = datetime.now(UTC)
    rows = _held(settings or load(), symbols)
    if max_age_hours is not None:
        rows = [row for row in rows if row["created_at"] > now - timedelta(hours=max_age_hours)]
    if words is not None:
        rows = [row for row in rows if row["signal"] in words]
    if min_confidence is not None:
        rows = [row for row in rows if row["confidence"] is not None and row["confidence"] >= min_confidence]
    if risks is not None:
        rows = [row for row in rows if row["risk"] in risks]
    return [{**{name: row.get(name) for name in SIGNAL_FIELDS}, "fresh": is_fresh(row, now)} for row in rows]


def metrics(settings: Settings | None = None, **chosen: Any) -> dict[str, Any]:
    """How many signals say what (``quant.tally.METRIC_FIELDS``), of all or of those that ``signals`` would choose.

    Of all as they were counted when they were said, while that is fresh.
    """
    chosen = {name: value for name, value in chosen.items() if value is not None}
    held = None if chosen else _counted(settings or load())
    return tally(signals(settings=settings, **chosen)) if held is None else held


def _counted(settings: Settings) -> dict[str, Any] | None:
    """The tally that was stored with the signals; None where there is none that is fresh, or the ledger is silent."""
    now = datetime.now(UTC)
    try:
        if settings.ledger_url is not None:
            from alpha_assets.stores.cache import METRICS, Cache

            answer = Cache(_ledger(settings)).get(METRICS, WHOLE, now)
            return None if answer is None else dict(answer.value)
        found = _selected(settings, "SELECT * FROM signal_metrics WHERE key = ?", WHOLE)
    except StoreTrouble:
        return None
    held = [row for row in found if is_fresh({name: _instant(row[name]) for name in INSTANTS[1:]}, now)]
    return dict(json.loads(held[0]["document"])) if held else None


class SignalsDegraded(UserWarning):
    """The ledger does not answer: the signals are those that the lake remembers, and the message says why."""


def _held(settings: Settings, symbols: Sequence[str] | None) -> list[dict[str, Any]]:
    """What the ledger holds; where it does not answer what the lake remembers, with a warning."""
    try:
        return _stored(settings, symbols)
    except LedgerOutdated:
        raise
    except StoreTrouble as trouble:
        from alpha_assets.stores.last_said import last_said

        try:
            rows = last_said(settings)
        except StoreTrouble as other:
            raise trouble from other
        if not rows:
            raise
        warnings.warn(f"{trouble}; the signals are those that the lake remembers", SignalsDegraded, stacklevel=3)
        return [row for row in rows if symbols is None or row["symbol"] in symbols]


def _stored(settings: Settings, symbols: Sequence[str] | None) -> list[dict[str, Any]]:
    """What ``Ledger.signals`` says; without SQLAlchemy where SQLite will do: importing it takes 0.35 s of 0.6."""
    if settings.ledger_url is not None:
        return _ledger(settings).signals(symbols)
    # One list in JSON: SQLite takes a limited number of variables.
    chosen = "" if symbols is None else "symbol IN (SELECT value FROM json_each(?)) AND "
    found = _selected(
        settings,
        f"SELECT {', '.join(STORED)} FROM signals WHERE {chosen}"
        "symbol NOT IN (SELECT symbol FROM universe WHERE retired_at IS NOT NULL) ORDER BY symbol",
        *(() if symbols is None else (json.dumps([*symbols]),)),
    )
    return [{name: _value(name, row[name]) for name in STORED} for row in found]


#: The ledgers on a server that were read: to connect anew takes longer than to read.
_LEDGERS: "dict[str, Ledger]" = {}


def _ledger(settings: Settings) -> "Ledger":
    from alpha_assets.stores.ledger import Ledger

    return _LEDGERS.setdefault(settings.ledger, Ledger(settings))


def _selected(settings: Settings, query: str, *values: str) -> list[sqlite3.Row]:
    """What a query to the ledger in SQLite finds; nothing on a fresh home. Raises StoreTrouble out of reach of it."""
    if not settings.ledger_file.exists():
        if (Path(settings.lake) / "signals").exists():
            raise StoreTrouble(f"the ledger {settings.ledger_file} is gone")
        return []
    try:
        place, wait = f"{settings.ledger_file.as_uri()}?mode=ro", settings.ledger_wait_seconds
        with closing(sqlite3.connect(place, uri=True, timeout=wait)) as connection:
            connection.row_factory = sqlite3.Row
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
                return []
            for found in connection.execute("SELECT version_num FROM alembic_version"):
                refuse_other_revision(found["version_num"])
            return connection.execute(query, values).fetchall()
    except sqlite3.DatabaseError as error:
        raise StoreTrouble(f"the ledger {settings.ledger_file} cannot be read: {error}") from error


def _value(name: str, stored: Any) -> Any:
    if name in INSTANTS:
        return _instant(stored)
    return json.loads(stored) if name in DOCUMENTS and stored is not None else stored


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)

"""Reading signals: by the command and by ``from alpha_assets import signals``. Imports nothing heavy."""

import json
import sqlite3
import warnings
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from alpha_assets.quant.parameters import DISCLAIMER, MOST_HOURS
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.quant.tally import DOCUMENTS, RECORD, RISKS, WHOLE, WORDS, is_fresh, tally
from alpha_assets.settings import Settings, load
from alpha_assets.stores.home import lost_ledger, refuse_other_interval
from alpha_assets.stores.migrations import LedgerOutdated, refuse_other_revision
from alpha_assets.stores.trouble import StoreTrouble
from alpha_assets.stores.unserved import noted

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
    "disclaimer",
)

STORED = tuple(name for name in SIGNAL_FIELDS if name not in ("fresh", "disclaimer"))
INSTANTS = ("bar_time", "created_at", "expires_at")


class SignalsDegraded(UserWarning):
    """A part of the ledger does not answer; the message says which, why, and what is told instead."""


class UnknownSymbol(StoreTrouble):
    """Signals were asked for of a symbol that nobody follows, or no longer; the message names it."""


class NoSignal(StoreTrouble):
    """A symbol is followed and nothing was said of it yet; the message says how to have it said."""


class Signals:
    """The newest signals, as ``alpha-assets signals`` has them. Research and education, not financial advice.

    >>> from alpha_assets import signals
    >>> signals(["AAPL", "MSFT"], min_confidence=0.55)  # doctest: +SKIP
    >>> signals.explain("AAPL")["reason"]  # doctest: +SKIP
    >>> signals.metrics()["buy_ratio"]  # doctest: +SKIP

    Reading imports neither dagster, mlflow, alembic nor polars, and writes nothing. While the ledger does not answer,
    or took no newer signals, they come from the lake (which takes polars) with a warning ``SignalsDegraded`` that says
    why. Where it does not answer none of them is fresh: nobody knows whether the model was taken back since, and a
    symbol that the lake knows nothing of is named in the warning instead of ``UnknownSymbol``.

    Every call takes ``settings``, the home to read; by default that of the environment. All raise ``UnknownSymbol`` for
    a symbol that is not followed, ``ValueError`` for a choice that is none, ``StoreTrouble`` (the base of these
    troubles) where neither ledger nor lake answers, where the ledger's schema is another program's, or where the home
    holds bars of another interval.
    """

    def __call__(
        self,
        symbols: str | Sequence[str] | None = None,
        max_age_hours: float | None = None,
        settings: Settings | None = None,
        *,
        words: str | Sequence[str] | None = None,
        min_confidence: float | None = None,
        risks: str | Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """The newest signal of each symbol, in alphabetical order; an empty list before any was said.

        Parameters
        ----------
        symbols : str or sequence of str, optional
            Only these; a symbol that is followed and of which nothing was said is absent.
        max_age_hours : float, optional
            Only signals created within so many hours.
        settings : Settings, optional
            The home to read; by default that of the environment.
        words : str or sequence of str, optional
            Only signals that say one of these (``quant.tally.WORDS``).
        min_confidence : float, optional
            Only signals that state a direction and are at least so sure of it, a probability.
        risks : str or sequence of str, optional
            Only signals of one of these levels of risk (``quant.tally.RISKS``).

        Returns
        -------
        list of dict
            With the fields of ``SIGNAL_FIELDS``: ``signal`` is STRONG_BUY, BUY, HOLD, SELL or STRONG_SELL;
            ``confidence`` the calibrated probability that the stated direction earns its costs, None for HOLD; times
            are aware datetimes in UTC; ``fresh`` is False once ``expires_at`` has passed, or where the clock was set
            back to before it was said. ``score`` is what the views come to, in [-1, 1]; ``price`` the bar's close as
            traded, ``predicted_price`` where it is expected at the end of the horizon, between ``price_low`` and
            ``price_high``; ``risk`` LOW, MEDIUM or HIGH; ``views`` a list of what each view says and why;
            ``top_features`` those that moved the model most; ``data_points`` the bars held of the symbol;
            ``disclaimer`` what no signal goes without.
        """
        now, chosen = datetime.now(UTC), None if symbols is None else _listed(symbols)
        wanted, levels = _among(words, WORDS, "words"), _among(risks, RISKS, "risks")
        if max_age_hours is not None and not 0 < max_age_hours <= MOST_HOURS:
            raise ValueError(
                f"max_age_hours is {max_age_hours}: it is a number of hours above 0, {MOST_HOURS:,} at most"
            )
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}: it is a probability from 0 to 1")
        rows = _held(settings or load(), chosen)
        if max_age_hours is not None:
            rows = [row for row in rows if row["created_at"] > now - timedelta(hours=max_age_hours)]
        if wanted is not None:
            rows = [row for row in rows if row["signal"] in wanted]
        if min_confidence is not None:
            rows = [row for row in rows if row["confidence"] is not None and row["confidence"] >= min_confidence]
        if levels is not None:
            rows = [row for row in rows if row["risk"] in levels]
        return [
            {**{name: row.get(name) for name in SIGNAL_FIELDS}, "fresh": is_fresh(row, now), "disclaimer": DISCLAIMER}
            for row in rows
        ]

    def explain(self, symbol: str, settings: Settings | None = None) -> dict[str, Any]:
        """Why the newest signal of a symbol says what it says.

        Returns
        -------
        dict
            The fields of ``SIGNAL_FIELDS``; ``weights``, the share of each view in the blend of the bar's regime (they
            sum to 1; empty before there is a track record); ``calibration``, None or what the confidence rests on:
            ``outcomes``, their number, ``odds``, the coefficients of its log-odds, and the confidences from which a
            signal is stated (``least_confidence``) and strong (``strong_from``, None: none is).

        Raises ``NoSignal`` for a symbol that is followed and of which nothing was said yet.
        """
        settings = settings or load()
        rows = self([symbol], settings=settings)
        if not rows:
            raise NoSignal(f"{symbol} has no signal: alpha-assets refresh --symbols {symbol}")
        (row,) = rows
        return {**row, "views": row["views"] or [], **_belief(settings, row["regime"])}

    def metrics(
        self,
        symbols: str | Sequence[str] | None = None,
        max_age_hours: float | None = None,
        settings: Settings | None = None,
        *,
        words: str | Sequence[str] | None = None,
        min_confidence: float | None = None,
        risks: str | Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """How many signals say what (``quant.tally.METRIC_FIELDS``), of all or of those that a call would choose.

        Of all as they were counted when they were said, while that is fresh. Counts are 0 and ratios None before any
        signal was said.
        """
        chosen = {"symbols": symbols, "max_age_hours": max_age_hours, "words": words}
        chosen |= {"min_confidence": min_confidence, "risks": risks}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        settings = settings or load()
        held = None if chosen else _counted(settings)
        return tally(self(settings=settings, **chosen)) if held is None else held  # type: ignore[arg-type]


signals = Signals()


def refuse_unfollowed(settings: Settings, symbols: Sequence[str]) -> None:
    """Raise UnknownSymbol for those that are not in the universe, or are retired."""
    known = _members(settings, symbols)
    unknown = [symbol for symbol in symbols if symbol not in known]
    if unknown:
        raise UnknownSymbol(f"{', '.join(unknown)}: not in the universe, see «alpha-assets universe list»")
    retired = [symbol for symbol in symbols if known[symbol] is not None]
    if retired:
        raise UnknownSymbol(
            f"{', '.join(retired)}: retired, no longer followed; «alpha-assets universe add {' '.join(retired)}» "
            "follows again"
        )


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _among(names: str | Sequence[str] | None, known: Sequence[str], what: str) -> list[str] | None:
    if names is None:
        return None
    found = [name.upper() for name in _listed(names)]
    if not found or not set(found) <= set(known):
        raise ValueError(f"{what} is {names!r}: it names something else than {', '.join(known)}")
    return found


def _members(settings: Settings, symbols: Sequence[str]) -> dict[str, Any]:
    """Of these symbols those that are or were followed, with the time at which one was retired."""
    if settings.ledger_url is not None:
        wanted = set(symbols)
        rows: Sequence[Any] = [row for row in _ledger(settings).universe(retired=True) if row["symbol"] in wanted]
    else:
        query = "SELECT symbol, retired_at FROM universe WHERE symbol IN (SELECT value FROM json_each(?))"
        rows = _selected(settings, query, json.dumps([*symbols]))
    return {row["symbol"]: row["retired_at"] for row in rows}


def _belief(settings: Settings, regime: str | None) -> dict[str, Any]:
    """What the newest track record says of this regime, where there is one: weights of the views, calibration."""
    try:
        held = _newest_record(settings)
    except StoreTrouble as trouble:
        _warn(f"{trouble}; weights and calibration are left out")
        held = None
    if held is None:
        return {"weights": {}, "calibration": None}
    place = REGIMES.index(regime) if regime in REGIMES else 0
    odds = dict(zip(("constant", "score", "side", "costs"), held["odds"][place], strict=True))
    return {
        "weights": dict(zip(held["views"], held["weight"][place], strict=True)),
        "calibration": {
            "outcomes": held["seen"],
            "odds": odds,
            "least_confidence": settings.signal.least_confidence,
            "strong_from": held["strong_from"],
        },
    }


def _newest_record(settings: Settings) -> Any | None:
    if settings.ledger_url is not None:
        from alpha_assets.stores.cache import Cache

        return Cache(_ledger(settings)).newest(RECORD)
    query = "SELECT value FROM cache WHERE namespace = ? ORDER BY created_at DESC, key LIMIT 1"
    found = _selected(settings, query, RECORD)
    return json.loads(found[0]["value"]) if found else None


def _counted(settings: Settings) -> dict[str, Any] | None:
    """The tally that was stored with the signals; None where none is fresh, or the ledger is silent or behind."""
    if noted(settings) is not None:
        return None
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


def _held(settings: Settings, symbols: Sequence[str] | None) -> list[dict[str, Any]]:
    """What the ledger holds; where it does not answer or took nothing newer what the lake remembers, with a warning."""
    refuse_other_interval(settings)
    try:
        rows = _stored(settings, symbols)
        if symbols is not None and (missing := sorted(set(symbols) - {row["symbol"] for row in rows})):
            refuse_unfollowed(settings, missing)
    except (LedgerOutdated, UnknownSymbol):
        raise
    except StoreTrouble as trouble:
        from alpha_assets.stores.last_said import last_said

        try:
            remembered = last_said(settings)
        except StoreTrouble as other:
            raise trouble from other
        if not remembered:
            raise
        unknown = sorted(set(symbols or ()) - {row["symbol"] for row in remembered})
        nothing = f"; it remembers nothing of {', '.join(unknown)}" if unknown else ""
        _warn(
            f"{trouble}; the signals are those that the lake remembers, and none is fresh: what was decided since is "
            f"in the ledger{nothing}"
        )
        # As the ledger expires what was outdated by a decision.
        told = [{**row, "expires_at": row["created_at"]} for row in remembered]
        return [row for row in told if symbols is None or row["symbol"] in symbols]
    owed = noted(settings)
    return rows if owed is None else _with_those_of_the_lake(settings, rows, symbols, *owed)


def _with_those_of_the_lake(
    settings: Settings, rows: list[dict[str, Any]], symbols: Sequence[str] | None, trouble: str, owed: set[str]
) -> list[dict[str, Any]]:
    """The ledger's rows, and the lake's where those are newer and the ledger took none."""
    asked = sorted(owed if symbols is None else owed & set(symbols))
    followed = {symbol for symbol, retired in _members(settings, asked).items() if retired is None}
    if not followed:
        return rows
    from alpha_assets.stores.last_said import last_said

    try:
        remembered = [row for row in last_said(settings) if row["symbol"] in followed]
    except StoreTrouble as other:
        _warn(f"{trouble}; the lake, which has newer signals, does not answer either: {other}")
        return rows
    _warn(f"{trouble}; the signals of {', '.join(sorted(followed))} are those that the lake remembers")
    newest = {row["symbol"]: row for row in rows}
    newer = [row for row in remembered if (held := newest.get(row["symbol"])) is None or _age(held) < _age(row)]
    newest |= {row["symbol"]: row for row in _ended_where_overtaken(settings, newer)}
    return [newest[symbol] for symbol in sorted(newest)]


def _ended_where_overtaken(settings: Settings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lake's rows, of which those hold no longer that a newer bar or another decision has overtaken since.

    As the ledger ends its own; but any decision of the bar's regime or of «all» counts, for the lake does not know
    whose model spoke.
    """
    ledger, names = _ledger(settings), [row["symbol"] for row in rows]
    states, decided = ledger.states(), ledger.history(names)

    def overtaken(row: dict[str, Any]) -> bool:
        last = states.get(row["symbol"], {}).get("last_bar")
        since = [
            decision["decided_at"] > row["created_at"]
            for regime in (row["regime"], "all")
            for decision in decided.get((row["symbol"], regime), ())
            if decision["verdict"] in ("promote", "rollback")
        ]
        return any(since) or (last is not None and last > row["bar_time"])

    return [{**row, "expires_at": row["created_at"]} if overtaken(row) else row for row in rows]


def _age(row: dict[str, Any]) -> tuple[bool, datetime, datetime]:
    """What orders two signals of a symbol: the bar, none at all being the oldest, then when it was said."""
    return row["bar_time"] is not None, row["bar_time"] or row["created_at"], row["created_at"]


def _warn(message: str) -> None:
    warnings.warn(message, SignalsDegraded, stacklevel=4)


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
    return [_as_said(row) for row in found]


#: The ledgers on a server that were read: to connect anew takes longer than to read.
_LEDGERS: "dict[str, Ledger]" = {}


def _ledger(settings: Settings) -> "Ledger":
    from alpha_assets.stores.ledger import Ledger

    return _LEDGERS.setdefault(settings.ledger, Ledger(settings))


def _selected(settings: Settings, query: str, *values: str) -> list[sqlite3.Row]:
    """What a query to the ledger in SQLite finds; nothing on a fresh home. Raises StoreTrouble out of reach of it."""
    if lost := lost_ledger(settings):
        raise StoreTrouble(lost)
    if not settings.ledger_file.exists():
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


def _as_said(row: sqlite3.Row) -> dict[str, Any]:
    """A row of ``STORED`` with the types that SQLite has not."""
    said = dict(zip(STORED, row, strict=True))
    for name in INSTANTS:
        said[name] = _instant(said[name])
    for name in DOCUMENTS:
        if said[name] is not None:
            said[name] = from_json(said[name])
    return said


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)

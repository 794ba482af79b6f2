"""What is known of the models of a symbol: their versions, the ML profile, and why one of them serves.

Views over decisions, candidates and MLflow; nothing of them is stored.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from alpha_assets.quant.lifecycle import (
    PRODUCTION,
    Decision,
    Standing,
    VersionKey,
    served_before,
    standing,
    standings,
    states_of,
    stood_in,
    taken_back,
    version_of,
)
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import Registry

Cell = tuple[str, str]

#: Parameters and metrics of the run that trained a version, by version.
Figures = Mapping[VersionKey, tuple[Mapping[str, str], Mapping[str, float]]]

LINE_FIELDS = ("line", "figure", "error", "bound", "threshold", "passed", "decides", "sentence")


def version_rows(ledger: Ledger, symbols: Sequence[str] | None = None) -> list[Row]:
    """A row a version that the ledger knows of, and one a cell that has none, with the reason.

    ``state`` is staging, canary, production, archived or failed; ``training`` what the newest training of the cell
    came to. Sorted by symbol, regime and age.
    """
    wanted = None if symbols is None else set(symbols)
    histories = ledger.history(symbols)
    candidates = {cell: row for cell, row in ledger.candidates().items() if wanted is None or cell[0] in wanted}
    rows = []
    for cell in sorted(histories.keys() | candidates.keys(), key=lambda cell: (cell[0], REGIMES.index(cell[1]))):
        rows += _versions(cell, histories.get(cell, []), candidates.get(cell))
    return rows


def training_log(ledger: Ledger, registry: Registry, symbols: Sequence[str] | None = None) -> list[Row]:
    """A row a training that the ledger knows of: when, how long (processor time), on how many rows, how accurate.

    A pooled model, which stands in for several symbols, is one training, and its symbol is «*». ``accuracy`` and
    ``ts_ic`` are out of fold. ``status`` is that of the version over all symbols, of ``symbols`` or not, as its tag in
    MLflow has it (``lifecycle.states_of``), or why there is no version. Sorted by symbol, regime and age.
    """
    metrics = registry.trainings()
    histories, candidates = ledger.history(), ledger.candidates()
    states = states_of(standings(histories, candidates).values())
    trained: dict[str, list[Row]] = {}
    for row in [*chain.from_iterable(histories.values()), *candidates.values()]:
        if row["training_id"] and (symbols is None or row["symbol"] in symbols):
            trained.setdefault(row["training_id"], []).append(row)
    told = [_training(own, states, metrics.get(identity, {})) for identity, own in trained.items()]
    return sorted(told, key=lambda row: (row["symbol"], REGIMES.index(row["regime"]), row["trained_at"]))


def _training(rows: Sequence[Row], states: Mapping[VersionKey, str], metrics: Mapping[str, float]) -> Row:
    newest, ours = rows[-1], {row["symbol"] for row in rows}
    key = version_of(newest)
    return {
        "symbol": newest["symbol"] if len(ours) == 1 else "*",
        "regime": newest["regime"],
        "model": newest["model_name"],
        "version": newest["model_version"],
        "status": newest["state"] if key is None else states[key],
        "trained_at": newest["trained_at"] or newest["decided_at"],
        "seconds": metrics.get("training_seconds"),
        "rows": metrics.get("oof_rows", newest.get("rows")),
        "accuracy": metrics.get("oof_accuracy"),
        "ts_ic": metrics.get("oof_ts_ic"),
    }


def _versions(cell: Cell, history: Sequence[Row], candidate: Row | None) -> list[Row]:
    stands = standing(history, candidate)
    training = candidate["state"] if candidate else None
    named = {"symbol": cell[0], "regime": cell[1], "training": training}
    rows = []
    newest = {version_of(row): row for row in history}
    for key, state in stands.states.items():
        if (last := _last_on(key, history)) is not None:
            rows.append({**named, **_shown(newest[key]), **_decision(last), "state": state})
    own = version_of(candidate) if candidate is not None else None
    if candidate is not None and own not in newest and (own or not rows):
        so_far = {"state": stands.states[own] if own else None, "reason": _so_far(history, candidate)}
        rows.append({**named, **_shown(candidate), **so_far})
    return rows


def _last_on(key: VersionKey, history: Sequence[Row]) -> Decision | None:
    """The newest decision on a version: what took it back is one too, though it is about the version before."""
    back = taken_back(history).get(key)
    said = [row for row in history if version_of(row) == key] + ([back] if back is not None else [])
    return max(said, key=lambda row: int(row["seq"]), default=None)


def _so_far(history: Sequence[Row], candidate: Row) -> str:
    """Of a candidate that was not decided on itself."""
    instead = stood_in(history, candidate)
    if instead is None:
        return str(candidate["reason"])
    return f"{instead['model_name']} version {instead['model_version']} was decided on in its place"


def _shown(row: Mapping[str, Any]) -> Row:
    return {"model": row["model_name"], "version": row["model_version"], "trained_at": row["trained_at"]}


def _decision(row: Decision) -> Row:
    return {name: row[name] for name in ("decided_at", "verdict", "who", "reason")}


def explanation(ledger: Ledger, cell: Cell) -> Row | None:
    """Why a version of this cell is in production, ready for JSON; None where none is.

    ``lines`` is the gate's table at the decision that judged this training, ``baseline`` what served before,
    ``window`` the out-of-fold predictions it was judged on, ``shadow`` what its shadow showed, ``history`` every
    decision on this cell.
    """
    history = [row for row in ledger.decisions(cell[0]) if row["regime"] == cell[1]]
    serving = standing(history).production
    if serving is None:
        return None
    judged = next(
        (
            row
            for row in reversed(history)
            if row["training_id"] == serving["training_id"] and row["evidence"].get("symbol")
        ),
        None,
    )
    evidence = judged["evidence"] if judged else {}
    before = served_before(history, serving)
    named = (
        *("symbol", "regime", "model_name", "model_version", "previous_version", "verdict", "who", "reason"),
        *("training_id", "features_set", "dagster_run", "seconds"),
    )
    return {
        **{name: serving[name] for name in named},
        "previous_model": before["model_name"] if before else None,
        **{name: _iso(serving[name]) for name in ("decided_at", "trained_at")},
        "judged_at": _iso(judged["decided_at"]) if judged else None,
        "judged_by": judged["who"] if judged else None,
        "lines": _lines(evidence),
        "attempt": evidence.get("pool", {}).get("attempt"),
        "gate": evidence.get("pool", {}).get("configuration"),
        "level": evidence.get("pool", {}).get("level"),
        "baseline": evidence.get("baseline"),
        "window": evidence.get("window"),
        "shadow": serving["evidence"].get("shadow"),
        "history": [_told(row) for row in history],
    }


def _lines(evidence: Mapping[str, Any]) -> list[Row]:
    lines = [{**line, "line": line["name"]} for line in evidence.get("pool", {}).get("lines", ())]
    symbol = evidence.get("symbol")
    if symbol:
        lines.append(
            {
                "line": "symbol",
                "figure": symbol["probability"],
                "error": None,
                "bound": None,
                "threshold": symbol["threshold"],
                "passed": symbol["decision"] == "promote",
                "decides": True,
                "sentence": symbol["reason"],
            }
        )
    return [{name: line.get(name) for name in LINE_FIELDS} for line in lines]


def _told(row: Decision) -> Row:
    names = ("seq", "verdict", "stage", "model_name", "model_version", "previous_version", "who", "reason")
    return {**{name: row[name] for name in names}, "decided_at": _iso(row["decided_at"])}


def ml_profile(ledger: Ledger, registry: Registry, settings: Settings, symbol: str, now: datetime) -> Row:
    """The models of one symbol by regime, ready for JSON.

    Per regime: the newest training with its result and its fate (the status of its version, and the newest decision on
    it or in its place), how many versions there are, the version in production with its age, the canary. ``status`` and
    ``last_decision`` are those of the version in production; where there is none, of the newest attempt. Parameters
    and metrics stand beside both versions, unless they are one: then beside that in production.
    """
    histories = ledger.history([symbol])
    candidates = {cell: row for cell, row in ledger.candidates().items() if cell[0] == symbol}
    stands = standings(histories, candidates)
    serving = [one.production for one in stands.values() if one.production is not None]
    keys = {version_of(row) for row in [*serving, *candidates.values()]}
    figures = registry.figures_of({key for key in keys if key is not None})
    return {
        cell[1]: _of_regime(figures, settings, histories.get(cell, []), stands[cell], candidates.get(cell), now)
        for cell in ((symbol, regime) for regime in REGIMES)
        if cell in stands
    }


def _of_regime(
    figures: Figures,
    settings: Settings,
    history: Sequence[Row],
    stands: Standing,
    candidate: Row | None,
    now: datetime,
) -> Row:
    document: Row = {"versions": len(stands.states), "status": _status(history, stands, candidate)}
    if candidate is not None:
        names = ("state", "reason", "model_name", "model_version", "rows", "features_set", "training_id")
        document["training"] = {
            **{name: candidate[name] for name in names},
            "at": _iso(candidate["trained_at"]),
            **_fate(history, stands, candidate),
        }
    serving = stands.production
    own, served = (version_of(row) if row is not None else None for row in (candidate, serving))
    if own is not None and own != served:
        document["training"] |= _figures(figures, own)
    if serving is not None and served is not None:
        since = serving["trained_at"] or serving["decided_at"]
        document[PRODUCTION] = {
            "model_name": serving["model_name"],
            "model_version": serving["model_version"],
            "since": _iso(serving["decided_at"]),
            "age_days": round((now - since) / timedelta(days=1), 2),
            "expires_in_days": round(settings.promotion.expiry_days - (now - since) / timedelta(days=1), 2),
            **_figures(figures, served),
        }
    if stands.canary is not None:
        about = ("model_name", "model_version", "reason")
        document["canary"] = {
            **{name: stands.canary[name] for name in about},
            "since": _iso(stands.canary["decided_at"]),
        }
    if history:
        document["last_decision"] = _told(serving or history[-1])
    return document


def _fate(history: Sequence[Row], stands: Standing, candidate: Row) -> Row:
    """What became of a candidate's version; nothing is told of one that is none, no decision of one that waits."""
    key = version_of(candidate)
    if key is None:
        return {}
    said = _last_on(key, history) or stood_in(history, candidate)
    return {"status": stands.states[key], **({"last_decision": _told(said)} if said else {})}


def _figures(figures: Figures, version: VersionKey) -> Row:
    """Nothing is told of a version that MLflow no longer knows."""
    parameters, metrics = figures.get(version, ({}, {}))
    return {"parameters": parameters, "metrics": metrics}


def _status(history: Sequence[Row], stands: Standing, candidate: Row | None) -> str:
    """In a word how far the models of this cell have come: where a pooled version stood in, how far that one has."""
    if stands.production is not None:
        return PRODUCTION
    if stands.canary is not None:
        return "canary"
    judged = candidate and (stood_in(history, candidate) or candidate)
    key = version_of(judged) if judged else None
    if key is not None:
        return stands.states[key]
    return str(candidate["state"]) if candidate else "none"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")

"""Rows of the ledger's ``decisions``: what a gate, a watch or a person decided on a version, in one form.

A person decides on the ledger's word alone, so that a decision takes as long as its one INSERT; what makes no sense is
refused with a sentence that says what would.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any

from alpha_assets.quant.lifecycle import FAILED, GATE, NOBODY, Standing, standing, stood_in, version_of
from alpha_assets.settings import Settings
from alpha_assets.stations.sets import recipe_of, restored
from alpha_assets.stations.train import model_name
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import ModelDamaged, Registry, RegistryUnavailable
from alpha_assets.stores.trouble import StoreTrouble

#: What a decision says of the version it is about.
MODEL = (
    "training_id",
    "features_set",
    "model_name",
    "model_version",
    "model_location",
    "model_digest",
    "horizon",
    "trained_at",
)


class DecisionRefused(StoreTrouble):
    """A decision that makes no sense where things stand; the message says what would."""


def row_of(
    model: Mapping[str, Any] | None,
    cell: tuple[str, str],
    *,
    verdict: str,
    stage: str,
    reason: str,
    last: Row | None,
    production: Mapping[str, Any] | None,
    who: str,
    evidence: Mapping[str, Any],
    now: datetime,
    dagster_run: str | None = None,
    seconds: float | None = None,
    speaker: str | None = None,
) -> Row:
    """A decision on ``model`` (a candidate's or an earlier decision's row; None: on no version).

    ``last`` is the decision before it on this cell, ``production`` the one that explains what serves now. ``speaker``
    says whose opinion of the version was judged, where it is not the one that it was trained to give; else it is what
    ``model`` says, so that who is brought back speaks as before.
    """
    symbol, regime = cell
    return {
        "symbol": symbol,
        "regime": regime,
        "seq": (last["seq"] if last else 0) + 1,
        "verdict": verdict,
        "stage": stage,
        "reason": reason,
        **{name: model[name] if model else None for name in MODEL},
        "speaker": speaker or (model or {}).get("speaker"),
        "previous_version": production["model_version"] if production else None,
        "who": who,
        "evidence": dict(evidence),
        "seconds": seconds,
        "dagster_run": dagster_run,
        "decided_at": now,
    }


def rollback_row(
    history: Sequence[Row],
    *,
    to: Mapping[str, Any] | None,
    reason: str,
    who: str,
    now: datetime,
    evidence: Mapping[str, Any] | None = None,
    dagster_run: str | None = None,
    seconds: float | None = None,
) -> Row:
    """The decision that brings the version of ``to`` back (None: leaves no version in production)."""
    last = history[-1]
    return row_of(
        to,
        (last["symbol"], last["regime"]),
        verdict="rollback",
        stage="production" if to else NOBODY,
        reason=reason,
        last=last,
        production=standing(history).production,
        who=who,
        evidence=evidence or {},
        now=now,
        dagster_run=dagster_run,
        seconds=seconds,
    )


def promote_version(
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    cell: tuple[str, str],
    number: str | None,
    *,
    why: str,
    who: str,
    now: datetime,
) -> Row:
    """A person's word that this version serves from now on; None: what waits, else what the newest training came to.

    Raises DecisionRefused where it serves already, does not exist, or could not be asked.
    """
    with ExitStack() as held:
        # A clean-up that is to delete this version ends first, and its files are then missed. Where MLflow does not
        # answer nobody can clean up.
        with suppress(RegistryUnavailable):
            held.enter_context(registry.alone())
        history, stands, candidate = _known(ledger, cell)
        model = _wanted(history, stands, candidate, cell, number)
        if _serves(stands, model):
            raise DecisionRefused(f"{_version(model)} is in production already")
        _refuse_unreadable(ledger, registry, settings, model, cell)
        return _recorded(
            ledger, history, stands, cell, model, "promote", "production", why, who, now, _against(history, model)
        )


def reject_version(
    ledger: Ledger, cell: tuple[str, str], number: str | None, *, why: str, who: str, now: datetime
) -> Row:
    """A person's word that this version never serves; None: what waits, else what the newest training came to.

    Raises DecisionRefused for the version in production, for one turned down already, and for one that does not exist.
    """
    history, stands, candidate = _known(ledger, cell)
    model = _wanted(history, stands, candidate, cell, number)
    if _serves(stands, model):
        raise DecisionRefused(
            f'{_version(model)} is in production: «alpha-assets rollback {cell[0]} {cell[1]} --why "…"» takes it back'
        )
    if stands.states.get((model["model_name"], model["model_version"])) == FAILED:
        raise DecisionRefused(f"{_version(model)} is turned down already")
    return _recorded(ledger, history, stands, cell, model, "reject", "failed", why, who, now, {})


def roll_back(ledger: Ledger, cell: tuple[str, str], number: str | None, *, why: str, who: str, now: datetime) -> Row:
    """A person's word that production goes back to the version before, or to ``number``; to none where there is none.

    Raises DecisionRefused where nothing is in production, or where ``number`` is not below it in the line, or of two.
    """
    history, stands, _ = _known(ledger, cell)
    if stands.production is None:
        raise DecisionRefused(
            f"{_named(cell)} has no version in production, so there is nothing to take back: «alpha-assets models "
            f"{cell[0]}» lists what there is"
        )
    below = stands.line[:-1]
    to = stands.previous
    if number is not None:
        to = _named_version(list(reversed(below)), cell, number)
        if to is None:
            could = ", ".join(str(row["model_version"]) for row in reversed(below)) or "none: without --version it "
            could += "" if below else "leaves no version in production"
            raise DecisionRefused(
                f"{_named(cell)} version {number} has not served before the present one, or was turned down since; a "
                f"rollback can return to {could}; «alpha-assets promote» brings any other version into production"
            )
    row = rollback_row(history, to=to, reason=why, who=who, now=now)
    (written,) = ledger.decide([row])
    return written


def _known(ledger: Ledger, cell: tuple[str, str]) -> tuple[list[Row], Standing, Row | None]:
    history = ledger.history([cell[0]]).get(cell, [])
    candidate = ledger.candidates().get(cell)
    if not history and (candidate is None or candidate["model_version"] is None):
        raise DecisionRefused(f"{_named(cell)} has no version yet: alpha-assets train --symbols {cell[0]}")
    return history, standing(history), candidate


def _wanted(
    history: Sequence[Row], stands: Standing, candidate: Row | None, cell: tuple[str, str], number: str | None
) -> Mapping[str, Any]:
    """The version that a person means: the one named, else the canary, else the one held for a person.

    Where neither is, what the gate judged in the candidate's place, else the candidate.
    """
    trained = _as_judged(history, candidate)
    if number is not None:
        found = _named_version([*([trained] if trained else []), *reversed(history)], cell, number)
        if found is None:
            raise DecisionRefused(
                f"{_named(cell)} has no version {number}: «alpha-assets models {cell[0]}» lists those there are"
            )
        return found
    held = next((row for row in reversed(history) if _state(stands, row) == "staging"), None)
    instead = _as_judged(history, candidate and stood_in(history, candidate))
    waiting = stands.canary or held or instead or trained
    if waiting is None:
        raise DecisionRefused(f"{_named(cell)} has no version that waits for a decision: name one with --version")
    return waiting


def _as_judged(history: Sequence[Row], candidate: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The newest decision on a candidate's version, which knows whose opinion was judged; else the candidate."""
    if candidate is None or candidate["model_version"] is None:
        return None
    return next((row for row in reversed(history) if version_of(row) == version_of(candidate)), candidate)


def _named_version(rows: Sequence[Mapping[str, Any]], cell: tuple[str, str], number: str) -> Mapping[str, Any] | None:
    """The first of ``rows`` on the version ``number``, or «name/number».

    A cell's own fits and the pooled ones that stand in for them are numbered apart: a number that both have is refused.
    """
    name, _, number = number.rpartition("/")
    meant = [row for row in rows if row["model_version"] == number and name in ("", row["model_name"])]
    names = sorted({str(row["model_name"]) for row in meant})
    if len(names) > 1:
        could = " or ".join(f"--version {other}/{number}" for other in names)
        raise DecisionRefused(f"{_named(cell)}: version {number} may be that of {' or '.join(names)}: say {could}")
    return meant[0] if meant else None


def _state(stands: Standing, row: Mapping[str, Any]) -> str | None:
    return stands.states.get((str(row["model_name"]), str(row["model_version"])))


def _serves(stands: Standing, model: Mapping[str, Any]) -> bool:
    serving = stands.production
    names = ("model_name", "model_version")
    return serving is not None and all(serving[name] == model[name] for name in names)


def _refuse_unreadable(
    ledger: Ledger, registry: Registry, settings: Settings, model: Mapping[str, Any], cell: tuple[str, str]
) -> None:
    """A version in production is asked at every bar: its table must be kept and its files must be those registered."""
    table = model["features_set"]
    if table != recipe_of(settings).table and restored(ledger.recipes().get(table, {}), table) is None:
        raise DecisionRefused(
            f"{_version(model)} reads {table}, which this program no longer makes: "
            f"«alpha-assets train --symbols {cell[0]}» trains a successor"
        )
    try:
        registry.read_files(model["model_name"], model["model_version"], model["model_location"], model["model_digest"])
    except (ModelDamaged, OSError) as error:
        raise DecisionRefused(f"{_version(model)} cannot be read ({error}): train it again") from error


def _recorded(
    ledger: Ledger,
    history: Sequence[Row],
    stands: Standing,
    cell: tuple[str, str],
    model: Mapping[str, Any],
    verdict: str,
    stage: str,
    why: str,
    who: str,
    now: datetime,
    evidence: Mapping[str, Any],
) -> Row:
    row = row_of(
        model,
        cell,
        verdict=verdict,
        stage=stage,
        reason=why,
        last=history[-1] if history else None,
        production=stands.production,
        who=who,
        evidence=evidence,
        now=now,
    )
    (written,) = ledger.decide([row])
    return written


def _against(history: Sequence[Row], model: Mapping[str, Any]) -> dict[str, Any]:
    """What was last said against the version that a person promotes, and whether no gate has judged it."""
    said = [row for row in history if version_of(row) == version_of(model)]
    unjudged = {} if any(row["who"] == GATE for row in said) else {"unjudged": True}
    if not said or said[-1]["verdict"] not in ("reject", "hold"):
        return unjudged
    last = said[-1]
    return {**unjudged, "overrules": {name: last[name] for name in ("verdict", "who", "reason", "seq")}}


def _version(model: Mapping[str, Any]) -> str:
    return f"{model['model_name']} version {model['model_version']}"


def _named(cell: tuple[str, str]) -> str:
    return model_name(*cell)

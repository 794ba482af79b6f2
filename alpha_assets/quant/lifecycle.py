"""The path of a version, told by the decisions on its (symbol, regime) and by nothing else.

``staging -> canary -> production -> archived``, or ``failed``: turned down, or taken back. A promotion puts a version
on top of the line of those that have served; a rollback takes versions off that line until the one it names is on top,
so that a second rollback goes one further back and never forth again. Who is turned down leaves that line: no rollback
returns to it. A candidate waits as ``staging`` until something is decided on it, or on the pooled version in its place,
which archives it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

#: A decision's fields that are read here: verdict, stage, model_name, model_version; in ``served_since`` decided_at;
#: beside a candidate (of which trained_at is read) decided_at and who.
Decision = Mapping[str, Any]

#: A symbol and a regime.
Cell = tuple[str, str]

#: The registered name and the number of a version.
VersionKey = tuple[str, str]

STAGING, CANARY, PRODUCTION, ARCHIVED, FAILED = "staging", "canary", "production", "archived", "failed"

#: A version that several symbols share has the state of the one for which it does most.
RANK = (PRODUCTION, CANARY, STAGING, ARCHIVED, FAILED)

#: Who decides where no person does.
GATE, WATCH = "gate", "watch"

#: The stage of a decision that is about no version: a rollback to nothing.
NOBODY = "none"


@dataclass(frozen=True)
class Standing:
    """Where the versions of one (symbol, regime) stand.

    ``line`` holds the decisions that brought a version into production which has not been taken back, oldest first: the
    last is what serves, the one before it what a rollback returns to. ``states`` is the state of every version that
    was ever decided on, and of the candidate; ``waiting`` is that one while nothing was decided on it or in its place.
    """

    line: tuple[Decision, ...]
    canary: Decision | None
    states: Mapping[VersionKey, str]
    waiting: VersionKey | None = None

    @property
    def production(self) -> Decision | None:
        """The decision that explains the version in production; None where none is."""
        return self.line[-1] if self.line else None

    @property
    def previous(self) -> Decision | None:
        """The decision whose version a rollback would restore; None where it would leave none."""
        return self.line[-2] if len(self.line) > 1 else None

    def served_since(self, since: datetime) -> tuple[Decision, ...]:
        """The decisions of the line whose version still served after ``since``, newest first.

        Who was taken back or turned down is none of them: what it had promised did not come true.
        """
        ended = zip(self.line, self.line[1:], strict=False)
        former = [decision for decision, successor in ended if successor["decided_at"] > since]
        return (*self.line[-1:], *reversed(former))


def standing(history: Sequence[Decision], candidate: Decision | None = None) -> Standing:
    """The standing after these decisions on one (symbol, regime), oldest first, and of its newest training."""
    line: list[Decision] = []
    canary: Decision | None = None
    states: dict[VersionKey, str] = {}
    for decision in history:
        key = version_of(decision)
        if canary is not None and version_of(canary) == key:
            canary = None
        if decision["verdict"] == "rollback":
            states |= dict.fromkeys(_taken_back(line, key), FAILED)
            line = [*_until(line, key), decision] if key else []
            continue
        if decision["verdict"] == "reject":
            line = _without(line, key)
        if decision["verdict"] == "promote":
            line = [*line[:-1], decision] if line and version_of(line[-1]) == key else [*line, decision]
        if key:
            states[key] = decision["stage"]
        if decision["stage"] == CANARY or decision["verdict"] == "promote":
            if canary is not None:
                states[_sure(canary)] = ARCHIVED
            canary = decision if decision["stage"] == CANARY else None
    states |= {_sure(decision): ARCHIVED for decision in line[:-1]}
    # A version that served before may be on trial again.
    states |= {_sure(canary): CANARY} if canary is not None else {}
    states |= {_sure(decision): PRODUCTION for decision in line[-1:]}
    trained = version_of(candidate) if candidate is not None else None
    if candidate is None or trained is None or trained in states:
        return Standing(tuple(line), canary, states)
    waiting = trained if stood_in(history, candidate) is None else None
    return Standing(tuple(line), canary, {**states, trained: STAGING if waiting else ARCHIVED}, waiting)


def served_before(history: Sequence[Decision], decision: Decision) -> Decision | None:
    """The decision that explained production when ``decision``, one of this history, was taken.

    ``previous_version`` holds its number alone, and a cell's own fits and pooled ones are numbered apart.
    """
    return standing([other for other in history if other["seq"] < decision["seq"]]).production


def standings(
    histories: Mapping[Cell, Sequence[Decision]], candidates: Mapping[Cell, Decision]
) -> dict[Cell, Standing]:
    """The standing of every (symbol, regime) that was decided on or trained."""
    cells = histories.keys() | candidates.keys()
    return {cell: standing(histories.get(cell, ()), candidates.get(cell)) for cell in cells}


def stood_in(history: Sequence[Decision], candidate: Decision) -> Decision | None:
    """The gate's newest decision on the pooled version in the place of a candidate, which is a fit of the symbol's own.

    None of a candidate that was decided on itself, and of one that waits. What a person or the watch says of another
    version is not said in the candidate's place, nor is what the gate said before it was trained.
    """
    key = version_of(candidate)
    if key is None or any(version_of(decision) == key for decision in history):
        return None
    in_its_place = (
        decision
        for decision in reversed(history)
        if decision["who"] == GATE
        and decision["model_name"] != candidate["model_name"]
        and decision["decided_at"] >= candidate["trained_at"]
    )
    return next(in_its_place, None)


def states_of(stands: Iterable[Standing]) -> dict[VersionKey, str]:
    """The state of every version in ``stands``, by ``RANK`` where symbols share it.

    One that waits for a symbol has the state that it was given for others: something was decided on it.
    """
    waiting: dict[VersionKey, str] = {}
    decided: dict[VersionKey, str] = {}
    for stand in stands:
        for key, state in stand.states.items():
            states = waiting if key == stand.waiting else decided
            states[key] = min(state, states.get(key, state), key=RANK.index)
    return waiting | decided


def taken_back(history: Sequence[Decision]) -> dict[VersionKey, Decision]:
    """By version the newest rollback that took it off the line of one (symbol, regime).

    The rollback itself holds the number of what served alone, and a cell's own fits and pooled ones are numbered apart.
    """
    found: dict[VersionKey, Decision] = {}
    for place, decision in enumerate(history):
        if decision["verdict"] == "rollback":
            line = list(standing(history[:place]).line)
            found |= dict.fromkeys(_taken_back(line, version_of(decision)), decision)
    return found


def version_of(decision: Decision) -> VersionKey | None:
    """The version that a decision is about; None of a rollback to nothing."""
    if decision["model_version"] is None:
        return None
    return str(decision["model_name"]), str(decision["model_version"])


def _sure(decision: Decision) -> VersionKey:
    key = version_of(decision)
    assert key is not None, "only a rollback to nothing has no version, and it stands in no line"
    return key


def _until(line: list[Decision], key: VersionKey | None) -> list[Decision]:
    """The line below the newest place of ``key`` in it; where it has none, below what serves."""
    places = [place for place, decision in enumerate(line) if version_of(decision) == key]
    return line[: places[-1]] if places else line[:-1]


def _without(line: list[Decision], key: VersionKey | None) -> list[Decision]:
    """The line without ``key``; of the places of a version that then follows itself the newest."""
    left = (decision for decision in line if version_of(decision) != key)
    return [list(same)[-1] for _, same in groupby(left, version_of)]


def _taken_back(line: list[Decision], key: VersionKey | None) -> list[VersionKey]:
    kept = len(_until(line, key)) if key else 0
    return [_sure(decision) for decision in line[kept:] if version_of(decision) != key]

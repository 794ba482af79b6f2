"""What automation wants done, from what is stored and what the sources could have: pure functions for the sensors."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from alpha_assets.quant.symbols import REGIMES
from alpha_assets.sources.base import Reach
from alpha_assets.stores.ledger import Row

#: A wish that a run has not fulfilled is asked again after this long, then after twice as long, and so on: a vendor
#: may be late with a bar or never bring it (cleaning drops the row, a currency rests on Sundays), or a run die of what
#: it is asked to do. (One that died is tried once more at once, by the daemon's ``run_retries``.)
ASK_AGAIN = timedelta(minutes=30)
LONGEST_PAUSE = timedelta(days=1)


@dataclass(frozen=True)
class Wish:
    """Symbols something should be done for, and a sentence a tick can say about it."""

    symbols: list[str]
    reason: str
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The same for the same wish, whenever it is wished."""
        return hashlib.sha256(json.dumps(sorted(self.marks.items())).encode()).hexdigest()[:16]


def bars_wanted(members: Sequence[Row], states: Mapping[str, Row], could_have: Reach, now: datetime) -> Wish:
    """The symbols whose source could have a newer final bar than the lake holds.

    A quarantined symbol is left alone until its next try is due, those of a source that cannot say until it can.
    """
    marks: dict[str, str] = {}
    waiting = 0
    members = [member for member in members if member["source"] not in could_have.silent]
    for member in members:
        symbol = member["symbol"]
        state = states.get(symbol, {})
        newest = could_have.newest.get(symbol)
        if newest is None or (state.get("last_bar") is not None and newest <= state["last_bar"]):
            continue
        if state.get("next_try") is not None and state["next_try"] > now:
            waiting += 1
            continue
        marks[symbol] = newest.isoformat()
    later = f"; {waiting} quarantined, their next try is later" if waiting else ""
    later += "".join(f"; {sentence}" for sentence in could_have.silent.values())
    if not marks:
        return Wish([], f"all {len(members)} symbols hold what their sources could have by now{later}")
    symbols = sorted(marks)
    return Wish(
        symbols, f"{len(symbols)} of {len(members)} symbols have a bar to come, first {symbols[0]}{later}", marks
    )


def training_wanted(
    members: Sequence[Row],
    states: Mapping[str, Row],
    candidates: Mapping[tuple[str, str], Row],
    now: datetime,
    *,
    after_bars: int,
    after: timedelta,
    apart: timedelta,
    least_bars: int,
    drifted: Collection[str] = (),
    drifted_after_bars: int = 1,
) -> Wish:
    """The symbols with a cell that has enough new bars since its last training, or an old model and something new.

    A cell never looked at is wanted once its symbol holds ``least_bars``; one that was, until the last bar, is not,
    whatever came of it. ``drifted`` are the symbols whose drift realised loss bears out: they are due after fewer bars.

    A cell that is due waits until the newest look at its regime, at whichever symbol, lies ``apart`` behind. Each round
    is an attempt of its families at the gate, and attempt k may spend 1/k² of the first's level: a few symbols a day,
    each due for reasons of its own, left no power after a year.
    """
    rounds = _newest_look(candidates)
    marks: dict[str, str] = {}
    early = []
    waiting: dict[str, datetime] = {}
    for member in members:
        symbol = member["symbol"]
        state = states.get(symbol, {})
        bars = state.get("bars") or 0
        if not bars or state.get("features_until") != state.get("last_bar"):
            continue
        cells = {regime: candidates.get((symbol, regime)) for regime in REGIMES}
        due = [
            regime
            for regime, cell in cells.items()
            if (bars >= least_bars if cell is None else _is_due(cell, bars, now, after_bars, after))
        ]
        if not due and symbol in drifted:
            due = [regime for regime, cell in cells.items() if cell and _new(cell, bars) >= drifted_after_bars]
            early += [symbol] if due else []
        if not due:
            continue
        open_at = min(rounds[regime] + apart if regime in rounds else now for regime in due)
        if now < open_at:
            waiting[symbol] = open_at
        else:
            marks[symbol] = str(state["last_bar"])
    if not marks and not waiting:
        return Wish(
            [],
            f"no symbol of {len(members)} has {after_bars} new bars or a model older than {after.days} days with news",
        )
    symbols = sorted(marks or waiting)
    reason = f"{len(symbols)} of {len(members)} symbols are due for a training, first {symbols[0]}"
    if not marks:
        wait = (
            f", and wait for the round of {min(waiting.values()):%Y-%m-%d %H:%M} UTC, because each spends level at the "
            "gate; «alpha-assets train» waits for none"
        )
        return Wish([], reason + wait)
    early = [symbol for symbol in early if symbol in marks]
    because = f"; {len(early)} because their drift is confirmed, first {min(early)}" if early else ""
    return Wish(symbols, reason + because, marks)


def _newest_look(candidates: Mapping[tuple[str, str], Row]) -> dict[str, datetime]:
    """By regime when any of its cells was last looked at."""
    newest: dict[str, datetime] = {}
    for (_, regime), cell in candidates.items():
        newest[regime] = max(_looked(cell), newest.get(regime, _looked(cell)))
    return newest


def _new(cell: Row, bars: int) -> int:
    return bars - (cell["bars"] or 0)


def _is_due(cell: Row, bars: int, now: datetime, after_bars: int, after: timedelta) -> bool:
    """Whether a cell has many new bars, or some and was looked at long ago.

    A regime may rest for months: its model stays as it was, and the bar until which it was last looked at moves on.
    """
    new = _new(cell, bars)
    return new >= after_bars or (new > 0 and now - _looked(cell) > after)


def _looked(cell: Row) -> datetime:
    return max(cell["trained_at"], cell.get("trained_until") or cell["trained_at"])


def decisions_wanted(due: Mapping[tuple[str, str], str], decisions: Mapping[tuple[str, str], Row]) -> dict[str, Wish]:
    """By regime the symbols on which what was watched asks for a decision; ``due`` says why.

    The wish changes with every decision, so that what a run has decided on is not asked for again.
    """
    wishes = {}
    for regime in dict.fromkeys(regime for _, regime in due):
        symbols = sorted(symbol for symbol, other in due if other == regime)
        marks = {symbol: str(decisions.get((symbol, regime), {}).get("seq", 0)) for symbol in symbols}
        first = f"{symbols[0]}: {due[symbols[0], regime]}"
        wishes[regime] = Wish(symbols, f"{len(symbols)} to decide on in «{regime}», {first}", marks)
    return wishes


@dataclass(frozen=True)
class Asked:
    """The sensor's memory: the last wish it turned into a run, when, and how often in a row."""

    digest: str = ""
    at: datetime | None = None
    times: int = 0

    @classmethod
    def read(cls, cursor: str | None) -> "Asked":
        """From a cursor; an empty one means nothing was asked yet."""
        if not cursor:
            return cls()
        stored = json.loads(cursor)
        return cls(stored["digest"], datetime.fromisoformat(stored["at"]), stored["times"])

    def write(self) -> str:
        """As a cursor."""
        assert self.at is not None
        return json.dumps({"digest": self.digest, "at": self.at.isoformat(), "times": self.times})

    def again(self, wish: Wish) -> datetime | None:
        """When this wish may be asked again; None where it was not the last one."""
        if self.at is None or wish.digest != self.digest:
            return None
        return self.at + min(ASK_AGAIN * 2 ** min(self.times - 1, 10), LONGEST_PAUSE)

    def now(self, wish: Wish, now: datetime) -> "Asked":
        """The memory once this wish is asked."""
        return Asked(wish.digest, now, self.times + 1 if wish.digest == self.digest else 1)


def unsaid(decisions: Mapping[tuple[str, str], Row], signals: Sequence[Row]) -> list[str]:
    """Symbols whose newest decision is newer than their signal, whichever run took it: a run may die in between."""
    said = {row["symbol"]: row["created_at"] for row in signals}
    return sorted(
        {symbol for (symbol, _), row in decisions.items() if symbol not in said or row["decided_at"] > said[symbol]}
    )

"""The simulated market as a source: it stands at a stored clock and goes on when told to, session by session.

The clock is a small file in the home, beside the stores, and never looks at the wall clock: a demo says the same today
and next year. Everything else follows from the parameters, so the file holds the clock and what makes the market this
market; a home refuses to go on as another one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
from filelock import FileLock

from alpha_assets.quant.calendars import DEFAULT_CALENDAR, calendar_name, newest_final, session_bounds, sessions
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.simulate import Life, default_symbols, life, simulate
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Companies, Failure, Fetched, SourceUnavailable

#: More days than any exchange has been closed in a row since 1990.
LONGEST_CLOSURE = timedelta(days=30)


class Simulated:
    """A source of bars whose truth is known (``quant.simulate``); nothing fails but names that it does not have.

    The universe is ``symbols()``. Its symbols keep New York's calendar unless ALPHA_CALENDARS says otherwise; the clock
    counts New York's sessions. Any number of processes may read and advance one home: the file is replaced as a whole,
    under a lock that the kernel drops when its holder dies.
    """

    name = "simulated"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parameters = settings.simulation
        self._file = settings.home / "simulated-market.json"

    def symbols(self) -> list[str]:
        """The names of the universe, in order."""
        return default_symbols(self._parameters.symbols)

    def clock(self) -> date:
        """The newest session that is over in the simulated market; stores where it begins at first use.

        Raises SourceUnavailable where the home holds another market, or its file cannot be read.
        """
        if not self._file.exists():
            with self._lock():
                if not self._file.exists():
                    self._write(self._beginning())
        return self._read()

    def advance(self, sessions: int = 1) -> date:
        """Moves the clock ``sessions`` on, for everybody who reads this home, and returns where it stands.

        Raises ValueError where ``sessions`` is less than 1, SourceUnavailable where the calendar knows no such session.
        """
        if sessions < 1:
            raise ValueError(f"the simulated market goes on by 1 session or more, not {sessions}")
        self.clock()
        with self._lock():
            later = self._after(self._read(), sessions)
            self._write(later)
        return later

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:  # noqa: ARG002
        """Bars and actions from ``since`` (None: ALPHA_HISTORY_START) to the clock, the clock's session included.

        ``now`` is not looked at: the market's time is its clock. The path is simulated from the market's first day.
        """
        clock = self.clock()
        universe = set(self.symbols())
        known = [symbol for symbol in dict.fromkeys(symbols) if symbol in universe]
        market = simulate(
            self._parameters,
            symbols=known,
            first=self._parameters.first,
            last=clock,
            interval=self._settings.interval,
            calendars=self._calendars(known),
        )
        begins = pl.DataFrame(
            {"symbol": known, "since": [since.get(symbol) or self._history_start() for symbol in known]},
            schema={"symbol": pl.String(), "since": TIME},
        )
        return Fetched(
            bars=_from(market.bars, begins, pl.col("timestamp") >= pl.col("since")),
            actions=_from(market.actions, begins, pl.col("ex_date") >= pl.col("since").dt.date()),
            failures={symbol: self._unknown(symbol) for symbol in symbols if symbol not in universe},
        )

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:  # noqa: ARG002
        """The newest bar of each symbol at the clock: a delisted one's last; None where not listed yet, or unknown.

        Follows from calendar and listing dates, nothing is simulated. ``now`` is not looked at.
        """
        clock = self.clock()
        universe = set(self.symbols())
        calendars = self._calendars(symbols)
        lives = {symbol: life(self._parameters, symbol, self._parameters.first) for symbol in symbols}
        ends = {symbol: (calendars[symbol], min(clock, lives[symbol].delisted or clock)) for symbol in symbols}
        newest = {end: self._newest_bar(*end) for end in set(ends.values())}
        return {
            symbol: self._if_traded(newest[ends[symbol]], lives[symbol]) if symbol in universe else None
            for symbol in symbols
        }

    def fundamentals(self, symbols: Sequence[str], now: datetime) -> Companies:  # noqa: ARG002
        """When each company was listed, and delisted once that is over; a simulated company earns nothing."""
        clock = self.clock()
        universe = set(self.symbols())
        lives = {symbol: life(self._parameters, symbol, self._parameters.first) for symbol in symbols}
        return Companies(
            facts={symbol: _facts(lives[symbol], clock) for symbol in symbols if symbol in universe},
            failures={symbol: self._unknown(symbol) for symbol in symbols if symbol not in universe},
        )

    def _newest_bar(self, calendar: str, day: date) -> datetime | None:
        closes = session_bounds(calendar, day - LONGEST_CLOSURE, day)["closes"].to_list()
        return newest_final(calendar, self._settings.interval, closes[-1], timedelta(0)) if closes else None

    def _if_traded(self, newest: datetime | None, own: Life) -> datetime | None:
        begins = max(own.listed, self._settings.history_start)
        return newest if newest is not None and newest.date() >= begins else None

    def _history_start(self) -> datetime:
        return datetime.combine(self._settings.history_start, time(), UTC)

    def _calendars(self, symbols: Sequence[str]) -> dict[str, str]:
        return {symbol: calendar_name(symbol, self._settings.calendars) for symbol in symbols}

    def _unknown(self, symbol: str) -> Failure:
        names = self.symbols()
        return Failure(
            symbol,
            Cause.UNKNOWN_SYMBOL,
            f"{symbol} is not in the simulated market, which has {names[0]} to {names[-1]}: "
            "take one of these, raise ALPHA_SIMULATION__SYMBOLS in a new home, or set ALPHA_SOURCE to another source",
        )

    def _beginning(self) -> date:
        """The last session of the parameters' years."""
        end = self._parameters.first + timedelta(days=int(365.25 * self._parameters.years) - 1)
        found = sessions(DEFAULT_CALENDAR, self._parameters.first, end)
        if found.is_empty():
            raise SourceUnavailable(
                f"the simulated market has no session from {self._parameters.first} to {end}: "
                "raise ALPHA_SIMULATION__YEARS"
            )
        last: date = found[-1]
        return last

    def _after(self, clock: date, count: int) -> date:
        """The session ``count`` after ``clock``; a session takes 1.45 days on average."""
        horizon = clock + timedelta(days=1.6 * count) + LONGEST_CLOSURE
        try:
            found = sessions(DEFAULT_CALENDAR, clock + timedelta(days=1), horizon)
        except ValueError as error:
            raise SourceUnavailable(
                f"the simulated market stands at {clock} and cannot go on by {count} sessions: {error}"
            ) from error
        later: date = found[count - 1]
        return later

    def _lock(self) -> FileLock:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._file.with_suffix(".lock"))

    def _identity(self) -> dict[str, object]:
        """What makes this market this market, as JSON says it: settings by the name of their variable."""
        own = {symbol: name for symbol, name in self._settings.calendars.items() if symbol in self.symbols()}
        parameters = {f"ALPHA_SIMULATION__{name.upper()}": value for name, value in asdict(self._parameters).items()}
        parameters["ALPHA_SIMULATION__FIRST"] = self._parameters.first.isoformat()
        return {**parameters, "ALPHA_CALENDARS": own}

    def _write(self, clock: date) -> None:
        text = json.dumps({"clock": clock.isoformat(), "market": self._identity()}, indent=1)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text + "\n")
        fresh.replace(self._file)

    def _read(self) -> date:
        try:
            stored = json.loads(self._file.read_text())
            clock, market = date.fromisoformat(stored["clock"]), dict(stored["market"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SourceUnavailable(
                f"the clock of the simulated market, {self._file}, cannot be read ({error!r}): start over in another "
                "ALPHA_HOME, or put the file back"
            ) from error
        self._refuse_another(market)
        return clock

    def _refuse_another(self, stored: dict[str, object]) -> None:
        wanted = self._identity()
        different = [name for name in {**wanted, **stored} if stored.get(name) != wanted.get(name)]
        if different:
            changes = ", ".join(f"{name}={stored.get(name)} (not {wanted.get(name)})" for name in different)
            raise SourceUnavailable(
                f"{self._settings.home} holds another simulated market, of {changes}: set it back, or choose another "
                "ALPHA_HOME for the new one"
            )


def _from(frame: pl.DataFrame, begins: pl.DataFrame, wanted: pl.Expr) -> pl.DataFrame:
    return frame.join(begins, on="symbol", maintain_order="left").filter(wanted).drop("since")


def _facts(own: Life, clock: date) -> dict[str, float | int | str]:
    facts: dict[str, float | int | str] = {"quote_type": "SIMULATED"}
    if own.listed <= clock:
        facts["listed"] = own.listed.isoformat()
    if own.delisted is not None and own.delisted < clock:
        facts["delisted"] = own.delisted.isoformat()
    return facts

"""The stores as they were at an instant: what a station read then, read again now. Nothing is written.

The lake keeps when each bar, action and prediction was learnt and the ledger when each decision was taken, so most of
what was known can be told apart from what came later. Not all of it: a bar that was restated is there as it was learnt
last and so, as of before, not at all; a row of features or a pattern has no clock of its own and is known with its bar.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

import polars as pl

from alpha_assets.settings import Settings
from alpha_assets.stores.lake import TABLES, Lake, declared
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.trouble import StoreTrouble

#: What names a bar.
_BAR = ["symbol", "timestamp"]

#: When each outcome of a pattern became known.
_KNOWN = [name for name in TABLES["pattern_outcomes"].schema or () if name.startswith("known_")]


class NotOfThePast(StoreTrouble):
    """Asked was something of which only the present is kept, or a write: the past is read and nothing else."""


class LakeAsOf(Lake):
    """The rows that ``lake`` had been given by ``at``; what is appended is kept in ``kept`` and nowhere else.

    A row with a clock is there from that instant on; features and patterns are from that of their bar on, what followed
    a pattern from when it was known. Everything but ``read``, ``append`` and ``version`` raises NotOfThePast.
    """

    def __init__(self, settings: Settings, at: datetime) -> None:
        super().__init__(settings)
        self._at = at
        self.kept: dict[str, pl.DataFrame] = {}

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        where: pl.Expr | None = None,
        ordered: bool = True,
        **span: Any,
    ) -> pl.DataFrame:
        """``Lake.read`` of what was there; ``span`` are its symbols, since and until.

        ``where`` asks for what a row said from the first: not for what followed a pattern.
        """
        clocks = list(declared(table).clocks)
        settled = _KNOWN if table == "pattern_outcomes" else []
        wanted = None if columns is None else list(dict.fromkeys([*columns, *(clocks or _BAR), *settled]))
        rows = super().read(table, columns=wanted, version=version, where=where, ordered=ordered, **span)
        if clocks:
            known = rows.filter(pl.all_horizontal(pl.col(clocks) <= self._at))
        else:
            bars = self.read("bars", columns=_BAR, ordered=False, **span)
            known = rows.join(bars, on=_BAR, how="semi", maintain_order="left")
        known = known.with_columns(self._where_known(known.columns, settled))
        return known if columns is None else known.select(columns)

    def append(self, table: str, frame: pl.DataFrame) -> int:
        """Keep the rows beside the lake; how many there are."""
        self.kept[table] = pl.concat([self.kept[table], frame]) if table in self.kept else frame
        return frame.height

    def replace(self, *given: Any, **named: Any) -> NoReturn:  # noqa: ARG002
        """Refused."""
        raise NotOfThePast("the lake of the past is not rewritten")

    compact = vacuum = last_rows = last_times = tables = replace

    def _where_known(self, names: Sequence[str], settled: Sequence[str]) -> list[pl.Expr]:
        return [
            pl.when(pl.col(known) <= self._at).then(pl.col(name)).alias(name)
            for known in settled
            for name in names
            if name.endswith(known.removeprefix("known"))
        ]


class LedgerAsOf(Ledger):
    """What ``ledger`` would have answered at ``at`` to whoever says signals; ``lake`` is that of the same instant.

    Decisions are those taken by then. Bars are counted in the lake, because a symbol's state is only kept as it is
    now. So is the latest training: where it came later, the newest decision by then tells what the candidate was, and
    nobody knows one that nobody had decided on. A quarantine that is over is forgotten. Calendars and sources are those
    of now. Whatever is not named here raises NotOfThePast, caches first of all.
    """

    def __init__(self, settings: Settings, ledger: Ledger, lake: LakeAsOf, at: datetime) -> None:
        super().__init__(settings)
        self._ledger = ledger
        self._lake = lake
        self._at = at

    def rows(self, query: Any, **bound: Any) -> NoReturn:  # noqa: ARG002
        """Refused: the tables hold the present."""
        raise NotOfThePast("of this only the present is kept")

    def writing(self) -> NoReturn:
        """Refused."""
        raise NotOfThePast("nothing is written to the past")

    def snapshot(self) -> NoReturn:
        """Refused: it would be one of the present."""
        raise NotOfThePast("a snapshot is of the present")

    def owe(self, symbols: Sequence[str], trouble: str) -> None:
        """Nothing: readers are told of the present."""

    def settle(self, symbols: Sequence[str]) -> None:
        """Nothing."""

    def universe(self, retired: bool = False) -> list[Row]:
        """Members as they are now: who came later has no bars yet."""
        return self._ledger.universe(retired)

    def recipes(self) -> dict[str, Any]:
        """The recipe of each feature table that was ever made."""
        return self._ledger.recipes()

    def states(self) -> dict[str, Row]:
        """Of each symbol how many bars were held and from when to when, and a quarantine that has lasted since."""
        held = self._lake.read("bars", columns=_BAR).group_by("symbol")
        time = pl.col("timestamp")
        spans = held.agg(bars=pl.len(), first_bar=time.min(), last_bar=time.max())
        found = {row["symbol"]: row for row in spans.iter_rows(named=True)}
        nothing = {"bars": 0, "first_bar": None, "last_bar": None}
        return {
            symbol: {**self._quarantined(row), **found.get(symbol, nothing)}
            for symbol, row in self._ledger.states().items()
        }

    def candidates(self) -> dict[tuple[str, str], Row]:
        """The latest training of each (symbol, regime), as far as it is known."""
        trained = {cell: row for cell, row in self._ledger.candidates().items() if row["trained_at"] <= self._at}
        return {**self._decided_on(), **trained}

    def decided(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """``Ledger.decided`` on those candidates."""
        decided = self._ledger.decided(as_of or self._at)
        later = {cell: row for cell, row in self._decided_on().items() if cell not in decided}
        return {**later, **decided}

    def last_decisions(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """``Ledger.last_decisions``."""
        return self._ledger.last_decisions(as_of or self._at)

    def production(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """``Ledger.production``."""
        return self._ledger.production(as_of or self._at)

    def canaries(self, as_of: datetime | None = None) -> dict[tuple[str, str], Row]:
        """``Ledger.canaries``."""
        return self._ledger.canaries(as_of or self._at)

    def _decided_on(self) -> dict[tuple[str, str], Row]:
        later = {cell for cell, row in self._ledger.candidates().items() if row["trained_at"] > self._at}
        return {
            cell: {**row, "state": "trained"}
            for cell, row in self.last_decisions().items()
            if cell in later and row["model_version"] is not None
        }

    def _quarantined(self, state: Row) -> Row:
        since = state["quarantined_at"]
        if since is not None and since <= self._at:
            return state
        return {**state, "quarantine_cause": None, "quarantine_reason": None, "quarantined_at": None}

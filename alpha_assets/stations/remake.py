"""Was a signal really made of what was known? Signals of the past are made again as of the instant they were said.

Each is made by ``stations.signal`` itself, at the time that it bears, from the stores as they were then
(``stores.as_of``), with the settings of now, and held against what the lake has kept. What differs was made of
something else: of what came later, of other settings, by another program, of a store that was out of reach, or it was
altered since. Where the stores no longer have what it was made of nobody can tell, and that is said instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import polars as pl

from alpha_assets.quant.schema import TIME
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, silent
from alpha_assets.stations.sets import recipe_of, restored
from alpha_assets.stations.signal import signal
from alpha_assets.stations.train import ALL
from alpha_assets.stores.as_of import LakeAsOf, LedgerAsOf
from alpha_assets.stores.lake import SIGNALS, Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.registry import ModelDamaged, Registry

#: What of a signal has to be the same: all but its name and when it was said.
COMPARED = tuple(name for name in SIGNALS if name not in ("signal_id", "created_at"))

#: What the track record moves, which all symbols share.
BLENDED = frozenset(
    ("signal", "confidence", "reason", "score", "expected_return", "predicted_price", "price_low", "price_high")
)

DIFFERENT, UNTOLD = "different", "untold"


@dataclass(frozen=True)
class Remade:
    """How many signals were made again, of how many runs, and a row of each that did not come out the same.

    Its ``state`` is ``different``, or ``untold`` where what it was made of is gone; ``differs`` names the columns, and
    ``why`` says what is known of the cause.
    """

    signals: int
    runs: int
    rows: Sequence[Row]

    @property
    def counts(self) -> dict[str, int]:
        """signals, runs, same, different, untold."""
        states = [row["state"] for row in self.rows]
        apart = {name: states.count(name) for name in (DIFFERENT, UNTOLD)}
        return {"signals": self.signals, "runs": self.runs, "same": self.signals - len(self.rows), **apart}


def remake(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    symbols: Sequence[str] | None = None,
    since: date | None = None,
    until: date | None = None,
    progress: Progress = silent,
) -> Remade:
    """Make again every signal in the lake of these symbols (None: all) and of bars from ``since`` to ``until``.

    Nothing is written. A run is made again at once, of the symbols that are asked for: what is said of one does not
    hang on who else is asked.
    """
    stored = lake.read(
        "signals",
        symbols=symbols,
        since=None if since is None else datetime.combine(since, time.min, UTC),
        until=None if until is None else datetime.combine(until, time.max, UTC),
    )
    runs = stored.sort("created_at", "symbol", "bar_time").partition_by("created_at")
    rows: list[Row] = []
    for done, said in enumerate(runs, start=1):
        at = said["created_at"][0]
        past = LakeAsOf(settings, at)
        known = LedgerAsOf(settings, ledger, past, at)
        signal(past, known, registry, settings, said["symbol"].unique(maintain_order=True).to_list(), at, anew=True)
        made = {row["symbol"]: row for row in past.kept["signals"].iter_rows(named=True)} if past.kept else {}
        inquiry = _Inquiry(lake, ledger, known, registry, settings, at)
        rows += [row for one in said.iter_rows(named=True) if (row := _compared(one, made.get(one["symbol"]), inquiry))]
        progress("runs made again", done, len(runs))
    return Remade(stored.height, len(runs), rows)


def _compared(said: Mapping[str, Any], made: Mapping[str, Any] | None, inquiry: "_Inquiry") -> Row | None:
    """How a signal differs from what was made again; None where it does not."""
    differs = list(COMPARED) if made is None else [name for name in COMPARED if said[name] != made[name]]
    if not differs:
        return None
    why = inquiry.lost(said) or (inquiry.moved_since() if BLENDED.issuperset(differs) else None)
    named = {name: said[name] for name in ("symbol", "bar_time", "created_at")}
    return {**named, "state": DIFFERENT if why is None else UNTOLD, "differs": differs, "why": why}


class _Inquiry:
    """Whether the stores still have what the signals of one run were made of."""

    def __init__(
        self, lake: Lake, ledger: Ledger, known: LedgerAsOf, registry: Registry, settings: Settings, at: datetime
    ) -> None:
        self._lake = lake
        self._ledger = ledger
        self._known = known
        self._registry = registry
        self._settings = settings
        self._at = at

    def lost(self, said: Mapping[str, Any]) -> str | None:
        """Why nobody can tell what a signal was made of; None where all of it is there."""
        if said["views"] is None:
            return "it was said before signals kept what each view said"
        late = self._late({said["symbol"]: said["bar_time"]})
        return late.get(said["symbol"]) or self._features(said) or self._model(said) or self._candidate(said)

    def moved_since(self) -> str | None:
        """Whose bars are not those that the track record was read from; None where they are."""
        last = {symbol: row["last_bar"] for symbol, row in self._known.states().items() if row["last_bar"] is not None}
        late = self._late(last)
        told = "; ".join(f"{symbol}: {why}" for symbol, why in late.items())
        return f"the track record reads other symbols too: {told}" if late else None

    def _late(self, until: Mapping[str, datetime]) -> dict[str, str]:
        """By symbol what of its past up to a bar was learnt after the run, and so is not known as it was before."""
        bound = pl.col("symbol").replace_strict(dict(until), return_dtype=TIME)
        bars = self._lake.read("bars", symbols=list(until), columns=["symbol", "timestamp", "fetched_at"])
        actions = self._lake.read("actions", symbols=list(until))
        found: dict[str, str] = {}
        for symbol, kind, day, learnt in (
            pl.concat(
                [
                    bars.filter(pl.col("timestamp") <= bound).select(
                        "symbol", kind=pl.lit("bar"), day=pl.col("timestamp").dt.date(), learnt="fetched_at"
                    ),
                    actions.filter(pl.col("ex_date") <= bound.dt.date()).select(
                        "symbol", "kind", day="ex_date", learnt="first_seen_at"
                    ),
                ]
            )
            .filter(pl.col("learnt") > self._at)
            .sort("symbol", "day")
            .iter_rows()
        ):
            found.setdefault(symbol, f"the {kind} of {day} was learnt on {learnt:%Y-%m-%d}, late or anew")
        return found

    def _features(self, said: Mapping[str, Any]) -> str | None:
        symbol, at = said["symbol"], said["bar_time"]
        own, recipes = recipe_of(self._settings).table, self._ledger.recipes()
        for table in sorted({own, said["features_set"] or own}):
            if table != own and restored(recipes.get(table) or {}, table) is None:
                return f"this program makes other numbers of {table}, which its model read"
            if self._lake.read(table, symbols=[symbol], since=at, until=at, columns=["symbol"]).is_empty():
                return f"{table} has no row of its bar"
        return None

    def _model(self, said: Mapping[str, Any]) -> str | None:
        for (symbol, _), row in self._known.production().items():
            if symbol != said["symbol"] or row["model_version"] != said["model_version"]:
                continue
            try:
                named = (row[f"model_{part}"] for part in ("name", "version", "location", "digest"))
                self._registry.candidate(*named)
            except (ModelDamaged, OSError) as error:
                return f"the files of its model cannot be read: {error}"
        return None

    def _candidate(self, said: Mapping[str, Any]) -> str | None:
        """Without a version the reason tells of the latest training, and of trainings only the newest is kept."""
        cell = (said["symbol"], ALL)
        lost = cell in self._ledger.candidates() and cell not in self._known.candidates()
        if said["model_version"] is None and lost:
            return "it was trained anew since, and of the training before nothing had been decided by then"
        return None

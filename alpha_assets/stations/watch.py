"""What the watched versions have said and what followed: the views of canaries in shadow, and those of production.

Views are stored by the station of signals, of the newest bar only; so a view's lag counts from the time at which its
bar was fetched, or at which the version became canary where that came later, and a market whose clock stands in the
past is watched like any other.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import polars as pl

from alpha_assets.quant.labels import MOMENTUM_BARS, open_to_open
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.watch import LiveVerdict, ShadowVerdict, live_loss, shadow
from alpha_assets.settings import Settings
from alpha_assets.stations.champions import who_serves
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.train import OUT_OF_FOLD
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: Origins of predictions beside the out-of-fold ones.
LIVE, SHADOW = "live", "shadow"

#: A symbol and a regime.
Cell = tuple[str, str]

KEY = ["symbol", "regime"]

TRAINING: Mapping[str, pl.DataType] = {"symbol": pl.String(), "regime": pl.String(), "training_id": pl.String()}

#: Days before the first view that labels need to know how much the symbol moves.
LEAD = timedelta(days=4 * MOMENTUM_BARS)


def shadow_verdicts(
    lake: Lake, ledger: Ledger, settings: Settings, canaries: Mapping[Cell, Row]
) -> dict[Cell, ShadowVerdict]:
    """How far the shadow of each of these canaries is; ``canaries`` holds the decision that made it one.

    One that looks another horizon than the settings' has no verdict (``looks_elsewhere``).

    The champion is the version that serves the cell's bars: its live views of the same bars are compared.
    """
    canaries = looking_alike(canaries, settings)
    views = _beside_champions(lake, _views(lake, SHADOW, canaries), ledger.production())
    known = _followed(lake, ledger, settings, views)
    fetched = lake.read("bars", symbols=sorted(set(views["symbol"])), columns=["symbol", "timestamp", "fetched_at"])
    told = known.join(fetched, on=["symbol", "timestamp"], how="left").with_columns(
        lag_hours=(pl.col("made_at") - pl.max_horizontal("fetched_at", "decided_at")).dt.total_seconds() / 3600
    )
    return {cell: shadow(_of(told, cell), settings.promotion) for cell in canaries}


def _beside_champions(lake: Lake, views: pl.DataFrame, production: Mapping[Cell, Row]) -> pl.DataFrame:
    """The views with ``champion``, what who serves said of the same bar under its own regime; null where it did not."""
    cells = list(views.select(KEY).unique().iter_rows())
    champions = {cell: row for cell in cells if (row := who_serves(production, cell)) is not None}
    served = pl.DataFrame(
        [(*cell, row["regime"]) for cell, row in champions.items()],
        schema=dict.fromkeys([*KEY, "served"], pl.String()),
        orient="row",
    )
    spoken = _views(lake, LIVE, {(row["symbol"], row["regime"]): row for row in champions.values()})
    theirs = spoken.select("symbol", "timestamp", served="regime", champion="p_up")
    told = views.join(served, on=KEY, how="left", maintain_order="left")
    return told.join(theirs, on=["symbol", "timestamp", "served"], how="left", maintain_order="left").drop("served")


def live_verdicts(
    lake: Lake, ledger: Ledger, settings: Settings, production: Mapping[Cell, Row]
) -> dict[Cell, LiveVerdict]:
    """Whether each of these production versions is confirmed to lose against its baseline, since it was decided on.

    The baseline is the share of rising bars that the last out-of-fold fit had seen, 0.5 where there is none. A version
    that has said nothing yet has no verdict, nor has one that looks another horizon than the settings'.
    """
    production = looking_alike(production, settings)
    views = _views(lake, LIVE, production)
    if views.is_empty():
        return {}
    told = _followed(lake, ledger, settings, views).join(_priors(lake, production), on=KEY, how="left")
    told = told.with_columns(baseline=pl.col("last_prior").fill_null(0.5))
    cells = {cell: _of(told, cell) for cell in production}
    horizon = settings.learning.horizon
    return {cell: live_loss(rows, settings.promotion, horizon) for cell, rows in cells.items() if rows.height}


def looks_elsewhere(decision: Row, settings: Settings, words: str = "what it said live") -> str | None:
    """Why ``words`` of this version are not judged: outcomes are of the settings' horizon; None where it looks as far.

    So it is taken for one of which no horizon is recorded.
    """
    looks, horizon = decision["horizon"], settings.learning.horizon
    if looks in (None, horizon):
        return None
    name = f"{decision['model_name']} version {decision['model_version']}"
    return f"{name} looks {looks} bars ahead and the settings {horizon}: {words} is not judged"


def looking_alike(decisions: Mapping[Cell, Row], settings: Settings) -> dict[Cell, Row]:
    """Those of these decisions or candidates whose version looks as far ahead as the settings."""
    return {cell: row for cell, row in decisions.items() if looks_elsewhere(row, settings) is None}


def _views(lake: Lake, origin: str, decisions: Mapping[Cell, Mapping[str, Any]]) -> pl.DataFrame:
    """What was said under each of these decisions: predictions of its training, made since it was taken."""
    rows = [(*cell, row["training_id"], row["decided_at"]) for cell, row in decisions.items()]
    since = pl.DataFrame(rows, schema={**TRAINING, "decided_at": TIME}, orient="row")
    said = lake.read("predictions", symbols=sorted(set(since["symbol"]))).filter(pl.col("origin") == origin)
    joined = said.join(since, on=[*KEY, "training_id"]).filter(pl.col("made_at") >= pl.col("decided_at"))
    return joined.select(*KEY, "timestamp", "p_up", "made_at", "decided_at").sort(*KEY, "timestamp")


def _priors(lake: Lake, decisions: Mapping[Cell, Row]) -> pl.DataFrame:
    rows = [(*cell, row["training_id"]) for cell, row in decisions.items()]
    ours = pl.DataFrame(rows, schema=dict(TRAINING), orient="row")
    said = lake.read("predictions", symbols=sorted(set(ours["symbol"]))).filter(pl.col("origin") == OUT_OF_FOLD)
    return (
        said.join(ours, on=[*KEY, "training_id"], how="semi")
        .sort("timestamp")
        .group_by(KEY)
        .agg(last_prior=pl.col("prior").drop_nulls().last())
    )


def _followed(lake: Lake, ledger: Ledger, settings: Settings, views: pl.DataFrame) -> pl.DataFrame:
    """The views with ``position``, the number of their bar, and ``up``: null where nobody can know it yet, or ever."""
    first = dict(views.group_by("symbol").agg(pl.col("timestamp").min() - LEAD).iter_rows())
    names = calendars_of(ledger)
    bars, _ = adjusted_bars(lake, settings, names, sorted(first), first)
    labels = open_to_open(with_known_at(bars, settings, names), settings.learning.horizon)
    outcomes = labels.select("symbol", "timestamp", "up", position=pl.int_range(pl.len()).over("symbol"))
    return views.join(outcomes, on=["symbol", "timestamp"], how="left", maintain_order="left")


def _of(views: pl.DataFrame, cell: Cell) -> pl.DataFrame:
    return views.filter(pl.col("symbol") == cell[0], pl.col("regime") == cell[1])

"""The track record of the views over the whole universe, and what views read of a bar: shared by past and present.

The record is read once a run, not once a symbol, and kept in the ledger's cache as a small document: the belief of the
newest period (``quant.blend``). It rests on out-of-fold answers of the models in production and on what they said
live, never on what a refit says of the bars that it was fitted on; on indicators and pattern rates as they were known;
and on outcomes known when the period began. Predictions that are added within a period change nothing in it, so the
document is keyed by everything else that it is made of.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant.blend import Past, past_of, period_begins
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.outlook import Record, reached, recorded
from alpha_assets.quant.pattern_rates import running, told_horizon
from alpha_assets.quant.tally import RECORD
from alpha_assets.quant.views import View, fired, scores, views_of
from alpha_assets.settings import Settings
from alpha_assets.stations.champions import spoken
from alpha_assets.stations.recognise import TABLE as PATTERN_TABLE
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import recipe_of
from alpha_assets.stations.threads import side_by_side
from alpha_assets.stations.train import ALL, KEYED, OUT_OF_FOLD
from alpha_assets.stations.watch import LIVE, looking_alike
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: The view whose word is needed before anything is stated.
LEADER = "model"

#: How long the ledger's cache keeps the record: it is read anew with every new bar anyhow.
KEPT = timedelta(days=7)

KEY = ["symbol", "timestamp"]

#: What labels are made of, in ``schema.BARS``.
LABELLED = ("symbol", "timestamp", "open", "close", "listing", "flags")

#: What is read at once: the bars with their features, and the patterns.
SIDES = 2

Cell = tuple[str, str]

#: Whose answers are the past of the model view.
SERVED: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "regime": pl.String(),
    "training_id": pl.String(),
    "linear": pl.Boolean(),
}


def round_trip(settings: Settings) -> float:
    """The costs of entering and leaving, as a share of the price."""
    return 2 * settings.trading.cost_per_side


@dataclass(frozen=True)
class Span:
    """What the record looks back on: the symbols that hold bars, the newest of these, and the beginnings of periods."""

    symbols: Sequence[str]
    newest: datetime
    begins: np.ndarray


def span(ledger: Ledger, settings: Settings) -> Span | None:
    """The span up to the universe's newest bar; None where no bar is held."""
    last = {symbol: row["last_bar"] for symbol, row in ledger.states().items() if row["last_bar"] is not None}
    if not last:
        return None
    newest = max(last.values())
    first = newest - timedelta(days=365.25 * settings.signal.record_years)
    return Span(list(last), newest, period_begins(first, newest, settings.signal.record_days))


def track_record(
    lake: Lake, ledger: Ledger, settings: Settings, production: Mapping[Cell, Row], now: datetime
) -> tuple[Record | None, str | None]:
    """What is believed of the views in the period of the universe's newest bar; None where no bar is held.

    Beside it why the cache could not be used, where it could not: then the record is as good and took longer.
    """
    seen = span(ledger, settings)
    if seen is None:
        return None, None
    begins, symbols = seen.begins, seen.symbols

    def read() -> dict[str, Any]:
        _, past = whole_past(lake, ledger, settings, production, symbols, views_of(settings.views), begins)
        record, _ = recorded(past, settings.signal, round_trip(settings), last_only=True)
        return record.newest()

    answer = Cache(ledger).through(RECORD, identity(lake, settings, production, begins), KEPT, read, now)
    return Record.restored(answer.value), answer.trouble


def identity(lake: Lake, settings: Settings, production: Mapping[Cell, Row], begins: np.ndarray) -> str:
    """A digest of everything that the record of these periods is made of."""
    alike = looking_alike(production, settings)
    made_of = {
        "begins": int(begins[-1]),
        "tables": {name: lake.version(name) for name in ("bars", "actions", PATTERN_TABLE, recipe_of(settings).table)},
        "served": sorted([*cell, row["training_id"], row["speaker"]] for cell, row in alike.items()),
        "settings": [asdict(settings.views), asdict(settings.signal), asdict(settings.patterns)],
        "labels": [settings.learning.horizon, settings.learning.clip, round_trip(settings)],
        "lag": settings.final_lag_minutes,
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def whole_past(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    production: Mapping[Cell, Row],
    symbols: Sequence[str],
    views: Sequence[View],
    begins: np.ndarray,
) -> tuple[pl.DataFrame, Past]:
    """Every bar of ``symbols`` from the first period on with its label and everything that views read.

    Beside it what the views said of them, and what followed. A model of another horizon has said nothing of it.
    """
    since = datetime.fromtimestamp(begins[0] / 1e6, UTC)
    names = calendars_of(ledger)

    def labelled() -> pl.DataFrame:
        bars, _ = adjusted_bars(lake, settings, names, symbols, since, LABELLED)
        bars = with_known_at(bars, settings, names).sort(KEY)
        labels = open_to_open(bars, settings.learning.horizon)
        return lay(labels.with_columns(reached(bars, labels)), features_of(lake, settings, views, since))

    def patterns() -> pl.DataFrame:
        return fired(running_events(lake, settings, symbols))

    laid, events = side_by_side(SIDES)(lambda read: read(), (labelled, patterns))
    laid = lay(laid, answers_of(lake, looking_alike(production, settings), laid.select(*KEY, "regime")))
    laid = lay(laid, events)
    said = scores(views, laid)
    led = leads(views, said, settings)
    names_of = [view.name for view in views]
    return laid, past_of(laid, names_of, said, begins, settings.learning.horizon, settings.learning.clip, led)


def leads(views: Sequence[View], said: np.ndarray, settings: Settings) -> np.ndarray:
    """Of which bars something may be stated: where the model speaks, or any view where they may act alone."""
    spoke = np.isfinite(said)
    if settings.views.alone:
        return np.asarray(spoke.any(axis=1))
    names = [view.name for view in views]
    return spoke[:, names.index(LEADER)] if LEADER in names else np.zeros(len(said), dtype=bool)


def lay(bars: pl.DataFrame, columns: pl.DataFrame) -> pl.DataFrame:
    """The bars with these columns beside them, null where there is no row."""
    return bars.join(columns, on=KEY, how="left", maintain_order="left")


def features_of(
    lake: Lake, settings: Settings, views: Sequence[View], since: datetime | Mapping[str, datetime | None]
) -> pl.DataFrame:
    """The regime of each bar, and the features of the present set that some view reads."""
    table = recipe_of(settings).table
    if lake.version(table) is None:
        return pl.DataFrame(schema={**KEYED, "regime": pl.String()})
    return lake.read(table, since=since, columns=feature_columns(settings, views), ordered=False)


def feature_columns(settings: Settings, views: Sequence[View]) -> list[str]:
    """Key and regime, and of the present feature set what some view reads."""
    read = {name for view in views for name in view.reads}
    return [*KEY, "regime", *(name for name in recipe_of(settings).columns if name in read)]


def answers_of(lake: Lake, production: Mapping[Cell, Row], bars: pl.DataFrame) -> pl.DataFrame:
    """What the models that serve said of bars that their fits had not seen, in the voice that was judged.

    ``bars`` hold symbol, timestamp and regime: a bar is answered by the model of its regime where one serves, else by
    that of «all». Out of fold goes before live: a bar has both only where it was answered live first. ``live`` says
    which of the two it is.
    """
    rows = [(*cell, row["training_id"], row["speaker"] == "linear") for cell, row in production.items()]
    served = pl.DataFrame(rows, schema=dict(SERVED), orient="row")
    wanted = ["symbol", "regime", "timestamp", "training_id", "origin", "dissimilarity"]
    voice, classes = ["p_up", "expected_return"], ["p_sell", "p_hold", "p_buy"]
    symbols = sorted(set(served["symbol"]))
    said = lake.read(
        "predictions",
        symbols=symbols,
        columns=[*wanted, *voice, *(f"linear_{name}" for name in voice), *classes],
        where=pl.col("training_id").is_in(served["training_id"].implode()),
        ordered=False,
    )
    mine = said.filter(pl.col("origin").is_in([OUT_OF_FOLD, LIVE])).join(served, on=["symbol", "regime", "training_id"])
    heard = mine.join(bars.rename({"regime": "of_bar"}), on=KEY).filter(
        (pl.col("regime") == pl.col("of_bar")) | (pl.col("regime") == ALL)
    )
    return (
        heard.with_columns(
            *(spoken(name).alias(name) for name in voice),
            *(pl.when(~pl.col("linear")).then(name).alias(name) for name in classes),
            fallback=pl.col("regime") == ALL,
            live=pl.col("origin") == LIVE,
        )
        .sort(*KEY, "fallback", "live")
        .unique(KEY, keep="first", maintain_order=True)
        .select(*KEY, *voice, *classes, "dissimilarity", "live")
    )


def running_events(
    lake: Lake, settings: Settings, symbols: Sequence[str], only: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Every directed pattern event of these symbols with the rate of its pattern as known at its bar.

    ``only`` (symbol, pattern) leaves others out, which changes no rate.
    """
    horizon = told_horizon(settings.learning.horizon)
    columns = [*KEY, "pattern", "direction", f"known_{horizon}", f"success_{horizon}"]
    directed = pl.col("direction") != 0
    table = lake.read(PATTERN_TABLE, symbols=symbols, columns=columns, where=directed, ordered=False)
    if only is not None:
        table = table.join(only, on=["symbol", "pattern"], how="semi", maintain_order="left")
    return running(table, horizon, settings.patterns.rate_prior)

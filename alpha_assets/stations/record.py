"""The track record of the views over the whole universe, and what views read of a bar: shared by past and present.

The record is read once a run, not once a symbol, and kept in the ledger's cache as a small document: the belief of the
newest period (``quant.blend``). It rests on out-of-fold answers of the models in production and on what they said
live, never on what a refit says of the bars that it was fitted on; on indicators and pattern rates as they were known;
and on outcomes known when the period began. Predictions that are added within a period change nothing in it, so the
document is keyed by everything else that it is made of.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from alpha_assets.stations.threads import beside, side_by_side
from alpha_assets.stations.train import ALL, KEYED, OUT_OF_FOLD
from alpha_assets.stations.watch import LIVE, looking_alike
from alpha_assets.stores.cache import Cache, Look
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: The view whose word is needed before anything is stated.
LEADER = "model"

#: How long the ledger's cache keeps the record: it is read anew with every new bar anyhow.
KEPT = timedelta(days=7)

KEY = ["symbol", "timestamp"]

#: What labels are made of, in ``schema.BARS``.
LABELLED = ("symbol", "timestamp", "open", "close", "listing", "flags")

#: What of a label ``blend.past_of`` reads.
FOLLOWED = ("symbol", "timestamp", "label_return", "label_end", "scale", "scaled_return")

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


@contextmanager
def track_record(
    lake: Lake, ledger: Ledger, settings: Settings, production: Mapping[Cell, Row], now: datetime
) -> Iterator[Callable[[], tuple[Record | None, str | None]]]:
    """A function that tells what is believed of the views in the period of the newest bar; None without any bar.

    Beside it why the cache could not be used, where it could not: then the record is as good and took longer. While the
    block goes on the bars are read that it is made of, if it has to be made; predictions are read when it is asked for,
    so that what the block adds to them is heard.
    """
    views, cache = views_of(settings.views), Cache(ledger)

    def begun() -> tuple[np.ndarray, Look, pl.DataFrame | None] | None:
        seen = span(ledger, settings)
        if seen is None:
            return None
        look = cache.look(RECORD, identity(lake, settings, production, seen.begins), now)
        if look.found is not None:
            return seen.begins, look, None
        return seen.begins, look, ground(lake, ledger, settings, seen.symbols, views, seen.begins)

    with beside(begun) as begin:

        def told() -> tuple[Record | None, str | None]:
            if (known := begin()) is None:
                return None, None
            begins, look, bars = known

            def made() -> dict[str, Any]:
                assert bars is not None, "what was found is not made"
                _, past = past_on(bars, lake, settings, production, views, begins)
                record, _ = recorded(past, settings.signal, round_trip(settings), last_only=True)
                return record.newest()

            answer = cache.completed(look, KEPT, made, now)
            return Record.restored(answer.value), answer.trouble

        yield told


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
    bars = ground(lake, ledger, settings, symbols, views, begins)
    return past_on(bars, lake, settings, production, views, begins)


def ground(
    lake: Lake, ledger: Ledger, settings: Settings, symbols: Sequence[str], views: Sequence[View], begins: np.ndarray
) -> pl.DataFrame:
    """``whole_past`` without what the models said."""
    since = datetime.fromtimestamp(begins[0] / 1e6, UTC)
    names = calendars_of(ledger)

    def labelled() -> pl.DataFrame:
        bars, _ = adjusted_bars(lake, settings, names, symbols, since, LABELLED)
        bars = with_known_at(bars, settings, names).sort(KEY)
        labels = open_to_open(bars, settings.learning.horizon, FOLLOWED)
        return lay(labels.with_columns(reached(bars, labels)), features_of(lake, settings, views, since))

    def patterns() -> pl.DataFrame:
        return fired(running_events(lake, settings, symbols))

    return lay(*side_by_side(SIDES)(lambda read: read(), (labelled, patterns)))


def past_on(
    bars: pl.DataFrame,
    lake: Lake,
    settings: Settings,
    production: Mapping[Cell, Row],
    views: Sequence[View],
    begins: np.ndarray,
) -> tuple[pl.DataFrame, Past]:
    """``whole_past`` on its ``ground``."""
    laid = lay(bars, answers_of(lake, looking_alike(production, settings), bars.select(*KEY, "regime")))
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
    which of the two it is. One row a bar, in any order.
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
    fallback, live = pl.col("regime") == ALL, pl.col("origin") == LIVE
    return (
        said.lazy()
        .filter(pl.col("origin").is_in([OUT_OF_FOLD, LIVE]))
        .join(served.lazy(), on=["symbol", "regime", "training_id"])
        .join(bars.lazy().rename({"regime": "of_bar"}), on=KEY)
        .filter(fallback | (pl.col("regime") == pl.col("of_bar")))
        .select(
            *KEY,
            *(spoken(name).alias(name) for name in voice),
            *(pl.when(~pl.col("linear")).then(name).alias(name) for name in classes),
            "dissimilarity",
            live=live,
            after=2 * fallback.cast(pl.Int8) + live.cast(pl.Int8),
        )
        .filter(pl.col("after") == pl.col("after").min().over(KEY))
        .drop("after")
        .collect()
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

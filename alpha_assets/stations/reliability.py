"""How stated confidences held: live, and out of fold where live ones are few; told apart and never mixed.

**Live** are the closed positions of each strategy whose signal stated a confidence, against their net win.

**Out of fold** is what the blend would have stated of every bar of the past by what was believed when the bar's period
began (``quant.outlook``), of answers that no fit had seen, against the label's return after costs. Periods count from
when their calibration rested on more outcomes than the belief that it began with weighs. Of the models that serve now:
whoever promoted them has seen these rows, so live figures are the ones that can surprise.

The blend alone promises to be calibrated (GATE.md). What a view calls its confidence is its own: the model and the
patterns speak of a side before costs, the rules of how far they agree. Its figures say how far that is from the net
win.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant.blend import Past
from alpha_assets.quant.outlook import recorded
from alpha_assets.quant.reliability import Array, reliability
from alpha_assets.quant.views import View, views_of
from alpha_assets.settings import Settings
from alpha_assets.stations import record
from alpha_assets.stations.outcome import BLEND, VIEW
from alpha_assets.stations.watch import looking_alike
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row

#: The namespace of the cache in which out-of-fold figures are kept.
NAMESPACE = "reliability"

#: Where confidences are from. The first is the window too of the ledger's cells that tell of the track record.
OUT_OF_FOLD, LIVE = "out of fold", "live"

#: By strategy ``Reliability.document``.
Documents = dict[str, dict[str, Any]]


def live(positions: pl.DataFrame, settings: Settings) -> Documents:
    """Of every strategy that states confidences, by its closed positions (``quant.book.POSITIONS``)."""
    stated = positions.filter(pl.col("status") == "closed", pl.col("confidence").is_not_null())
    return {
        str(strategy): _document(rows["confidence"], rows["net_return"] > 0, rows["bar_time"], settings)
        for (strategy,), rows in stated.group_by("strategy", maintain_order=True)
    }


def out_of_fold(
    lake: Lake, ledger: Ledger, settings: Settings, now: datetime
) -> tuple[Documents, datetime | None, str | None]:
    """Of the blend and each view, as of the universe's newest bar; and why the cache could not be used, if so.

    Nothing where no model of this horizon serves, unless views may act alone: then nothing would have been stated.
    """
    production, seen = looking_alike(ledger.production(), settings), record.span(ledger, settings)
    if seen is None or not (production or settings.views.alone):
        return {}, None, None
    made_of = [record.identity(lake, settings, production, seen.begins), asdict(settings.gate)]
    key = sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    views = views_of(settings.views)

    def read() -> Documents:
        laid, past = record.whole_past(lake, ledger, settings, production, seen.symbols, views, seen.begins)
        return {name: _document(*rows, settings) for name, rows in _told(laid, past, views, settings)}

    answer = Cache(ledger).through(NAMESPACE, key, record.KEPT, read, now)
    return answer.value, seen.newest, answer.trouble


def _told(
    laid: pl.DataFrame, past: Past, views: list[View], settings: Settings
) -> Iterator[tuple[str, tuple[Array, Array, Array]]]:
    """By strategy confidence, net win and bar of what it would have stated of the past."""
    stamps = laid["timestamp"].dt.epoch("us").to_numpy()
    judged = past.known & ~laid["live"].fill_null(value=False).to_numpy()
    costs = record.round_trip(settings)

    def picked(sure: Array, score: Array, rows: Array) -> tuple[Array, Array, Array]:
        return sure[rows], np.sign(score[rows]) * past.returned[rows] > costs, stamps[rows]

    sure, score, stated = _stated(past, settings)
    yield BLEND, picked(sure, score, np.flatnonzero(judged & stated))
    for view in views:
        spoken = view.speaks(laid).cast(pl.Float64).fill_null(np.nan)
        sure, score = spoken["confidence"].to_numpy(), spoken["score"].to_numpy()
        rows = np.flatnonzero(judged & np.isfinite(sure) & np.isfinite(score) & (score != 0))
        yield VIEW + view.name, picked(sure, score, rows)


def _stated(past: Past, settings: Settings) -> tuple[Array, Array, Array]:
    """Confidence and score of the blend at every bar, and whether it would have been stated."""
    parameters = settings.signal
    believed, score = recorded(past, parameters, record.round_trip(settings))
    outlook = believed.outlook
    heard = np.flatnonzero(past.led & (past.period >= 0))
    sure = np.full(len(score), np.nan)
    sure[heard] = outlook.confidence(
        score[heard], past.scale[heard], past.cell[heard], past.period[heard], record.round_trip(settings)
    )
    rests = outlook.seen >= parameters.confidence_rows
    return sure, score, (sure >= parameters.least_confidence) & rests[np.maximum(past.period, 0)]


def _document(said: Any, won: Any, stamps: Any, settings: Settings) -> dict[str, Any]:
    rows = (np.asarray(said, dtype=np.float64), np.asarray(won, dtype=bool), np.asarray(stamps))
    return reliability(*rows, settings.gate, settings.learning.horizon).document()


def reliability_of(rows: Sequence[Row]) -> dict[str, Documents]:
    """By source and strategy how confidences held, from the rows of performance in the ledger."""
    found: dict[str, Documents] = {OUT_OF_FOLD: {}, LIVE: {}}
    for row in rows:
        if (told := row["document"].get("reliability")) is not None:
            found[OUT_OF_FOLD if row["window"] == OUT_OF_FOLD else LIVE][row["strategy"]] = told
    return found


def sentences(documents: Mapping[str, Documents]) -> dict[str, str]:
    """What is said of each strategy by source, «blend, live», the blend first."""
    told = {
        (strategy != BLEND, strategy, source): one["sentence"]
        for source, by_strategy in documents.items()
        for strategy, one in by_strategy.items()
    }
    return {f"{strategy}, {source}": told[_, strategy, source] for _, strategy, source in sorted(told)}

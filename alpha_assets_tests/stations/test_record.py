"""The track record of a home: what was known by then and nothing later, out of fold, read once and kept."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.blend import Past, period_begins
from alpha_assets.quant.outlook import recorded
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.tally import RECORD
from alpha_assets.quant.views import views_of
from alpha_assets.stations import record
from alpha_assets.stations.recognise import TABLE, recognise
from alpha_assets.stations.sets import table_of
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

CHOSEN = "SIM02"


@pytest.fixture(scope="module")
def home(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = copied(promoted, tmp_path_factory.mktemp("recorded") / "home")
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    return line.settings.home


@pytest.fixture
def line(home: Path, tmp_path: Path) -> Line:
    return copied(home, tmp_path / "home")


def past_of(line: Line, first: datetime, last: datetime) -> Past:
    begins = period_begins(first, last, line.settings.signal.record_days)
    views = views_of(line.settings.views)
    production = line.ledger.production()
    return record.whole_past(line.lake, line.ledger, line.settings, production, SYMBOLS, views, begins)[1]


def test_what_came_later_changes_nothing_that_is_believed_of_an_earlier_period(line: Line) -> None:
    bars = line.lake.read("bars", symbols=[CHOSEN])["timestamp"]
    first, middle, last = bars[0], bars[-200], bars[-1]
    whole = past_of(line, first, last)
    for table in ("bars", table_of(line.settings), TABLE, "predictions"):
        held = line.lake.read(table)
        line.lake.replace(table, held.filter(pl.col("timestamp") <= middle), SYMBOLS)
    # Outcomes of the newest patterns were not known then.
    events = line.lake.read(TABLE)
    unknown = [
        pl.when(pl.col(f"known_{h}") <= middle).then(pl.col(f"{kind}_{h}")).alias(f"{kind}_{h}")
        for h in (1, 5, 10, 20)
        for kind in ("return", "success", "known")
    ]
    line.lake.replace(TABLE, events.with_columns(unknown), SYMBOLS)
    earlier = past_of(line, first, middle)
    periods = len(earlier.begins)
    assert 100 < periods < len(whole.begins)
    for mine, its in zip(recorded_of(line, whole), recorded_of(line, earlier), strict=True):
        np.testing.assert_allclose(mine[:periods], its, rtol=1e-9, atol=1e-12)
    assert np.isfinite(earlier.scores).any(axis=0).all(), "every view has spoken"
    assert earlier.led.any()


def recorded_of(line: Line, past: Past) -> list[np.ndarray]:
    made, _ = recorded(past, line.settings.signal, record.round_trip(line.settings))
    return [*vars(made.weights).values(), *vars(made.outlook).values()]


def test_the_model_view_of_the_past_is_what_the_production_model_said_out_of_fold(line: Line) -> None:
    production = line.ledger.production()
    assert (CHOSEN, "all") in production
    bars = line.lake.read(table_of(line.settings), columns=["symbol", "timestamp", "regime"])
    told = record.answers_of(line.lake, production, bars).sort("symbol", "timestamp")
    assert set(told["symbol"]) == {symbol for symbol, _ in production}
    row = production[CHOSEN, "all"]
    voice = "linear_p_up" if row["speaker"] == "linear" else "p_up"
    said = line.lake.read("predictions", symbols=[CHOSEN]).filter(
        pl.col("origin") == "oof", pl.col("training_id") == row["training_id"]
    )
    assert told.filter(symbol=CHOSEN)["p_up"].to_list() == said[voice].to_list()
    other = {cell: {**row, "training_id": "another"} for cell, row in production.items()}
    assert record.answers_of(line.lake, other, bars).is_empty()


def test_a_bar_is_answered_once_by_the_model_of_its_regime_before_all_and_out_of_fold_before_live(line: Line) -> None:
    stamps = line.lake.read("bars", symbols=[CHOSEN])["timestamp"][:4].to_list()
    bars = pl.DataFrame({"symbol": CHOSEN, "timestamp": stamps, "regime": ["volatile"] * 3 + ["sideways"]})
    said = [
        (0, "all", "oof", 0.1),
        (0, "volatile", "live", 0.2),
        (0, "volatile", "oof", 0.3),
        (1, "all", "oof", 0.1),
        (1, "volatile", "live", 0.2),
        (2, "all", "live", 0.1),
        (2, "all", "shadow", 0.4),
        (3, "all", "oof", 0.1),
        (3, "volatile", "oof", 0.3),
    ]
    rows = [
        {"symbol": CHOSEN, "regime": regime, "timestamp": stamps[at], "training_id": "t", "origin": origin, "p_up": p}
        | {"made_at": NOW}
        for at, regime, origin, p in said
    ]
    line.lake.append("predictions", pl.DataFrame(rows, schema=dict(PREDICTIONS)))
    production = {(CHOSEN, regime): {"training_id": "t", "speaker": "trees"} for regime in ("all", "volatile")}
    told = record.answers_of(line.lake, production, bars.with_columns(pl.col("timestamp").cast(TIME)))
    assert told.sort("timestamp").select("p_up", "live").rows() == [
        (0.3, False),
        (0.2, True),
        (0.1, True),
        (0.1, False),
    ]


def test_what_a_model_of_another_horizon_said_is_no_past_of_the_model_view(line: Line) -> None:
    bars = line.lake.read("bars", symbols=[CHOSEN])["timestamp"]
    other = Line(line.settings.home, learning=replace(LIGHT, horizon=5))
    mine, its = (past_of(one, bars[0], bars[-1]) for one in (line, other))
    assert mine.led.any()
    assert not its.led.any()
    begins, served = mine.begins, line.ledger.production()
    one, two, three = (
        record.identity(one.lake, one.settings, some, begins)
        for one, some in ((other, served), (other, {}), (line, served))
    )
    assert one == two != three


def test_without_any_model_in_production_nothing_is_led(line: Line) -> None:
    bars = line.lake.read("bars", symbols=[CHOSEN])["timestamp"]
    begins = period_begins(bars[0], bars[-1], 7)
    views = views_of(line.settings.views)
    _, past = record.whole_past(line.lake, line.ledger, line.settings, {}, SYMBOLS, views, begins)
    assert not past.led.any()
    assert np.isfinite(past.scores[:, 1]).any()


def test_the_record_is_read_once_and_anew_after_a_new_bar_or_another_model(line: Line) -> None:
    line.signal()
    line.signal(anew=True)
    (row,) = [row for row in Cache(line.ledger).status(NOW) if row["namespace"] == RECORD]
    assert (row["entries"], row["hits"], row["misses"]) == (1, 1, 1)
    newest = line.lake.read("bars", symbols=["SIM01"]).tail(1)
    line.lake.append("bars", newest.with_columns(pl.col("timestamp") + pl.duration(days=3)))
    line.signal(anew=True)
    other = Line(line.settings.home, signal=line.settings.signal.__class__(skill_prior=0.03))
    other.signal(now=later(minutes=1))
    (row,) = [row for row in Cache(line.ledger).status(NOW) if row["namespace"] == RECORD]
    assert (row["hits"], row["misses"]) == (1, 3)


def test_a_home_without_bars_has_no_record(tmp_path: Path) -> None:
    line = Line(tmp_path / "home")
    with record.track_record(line.lake, line.ledger, line.settings, {}, NOW) as told:
        assert told() == (None, None)


def test_bars_of_the_record_are_read_beside_the_block_and_not_at_all_where_it_is_held(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, grounded = threading.Event(), record.ground

    def ground(*given: Any) -> pl.DataFrame:
        read.set()
        return grounded(*given)

    monkeypatch.setattr(record, "ground", ground)
    of = (line.lake, line.ledger, line.settings, line.ledger.production())
    with record.track_record(*of, NOW) as told:
        assert read.wait(timeout=60), "before anybody asks"
        first, _ = told()
    read.clear()
    with record.track_record(*of, NOW) as told:
        again, _ = told()
    assert not read.is_set()
    assert first is not None
    assert again is not None
    assert first.newest() == again.newest()


def test_what_a_block_adds_to_the_predictions_is_heard_in_the_record_that_was_begun_before(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def done_before(work: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
        given = work()
        yield lambda: given

    monkeypatch.setattr(record, "beside", done_before)
    production = line.ledger.production()
    (training,) = {row["training_id"] for row in production.values() if row["symbol"] == CHOSEN}
    unheard = pl.col("training_id") == training
    held = line.lake.read("predictions", symbols=[CHOSEN])
    line.lake.replace("predictions", held.filter(~unheard), [CHOSEN])
    with record.track_record(line.lake, line.ledger, line.settings, production, NOW) as told:
        line.lake.append("predictions", held.filter(unheard))
        heard, _ = told()
    with record.track_record(line.lake, line.ledger, line.settings, production, later(days=30)) as told:
        whole, _ = told()
    assert heard is not None
    assert whole is not None
    assert heard.newest() == whole.newest()
    assert heard.outlook.seen[-1] > 0

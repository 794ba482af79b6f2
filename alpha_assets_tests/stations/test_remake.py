"""The replay law: day by day, or afterwards from what was known on each day, the signals are the same.

A home lives through days on which bars come, models are trained, promoted and taken back and signals are said. Nothing
that it reads then is ever cut: there is no future yet. Afterwards every signal is made again from stores that hold
all that came later, and nothing of that may show. Clocks are injected, and no station is stubbed.
"""

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alpha_assets.quant.parameters import SignalParameters, SimulationParameters
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.decisions import promote_version, roll_back, rollback_row
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.remake import BLENDED, Remade, remake
from alpha_assets.stations.sets import table_of
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, rewritable
from alpha_assets_tests.stations.market import evening

pytestmark = pytest.mark.xdist_group("line")

CHOSEN, OTHER = "SIM02", "SIM01"

#: So that something is stated: the confidence of a direction is compared, and HOLD has none. A shorter record is read
#: in less time.
BOLD = SignalParameters(least_confidence=0.3, record_years=2.0)

#: A market that a home is soon begun with.
SHORT = SimulationParameters(symbols=4, first=date(2021, 1, 4), years=3.0)

#: Sessions of the quick home; what happens after the signals of which one, and that they are then said again.
DAYS = 7
LEARNT, TAKEN_BACK = 3, 5


def live(line: Line, sessions: int, events: Mapping[int, Sequence[Any]] | None = None) -> None:
    """Let the market trade on and say signals each evening, and again after the events of that evening."""
    for number in range(sessions):
        now = evening(Simulated(line.settings).advance(1))
        line.refresh(now)
        recognise(line.lake, line.ledger, line.settings, SYMBOLS)
        line.signal(now=now + timedelta(minutes=1))
        for event in (events or {}).get(number, ()):
            event(line, now + timedelta(minutes=2))
        if number in (events or {}):
            line.signal(now=now + timedelta(minutes=3))


def learn(line: Line, now: datetime) -> None:
    """Train everybody anew, let the gate judge, and bring the candidate of the chosen symbol into production."""
    line.train(now=now)
    line.promote(now=now)
    promote(line, now)


def learn_quickly(line: Line, now: datetime) -> None:
    line.train([CHOSEN, "SIM04"], now)
    promote(line, now)


def promote(line: Line, now: datetime) -> None:
    given = (line.ledger, line.registry, line.settings)
    promote_version(*given, (CHOSEN, "all"), None, why="newer", who="ann", now=now)


def take_back(line: Line, now: datetime) -> None:
    roll_back(line.ledger, (CHOSEN, "all"), None, why="worse", who="ann", now=now)


def again(line: Line, symbols: Sequence[str] | None = None, *places: int) -> Remade:
    """Signals made again: of the sessions at these places, first and last, or of all that were lived through."""
    since, *_, until = [sessions(line)[place] for place in places] or [None, None]
    return remake(line.lake, line.ledger, line.registry, line.settings, symbols, since, until)


def sessions(line: Line) -> list[date]:
    return line.lake.read("signals", symbols=[CHOSEN])["bar_time"].dt.date().unique().sort().to_list()


@pytest.fixture(scope="module")
def home(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = copied(promoted, tmp_path_factory.mktemp("lived") / "home", signal=BOLD)
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    live(line, DAYS, {LEARNT: [learn_quickly], TAKEN_BACK: [take_back]})
    return line.settings.home


@pytest.fixture
def line(home: Path, tmp_path: Path) -> Line:
    return copied(home, tmp_path / "home", signal=BOLD)


def test_signals_said_day_by_day_are_the_same_when_they_are_made_again_from_what_was_known_on_each_day(
    home: Path,
) -> None:
    line = Line(home, signal=BOLD)
    said = line.lake.read("signals")
    assert said.filter(symbol=CHOSEN)["model_version"].unique().sort().to_list() == ["1", "2"]
    assert said["confidence"].is_not_null().any()
    found = again(line)
    assert found.rows == []
    assert found.counts == {"signals": said.height, "runs": DAYS + 2, "same": said.height, "different": 0, "untold": 0}


def test_some_of_them_are_made_again_by_symbol_and_day(line: Line) -> None:
    found = again(line, [OTHER, CHOSEN], 1, 2)
    assert found.counts == {"signals": 4, "runs": 2, "same": 4, "different": 0, "untold": 0}
    assert again(line, ["NOSUCH"]).counts["signals"] == 0


def test_nothing_is_written(line: Line) -> None:
    before = everything(line)
    assert again(line, None, LEARNT, LEARNT).counts["same"] > 0
    assert everything(line) == before


def everything(line: Line) -> tuple[dict[str, int | None], list[list[str]], list[Path]]:
    """The versions of the lake's tables, the contents of both databases and the files beside them."""
    dumps = []
    for name in ("ledger.db", "mlflow.db"):
        with closing(sqlite3.connect(line.settings.home / name)) as database:
            dumps.append(list(database.iterdump()))
    beside = sorted(path for path in line.settings.home.iterdir() if not path.name.startswith(("ledger.", "mlflow.")))
    return {table: line.lake.version(table) for table in line.lake.tables()}, dumps, beside


def test_a_signal_that_was_altered_is_named_with_what_differs(line: Line) -> None:
    third = sessions(line)[2]
    altered = (pl.col("symbol") == CHOSEN) & (pl.col("bar_time").dt.date() == third)
    changed = pl.when(altered).then(pl.col("price_high") * 1.001).otherwise("price_high")
    line.lake.replace("signals", line.lake.read("signals").with_columns(price_high=changed), SYMBOLS)
    found = again(line, None, 2, 2)
    assert [
        (row["symbol"], row["bar_time"].date(), row["state"], row["differs"], row["why"]) for row in found.rows
    ] == [(CHOSEN, third, "different", ["price_high"], None)]
    assert found.counts["same"] == found.counts["signals"] - 1


def test_signals_of_other_settings_are_different(line: Line) -> None:
    other = Line(line.settings.home, signal=replace(BOLD, skill_prior=0.06))
    found = again(other, [CHOSEN], 2, 2)
    assert [row["state"] for row in found.rows] == ["different"]
    assert BLENDED.issuperset(found.rows[0]["differs"])


def test_what_came_later_moves_nothing_neither_bar_nor_prediction_nor_a_decision_that_is_dated_back(line: Line) -> None:
    days = sessions(line)
    afterwards, early = evening(days[-1]) + timedelta(days=1), evening(days[1]) - timedelta(hours=1)
    bars = line.lake.read("bars")
    newest = bars.filter(pl.col("timestamp").dt.date() == days[-1])
    restated = newest.with_columns(pl.col("open", "high", "low", "close") * 1.5, fetched_at=pl.lit(afterwards))
    new = restated.with_columns(timestamp=pl.col("timestamp") + pl.duration(days=1))
    line.lake.replace(
        "bars", pl.concat([bars.join(newest, on=["symbol", "timestamp"], how="anti"), restated, new]), SYMBOLS
    )

    production = line.ledger.production(as_of=evening(days[1]))
    assert production.keys() >= {(OTHER, "all"), (CHOSEN, "all")}
    told = {"regime": "all", "origin": "live", "p_up": 0.9, "expected_return": 0.1, "made_at": afterwards}
    told |= {f"linear_{name}": told[name] for name in ("p_up", "expected_return")}
    rows = bars.filter(pl.col("symbol").is_in([OTHER, CHOSEN])).select("symbol", "timestamp").rows()
    trained = {symbol: row["training_id"] for (symbol, _), row in production.items()}
    said = [
        {**dict.fromkeys(PREDICTIONS), **told, "symbol": symbol, "timestamp": at, "training_id": trained[symbol]}
        for symbol, at in rows
    ]
    assert line.lake.append("predictions", pl.DataFrame(said, schema=dict(PREDICTIONS))) > 100

    history = line.ledger.history([CHOSEN])[CHOSEN, "all"]
    line.ledger.decide([rollback_row(history, to=None, reason="never was", who="ann", now=early)])

    assert again(line, None, 1, 2).rows == []


def test_where_a_bar_was_restated_nobody_can_tell_what_was_known_but_what_the_track_record_cannot_move(
    line: Line,
) -> None:
    days, old = sessions(line), date(2023, 10, 2)
    restate(line, OTHER, old, evening(days[3]))
    altered = (pl.col("symbol") == CHOSEN) & (pl.col("bar_time").dt.date() == days[2])
    lowered = pl.when(altered).then(pl.col("price") * 0.999).otherwise("price")
    line.lake.replace("signals", line.lake.read("signals").with_columns(price=lowered), SYMBOLS)
    rows = {(row["symbol"], row["bar_time"].date()): row for row in again(line, [OTHER, CHOSEN], 1, 2).rows}
    cause = f"the bar of {old} was learnt on {days[3]}, late or anew"
    own, others = rows[OTHER, days[1]], rows[CHOSEN, days[1]]
    assert (own["state"], own["why"]) == ("untold", cause)
    assert "data_points" in own["differs"]
    assert (others["state"], others["why"]) == ("untold", f"the track record reads other symbols too: {OTHER}: {cause}")
    assert BLENDED.issuperset(others["differs"])
    assert rows[CHOSEN, days[2]]["state"] == "different"
    assert "price" in rows[CHOSEN, days[2]]["differs"]


def restate(line: Line, symbol: str, day: date, learnt: datetime) -> None:
    """A bar as the source says it from some instant on."""
    bars = line.lake.read("bars", symbols=[symbol])
    here = pl.col("timestamp").dt.date() == day
    said = {"close": pl.col("close") * 1.001, "fetched_at": pl.lit(learnt)}
    line.lake.replace(
        "bars",
        bars.with_columns(**{name: pl.when(here).then(new).otherwise(name) for name, new in said.items()}),
        [symbol],
    )


def test_where_features_or_the_model_are_gone_nobody_can_tell(line: Line) -> None:
    days = sessions(line)
    rows = line.lake.read(table_of(line.settings), symbols=[OTHER])
    line.lake.replace(table_of(line.settings), rows.filter(pl.col("timestamp").dt.date() != days[1]), [OTHER])
    folder = Path(line.ledger.production()[CHOSEN, "all"]["model_location"].removeprefix("file://"))
    shutil.rmtree(folder)
    why = {row["symbol"]: (row["state"], row["why"]) for row in again(line, None, 1, 1).rows}
    assert why[OTHER] == ("untold", f"{table_of(line.settings)} has no row of its bar")
    assert why[CHOSEN][0] == "untold"
    assert why[CHOSEN][1].startswith("the files of its model cannot be read")


def test_of_a_training_that_is_forgotten_and_was_never_decided_on_nobody_can_tell(line: Line) -> None:
    days = sessions(line)
    assert again(line, ["SIM04"], 1, 1).rows == []
    with closing(sqlite3.connect(line.settings.home / "ledger.db")) as database, rewritable(database):
        database.execute("DELETE FROM decisions WHERE symbol = 'SIM04'")
    (row,) = again(line, ["SIM04"], 1, 1).rows
    assert (row["bar_time"].date(), row["state"], "reason" in row["differs"]) == (days[1], "untold", True)
    assert str(row["why"]).startswith("it was trained anew since")


@pytest.mark.slow
def test_two_fresh_homes_that_saw_the_same_arrivals_say_the_same_with_one_worker_and_with_two(tmp_path: Path) -> None:
    said = []
    for workers in (1, 2):
        line = Line(tmp_path / f"{workers}", signal=BOLD, simulation=SHORT, workers=workers)
        line.begin()
        recognise(line.lake, line.ledger, line.settings, SYMBOLS)
        line.train()
        promote(line, NOW)
        live(line, 3, {1: [learn]})
        said.append([line.lake.read(table) for table in ("signals", "predictions")])
    assert (said[0][0]["model_version"].n_unique(), said[0][1].is_empty()) == (3, False)
    for one, other in zip(*said, strict=True):
        assert_frame_equal(one.drop("signal_id", strict=False), other.drop("signal_id", strict=False), check_exact=True)


@pytest.mark.slow
def test_a_year_of_days_with_models_promoted_on_the_way_is_the_same_when_it_is_made_again_at_once(
    promoted: Path, tmp_path: Path
) -> None:
    line = copied(promoted, tmp_path / "home", signal=BOLD)
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    live(line, 252, {84: [learn], 120: [take_back], 168: [learn]})
    said = line.lake.read("signals")
    assert len(sessions(line)) == 252
    assert said.filter(symbol=CHOSEN)["model_version"].n_unique() == 3
    found = again(line)
    assert found.rows == []
    assert found.counts["same"] == said.height > 3 * 252


def test_a_signal_said_while_a_pass_judged_is_made_again_without_its_decision(line: Line) -> None:
    began = evening(Simulated(line.settings).advance(1))
    line.refresh(began)
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    line.signal([CHOSEN], began + timedelta(minutes=2))
    line.ledger = Ledger(line.settings, lambda: began + timedelta(minutes=3))
    take_back(line, began)
    assert again(line, [CHOSEN], -1, -1).counts == {"signals": 1, "runs": 1, "same": 1, "different": 0, "untold": 0}
    line.signal([CHOSEN], began + timedelta(minutes=4))
    assert line.ledger.signals([CHOSEN])[0]["model_version"] is None
    assert again(line, [CHOSEN], -1, -1).counts == {"signals": 2, "runs": 2, "same": 2, "different": 0, "untold": 0}

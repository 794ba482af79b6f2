"""What became of stored signals: booked by the station as the pure book has it, whatever came in which order."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

from alpha_assets.quant.labels import open_to_open
from alpha_assets.sources.all import Sources
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.outcome import BEGINNING, booked, orders_of, outcome
from alpha_assets.stations.perform import live_points, perform
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stores.lake import SIGNALS
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets.stores.registry import PICTURE, Registry
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")


@pytest.fixture
def line(featured: Path, tmp_path: Path) -> Line:
    return copied(featured, tmp_path / "home")


def bars(line: Line, symbol: str) -> list[datetime]:
    return line.lake.read("bars", symbols=[symbol], columns=["timestamp"])["timestamp"].to_list()


def say(line: Line, symbol: str, told: Sequence[tuple[datetime, str]], now: datetime = NOW) -> None:
    """Store signals of these bars, as the station of signals does."""
    rows = [
        {
            "symbol": symbol,
            "bar_time": bar,
            "signal_id": f"{symbol}{bar}{word}",
            "signal": word,
            "confidence": None if word == "HOLD" else 0.55,
            "model_version": "1",
            "reason": "told by a test",
            "created_at": now,
        }
        for bar, word in told
    ]
    line.lake.append(
        "signals", pl.DataFrame([{name: row.get(name) for name in SIGNALS} for row in rows], dict(SIGNALS))
    )


WORDS = ("BUY", "STRONG_SELL", "HOLD", "BUY", "SELL", "STRONG_BUY", "SELL", "SELL")


def tell_the_last(line: Line, symbols: Sequence[str], count: int, skip: int = 0) -> None:
    """A word on each of the last ``count`` bars but the very last ``skip``."""
    for symbol in symbols:
        stamps = bars(line, symbol)
        chosen = stamps[len(stamps) - count : len(stamps) - skip]
        say(line, symbol, [(bar, WORDS[number % len(WORDS)]) for number, bar in enumerate(chosen)])


def ledger(line: Line) -> pl.DataFrame:
    return booked(Outcomes(line.ledger).all())


def test_every_closed_position_earned_the_label_of_its_bar(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 60)
    report = outcome(line.lake, line.ledger, line.settings, NOW)
    found = ledger(line)
    assert report.totals["traded"] == found.height > 150
    adjusted, _ = adjusted_bars(line.lake, line.settings, calendars_of(line.ledger), SYMBOLS)
    labels = open_to_open(with_known_at(adjusted, line.settings, calendars_of(line.ledger)), 1)
    beside = found.filter(pl.col("reason") == "horizon").join(
        labels, left_on=["symbol", "bar_time"], right_on=["symbol", "timestamp"]
    )
    assert beside.height > 150
    assert (beside["gross_return"] - beside["side"] * beside["label_return"]).abs().max() < 1e-12


def test_the_symbol_that_is_delisted_ends_with_a_haircut_and_the_others_wait_for_the_next_open(line: Line) -> None:
    gone = [symbol for symbol in SYMBOLS if bars(line, symbol)[-1] < bars(line, "SIM01")[-1] - timedelta(days=120)]
    assert gone == ["SIM03"]
    for symbol in SYMBOLS:
        stamps = bars(line, symbol)
        say(line, symbol, [(stamps[-2], "BUY"), (stamps[-1], "SELL")])
    outcome(line.lake, line.ledger, line.settings, NOW)
    rows = {key: part.rows(named=True) for (key,), part in ledger(line).group_by("symbol", maintain_order=True)}
    held, waiting = rows["SIM01"]
    assert (held["status"], waiting["status"]) == ("open", "pending")
    ended, never = rows["SIM03"]
    last = line.lake.read("bars", symbols=["SIM03"]).row(-1, named=True)
    assert (ended["status"], ended["reason"]) == ("closed", "delisted")
    assert ended["exit_price"] == pytest.approx(0.7 * last["close"])
    assert (never["status"], never["reason"]) == ("unfilled", "delisted")


def hear(line: Line, symbols: Sequence[str], now: datetime) -> None:
    """Bring the bars of these symbols, and trade what can be traded."""
    ingest(line.lake, line.ledger, Sources(line.settings), line.settings, symbols, now)
    outcome(line.lake, line.ledger, line.settings, now)


def test_of_a_symbol_that_nobody_follows_the_positions_wait_and_go_on_as_if_it_had_never_been_away(
    line: Line, tmp_path: Path
) -> None:
    stamps = bars(line, "SIM01")
    say(line, "SIM01", [(stamps[-2], "BUY"), (stamps[-1], "SELL")])
    outcome(line.lake, line.ledger, line.settings, NOW)
    before = ledger(line)
    Simulated(line.settings).advance(70)
    whole = copied(line.settings.home, tmp_path / "whole")
    hear(whole, SYMBOLS, later(days=101))
    line.ledger.retire(["SIM01"], later(hours=1))
    hear(line, SYMBOLS[1:], later(days=100))
    assert before["status"].to_list() == ["open", "pending"]
    assert ledger(line).equals(before), "nobody asked for its bars: that is no delisting"
    line.ledger.add_symbols(
        [{"symbol": "SIM01", "source": "simulated", "calendar": "XNYS", "added_at": later(days=100)}]
    )
    outcome(line.lake, line.ledger, line.settings, later(days=100.5))
    assert ledger(line).equals(before), "nor has anybody asked since it is followed again"
    hear(line, SYMBOLS, later(days=101))
    assert ledger(line).equals(ledger(whole))
    assert ledger(line)["status"].to_list() == ["closed", "closed"]


def test_a_symbol_that_was_delisted_before_it_was_retired_stays_delisted(line: Line) -> None:
    stamps = bars(line, "SIM03")
    say(line, "SIM03", [(stamps[-2], "BUY")])
    line.ledger.retire(["SIM03"], later(hours=1))
    outcome(line.lake, line.ledger, line.settings, later(hours=2))
    assert ledger(line)["reason"].to_list() == ["delisted"]


def test_a_symbol_that_is_followed_again_and_stays_silent_for_longer_than_a_listing_does_is_delisted(
    line: Line,
) -> None:
    """Until then nobody knows; the symbol that went while nobody followed it was asked for and has no bar."""
    stamps = bars(line, "SIM03")
    say(line, "SIM03", [(stamps[-2], "BUY")])
    row = {"symbol": "SIM03", "source": "simulated", "calendar": "XNYS"}
    line.ledger.add_symbols([{**row, "added_at": later(hours=1)}])
    for sessions, told in ((60, ("open", None)), (1, ("closed", "delisted"))):
        Simulated(line.settings).advance(sessions)
        hear(line, SYMBOLS, later(days=100 + sessions))
        assert ledger(line).select("status", "reason").row(0) == told


def test_signals_that_come_bit_by_bit_are_booked_as_if_they_had_come_at_once(line: Line, tmp_path: Path) -> None:
    whole = copied(line.settings.home, tmp_path / "whole")
    tell_the_last(whole, SYMBOLS, 40)
    outcome(whole.lake, whole.ledger, whole.settings, NOW)
    for symbol in SYMBOLS:
        stamps = bars(line, symbol)[-40:]
        told = [(bar, WORDS[number % len(WORDS)]) for number, bar in enumerate(stamps)]
        for first, last in ((0, 7), (7, 8), (8, 31), (31, 40)):
            say(line, symbol, told[first:last])
            outcome(line.lake, line.ledger, line.settings, later(hours=last))
    assert ledger(line).equals(ledger(whole))


def test_a_position_that_is_not_over_goes_on_with_the_bars_that_came_since(line: Line) -> None:
    stamp = bars(line, "SIM01")[-1]
    say(line, "SIM01", [(stamp, "BUY")])
    outcome(line.lake, line.ledger, line.settings, NOW)
    assert ledger(line)["status"].to_list() == ["pending"]
    for day, status in ((1, "open"), (2, "closed")):
        Simulated(line.settings).advance(1)
        line.refresh(later(days=day))
        outcome(line.lake, line.ledger, line.settings, later(days=day))
        assert ledger(line)["status"].to_list() == [status]


def test_a_signal_said_again_replaces_what_waits_for_the_next_open(line: Line) -> None:
    stamp = bars(line, "SIM01")[-1]
    say(line, "SIM01", [(stamp, "BUY")])
    outcome(line.lake, line.ledger, line.settings, NOW)
    say(line, "SIM01", [(stamp, "HOLD")], later(hours=1))
    outcome(line.lake, line.ledger, line.settings, later(hours=1))
    assert ledger(line).is_empty()


def test_nothing_new_changes_nothing(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 20)
    outcome(line.lake, line.ledger, line.settings, NOW)
    before = ledger(line)
    outcome(line.lake, line.ledger, line.settings, later(hours=1))
    assert ledger(line).equals(before)


def test_a_rebuild_sees_what_was_restated_since_and_else_gives_the_same(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 20)
    outcome(line.lake, line.ledger, line.settings, NOW)
    before = ledger(line)
    outcome(line.lake, line.ledger, line.settings, later(hours=1), rebuild=True)
    assert ledger(line).equals(before)
    stored = line.lake.read("bars", symbols=["SIM01"])
    wrong = stored.with_columns(flags=pl.when(pl.col("timestamp") == stored["timestamp"][-10]).then(pl.lit("restated")))
    line.lake.replace("bars", wrong, ["SIM01"])
    outcome(line.lake, line.ledger, line.settings, later(hours=2))
    assert ledger(line).equals(before)
    outcome(line.lake, line.ledger, line.settings, later(hours=3), rebuild=True)
    assert ledger(line).filter(pl.col("status") == "void")["symbol"].unique().to_list() == ["SIM01"]


def test_without_mlflow_the_figures_are_there_and_mlflow_is_told_the_next_time(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 30)
    outcome(line.lake, line.ledger, line.settings, NOW)
    away = Registry(line.settings.model_copy(update={"mlflow_url": SecretStr("postgresql://nobody@127.0.0.1:1/none")}))
    report, pictures = perform(line.lake, line.ledger, away, line.settings, NOW)
    assert "MLflow" in report.totals["trouble"]
    assert PICTURE in pictures
    assert Outcomes(line.ledger).performance()
    report, _ = perform(line.lake, line.ledger, line.registry, line.settings, later(hours=1))
    assert "trouble" not in report.totals
    (run,) = [run for run in line.registry.client.search_runs(experiments(line)) if "performance" in run.info.run_name]
    assert len(line.registry.client.get_metric_history(run.info.run_id, "blend/live_closed")) > 10


def test_a_home_without_signals_has_no_outcomes_and_no_performance(line: Line) -> None:
    assert outcome(line.lake, line.ledger, line.settings, NOW).totals["traded"] == 0
    report, pictures = perform(line.lake, line.ledger, line.registry, line.settings, NOW)
    assert (report.totals["cells"], pictures) == (0, {})


VIEWS = [
    {
        "name": "model",
        "score": 0.2,
        "confidence": 0.6,
        "side": 1,
        "abstained": False,
        "detail": {"model_name": "SYM.all", "model_version": "3", "kinds": {"trees": 1, "linear": -1}},
    },
    {"name": "technical", "score": -0.1, "confidence": 0.5, "side": -1, "abstained": False, "detail": {}},
    {"name": "pattern", "score": None, "confidence": None, "side": 1, "abstained": True, "detail": {}},
]


def stored(**more: Any) -> dict[str, Any]:
    row = {"symbol": "SYM", "bar_time": NOW, "signal_id": "x", "signal": "STRONG_SELL", "confidence": 0.7}
    return {**row, "model_version": "3", "created_at": later(hours=1), "regime": "trending", **more}


@pytest.mark.parametrize("as_text", [True, False])
def test_the_blend_each_view_and_each_kind_of_model_are_strategies(as_text: bool) -> None:
    told = list(orders_of(stored(views=json.dumps(VIEWS) if as_text else VIEWS), live=False))
    assert {order["strategy"]: (order["side"], order["confidence"]) for order in told} == {
        "blend": (-1, 0.7),
        "view:model": (1, 0.6),
        "view:technical": (-1, 0.5),
        "view:pattern": (0, None),
        "kind:trees": (1, None),
        "kind:linear": (-1, None),
    }
    named = {order["strategy"]: (order["model_name"], order["model_version"]) for order in told}
    assert named["view:model"] == named["kind:linear"] == ("SYM.all", "3")
    assert named["view:technical"] == (None, None)


def test_a_signal_of_before_there_were_views_is_the_blend_alone() -> None:
    for row in (stored(), stored(views=None)):
        assert [order["strategy"] for order in orders_of(row, live=False)] == ["blend"]


def test_of_a_live_source_a_signal_counts_from_when_it_was_said() -> None:
    (live,), (waiting,) = (list(orders_of(stored(), live=live)) for live in (True, False))
    assert live["known_at"] == later(hours=1)
    assert waiting["known_at"] is None


def test_performance_is_told_in_the_ledger_in_mlflow_and_as_a_picture_and_only_once(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 60)
    outcome(line.lake, line.ledger, line.settings, NOW)
    report, pictures = perform(line.lake, line.ledger, line.registry, line.settings, NOW)
    assert pictures[PICTURE].startswith(b"\x89PNG")
    assert report.partitions["blend"]["closed"] > 100
    cells = Outcomes(line.ledger).performance()
    assert {row["window"] for row in cells} == {"30", "90", "365", "all"}
    assert {row["symbol"] for row in cells} == {"*", *SYMBOLS}
    assert line.pictures("live performance") == ["portrait.png", "reliability.png"]
    (run,) = [run for run in line.registry.client.search_runs(experiments(line)) if "performance" in run.info.run_name]
    told = line.registry.client.get_metric_history(run.info.run_id, "blend/live_total_pnl")
    whole = Outcomes(line.ledger).performance(["*"], ["blend"], ["all"])[0]["document"]
    closed = ledger(line).filter(pl.col("status") == "closed")
    assert told[-1].value == pytest.approx(closed["pnl"].sum())
    assert whole["closed"] == closed.height
    _, again = perform(line.lake, line.ledger, line.registry, line.settings, later(hours=1))
    assert again == {}
    assert Outcomes(line.ledger).performance() == cells, "what is as it was is not written again"
    assert len(line.registry.client.get_metric_history(run.info.run_id, "blend/live_total_pnl")) == len(told)


def test_what_is_booked_waits_while_the_bars_of_its_symbol_are_gone(line: Line) -> None:
    """A source that does not answer after the lake has lost its bars is no market that has closed."""
    tell_the_last(line, ["SIM01", "SIM02"], 6, skip=2)
    outcome(line.lake, line.ledger, line.settings, NOW)
    before, held = ledger(line), line.lake.read("bars")
    say(line, "SIM01", [(bars(line, "SIM01")[-1], "BUY")])
    say(line, "SIM02", [(bars(line, "SIM02")[-1], "BUY")])
    line.lake.replace("bars", held.filter(pl.col("symbol") == "SIM01").clear(), ["SIM01"])
    outcome(line.lake, line.ledger, line.settings, later(hours=1))
    assert ledger(line).filter(pl.col("symbol") == "SIM01").equals(before.filter(pl.col("symbol") == "SIM01"))
    line.lake.append("bars", held.filter(pl.col("symbol") == "SIM01"))
    outcome(line.lake, line.ledger, line.settings, later(hours=2))
    resumed = ledger(line)
    outcome(line.lake, line.ledger, line.settings, later(hours=2), rebuild=True)
    assert resumed.equals(ledger(line))
    assert resumed.height > before.height


def test_performance_without_any_bar_tells_nothing_and_fails_nobody(line: Line) -> None:
    tell_the_last(line, ["SIM01"], 6, skip=2)
    outcome(line.lake, line.ledger, line.settings, NOW)
    line.lake.replace("bars", line.lake.read("bars").clear(), list(SYMBOLS))
    report, pictures = perform(line.lake, line.ledger, line.registry, line.settings, NOW)
    assert (report.totals["cells"], pictures) == (0, {})


def experiments(line: Line) -> list[str]:
    return [experiment.experiment_id for experiment in line.registry.client.search_experiments()]


def test_live_performance_is_on_the_run_of_the_version_it_belongs_to_and_told_twice_counts_once(
    promoted: Path, tmp_path: Path
) -> None:
    line = copied(promoted, tmp_path / "promoted")
    (name, number), *_ = [(row["model_name"], row["model_version"]) for row in line.ledger.production().values()]
    tell_the_last(line, ["SIM02"], 30)
    outcome(line.lake, line.ledger, line.settings, NOW)
    positions = ledger(line).with_columns(model_name=pl.lit(name), model_version=pl.lit(number))
    live = live_points(positions, ["model_name", "model_version"], BEGINNING)
    for _ in range(2):
        assert line.registry.log_live({(name, number): live[name, number], ("nobody", "9"): []}) == 1
    run = line.registry.client.get_model_version(name, number).run_id
    told = line.registry.client.get_metric_history(run, "live_closed")
    closed = positions.filter(pl.col("status") == "closed")
    assert [metric.value for metric in told] == [float(count) for count in range(1, closed.height + 1)]
    assert told[-1].step == closed["settled_at"].max().toordinal()  # type: ignore[union-attr]

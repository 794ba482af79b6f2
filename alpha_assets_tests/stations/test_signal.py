"""What is said of the latest bar: by the promoted model, or HOLD with the reason."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.commands import show
from alpha_assets.quant.heads import Candidate, features_of
from alpha_assets.quant.lifecycle import GATE
from alpha_assets.quant.parameters import FeatureParameters, SignalParameters, ViewParameters
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.quant.views import TechnicalView
from alpha_assets.reading import signals
from alpha_assets.stations import ask, record
from alpha_assets.stations.backtest import Wish, backtest
from alpha_assets.stations.decisions import rollback_row, row_of
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets.stations.signal import signal
from alpha_assets.stations.watch import SHADOW
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.lake import LakeDamaged
from alpha_assets.stores.last_said import last_said
from alpha_assets.stores.ledger import Ledger, LedgerUnavailable
from alpha_assets.stores.registry import HEADS, Registry
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

#: The symbol whose edge the gate finds most easily.
CHOSEN = "SIM02"


@pytest.fixture
def line(promoted: Path, tmp_path: Path) -> Line:
    line = copied(promoted, tmp_path / "home")
    assert (CHOSEN, "all") in line.ledger.production()
    return line


def said(line: Line, symbol: str) -> dict[str, object]:
    (row,) = line.ledger.signals([symbol])
    return row


def test_the_signal_of_a_promoted_symbol_is_what_its_version_in_mlflow_says_of_the_last_feature_row(line: Line) -> None:
    line.signal()
    from mlflow.pyfunc import load_model

    assert line.registry.production_versions()  # opens this home's store
    last = line.lake.read(table_of(line.settings), symbols=[CHOSEN]).tail(1)
    features = last.select(pl.col(recipe_of(line.settings).columns).cast(pl.Float64)).to_pandas()
    told = load_model(f"models:/{CHOSEN}.all@production").predict(features)
    tags = line.registry.client.get_model_version_by_alias(f"{CHOSEN}.all", "production").tags
    speaks = "linear_p_up" if tags.get("speaker") == "linear" else "p_up"
    p_up = told[speaks][0]
    row = said(line, CHOSEN)
    assert row["p_up"] == p_up
    assert (row["model_name"], row["model_version"]) == (f"{CHOSEN}.all", "1")
    assert row["bar_time"] == last["timestamp"][0]
    live = line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "live")
    assert live["p_up"].to_list() == [p_up]
    expected = told[speaks.replace("p_up", "expected_return")][0]
    assert live.select("expected_return", "dissimilarity").row(0) == (expected, told["dissimilarity"][0])
    assert live["p_buy"].to_list() == [None], "no head of this home tells it"


def test_where_the_linear_model_was_judged_it_speaks_and_whoever_is_brought_back_speaks_as_before(line: Line) -> None:
    first = line.ledger.history([CHOSEN])[CHOSEN, "all"]
    telling = {"last": first[-1], "production": first[-1], "who": "gate", "evidence": {}, "now": NOW}
    again = row_of(
        first[-1], (CHOSEN, "all"), verdict="promote", stage="production", reason="x", speaker="linear", **telling
    )
    line.ledger.decide([again])
    line.signal([CHOSEN])
    last = line.lake.read(table_of(line.settings), symbols=[CHOSEN]).tail(1)
    version = line.registry.candidate(*(again[f"model_{part}"] for part in ("name", "version", "location", "digest")))
    told = version.predict(features_of(last, version), [CHOSEN])
    assert told["linear_p_up"][0] != told["p_up"][0]
    row = said(line, CHOSEN)
    assert row["p_up"] == told["linear_p_up"][0]
    assert "its linear model's P(up)" in str(row["reason"])
    live = line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "live")
    assert live.select("p_up", "expected_return").rows() == [(row["p_up"], told["linear_expected_return"][0])]
    history = line.ledger.history([CHOSEN])[CHOSEN, "all"]
    assert rollback_row(history, to=history[-1], reason="x", who="me", now=NOW)["speaker"] == "linear"
    assert rollback_row(history, to=history[0], reason="x", who="me", now=NOW)["speaker"] == first[0]["speaker"]


@pytest.mark.parametrize("speaker", [None, "linear"])
def test_what_is_said_live_is_stored_with_everything_that_a_backtest_asks_of_a_prediction(
    line: Line, speaker: str | None
) -> None:
    history = line.ledger.history([CHOSEN])[CHOSEN, "all"]
    again = {**rollback_row(history, to=history[-1], reason="x", who="me", now=later(hours=1)), "speaker": speaker}
    line.ledger.decide([again])
    line.signal([CHOSEN], later(hours=2))
    (row,) = line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "live").to_dicts()
    voice = "linear_" if speaker else ""
    assert all(row[f"{voice}{name}"] is not None for name in ("score", "p_up", "expected_return"))
    assert (row["score"], row["p_up"]) == (row[f"{voice}score"], row[f"{voice}p_up"])
    found = backtest(line.lake, line.ledger, line.registry, line.settings, NOW, wish=Wish(promoted_only=True))
    assert found.told["of"]["live"] == 1


def test_a_direction_is_stated_from_the_least_confidence_on_and_hold_has_none(line: Line) -> None:
    for least, signals_said in ((0.01, ("BUY", "STRONG_BUY")), (1.0, ("HOLD",))):
        again = Line(line.settings.home, signal=SignalParameters(least_confidence=least))
        again.signal([CHOSEN])
        row = said(again, CHOSEN)
        assert row["p_up"] > 0.5 < 0.5 + row["score"], "the example is about an opinion that the price rises"  # type: ignore[operator]
        assert row["signal"] in signals_said
        assert (row["confidence"] is None) == (row["signal"] == "HOLD")
        if row["confidence"] is not None:
            assert f"earns its costs in {row['confidence']:.1%} (stated from {least:.1%})" in str(row["reason"])


def test_a_signal_says_what_each_view_says_where_the_price_may_go_and_what_moved_the_model(line: Line) -> None:
    line.signal([CHOSEN])
    row = said(line, CHOSEN)
    views = {view["name"]: view for view in row["views"]}  # type: ignore[attr-defined]
    assert list(views) == ["model", "technical", "pattern"]
    for view in views.values():
        assert set(view) == {"name", "score", "confidence", "side", "abstained", "reasons", "detail"}
        assert view["abstained"] == (view["score"] is None) == (view["confidence"] is None)
        assert view["reasons"]
    assert views["model"]["score"] == pytest.approx(2 * row["p_up"] - 1)  # type: ignore[operator]
    assert views["model"]["detail"]["training_id"] == line.ledger.production()[CHOSEN, "all"]["training_id"]
    assert set(views["model"]["detail"]["heads"]) == set(line.settings.learning.heads)
    assert set(views["model"]["detail"]["kinds"].values()) <= {-1, 0, 1}
    assert views["technical"]["detail"]["rules"]["macd_line"] in (-1.0, 1.0)
    bars = line.lake.read("bars", symbols=[CHOSEN])
    assert row["price"] == bars["close"][-1]
    assert row["price_low"] < row["predicted_price"] < row["price_high"]  # type: ignore[operator]
    assert row["expected_return"] == pytest.approx(row["predicted_price"] / row["price"] - 1)  # type: ignore[operator]
    assert row["risk"] in ("LOW", "MEDIUM", "HIGH")
    assert row["regime"] == line.lake.read(table_of(line.settings), symbols=[CHOSEN])["regime"][-1]
    assert row["data_points"] == bars.height
    features = line.lake.read(table_of(line.settings), symbols=[CHOSEN]).tail(1)
    for one in row["top_features"]:  # type: ignore[attr-defined]
        assert one["value"] == pytest.approx(features[one["feature"]][0])
    (stored,) = line.lake.read("signals", symbols=[CHOSEN]).to_dicts()
    assert json.loads(stored["views"]) == row["views"]
    assert json.loads(stored["top_features"]) == row["top_features"]
    (remembered,) = [one for one in last_said(line.settings) if one["symbol"] == CHOSEN]
    assert (remembered["views"], remembered["top_features"]) == (row["views"], row["top_features"])
    assert {name: stored[name] for name in ("score", "price_low", "risk")} == {
        name: row[name] for name in ("score", "price_low", "risk")
    }


def test_a_symbol_alone_and_all_of_them_and_once_more_say_the_same(line: Line) -> None:
    line.signal()
    together = {row["symbol"]: row for row in line.ledger.signals()}
    for symbol in (CHOSEN, "SIM04"):
        again = copied(line.settings.home, line.settings.home.parent / symbol, workers=2)
        Cache(again.ledger).clear(later(days=30))
        again.signal([symbol], later(minutes=1))
        clocks = ("created_at", "expires_at")
        row = {name: value for name, value in said(again, symbol).items() if name not in clocks}
        assert row == {name: value for name, value in together[symbol].items() if name not in clocks}


@pytest.mark.parametrize(
    ("knobs", "days", "reason"),
    [
        ({"views": ViewParameters(dissimilar_from=0.01)}, 0, "the bar is too unlike what the model was trained on"),
        ({}, 200, "the model is 20 days past its expiry"),
    ],
)
def test_a_model_that_cannot_know_abstains_and_the_signal_is_hold(
    line: Line, knobs: dict[str, Any], days: int, reason: str
) -> None:
    other = Line(line.settings.home, signal=SignalParameters(least_confidence=0.01), **knobs)
    other.signal([CHOSEN], later(days=days))
    row = said(other, CHOSEN)
    assert (row["signal"], row["confidence"], row["predicted_price"]) == ("HOLD", None, None)
    assert f"the model view abstains: {reason}" in str(row["reason"])
    assert row["views"][0]["abstained"]  # type: ignore[index]
    assert not row["views"][1]["abstained"]  # type: ignore[index]


def test_without_a_model_views_are_shown_and_may_act_alone_by_setting_only(line: Line) -> None:
    for alone in (False, True):
        views = ViewParameters(alone=alone)
        other = Line(line.settings.home, views=views, signal=SignalParameters(least_confidence=0.01))
        other.signal(["SIM04"])
        row = said(other, "SIM04")
        assert not row["views"][1]["abstained"]  # type: ignore[index]
        assert (row["signal"] == "HOLD") == (not alone)
        assert str(row["reason"]).startswith("the model view abstains: no promoted" if alone else "no promoted model")
    ill = copied(line.settings.home, line.settings.home.parent / "ill", views=ViewParameters(alone=True))
    bars = ill.lake.read("bars", symbols=["SIM04"])
    flagged = pl.when(pl.int_range(pl.len()) == bars.height - 1).then(pl.lit("split_sized_jump"))
    ill.lake.replace("bars", bars.with_columns(flags=flagged), ["SIM04"])
    ill.signal(["SIM04"])
    assert (said(ill, "SIM04")["signal"], said(ill, "SIM04")["views"]) == ("HOLD", [])


def test_a_candidate_predicts_in_the_shadow_until_it_is_decided_on(
    trained: Path, promoted: Path, tmp_path: Path
) -> None:
    waiting = copied(trained, tmp_path / "waiting")
    waiting.signal()
    shadows = waiting.lake.read("predictions").filter(pl.col("origin") == SHADOW)
    # The third is delisted: nothing is said of it.
    assert shadows["symbol"].to_list() == ["SIM01", "SIM02", "SIM04"]
    assert {row["training_id"] for row in waiting.ledger.candidates().values()} >= set(shadows["training_id"])
    assert {row["signal"] for row in waiting.ledger.signals()} == {"HOLD"}
    assert {row["model_version"] for row in waiting.ledger.signals()} == {None}
    decided = copied(promoted, tmp_path / "decided")
    decided.signal()
    assert decided.lake.read("predictions").filter(pl.col("origin") == SHADOW).is_empty()


def test_signals_are_added_to_a_table_that_older_ones_are_in(line: Line) -> None:
    line.signal([CHOSEN])
    rows = line.lake.read("signals").with_columns(signal_id=pl.lit("old"))
    older = rows.select(list(rows.columns)[:8]).with_columns(year=pl.lit(2023, pl.Int32))
    folder = line.settings.home / "lake" / "signals"
    shutil.rmtree(folder)
    older.write_delta(folder, delta_write_options={"partition_by": ["year"]})
    assert line.lake.read("signals").select("signal_id", "views", "score").rows() == [("old", None, None)]
    line.signal([CHOSEN], anew=True)
    both = line.lake.read("signals")
    assert both["views"].is_null().to_list() == [False, True] or both["views"].is_null().to_list() == [True, False]


def test_a_symbol_without_a_promoted_model_is_held_with_the_reason(line: Line) -> None:
    line.signal()
    rejected = set(SYMBOLS) - {symbol for symbol, _ in line.ledger.production()}
    assert rejected
    for symbol in rejected:
        row = said(line, symbol)
        assert (row["signal"], row["confidence"], row["p_up"], row["model_version"]) == ("HOLD", None, None, None)
        assert row["reason"] == "no promoted model: none has passed the gate for this symbol"


def test_a_symbol_whose_models_are_of_other_regimes_is_held_and_they_are_named(line: Line) -> None:
    symbol = min(set(SYMBOLS) - {name for name, _ in line.ledger.production()})
    latest = line.lake.read(table_of(line.settings), symbols=[symbol])["regime"][-1]
    other = next(regime for regime in REGIMES[1:] if regime != latest)
    promoted = row_of(
        line.ledger.candidates()[symbol, "all"],
        (symbol, other),
        verdict="promote",
        stage="production",
        reason="it passed",
        last=None,
        production=None,
        who=GATE,
        evidence={},
        now=NOW,
        dagster_run=None,
    )
    line.ledger.decide([promoted])
    line.signal([symbol])
    reason = f"no promoted model of the latest bar's regime, nor of «all»: there is one of {other} only"
    assert (said(line, symbol)["signal"], said(line, symbol)["reason"]) == ("HOLD", reason)


def test_on_a_market_without_an_edge_every_signal_is_hold_with_the_reason(edgeless: Line) -> None:
    edgeless.promote()
    assert edgeless.signal().states() == {"HOLD": len(SYMBOLS)}
    assert {row["reason"] for row in signals(settings=edgeless.settings)} == {
        "no promoted model: none has passed the gate for this symbol"
    }


def test_a_symbol_without_bars_is_held_and_leaves_no_line_in_the_lake(line: Line) -> None:
    line.ledger.add_symbols([{"symbol": "NEW", "source": "simulated", "calendar": "XNYS", "added_at": NOW}])
    line.signal(["NEW"])
    assert (said(line, "NEW")["signal"], said(line, "NEW")["reason"]) == (
        "HOLD",
        "no bars are held yet: refresh the symbol",
    )
    assert line.lake.read("signals", symbols=["NEW"]).is_empty()


def test_a_quarantined_symbol_without_bars_is_held_because_of_its_quarantine(line: Line) -> None:
    line.ledger.add_symbols([{"symbol": "ILL", "source": "simulated", "calendar": "XNYS", "added_at": NOW}])
    line.ledger.note_state([{"symbol": "ILL", "quarantine_cause": "unknown_symbol", "quarantine_reason": "no such"}])
    line.signal(["ILL"])
    assert (said(line, "ILL")["signal"], said(line, "ILL")["reason"]) == ("HOLD", "quarantined: unknown_symbol")


def test_a_symbol_with_too_few_bars_for_a_training_is_held_with_both_numbers(line: Line) -> None:
    symbol = next(iter(set(SYMBOLS) - {symbol for symbol, _ in line.ledger.production()}))
    demanding = Line(line.settings.home, learning=replace(LIGHT, min_rows=5000))
    old = line.ledger.candidates()[symbol, "all"]
    line.ledger.note_candidates([{**old, "model_version": None}])
    demanding.signal([symbol])
    bars = line.ledger.states()[symbol]["bars"]
    needed = 5000 + recipe_of(line.settings).feature_set.blank + 2
    assert str(said(line, symbol)["reason"]).startswith(f"no promoted model: {bars:,} bars, {needed:,} needed")


def test_a_model_that_looks_further_ahead_than_the_settings_say_is_held_with_both_horizons(line: Line) -> None:
    other = Line(line.settings.home, learning=replace(LIGHT, horizon=3))
    other.signal([CHOSEN])
    (row,) = other.ledger.signals([CHOSEN])
    assert row["signal"] == "HOLD"
    assert "the promoted model looks 1 bars ahead and the settings 3: train again, or set ALPHA_" in row["reason"]


def test_where_the_track_record_cannot_be_read_every_symbol_is_held_with_the_reason_and_predictions_are_kept(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: Any) -> None:
        raise ZeroDivisionError("a torn table")

    monkeypatch.setattr(record, "ground", torn)
    assert set(line.signal().states()) == {"HOLD"}
    assert (
        "the track record of the views cannot be read: ZeroDivisionError: a torn table" in said(line, CHOSEN)["reason"]
    )
    assert line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "live").height == 1
    monkeypatch.undo()
    assert line.signal(now=later(minutes=1)).totals["cached"] == 0, "what may heal is asked again at once"
    assert "track record" not in said(line, CHOSEN)["reason"]


def test_what_goes_wrong_with_the_views_of_one_symbol_is_its_hold_alone(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    explains = TechnicalView.explains

    def moody(view: TechnicalView, bars: pl.DataFrame) -> Any:
        if CHOSEN in bars["symbol"]:
            raise ZeroDivisionError("a hated bar")
        return explains(view, bars)

    only_the_chosen_is_held(line, monkeypatch, (TechnicalView, "explains", moody), "a hated bar")


def only_the_chosen_is_held(
    line: Line, monkeypatch: pytest.MonkeyPatch, broken: tuple[Any, str, Any], why: str
) -> None:
    """What is broken holds its symbol, with the reason, until it is whole again, and moves no other's signal."""
    line.signal()
    others = {symbol: said(line, symbol) for symbol in SYMBOLS if symbol != CHOSEN}
    monkeypatch.setattr(*broken)
    line.signal(anew=True)
    assert said(line, CHOSEN)["reason"] == f"no signal could be made: ZeroDivisionError: {why}"
    assert {symbol: said(line, symbol) for symbol in others} == others
    monkeypatch.undo()
    assert line.signal().totals["cached"] == len(others)
    assert said(line, CHOSEN)["views"]
    assert said(line, CHOSEN)["p_up"] is not None


def test_a_damaged_model_file_is_held_with_both_digests(line: Line) -> None:
    decision = line.ledger.production()[CHOSEN, "all"]
    file = Path(decision["model_location"]) / HEADS / "gb_direction.lgb"
    assert file.is_relative_to(line.settings.home)
    file.write_text(file.read_text().replace("leaf_value=", "leaf_value=9", 1))
    line.signal([CHOSEN])
    row = said(line, CHOSEN)
    assert (row["signal"], row["p_up"], row["model_version"]) == ("HOLD", None, "1")
    assert "the promoted model cannot be read" in str(row["reason"])
    assert decision["model_digest"] in str(row["reason"])


def test_a_model_file_that_is_gone_is_held_too(line: Line) -> None:
    decision = line.ledger.production()[CHOSEN, "all"]
    (Path(decision["model_location"]) / HEADS / "gb_direction.lgb").unlink()
    line.signal([CHOSEN])
    assert said(line, CHOSEN)["signal"] == "HOLD"
    assert "the promoted model cannot be read" in str(said(line, CHOSEN)["reason"])


def test_a_split_sized_jump_without_an_event_holds_publication_until_it_is_old(line: Line) -> None:
    bars = line.lake.read("bars", symbols=[CHOSEN])
    for bars_ago, held in ((1, True), (60, True), (61, False)):
        place = pl.int_range(pl.len()) == bars.height - bars_ago
        flagged = bars.with_columns(flags=pl.when(place).then(pl.lit("split_sized_jump")))
        line.lake.replace("bars", flagged, [CHOSEN])
        line.signal([CHOSEN])
        row = said(line, CHOSEN)
        assert (row["p_up"] is None) == held
        if held:
            day = bars["timestamp"][-bars_ago].date()
            assert row["signal"] == "HOLD"
            assert f"a split-sized jump on {day} has no event" in str(row["reason"])


def test_a_feature_set_that_is_no_longer_kept_holds(line: Line) -> None:
    old = line.ledger.production()[CHOSEN, "all"]
    again = {**old, "seq": 2, "features_set": "features/old-1"}
    del again["id"]
    line.ledger.decide([again])
    line.signal([CHOSEN])
    assert said(line, CHOSEN)["signal"] == "HOLD"
    assert "features/old-1, which is no longer kept" in str(said(line, CHOSEN)["reason"])


def test_a_recipe_that_this_program_makes_otherwise_holds_with_the_reason(line: Line) -> None:
    """The table is there and has the latest bar, but the functions behind its columns are others now."""
    old = line.ledger.production()[CHOSEN, "all"]
    recipe = recipe_of(line.settings)
    line.lake.append("features/core-of-old", line.lake.read(recipe.table))
    line.ledger.note_recipes([{"features_set": "features/core-of-old", "recipe": recipe.document}])
    again = {**old, "seq": 2, "features_set": "features/core-of-old"}
    del again["id"]
    line.ledger.decide([again])
    line.signal([CHOSEN])
    row = said(line, CHOSEN)
    assert (row["signal"], row["p_up"], row["model_version"]) == ("HOLD", None, "1")
    assert row["reason"] == "the promoted model reads features/core-of-old, which is no longer kept: train again"


def test_after_a_changed_setting_the_promoted_model_goes_on_reading_its_own_features(line: Line) -> None:
    line.signal([CHOSEN])
    before = said(line, CHOSEN)["p_up"]
    assert before is not None
    changed = Line(line.settings.home, features=FeatureParameters(denoiser="ema"))
    for build in (False, True):
        if build:
            featurise(changed.lake, changed.ledger, changed.settings, SYMBOLS)
        changed.signal([CHOSEN])
        assert said(changed, CHOSEN)["p_up"] == before


def test_every_signal_ever_said_stays_in_the_lake_and_the_ledger_serves_the_newest(line: Line) -> None:
    line.signal([CHOSEN])
    first = line.lake.read("signals", symbols=[CHOSEN])
    other = Line(line.settings.home, signal=SignalParameters(least_confidence=0.01))
    other.signal([CHOSEN], later(hours=1))
    stored = line.lake.read("signals", symbols=[CHOSEN])
    assert stored.height == 2
    assert first.join(stored, on=first.columns, how="semi", nulls_equal=True).equals(first)
    row = said(line, CHOSEN)
    assert row["created_at"] == later(hours=1)
    assert row["signal_id"] in stored["signal_id"].to_list()
    assert len(line.ledger.signals()) == 1


def test_the_same_signal_said_again_is_kept_once_and_is_fresh_again(line: Line) -> None:
    line.signal([CHOSEN])
    line.signal([CHOSEN], later(hours=3), anew=True)
    assert line.lake.read("signals", symbols=[CHOSEN]).height == 1
    assert line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "live").height == 1
    row = said(line, CHOSEN)
    assert (row["created_at"], row["expires_at"]) == (later(hours=3), later(hours=9))


def test_what_was_said_is_not_made_again_until_it_expires_or_something_it_is_made_of_changes(line: Line) -> None:
    others = [symbol for symbol in SYMBOLS if symbol != CHOSEN]
    assert line.signal().totals["cached"] == 0
    again = line.signal(now=later(hours=5))
    assert again.totals["cached"] == len(SYMBOLS)
    assert said(line, CHOSEN)["created_at"] == NOW
    assert again.partitions[CHOSEN]["state"] == said(line, CHOSEN)["signal"]
    serving = line.ledger.production()[CHOSEN, "all"]
    history = line.ledger.history([CHOSEN])[CHOSEN, "all"]
    line.ledger.decide([rollback_row(history, to=None, reason="x", who="me", now=later(hours=5))])
    assert line.signal(now=later(hours=5)).totals["cached"] == len(others)
    assert said(line, CHOSEN)["signal"] == "HOLD"
    table = serving["features_set"]
    restated = line.lake.read(table, symbols=[CHOSEN]).with_columns(rsi_14=pl.lit(0.123, pl.Float32))
    line.lake.replace(table, restated, [CHOSEN])
    assert line.signal(now=later(hours=5.1)).totals["cached"] == len(others), "views read the features too"
    assert line.signal(now=later(hours=6)).totals["cached"] == 1, "the others have expired"
    other = Line(line.settings.home, signal=replace(line.settings.signal, least_confidence=0.6))
    assert other.signal(now=later(hours=6)).totals["cached"] == 0
    (row,) = (row for row in Cache(line.ledger).status(NOW) if row["namespace"] == "signals")
    assert (row["hits"], row["misses"]) == (4 + 3 + 3 + 1, 4 + 1 + 1 + 3 + 4)


def test_a_bar_that_is_restated_is_spoken_of_anew_though_its_time_is_the_same(line: Line) -> None:
    line.signal()
    table = line.ledger.production()[CHOSEN, "all"]["features_set"]
    restated = line.lake.read(table, symbols=[CHOSEN]).with_columns(rsi_14=pl.lit(0.123, pl.Float32))
    line.lake.replace(table, restated, [CHOSEN])
    assert line.signal().totals["cached"] == len(SYMBOLS) - 1


def test_where_the_ledger_takes_no_signal_the_lake_serves_it_and_the_trouble_is_told(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise LedgerUnavailable("database or disk is full")

    monkeypatch.setattr(Ledger, "put_signals", full)
    report = line.signal()
    assert report.totals["trouble"] == "the lake has these signals, and the ledger has not: database or disk is full"
    assert {row["symbol"] for row in last_said(line.settings)} == set(SYMBOLS)
    assert line.ledger.signals() == []


def test_a_signal_is_fresh_until_it_expires(line: Line) -> None:
    line.signal([CHOSEN], datetime.now(UTC))
    line.signal(["SIM01"], datetime.now(UTC) - timedelta(hours=line.settings.signal_ttl_hours, seconds=1))
    assert {row["symbol"]: row["fresh"] for row in signals(settings=line.settings)} == {CHOSEN: True, "SIM01": False}


def test_a_hint_one_bar_behind_the_lake_speaks_of_the_bar_it_names_and_stops_nobody(line: Line) -> None:
    bars = line.lake.read("bars", symbols=[CHOSEN])
    line.ledger.note_state([{"symbol": CHOSEN, "last_bar": bars["timestamp"][-2]}])
    line.signal()
    assert len(line.ledger.signals()) == len(SYMBOLS)
    assert said(line, CHOSEN)["bar_time"] == bars["timestamp"][-2]
    assert said(line, CHOSEN)["p_up"] is not None


def test_what_goes_wrong_with_one_symbol_is_its_hold_and_the_others_speak(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(_: Registry, name: str, *__: str) -> dict[str, bytes]:
        raise ZeroDivisionError(name)

    monkeypatch.setattr(Registry, "read_files", burst)
    line.signal()
    assert len(line.ledger.signals()) == len(SYMBOLS)
    row = said(line, CHOSEN)
    assert (row["signal"], row["p_up"], row["model_version"]) == ("HOLD", None, "1")
    assert row["reason"] == f"no signal could be made: ZeroDivisionError: {CHOSEN}.all"


def test_a_symbol_alone_on_its_calendar_is_held_once_others_of_its_source_have_gone_on(line: Line) -> None:
    last = line.ledger.states()[CHOSEN]["last_bar"]
    for sessions, held in ((5, False), (6, True)):
        other = last + timedelta(days=sessions)
        line.ledger.note_state([{"symbol": "SIM01", "last_bar": other}])
        line.ledger.set_calendars({CHOSEN: "24/7"})
        line.signal([CHOSEN])
        assert (said(line, CHOSEN)["p_up"] is None) == held
    assert "6 sessions behind others of its source" in str(said(line, CHOSEN)["reason"])


def test_a_bar_in_the_warm_up_of_a_listing_is_held_and_the_next_one_speaks(line: Line) -> None:
    bars = line.lake.read("bars", symbols=[CHOSEN])
    blank = recipe_of(line.settings).feature_set.blank
    for age, held in ((blank, True), (blank + 1, False)):
        new = pl.int_range(pl.len()) >= bars.height - age
        begun = bars.with_columns(listing=pl.when(new).then(bars["timestamp"][-age].date()).otherwise("listing"))
        line.lake.replace("bars", begun, [CHOSEN])
        line.signal([CHOSEN])
        assert (said(line, CHOSEN)["p_up"] is None) == held
        assert ("warm-up" in str(said(line, CHOSEN)["reason"])) == held


def test_what_fails_before_a_model_is_asked_is_the_hold_of_its_symbol_alone_and_is_asked_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    applying = ask._applying

    def torn(decisions: Sequence[dict[str, Any]], *rest: Any) -> Any:
        if any(row["symbol"] == CHOSEN for row in decisions):
            raise ZeroDivisionError("two rows of one bar")
        return applying(decisions, *rest)

    only_the_chosen_is_held(line, monkeypatch, (ask, "_applying", torn), "two rows of one bar")


def test_where_the_lake_is_gone_nothing_is_said_over_what_was_and_the_way_back_is_told(line: Line) -> None:
    line.signal()
    before = line.ledger.signals()
    shutil.rmtree(line.settings.home / "lake" / "bars")
    with pytest.raises(LakeDamaged, match=r"lake holds no bars, and the ledger knows of some: .*refresh --full"):
        line.signal(anew=True, now=later(minutes=1))
    assert line.ledger.signals() == before


@pytest.mark.parametrize("answer", [1.5, float("nan")])
def test_a_model_that_says_what_is_no_probability_is_a_hold_and_no_prediction(
    line: Line, monkeypatch: pytest.MonkeyPatch, answer: float
) -> None:
    predict = Candidate.predict

    def wild(*asked: Any) -> dict[str, np.ndarray]:
        return predict(*asked) | dict.fromkeys(("p_up", "linear_p_up"), np.full(1, answer))

    monkeypatch.setattr(Candidate, "predict", wild)
    line.signal([CHOSEN])
    assert said(line, CHOSEN)["signal"] == "HOLD"
    assert str(said(line, CHOSEN)["reason"]).startswith(f"no signal could be made: ValueError: P(up) is {answer}: no ")
    assert line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "live").is_empty()


def test_whoever_waits_for_signals_that_all_hold_is_told_so_at_once(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line.signal()
    signal(line.lake, line.ledger, line.registry, line.settings, SYMBOLS, NOW, show.progress())
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("  signals written: 3 of 3")


def test_whoever_waits_for_signals_sees_which_symbol_is_asked_and_what_comes_after(
    featured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = copied(featured, tmp_path / "home")
    signal(line.lake, line.ledger, line.registry, line.settings, SYMBOLS, NOW, show.progress())
    told = [words.partition(", ") for words in capsys.readouterr().err.splitlines()]
    assert [what for what, _, _ in told] == [
        *(f"  models asked: {done} of 4 at {symbol}" for done, symbol in enumerate(SYMBOLS)),
        "  models asked: 4 of 4",
        "  reading the track record: 0 of 3",
        "  weighing the views: 1 of 3",
        "  writing the signals: 2 of 3",
        "  signals written: 3 of 3",
    ]
    asked, weighed = told[1][2], told[6][2]
    assert all(re.fullmatch(r"\d+ s, about \d+ s left", clock) for clock in (asked, weighed))

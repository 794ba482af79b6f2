"""How stated confidences held: live and out of fold, each by hand, never mixed, told in ledger, MLflow and picture."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from mlflow.artifacts import load_dict

from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.outlook import recorded
from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.quant.views import views_of
from alpha_assets.stations import record
from alpha_assets.stations.outcome import booked, outcome
from alpha_assets.stations.perform import perform
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.reliability import LIVE, NAMESPACE, OUT_OF_FOLD, live, out_of_fold, reliability_of, sentences
from alpha_assets.stations.reliability_picture import reliability_picture
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, later
from alpha_assets_tests.stations.test_outcome import experiments, tell_the_last

pytestmark = pytest.mark.xdist_group("line")

#: States nearly whatever is led, from early on.
BOLD = SignalParameters(least_confidence=0.3, confidence_rows=300.0)


@pytest.fixture(scope="module")
def home(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = copied(promoted, tmp_path_factory.mktemp("reliable") / "home")
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    return line.settings.home


@pytest.fixture
def line(home: Path, tmp_path: Path) -> Line:
    return copied(home, tmp_path / "home", signal=BOLD)


def test_out_of_fold_the_model_view_is_judged_by_what_its_answers_came_to_after_costs(line: Line) -> None:
    documents, as_of, trouble = out_of_fold(line.lake, line.ledger, line.settings, NOW)
    assert set(documents) == {"blend", "view:model", "view:technical", "view:pattern"}
    assert trouble is None
    assert as_of == line.lake.read("bars")["timestamp"].max()
    names = calendars_of(line.ledger)
    bars, _ = adjusted_bars(line.lake, line.settings, names, SYMBOLS)
    labels = open_to_open(with_known_at(bars, line.settings, names), line.settings.learning.horizon)
    production = pl.DataFrame(
        [
            (symbol, row["training_id"], row["speaker"] == "linear")
            for (symbol, _), row in line.ledger.production().items()
        ],
        schema=["symbol", "training_id", "linear"],
        orient="row",
    )
    told = (
        line.lake.read("predictions")
        .filter(pl.col("origin") == "oof")
        .join(production, on=["symbol", "training_id"])
        .join(labels, on=["symbol", "timestamp"])
        .with_columns(p=pl.when("linear").then("linear_p_up").otherwise("p_up"))
        # Known when the newest period began: a Monday.
        .filter(pl.col("label_end") <= pl.lit(as_of).dt.truncate("1w"), pl.col("p") != 0.5)
        .filter(~(pl.col("dissimilarity") >= line.settings.views.dissimilar_from).fill_null(value=False))
    )
    said = told.select(pl.max_horizontal("p", 1 - pl.col("p"))).to_series().to_numpy()
    won = (np.sign(told["p"] - 0.5) * told["label_return"] > 0.002).to_numpy()
    one = documents["view:model"]
    assert one["outcomes"] == len(said) > 1_000
    assert one["brier"] == pytest.approx(np.mean((said - won) ** 2))
    assert one["came"] == pytest.approx(won.mean())


def test_out_of_fold_the_blend_is_judged_by_what_was_believed_when_the_bars_period_began(line: Line) -> None:
    documents, _, _ = out_of_fold(line.lake, line.ledger, line.settings, NOW)
    span, views = record.span(line.ledger, line.settings), views_of(line.settings.views)
    assert span is not None
    _, past = record.whole_past(
        line.lake, line.ledger, line.settings, line.ledger.production(), span.symbols, views, span.begins
    )
    believed, blended = recorded(past, BOLD, 0.002)
    sure = believed.outlook.confidence(blended, past.scale, past.cell, past.period, 0.002)
    rows = past.led & past.known & (past.period >= 0) & (sure >= 0.3)
    rows &= believed.outlook.seen[np.maximum(past.period, 0)] >= 300
    won = np.sign(blended[rows]) * past.returned[rows] > 0.002
    one = documents["blend"]
    assert one["outcomes"] == rows.sum() > 500
    assert one["brier"] == pytest.approx(np.mean((sure[rows] - won) ** 2))
    timid = Line(line.settings.home, signal=SignalParameters(least_confidence=0.3, confidence_rows=1e9))
    nothing, _, _ = out_of_fold(timid.lake, timid.ledger, timid.settings, NOW)
    assert nothing["blend"]["outcomes"] == 0
    assert nothing["blend"]["sentence"] == "nothing was stated whose outcome is known"


def test_answers_that_were_given_live_are_not_out_of_fold(line: Line) -> None:
    before, _, _ = out_of_fold(line.lake, line.ledger, line.settings, NOW)
    said = line.lake.read("predictions")
    edge = said["timestamp"].unique().sort()[-200]
    live_ones = pl.when(pl.col("timestamp") >= edge).then(pl.lit("live")).otherwise("origin").alias("origin")
    line.lake.replace("predictions", said.with_columns(live_ones.cast(said.schema["origin"])), SYMBOLS)
    Cache(line.ledger).clean(later(days=1), timedelta(0))
    after, _, _ = out_of_fold(line.lake, line.ledger, line.settings, NOW)
    for strategy in ("blend", "view:model"):
        assert 0 < after[strategy]["outcomes"] < before[strategy]["outcomes"] - 150


def test_what_is_out_of_fold_is_read_once_and_anew_after_a_new_bar(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = out_of_fold(line.lake, line.ledger, line.settings, NOW)

    def never(*_: object) -> None:
        raise AssertionError("what is held is not read again")

    monkeypatch.setattr(record, "whole_past", never)
    again, _, _ = out_of_fold(line.lake, line.ledger, line.settings, later(hours=1))
    assert again == json.loads(json.dumps(first)) == first
    newest = line.lake.read("bars", symbols=["SIM01"]).tail(1)
    line.lake.append("bars", newest.with_columns(pl.col("timestamp") + pl.duration(days=3)))
    with pytest.raises(AssertionError, match="not read again"):
        out_of_fold(line.lake, line.ledger, line.settings, later(hours=1))
    (row,) = [row for row in Cache(line.ledger).status(NOW) if row["namespace"] == NAMESPACE]
    assert (row["hits"], row["misses"]) == (1, 1)


def test_without_a_model_nothing_would_have_been_stated_and_nothing_is_read(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(trained, tmp_path / "home")
    monkeypatch.setattr(record, "whole_past", None)
    assert out_of_fold(line.lake, line.ledger, line.settings, NOW) == ({}, None, None)


def test_where_every_model_looks_another_horizon_nothing_would_have_been_stated(line: Line) -> None:
    other = Line(line.settings.home, signal=BOLD, learning=replace(LIGHT, horizon=5))
    assert out_of_fold(other.lake, other.ledger, other.settings, NOW) == ({}, None, None)


def test_live_confidences_are_those_of_closed_positions_against_their_net_win(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 60)
    outcome(line.lake, line.ledger, line.settings, NOW)
    positions = booked(Outcomes(line.ledger).all())
    closed = positions.filter(pl.col("status") == "closed")
    one = live(positions, line.settings)["blend"]
    assert one["outcomes"] == closed.height < positions.height
    assert one["brier"] == pytest.approx(((closed["confidence"] - (closed["net_return"] > 0)) ** 2).mean())
    assert one["sentence"].startswith(f"too few to judge: {closed.height} outcomes")
    assert live(positions.with_columns(confidence=pl.lit(None, pl.Float64)), line.settings) == {}


def test_both_are_told_apart_in_the_ledger_in_mlflow_and_in_words(line: Line) -> None:
    tell_the_last(line, SYMBOLS, 60)
    outcome(line.lake, line.ledger, line.settings, NOW)
    report, pictures = perform(line.lake, line.ledger, line.registry, line.settings, NOW)
    assert pictures["reliability.png"].startswith(b"\x89PNG")
    rows = Outcomes(line.ledger).performance()
    held = reliability_of(rows)
    assert held[OUT_OF_FOLD] == out_of_fold(line.lake, line.ledger, line.settings, NOW)[0]
    assert held[LIVE] == live(booked(Outcomes(line.ledger).all()), line.settings)
    assert held[LIVE]["blend"]["outcomes"] != held[OUT_OF_FOLD]["blend"]["outcomes"]
    assert report.totals["calibration"] == sentences(held)
    assert list(report.totals["calibration"])[:2] == ["blend, live", "blend, out of fold"]
    client = line.registry.client
    (run,) = [run for run in client.search_runs(experiments(line)) if "performance" in run.info.run_name]
    for source, name in (("oof", OUT_OF_FOLD), ("live", LIVE)):
        for figure in ("brier", "outcomes"):
            assert run.data.metrics[f"blend/{source}_{figure}"] == pytest.approx(held[name]["blend"][figure])
    assert "blend/live_slope" not in run.data.metrics, "of too few nothing is made up"
    stored = load_dict(f"{run.info.artifact_uri}/reliability.json")
    assert {source: stored[source] for source in held} == held
    assert stored["figures"]["brier"]
    again, nothing_new = perform(line.lake, line.ledger, line.registry, line.settings, later(hours=1))
    assert (nothing_new, again.totals["calibration"]) == ({}, report.totals["calibration"])


def test_before_anything_was_said_live_the_track_record_is_told_alone(line: Line) -> None:
    report, pictures = perform(line.lake, line.ledger, line.registry, line.settings, NOW)
    assert report.totals["cells"] == 0
    assert list(pictures) == ["reliability.png"]
    assert set(report.totals["calibration"]) == {
        f"{strategy}, out of fold" for strategy in ("blend", "view:model", "view:technical", "view:pattern")
    }
    (run,) = [run for run in line.registry.client.search_runs(experiments(line)) if "performance" in run.info.run_name]
    assert {name.split("/")[-1].split("_")[0] for name in run.data.metrics} == {"oof"}


def test_a_picture_without_any_curve_is_none_and_a_panel_without_one_says_why() -> None:
    few = {"curve": [], "sentence": "too few to judge: 3 outcomes; 2,000 outcomes are needed"}
    curve = [{"rows": 200, "said": at / 20, "came": at / 20 + 0.01, "error": 0.02} for at in range(10)]
    many = {"curve": curve, "sentence": "calibrated"}
    assert reliability_picture({"live": {"blend": few}, "out of fold": {}}, "x") is None
    drawn = [
        reliability_picture({"live": {"blend": one}, "out of fold": {"view:model": many}}, "x") for one in (few, many)
    ]
    assert all(picture is not None and picture.startswith(b"\x89PNG") for picture in drawn)
    assert drawn[0] != drawn[1]

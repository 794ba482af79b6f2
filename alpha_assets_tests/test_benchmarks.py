"""The benchmarks run and print what their documentation promises; no time is ever asserted."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from alpha_assets.quant.calendars import planned_sessions
from alpha_assets.quant.feature_set import compute
from alpha_assets.quant.indicators import default_set, market_column
from alpha_assets.quant.parameters import FeatureParameters
from alpha_assets.quant.timeframes import with_timeframes
from alpha_assets_tests.quant.walks import walk
from benchmarks import (
    drifting,
    features,
    frame,
    ingest,
    lived,
    market,
    pandas_twin,
    registry,
    signals,
    talib_loop,
    training,
)

INGEST = {
    *("data", "symbols", "rows", "load_s", "rows_per_s", "updates", "update_s", "update_cpu_s", "update_worst_s"),
    *("update_ten_s", "update_growth", "rewrite_s", "rewrite_ten_s", "rewrite_growth"),
    *("update_vs_rewrite", "update_vs_rewrite_ten"),
}

FEATURES = {
    *("data", "symbols", "rows", "columns", "build_s", "build_cpu_s", "values_per_s", "talib_values_per_s", "vs_talib"),
    *("vs_talib_cpu", "pandas_symbols", "pandas_values_per_s", "vs_pandas"),
    *("alpha158_s", "alpha158_values_per_s", "qlib", "qlib_values_per_s", "vs_qlib"),
    *("updates", "update_s", "update_cpu_s", "update_worst_s", "update_ten_s", "update_growth"),
    *("build_s_1", "build_s_2", "build_s_3", "update_s_1", "update_s_2", "update_s_3"),
    *("build_exponent", "update_exponent"),
    *("minute_rows", "minute_build_s", "minute_peak_gib", "minute_updates", "minute_update_s", "minute_update_worst_s"),
}
TRAINING = {
    *("data", "symbols", "cells", "versions", "universe75_s", "pool_s", "candidates_s", "gate_s", "fit_cpu_s"),
    *("registry_versions", "registry_ms", "registry_last_ms", "default_logging_ms", "vs_default_logging"),
    *("ours_s", "plain_s", "vs_plain"),
    *(name + tail for name in ("ours_ic", "plain_ic", "ic_difference") for tail in ("", "_error")),
    *("predicted", "version_kib", "predict505_cold_s", "predict505_warm_s"),
    *("minute_rows", "minute_state", "minute_train_s", "minute_peak_gib"),
}
DRIFT_CELLS = [f"ar{memory}_{rows}" for memory in (90, 95, 99) for rows in (950, 2500)]
WITH_ERRORS = {
    *("drift_false", "drift_power", "drift_power_third", "drift_textbook_false_psi", "drift_textbook_false_ks"),
    *("drift_untold", *(f"{what}_{cell}" for what in ("false", "power") for cell in DRIFT_CELLS)),
}
DRIFTING = {
    *("markets", "symbols", "features", "drift_false_upper", "drift_power_least"),
    *(WITH_ERRORS | {f"{name}_error" for name in WITH_ERRORS}),
}
SMALL = (
    *("--symbols", "2", "--years", "0.5", "--scales", "1", "3", "--repeats", "1", "--pandas-symbols", "1"),
    *("--no-qlib", "--qlib-repeats", "1", "--updates", "1", "--minute-rows", "400", "--minute-updates", "1"),
)


def test_the_ingest_benchmark_prints_its_documented_figures_and_says_where_the_samples_are_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(market, "SP500", tmp_path / "sp500.parquet")
    ingest.main(["--symbols", "2", "--years", "0.5", "--updates", "2", "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == INGEST
    assert figures["data"] == f"simulated market ({tmp_path / 'sp500.parquet'} is absent)"
    assert (figures["symbols"], figures["updates"]) == (2, 2)
    assert all(figure > 0 for name, figure in figures.items() if name.endswith(("_s", "_growth")))


@pytest.mark.slow
def test_the_registry_benchmark_prints_its_documented_figures(capsys: pytest.CaptureFixture[str]) -> None:
    registry.main(["--small", "2", "--large", "4", "--repeats", "2", "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    operations = ("log", "find", "newest", "project")
    expected = {f"{name}_{what}" for name in operations for what in ("ms_2", "ms_4", "growth")}
    assert set(figures) == {"small", "large"} | expected
    assert all(figure > 0 for figure in figures.values())


@pytest.mark.slow
def test_the_signals_benchmark_prints_its_documented_figures_and_null_where_no_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(market, "SP500", tmp_path / "sp500.parquet")
    small = ("--symbols", "3", "--own", "3", "--repeats", "1", "--reads", "3")
    signals.main([*small, "--postgres", "postgresql://nobody@127.0.0.1:1/none", "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    read = ("cached75_p50_ms", "cached75_p99_ms", "reads", "read_errors", "read_mixed")
    said = ("data", "symbols", "own", "fresh75_s", "fresh505_s", "held505_s", "backtest505_s", "backtest505_cpu_s")
    assert set(figures) == {*said, *read, *(f"{name}_pg" for name in read)}
    assert {figures[f"{name}_pg"] for name in read} == {None}
    assert (figures["own"], figures["read_errors"], figures["read_mixed"]) == (3, 0, 0)
    assert figures["reads"] > 0


@pytest.mark.slow
def test_the_benchmark_that_lives_through_real_bars_tells_of_every_evening_whatever_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(market, "SP500", tmp_path / "sp500.parquet")
    lived.main(["--symbols", "3", "--sessions", "5", "--retrain", "3", "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    told = {"data", "symbols", "first", "last", "sessions", "versions", "promotions", "signals", "stated"}
    assert told <= set(figures)
    assert (figures["symbols"], figures["sessions"], figures["signals"]) == (3, 5, 15)
    assert figures["first"] < figures["last"]
    assert figures["versions"] >= 2, "everybody is trained twice"
    assert figures["view_technical_trades"] > 0, "what was said on the first evening is over on the last"
    assert figures["backtest_turnover"] > 0


def test_the_drift_benchmark_prints_its_documented_figures_with_their_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    drifting.main(["--markets", "2", "--symbols", "6", "--features", "2", "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == DRIFTING
    assert (figures["markets"], figures["symbols"], figures["features"]) == (2, 6, 2)
    assert figures["drift_textbook_false_ks"] > figures["drift_false"]
    assert figures["drift_false"] == max(figures[f"false_{cell}"] for cell in DRIFT_CELLS)
    assert figures["drift_power_least"] == min(figures[f"power_{cell}"] for cell in DRIFT_CELLS)


@pytest.mark.slow
def test_the_training_benchmark_prints_its_documented_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(market, "SP500", tmp_path / "sp500.parquet")
    small = ("--symbols", "3", "--versions", "4", "--predicted", "5", "--minute-rows", "3000", "--format", "json")
    training.main(small)
    figures = json.loads(capsys.readouterr().out)
    states = {name for name in figures if name.startswith("cells_")}
    assert set(figures) - states == TRAINING
    assert sum(figures[name] for name in states) == figures["cells"] == 3 * 5
    assert figures["minute_state"] == "trained"
    assert figures["versions"] >= 4, "three symbols and the pool of all bars"
    assert figures["predicted"] == 5, "the newest bar of more symbols than were trained"


@pytest.mark.slow
def test_the_features_benchmark_prints_its_documented_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(market, "SP500", tmp_path / "sp500.parquet")
    features.main([*SMALL, "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == FEATURES
    assert (figures["symbols"], figures["updates"], figures["minute_rows"]) == (2, 1, 780)
    assert figures["vs_qlib"] is None
    assert figures["qlib"] == "not asked for (--no-qlib)"
    assert all(
        figure > 0 for name, figure in figures.items() if name.endswith(("_s", "_growth")) and figure is not None
    )


def test_an_environment_that_cannot_be_made_is_a_reason_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the environment should go")
    python, why = features.installed(tmp_path / "taken")
    assert python is None
    assert why.startswith(f"{features.QLIB} cannot be installed: ")


def test_every_feature_is_what_a_user_would_write_in_pandas() -> None:
    symbols, bars, begun = ("A", "B", "C"), 700, 300  # what the averages began with is forgotten after so many
    parameters = FeatureParameters(benchmark="MKT")
    returns = market_column("MKT")
    moves = np.random.default_rng(5).normal(0, 0.01, bars)
    walks = [walk(bars, seed, symbol=name).with_columns(pl.Series(returns, moves)) for seed, name in enumerate(symbols)]
    panel = pl.concat(walks)
    ours = compute(with_timeframes(panel, "1d", dict.fromkeys(symbols, "XNYS")), default_set("1d", parameters))
    sessions = planned_sessions("XNYS", date(2014, 12, 1), date(2018, 12, 31))
    naive = panel.rename({returns: "market"}).with_columns(pl.col("timestamp").dt.replace_time_zone(None)).to_pandas()
    theirs = pandas_twin.features(naive, pd.DatetimeIndex(sessions.to_pandas()))
    assert set(theirs.columns) == set(ours.columns) - {"symbol", "timestamp"}
    for name in theirs.columns:
        found = ours[name].fill_null(np.nan).to_numpy().reshape(len(symbols), bars)[:, begun:]
        wanted = theirs[name].to_numpy(float).reshape(len(symbols), bars)[:, begun:]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * wanted.std(), equal_nan=False, err_msg=name)


def test_the_talib_loop_makes_the_columns_that_are_no_calendars_and_counts_a_value_for_every_row() -> None:
    bars, begun = 700, 400
    returns = market_column("MKT")
    moves = np.random.default_rng(5).normal(0, 0.01, bars)
    walks = [walk(bars, seed, symbol=name).with_columns(pl.Series(returns, moves)) for seed, name in enumerate("AB")]
    panel = with_timeframes(pl.concat(walks), "1d", {"A": "XNYS", "B": "XNYS"})
    chosen = default_set("1d", FeatureParameters(benchmark="MKT"))
    ours = compute(panel, chosen)
    series = talib_loop.series_of(panel, returns)
    assert talib_loop.computed(series) == 2 * bars * (len(chosen.features) - 4)
    for symbol, one in zip("AB", series, strict=True):
        found = ours.filter(pl.col("symbol") == symbol)
        for name, wanted in talib_loop.columns(one).items():
            values, expected = found[name].fill_null(np.nan).to_numpy()[begun:], wanted[begun:]
            np.testing.assert_allclose(
                values, expected, rtol=0, atol=1e-6 * expected.std(), equal_nan=False, err_msg=name
            )


def test_a_table_has_a_line_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    frame.show({"rows": 619_040, "data": "a file"}, "table")
    assert capsys.readouterr().out == "rows  619,040\ndata  a file\n"


def test_a_lap_knows_wall_and_processor_time() -> None:
    with frame.lap() as taken:
        sum(range(100_000))
    assert taken.seconds > 0
    assert taken.cpu > 0


def test_the_median_is_of_several_runs() -> None:
    assert frame.median([9.0, 1.0, 2.0]) == 2.0

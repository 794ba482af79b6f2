"""Backtests of markets with and without an edge, as ``benchmarks.edges`` measures them; fifty seeds are slow."""

import json
from argparse import Namespace

import numpy as np
import pytest

from alpha_assets.quant.labels import open_to_open
from benchmarks import backtest, edges
from benchmarks.edges import HORIZON, bars_of, measure, said_of, tried
from benchmarks.pools import LEARNT, LOOKBACKS, PAST, SIGMA, Procedure, clustered, labelled, market


def test_the_bars_are_the_market_that_was_learnt_from() -> None:
    made = market(np.random.default_rng(1), PAST + LEARNT + 300, clustered)
    labels = labelled(made.returns, HORIZON)
    followed = open_to_open(bars_of(made), HORIZON)["label_return"].to_numpy().reshape(20, -1).T[: len(labels.followed)]
    both = np.isfinite(followed)
    # Returns that were added up there are compounded here.
    assert np.corrcoef(followed[both], labels.followed[both])[0, 1] > 0.99
    assert followed[both].std() == pytest.approx(SIGMA * labels.followed[both].std(), rel=0.05)
    said = Procedure(made, labels, "pooled", LOOKBACKS[0]).predictions(PAST + LEARNT + 200)
    first = said_of(labels, said)["timestamp"].min()
    assert first == bars_of(made)["timestamp"].unique().sort()[PAST + LEARNT]


def test_an_edge_earns_more_than_it_costs_and_noise_does_not() -> None:
    edge, noise = tried(0.15, 0), tried(0.0, 0)
    assert edge.profit_factor is not None
    assert edge.profit_factor > 1 > (noise.profit_factor or 0)
    assert edge.net > 0 > noise.net
    assert not noise.gated


def test_the_command_prints_every_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(edges, "BARS", 300)
    edges.main(["--seeds", "2", "--workers", "1", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    for name in ("null_gross_bp", "null_covered", "null_gated", "edge010_profit_factor", "edge015_sharpe"):
        assert f"{name}_error" in told
    assert {"null_gross_bp_low", "null_gross_bp_high", "edge010_profit_factor_bound"} <= told.keys()


def test_the_benchmark_of_the_backtest_prints_its_documented_figures(capsys: pytest.CaptureFixture[str]) -> None:
    backtest.main(["--symbols", "3", "--simulated", "--years", "1", "--repeats", "1", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"data", "backtest_symbols", "backtest_rows", "backtest_trades", "backtest505_s",
                           "backtest505_cpu_s"}  # fmt: skip
    assert told["backtest_trades"] > 100


@pytest.mark.slow
def test_over_fifty_seeds_noise_earns_nothing_before_costs_and_an_edge_more_than_it_pays() -> None:
    """GATE.md, «Confidence, weights, replay»."""
    told = measure(Namespace(seeds=50, workers=2))
    assert told["null_gross_bp_low"] < 0 < told["null_gross_bp_high"]
    assert told["null_gated"] < 0.05
    assert told["null_covered"] > 0.95 - 3 * told["null_covered_error"]
    for edge in ("edge010", "edge015"):
        assert told[f"{edge}_profit_factor_bound"] > 1

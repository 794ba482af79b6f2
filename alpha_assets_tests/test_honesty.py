"""The gate against pools of noise and of planted edges, as ``benchmarks.honesty`` measures it; the whole is slow."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta, binom

from alpha_assets.quant.labels import open_to_open
from benchmarks import honesty
from benchmarks.honesty import LEARNERS, ever, found, leaked, upper_bound
from benchmarks.market import SP500
from benchmarks.pools import LEARNT, NULLS, PAST, Labels, Market, Procedure, clustered, labelled, market

FAMILIES = [
    pytest.param(name, marks=pytest.mark.skipif(not SP500.exists(), reason=f"{SP500} is absent"))
    if name == "signflip"
    else name
    for name in NULLS
]

NULL_FIGURES = {f"null_{name}" for name in (*NULLS, "contrarian")}
POWERS = [f"power_{name}" for name in ("005", "010", "015", "005_500", "010_500", "015_500")]
FIGURES = {
    *("mixed_false", "mixed_found", "leak_caught"),
    *(f"{name}_{what}" for name in NULL_FIGURES for what in ("share", "skill")),
    *POWERS,
    *(f"{name}_{what}" for name in POWERS for what in ("ic", "symbols")),
    *(f"whole_{name}" for name in ("sample", "skill", "suspicion", "calibration", "money", "deflated_sharpe", "gate")),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_pools_of_noise_are_seldom_promoted_in_their_first_weeks(family: str) -> None:
    promoted = sum(ever(family, pool, attempts=3)[1] for pool in range(24))
    assert promoted <= binom.ppf(0.999, 24, 0.05)


def test_a_leak_is_blocked() -> None:
    judgement = leaked(0)
    assert judgement.pool.line("skill").figure > 0.5
    assert judgement.pool.decision == "block"


def test_an_edge_is_found_and_its_realised_ic_is_a_little_less_than_the_planted() -> None:
    judgement = found(0.15, 2500, 0)
    assert judgement.pool.decision == "promote"
    assert 0.10 < judgement.pool.line("skill").figure < 0.16


def made(seed: int, horizon: int) -> tuple[Market, Labels]:
    noise = market(np.random.default_rng(seed), PAST + LEARNT + 200, clustered)
    return noise, labelled(noise.returns, horizon)


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("learner", LEARNERS)
def test_what_a_procedure_says_does_not_change_with_what_happens_later(learner: str, horizon: int) -> None:
    noise, labels = made(1, horizon)
    changed, until = PAST + LEARNT + 120, PAST + LEARNT + 190
    later = noise.returns.copy()
    later[changed:] = 0.0
    features = noise.features.copy()
    features[changed:] = 1.0
    said, other = (
        Procedure(one, labelled(one.returns, horizon), learner, 5).predictions(until)
        for one in (noise, Market(later, features))
    )
    np.testing.assert_array_equal(said.score[:120], other.score[:120])
    np.testing.assert_array_equal(said.prior[:120], other.prior[:120])
    assert not np.array_equal(said.score[120:], other.score[120:])
    assert labels.horizon == horizon


def test_labels_are_those_of_the_line() -> None:
    noise, labels = made(2, 5)
    closes = 100 * np.exp(0.01 * np.cumsum(noise.returns[:, 0]))
    stamps = pl.Series("timestamp", np.datetime64("2015-01-01", "us") + np.arange(len(closes)) * np.timedelta64(1, "D"))
    bars = pl.DataFrame({"timestamp": stamps, "close": closes}).with_columns(
        symbol=pl.lit("A"),
        listing=pl.lit(1),
        open=pl.col("close").shift(1, fill_value=100.0),
        known_at="timestamp",
        flags=pl.lit(None),
    )
    line = open_to_open(bars, 5)
    followed = np.log1p(line["label_return"].to_numpy()[30:-10]) / 0.01
    np.testing.assert_allclose(labels.followed[30:-4, 0][: len(followed)], followed, atol=1e-8)
    scale = line["scale"].to_numpy()[30:-10] / 0.01
    np.testing.assert_allclose(labels.scale[30:, 0][: len(scale)] * np.sqrt(20 / 19), scale, rtol=1e-6)


@pytest.mark.parametrize(("count", "of"), [(0, 600), (20, 600), (37, 1000), (5, 5)])
def test_the_upper_bound_is_clopper_and_pearsons(count: int, of: int) -> None:
    wanted = 1.0 if count == of else beta.ppf(0.95, count + 1, of - count)
    assert upper_bound(count, of) == pytest.approx(wanted)


def test_twenty_of_six_hundred_are_five_in_a_hundred_at_most() -> None:
    assert upper_bound(20, 600) <= 0.05 < upper_bound(22, 600)


def chosen(*arguments: str) -> Namespace:
    parser = ArgumentParser()
    honesty.options(parser)
    return parser.parse_args(arguments)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_gate_is_honest_and_finds_what_is_there() -> None:
    # Of drift a few markets: its rates have slow tests of their own.
    figures = honesty.measure(chosen("--power-pools", "100", "--drift-markets", "4"))
    nulls = [name for name in NULL_FIGURES if name != "null_signflip" or SP500.exists()]
    assert {name: figures[name] for name in nulls if figures[name] > 0.05} == {}
    # Without the help of the other lines, too.
    assert {name: figures[f"{name}_skill"] for name in nulls if figures[f"{name}_skill"] > 0.05} == {}
    assert figures["mixed_false"] <= 0.10
    assert figures["power_015"] >= 0.9
    assert figures["power_015_shared"] >= 0.9
    assert figures["leak_caught"] == 1.0
    assert all(figures[f"whole_{name}"] >= 0.5 for name in ("sample", "skill", "suspicion", "deflated_sharpe"))


@pytest.mark.slow
@pytest.mark.skipif(not SP500.exists(), reason=f"{SP500} is absent")
def test_the_benchmark_prints_its_documented_figures_each_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--pools", "2", "--power-pools", "2", "--attempts", "1", "--drift-markets", "2", "--workers", "1")
    honesty.main([*small, "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) >= NULL_FIGURES | FIGURES
    assert [name for name in FIGURES if f"{name}_error" not in figures] == []


def test_where_the_samples_are_absent_the_family_of_real_bars_has_no_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(honesty, "SP500", tmp_path / "sp500.parquet")
    figures = honesty.nulls(chosen("--pools", "600"), lambda *call: [(True, False)] * call[-1])
    assert figures["null_signflip"] is None
    assert figures["data"] == f"{tmp_path / 'sp500.parquet'} is absent"
    assert figures["null_iid"] == pytest.approx(upper_bound(0, 600), abs=1e-4)
    assert (figures["null_iid_share"], figures["null_iid_skill"]) == (0.0, 1.0)

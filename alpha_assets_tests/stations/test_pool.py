"""Pooled models: one a regime over all symbols, and what a cell without history of its own gets from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.heads import pattern_success
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.sets import table_of
from alpha_assets.stations.train import TURNED, labelled_rows, pool_name, pooled_candidate, train, usable
from alpha_assets.stations.trials import configuration, family
from alpha_assets.stores.registry import PICTURE, REPORT
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later
from alpha_assets_tests.stations.market import QUICK
from alpha_assets_tests.stations.test_train import KEY, Killed, Mortal, promotion

pytestmark = pytest.mark.xdist_group("line")

#: No symbol has so many rows of its own; all four together do.
SHORT = replace(QUICK, min_rows=1420)

REGIMES = ("all", "sideways")


def pools(line: Line, regimes: tuple[str, ...] = REGIMES, **how: Any) -> Any:
    return train_pools(line.lake, line.ledger, line.registry, line.settings, NOW, regimes=regimes, **how)


@pytest.fixture(scope="module")
def pooled(featured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = copied(featured, tmp_path_factory.mktemp("pooled") / "home", learning=SHORT)
    assert pools(line).states() == {"trained": 2}
    return line.settings.home


@pytest.fixture
def line(pooled: Path, tmp_path: Path) -> Line:
    return copied(pooled, tmp_path / "home", learning=SHORT)


def labelled(line: Line) -> pl.DataFrame:
    return usable(labelled_rows(line.lake, line.settings, calendars_of(line.ledger), SYMBOLS)[0])


def test_a_pool_is_a_version_whose_evidence_covers_every_symbol_of_its_regime(line: Line) -> None:
    assert line.versions() == {pool_name(regime): ["1"] for regime in sorted(REGIMES)}
    for regime in REGIMES:
        run = line.registry.client.get_model_version(pool_name(regime), "1").run_id
        assert {file.path for file in line.registry.client.list_artifacts(run)} == {REPORT, PICTURE}
    predictions = line.predictions()
    assert not predictions.select(pl.struct(KEY).is_duplicated().any()).item()
    rows = labelled(line)
    for regime in REGIMES:
        said = predictions.filter(pl.col("regime") == regime)
        assert set(said["symbol"]) == set(SYMBOLS)
        assert said["training_id"].n_unique() == 1
        followed = said.join(rows, on=["symbol", "timestamp"], suffix="_of_bar")
        assert followed.height == said.height
        if regime != "all":
            assert set(followed["regime_of_bar"]) == {regime}


def test_the_evidence_of_a_pool_is_purged_by_date_across_its_symbols(line: Line) -> None:
    """Were tomorrow's news of one symbol in the training rows of another, turning the last third would be heard."""
    before = line.predictions().filter(pl.col("regime") == "all")
    cut = before["timestamp"].sort()[before.height * 2 // 3]
    bars = line.lake.read("bars")
    changed = bars.with_columns(
        pl.when(pl.col("timestamp") > cut).then(pl.col(name) * 1.5).otherwise(name).alias(name) for name in ("open",)
    )
    line.lake.replace("bars", changed, SYMBOLS)
    assert pools(line, ("all",)).states() == {"trained": 1}
    after = line.predictions().filter(
        pl.col("regime") == "all", ~pl.col("training_id").is_in(before["training_id"].implode())
    )
    columns = ["symbol", "timestamp", "p_up", "score", "prior"]
    earlier = [frame.filter(pl.col("timestamp") < cut).select(columns) for frame in (before, after)]
    assert earlier[0].head(earlier[0].height // 2).equals(earlier[1].head(earlier[0].height // 2))


def test_a_second_training_of_unchanged_pools_writes_nothing(line: Line) -> None:
    before = (line.versions(), line.runs(), line.lake.version("predictions"))
    report = pools(line)
    assert report.states() == {"unchanged": 2}
    assert (line.versions(), line.runs(), line.lake.version("predictions")) == before


def test_a_cell_with_too_little_history_has_the_pooled_model_as_its_candidate(line: Line) -> None:
    report = line.train(regimes=REGIMES, now=later(days=40))
    assert report.states() == {"pooled": 2 * len(SYMBOLS)}
    for (_, regime), row in line.ledger.candidates().items():
        version, tags = line.registry.newest(pool_name(regime)) or pytest.fail("no pool")
        assert (row["model_name"], row["model_version"]) == (version.name, version.number)
        assert (row["model_location"], row["model_digest"]) == (version.location, version.digest)
        assert row["training_id"] == tags["training_id"]
        assert row["trained_at"] == NOW, "it is as old as the pool, whoever leans on it later"
        assert "labelled rows" in row["reason"]
        assert f"{version.name} version 1" in row["reason"]
    assert len(line.ledger.candidates()) == 2 * len(SYMBOLS)
    before = (line.ledger.candidates(), line.versions(), line.runs())
    assert line.train(regimes=REGIMES, now=later(days=1)).states() == {"unchanged": 2 * len(SYMBOLS)}
    assert (line.ledger.candidates(), line.versions(), line.runs()) == before


def test_a_newer_pool_takes_the_place_of_the_older_one_in_every_cell(line: Line) -> None:
    line.train()
    newer = Line(line.settings.home, learning=replace(SHORT, seed=1))
    assert newer.train().states() == {"refused": 4}, "a pool of other parameters does not stand in"
    pools(newer, ("all",))
    assert newer.train().states() == {"pooled": 4}
    assert {row["model_version"] for row in newer.ledger.candidates().values()} == {"2"}


def test_who_goes_back_to_earlier_settings_has_the_pool_of_those_again(line: Line) -> None:
    line.train()
    before = line.ledger.candidates()
    other = Line(line.settings.home, learning=replace(SHORT, seed=1))
    pools(other, ("all",))
    assert other.train().states() == {"pooled": 4}
    assert pools(line, ("all",)).states() == {"unchanged": 1}
    assert line.train(now=later(days=1)).states() == {"pooled": 4}
    assert line.ledger.candidates() == before
    theirs = pooled_candidate(line.registry, line.settings, "all") or pytest.fail("own fits would have nobody to beat")
    assert theirs["model_version"] == "1"


def test_without_a_pool_the_cell_is_refused_with_what_it_lacks(featured: Path, tmp_path: Path) -> None:
    line = copied(featured, tmp_path / "home", learning=SHORT)
    report = line.train(["SIM01"])
    assert report.states() == {"refused": 1}
    assert "train the pool" in report.partitions["all|SIM01"]["reason"]
    assert line.train(["SIM01"]).states() == {"unchanged": 1}
    pools(line, ("all",))
    assert line.train(["SIM01"]).states() == {"pooled": 1}


def test_a_horizon_longer_than_half_the_spells_of_a_regime_is_trained_for_all_bars_only(
    featured: Path, tmp_path: Path
) -> None:
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, horizon=30, min_labels=10))
    said = pools(line).partitions
    assert said["all"]["state"] == "trained"
    assert said["sideways"]["state"] == "refused"
    assert "median spell of sideways" in said["sideways"]["reason"]
    cells = line.train(["SIM01"], regimes=REGIMES).partitions
    assert cells["all|SIM01"]["state"] == "trained"
    assert cells["sideways|SIM01"]["state"] == "refused"
    assert line.ledger.candidates()["SIM01", "sideways"]["reason"] == cells["sideways|SIM01"]["reason"]


def test_how_long_a_regime_lasts_is_told_by_the_universe_whoever_is_trained(featured: Path, tmp_path: Path) -> None:
    """The regimes of SIM01 last; those of all others change with every bar."""
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, min_rows=150, min_labels=50))
    table, others = table_of(line.settings), list(SYMBOLS[1:])
    restless = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("sideways")).otherwise(pl.lit("volatile"))
    line.lake.replace(table, line.lake.read(table, symbols=others).with_columns(regime=restless), others)
    reason = line.train(["SIM01"], regimes=("sideways",)).partitions["sideways|SIM01"]["reason"]
    assert "median spell of sideways (1 bars)" in reason
    assert pools(line, ("sideways",)).partitions["sideways"]["reason"] == reason


def test_a_regime_with_history_enough_gets_a_model_of_its_own_bars(featured: Path, tmp_path: Path) -> None:
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, min_rows=150, min_labels=50))
    report = line.train(["SIM01"], regimes=("sideways",))
    figures = report.partitions["sideways|SIM01"]
    rows = labelled(line).filter(pl.col("symbol") == "SIM01", pl.col("regime") == "sideways")
    assert (figures["state"], figures["rows"]) == ("trained", rows.height)
    said = line.predictions()
    assert set(said["regime"]) == {"sideways"}
    assert said.join(rows, on=["symbol", "timestamp"], how="semi").height == said.height


def test_the_pool_speaks_of_patterns_where_a_symbol_has_too_few_events(featured: Path, tmp_path: Path) -> None:
    learning = replace(QUICK, heads=("gb_direction", "xgb_pattern"), pattern_rows=3000)
    line = copied(featured, tmp_path / "home", learning=learning)
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    assert pools(line, ("all",)).states() == {"trained": 1}
    assert line.train(["SIM01"]).states() == {"trained": 1}
    version, _ = line.registry.newest(pool_name("all")) or pytest.fail("no pool")
    assert line.registry.client.get_run(version.run_id).data.metrics["xgb_pattern_log_loss"] > 0.6
    pool = line.registry.candidate(version.name, version.number, version.location, version.digest)
    own_row = line.ledger.candidates()["SIM01", "all"]
    own = line.registry.candidate(*(own_row[f"model_{name}"] for name in ("name", "version", "location", "digest")))
    last = line.lake.read(own_row["features_set"], symbols=["SIM01"]).tail(20)
    events = line.lake.read("pattern_outcomes", symbols=["SIM01"], since=last["timestamp"][0])
    said = pattern_success(pool, last, events)
    directed = events["direction"].to_numpy() != 0
    assert directed.any()
    assert ((said[directed] > 0.3) & (said[directed] < 0.7)).all()
    assert np.isnan(said[~directed]).all()
    assert np.isnan(pattern_success(own, last, events)).all()
    assert pools(line, ("all",)).states() == line.train(["SIM01"]).states() == {"unchanged": 1}


@pytest.mark.slow
def test_a_search_is_made_once_a_family_counted_and_followed_by_its_symbols(featured: Path, tmp_path: Path) -> None:
    learning = replace(QUICK, search_trials=3, min_leaf_rows=400, seed=2)
    line = copied(featured, tmp_path / "home", learning=learning)
    assert pools(line, ("all",)).states() == {"trained": 1}
    tried = line.ledger.trials(family(line.settings, "all"))
    assert {(row["source"], row["seen_at"]) for row in tried} == {("search", NOW)}
    version, tags = line.registry.newest(pool_name("all")) or pytest.fail("no pool")
    run = line.registry.client.get_run(version.run_id)
    told = json.loads((Path(run.info.artifact_uri) / "report.json").read_text())["search"]
    assert {row["score"] for row in tried} == {trial["score"] for trial in told["trials"]}
    assert len(tried) == learning.search_trials
    own = configuration(table_of(line.settings), replace(learning, search_trials=0))
    assert own in {row["configuration"] for row in tried}, "what was set is tried first, as if there were no search"
    chosen = max(told["trials"], key=lambda trial: trial["score"] or -9)
    assert json.loads(tags[TURNED]) == told["chosen"] == {name: chosen[name] for name in told["chosen"]}
    assert chosen["min_leaf_rows"] != 400, "trees that cannot split are no good"
    assert line.train(["SIM01"]).states() == {"trained": 1}
    symbol, _ = line.registry.newest("SIM01.all") or pytest.fail("no version")
    for name, value in told["chosen"].items():
        for each in (version, symbol):
            assert line.registry.client.get_run(each.run_id).data.params[name] == str(value)
    before = (line.versions(), line.ledger.trials(family(line.settings, "all")))
    assert pools(line, ("all",)).states() == line.train(["SIM01"]).states() == {"unchanged": 1}
    assert (line.versions(), line.ledger.trials(family(line.settings, "all"))) == before


@pytest.mark.slow
def test_a_training_of_pools_killed_before_any_write_and_repeated_doubles_nothing(
    pooled: Path, featured: Path, tmp_path: Path
) -> None:
    undisturbed = copied(pooled, tmp_path / "undisturbed", learning=SHORT)
    for done in range(4):
        line = copied(featured, tmp_path / f"killed-after-{done}", learning=SHORT)
        life = {"left": done}
        lake, ledger, registry = (Mortal(store, life) for store in (line.lake, line.ledger, line.registry))
        with pytest.raises(Killed):
            train_pools(lake, ledger, registry, line.settings, NOW, regimes=REGIMES)  # type: ignore[arg-type]
        pools(line)
        assert line.predictions().equals(undisturbed.predictions())
        assert line.versions() == undisturbed.versions()


def test_a_promoted_pooled_model_speaks_of_the_symbol_it_is_asked_about(line: Line) -> None:
    line.train()
    for symbol in SYMBOLS[:2]:
        line.ledger.decide([promotion(line.ledger.candidates()[symbol, "all"])])
    line.signal(SYMBOLS[:2])
    said = {row["symbol"]: row for row in line.ledger.signals()}
    row = line.ledger.candidates()["SIM01", "all"]
    candidate = line.registry.candidate(*(row[f"model_{name}"] for name in ("name", "version", "location", "digest")))
    last = {symbol: line.lake.read(row["features_set"], symbols=[symbol]).tail(1) for symbol in SYMBOLS[:2]}
    for symbol, bar in last.items():
        features = bar.select(pl.col(candidate.columns).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
        assert said[symbol]["p_up"] == candidate.predict(features, [symbol])["p_up"][0]


@pytest.mark.slow
def test_the_workers_may_be_processes_and_make_the_same_pools(pooled: Path, featured: Path, tmp_path: Path) -> None:
    here = copied(pooled, tmp_path / "here", learning=SHORT)
    there = copied(featured, tmp_path / "there", learning=SHORT, workers=2)
    pools(there)
    assert there.predictions().equals(here.predictions())
    assert {name: digest_of(there, name) for name in there.versions()} == {
        name: digest_of(here, name) for name in here.versions()
    }


def digest_of(line: Line, name: str) -> str:
    found = line.registry.newest(name)
    assert found is not None
    return found[0].digest


def test_a_fit_of_a_pool_that_fails_leaves_the_other_pools(featured: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from alpha_assets.stations import train as station

    whole = station.learn

    def moody(rows: pl.DataFrame, *rest: Any, **how: Any) -> Any:
        if rows.height < 3000:
            raise ZeroDivisionError("too few rows for my taste")
        return whole(rows, *rest, **how)

    monkeypatch.setattr(station, "learn", moody)
    line = copied(featured, tmp_path / "home", learning=SHORT, workers_backend="threading")
    report = pools(line)
    assert {regime: figures["state"] for regime, figures in report.partitions.items()} == {
        "all": "trained",
        "sideways": "failed",
    }
    assert report.partitions["sideways"]["reason"] == "the fit failed: ZeroDivisionError: too few rows for my taste"
    assert train(line.lake, line.ledger, line.registry, line.settings, [("SIM01", "sideways")], NOW).states() == {
        "refused": 1
    }

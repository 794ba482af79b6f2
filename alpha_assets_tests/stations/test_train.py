"""Candidates: trained where something changed, once, whatever happens in between."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.automation.wishes import training_wanted
from alpha_assets.quant import learners
from alpha_assets.quant.heads import Refusal
from alpha_assets.quant.indicators import default_set
from alpha_assets.quant.labels import triple_barrier
from alpha_assets.quant.learners import BoostedDirection, Lesson, matrix
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.quant.weights import recency
from alpha_assets.sources.all import Sources
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets.stations.sets import recipe_of
from alpha_assets.stations.signal import signal
from alpha_assets.stations.train import METRICS, labelled_rows, lacking, model_name, task_of, train, usable
from alpha_assets.stations.trials import family
from alpha_assets.stores.registry import Registry
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, impossible, later
from alpha_assets_tests.stations.market import QUICK, House, simulated

pytestmark = pytest.mark.xdist_group("line")

FEATURES = default_set()

KEY = ["symbol", "regime", "timestamp", "training_id", "origin"]


def what_is_known(line: Line) -> dict[str, dict[str, Any]]:
    """The candidates without what a repetition may change: the clock and the place of the files."""
    aside = ("trained_at", "model_location")
    return {
        symbol: {name: value for name, value in row.items() if name not in aside}
        for (symbol, _), row in line.ledger.candidates().items()
    }


class TestTraining:
    def test_gives_every_symbol_a_version_and_predictions_made_out_of_fold(self, trained: Path, tmp_path: Path) -> None:
        line = copied(trained, tmp_path / "home")
        candidates = line.ledger.candidates()
        assert {symbol for symbol, _ in candidates} == set(SYMBOLS)
        assert {row["state"] for row in candidates.values()} == {"trained"}
        assert line.versions() == {model_name(symbol): ["1"] for symbol in SYMBOLS}
        predictions = line.predictions()
        assert not predictions.select(pl.struct(KEY).is_duplicated().any()).item()
        assert {(row[0], row[1]) for row in predictions.select("symbol", "training_id").iter_rows()} == {
            (symbol, row["training_id"]) for (symbol, _), row in candidates.items()
        }
        assert predictions["p_up"].is_between(0, 1, closed="none").all()

    def test_tells_the_figures_in_sixty_metrics_at_most_and_the_rest_in_one_report(
        self, trained: Path, tmp_path: Path
    ) -> None:
        line = copied(trained, tmp_path / "home")
        version, tags = line.registry.newest("SIM01.all") or pytest.fail("no version")
        run = line.registry.client.get_run(version.run_id)
        assert len(run.data.metrics) <= METRICS
        assert {"oof_ts_ic", "oof_log_loss", "gb_return_rmse", "gb_direction_brier", "logistic_ic"} & set(
            run.data.metrics
        ) == {"oof_ts_ic", "oof_log_loss", "gb_return_rmse", "logistic_ic"}, "the Brier score is in the report"
        assert run.data.metrics["training_seconds"] > 0
        assert run.data.params["heads"] == ", ".join(LIGHT.heads)
        assert {"symbols", "trained_from", "bars_version", "features_version", "features_set", "recipe"} <= tags.keys()
        report = json.loads((Path(run.info.artifact_uri) / "report.json").read_text())
        assert set(report["heads"]) == set(LIGHT.heads)
        assert len(report["heads"]["gb_direction"]["folds"]) == LIGHT.folds
        assert "brier" in report["heads"]["gb_direction"]["together"]
        assert {"half", "pooled_prior", "symbol_prior", "persistence", "momentum", "linear"} == set(report["rivals"])
        page = run.data.tags["mlflow.note.content"]
        assert f"features version {tags['features_version']}" in page.replace(tags["features_set"], "features")
        assert [row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")][1:] == [
            "candidate",
            *report["rivals"],
        ]
        evidence = line.predictions().filter(pl.col("symbol") == "SIM01")
        assert report["out_of_fold"]["rows"] == sum(step["answered"] for step in report["learning"]) == evidence.height

    def test_twice_says_unchanged_and_writes_nothing(self, trained: Path, tmp_path: Path) -> None:
        line = copied(trained, tmp_path / "home")
        before = (line.versions(), line.runs(), line.ledger.candidates(), line.lake.version("predictions"))
        report = line.train(now=later(days=1))
        assert report.states() == {"unchanged": len(SYMBOLS)}
        assert {figures["version"] for figures in report.partitions.values()} == {"1"}
        assert (line.versions(), line.runs(), line.ledger.candidates(), line.lake.version("predictions")) == before

    @pytest.mark.slow
    def test_with_any_number_of_workers_makes_the_same_models(
        self, featured: Path, trained: Path, tmp_path: Path
    ) -> None:
        one = copied(trained, tmp_path / "one")
        three = copied(featured, tmp_path / "three", workers=3)
        three.train()
        assert what_is_known(three) == what_is_known(one)
        assert three.predictions().equals(one.predictions())
        for symbol in SYMBOLS:
            files = [files_of(line, symbol) for line in (one, three)]
            assert files[0] == files[1]
            assert files[0]["gb_direction.lgb"].startswith(b"tree")

    def test_with_another_seed_is_another_training_and_another_version(self, trained: Path, tmp_path: Path) -> None:
        line = copied(trained, tmp_path / "home", learning=replace(LIGHT, seed=1))
        assert line.train(["SIM01"]).states() == {"trained": 1}
        assert line.versions()["SIM01.all"] == ["1", "2"]

    def test_of_a_symbol_without_enough_data_is_refused_by_what_it_has_and_what_it_needs(
        self, featured: Path, tmp_path: Path
    ) -> None:
        line = copied(featured, tmp_path / "home", learning=replace(LIGHT, min_rows=5000))
        report = line.train()
        assert report.states() == {"refused": len(SYMBOLS)}
        reason = report.partitions["all|SIM01"]["reason"]
        assert "labelled rows" in reason
        assert "5000" in reason
        assert line.ledger.candidates()["SIM01", "all"]["reason"] == reason
        assert (line.versions(), line.predictions().height) == ({}, 0)
        assert line.train().states() == {"unchanged": len(SYMBOLS)}

    def test_before_any_refresh_says_that_there_is_nothing_to_learn_from(self, tmp_path: Path) -> None:
        line = Line(tmp_path / "home")
        report = line.train(["SIM01"])
        assert report.partitions["all|SIM01"] == {
            "state": "empty",
            "reason": "no bars are held yet: refresh the symbol",
        }


def test_the_bars_that_are_said_to_be_needed_are_those_with_which_a_symbol_is_trained(
    featured: Path, tmp_path: Path
) -> None:
    state = copied(featured, tmp_path / "home").ledger.states()["SIM01"]
    rows = state["bars"] - FEATURES.blank - 2
    for min_rows, needed, outcome in ((rows, None, "trained"), (rows + 1, state["bars"] + 1, "refused")):
        line = Line(tmp_path / "home", learning=replace(QUICK, min_rows=min_rows))
        lack = lacking(state, line.settings)
        assert (lack and lack[1].split(": ")[0]) == (needed and f"{state['bars']:,} bars, {needed:,} needed")
        assert line.train(["SIM01"]).states() == {outcome: 1}


def test_a_symbol_with_too_few_bars_or_in_quarantine_is_told_so(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(featured, tmp_path / "home", learning=replace(LIGHT, min_rows=5000))
    line.ledger.note_state([{"symbol": "SIM02", "quarantine_cause": "outage", "quarantine_reason": "no answer"}])
    monkeypatch.setattr("alpha_assets.stations.train.usable", lambda rows: usable(rows).clear())
    said = line.train(["SIM01", "SIM02"]).partitions
    assert (said["all|SIM01"]["state"], said["all|SIM02"]["state"]) == ("too_few_bars", "quarantined")
    assert f"{5000 + FEATURES.blank + 2:,} needed" in said["all|SIM01"]["reason"]
    assert said["all|SIM02"]["reason"] == "quarantined: outage"
    assert {line.ledger.candidates()[symbol, "all"]["reason"] for symbol in ("SIM01", "SIM02")} == {
        figures["reason"] for figures in said.values()
    }


def test_the_three_classes_may_be_the_barriers_that_a_position_met_first(featured: Path, tmp_path: Path) -> None:
    """A near stop and a far profit: most of what was earned in bands is a sell by barriers."""
    heads = ("gb_direction", "gb_signal")
    learning = replace(QUICK, heads=heads, min_rows=800, horizon=2, profit_barrier=0.8, stop_barrier=0.4)
    lines = {
        label: copied(featured, tmp_path / label, learning=replace(learning, signal_label=label))
        for label in ("bands", "triple_barrier")
    }
    truths, identities = {}, set()
    for label, line in lines.items():
        assert line.train(["SIM01"]).states() == {"trained": 1}
        version, _ = line.registry.newest("SIM01.all") or pytest.fail("no version")
        run = line.registry.client.get_run(version.run_id)
        report = json.loads((Path(run.info.artifact_uri) / "report.json").read_text())
        truths[label] = [sum(row) for row in report["confusion"]]
        identities.add(line.ledger.candidates()["SIM01", "all"]["training_id"])
    line = lines["triple_barrier"]
    named = {"SIM01": "XNYS"}
    adjusted, _ = adjusted_bars(line.lake, line.settings, named, ["SIM01"])
    bars = with_known_at(adjusted, line.settings, named)
    met = triple_barrier(bars, 2, 0.8, 0.4).join(line.predictions(), on=["symbol", "timestamp"], how="semi")["barrier"]
    assert truths["triple_barrier"] == [(met == barrier).sum() for barrier in ("stop", "time", "profit")]
    assert truths["bands"][0] < sum(truths["bands"]) / 2 < truths["triple_barrier"][0]
    rows = usable(labelled_rows(line.lake, line.settings, named, ["SIM01"])[0])
    for frame in (rows, rows.with_columns(pl.col("barrier").reverse())):
        recipe = recipe_of(line.settings)
        identities.add(task_of("all|SIM01", frame, "all", recipe, line.settings.learning).identity)
    assert len(identities) == 3, "the bands, the barriers, and other barriers of the same bars"


class Moody(BoostedDirection):
    """A head that cannot stand rows that begin with ``hated``."""

    hated: np.ndarray | None = None

    def fit(self, rows: Lesson) -> Any:
        if self.hated is not None and np.array_equal(rows.features[0], self.hated, equal_nan=True):
            raise ZeroDivisionError("hated rows")
        return super().fit(rows)


def test_a_training_names_the_data_that_it_read_though_a_refresh_comes_beside_it(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(featured, tmp_path / "home", learning=QUICK)
    table = recipe_of(line.settings).table
    seen = {name: str(line.lake.version(name)) for name in ("bars", table)}

    def beside(*those: Any) -> Any:
        rows = labelled_rows(*those)
        for name, other in (("bars", pl.col("volume") * 2), (table, pl.lit("volatile").alias("regime"))):
            line.lake.replace(name, line.lake.read(name, symbols=["SIM02"]).with_columns(other), ["SIM02"])
        return rows

    monkeypatch.setattr("alpha_assets.stations.train.labelled_rows", beside)
    assert line.train(["SIM01"]).states() == {"trained": 1}
    _, tags = line.registry.newest("SIM01.all") or pytest.fail("no version")
    assert (tags["bars_version"], tags["features_version"]) == (seen["bars"], seen[table])
    assert all(str(line.lake.version(name)) != version for name, version in seen.items())


def test_a_fit_that_fails_is_recorded_while_the_others_go_on_and_is_tried_again(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(learners.LEARNERS, "moody", Moody)  # type: ignore[misc]
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, heads=("moody",)))
    rows, _ = labelled_rows(line.lake, line.settings, dict.fromkeys(SYMBOLS, "XNYS"), ["SIM02"])
    monkeypatch.setattr(Moody, "hated", matrix(usable(rows).head(1), FEATURES.columns)[0])
    report = line.train()
    assert report.states() == {"trained": 3, "failed": 1}
    assert report.partitions["all|SIM02"]["reason"] == "the fit failed: ZeroDivisionError: hated rows"
    assert line.ledger.candidates()["SIM02", "all"]["state"] == "failed"
    monkeypatch.setattr(Moody, "hated", None)
    assert line.train().states() == {"unchanged": 3, "trained": 1}
    assert line.versions() == {model_name(symbol): ["1"] for symbol in SYMBOLS}


@pytest.mark.parametrize(("rows", "state"), [(-5, "failed"), (100, "refused")])
def test_a_look_that_makes_no_version_leaves_the_one_there_was_as_the_candidate(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, state: str
) -> None:
    """Dropped, its symbol fell out of the evidence of its family, and came back with the next fit."""

    def unlucky(*_: object, **__: object) -> None:
        raise ZeroDivisionError("bad luck")

    line = copied(trained, tmp_path / "home")
    before = line.ledger.candidates()["SIM01", "all"]
    others = [{**before, "regime": regime} for regime in REGIMES[1:]]
    line.ledger.note_candidates([*others, {**before, "bars": before["bars"] - 10}])
    monkeypatch.setattr("alpha_assets.stations.train.learn", unlucky)
    monkeypatch.setattr("alpha_assets.stations.train.usable", lambda known: usable(known).head(rows))
    for _ in range(2):
        report = line.train(["SIM01"], later(days=30))
        assert report.states() == {state: 1}
        after = line.ledger.candidates()["SIM01", "all"]
        assert after == {**before, "state": state, "reason": report.partitions["all|SIM01"]["reason"]}
    assert "SIM01" not in wanted(line, later(days=30)), "it was looked at"
    line.ledger.note_state([{"symbol": "SIM01", "bars": before["bars"] + 100}])
    assert "SIM01" in wanted(line, later(days=30))
    line.ledger.note_state([{"symbol": "SIM01", "bars": before["bars"]}])
    monkeypatch.undo()
    assert line.train(["SIM01"], later(days=30)).states() == {"unchanged": 1}
    assert line.ledger.candidates()["SIM01", "all"] == before, "these rows were trained on before"


def test_who_goes_back_to_earlier_settings_has_the_version_of_those_again_and_nothing_is_trained(
    trained: Path, tmp_path: Path
) -> None:
    line = copied(trained, tmp_path / "home")
    before = line.ledger.candidates()
    other = Line(line.settings.home, learning=replace(LIGHT, seed=1))
    assert other.train(SYMBOLS[:2], later(days=5)).states() == {"trained": 2}
    written = (line.versions(), line.runs(), line.lake.version("predictions"))
    tried = line.ledger.trials(family(line.settings, "all"))
    report = line.train(now=later(days=9))
    assert report.states() == {"unchanged": len(SYMBOLS)}
    assert {figures["version"] for figures in report.partitions.values()} == {"1"}
    assert line.ledger.candidates() == before, "a candidate is as old as its version"
    assert (line.versions(), line.runs(), line.lake.version("predictions")) == written
    assert line.ledger.trials(family(line.settings, "all")) == tried


def test_what_was_decided_on_a_version_stands_when_its_settings_come_back(trained: Path, tmp_path: Path) -> None:
    line = copied(trained, tmp_path / "home")
    line.ledger.decide([promotion(line.ledger.candidates()["SIM01", "all"])])
    other = Line(line.settings.home, learning=replace(LIGHT, seed=1))
    other.train(["SIM01"], later(days=5))
    line.ledger.decide([{**promotion(line.ledger.candidates()["SIM01", "all"]), "seq": 2}])
    assert line.train(["SIM01"], later(days=9)).states() == {"unchanged": 1}
    said = line.promote(["SIM01"], later(days=9)).partitions["SIM01"]
    assert (said["state"], said["verdict"]) == ("unchanged", "promote")
    assert line.ledger.production()["SIM01", "all"]["model_version"] == "2"


def test_a_version_whose_predictions_are_gone_gets_them_again_and_stays_the_only_one(
    trained: Path, tmp_path: Path
) -> None:
    line = copied(trained, tmp_path / "home")
    before, said = what_is_known(line), line.predictions()
    shutil.rmtree(line.settings.home / "lake" / "predictions")
    lost = Line(line.settings.home, learning=LIGHT)
    lost.ledger.note_candidates([{**lost.ledger.candidates()["SIM01", "all"], "state": "failed"}])
    assert lost.train(["SIM01"]).states() == {"trained": 1}
    assert what_is_known(lost) == before
    assert lost.versions() == {model_name(symbol): ["1"] for symbol in SYMBOLS}
    assert lost.predictions().equals(said.filter(pl.col("symbol") == "SIM01"))


def test_what_other_settings_made_is_no_candidate_of_these(trained: Path, tmp_path: Path) -> None:
    line = copied(trained, tmp_path / "home", learning=replace(LIGHT, min_rows=5000))
    assert line.train(["SIM01"]).states() == {"refused": 1}
    assert line.ledger.candidates()["SIM01", "all"]["model_version"] is None
    assert line.train(["SIM01"]).states() == {"unchanged": 1}


class Killed(BaseException):
    """As final as a signal: nobody may catch it and go on."""


class Mortal:
    """A store that dies instead of its n-th write, counted over all stores that share ``life``."""

    WRITES = ("append", "replace", "note_candidates", "log_candidate")

    def __init__(self, store: Any, life: dict[str, int]) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Any:
        if name in self.WRITES:
            self._life["left"] -= 1
            if self._life["left"] < 0:
                raise Killed
        return getattr(self._store, name)


def train_two(line: Line, writes: int) -> int:
    """Train two symbols with a life of so many writes; how many were left."""
    life = {"left": writes}
    lake, ledger, registry = (Mortal(store, life) for store in (line.lake, line.ledger, line.registry))
    cells = [(symbol, "all") for symbol in SYMBOLS[:2]]
    train(lake, ledger, registry, line.settings, cells, NOW)  # type: ignore[arg-type]
    return life["left"]


@pytest.mark.slow
def test_a_training_killed_before_any_write_and_repeated_doubles_nothing_and_loses_nothing(
    featured: Path, tmp_path: Path
) -> None:
    undisturbed = copied(featured, tmp_path / "undisturbed", learning=QUICK)
    writes = 100 - train_two(undisturbed, 100)
    assert writes >= 4, "predictions once, a version and a record a symbol"
    for done in range(writes):
        line = copied(featured, tmp_path / f"killed-after-{done}", learning=QUICK)
        with pytest.raises(Killed):
            train_two(line, done)
        line.train(SYMBOLS[:2])
        assert what_is_known(line) == what_is_known(undisturbed)
        assert line.predictions().equals(undisturbed.predictions())
        assert line.versions() == undisturbed.versions()


def files_of(line: Line, symbol: str) -> dict[str, bytes]:
    row = line.ledger.candidates()[symbol, "all"]
    return line.registry.read_files(row["model_name"], row["model_version"], row["model_location"], row["model_digest"])


def wanted(line: Line, now: datetime) -> list[str]:
    """What automation would have trained."""
    rules: dict[str, Any] = {"after_bars": 100, "after": timedelta(days=7), "apart": timedelta(0), "least_bars": 500}
    ledger = line.ledger
    return training_wanted(ledger.universe(), ledger.states(), ledger.candidates(), now, **rules).symbols


def test_a_training_that_is_repeated_while_others_have_traded_on_keeps_the_predictions_of_one_walk(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the vault begins is told by the dates of all symbols, so the repeated walk has other blocks."""

    def traded_on(line: Line) -> None:
        Simulated(line.settings).advance(40)
        ingest(line.lake, line.ledger, Sources(line.settings), line.settings, ["SIM02"], later(days=60))

    killed, alone = (copied(featured, tmp_path / name, learning=QUICK) for name in ("killed", "alone"))
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "log_candidate", _die)
        with pytest.raises(KeyboardInterrupt):
            killed.train(["SIM01"])
    first = killed.predictions()
    for line in (killed, alone):
        traded_on(line)
        assert line.train(["SIM01"], later(days=60)).states() == {"trained": 1}
    assert set(first["training_id"]) == set(killed.predictions()["training_id"])
    assert not first.equals(killed.predictions())
    assert killed.predictions().equals(alone.predictions())


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_two_trainings_of_one_cell_at_once_make_one_version(featured: Path, tmp_path: Path) -> None:
    line = copied(featured, tmp_path / "home", learning=QUICK)
    line.registry.prepare()
    line.ledger.migrate()
    start = Barrier(2)

    def train(_: int) -> None:
        own = Line(line.settings.home, learning=QUICK)
        own.registry.prepare()
        start.wait(60)
        own.train(["SIM01"])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, range(2)))
    assert line.versions() == {"SIM01.all": ["1"]}
    assert line.predictions().is_duplicated().sum() == 0


def test_a_symbol_that_gives_nothing_to_train_on_is_recorded_and_not_asked_for_again(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = copied(featured, tmp_path / "home", learning=QUICK)
    impossible(line, "SIM01")
    nothing = lambda rows: usable(rows).filter(pl.col("symbol") != "SIM02")  # noqa: E731
    monkeypatch.setattr("alpha_assets.stations.train.usable", nothing)
    assert {"SIM01", "SIM02"} <= set(wanted(line, NOW))
    states = line.train(regimes=REGIMES).states()
    assert (states["held"], states["empty"]) == (len(REGIMES), len(REGIMES))
    assert {"trained", "refused"} <= set(states)
    candidates = line.ledger.candidates()
    assert candidates["SIM01", "all"]["state"] == "held"
    assert "dividend" in candidates["SIM01", "all"]["reason"]
    assert candidates["SIM02", "all"]["state"] == "empty"
    assert wanted(line, later(days=30)) == []


def test_a_held_symbol_keeps_its_version_and_has_it_again_once_it_can_be_trained(trained: Path, tmp_path: Path) -> None:
    line = copied(trained, tmp_path / "home")
    before, said = line.ledger.candidates()["SIM01", "all"], line.lake.version("predictions")
    impossible(line, "SIM01")
    assert line.train(["SIM01"], later(days=5)).states() == {"held": 1}
    held = line.ledger.candidates()["SIM01", "all"]
    assert {**held, "state": before["state"], "reason": before["reason"]} == before, "its version is as old as it was"
    action = line.lake.read("actions", symbols=["SIM01"])
    wrong = action.filter(pl.col("value") == 1e6).select("symbol", "ex_date", "kind")
    line.lake.replace("actions", action.filter(pl.col("value") != 1e6), ["SIM01"], gone=wrong)
    assert line.train(["SIM01"], later(days=9)).states() == {"unchanged": 1}
    assert line.ledger.candidates()["SIM01", "all"] == before
    assert line.lake.version("predictions") == said, "what a version said is never written anew"


def test_a_candidate_that_new_bars_leave_as_it_was_is_not_asked_for_until_there_are_more(
    trained: Path, tmp_path: Path
) -> None:
    line = copied(trained, tmp_path / "home")
    state, before = line.ledger.states()["SIM01"], line.ledger.candidates()["SIM01", "all"]
    others = [{**row, "regime": regime} for row in line.ledger.candidates().values() for regime in REGIMES[1:]]
    line.ledger.note_candidates([*others, {**before, "bars": state["bars"] - 10}])
    assert wanted(line, later(days=30)) == ["SIM01"]
    assert line.train(["SIM01"], later(days=30)).states() == {"unchanged": 1}
    assert line.ledger.candidates()["SIM01", "all"] == before
    assert wanted(line, later(days=30)) == []


def test_age_is_counted_in_all_bars_of_a_symbol_of_which_a_fit_sees_few(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = replace(QUICK, recency_half_life=100, max_rows=300, min_rows=50, min_labels=10)
    line = copied(featured, tmp_path / "home", learning=learning)
    bars = usable(labelled_rows(line.lake, line.settings, calendars_of(line.ledger), ["SIM01"])[0])["timestamp"]
    place = {at: number for number, at in enumerate(bars)}
    seen: list[tuple[pl.DataFrame, pl.Series]] = []

    def refused(rows: pl.DataFrame, *_: Any, stamps: pl.Series, **__: Any) -> Refusal:
        seen.append((rows, stamps))
        return Refusal("enough was seen")

    monkeypatch.setattr("alpha_assets.stations.train.learn", refused)
    assert line.train(["SIM01"], regimes=("all", "sideways")).states() == {"refused": 2}
    assert len(seen) == 2
    for rows, stamps in seen:
        assert rows.height <= learning.max_rows < len(bars)
        ages = np.array([place[rows["timestamp"][-1]] - place[at] for at in rows["timestamp"]])
        np.testing.assert_allclose(recency(rows, stamps, 100), 0.5 ** (ages / 100))


def test_rows_that_weigh_otherwise_by_the_bars_between_them_are_another_training(trained: Path, tmp_path: Path) -> None:
    line = copied(trained, tmp_path / "home")
    rows = usable(labelled_rows(line.lake, line.settings, calendars_of(line.ledger), ["SIM01"])[0])
    few, recipe = rows.gather_every(4), recipe_of(line.settings)
    for half_life, trainings in ((0, 1), (100, 2)):
        how = replace(LIGHT, recency_half_life=half_life)
        made = (task_of("all|SIM01", few, "all", recipe, how, stamps=of["timestamp"]) for of in (few, rows))
        assert len({task.identity for task in made}) == trainings


def test_a_market_without_volume_can_be_trained_on_from_the_warm_up_on(tmp_path: Path) -> None:
    market = simulated(1, date(2018, 1, 2), date(2020, 6, 30), split_rate=0.0, dividend_share=0.0)
    market.bars = market.bars.with_columns(volume=pl.lit(0.0))
    house = House(tmp_path, market, learning=QUICK)
    house.refresh(market.sessions()[-1])
    featurise(house.lake, house.ledger, house.settings, house.symbols)
    rows, _ = labelled_rows(house.lake, house.settings, dict.fromkeys(house.symbols, "XNYS"), house.symbols)
    assert rows["volume_ratio_20"].null_count() == rows.height
    assert usable(rows)["timestamp"][0] == rows["timestamp"][FEATURES.blank]
    cells = [(symbol, "all") for symbol in house.symbols]
    report = train(house.lake, house.ledger, Registry(house.settings), house.settings, cells, NOW)
    assert report.states() == {"trained": 1}
    known = house.ledger.candidates()[house.symbols[0], "all"]
    house.ledger.decide([promotion(known)])
    said = signal(house.lake, house.ledger, Registry(house.settings), house.settings, house.symbols, NOW)
    assert "P(up)" in said.partitions[house.symbols[0]]["reason"]


def promotion(candidate: dict[str, Any]) -> dict[str, Any]:
    names = ("symbol", "regime", "training_id", "features_set")
    models = ("model_name", "model_version", "model_location", "model_digest")
    row = {name: candidate[name] for name in names + models}
    told: dict[str, Any] = {
        "verdict": "promote",
        "reason": "because",
        "evidence": {},
        "previous_version": None,
        "dagster_run": None,
    }
    return {**row, **told, "seq": 1, "decided_at": NOW}

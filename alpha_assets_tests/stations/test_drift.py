"""Drift of the versions of a home: found where the features moved, confirmed where the loss did, remembered for all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.drift import Calibration, calibrate
from alpha_assets.quant.parameters import DriftParameters
from alpha_assets.quant.schema import empty
from alpha_assets.stations.base import Report
from alpha_assets.stations.decisions import row_of
from alpha_assets.stations.drift import (
    CONFIRMED,
    DRIFTED,
    RULES,
    confirmed_symbols,
    confirmed_verdict,
    drift,
    drift_verdict,
    on_record,
    rule_of,
)
from alpha_assets.stations.sets import recipe_of
from alpha_assets.stations.train import ALL
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets.stores.registry import DRIFT
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later
from alpha_assets_tests.stations.market import QUICK

pytestmark = pytest.mark.xdist_group("line")

#: Four symbols of six years are worth too little for windows of 120 rows.
SHORT = DriftParameters(stride=10)


@pytest.fixture
def line(trained: Path, tmp_path: Path) -> Line:
    return copied(trained, tmp_path / "home", drift=SHORT)


def look(line: Line, *symbols: str, now: Any = NOW) -> Report:
    return drift(line.lake, line.ledger, line.registry, line.settings, symbols or SYMBOLS, now, {"asset": "promoted"})


def moved(line: Line, symbol: str, rows: int = SHORT.pair) -> pl.DataFrame:
    """Store features far from all that was trained on in the newest rows of a symbol; what was there before."""
    table = recipe_of(line.settings).table
    held = line.lake.read(table, symbols=[symbol])
    newest = pl.int_range(pl.len()) >= pl.len() - rows
    risen = pl.col(recipe_of(line.settings).columns)
    columns = pl.when(newest).then(risen + 100).otherwise(risen)
    line.lake.replace(table, held.with_columns(columns), [symbol])
    return held


def said_live(line: Line, symbol: str, right: float, seed: int = 1) -> None:
    """Store live views of the newest rows whose direction is right that often."""
    candidate = line.ledger.candidates()[symbol, ALL]
    bars = line.lake.read("bars", symbols=[symbol]).tail(SHORT.pair)
    rises = (bars["open"].shift(-2) > bars["open"].shift(-1)).fill_null(False).to_numpy()
    agrees = np.random.default_rng(seed).random(bars.height) < right
    views = bars.select(
        "symbol",
        "timestamp",
        regime=pl.lit(ALL),
        training_id=pl.lit(candidate["training_id"]),
        origin=pl.lit("live"),
        p_up=pl.Series(np.where(rises == agrees, 0.75, 0.25)),
        made_at=pl.lit(NOW),
    )
    line.lake.append("predictions", pl.concat([empty(PREDICTIONS), views], how="diagonal_relaxed"))


def looks(line: Line) -> list[Any]:
    client = line.registry.client
    return client.search_runs([client.get_experiment_by_name(DRIFT).experiment_id])


def test_features_that_moved_are_found_in_that_symbol_alone_and_named(line: Line) -> None:
    before = look(line)
    assert set(before.states()) <= {"undrifted", "drifted"}
    assert before.partitions["all|SIM01"]["state"] == "undrifted"
    moved(line, "SIM01")
    report = look(line)
    found = report.partitions.pop("all|SIM01")
    assert found["state"] == "drifted"
    assert found["reason"].startswith("SIM01: drift, ")
    assert "SIM01: drift is not confirmed, 0 live and " in found["reason"]
    assert found["flagged"] >= found["needed"]
    states = {key: figures["state"] for key, figures in report.partitions.items()}
    assert states == {key: before.partitions[key]["state"] for key in states}
    verdict = drift_verdict(line.ledger)
    assert not verdict.passed
    assert any(sample.startswith("SIM01 all 2023-12-") for sample in verdict.sample)
    assert confirmed_verdict(line.ledger).passed


def test_what_is_healed_is_forgotten(line: Line) -> None:
    before = moved(line, "SIM01")
    look(line)
    line.lake.replace(recipe_of(line.settings).table, before, ["SIM01"])
    look(line, "SIM01")
    assert not any(row["symbol"] == "SIM01" for row in line.ledger.findings(RULES))


def test_one_window_that_moved_is_no_drift_yet(line: Line) -> None:
    moved(line, "SIM02", rows=SHORT.window)
    assert look(line).partitions["all|SIM02"]["state"] == "undrifted"


def test_drift_is_confirmed_by_live_views_that_lose_and_not_by_such_that_win(line: Line, tmp_path: Path) -> None:
    moved(line, "SIM01")
    other = copied(line.settings.home, tmp_path / "other", drift=SHORT)
    said_live(line, "SIM01", right=0.1)
    said_live(other, "SIM01", right=0.9)
    assert look(line).partitions["all|SIM01"]["state"] == "confirmed"
    assert look(other).partitions["all|SIM01"]["state"] == "drifted"
    assert (confirmed_symbols(line.ledger), confirmed_symbols(other.ledger)) == ({"SIM01"}, set())
    kept = {row["rule"] for row in line.ledger.findings(RULES) if row["symbol"] == "SIM01"}
    assert kept == {rule_of(DRIFTED, ALL), rule_of(CONFIRMED, ALL)}
    assert confirmed_verdict(line.ledger).sentence == "1 drifted models lose more than their training led to expect"


def test_what_a_version_of_another_horizon_said_confirms_nothing(line: Line) -> None:
    moved(line, "SIM01")
    said_live(line, "SIM01", right=0.1)
    elsewhere = Line(line.settings.home, learning=replace(QUICK, horizon=5), drift=SHORT)
    assert look(elsewhere).partitions["all|SIM01"]["state"] == "drifted"
    assert look(line).partitions["all|SIM01"]["state"] == "confirmed"


def serve(line: Line, symbol: str, speaker: str | None) -> None:
    """Bring the candidate of a symbol into production by a person's word, with whoever speaks for it."""
    row = row_of(
        line.ledger.candidates()[symbol, ALL],
        (symbol, ALL),
        verdict="promote",
        stage="production",
        reason="served",
        last=None,
        production=None,
        who="ann",
        evidence={},
        now=NOW,
        speaker=speaker,
    )
    line.ledger.decide([row])


@pytest.mark.parametrize(("speaker", "state"), [("linear", "confirmed"), (None, "drifted")])
def test_live_views_are_held_against_what_the_voice_that_speaks_said_out_of_fold(
    line: Line, speaker: str | None, state: str
) -> None:
    """Its trees lost as much out of fold as is lost now; its linear models did not."""
    serve(line, "SIM01", speaker)
    bars = line.lake.read("bars", symbols=["SIM01"]).sort("timestamp")
    rises = bars.select("symbol", "timestamp", rises=pl.col("open").shift(-2) > pl.col("open").shift(-1))
    said = line.lake.read("predictions", symbols=["SIM01"]).join(rises, on=["symbol", "timestamp"], how="left")
    wrong = said.with_columns(p_up=pl.when("rises").then(0.25).otherwise(0.75))
    line.lake.replace("predictions", wrong.select(PREDICTIONS.keys()), ["SIM01"])
    moved(line, "SIM01")
    said_live(line, "SIM01", right=0.1)
    assert look(line, "SIM01").partitions["all|SIM01"]["state"] == state


def test_live_views_that_lose_without_drift_confirm_nothing(line: Line) -> None:
    said_live(line, "SIM01", right=0.1)
    assert look(line).partitions["all|SIM01"]["state"] == "undrifted"
    assert confirmed_symbols(line.ledger) == set()


def test_who_is_asked_about_changes_no_threshold(line: Line) -> None:
    moved(line, "SIM01")
    together = look(line)
    for symbol in ("SIM01", "SIM04"):
        alone = look(line, symbol)
        assert alone.partitions == {f"all|{symbol}": together.partitions[f"all|{symbol}"]}


def test_a_look_at_one_symbol_forgets_nothing_of_another_and_the_retired_are_not_reported(line: Line) -> None:
    moved(line, "SIM01")
    look(line)
    look(line, "SIM02")
    assert any(sample.startswith("SIM01 ") for sample in drift_verdict(line.ledger).sample)
    line.ledger.retire(["SIM01"], NOW)
    assert not any(sample.startswith("SIM01 ") for sample in drift_verdict(line.ledger).sample)


def test_the_same_look_again_doubles_nothing_and_another_is_a_run_of_its_own(line: Line) -> None:
    look(line)
    once = line.ledger.findings(RULES)
    look(line)
    assert (line.ledger.findings(RULES), len(looks(line))) == (once, 1)
    moved(line, "SIM01")
    look(line, now=later(days=1))
    newest = max(looks(line), key=lambda run: run.info.start_time)
    assert len(looks(line)) == 2
    assert newest.data.tags["asset"] == "promoted"
    assert newest.data.metrics["drifted"] >= 1


def test_too_little_reference_is_told_and_is_no_health(trained: Path, tmp_path: Path) -> None:
    shipped = copied(trained, tmp_path / "home")
    report = look(shipped)
    assert set(report.states()) == {"untold"}
    assert "too little reference" in report.partitions["all|SIM01"]["reason"]
    assert "flagged" not in report.partitions["all|SIM01"]
    verdict = drift_verdict(shipped.ledger)
    assert verdict.passed
    assert verdict.sentence.endswith("of 4 nothing can be told yet")


@pytest.mark.parametrize("told", [True, False])
def test_the_reference_ends_where_the_training_did_which_saw_the_vault_too(
    featured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, told: bool
) -> None:
    """A version of before that was said, or whose page is gone, is held against what it predicted out of fold."""
    line = copied(featured, tmp_path / "home", learning=replace(QUICK, vault_share=0.3), drift=SHORT)
    assert line.train(["SIM01"]).states() == {"trained": 1}
    if not told:
        line.registry.client.delete_model_version_tag("SIM01.all", "1", "trained_until")
    references = []

    def noting(reference: pl.DataFrame, *rest: Any) -> Calibration:
        references.append(reference)
        return calibrate(reference, *rest)

    monkeypatch.setattr("alpha_assets.stations.drift.calibrate", noting)
    look(line, "SIM01")
    stamps = line.lake.read(recipe_of(line.settings).table, symbols=["SIM01"])["timestamp"]
    before_the_windows, predicted = stamps[-SHORT.pair - 1], line.predictions()["timestamp"].max()
    assert predicted < before_the_windows
    assert references[0]["timestamp"].max() == (before_the_windows if told else predicted)


def test_a_symbol_without_a_version_and_one_whose_features_are_no_longer_kept_stop_no_other(line: Line) -> None:
    candidates = line.ledger.candidates()
    old = {**candidates["SIM02", ALL], "features_set": "features/core-000000000000"}
    line.ledger.note_candidates([old, {**candidates["SIM04", ALL], "model_version": None}])
    states = {key: figures["state"] for key, figures in look(line).partitions.items()}
    assert (states["all|SIM02"], states["all|SIM04"]) == ("unreadable", "no_model")
    assert {"all|SIM01", "all|SIM03"} <= states.keys()


def test_the_version_in_production_is_looked_at_before_a_newer_candidate(promoted: Path, tmp_path: Path) -> None:
    line = copied(promoted, tmp_path / "home", drift=SHORT)
    ((symbol, _), serving), *_ = line.ledger.production().items()
    line.ledger.note_candidates([{**line.ledger.candidates()[symbol, ALL], "model_version": "99"}])
    assert look(line, symbol).partitions[f"all|{symbol}"]["version"] == serving["model_version"] != "99"


def test_the_gate_shows_a_drift_and_turns_down_only_the_version_whose_own_loss_confirms_it(
    line: Line, tmp_path: Path
) -> None:
    plain = copied(line.settings.home, tmp_path / "plain", drift=SHORT).promote()
    assert plain.partitions["SIM02"]["state"] == "promoted"
    moved(line, "SIM02")
    losing = copied(line.settings.home, tmp_path / "losing", drift=SHORT)
    look(line)
    assert line.promote().partitions == plain.partitions
    assert "SIM02" in drift_told(line)["sentence"]
    assert drift_told(line)["sentence"].endswith("the realised loss confirms none")
    said_live(losing, "SIM02", right=0.1)
    look(losing)
    turned_down = losing.promote().partitions
    assert turned_down.pop("SIM02")["state"] == "rejected"
    assert turned_down == {symbol: told for symbol, told in plain.partitions.items() if symbol != "SIM02"}
    reason = losing.ledger.decisions("SIM02")[-1]["reason"]
    assert reason == "rejected: SIM02: its features have drifted, seen on 2024-01-02, and its realised loss confirms it"
    assert drift_told(losing)["sentence"].endswith("the realised loss confirms 1")


def drift_told(line: Line) -> dict[str, Any]:
    lines = line.ledger.decisions("SIM02")[-1]["evidence"]["pool"]["lines"]
    return next(told for told in lines if told["name"] == "drift")


def test_what_is_on_record_of_another_version_or_of_before_turns_nobody_down(tmp_path: Path) -> None:
    ledger = Line(tmp_path / "home").ledger
    rules = [rule_of(what, ALL) for what in (DRIFTED, CONFIRMED)]
    seen = [
        {"symbol": symbol, "rule": rule, "day": NOW.date(), "seen_at": NOW}
        for symbol in ("OWN", "OTHER", "BEFORE", "AGO", "GONE")
        for rule in rules
    ]
    ledger.note_findings({}, rules, [*seen, {**seen[0], "symbol": "ELSEWHERE", "rule": rule_of(DRIFTED, "volatile")}])
    names = ("OWN", "OTHER", "BEFORE", "AGO", "ELSEWHERE")
    candidates: dict[str, Any] = {name: {"training_id": "new", "trained_at": later(days=-1)} for name in names}
    candidates["AGO"]["trained_at"] = later(days=1)
    production = {
        ("OTHER", ALL): {"training_id": "old", "decided_at": later(days=-9)},
        ("BEFORE", ALL): {"training_id": "old", "decided_at": later(days=1)},
    }
    found = on_record(ledger, ALL, candidates, production)
    assert {name: (one.alarmed, one.confirmed) for name, one in found.items()} == {
        "OWN": (True, True),
        "OTHER": (True, False),
    }
    assert found["OTHER"].sentence.startswith("OTHER: the features of the version in production have drifted, seen on")

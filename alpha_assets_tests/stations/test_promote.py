"""The gate's decisions: one INSERT, then MLflow in line with it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant import gate
from alpha_assets.quant.parameters import FeatureParameters, GateParameters, PromotionParameters, RegimeParameters
from alpha_assets.stations import projection
from alpha_assets.stations.decisions import DecisionRefused, promote_version, reject_version, roll_back, row_of
from alpha_assets.stations.dossier import ml_profile, training_log, version_rows
from alpha_assets.stations.inspect_models import aliases_verdict
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.promote import promote, reconcile
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.train import labelled_rows, pool_name
from alpha_assets.stations.trials import family
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets.stores.ledger import DecidedElsewhere, Ledger
from alpha_assets.stores.registry import PICTURE, PROMOTION, WHOLE, Registry
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, impossible, later

pytestmark = pytest.mark.xdist_group("line")


@pytest.fixture
def line(trained: Path, tmp_path: Path) -> Line:
    return copied(trained, tmp_path / "home")


def test_on_a_planted_market_some_are_promoted_and_mlflow_shows_them(line: Line) -> None:
    report = line.promote(run="run-7")
    assert set(report.states()) == {"promoted", "rejected"}
    chosen = report.in_state("promoted")
    assert {"SIM01", "SIM02"} >= set(chosen)
    assert set(line.ledger.production()) == {(symbol, "all") for symbol in chosen}
    assert line.registry.production_versions() == {f"{symbol}.all": "1" for symbol in chosen}
    for symbol in chosen:
        version = line.registry.client.get_model_version(f"{symbol}.all", "1")
        assert version.tags["promoted_because"] == report.partitions[symbol]["reason"]
        assert version.tags["state"] == "production"
        assert "[Dagster run run-7](http://127.0.0.1:3000/runs/run-7)" in version.description
        assert version.description.startswith(f"**promote** for {symbol} all by gate at ")
    (whole,) = decided_runs(line, f"tags.part = '{WHOLE}'")
    page = whole.data.tags["mlflow.note.content"]
    counts = Counter(f"{row['verdict']} ({row['stage']})" for row in line.ledger.decisions())
    assert page.startswith(", ".join(f"{count} {what}" for what, count in sorted(counts.items())) + ".")
    for part in ("[Dagster run run-7]", "**all**: promoted: ", "| skill | ", "| deflated_sharpe | "):
        assert part in page
    assert {row["dagster_run"] for row in line.ledger.decisions()} == {"run-7"}
    (seconds,) = {row["seconds"] for row in line.ledger.decisions()}
    assert 0 < seconds == whole.data.metrics["seconds"]
    serves = {row["evidence"]["pool"]["serves"] for row in line.ledger.decisions()}
    assert {row["speaker"] for row in line.ledger.decisions()} == {
        None if one == "candidate" else one for one in serves
    }
    assert line.lake.read("predictions")["linear_expected_return"].is_finite().all(), "or its money has no figure"
    assert ("gate all", "FINISHED") in line.runs()
    for symbol in chosen:
        assert line.pictures(f"promote {symbol}.all 1") == [PICTURE]


def test_staging_names_a_version_until_something_is_decided_on_it(line: Line) -> None:
    chosen, *others = SYMBOLS
    assert staging(line) == {f"{symbol}.all": "1" for symbol in SYMBOLS}
    line.promote([chosen])
    assert staging(line) == {f"{symbol}.all": "1" for symbol in others}
    line.promote()
    assert staging(line) == {}
    line.registry.client.set_registered_model_alias(f"{chosen}.all", "staging", "1")
    assert reconcile(line.ledger, line.registry) == 1
    assert staging(line) == {}
    assert reconcile(line.ledger, line.registry) == 0


def staging(line: Line) -> dict[str, str]:
    named = line.registry.aliases().items()
    return {name: aliases["staging"] for name, aliases in named if "staging" in aliases}


@pytest.mark.parametrize(("serves", "speaker"), [("linear", "linear"), ("candidate", None)])
def test_whose_evidence_was_judged_is_who_speaks(
    line: Line, serves: str, speaker: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gate.judge

    def judged(*evidence: Any, **rest: Any) -> gate.Judgement:
        judgement = whole(*evidence, **rest)
        return replace(judgement, pool=replace(judgement.pool, serves=serves))

    monkeypatch.setattr(gate, "judge", judged)
    line.promote()
    assert {row["speaker"] for row in line.ledger.decisions()} == {speaker}
    for name, number in line.registry.production_versions().items():
        assert line.registry.client.get_model_version(name, number).tags.get("speaker") == speaker


def test_on_a_market_without_an_edge_nothing_is_promoted(edgeless: Line) -> None:
    report = edgeless.promote()
    assert report.states() == {"rejected": len(SYMBOLS)}
    assert edgeless.ledger.production() == {}
    assert edgeless.registry.production_versions() == {}
    assert all(row["reason"] for row in edgeless.ledger.decisions())


def test_a_second_look_at_the_same_candidates_changes_nothing(line: Line) -> None:
    line.promote()
    before = (line.ledger.decisions(), line.runs())
    report = line.promote(now=later(days=1))
    assert report.states() == {"unchanged": len(SYMBOLS)}
    assert report.partitions["SIM01"]["reason"] == before[0][0]["reason"]
    assert (line.ledger.decisions(), line.runs()) == before


@pytest.mark.slow
def test_the_evidence_is_that_of_all_symbols_even_where_the_run_holds_one(
    line: Line, trained: Path, tmp_path: Path
) -> None:
    together = copied(trained, tmp_path / "together")
    together.promote()
    for symbol in SYMBOLS:
        assert set(line.promote([symbol]).partitions) == {symbol}
    evidence = {row["symbol"]: row["evidence"] for row in line.ledger.decisions()}
    assert evidence["SIM01"]["pool"]["symbols"] == len(SYMBOLS)
    assert evidence == {row["symbol"]: row["evidence"] for row in together.ledger.decisions()}


def test_the_same_evidence_looked_at_twice_spends_one_attempt_and_new_evidence_another(line: Line) -> None:
    line.promote(["SIM01"])
    line.promote(["SIM02"], later(days=1))
    retrained = Line(line.settings.home, learning=replace(LIGHT, seed=1))
    retrained.train(["SIM01"], later(days=2))
    retrained.promote(["SIM01"], later(days=2))
    assert [(row["symbol"], row["seq"], row["evidence"]["pool"]["attempt"]) for row in line.ledger.decisions()] == [
        ("SIM01", 1, 1),
        ("SIM02", 1, 1),
        ("SIM01", 2, 2),
    ]


@pytest.mark.slow
def test_decisions_are_only_ever_appended_and_the_former_version_becomes_previous(line: Line) -> None:
    line.promote()
    first = line.ledger.decisions()
    knobs = {"learning": replace(LIGHT, seed=1), "promotion": PromotionParameters(shadow_bars=0)}
    retrained = Line(line.settings.home, **knobs)
    retrained.train(now=later(days=1))
    report = retrained.promote(now=later(days=1))
    assert line.ledger.decisions()[: len(first)] == first
    assert [row["seq"] for row in line.ledger.decisions()] == [1] * len(SYMBOLS) + [2] * len(SYMBOLS)
    again = [symbol for symbol in report.in_state("promoted") if (symbol, "all") in old_production(first)]
    assert again, "the market's edge is planted: the second training finds it too"
    for symbol in again:
        aliases = line.registry.client.get_registered_model(f"{symbol}.all").aliases
        assert (str(aliases["production"]), str(aliases["previous"])) == ("2", "1")
        assert line.ledger.production()[symbol, "all"]["previous_version"] == "1"


def old_production(decisions: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["symbol"], row["regime"]) for row in decisions if row["verdict"] == "promote"}


def test_a_symbol_without_a_candidate_is_told_so(tmp_path: Path, featured: Path) -> None:
    line = copied(featured, tmp_path / "home")
    report = line.promote(["SIM01"])
    assert report.partitions["SIM01"] == {"state": "no_candidate", "reason": "never trained: alpha-assets train"}
    assert line.ledger.decisions() == []


def test_a_quarantined_symbol_without_a_candidate_is_told_the_cause(tmp_path: Path, featured: Path) -> None:
    line = copied(featured, tmp_path / "home")
    line.ledger.note_state([{"symbol": "SIM01", "quarantine_cause": "outage", "quarantine_reason": "no answer"}])
    report = line.promote(["SIM01", "NEW"])
    reasons = {symbol: figures["reason"] for symbol, figures in report.partitions.items()}
    assert reasons == {"SIM01": "quarantined: outage", "NEW": "no bars are held yet: refresh the symbol"}


CELLS = [(symbol, "all") for symbol in SYMBOLS]


class Rival(Ledger):
    """A ledger in which somebody else decides just before we do."""

    def decide(self, rows: Any) -> None:
        super().decide([{**row, "verdict": "reject", "reason": "the rival's"} for row in rows[:1]])
        super().decide(rows)


def test_of_two_who_decide_at_once_the_second_is_told_and_changes_nothing(line: Line) -> None:
    with pytest.raises(DecidedElsewhere, match="SIM01"):
        promote(line.lake, Rival(line.settings), line.registry, line.settings, CELLS, NOW)
    assert [row["reason"] for row in line.ledger.decisions()] == ["the rival's"]
    assert line.registry.production_versions() == {}


def test_of_two_passes_that_look_at_once_the_second_does_not_decide_again_what_the_first_has(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ledger.decided

    def meanwhile(ledger: Ledger) -> Any:
        found = whole(ledger)
        with monkeypatch.context() as first:
            first.setattr(Ledger, "decided", whole)
            line.promote()
        return found

    with monkeypatch.context() as second:
        second.setattr(Ledger, "decided", meanwhile)
        with pytest.raises(DecidedElsewhere, match="SIM01"):
            promote(line.lake, Ledger(line.settings), line.registry, line.settings, CELLS, later(days=1))
    assert [row["seq"] for row in line.ledger.decisions()] == [1] * len(SYMBOLS)


class Killed(BaseException):
    """As final as a signal."""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["aliases", "project", "open_sitting", "log_decisions"])
def test_a_crash_between_the_decision_and_the_alias_is_healed_by_the_next_reconcile(
    line: Line, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Registry, moment, die)
        with pytest.raises(Killed):
            line.promote()
    production = {row["model_name"]: row["model_version"] for row in line.ledger.production().values()}
    assert production
    assert whole_runs(line) == []
    reconcile(line.ledger, line.registry)
    assert line.registry.production_versions() == production
    assert reconcile(line.ledger, line.registry) == 0
    assert whole_runs(line) == ["gate all"]
    names = [name for name, status in line.runs() if name.startswith(("gate", "promote")) and status == "FINISHED"]
    assert names == ["gate all", *(f"promote {name} {number}" for name, number in sorted(production.items()))]
    rejected = [row for row in line.ledger.decisions() if row["verdict"] == "reject"]
    assert rejected
    for row in rejected:
        tags = line.registry.client.get_model_version(row["model_name"], row["model_version"]).tags
        assert tags["state"] == "failed"


def whole_runs(line: Line) -> list[str]:
    """The finished runs that mirror a sitting."""
    return [run.info.run_name for run in decided_runs(line, f"tags.part = '{WHOLE}' AND status = 'FINISHED'")]


def decided_runs(line: Line, query: str = "") -> list[Any]:
    experiment = line.registry.client.get_experiment_by_name(PROMOTION)
    assert experiment is not None
    return list(line.registry.client.search_runs([experiment.experiment_id], query))


@pytest.mark.slow
def test_only_the_sittings_without_a_finished_run_are_mirrored_each_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Killed

    line.promote(["SIM01"], run="first")
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "log_decisions", die)
        with pytest.raises(Killed):
            line.promote(["SIM02", "SIM03"], later(days=1), run="second")
    line.promote(["SIM04"], later(days=2), run="third")
    line.promote(now=later(days=3))
    runs = decided_runs(line, f"tags.part = '{WHOLE}'")
    figures = {run.data.tags["decided_by"]: run.data.metrics for run in runs}
    assert len(runs) == 3
    assert {name: told["judged"] for name, told in figures.items()} == {"first": 1, "second": 2, "third": 1}
    assert figures["second"]["attempt"] == 1
    assert any(name.endswith("_figure") for name in figures["second"])


def test_however_many_sittings_mlflow_has_missed_it_follows_them_all(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = line.ledger.candidates()["SIM01", "all"]
    named = ("symbol", "regime", "training_id", "features_set", "model_name", "model_version")
    about = {name: candidate[name] for name in named}
    monkeypatch.setattr(projection, "SITTINGS", 2)
    for seq in range(1, 8):
        row = {**about, "seq": seq, "verdict": "hold", "reason": "wait", "decided_at": later(days=seq)}
        line.ledger.decide([row])
    reconcile(line.ledger, line.registry)
    assert len(decided_runs(line, f"tags.part = '{WHOLE}'")) == 7
    reconcile(line.ledger, line.registry)
    assert len(decided_runs(line, f"tags.part = '{WHOLE}'")) == 7


def test_a_symbol_without_evidence_is_held_without_a_decision_and_the_others_are_judged(line: Line) -> None:
    impossible(line, "SIM04")
    report = line.promote()
    assert report.partitions["SIM04"]["state"] == "held"
    assert "dividend" in report.partitions["SIM04"]["reason"]
    assert {row["symbol"] for row in line.ledger.decisions()} == set(SYMBOLS) - {"SIM04"}
    assert line.promote().states() == {"unchanged": 3, "held": 1}


def test_where_no_symbol_has_evidence_all_are_held(line: Line) -> None:
    for symbol in SYMBOLS:
        impossible(line, symbol)
    assert line.promote().states() == {"held": len(SYMBOLS)}
    assert line.ledger.decisions() == []


def test_a_candidate_of_a_feature_set_that_is_no_longer_kept_is_held(line: Line) -> None:
    old = line.ledger.candidates()["SIM01", "all"]
    line.ledger.note_candidates([{**old, "features_set": "features/old-1"}])
    report = line.promote()
    assert report.partitions["SIM01"]["state"] == "held"
    assert "features/old-1, which is no longer kept" in report.partitions["SIM01"]["reason"]
    assert {row["symbol"] for row in line.ledger.decisions()} == set(SYMBOLS) - {"SIM01"}


@pytest.mark.parametrize("other", [{"horizon": 5}, {"learner": "linear"}, {"seed": 1}])
def test_candidates_of_other_learning_are_no_part_of_the_evidence_and_are_held(
    line: Line, other: dict[str, Any]
) -> None:
    changed = Line(line.settings.home, learning=replace(LIGHT, **other))
    changed.train(["SIM01"], later(days=1))
    report = changed.promote(now=later(days=1))
    assert {symbol for symbol, told in report.partitions.items() if told["state"] == "held"} == {*SYMBOLS} - {"SIM01"}
    assert "was trained by other settings of ALPHA_LEARNING" in report.partitions["SIM02"]["reason"]
    (decision,) = changed.ledger.decisions()
    assert (decision["symbol"], decision["evidence"]["pool"]["symbols"]) == ("SIM01", 1)
    own = changed.lake.read("predictions", symbols=["SIM01"])
    of_training = own.filter(pl.col("training_id") == decision["training_id"])
    assert decision["evidence"]["window"]["rows"] == of_training.height
    line.promote(["SIM02"], now=later(days=2))
    assert line.ledger.decisions()[-1]["evidence"]["pool"]["symbols"] == len(SYMBOLS) - 1, "nor the other way round"


def test_a_candidate_of_before_its_configuration_was_remembered_is_judged_by_its_feature_set(line: Line) -> None:
    known = line.ledger.candidates()
    assert all(row["configuration"] for row in known.values())
    line.ledger.note_candidates([{**row, "configuration": None} for row in known.values()])
    line.promote(["SIM01"])
    (decision,) = line.ledger.decisions()
    assert decision["evidence"]["pool"]["symbols"] == len(SYMBOLS)


#: What is tested is who is judged, not how well these few symbols do.
SKILLED = GateParameters(deciding_lines=("skill", "pooled"))


def beside_a_pool(trained: Path, home: Path, sees: float) -> Line:
    """A line whose symbols have fits of their own, and a pooled version that saw so much of what followed."""
    line = copied(trained, home, gate=SKILLED)
    train_pools(line.lake, line.ledger, line.registry, line.settings, NOW, regimes=("all",))
    rows, _ = labelled_rows(line.lake, line.settings, calendars_of(line.ledger), SYMBOLS)
    followed = rows.select("symbol", "timestamp", pl.col("scaled_return").fill_null(0.0))
    said = line.lake.read("predictions").join(followed, on=["symbol", "timestamp"], how="left")
    noise = pl.Series(np.random.default_rng(1).standard_normal(said.height))
    of_pool = pl.when(pl.col("training_id") == pooled(line)["training_id"])
    made = of_pool.then(sees * pl.col("scaled_return") + noise)
    said = said.with_columns(score=made.otherwise("score"), linear_score=made.otherwise("linear_score"))
    line.lake.replace("predictions", said.select(PREDICTIONS.keys()), SYMBOLS)
    return line


def pooled(line: Line) -> dict[str, Any]:
    """What a decision on the pooled version says of it."""
    version, tags = line.registry.newest(pool_name("all")) or pytest.fail("no pool")
    told = {"model_name": version.name, "model_version": version.number, "training_id": tags["training_id"]}
    return {**told, "model_location": version.location, "model_digest": version.digest}


def lines_of(decision: dict[str, Any]) -> dict[str, Any]:
    return {told["name"]: told for told in decision["evidence"]["pool"]["lines"]}


def test_where_own_fits_do_not_beat_the_pooled_model_its_version_is_judged_and_named_in_their_place(
    trained: Path, tmp_path: Path
) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=0.4)
    report = line.promote()
    assert "promoted" in report.states()
    assert {told["model"] for told in report.partitions.values()} == {"all.pooled"}
    said = report.totals["pools"]["all"]
    assert said.endswith(f"; all.pooled version 1 stands in for the own fits of {len(SYMBOLS)} symbols")
    version = pooled(line)
    decisions = line.ledger.decisions()
    assert {row["symbol"] for row in decisions} == set(SYMBOLS)
    of_pool = line.predictions().filter(pl.col("training_id") == version["training_id"])
    for row in decisions:
        assert {name: row[name] for name in version} == version
        assert "all.pooled version 1 stands in for its own fit: lower bound of TS-IC less that of the" in row["reason"]
        assert (lines_of(row)["pooled"]["passed"], lines_of(row)["pooled"]["figure"] < 0) == (False, True)
        assert row["evidence"]["window"]["rows"] == of_pool.height
        assert row["trained_at"] == NOW
    assert line.registry.production_versions() == {"all.pooled": "1"}
    assert staging(line) == {}, "the pooled version was decided on in the place of their own fits"
    own = line.registry.client.get_model_version(f"{SYMBOLS[0]}.all", "1")
    assert own.tags["state"] == "archived"
    told = {(row["model"], row["state"]): row["reason"] for row in version_rows(line.ledger)}
    assert told[f"{SYMBOLS[0]}.all", "archived"] == "all.pooled version 1 was decided on in its place"
    line.registry.client.set_registered_model_alias(f"{SYMBOLS[0]}.all", "staging", "1")
    assert aliases_verdict(line.ledger, line.registry).sample == [f"{SYMBOLS[0]}.all@staging is version 1"]
    assert reconcile(line.ledger, line.registry) == 1
    assert staging(line) == {}
    chosen = next(row["symbol"] for row in decisions if row["verdict"] == "promote")
    line.signal([chosen])
    (said,) = line.ledger.signals([chosen])
    assert (said["model_name"], said["p_up"] is not None) == ("all.pooled", True)
    spent = {row["evidence"]["pool"]["attempt"] for row in decisions}
    again = line.promote(now=later(days=1))
    assert (again.states(), spent) == ({"unchanged": len(SYMBOLS)}, {1})
    assert "was decided on: " in again.partitions[chosen]["reason"]
    assert line.ledger.decisions() == decisions


def test_a_pooled_version_that_was_taken_back_is_told_so_by_the_next_pass(trained: Path, tmp_path: Path) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=0.4)
    chosen = line.promote().in_state("promoted")[0]
    roll_back(line.ledger, (chosen, "all"), None, why="it lost", who="ann", now=later(days=1))
    told = line.promote([chosen], later(days=2)).partitions[chosen]
    assert (told["state"], told["verdict"]) == ("unchanged", "rollback")
    assert told["reason"] == "the pooled version stands in for its own fit, and was decided on: it lost"


def test_a_person_who_names_no_version_means_the_pooled_one_that_was_decided_on_in_the_place_of_the_own_fit(
    trained: Path, tmp_path: Path
) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=0.4)
    line.promote()
    serves, other = sorted(line.ledger.production())[:2]
    word: dict[str, Any] = {"why": "again", "who": "ann"}

    def promoted(cell: tuple[str, str], number: str | None, day: int) -> tuple[str, dict[str, Any]]:
        given = (line.ledger, line.registry, line.settings, cell, number)
        row = promote_version(*given, now=later(days=day), **word)
        return f"{row['model_name']}/{row['model_version']}", row["evidence"]

    roll_back(line.ledger, serves, None, now=later(days=1), **word)
    assert promoted(serves, None, 2) == ("all.pooled/1", {})
    assert promoted(serves, f"{serves[0]}.all/1", 3) == (f"{serves[0]}.all/1", {"unjudged": True})
    with pytest.raises(DecisionRefused, match=r"all\.pooled version 1 is in production"):
        reject_version(line.ledger, other, None, now=later(days=1), **word)
    (judged,) = line.ledger.history([other[0]])[other]
    said: dict[str, Any] = {"verdict": "reject", "stage": "failed", "reason": "no skill", "who": "gate"}
    line.ledger.decide([row_of(judged, other, last=judged, production=judged, evidence={}, now=later(days=1), **said)])
    with pytest.raises(DecisionRefused, match=r"all\.pooled version 1 is turned down already"):
        reject_version(line.ledger, other, None, now=later(days=2), **word)
    name, evidence = promoted(other, None, 2)
    assert (name, evidence["overrules"]["reason"], "unjudged" in evidence) == ("all.pooled/1", "no skill", False)


def test_the_log_of_trainings_has_the_state_that_mlflow_has_of_own_fits_and_of_the_pooled_one_that_many_share(
    trained: Path, tmp_path: Path
) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=0.4)
    line.promote()
    serves = next(row["symbol"] for row in line.ledger.decisions() if row["verdict"] == "promote")
    other = next(symbol for symbol in SYMBOLS if symbol != serves)

    def logged(symbols: list[str] | None = None) -> dict[str, str]:
        return {row["model"]: row["status"] for row in training_log(line.ledger, line.registry, symbols)}

    def tagged() -> dict[str, str]:
        versions = [line.registry.client.get_model_version(name, "1") for name in logged()]
        return {version.name: version.tags["state"] for version in versions}

    own = {f"{symbol}.all": "archived" for symbol in SYMBOLS}
    assert logged() == tagged() == {**own, "all.pooled": "production"}
    assert logged([other]) == {f"{other}.all": "archived", "all.pooled": "production"}
    word: dict[str, Any] = {"why": "I know better", "who": "ann"}
    promote_version(
        line.ledger, line.registry, line.settings, (other, "all"), f"{other}.all/1", now=later(days=1), **word
    )
    reconcile(line.ledger, line.registry)
    assert logged() == tagged() == {**own, f"{other}.all": "production", "all.pooled": "production"}
    roll_back(line.ledger, (other, "all"), None, now=later(days=2), **word)
    reconcile(line.ledger, line.registry)
    assert logged() == tagged() == {**own, f"{other}.all": "failed", "all.pooled": "production"}


def test_the_ml_profile_tells_what_serves_and_the_fate_of_the_newest_training_apart(
    trained: Path, tmp_path: Path
) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=0.4)
    line.promote()
    serves = {symbol for symbol, _ in line.ledger.production()}

    def told(symbol: str) -> dict[str, Any]:
        document: dict[str, Any] = ml_profile(line.ledger, line.registry, line.settings, symbol, later(days=1))["all"]
        return document

    for symbol in SYMBOLS:
        training, last = told(symbol)["training"], told(symbol)["last_decision"]
        assert told(symbol)["status"] == ("production" if symbol in serves else "failed")
        assert (last["model_name"], last["verdict"]) == ("all.pooled", "promote" if symbol in serves else "reject")
        assert (training["model_name"], training["status"]) == (f"{symbol}.all", "archived")
        assert training["last_decision"] == last, "it was taken in the place of its own fit"
    symbol = min(serves)
    version = f"{symbol}.all/1"
    reject_version(line.ledger, (symbol, "all"), version, why="too odd", who="ann", now=later(days=1))
    assert (told(symbol)["status"], told(symbol)["last_decision"]["verdict"]) == ("production", "promote")
    training = told(symbol)["training"]
    assert (training["status"], training["last_decision"]["reason"]) == ("failed", "too odd")


def test_where_own_fits_beat_the_pooled_model_they_are_judged_and_the_table_says_so(
    trained: Path, tmp_path: Path
) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=-0.4)
    line.promote()
    for row in line.ledger.decisions():
        assert row["model_name"] == f"{row['symbol']}.all"
        told = lines_of(row)["pooled"]
        assert (told["passed"], told["threshold"], told["bound"] > 0) == (True, 0, True)
        assert "stands in" not in row["reason"]
    assert staging(line) == {"all.pooled": "1"}, "nobody has decided on it, and no candidate names it"


def test_a_symbol_that_the_pool_has_not_met_and_a_pool_of_other_settings_leave_own_fits_as_they_are(
    trained: Path, tmp_path: Path
) -> None:
    line = beside_a_pool(trained, tmp_path / "home", sees=0.4)
    stranger = pl.col("symbol").eq("SIM03") & pl.col("training_id").eq(pooled(line)["training_id"])
    line.lake.replace("predictions", line.lake.read("predictions").filter(~stranger), SYMBOLS)
    line.promote()
    names = {row["symbol"]: row["model_name"] for row in line.ledger.decisions()}
    assert names == dict.fromkeys(SYMBOLS, "all.pooled") | {"SIM03": "SIM03.all"}
    other = Line(line.settings.home, learning=replace(LIGHT, seed=1), gate=SKILLED)
    other.train(["SIM01"], later(days=1))
    other.promote(["SIM01"], later(days=1))
    newest = other.ledger.decisions("SIM01")[-1]
    assert (newest["model_name"], "pooled" in lines_of(newest)) == ("SIM01.all", False)


def test_another_setting_is_another_attempt_and_no_new_budget(line: Line) -> None:
    """Or one could shop for denoisers, benchmarks, thresholds and horizons at the price of a first look each."""
    other = {
        "features": FeatureParameters(denoiser="ema", benchmark="SPY"),
        "regimes": RegimeParameters(confirm=4),
        "learning": replace(LIGHT, horizon=5),
    }
    assert family(line.settings.model_copy(update=other), "all") == family(line.settings, "all")
    alpha158 = {"features": FeatureParameters(set="alpha158")}
    assert family(line.settings.model_copy(update=alpha158), "all") != family(line.settings, "all")

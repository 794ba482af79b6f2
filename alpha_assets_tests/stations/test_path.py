"""The path after the gate: a canary in shadow, what serves it or ends it, rollback, and what a person may decide."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.gate import SymbolVerdict
from alpha_assets.quant.heads import Candidate
from alpha_assets.quant.lifecycle import standing
from alpha_assets.quant.parameters import PromotionParameters
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations import decisions as station
from alpha_assets.stations import promote as gate_station
from alpha_assets.stations.decisions import DecisionRefused, promote_version, reject_version, roll_back, row_of
from alpha_assets.stations.dossier import version_rows
from alpha_assets.stations.promote import due, reconcile
from alpha_assets.stations.sets import table_of
from alpha_assets.stations.watch import live_verdicts, shadow_verdicts
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets_tests.stations.line import LIGHT, NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

#: The symbol whose edge the gate finds most easily.
CHOSEN = "SIM02"
CELL = (CHOSEN, "all")

SHORT = PromotionParameters(shadow_bars=2)

#: Settings by which the same bars give another training.
SECOND = replace(LIGHT, seed=1)


@pytest.fixture
def line(promoted: Path, tmp_path: Path) -> Line:
    """A version of the chosen symbol serves."""
    line = copied(promoted, tmp_path / "home", promotion=SHORT)
    assert line.ledger.production()[CELL]["model_version"] == "1"
    return line


@pytest.fixture(scope="session")
def watched(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And a second version of it is canary."""
    again = copied(promoted, tmp_path_factory.mktemp("watched") / "home", learning=SECOND, promotion=SHORT)
    again.train(now=later(days=1))
    assert again.promote([CHOSEN], later(days=1)).states() == {"canary": 1}
    return again.settings.home


@pytest.fixture
def second(watched: Path, tmp_path: Path) -> Line:
    """A line of its own over that home."""
    return copied(watched, tmp_path / "second", learning=SECOND, promotion=SHORT)


@pytest.fixture(scope="module")
def settled(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A line that is only asked what it refuses."""
    return copied(promoted, tmp_path_factory.mktemp("settled") / "home")


def trade_on(line: Line, days: int) -> datetime:
    """The market trades a session on, and what is new is fetched and said; the instant of it."""
    now = later(days=days)
    Simulated(line.settings).advance(1)
    line.refresh(now)
    line.signal(now=now)
    return now


def views(line: Line, origin: str) -> pl.DataFrame:
    return line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == origin).sort("timestamp")


def aliases(line: Line, name: str = f"{CHOSEN}.all") -> dict[str, str]:
    return {alias: number for alias, number in line.registry.aliases()[name].items() if alias != "staging"}


def run_names(line: Line) -> list[str]:
    return [name for name, status in line.runs() if status == "FINISHED"]


def states(line: Line) -> dict[str, str]:
    found = line.registry.client.search_model_versions(f"name='{CHOSEN}.all'")
    return {str(version.version): version.tags["state"] for version in found}


class TestCanary:
    def test_a_version_that_passes_beside_a_serving_one_is_canary_and_predicts_the_same_bars_and_shows_nothing(
        self, second: Line
    ) -> None:
        decision = second.ledger.decisions(CHOSEN)[-1]
        assert (decision["verdict"], decision["stage"], decision["model_version"]) == ("hold", "canary", "2")
        assert decision["evidence"]["baseline"] == {"model_name": f"{CHOSEN}.all", "model_version": "1"}
        assert decision["evidence"]["window"]["rows"] > 1000
        assert aliases(second) == {"production": "1", "canary": "2"}
        assert states(second) == {"1": "production", "2": "canary"}
        trade_on(second, 2)
        shadow, live = views(second, "shadow"), views(second, "live")
        assert shadow["timestamp"].to_list() == live["timestamp"].to_list()
        assert set(shadow["training_id"]) != set(live["training_id"])
        (said,) = second.ledger.signals([CHOSEN])
        assert said["model_version"] == "1"
        assert said["p_up"] == live["p_up"][-1]

    def test_a_canary_serves_after_its_bars_by_a_decision_of_its_own_and_the_former_version_is_archived(
        self, second: Line
    ) -> None:
        assert due(second.lake, second.ledger, second.settings) == {}
        now = trade_on(second, 2)
        assert second.promote([CHOSEN], now).partitions[CHOSEN]["reason"] == "in shadow: 1 of 2 bars"
        assert len(second.ledger.decisions(CHOSEN)) == 2
        now = trade_on(second, 3)
        assert due(second.lake, second.ledger, second.settings).keys() == {CELL}
        assert second.promote([CHOSEN], now).states() == {"promoted": 1}
        decision = second.ledger.decisions(CHOSEN)[-1]
        assert (decision["seq"], decision["verdict"], decision["who"]) == (3, "promote", "watch")
        assert decision["reason"].startswith("2 bars of shadow: every view a probability and in time")
        assert aliases(second) == {"production": "2", "previous": "1"}
        assert states(second) == {"1": "archived", "2": "production"}
        assert due(second.lake, second.ledger, second.settings) == {}
        assert second.promote([CHOSEN], now).states() == {"unchanged": 1}

    @pytest.mark.parametrize(("hours", "state"), [(1, "in_shadow"), (8, "rejected")])
    def test_a_view_on_a_bar_of_before_the_canary_is_in_time_by_when_it_became_one(
        self, second: Line, hours: int, state: str
    ) -> None:
        """Trained and decided on the day after its last bar, it could not have spoken of it before."""
        now = later(days=1, hours=hours)
        second.signal([CHOSEN], now)
        assert views(second, "shadow").height == 1
        assert second.promote([CHOSEN], now).states() == {state: 1}
        assert (f"reject {CHOSEN}.all 2" in run_names(second)) == (state == "rejected"), "an alias was taken away"

    def test_a_shadow_is_compared_with_what_the_serving_version_said_of_the_same_bars(self, second: Line) -> None:
        for days in (2, 3, 4):
            now = trade_on(second, days)
        assert second.promote([CHOSEN], now).states() == {"promoted": 1}
        shadow, live = views(second, "shadow"), views(second, "live")
        opens = second.lake.read("bars", symbols=[CHOSEN]).sort("timestamp").select("timestamp", "open")
        labelled = opens.select("timestamp", up=pl.col("open").shift(-2) > pl.col("open").shift(-1))
        both = shadow.join(live.select("timestamp", theirs="p_up"), on="timestamp").join(labelled, on="timestamp")
        known = both.drop_nulls("up")
        losses = [
            -pl.when("up").then(pl.col(name).log()).otherwise((1 - pl.col(name)).log()) for name in ("p_up", "theirs")
        ]
        expected = known.select((losses[0] - losses[1]).mean()).item()
        decision = second.ledger.decisions(CHOSEN)[-1]
        told = decision["evidence"]["shadow"]
        assert (told["compared"], known.height) == (1, 1)
        assert told["excess"] == pytest.approx(expected)
        assert f"{expected:+.4f} nats a bar against the champion on 1 of them" in decision["reason"]

    def test_a_canary_that_says_no_probability_has_failed(self, second: Line, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = gate_station.shadow_verdicts
        predict, canary = Candidate.predict, second.ledger.canaries()[CELL]
        named = (canary["model_name"], canary["model_version"], canary["model_location"], canary["model_digest"])
        on_trial = second.registry.candidate(*named)

        def silent(candidate: Candidate, *asked: Any) -> dict[str, np.ndarray]:
            said = predict(candidate, *asked)
            return said | dict.fromkeys(("p_up", "linear_p_up"), np.full(1, np.nan)) if candidate is on_trial else said

        monkeypatch.setattr(Candidate, "predict", silent)
        now = trade_on(second, 2)
        assert views(second, "shadow")["p_up"].to_list() == [None]
        assert second.ledger.signals([CHOSEN])[0]["p_up"] is not None
        assert whole(second.lake, second.ledger, second.settings, second.ledger.canaries())[CELL].state == "failed"
        report = second.promote([CHOSEN], now)
        assert report.partitions[CHOSEN]["reason"] == "1 of 1 shadow views are no probability"
        assert aliases(second) == {"production": "1"}
        assert states(second) == {"1": "production", "2": "failed"}

    def test_a_newer_candidate_waits_while_a_canary_is_in_shadow_and_spends_no_level(self, second: Line) -> None:
        third = Line(second.settings.home, learning=replace(LIGHT, seed=2), promotion=SHORT)
        third.train(now=later(days=2))
        assert third.promote([CHOSEN], later(days=2)).states() == {"in_shadow": 1}
        assert len(third.ledger.decisions(CHOSEN)) == 2

    @pytest.mark.slow
    def test_a_version_whose_evidence_is_too_little_is_at_most_canary_whatever_its_shadow_shows(
        self, line: Line, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judged(monkeypatch, "canary")
        again = Line(line.settings.home, learning=replace(LIGHT, seed=1), promotion=SHORT)
        again.train(now=later(days=1))
        assert again.promote([CHOSEN], later(days=1)).states() == {"canary": 1}
        for days in (2, 3):
            now = trade_on(again, days)
        assert views(again, "shadow").height == 2
        assert due(again.lake, again.ledger, again.settings) == {}
        assert again.promote([CHOSEN], now).states() == {"unchanged": 1}
        assert aliases(again) == {"production": "1", "canary": "2"}
        judged(monkeypatch, "promote")
        third = Line(line.settings.home, learning=replace(LIGHT, seed=2), promotion=SHORT)
        third.train(now=now)
        assert third.promote([CHOSEN], now).states() == {"canary": 1}, "nobody waits for one that can never serve"
        assert aliases(third) == {"production": "1", "canary": "3"}

    def test_a_first_version_waits_too_where_the_settings_say_so(self, trained: Path, tmp_path: Path) -> None:
        rules = PromotionParameters(shadow_first=True)
        first = copied(trained, tmp_path / "first", promotion=rules)
        assert set(first.promote().states()) == {"canary", "rejected"}
        assert first.ledger.production() == {}
        first.signal()
        (said,) = first.ledger.signals([CHOSEN])
        assert (said["signal"], said["p_up"]) == ("HOLD", None)
        assert views(first, "shadow").height == 1


def judged(monkeypatch: pytest.MonkeyPatch, decision: str) -> None:
    """As if the gate said this of every symbol."""
    whole = gate_station._judge

    def judge(*arguments: Any, **named: Any) -> Any:
        judgement, *rest = whole(*arguments, **named)
        symbols = {
            symbol: SymbolVerdict(**{**verdict.__dict__, "decision": decision})
            for symbol, verdict in judgement.symbols.items()
        }
        return type(judgement)(judgement.pool, symbols), *rest

    monkeypatch.setattr(gate_station, "_judge", judge)


def losing(line: Line, bars: int = 60) -> None:
    """As if the version in production had been wrong with confidence on its last bars."""
    said(line, line.ledger.production()[CELL], "live", bars, right=False)


def said(line: Line, decision: dict[str, Any], origin: str, bars: int, *, right: bool) -> None:
    """As if the version of a decision had been right, or wrong, with confidence on the last bars."""
    opens = line.lake.read("bars", symbols=[CHOSEN]).select("timestamp", "open")
    followed = opens.with_columns(up=pl.col("open").shift(-2) > pl.col("open").shift(-1)).drop_nulls().tail(bars)
    rows = followed.select(
        symbol=pl.lit(CHOSEN),
        regime=pl.lit(decision["regime"]),
        timestamp="timestamp",
        training_id=pl.lit(decision["training_id"]),
        origin=pl.lit(origin),
        p_up=pl.when(pl.col("up") == right).then(0.8).otherwise(0.2),
        made_at=pl.lit(decision["decided_at"] + timedelta(hours=1)),
    )
    missing = {name: kind for name, kind in PREDICTIONS.items() if name not in rows.columns}
    empty = [pl.lit(None, kind).alias(name) for name, kind in missing.items()]
    line.lake.append("predictions", rows.with_columns(empty).select(PREDICTIONS.keys()))


class TestRollback:
    def test_a_confirmed_live_loss_takes_production_back_to_the_version_before(self, second: Line) -> None:
        promote_version(second.ledger, second.registry, second.settings, CELL, None, why="try", who="ann", now=NOW)
        assert second.ledger.production()[CELL]["model_version"] == "2"
        losing(second)
        assert due(second.lake, second.ledger, second.settings).keys() == {CELL}
        report = second.promote([CHOSEN], later(days=3))
        assert report.states() == {"rolled_back": 1}
        assert report.partitions[CHOSEN]["reason"].endswith(f"back to {CHOSEN}.all version 1")
        decision = second.ledger.decisions(CHOSEN)[-1]
        assert (decision["verdict"], decision["model_version"], decision["previous_version"]) == ("rollback", "1", "2")
        assert decision["evidence"]["live"]["confirmed"]
        assert aliases(second) == {"production": "1"}
        assert states(second) == {"1": "production", "2": "failed"}
        assert due(second.lake, second.ledger, second.settings) == {}
        again = second.promote([CHOSEN], later(days=4)).partitions[CHOSEN]
        assert (again["state"], again["verdict"]) == ("unchanged", "rollback")

    def test_with_no_version_before_it_none_is_left_and_the_signal_holds(self, line: Line) -> None:
        losing(line)
        report = line.promote([CHOSEN], later(days=1))
        assert report.partitions[CHOSEN]["reason"].endswith("no version before it, so none serves")
        assert CELL not in line.ledger.production()
        assert aliases(line) == {}
        assert f"rollback {CHOSEN}.all to none" in run_names(line)
        line.signal([CHOSEN], later(days=1))
        assert line.ledger.signals([CHOSEN])[0]["signal"] == "HOLD"
        assert reconcile(line.ledger, line.registry) == 0

    def test_of_a_pooled_version_says_nothing_of_an_own_fit_that_has_the_same_number(self, line: Line) -> None:
        rejected = next(row for row in line.ledger.decisions() if row["verdict"] == "reject")
        cell = (rejected["symbol"], "all")
        pooled = {**rejected, "model_name": "all.pooled", "training_id": "pooled"}
        said: dict[str, Any] = {"verdict": "promote", "stage": "production", "reason": "it passes", "who": "gate"}
        row = row_of(pooled, cell, last=rejected, production=None, evidence={}, now=later(days=1), **said)
        line.ledger.decide([row])
        roll_back(line.ledger, cell, None, why="it lost", who="ann", now=later(days=2))
        told = line.promote([rejected["symbol"]], later(days=3)).partitions[rejected["symbol"]]
        assert (told["verdict"], told["reason"]) == ("reject", rejected["reason"])
        reasons = {row["model"]: row["reason"] for row in version_rows(line.ledger, [rejected["symbol"]])}
        assert reasons == {rejected["model_name"]: rejected["reason"], "all.pooled": "it lost"}

    def test_what_was_said_of_one_bar_is_not_judged_on_five_and_the_pass_says_so(self, second: Line) -> None:
        losing(second)
        said(second, second.ledger.canaries()[CELL], "shadow", bars=60, right=False)
        longer = Line(second.settings.home, learning=replace(SECOND, horizon=5), promotion=SHORT)
        stores = (longer.lake, longer.ledger, longer.settings)
        assert live_verdicts(*stores, longer.ledger.production()) == {}
        assert shadow_verdicts(*stores, longer.ledger.canaries()) == due(*stores) == {}
        told = longer.promote([CHOSEN], later(days=3)).partitions[CHOSEN]
        assert told["state"] == "unchanged"
        for number in ("1", "2"):
            why = (
                f"{CHOSEN}.all version {number} looks 1 bars ahead and the settings 5: what it said live is not judged"
            )
            assert why in told["reason"]
        assert due(second.lake, second.ledger, second.settings).keys() == {CELL}

    def test_few_outcomes_take_nothing_back(self, line: Line) -> None:
        losing(line, bars=5)
        assert line.promote([CHOSEN], later(days=1)).states() == {"unchanged": 1}


def decide(line: Line, act: Any, number: str | None = None, cell: tuple[str, str] = CELL) -> dict[str, Any]:
    said = {"why": "because I say so", "who": "ann", "now": later(days=5)}
    if act is promote_version:
        row = promote_version(line.ledger, line.registry, line.settings, cell, number, **said)
    else:
        row = act(line.ledger, cell, number, **said)
    reconcile(line.ledger, line.registry)
    return dict(row)


class TestAPerson:
    def test_may_bring_a_canary_into_production_and_take_it_back_each_with_a_run_of_its_own(self, second: Line) -> None:
        assert decide(second, promote_version)["model_version"] == "2"
        assert aliases(second) == {"production": "2", "previous": "1"}
        assert decide(second, roll_back)["model_version"] == "1"
        assert aliases(second) == {"production": "1"}
        told = [(row["verdict"], row["who"], row["reason"]) for row in second.ledger.decisions(CHOSEN)[-2:]]
        assert told == [("promote", "ann", "because I say so"), ("rollback", "ann", "because I say so")]
        assert {f"promote {CHOSEN}.all 2", f"rollback {CHOSEN}.all 1"} <= set(run_names(second))
        page = second.registry.client.get_model_version(f"{CHOSEN}.all", "1").description
        assert "**rollback** for SIM02 all by ann" in str(page)

    def test_may_overrule_the_gate_and_the_gate_does_not_judge_that_training_again(self, line: Line) -> None:
        (symbol, *_) = sorted(set(SYMBOLS) - {name for name, _ in line.ledger.production()})
        decide(line, promote_version, cell=(symbol, "all"))
        assert line.ledger.production()[symbol, "all"]["who"] == "ann"
        assert line.promote([symbol], later(days=6)).states() == {"unchanged": 1}
        decide(line, roll_back, cell=(symbol, "all"))
        assert (symbol, "all") not in line.ledger.production()
        assert line.promote([symbol], later(days=7)).states() == {"unchanged": 1}

    @pytest.mark.parametrize("number", [None, "1"])
    def test_promotes_the_voice_that_the_gate_judged(self, line: Line, number: str | None) -> None:
        (symbol, *_) = sorted(set(SYMBOLS) - {name for name, _ in line.ledger.production()})
        cell = (symbol, "all")
        candidate, last = line.ledger.candidates()[cell], line.ledger.decisions(symbol)[-1]
        told: dict[str, Any] = {"verdict": "reject", "stage": "failed", "reason": "no", "who": "gate"}
        line.ledger.decide(
            [row_of(candidate, cell, last=last, production=None, evidence={}, now=NOW, speaker="linear", **told)]
        )
        assert decide(line, promote_version, number, cell)["speaker"] == "linear"

    def test_may_turn_a_canary_down(self, second: Line) -> None:
        decide(second, reject_version)
        assert aliases(second) == {"production": "1"}
        assert states(second)["2"] == "failed"

    def test_may_decide_on_what_the_gate_held_for_a_person(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = copied(trained, tmp_path / "held")
        judged(monkeypatch, "block")
        assert held.promote([CHOSEN]).states() == {"held": 1}
        assert states(held) == {"1": "staging"}
        assert held.ledger.production() == {}
        assert held.registry.aliases()[f"{CHOSEN}.all"] == {"staging": "1"}
        assert decide(held, promote_version)["model_version"] == "1"
        assert held.registry.aliases()[f"{CHOSEN}.all"] == {"production": "1"}

    @pytest.mark.parametrize(
        ("act", "number", "cell", "sentence"),
        [
            (promote_version, "1", CELL, "version 1 is in production already"),
            (promote_version, "7", CELL, "no version 7: «alpha-assets models SIM02» lists"),
            (promote_version, None, (CHOSEN, "volatile"), "SIM02.volatile has no version yet: alpha-assets train"),
            (reject_version, "1", CELL, "in production: «alpha-assets rollback SIM02 all"),
            (reject_version, "7", CELL, "no version 7"),
            (roll_back, "7", CELL, "version 7 has not served before the present one"),
            (roll_back, None, ("SIM04", "all"), "SIM04.all has no version in production"),
        ],
    )
    def test_is_told_what_to_do_where_a_decision_makes_no_sense_and_nothing_is_recorded(
        self, settled: Line, act: Any, number: str | None, cell: tuple[str, str], sentence: str
    ) -> None:
        before = settled.ledger.decisions()
        with pytest.raises(DecisionRefused) as refused:
            decide(settled, act, number, cell)
        assert sentence in str(refused.value)
        assert settled.ledger.decisions() == before

    def test_says_which_model_where_its_own_fit_and_a_pooled_one_have_the_same_number(self, settled: Line) -> None:
        history = settled.ledger.history([CHOSEN])[CELL]
        pooled = {**history[-1], "model_name": "pooled.all"}
        said: dict[str, Any] = {"verdict": "hold", "stage": "staging", "reason": "a person looks", "who": "gate"}
        row = row_of(pooled, CELL, last=history[-1], production=history[-1], evidence={}, now=later(days=4), **said)
        settled.ledger.decide([row])
        with pytest.raises(DecisionRefused, match=r"say --version SIM02\.all/1 or --version pooled\.all/1"):
            decide(settled, reject_version, "1")
        assert decide(settled, reject_version, "pooled.all/1")["model_name"] == "pooled.all"

    def test_who_turns_a_former_version_down_keeps_the_watch_from_bringing_it_back(self, second: Line) -> None:
        decide(second, promote_version)
        assert decide(second, reject_version, "1")["verdict"] == "reject"
        assert (aliases(second), states(second)) == ({"production": "2"}, {"1": "failed", "2": "production"})
        with pytest.raises(DecisionRefused, match="version 1 is turned down already"):
            decide(second, reject_version, "1")
        with pytest.raises(DecisionRefused, match="version 1 has not served before the present one, or was turned"):
            decide(second, roll_back, "1")
        losing(second)
        told = second.promote([CHOSEN], later(days=6)).partitions[CHOSEN]
        assert told["reason"].endswith("no version before it, so none serves")
        assert CELL not in second.ledger.production()

    def test_cannot_turn_down_twice(self, second: Line) -> None:
        decide(second, reject_version)
        with pytest.raises(DecisionRefused, match="version 2 is turned down already"):
            decide(second, reject_version, "2")

    def test_cannot_promote_what_cannot_be_read_or_asked(self, second: Line) -> None:
        candidate = second.ledger.candidates()[CELL]
        files = [file for file in Path(candidate["model_location"]).rglob("heads/*") if file.is_file()]
        kept = {file: file.read_bytes() for file in files}
        for file in files:
            file.write_bytes(b"damaged" + kept[file])
        with pytest.raises(DecisionRefused, match=r"version 2 cannot be read .*train it again"):
            decide(second, promote_version)
        for file, content in kept.items():
            file.write_bytes(content)
        decide(second, promote_version)


class TestRegimes:
    """The model of the bar's regime speaks where there is one, else that of «all»."""

    def test_of_the_bar_speaks_before_all_and_another_regimes_is_silent(self, line: Line) -> None:
        bar = line.lake.read(table_of(line.settings), symbols=[CHOSEN]).tail(1)
        own = bar["regime"].item()
        other = "volatile" if own != "volatile" else "trending"
        row = line.ledger.production()[CELL]
        line.ledger.decide([of_regime(row, other)])
        line.signal([CHOSEN])
        assert line.ledger.signals([CHOSEN])[0]["model_name"] == f"{CHOSEN}.all"
        line.ledger.decide([of_regime(row, own)])
        line.signal([CHOSEN], later(days=1))
        said = line.ledger.signals([CHOSEN])[0]
        assert said["model_name"] == f"{CHOSEN}.{own}"
        assert views(line, "live").filter(pl.col("regime") == own)["p_up"].to_list() == [said["p_up"]]
        line.ledger.decide([{**of_regime(row, own), "seq": 2, "verdict": "rollback", "model_version": None}])
        line.signal([CHOSEN], later(days=2))
        assert line.ledger.signals([CHOSEN])[0]["model_name"] == f"{CHOSEN}.all"

    def test_a_shadow_is_compared_with_all_where_that_serves_its_bars(self, line: Line) -> None:
        everywhere = line.ledger.production()[CELL]
        trial = {**of_regime(everywhere, "trending"), "verdict": "hold", "stage": "canary", "training_id": "trial"}
        line.ledger.decide([trial])
        said(line, everywhere, "live", bars=5, right=True)
        said(line, trial, "shadow", bars=4, right=False)
        cell = (CHOSEN, "trending")
        verdict = shadow_verdicts(line.lake, line.ledger, line.settings, line.ledger.canaries())[cell]
        assert (verdict.state, verdict.compared) == ("failed", 4)
        assert verdict.excess == pytest.approx(math.log(0.8 / 0.2))

    def test_are_judged_each_by_itself_in_one_pass_with_one_run_of_the_whole(self, line: Line) -> None:
        candidate = line.ledger.candidates()[CELL]
        line.ledger.note_candidates(
            [{**candidate, "regime": regime, "training_id": regime} for regime in ("trending", "volatile")]
        )
        said = line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("origin") == "oof")
        for regime in ("trending", "volatile"):
            line.lake.append(
                "predictions", said.with_columns(regime=pl.lit(regime), training_id=pl.lit(regime)).unique("timestamp")
            )
        cells = [(CHOSEN, regime) for regime in ("trending", "volatile", "sideways")]
        report = gate_station.promote(
            line.lake, line.ledger, line.registry, line.settings, cells, later(days=1), "the run"
        )
        states_found = {key: figures["state"] for key, figures in report.partitions.items()}
        assert states_found[f"sideways|{CHOSEN}"] == "no_candidate"
        decided = {key for key, state in states_found.items() if state in ("canary", "rejected")}
        assert decided == {f"trending|{CHOSEN}", f"volatile|{CHOSEN}"}
        rows = line.ledger.history([CHOSEN])
        assert [len(rows[CHOSEN, regime]) for regime in ("trending", "volatile")] == [1, 1]
        names = run_names(line)
        assert names.count("gate trending, volatile") == 1
        assert names.count("gate trending") == names.count("gate volatile") == 1


def of_regime(row: dict[str, Any], regime: str) -> dict[str, Any]:
    more = {"regime": regime, "seq": 1, "model_name": f"{CHOSEN}.{regime}", "evidence": {}}
    return {**{name: value for name, value in row.items() if name != "id"}, **more}


@pytest.mark.slow
def test_versions_that_several_symbols_share_are_named_by_the_newest_decision(line: Line) -> None:
    """A pooled model serves many cells; they need not stand at the same version."""
    pooled = "pooled.trending"
    row = line.ledger.production()[CELL]
    shared = [{**of_regime(row, "trending"), "model_name": pooled, "symbol": symbol} for symbol in ("SIM01", CHOSEN)]
    for number in ("1", "2"):
        source = line.registry.client.get_model_version(f"{CHOSEN}.all", "1").source
        if number == "1":
            line.registry.client.create_registered_model(pooled)
        line.registry.client.create_model_version(pooled, source)
    line.ledger.decide([{**decision, "model_version": "1"} for decision in shared])
    reconcile(line.ledger, line.registry)
    assert aliases(line, pooled) == {"production": "1"}
    line.ledger.decide([{**shared[0], "model_version": "2", "seq": 2, "decided_at": later(days=1)}])
    reconcile(line.ledger, line.registry)
    assert aliases(line, pooled) == {"production": "2", "previous": "1"}
    tags = [line.registry.client.get_model_version(pooled, number).tags["state"] for number in ("1", "2")]
    assert tags == ["production", "production"], "the second symbol still serves by the first version"
    page = line.registry.client.get_model_version(pooled, "1").description
    assert f"It serves 2 symbols: SIM01, {CHOSEN}." in page, "as of when both did"
    line.ledger.decide([{**shared[0], "seq": 3, "verdict": "rollback", "model_version": None}])
    reconcile(line.ledger, line.registry)
    assert aliases(line, pooled) == {"production": "1"}


def test_a_person_and_the_gate_decide_at_once_and_one_of_them_is_told(second: Line) -> None:
    whole: Any = second.ledger.decide

    def meanwhile(rows: Sequence[dict[str, Any]]) -> None:
        second.ledger.decide = whole  # type: ignore[method-assign]
        decide(second, promote_version)
        whole(rows)

    second.ledger.decide = meanwhile  # type: ignore[method-assign]
    with pytest.raises(station.StoreTrouble, match="already taken by another run"):
        decide(second, reject_version)
    stands = standing(second.ledger.history([CHOSEN])[CELL])
    assert (stands.production or {})["model_version"] == "2"
    assert aliases(second) == {"production": "2", "previous": "1"}


def test_who_is_promoted_while_the_watch_looks_at_its_predecessor_is_not_taken_back_for_it(
    second: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    losing(second)
    whole = gate_station.live_verdicts

    def meanwhile(*asked: Any) -> Any:
        found = whole(*asked)
        decide(second, promote_version)
        return found

    monkeypatch.setattr(gate_station, "live_verdicts", meanwhile)
    with pytest.raises(station.StoreTrouble, match="already taken by another run"):
        second.promote([CHOSEN], later(days=6))
    assert second.ledger.production()[CELL]["model_version"] == "2"
    assert [row["verdict"] for row in second.ledger.decisions(CHOSEN)] == ["promote", "hold", "promote"]
    assert aliases(second) == {"production": "2", "previous": "1"}

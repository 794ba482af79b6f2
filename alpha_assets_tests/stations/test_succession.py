"""What a successor has to show beyond skill: that it is not the luckiest of many tries, nor worse than who served.

The champions here are made: predictions of a training that saw much or little of what followed, stored as those of a
version that served. All else is the line itself.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.parameters import PromotionParameters
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.champions import champions
from alpha_assets.stations.dossier import explanation
from alpha_assets.stations.promote import due, promote
from alpha_assets.stations.series import calendars_of
from alpha_assets.stations.train import labelled_rows
from alpha_assets.stations.trials import configuration, family
from alpha_assets.stores.lake import PREDICTIONS
from alpha_assets.stores.registry import PROMOTION, WHOLE
from alpha_assets_tests.stations.line import LIGHT, NOW, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

#: The symbol whose edge the gate finds most easily.
CHOSEN = "SIM02"
CELL = (CHOSEN, "all")

#: Who passes beside a serving version serves at once.
AT_ONCE = PromotionParameters(shadow_bars=0)


@pytest.fixture
def line(trained: Path, tmp_path: Path) -> Line:
    return copied(trained, tmp_path / "home", promotion=AT_ONCE)


def judged(line: Line) -> dict[str, Any]:
    """The lines of the gate at the newest decision on the chosen symbol, by name."""
    decision = line.ledger.decisions(CHOSEN)[-1]
    return {told["name"]: told for told in decision["evidence"]["pool"]["lines"]}


@pytest.mark.slow
def test_another_configuration_is_another_trial_that_lifts_the_threshold_and_a_refit_is_none(line: Line) -> None:
    line.promote()
    alone = judged(line)
    assert alone["trials"]["figure"] == 2, "the linear rival's score was seen too"
    Simulated(line.settings).advance(1)
    line.refresh(later(days=1))
    assert line.train([CHOSEN], later(days=1)).states() == {"trained": 1}
    line.promote([CHOSEN], later(days=1))
    refit = line.ledger.decisions(CHOSEN)[-1]["evidence"]["pool"]
    assert (refit["attempt"], judged(line)["trials"]["figure"]) == (2, 2)

    other = Line(line.settings.home, learning=replace(LIGHT, seed=1), promotion=AT_ONCE)
    other.train(now=later(days=2))
    other.promote([CHOSEN], later(days=2))
    lines = judged(other)
    assert lines["trials"]["figure"] == 4
    assert lines["deflated_sharpe"]["threshold"] > alone["deflated_sharpe"]["threshold"] > 0
    assert "the best of 4 trials by luck" in lines["deflated_sharpe"]["sentence"]
    rows = other.ledger.trials(family(other.settings, "all"))
    assert [row["configuration"] for row in rows] == [
        configuration(other.ledger.candidates()[CELL]["features_set"], one.settings.learning) for one in (line, other)
    ]
    pool = other.ledger.decisions(CHOSEN)[-1]["evidence"]["pool"]
    assert rows[1]["score"] == pool["figures"]["sharpe"] == lines["deflated_sharpe"]["figure"]
    assert pool["figures"]["trials_variance"] == pytest.approx((rows[1]["score"] - rows[0]["score"]) ** 2 / 2)
    client = other.registry.client
    experiment = client.get_experiment_by_name(PROMOTION)
    assert experiment is not None
    (newest, *_) = client.search_runs([experiment.experiment_id], f"tags.part = '{WHOLE}'")
    assert newest.data.metrics["trials_figure"] == 4
    assert newest.data.metrics["trials_variance"] == pool["figures"]["trials_variance"]
    version = client.get_model_version(f"{CHOSEN}.all", other.ledger.candidates()[CELL]["model_version"])
    assert version.tags["trials_so_far"] == "2"


def served(line: Line, training: str, days_ago: float, seq: int, speaker: str | None = None) -> None:
    """A version of the chosen symbol that came into production so long ago, by a person's word."""
    candidate = line.ledger.candidates()[CELL]
    named = ("symbol", "regime", "features_set", "model_location", "model_digest", "trained_at")
    line.ledger.decide(
        [
            {
                **{name: candidate[name] for name in named},
                "model_name": f"{CHOSEN}.all",
                "model_version": f"{90 + seq}",
                "training_id": training,
                "speaker": speaker,
                "seq": seq,
                "verdict": "promote",
                "reason": "served",
                "who": "ann",
                "decided_at": NOW - timedelta(days=days_ago),
            }
        ]
    )


def said_out_of_fold(line: Line, training: str, sees: float, first: int | None = None) -> None:
    """Store what this training said of the bars of the candidate: noise, and so much of what followed.

    Of the ``first`` bars only, where it is given; its linear models say the contrary.
    """
    candidate = line.ledger.candidates()[CELL]
    rows, _ = labelled_rows(line.lake, line.settings, calendars_of(line.ledger), [CHOSEN])
    own = line.lake.read("predictions", symbols=[CHOSEN]).filter(pl.col("training_id") == candidate["training_id"])
    told = own.join(rows.select("symbol", "timestamp", "scaled_return"), on=["symbol", "timestamp"]).sort("timestamp")
    noise = pl.Series(np.random.default_rng(1).standard_normal(told.height))
    made = told.with_columns(training_id=pl.lit(training), score=sees * pl.col("scaled_return").fill_null(0.0) + noise)
    linear = made.with_columns(linear_score=-pl.col("score")).head(first or told.height)
    line.lake.append("predictions", linear.select(PREDICTIONS.keys()))


def test_a_successor_worse_than_who_served_within_a_year_is_rejected_though_it_has_skill(
    line: Line, tmp_path: Path
) -> None:
    said_out_of_fold(line, "strong", sees=0.4)
    said_out_of_fold(line, "weak", sees=-0.4)

    def against(name: str, *formerly: tuple[str, float], **more: Any) -> tuple[Line, dict[str, int]]:
        home = copied(line.settings.home, tmp_path / name, promotion=AT_ONCE)
        for seq, (training, days_ago) in enumerate(formerly, start=1):
            served(home, training, days_ago, seq, **more)
        return home, home.promote([CHOSEN]).states()

    worse, states = against("worse", ("strong", 500))
    lines = judged(worse)
    assert states == {"rejected": 1}
    assert lines["skill"]["passed"]
    assert not lines["champion"]["passed"]
    reason = worse.ledger.decisions(CHOSEN)[-1]["reason"]
    assert reason.startswith("rejected with its pool: lower bound of TS-IC less that of the champion -0.")
    assert against("better", ("weak", 500))[1] == {"promoted": 1}
    assert against("linear", ("strong", 500), speaker="linear")[1] == {"promoted": 1}, "its linear models said nothing"

    sliding, states = against("sliding", ("strong", 500), ("weak", 300))
    assert states == {"rejected": 1}
    assert "less that of the best of 2 champions -0." in judged(sliding)["champion"]["sentence"]
    assert judged(sliding)["champion"]["figure"] == lines["champion"]["figure"]
    late, states = against("late", ("strong", 500), ("weak", 400))
    assert states == {"promoted": 1}, "the strong one has not served for a year"
    told = explanation(late.ledger, CELL)
    assert told is not None
    assert {"champion", "trials", "drift"} <= {row["line"] for row in told["lines"]}


def test_a_regimes_first_model_succeeds_that_of_all_which_serves_its_bars(line: Line, tmp_path: Path) -> None:
    """It may have skill and still take the regime's bars over from a better one."""
    own = line.lake.read("predictions")
    line.lake.append("predictions", own.with_columns(regime=pl.lit("trending")))
    candidates = line.ledger.candidates().values()
    line.ledger.note_candidates([{**row, "regime": "trending"} for row in candidates])
    said_out_of_fold(line, "strong", sees=0.4)
    said_out_of_fold(line, "weak", sees=-0.4)
    said_out_of_fold(line, "stranger", sees=0.4, first=12)
    states = {}
    for training in ("strong", "weak", "stranger"):
        home = copied(line.settings.home, tmp_path / training, promotion=AT_ONCE)
        served(home, training, days_ago=100, seq=1)
        cells = [(CHOSEN, "trending")]
        report = promote(home.lake, home.ledger, home.registry, home.settings, cells, NOW)
        states |= dict.fromkeys([training], report.states())
        decision = home.ledger.decisions(CHOSEN)[-1]
        assert decision["evidence"]["baseline"] == {"model_name": f"{CHOSEN}.all", "model_version": "91"}
        assert decision["previous_version"] is None
        line_of = judged(home)["champion"]
        assert (line_of["passed"], line_of["figure"] is None) == (training == "weak", training == "stranger")
    assert states == {"strong": {"rejected": 1}, "weak": {"promoted": 1}, "stranger": {"canary": 1}}


def test_a_successor_that_shares_too_few_dates_with_its_champion_is_canary_first_and_may_serve(line: Line) -> None:
    said_out_of_fold(line, "stranger", sees=0.4, first=12)
    served(line, "stranger", days_ago=100, seq=1)
    assert line.promote([CHOSEN]).states() == {"canary": 1}
    told = judged(line)["champion"]
    assert (told["figure"], told["decides"]) == (None, False)
    decision = line.ledger.decisions(CHOSEN)[-1]
    assert decision["reason"].endswith(
        "no figure: it shares 12 dates with the champion, fewer than two blocks of 20; "
        "canary for 1 bar before it serves"
    )
    assert "it shares 12 dates with the champion" in decision["evidence"]["pool"]["reason"]
    assert due(line.lake, line.ledger, line.settings) == {}, "it has shown nothing yet"
    Simulated(line.settings).advance(1)
    line.refresh(later(days=1))
    line.signal([CHOSEN], later(days=1))
    assert due(line.lake, line.ledger, line.settings).keys() == {CELL}
    assert line.promote([CHOSEN], later(days=1)).states() == {"promoted": 1}


def test_champions_go_back_version_by_version_where_a_symbol_has_one_and_none_succeeds_itself() -> None:
    def history(*trainings: str) -> list[dict[str, Any]]:
        """A training a day in production, the newest today."""
        named = {"verdict": "promote", "stage": "production", "model_name": "a.all"}
        days = range(len(trainings) - 1, -1, -1)
        return [
            {**named, "model_version": training, "training_id": training, "decided_at": NOW - timedelta(days=day)}
            for training, day in zip(trainings, days, strict=True)
        ]

    histories = {
        "MANY": history("m1", "m2", "m3"),
        "ONE": history("o1"),
        "AGAIN": history("g1", "g2", "g1"),
        "BACK": history("b1", "b2"),
        "SERVES": history("s1", "s2"),
    }
    pool = {"MANY": "m4", "ONE": "o2", "AGAIN": "g3", "BACK": "b1", "SERVES": "s2", "NEW": "n1"}
    found = [
        {symbol: row["training_id"] for symbol, row in generation.items()}
        for generation in champions(histories, pool, NOW - timedelta(days=30))
    ]
    assert found == [
        {"MANY": "m3", "ONE": "o1", "AGAIN": "g1", "BACK": "b2"},
        {"MANY": "m2", "ONE": "o1", "AGAIN": "g2", "BACK": "b2"},
        {"MANY": "m1", "ONE": "o1", "AGAIN": "g2", "BACK": "b2"},
    ]
    assert champions({}, pool, NOW) == champions(histories, {"SERVES": "s2"}, NOW - timedelta(days=30)) == []

"""Stored evidence is looked at as it is stored: a prediction whose fit had seen its window is named and stays named."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.quant.schema import TIME
from alpha_assets.stations.audit import overlap_verdict
from alpha_assets.stations.decisions import row_of
from alpha_assets.stations.inspect import Verdict
from alpha_assets.stations.series import calendars_of, with_known_at
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied

pytestmark = pytest.mark.xdist_group("line")


@pytest.fixture
def line(trained: Path, tmp_path: Path) -> Line:
    """Four symbols with candidates, each with the predictions that it was judged by."""
    return copied(trained, tmp_path / "home")


def looked(line: Line, symbols: Sequence[str] = SYMBOLS) -> Verdict:
    return overlap_verdict(line.lake, line.ledger, line.settings, symbols, NOW)


def rewritten(line: Line, symbol: str, learnt: pl.Expr, training: str | None = None) -> pl.DataFrame:
    """The predictions of a symbol, stored anew with another ``learnt_until`` and perhaps of another training."""
    rows = line.lake.read("predictions", symbols=[symbol])
    changed = with_known_at(rows, line.settings, calendars_of(line.ledger)).with_columns(
        learnt_until=learnt.cast(TIME), training_id=pl.lit(training or rows["training_id"][0])
    )
    line.lake.replace("predictions", changed.select(rows.columns), [symbol])
    return rows


def test_a_training_stores_how_far_each_fit_had_learnt_and_nothing_overlaps(line: Line) -> None:
    predictions = line.predictions()
    assert predictions["learnt_until"].null_count() == 0
    folds = predictions.group_by("symbol").agg(pl.col("learnt_until").n_unique())["learnt_until"]
    assert folds.max() == line.settings.learning.folds
    verdict = looked(line)
    assert (verdict.passed, verdict.count, verdict.sample) == (True, 0, [])
    trained = predictions["symbol"].n_unique()
    assert verdict.sentence.endswith(f"; {predictions.height:,} predictions of {trained} symbols looked at")


def test_a_fit_that_had_learnt_until_the_instant_of_the_decision_is_named_by_symbol_and_day(line: Line) -> None:
    days = line.lake.read("predictions", symbols=["SIM02"])["timestamp"].dt.date()
    last = pl.col("timestamp") == pl.col("timestamp").max()
    before = pl.col("known_at") - timedelta(microseconds=1)
    rewritten(line, "SIM02", pl.when(last).then("known_at").otherwise(before))
    verdict = looked(line)
    assert (verdict.passed, verdict.count, verdict.sample) == (False, 1, [f"SIM02 {days.max()}"])


def test_what_was_found_stays_until_it_is_looked_at_again(line: Line) -> None:
    held = rewritten(line, "SIM01", pl.col("known_at"))
    assert looked(line).count == held.height
    assert looked(line, ["SIM02"]).count == held.height
    line.lake.replace("predictions", held, ["SIM01"])
    assert looked(line, ["SIM01"]).passed


def test_only_the_training_of_the_present_candidate_counts(line: Line) -> None:
    held = rewritten(line, "SIM01", pl.col("known_at"), training="another")
    verdict = looked(line)
    assert verdict.passed
    assert verdict.sentence.endswith(
        f"; {line.predictions().height - held.height:,} predictions of 3 symbols looked at"
    )


def test_an_older_training_counts_too_while_it_serves(line: Line) -> None:
    held = rewritten(line, "SIM01", pl.col("known_at"), training="another")
    served = {**line.ledger.candidates()["SIM01", "all"], "training_id": "another"}
    said: dict[str, Any] = {
        "verdict": "promote",
        "stage": "production",
        "reason": "it did",
        "who": "gate",
        "evidence": {},
    }
    line.ledger.decide([row_of(served, ("SIM01", "all"), last=None, production=None, now=NOW, **said)])
    assert looked(line).count == held.height


def test_predictions_that_do_not_say_what_their_fit_had_learnt_are_counted_and_not_passed_off(line: Line) -> None:
    held = rewritten(line, "SIM01", pl.lit(None))
    verdict = looked(line)
    assert verdict.passed
    assert verdict.sentence.endswith(f", {held.height:,} do not say how far their fit had learnt")


def test_a_home_without_predictions_passes_and_says_so(tmp_path: Path) -> None:
    verdict = looked(Line(tmp_path / "home"))
    assert (verdict.passed, verdict.sentence.split("; ")[1]) == (True, "0 predictions of 0 symbols looked at")

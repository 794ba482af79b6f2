"""What is believed of heads rests on the outcomes that are known, each counting for what of it is its own."""

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant.calibration import probability
from alpha_assets.quant.learners import lesson
from alpha_assets.quant.opinions import Base, Block, Past
from alpha_assets_tests.quant.test_learners import COLUMNS, PARAMETERS, labelled

ROWS = labelled(300)
VOTE = probability(0.6 * ROWS["signal"].to_numpy())


def believed(rows: pl.DataFrame, vote: np.ndarray, allowed: np.ndarray) -> list[float]:
    """Shift and slope that a head's answers to ``rows`` are heard with."""
    whole = lesson(rows, COLUMNS, PARAMETERS)
    past = Past(whole, rows, PARAMETERS)
    for part in np.array_split(np.arange(rows.height), 3):
        past.add(Block(part, {"gb_direction": vote[part]}, Base(0.5, 0.0, (0.3, 0.4, 0.3))))
    document = past.voice("direction", ["gb_direction"], allowed).document()["calibration"]
    return [document["shift"], document["slope"]]


def test_two_answers_to_one_outcome_count_as_one() -> None:
    once = believed(ROWS, VOTE, np.arange(300))
    twice = believed(pl.concat([ROWS, ROWS]), np.tile(VOTE, 2), np.arange(600))
    assert twice == pytest.approx(once, rel=1e-9)
    other = ROWS.with_columns(symbol=pl.lit("OTHER"))
    of_two_symbols = believed(pl.concat([ROWS, other]), np.tile(VOTE, 2), np.arange(600))
    assert of_two_symbols[1] > once[1] + 0.002, "twice the evidence has more of its way"


def test_only_outcomes_that_are_known_are_heard() -> None:
    turned = ROWS.with_columns(up=pl.when(pl.int_range(pl.len()) >= 120).then(~pl.col("up")).otherwise("up"))
    known = np.arange(120)
    assert believed(turned, VOTE, known) == believed(ROWS, VOTE, known)
    assert believed(turned, VOTE, np.arange(300)) != believed(ROWS, VOTE, np.arange(300))
    assert believed(ROWS, VOTE, known[:0]) == [0.0, PARAMETERS.slope_prior]

"""Pictures of what has only begun: a panel without a line says why."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from alpha_assets.stations.drawing import TOO_SHORT, draw_falls, draw_wealth, figure_of
from alpha_assets.stations.performance_picture import draw_rate

DAYS = np.array(["2024-01-02", "2024-01-03"], dtype="datetime64[us]")


@pytest.mark.parametrize("periods", [0, 1, 2])
def test_an_account_of_less_than_two_periods_is_told_in_words(periods: int) -> None:
    _, (wealth, falls) = figure_of(4, 3, rows=2)
    returns = np.full(periods, -0.01)
    draw_wealth(wealth, DAYS[:periods], {"strategy": returns})
    draw_falls(falls, DAYS[:periods], returns)
    for panel in (wealth, falls):
        assert [text.get_text() for text in panel.texts] == ([] if periods == 2 else [TOO_SHORT])
        assert len(panel.lines) == (1 if periods == 2 else 0)


@pytest.mark.parametrize("closed", [0, 1])
def test_without_a_closed_position_there_is_no_rate_to_draw(closed: int) -> None:
    hits = pl.DataFrame({"left_at": [datetime(2024, 1, 3, tzinfo=UTC)], "hit_rate": [1.0], "win_rate": [0.0]})
    _, (panel,) = figure_of(4, 3)
    draw_rate(panel, hits.head(closed), 50, DAYS)
    assert [text.get_text() for text in panel.texts] == ([] if closed else ["nothing was closed yet"])

"""The risk of a position in a symbol now: by its volatility, how far it has fallen, and how unlike the bar is.

Each of the three is LOW, MEDIUM or HIGH by itself, and the risk is the highest of them: a quiet symbol far below its
high is as little safe as a wild one at it. What is not known counts for nothing; with nothing known there is no level.
"""

import polars as pl

from alpha_assets.quant.labels import LISTING, VOLATILITY_BARS
from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.quant.tally import RISKS

#: Dissimilarity from which a row no longer lies among what was learnt (``dissimilarity.Dissimilarity``).
OUTSIDE = 1.0


def figures(bars: pl.DataFrame, parameters: SignalParameters) -> pl.DataFrame:
    """Of each symbol's last bar: symbol, ``scale_bar``, ``rank`` and ``drawdown``, of its newest listing.

    ``bars`` hold symbol, timestamp, listing and adjusted close, of each symbol ``risk_bars`` + 21 where it has them.
    ``scale_bar`` is the deviation of the last 20 one-bar log returns; ``rank`` the share of its values over
    ``risk_bars`` bars that are no higher; ``drawdown`` 1 less close over the highest close of as many.
    """
    window = parameters.risk_bars
    one_bar = pl.col("close").log() - pl.col("close").log().shift(1).over(LISTING)
    moves = bars.sort("symbol", "timestamp").with_columns(one_bar=one_bar)
    measured = moves.with_columns(volatility=pl.col("one_bar").rolling_std(VOLATILITY_BARS).over(LISTING))
    newest = measured.filter(pl.col("listing") == pl.col("listing").last().over("symbol"))
    recent = pl.col("volatility").tail(window).drop_nulls()
    return newest.group_by("symbol", maintain_order=True).agg(
        scale_bar=pl.col("volatility").last(),
        rank=(recent <= pl.col("volatility").last()).mean(),
        drawdown=1 - pl.col("close").last() / pl.col("close").tail(window).max(),
    )


def level(
    rank: float | None,
    drawdown: float | None,
    dissimilarity: float | None,
    parameters: SignalParameters,
    dissimilar_from: float,
) -> str | None:
    """LOW, MEDIUM or HIGH; None where none of the three is known."""
    steps = (
        (rank, parameters.medium_rank, parameters.high_rank),
        (drawdown, parameters.medium_drawdown, parameters.high_drawdown),
        (dissimilarity, min(OUTSIDE, dissimilar_from), dissimilar_from),
    )
    told = [(value >= medium) + (value >= high) for value, medium, high in steps if value is not None]
    return RISKS[max(told)] if told else None

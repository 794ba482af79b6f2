"""From opinions to a signal. One opinion for now: that of the promoted model."""

import math
from typing import Literal

from alpha_assets.quant.parameters import SignalParameters

Signal = Literal["BUY", "HOLD", "SELL"]


def direction(p_up: float, parameters: SignalParameters) -> tuple[Signal, float | None]:
    """The signal of a P(up), and the probability of the direction it states.

    BUY from ``buy_from`` upwards, SELL from ``sell_to`` downwards, else HOLD, which states no direction and so
    has no confidence. Raises ValueError for what is no probability.
    """
    if not (math.isfinite(p_up) and 0.0 <= p_up <= 1.0):
        raise ValueError(f"P(up) is {p_up}: no signal can be made of what is not a probability")
    if p_up >= parameters.buy_from:
        return "BUY", p_up
    if p_up <= parameters.sell_to:
        return "SELL", 1.0 - p_up
    return "HOLD", None

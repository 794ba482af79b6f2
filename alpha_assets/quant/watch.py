"""Watching versions at work: what a canary's shadow shows, and whether production loses against its baseline.

A shadow proves operation, not skill: a handful of bars can show that a version answers, in time, with a probability and
without gross loss, and nothing finer; skill is the gate's, on years of out-of-fold predictions. Beside a version that
serves, its loss is held against what that one lost on the same bars: a market that nobody foresaw fails no successor.

Production is watched bar by bar, for ever, so its test must hold at every look at once. ``live_loss`` bets against
"this model loses no more than its baseline": the wealth of such a bettor is a supermartingale where that is true, and
reaches 1 / level with a chance of at most ``level``, however often one looks (Ville's inequality; Waudby-Smith and
Ramdas, 2024, "Estimating means of bounded random variables by betting").
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from alpha_assets.quant.parameters import PromotionParameters

#: Probabilities are held this far from 0 and 1, so that a loss is finite.
EDGE = 1e-6

#: Stakes of the bettor, shares of the largest possible loss; their mean wealth is a wealth again.
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])

#: Of the logarithm of wealth: beyond it e to the power is no number, and the answer has long been given.
LARGEST = 700.0


@dataclass(frozen=True)
class ShadowVerdict:
    """What the shadow of a canary shows so far: ``loss`` is the mean log-loss of the bars whose outcome is known.

    ``excess`` is the mean of its log-loss less the champion's over the ``compared`` of them on which both have spoken.
    """

    state: Literal["waiting", "passed", "failed"]
    bars: int
    wanted: int
    loss: float | None
    excess: float | None
    compared: int
    reason: str


def shadow(views: pl.DataFrame, parameters: PromotionParameters) -> ShadowVerdict:
    """The verdict on a canary's views, one row a bar: ``p_up``, ``champion``, ``lag_hours`` and ``up``.

    ``champion`` is P(up) by the version that serves, null where none has spoken; ``lag_hours`` counts from when the
    view could first be made; ``up`` is null while unknown. Gross is a loss by ``gross_loss`` - log 2 nats above the
    champion's, or, where nothing can be compared, above that of saying one half.

    A canary has to show one bar at least: where the settings ask for no shadow, who is canary has nothing else to show.
    One view that is no probability, or that came too late, fails it at once; gross loss is judged when the bars are
    complete. The order of the rows does not matter.
    """
    bars, wanted = views.height, max(parameters.shadow_bars, 1)
    odd = views.filter(~pl.col("p_up").is_between(0.0, 1.0).fill_null(False) | pl.col("p_up").is_nan())
    late = views.filter(pl.col("lag_hours") > parameters.shadow_late_hours)
    known = views.filter(pl.col("up").is_not_null(), pl.col("p_up").is_between(0.0, 1.0))
    losses = _log_loss(known["p_up"].to_numpy(), known["up"].to_numpy().astype(float))
    loss = float(losses.mean()) if losses.size else None
    both = known.filter(pl.col("champion").is_between(0.0, 1.0))
    risen = both["up"].to_numpy().astype(float)
    ours, theirs = (_log_loss(both[name].to_numpy(), risen) for name in ("p_up", "champion"))
    excess = float((ours - theirs).mean()) if ours.size else None

    def verdict(state: Literal["waiting", "passed", "failed"], reason: str) -> ShadowVerdict:
        return ShadowVerdict(state, bars, wanted, loss, excess, both.height, reason)

    if odd.height:
        return verdict("failed", f"{odd.height} of {bars} shadow views are no probability")
    if late.height:
        hours = float(late["lag_hours"].to_numpy().max())
        most = f"{parameters.shadow_late_hours:g}"
        return verdict("failed", f"{late.height} of {bars} shadow views came later than {most} hours, one {hours:.1f}")
    if bars < wanted:
        return verdict("waiting", f"in shadow: {bars} of {wanted} bars")
    told = "no outcome known yet" if loss is None else f"log-loss {loss:.3f} on {known.height} outcomes"
    lost, gross = loss, parameters.gross_loss
    if excess is not None:
        told += f", {excess:+.4f} nats a bar against the champion on {both.height} of them"
        lost, gross = excess, gross - math.log(2)
    if lost is not None and lost >= gross:
        return verdict("failed", f"{bars} bars of shadow: {told}, gross from {gross:.4g} on")
    return verdict("passed", f"{bars} bars of shadow: every view a probability and in time, {told}")


@dataclass(frozen=True)
class LiveVerdict:
    """Whether a model in production is confirmed to lose more than its baseline.

    ``excess`` is the mean of its log-loss less the baseline's, in nats; ``wealth`` the bettor's, held against
    1 / level.
    """

    confirmed: bool
    outcomes: int
    excess: float | None
    wealth: float
    threshold: float
    reason: str


def live_loss(views: pl.DataFrame, parameters: PromotionParameters, horizon: int) -> LiveVerdict:
    """The verdict on live views in time order: ``position`` (the bar's number), ``p_up``, ``baseline``, ``up``.

    Labels of bars less than ``horizon`` apart overlap; so after each view that counts the next ``horizon`` - 1 bars do
    not. Rows without an outcome, or where model and baseline say the same, carry no stake.
    """
    rows = views.filter(pl.col("up").is_not_null(), pl.col("p_up").is_between(0.0, 1.0))
    rows = rows[_apart(rows["position"].to_numpy(), horizon)]
    up = rows["up"].to_numpy().astype(float)
    ours, theirs = (np.clip(rows[name].to_numpy(), EDGE, 1 - EDGE) for name in ("p_up", "baseline"))
    excess = _log_loss(ours, up) - _log_loss(theirs, up)
    # What the model could gain at most on the baseline; known before the outcome, so the stake is fair.
    most = np.maximum(np.log(ours / theirs), np.log((1 - ours) / (1 - theirs)))
    differs = most > 1e-9
    steps = excess[differs] / most[differs]
    wealth = float(np.exp(np.minimum(np.log1p(np.outer(STAKES, steps)).sum(axis=1), LARGEST)).mean())
    threshold = 1.0 / parameters.rollback_level
    mean = float(excess.mean()) if excess.size else None
    told = (
        "no outcome yet" if mean is None else f"{mean:+.4f} nats a bar against its baseline on {excess.size} outcomes"
    )
    confirmed = wealth >= threshold
    word = "live loss is confirmed" if confirmed else "live loss is not confirmed"
    return LiveVerdict(
        confirmed, int(excess.size), mean, wealth, threshold, f"{word}: {told} (wealth {wealth:.3g} of {threshold:g})"
    )


def _apart(positions: np.ndarray, horizon: int) -> list[int]:
    chosen: list[int] = []
    free = -math.inf
    for place, position in enumerate(positions):
        if position >= free:
            chosen.append(place)
            free = position + horizon
    return chosen


def _log_loss(probability: np.ndarray, up: np.ndarray) -> np.ndarray:
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return -np.where(up > 0.5, np.log(inside), np.log(1 - inside))

"""Pasts of a pool for tests of blend and outlook: views with a planted skill, returns that share a factor."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from alpha_assets.quant.blend import DAY, Past, period_begins
from alpha_assets_tests.quant.markets import innovations

FIRST = datetime(2015, 1, 5, tzinfo=UTC)


def past(
    seed: int, dates: int, symbols: int, skill: tuple[float, ...], *, days: int = 7, deviation: float = 0.015
) -> Past:
    """``dates`` weekdays of ``symbols``, a view an entry of ``skill``, which is the IC of its score; a horizon of 1."""
    random = np.random.default_rng(seed)
    earned = innovations(random, dates, symbols)
    earned /= earned.std(axis=0)
    views = random.standard_normal((dates, symbols, len(skill)))
    ic = np.array(skill)
    earned = views @ ic + np.sqrt(1 - (ic**2).sum()) * earned
    day = np.arange(dates)
    stamps = int(FIRST.timestamp()) * 10**6 + (day // 5 * 7 + day % 5) * DAY
    begins = period_begins(FIRST, FIRST + timedelta(days=int(dates * 1.4) + 14), days)
    ends = stamps + 4 * DAY
    scale = np.full(dates * symbols, deviation)

    def each(of_date: np.ndarray) -> np.ndarray:
        return np.repeat(of_date, symbols)

    return Past(
        views=tuple(f"view{number}" for number in range(len(skill))),
        begins=begins,
        scores=np.tanh(views.reshape(-1, len(skill)) / 3),
        earned=earned.ravel(),
        returned=earned.ravel() * scale,
        scale=scale,
        reached=np.log1p(np.maximum(earned.ravel() * scale, -0.9)),
        cell=random.integers(0, 5, dates * symbols),
        period=each(np.searchsorted(begins, stamps, side="right") - 1),
        settled=each(np.searchsorted(begins, ends, side="left")),
        led=np.ones(dates * symbols, dtype=bool),
        horizon=1,
    )


def changed_after(one: Past, period: int, seed: int = 0) -> Past:
    """The same with other outcomes where they were not known when the period began, and other views after it."""
    random = np.random.default_rng(seed)
    later, future = one.settled > period, one.period >= period
    earned = np.where(later, random.standard_normal(len(one.earned)) * 3, one.earned)
    return replace(
        one,
        earned=earned,
        returned=np.where(later, earned * one.scale, one.returned),
        reached=np.where(later, np.arctan(earned) / 50, one.reached),
        scores=np.where(future[:, None], random.uniform(-1, 1, one.scores.shape), one.scores),
    )

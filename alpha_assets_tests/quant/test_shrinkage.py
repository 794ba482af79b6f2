"""From the pool to the symbol: the weak are drawn to the pool, the strong are left."""

import numpy as np
import pytest

from alpha_assets.quant.evidence import Sample
from alpha_assets.quant.parameters import GateParameters
from alpha_assets.quant.shrinkage import shrink, symbol_effects
from alpha_assets_tests.quant.markets import frame, planted


def test_shrinkage_draws_the_weak_to_the_pool_and_leaves_the_strong() -> None:
    errors = np.full(12, 0.03)
    equal = np.random.default_rng(2).normal(0.1, 0.03, 12)
    effect, probability = shrink(equal, errors)
    assert effect.std() < 0.6 * equal.std()
    assert (probability > 0.5).all()
    assert (probability > 0.9).sum() == 11
    lone = np.array([0.25] + [0.0] * 11)
    effect, probability = shrink(lone, errors)
    assert probability[0] > 0.99
    assert effect[0] > 0.15
    assert (probability[1:] < 0.5).all()


def test_a_symbols_effect_is_its_own_ts_ic_drawn_to_the_pool() -> None:
    evidence = planted(3, 1500, 8, 0.1, edged=4)
    effects = symbol_effects(Sample(evidence, GateParameters(), 1))
    for number, (_, rows) in enumerate(evidence.sort("symbol", "timestamp").group_by("symbol", maintain_order=True)):
        own = np.corrcoef(rows["score"].to_numpy(), rows["scaled_return"].to_numpy())[0, 1]
        assert effects.ic[number] == pytest.approx(own)
    assert effects.effect.std() < effects.ic.std()
    assert (effects.probability[:4] > 0.9).all()


def test_a_contrarian_score_makes_no_symbol_look_skilled() -> None:
    """The plain TS-IC of a symbol is 0.7 errors above nothing here; shrunk unpurged it would stay at 0.054."""
    plain, effect, promoted = [], [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        sums = np.cumsum(np.concatenate([np.zeros((1, 10)), random.standard_normal((465, 10))]), axis=0)
        evidence = frame(sums[:400] - sums[60:460], sums[65:465] - sums[60:460])
        effects = symbol_effects(Sample(evidence, GateParameters(), 5))
        plain.append(np.mean(effects.ic / effects.error))
        effect.append(np.mean(effects.effect))
        promoted.append(np.mean(effects.probability > 0.9))
    assert np.mean(plain) > 0.5
    assert np.mean(effect) < 0.04
    assert np.mean(promoted) < 0.04

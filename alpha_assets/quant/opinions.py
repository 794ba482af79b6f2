"""What heads said of rows that they had not seen, and what is believed of it: the part that every procedure shares.

Whoever walks forward (``heads`` over bars, ``pattern_heads`` over events) fits the heads on the past, asks them about
the next block, and tunes how they are heard on their answers to the blocks before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant.calibration import Voice, log_odds, tuned
from alpha_assets.quant.learners import BUY, HOLD, SELL, Array, Lesson, Model, evened, learner
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.splits import Fold
from alpha_assets.quant.weights import sample_weights, uniqueness

#: The opinions: trees and linear models of a kind are heard apart.
OPINIONS = ("return", "direction", "signal", "linear_return", "linear_direction")


@dataclass(frozen=True)
class Refusal:
    """Why a symbol has no fit of its own: a state of affairs, not an error."""

    reason: str


@dataclass(frozen=True)
class Base:
    """What a fit would say without any feature: share of up, mean return, shares of sell, hold and buy.

    ``rows`` are those of the fit; None in the files of a version that is older than the question.
    """

    up: float
    earned: float
    signal: tuple[float, float, float]
    rows: int | None = None

    @classmethod
    def of(cls, rows: Lesson) -> "Base":
        """Of the rows of a fit, each counting for its ``sample``; no class has a share of nothing."""
        counts = np.bincount(rows.signal, rows.sample, minlength=3) + 1.0
        shares = counts / counts.sum()
        earned = float(np.average(rows.earned, weights=rows.regression))
        up = float(np.average(rows.up, weights=rows.sample))
        return cls(up, earned, (float(shares[SELL]), float(shares[HOLD]), float(shares[BUY])), len(rows.up))

    def believed(self, parameters: LearningParameters) -> float:
        """How much of the share of up is believed, as a shift of log-odds: it is drawn towards even odds.

        It is a rate of few labels where they overlap: 120 of them apart know it to 0.045, which loses 0.004 nats where
        there is nothing to know. Even odds count as ``prior_labels`` labels (the posterior mean of a beta prior).
        """
        if self.rows is None:
            return 0.0
        labels = self.rows / parameters.horizon
        drawn = (labels * self.up + parameters.prior_labels / 2) / (labels + parameters.prior_labels)
        return float(log_odds(drawn) - log_odds(self.up))

    def spread(self, opinion: str, count: int) -> Array:
        """The prior of an opinion, one a row."""
        kind = kind_of(opinion)
        if kind == "signal":
            return np.tile(np.array(self.signal), (count, 1))
        return np.full(count, self.up if kind == "direction" else self.earned)


@dataclass(frozen=True)
class Block:
    """The rows of a block by number, what each head said of them, and the prior of the fits that said it."""

    rows: Array
    said: Mapping[str, Array]
    base: Base


@dataclass(frozen=True)
class Step:
    """One fold of a walk: what its fits saw, which is as large as the rows, and the block that they answered."""

    fold: Fold
    seen: Lesson
    block: Block


class Past:
    """What the heads said so far of rows that their fits had not seen.

    ``whole`` are all rows, and ``rows`` the same as a frame (symbol, label_start, held_until).
    """

    def __init__(self, whole: Lesson, rows: pl.DataFrame, parameters: LearningParameters) -> None:
        self._whole = whole
        self._held = rows.select("symbol", "label_start", "held_until")
        self._parameters = parameters
        self._blocks: list[Block] = []

    def add(self, block: Block) -> None:
        """Remember an answered block."""
        self._blocks.append(block)

    def voices(self, heads: Sequence[str], allowed: Array) -> dict[str, Voice]:
        """The voice of each opinion, tuned on the answers to the ``allowed`` rows, whose outcomes are known."""
        heard = self._heard(allowed)
        named = {opinion: speakers(opinion, heads, self._parameters) for opinion in OPINIONS}
        return {opinion: self._voice(opinion, names, heard) for opinion, names in named.items() if names}

    def voice(self, opinion: str, names: Sequence[str], allowed: Array) -> Voice:
        """The voice of one opinion, which is that of the heads ``names``."""
        return self._voice(opinion, names, self._heard(allowed))

    def _heard(self, allowed: Array) -> "_Heard":
        open_to = np.zeros(len(self._whole.up), dtype=bool)
        open_to[allowed] = True
        kept = [open_to[block.rows] for block in self._blocks]
        chosen = (block.rows[some] for block, some in zip(self._blocks, kept, strict=True))
        rows = np.concatenate([np.empty(0, dtype=np.int64), *chosen])
        return _Heard(kept, rows, uniqueness(self._held[rows]).to_numpy())

    def _voice(self, opinion: str, names: Sequence[str], heard: "_Heard") -> Voice:
        kind = kind_of(opinion)
        shape = (0, 3) if kind == "signal" else (0,)
        answered = list(zip(self._blocks, heard.kept, strict=True))
        base = [block.base.spread(opinion, kept.sum()) for block, kept in answered]
        answers = {name: [block.said[name][kept] for block, kept in answered] for name in names}
        outcome = {"direction": self._whole.up, "signal": self._whole.signal}.get(kind, self._whole.earned)
        return tuned(
            kind,
            {name: np.concatenate([np.empty(shape), *said]) for name, said in answers.items()},
            np.concatenate([np.empty(shape), *base]),
            outcome[heard.rows],
            evened(self._whole.precision[heard.rows]),
            heard.share,
            self._parameters,
        )


@dataclass(frozen=True)
class _Heard:
    """Which rows of each block a voice is tuned on, their numbers, and what of each outcome among them is its own."""

    kept: Sequence[Array]
    rows: Array
    share: Array


def kind_of(opinion: str) -> Any:
    """What the heads of an opinion tell."""
    return opinion.removeprefix("linear_")


def speakers(opinion: str, heads: Sequence[str], parameters: LearningParameters) -> list[str]:
    """The heads that an opinion is made of."""
    linear = opinion.startswith("linear_")
    return [
        name for name in heads if (head := learner(name, parameters)).kind == kind_of(opinion) and head.linear == linear
    ]


def walk(
    whole: Lesson,
    heads: Sequence[str],
    folds: Iterable[Fold],
    teach: Callable[[Array], Lesson],
    parameters: LearningParameters,
) -> Iterator[Step]:
    """Fit the heads on each fold's training rows, as ``teach`` gives them, and ask them about its test rows.

    A fold whose training rows all went one way is left out.
    """
    for fold in folds:
        seen = teach(fold.train)
        base = Base.of(seen)
        if 0.0 < base.up < 1.0:
            models = fitted(heads, seen, parameters)
            said = said_of(models, parameters, whole.features[fold.test])
            yield Step(fold, seen, Block(fold.test, said, base))


def taught(
    whole: Lesson, numbers: Array, rows: pl.DataFrame, stamps: pl.Series, parameters: LearningParameters
) -> Lesson:
    """What a fit on the rows ``numbers`` of ``whole`` sees: ``max_rows`` of them at most, evenly, and what each counts.

    ``rows`` are those of ``whole`` as a frame, ``stamps`` the bars of the pool that ages are counted in.
    """
    chosen = numbers[:: -(-len(numbers) // parameters.max_rows)] if len(numbers) else numbers
    return whole.at(chosen).weighed(sample_weights(rows[chosen], stamps, parameters.recency_half_life).to_numpy())


def fitted(heads: Sequence[str], rows: Lesson, parameters: LearningParameters) -> dict[str, Model]:
    """The heads' models of ``rows``."""
    return {name: learner(name, parameters).fit(rows) for name in heads}


def said_of(models: Mapping[str, Model], parameters: LearningParameters, features: Array) -> dict[str, Array]:
    """What each head says of each row."""
    return {name: learner(name, parameters).predict(model, features) for name, model in models.items()}


def most_telling(columns: Sequence[str], shares: Array | None) -> dict[str, float]:
    """The twenty columns that count most."""
    if shares is None:
        return {}
    order = np.argsort(-shares, kind="stable")[:20]
    return {columns[at]: round(float(shares[at]), 4) for at in order if shares[at] > 0}

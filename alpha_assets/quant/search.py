"""A search of hyper-parameters that spends no evidence: it sees nothing that a fold of the walk is tested on.

One configuration serves a family, so one search is made for it, on the pooled rows of its regime, inside what the first
fold of the walk may learn from. Every later fold, and every symbol's own walk, which cannot begin before the pool's, is
as unseen by the search as by the fits. What it tried is counted: the gate asks more of the best of many.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from alpha_assets.quant.calibration import log_odds
from alpha_assets.quant.evidence import Sample
from alpha_assets.quant.gate_lines import portfolio
from alpha_assets.quant.learners import Lesson, learner, lesson
from alpha_assets.quant.opinions import speakers, taught, walk
from alpha_assets.quant.parameters import SPEAKERS, GateParameters, LearningParameters
from alpha_assets.quant.splits import Fold, purged_k_fold

if TYPE_CHECKING:
    import optuna

#: Least and most of each parameter that a search may turn, and whether it is drawn by its logarithm. From trees that
#: hardly move the prior to those that begin to learn the noise.
SPACE: Mapping[str, tuple[float, float, bool]] = {
    "depth": (3, 12, False),
    "forest_leaf_rows": (20, 400, True),
    "rounds": (10, 120, True),
    "learning_rate": (0.01, 0.2, True),
    "leaves": (2, 16, True),
    "min_leaf_rows": (20, 400, True),
    "l2": (1.0, 500.0, True),
    "column_share": (0.2, 1.0, False),
    "row_share": (0.4, 1.0, False),
    "linear_l2": (50.0, 50_000.0, True),
}


#: Log-odds by which heads leave their prior at least: below, they say nothing but rounding.
SILENCE = 1e-6


@dataclass(frozen=True)
class Trial:
    """A configuration as a user would set it, and its score, a Sharpe ratio per date; None where that is undefined."""

    parameters: LearningParameters
    score: float | None


@dataclass(frozen=True)
class Found:
    """The parameters of the best trial, what of them a search may turn, and every trial in the order it was made."""

    parameters: LearningParameters
    turned: Mapping[str, float] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()

    def document(self) -> dict[str, Any]:
        """For JSON: what was chosen, and of every trial what was turned and its score."""
        told = [
            {**{name: getattr(trial.parameters, name) for name in self.turned}, "score": trial.score}
            for trial in self.trials
        ]
        return {"chosen": dict(self.turned), "trials": told}


def turnable(parameters: LearningParameters) -> tuple[str, ...]:
    """The parameters of whatever heads speak for the direction: their score is the family's."""
    names = {name for head in _heads(parameters) for name in learner(head, parameters).searched}
    return tuple(name for name in SPACE if name in names)


def search(
    rows: pl.DataFrame,
    spans: pl.DataFrame,
    columns: Sequence[str],
    first: Fold,
    parameters: LearningParameters,
    rules: GateParameters,
    expired: Callable[[], bool],
) -> Found:
    """Try ``search_trials`` configurations by TPE (Bergstra et al., 2011), the given one first.

    ``rows`` and ``spans`` as in ``heads.blocks`` and ``heads.learn``; of them the training rows of the fold ``first``
    are read, and scored by ``score``. ``expired`` is asked before each trial but the first. The same arguments give the
    same trials, so long as it does not cut them short.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = rows[first.train]
    windows = purged_k_fold(
        spans.filter(pl.col("label_end") <= known["label_end"].max()), parameters.inner_folds, parameters.embargo
    )
    folds = [fold for fold in (window.fold(known) for window in windows) if len(fold.train) and len(fold.test)]
    plain = replace(parameters, search_trials=0, search_seconds=0.0)
    space = {name: _range(name, getattr(plain, name)) for name in turnable(plain)}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=plain.seed))
    study.enqueue_trial({name: getattr(plain, name) for name in space})
    trials: list[Trial] = []
    while len(trials) < parameters.search_trials and not (trials and expired()):
        asked = study.ask(space)
        tried = replace(plain, **asked.params)
        told = score(known, spans["timestamp"], columns, folds, tried, rules)
        study.tell(asked, told, None if told is not None else optuna.trial.TrialState.FAIL)
        trials.append(Trial(tried, told))
    best = max(trials, key=lambda trial: -np.inf if trial.score is None else trial.score)
    turned = {name: getattr(best.parameters, name) for name in space}
    return Found(replace(parameters, **turned), turned, tuple(trials))


def score(
    known: pl.DataFrame,
    stamps: pl.Series,
    columns: Sequence[str],
    folds: Sequence[Fold],
    parameters: LearningParameters,
    rules: GateParameters,
) -> float | None:
    """What the gate counts a trial by (``gate_lines.portfolio``), of an equal vote over the inner folds.

    None where that is undefined or the heads say nothing.
    """
    whole = lesson(known, columns, parameters)
    heads = _heads(parameters)

    def teach(numbers: np.ndarray) -> Lesson:
        return taught(whole, numbers, known, stamps, parameters)

    parts = []
    for step in walk(whole, heads, folds, teach, parameters):
        vote = np.mean([step.block.said[name] for name in heads], axis=0)
        beyond = log_odds(vote) - log_odds(step.block.base.up)
        answered = known[step.block.rows].select("symbol", "timestamp", "scaled_return", "up")
        parts.append(answered.with_columns(p_up=pl.Series(vote), score=pl.Series(beyond)))
    said = pl.concat(parts) if parts else pl.DataFrame(schema={"score": pl.Float64})
    if not (said["score"].abs() > SILENCE).any():
        return None
    found = portfolio(Sample(said, rules, parameters.horizon))
    return None if found is None else found.sharpe


def _heads(parameters: LearningParameters) -> list[str]:
    opinion = "direction" if parameters.learner == SPEAKERS[0] else "linear_direction"
    return speakers(opinion, parameters.heads, parameters)


def _range(name: str, own: float) -> "optuna.distributions.BaseDistribution":
    """The range of ``SPACE``, reaching as far as what the user has set."""
    import optuna

    least, most, by_log = SPACE[name]
    least, most = min(least, own), max(most, own)
    if isinstance(own, int):
        return optuna.distributions.IntDistribution(int(least), int(most), log=by_log)
    return optuna.distributions.FloatDistribution(least, most, log=by_log)

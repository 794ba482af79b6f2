"""A candidate: all heads of one (symbol, regime), and the procedure that makes it and is judged.

The procedure walks forward. Each block of the calendar is answered by heads that were fitted on the purged rows before
it; how they vote, and how much of what they say is believed, rests on their answers to the blocks before, as far as
those outcomes lie in the block's purged past too. These blocks are the inner folds: what is tuned at a block has seen
neither the block nor anything that overlaps it, and no fit is made for the tuning alone. A first, small block
(``burn_in``) is answered only to tune the next. What is registered is the last step: heads fitted on all rows, tuned
on all answers.

A pooled candidate reads the rows of all symbols of a regime and has an intercept a symbol: the symbol's share of up and
mean return, drawn towards the pool's by as much as chance alone would scatter them (empirical Bayes).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant import scores
from alpha_assets.quant.calibration import Voice, log_odds, probability
from alpha_assets.quant.dissimilarity import Dissimilarity
from alpha_assets.quant.learners import BUY, HOLD, SELL, Array, Lesson, Model, Scaling, learner, lesson, matrix
from alpha_assets.quant.opinions import Base, Past, Refusal, fitted, most_telling, said_of, taught, walk
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.pattern_heads import EVENT, PatternModel, PatternsLearnt, learn_patterns, pattern_heads
from alpha_assets.quant.splits import Fold, vault, walk_forward
from alpha_assets.quant.weights import uniqueness

#: The file of a candidate that names all others, and the one that holds the references of the dissimilarity.
INDEX = "candidate.json"
REFERENCES = "references.npy"

#: What a candidate says of a row, in this order.
ANSWERS = (
    *("expected_return", "p_up", "p_sell", "p_hold", "p_buy", "dissimilarity"),
    *("linear_p_up", "linear_expected_return"),
)


#: Rows of each class below which the three-class heads are left out: fewer leaves than that can tell nothing apart.
CLASS_ROWS = 20

#: Share of the rows before the first fold on which the burn-in block is fitted; the rest of them it answers.
BURN_IN = 0.6


@dataclass(frozen=True)
class Intercept:
    """What sets a symbol apart from its pool: a shift of the log-odds of up, and of the expected return."""

    odds: float = 0.0
    earned: float = 0.0


NONE = Intercept()


@dataclass(frozen=True)
class Candidate:
    """Heads that were fitted together, and how they speak."""

    columns: tuple[str, ...]
    parameters: LearningParameters
    base: Base
    models: Mapping[str, Model]
    voices: Mapping[str, Voice]
    dissimilarity: Dissimilarity
    intercepts: Mapping[str, Intercept] = field(default_factory=dict)
    patterns: PatternModel | None = None

    def predict(
        self, features: Array, symbols: Sequence[str] | None = None, said: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """``ANSWERS``, score and linear_score of each row of ``features`` (rows x columns, NaN for null).

        ``symbols`` names each row's symbol to a pooled candidate; without it, and for a symbol it never met, the pool
        speaks. ``said`` are the heads' answers to these rows where they were asked already. What no head tells is NaN.
        """
        said = self.said(features) if said is None else said
        answers = _answers(said, self.base, self.voices, self.parameters, _shifts(self.intercepts, symbols, features))
        return {**answers, "dissimilarity": self.dissimilarity(features)}

    def said(self, features: Array) -> dict[str, Array]:
        """What each head says of each row by itself, before anybody is weighed or calibrated."""
        return said_of(self.models, self.parameters, features)

    def contributions(self, features: Array, *, linear: bool = False) -> Array:
        """What each column adds to the log-odds of up that the heads vote for, rows x columns: their weighted sum.

        The heads are those of the direction, or the linear ones; one that cannot tell is left out.
        """
        voice = self.voices.get("linear_direction" if linear else "direction")
        total = np.zeros(features.shape)
        for name, weight in (voice.weights if voice else {}).items():
            told = learner(name, self.parameters).contributions(self.models[name], features) if weight > 0 else None
            total += 0.0 if told is None else weight * told
        return total

    def files(self) -> dict[str, bytes]:
        """The candidate as native files by name; ``load`` makes the same of them."""
        heads = {name: learner(name, self.parameters) for name in self.models}
        index = {
            "columns": list(self.columns),
            "parameters": asdict(self.parameters),
            "base": asdict(self.base),
            "heads": {name: f"{name}.{head.suffix}" for name, head in heads.items()},
            "voices": {name: voice.document() for name, voice in self.voices.items()},
            "scaling": self.dissimilarity.scaling.document(),
            "mean_distance": self.dissimilarity.mean_distance,
            "intercepts": {symbol: asdict(shift) for symbol, shift in self.intercepts.items()},
            "patterns": self.patterns.document() if self.patterns else None,
        }
        return {
            INDEX: json.dumps(index).encode(),
            REFERENCES: self.dissimilarity.save(),
            **{f"{name}.{head.suffix}": head.save(self.models[name]) for name, head in heads.items()},
            **(self.patterns.files() if self.patterns else {}),
        }

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> "Candidate":
        """The candidate of ``files``. Raises KeyError for a file that its index names and that is not there."""
        index = json.loads(files[INDEX])
        parameters = LearningParameters(**index["parameters"] | {"heads": tuple(index["parameters"]["heads"])})
        scaling = Scaling.restored(index["scaling"])
        # Versions of before there were pattern heads do not speak of them.
        patterns = index.get("patterns")
        return cls(
            columns=tuple(index["columns"]),
            parameters=parameters,
            base=Base(**index["base"] | {"signal": tuple(index["base"]["signal"])}),
            models={name: learner(name, parameters).load(files[file]) for name, file in index["heads"].items()},
            voices={name: Voice.restored(document) for name, document in index["voices"].items()},
            dissimilarity=Dissimilarity.load(files[REFERENCES], scaling, index["mean_distance"]),
            intercepts={symbol: Intercept(**shift) for symbol, shift in index["intercepts"].items()},
            patterns=PatternModel.restored(patterns, files, parameters) if patterns else None,
        )


@dataclass(frozen=True)
class Learnt:
    """A candidate, its out-of-fold answers (the evidence), and the figures of its heads, by fold and together."""

    candidate: Candidate
    evidence: pl.DataFrame
    report: dict[str, Any]


def enough(rows: pl.DataFrame, parameters: LearningParameters) -> Refusal | None:
    """Why these labelled rows of one symbol are too few, or of one kind only; None where they will do.

    Labels count by their uniqueness: those of a regime that comes and goes overlap less than one in ``horizon``.
    """
    # No more than ``horizon`` labels of a symbol are held at once: where that many will do, nothing has to be measured.
    labels = rows.height // parameters.horizon
    if labels < parameters.min_labels and parameters.horizon > 1:
        labels = int(uniqueness(rows).sum())
    if rows.height < parameters.min_rows or labels < parameters.min_labels:
        return Refusal(
            f"{rows.height} labelled rows, {labels} of them without overlap at horizon {parameters.horizon}; "
            f"an own fit needs {parameters.min_rows} and {parameters.min_labels}"
        )
    if rows["up"].n_unique() < 2:
        return Refusal(f"all {rows.height} labelled rows went the same way; there is nothing to tell apart")
    return None


def blocks(
    spans: pl.DataFrame,
    member: Array,
    parameters: LearningParameters,
    least: int,
    shut: datetime | None = None,
) -> tuple[list[Fold], list[Fold]]:
    """The burn-in block (one or none) and the walk-forward folds of the rows where ``member``.

    ``spans`` (timestamp, known_at, label_end) are all labelled rows, of every regime: purge, embargo and the cuts are
    made on the calendar, and only then are the rows of other regimes left out, so that a regime's folds are as wide in
    time as those of ``all``. The first fold trains on about ``least`` timestamps that have a member. A fold that
    trains on fewer than a third of ``least`` rows is left out. Where a vault begins at ``shut``, no row is in a fold
    whose label was not known before. Row numbers count the members.
    """
    opened = np.arange(spans.height) if shut is None else np.flatnonzero((spans["label_end"] < shut).to_numpy())
    stamps = spans["timestamp"].to_physical().to_numpy()[opened]
    distinct = np.unique(stamps)
    reached = np.cumsum(np.isin(distinct, np.unique(stamps[member[opened]])))
    start = int(np.searchsorted(reached, least)) + 1
    if start >= len(distinct):
        return [], []
    early = opened[stamps < distinct[start]]
    first = walk_forward(spans[early], 1, parameters.embargo, max(1, int(BURN_IN * start)))
    burn_in = [_members(fold, early, member) for fold in first]
    folds = [
        _members(fold, opened, member)
        for fold in walk_forward(spans[opened], parameters.folds, parameters.embargo, start)
    ]
    usable = [[fold for fold in some if len(fold.test) and len(fold.train) >= least / 3] for some in (burn_in, folds)]
    return usable[0], usable[1]


def vault_fold(spans: pl.DataFrame, member: Array, parameters: LearningParameters, shut: datetime) -> Fold:
    """The members in the vault as test rows, those that were known before it, less the embargo, to train."""
    return _members(vault(spans, shut, parameters.embargo).fold(spans), np.arange(spans.height), member)


def _members(fold: Fold, rows: Array, member: Array) -> Fold:
    """The part of a fold of ``rows`` that are members, numbered among them."""
    number = np.cumsum(member) - 1
    train, test = rows[fold.train], rows[fold.test]
    return Fold(number[train[member[train]]], number[test[member[test]]])


def learn(
    rows: pl.DataFrame,
    columns: Sequence[str],
    burn_in: Sequence[Fold],
    folds: Sequence[Fold],
    parameters: LearningParameters,
    *,
    stamps: pl.Series | None = None,
    events: pl.DataFrame | None = None,
    pooled: bool = False,
) -> Learnt | Refusal:
    """Walk the procedure over the labelled rows of one cell, sorted by timestamp, and fit what will serve.

    ``rows`` holds symbol, timestamp, label_start, held_until, up, label_return, scaled_return, scale and the features
    named by ``columns``. Each counts in a fit by the uniqueness of its label among the rows of that fit, and by its age
    in ``stamps``, the bars of all regimes (``weights.sample_weights``); without them, in its own rows. ``burn_in`` and
    ``folds`` number the rows (``blocks``); a fold whose training rows all went one way is skipped.

    ``events`` teach the pattern heads (``pattern_heads``); why there are none is in the report. Too few of them, or
    none, leave everything else as it is.

    The evidence holds symbol, timestamp, p_up, prior (share of up among the rows of the symbol that its fit saw: the
    naive rival), score (log-odds of p_up less those of the fit's prior: what the features said beyond the drift of the
    past), the other ``ANSWERS`` and linear_score.
    """
    whole = lesson(rows, columns, parameters)
    stamps = rows["timestamp"] if stamps is None else stamps
    symbols = rows["symbol"].to_numpy()
    heads = _heads_for(whole, folds, parameters)

    def teach(numbers: Array) -> Lesson:
        return taught(whole, numbers, rows, stamps, parameters)

    past = Past(whole, rows, parameters)
    for step in walk(whole, heads, burn_in, teach, parameters):
        past.add(step.block)
    parts, walked = [], []
    for step in walk(whole, heads, folds, teach, parameters):
        fold, block = step.fold, step.block
        voices = past.voices(heads, fold.train)
        intercepts = _intercepts(whole, symbols, fold.train, block.base, parameters) if pooled else {}
        shifts = _shifts(intercepts, symbols[fold.test], fold.test)
        answers = _answers(block.said, block.base, voices, parameters, shifts)
        unlike = Dissimilarity.of(step.seen.features, step.seen.scaling, parameters.references)
        answers["dissimilarity"] = unlike(whole.features[fold.test])
        parts.append(_evidence(rows[fold.test], answers, _priors(whole, symbols, fold, block.base)))
        walked.append(_Walked(len(fold.train), fold.test, block.said, answers))
        past.add(block)
    if not parts:
        return Refusal(f"{rows.height} labelled rows leave no walk-forward fold that can be fitted")
    everything = np.arange(rows.height)
    seen = teach(everything)
    base = Base.of(seen)
    models = fitted(heads, seen, parameters)
    firing = None
    if events is not None and pattern_heads(parameters):
        firing = learn_patterns(events, rows, columns, whole, burn_in, folds, parameters, stamps)
    candidate = Candidate(
        columns=tuple(columns),
        parameters=parameters,
        base=base,
        models=models,
        voices=past.voices(heads, everything),
        dissimilarity=Dissimilarity.of(seen.features, seen.scaling, parameters.references),
        intercepts=_intercepts(whole, symbols, everything, base, parameters) if pooled else {},
        patterns=firing.model if isinstance(firing, PatternsLearnt) else None,
    )
    evidence = pl.concat(parts).sort("symbol", "timestamp")
    report = _report(walked, whole, candidate)
    if isinstance(firing, PatternsLearnt):
        report = {**report, "heads": report["heads"] | firing.heads, "patterns": firing.figures}
    elif firing is not None:
        report = {**report, "patterns": {"refused": firing.reason}}
    return Learnt(candidate, evidence, report)


@dataclass(frozen=True)
class _Walked:
    """One fold: how many rows it was fitted on, which it answered, what heads and candidate said."""

    trained: int
    rows: Array
    said: Mapping[str, Array]
    answers: Mapping[str, Array]


def _heads_for(whole: Lesson, folds: Sequence[Fold], parameters: LearningParameters) -> list[str]:
    """The heads that the rows before the first fold can teach; those of patterns learn from events.

    What later rows could teach is not known when the first fold is answered.
    """
    kinds = {"return", "direction"}
    first = whole.signal[folds[0].train] if folds else whole.signal
    if np.bincount(first, minlength=3).min() >= CLASS_ROWS:
        kinds.add("signal")
    return [name for name in parameters.heads if learner(name, parameters).kind in kinds]


def _answers(
    said: Mapping[str, Array],
    base: Base,
    voices: Mapping[str, Voice],
    parameters: LearningParameters,
    shifts: tuple[Array, Array],
) -> dict[str, Array]:
    """``ANSWERS`` but the dissimilarity, score and linear_score; ``shifts`` of log-odds and return a row."""
    odds, earned = shifts
    odds = odds + base.believed(parameters)
    nothing = np.full(len(odds), np.nan)

    def hear(opinion: str) -> Array | None:
        return voices[opinion](said, base.spread(opinion, len(odds))) if opinion in voices else None

    trees, linear = hear("direction"), hear("linear_direction")
    chosen, returns = (linear, "linear_return") if parameters.learner == "linear" else (trees, "return")
    if chosen is None:
        raise ValueError(f"no head speaks for the direction among {', '.join(said)}: ALPHA_LEARNING__HEADS lacks one")
    expected, linear_expected, three = hear(returns), hear("linear_return"), hear("signal")
    return {
        "expected_return": nothing if expected is None else expected + earned,
        "p_up": np.asarray(probability(log_odds(chosen) + odds)),
        "score": np.asarray(log_odds(chosen) - log_odds(base.up)),
        **{
            name: nothing if three is None else three[:, column]
            for name, column in (("p_sell", SELL), ("p_hold", HOLD), ("p_buy", BUY))
        },
        "linear_score": nothing if linear is None else np.asarray(log_odds(linear) - log_odds(base.up)),
        "linear_p_up": nothing if linear is None else np.asarray(probability(log_odds(linear) + odds)),
        "linear_expected_return": nothing if linear_expected is None else linear_expected + earned,
    }


def _shifts(
    intercepts: Mapping[str, Intercept], symbols: Sequence[str] | Array | None, rows: Array
) -> tuple[Array, Array]:
    """The shifts of log-odds and return of each row by its symbol, 0 without one."""
    if not intercepts or symbols is None:
        return np.zeros(len(rows)), np.zeros(len(rows))
    found = [intercepts.get(str(symbol), NONE) for symbol in symbols]
    return np.array([one.odds for one in found]), np.array([one.earned for one in found])


def _intercepts(
    whole: Lesson, symbols: Array, rows: Array, base: Base, parameters: LearningParameters
) -> dict[str, Intercept]:
    names, place = np.unique(symbols[rows], return_inverse=True)
    counts = np.bincount(place)
    up = _shrunk(place, counts, whole.up[rows] - base.up, parameters.horizon)
    earned = _shrunk(place, counts, whole.earned[rows] - base.earned, parameters.horizon)
    odds = up / (base.up * (1 - base.up))
    return {str(name): Intercept(float(odds[at]), float(earned[at])) for at, name in enumerate(names)}


def _shrunk(place: Array, counts: Array, excess: Array, horizon: int) -> Array:
    """Means by symbol, drawn towards 0: tau^2 / (tau^2 + noise), tau^2 by the method of moments (Efron and Morris)."""
    means = np.bincount(place, weights=excess) / counts
    noise = excess.var() * horizon / counts
    between = max(float(np.mean(means**2 - noise)), 0.0)
    return np.asarray(means * between / (between + noise)) if between > 0 else np.zeros(len(counts))


def _priors(whole: Lesson, symbols: Array, fold: Fold, base: Base) -> Array:
    """The share of up among the training rows of each row's symbol; the fit's own where it saw none of them."""
    names, place = np.unique(symbols[fold.train], return_inverse=True)
    shares = np.bincount(place, weights=whole.up[fold.train]) / np.bincount(place)
    at = np.minimum(np.searchsorted(names, symbols[fold.test]), len(names) - 1)
    return np.where(names[at] == symbols[fold.test], shares[at], base.up)


def _evidence(rows: pl.DataFrame, answers: Mapping[str, Array], prior: Array) -> pl.DataFrame:
    names = ("p_up", "score", *(name for name in ANSWERS if name != "p_up"), "linear_score")
    said = {name: pl.Series(answers[name], dtype=pl.Float64).fill_nan(None) for name in names}
    return rows.select("symbol", "timestamp").with_columns(prior=pl.Series(prior), **said)


def _report(walked: Sequence[_Walked], whole: Lesson, candidate: Candidate) -> dict[str, Any]:
    """Figures of each head in all folds and in each, and what the pictures are drawn from."""
    rows = np.concatenate([fold.rows for fold in walked])
    answered = whole.at(rows)
    parameters = candidate.parameters
    heads = {}
    for name, model in candidate.models.items():
        head = learner(name, parameters)
        said = np.concatenate([fold.said[name] for fold in walked])
        shares = head.importance(model)
        heads[name] = {
            "kind": head.kind,
            "together": scores.figures(head.kind, said, answered),
            "folds": [scores.figures(head.kind, fold.said[name], whole.at(fold.rows)) for fold in walked],
            "importance": most_telling(candidate.columns, shares),
        }
    p_up = np.concatenate([fold.answers["p_up"] for fold in walked])
    three = np.column_stack(
        [np.concatenate([fold.answers[name] for fold in walked]) for name in ("p_sell", "p_hold", "p_buy")]
    )
    return {
        "heads": heads,
        "voices": {name: voice.document() for name, voice in candidate.voices.items()},
        "calibration": scores.reliability(p_up, answered),
        "confusion": scores.confusion(three, answered) if np.isfinite(three).all() else None,
        "learning": [
            {
                "rows": fold.trained,
                "answered": len(fold.rows),
                **scores.figures("direction", fold.answers["p_up"], whole.at(fold.rows)),
            }
            for fold in walked
        ],
    }


def features_of(frame: pl.DataFrame, candidate: Candidate) -> Array:
    """The columns that the candidate reads, by name. Raises ColumnNotFoundError for one that is missing."""
    return matrix(frame, candidate.columns)


def pattern_success(candidate: Candidate, features: pl.DataFrame, events: pl.DataFrame) -> Array:
    """P(success) of each event, in the order of ``events``, f64; NaN where nothing can be said.

    ``events`` hold symbol, timestamp and ``EVENT`` (``patterns.events``); ``features`` symbol, timestamp and the
    candidate's columns, a row a bar. Nothing is said of an event without direction or whose bar is not among them, and
    nothing at all by a candidate without a pattern model.
    """
    told = np.full(events.height, np.nan)
    if candidate.patterns is None:
        return told
    key = ["symbol", "timestamp"]
    bars = features.select(*key, *candidate.columns, known=pl.lit(value=True))
    joined = events.select(*key, *EVENT).join(bars, on=key, how="left", maintain_order="left")
    asked = joined.select((pl.col("direction") != 0) & pl.col("known").is_not_null()).to_series().to_numpy()
    if asked.any():
        chosen = joined.filter(asked)
        told[asked] = candidate.patterns.predict(features_of(chosen, candidate), chosen)
    return told

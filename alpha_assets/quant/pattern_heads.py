"""Pattern heads: will the pattern that fires at this bar go the way it says?

A row is an event: the features of its bar beside the pattern's direction, its strength and which pattern it is. The
label is ``labels.pattern_success`` at the candidate's horizon. The events of a bar, and of bars whose labels overlap,
share one outcome: each weighs by the uniqueness of its label among them.

The walk is that of the bars (``heads``): an event is taught and asked in the folds of its bar, which are purged and
embargoed by date, and what is believed of the heads rests on their answers to the blocks before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant import scores
from alpha_assets.quant.calibration import Voice, loss
from alpha_assets.quant.labels import pattern_success
from alpha_assets.quant.learners import HOLD, Array, Lesson, Model, learner
from alpha_assets.quant.opinions import Base, Block, Past, Refusal, fitted, most_telling, said_of, taught, walk
from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.patterns import CANDLES, STRUCTURES
from alpha_assets.quant.splits import Fold
from alpha_assets.quant.weights import uniqueness

#: What a pattern head calls the patterns: their places here.
PATTERNS = (*CANDLES, *STRUCTURES)

#: Columns of an event that a head reads beside the features of its bar.
EVENT = ("pattern", "direction", "strength")


@dataclass(frozen=True)
class PatternModel:
    """The pattern heads of a candidate, fitted together, and how they speak.

    ``patterns`` are the names that its numbers stand for, ``base`` the share of events that were right.
    """

    patterns: tuple[str, ...]
    base: float
    models: Mapping[str, Model]
    voice: Voice
    parameters: LearningParameters

    def predict(self, features: Array, events: pl.DataFrame) -> Array:
        """P(success) of each event; ``features`` (events x columns) are those of its bar."""
        said = said_of(self.models, self.parameters, inputs(features, events, self.patterns))
        return self.voice(said, np.full(events.height, self.base))

    def files(self) -> dict[str, bytes]:
        """The heads as native files by name."""
        heads = {name: learner(name, self.parameters) for name in self.models}
        return {f"{name}.{head.suffix}": head.save(self.models[name]) for name, head in heads.items()}

    def document(self) -> dict[str, Any]:
        """Everything beside the heads, for JSON."""
        heads = {name: f"{name}.{learner(name, self.parameters).suffix}" for name in self.models}
        return {"patterns": list(self.patterns), "base": self.base, "heads": heads, "voice": self.voice.document()}

    @classmethod
    def restored(
        cls, document: Mapping[str, Any], files: Mapping[str, bytes], parameters: LearningParameters
    ) -> "PatternModel":
        """The model of ``document`` and ``files``."""
        models = {name: learner(name, parameters).load(files[file]) for name, file in document["heads"].items()}
        voice = Voice.restored(document["voice"])
        return cls(tuple(document["patterns"]), document["base"], models, voice, parameters)


@dataclass(frozen=True)
class PatternsLearnt:
    """A pattern model; the figures of its heads by fold and together, and those of what it says calibrated."""

    model: PatternModel
    heads: dict[str, Any]
    figures: dict[str, Any]


def inputs(features: Array, events: pl.DataFrame, patterns: Sequence[str]) -> Array:
    """What a head reads of events, f32: features of the bar, direction, strength, and the pattern's place.

    A pattern that is not among ``patterns`` is unknown (NaN).
    """
    place = pl.col("pattern").replace_strict(list(patterns), list(range(len(patterns))), default=None)
    told = events.select(pl.col("direction", "strength"), place).cast(pl.Float32).fill_null(np.nan)
    return np.column_stack([features.astype(np.float32), told.to_numpy()])


def pattern_heads(parameters: LearningParameters) -> list[str]:
    """The heads that learn from events."""
    return [name for name in parameters.heads if learner(name, parameters).kind == "pattern"]


def learn_patterns(
    events: pl.DataFrame,
    rows: pl.DataFrame,
    columns: Sequence[str],
    whole: Lesson,
    burn_in: Sequence[Fold],
    folds: Sequence[Fold],
    parameters: LearningParameters,
    stamps: pl.Series,
) -> PatternsLearnt | Refusal:
    """Walk the pattern heads over the events of one cell, and fit what will serve.

    ``events`` hold symbol, timestamp and ``EVENT``; one without direction, or whose bar is not among ``rows``, is left
    out. The other arguments are those of ``heads.learn``, ``whole`` being its rows. Fewer than ``pattern_rows`` events,
    or ``min_labels`` that do not overlap, are a refusal: where this fit serves, a pattern's rate so far is told.
    """
    taken = _labelled(events, rows)
    labels = int(uniqueness(taken).sum())
    # No fit sees more, and the inputs of them all would be as large as the bars.
    taken = taken.gather_every(-(-max(taken.height, 1) // parameters.max_rows))
    if taken.height < parameters.pattern_rows or labels < parameters.min_labels:
        return Refusal(
            f"{taken.height} events with a direction and an outcome, {labels} of them without overlap; a pattern head "
            f"needs {parameters.pattern_rows} and {parameters.min_labels}"
        )
    names = pattern_heads(parameters)
    lesson = _lesson(taken, whole)

    def teach(numbers: Array) -> Lesson:
        return taught(lesson, numbers, taken, stamps, parameters)

    past = Past(lesson, taken, parameters)
    for step in walk(lesson, names, _of_events(burn_in, taken, rows.height, parameters), teach, parameters):
        past.add(step.block)
    blocks, answers = [], []
    for step in walk(lesson, names, _of_events(folds, taken, rows.height, parameters), teach, parameters):
        voice = past.voice("direction", names, step.fold.train)
        answers.append(voice(step.block.said, _prior(step.block)))
        blocks.append(step.block)
        past.add(step.block)
    if not blocks:
        return Refusal(f"{taken.height} events leave no walk-forward fold that can be fitted")
    everything = np.arange(taken.height)
    seen = teach(everything)
    models = fitted(names, seen, parameters)
    voice = past.voice("direction", names, everything)
    model = PatternModel(PATTERNS, Base.of(seen).up, models, voice, parameters)
    read = [*columns, "direction", "strength", "pattern"]
    answered = lesson.at(np.concatenate([block.rows for block in blocks]))
    heads = {
        name: {
            "kind": "pattern",
            "together": scores.figures("pattern", np.concatenate([block.said[name] for block in blocks]), answered),
            "folds": [scores.figures("pattern", block.said[name], lesson.at(block.rows)) for block in blocks],
            "importance": most_telling(read, learner(name, parameters).importance(models[name])),
        }
        for name in names
    }
    said, prior = np.concatenate(answers), np.concatenate([_prior(block) for block in blocks])
    figures = {
        "events": taken.height,
        "labels": labels,
        "success": model.base,
        "together": scores.figures("pattern", said, answered),
        "prior_log_loss": loss("direction", prior, answered.up, answered.weight),
        "calibration": scores.reliability(said, answered),
        "voice": voice.document(),
    }
    return PatternsLearnt(model, heads, figures)


def _prior(block: Block) -> Array:
    return block.base.spread("direction", len(block.rows))


def _labelled(events: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The events with an outcome in the order of their bars, ``place`` being the number of its row."""
    key = ["symbol", "timestamp"]
    places = rows.select(*key, place=pl.int_range(pl.len(), dtype=pl.Int64))
    return (
        pattern_success(events, rows)
        .drop_nulls("success")
        .join(places, on=key, how="left", maintain_order="left")
        .sort("place", "pattern")
    )


def _lesson(taken: pl.DataFrame, whole: Lesson) -> Lesson:
    """Events as a head reads them: ``up`` is success, ``earned`` the return in the event's direction."""
    place = taken["place"].to_numpy()
    return Lesson(
        features=inputs(whole.features[place], taken, PATTERNS),
        up=taken["success"].to_numpy().astype(np.int8),
        signal=np.full(taken.height, HOLD, dtype=np.int8),
        earned=whole.earned[place] * taken["direction"].to_numpy(),
        precision=whole.precision[place],
        sample=np.ones(taken.height),
    )


def _of_events(folds: Sequence[Fold], taken: pl.DataFrame, count: int, parameters: LearningParameters) -> list[Fold]:
    """The folds of the bars as folds of their events; one that trains on less than two leaves is left out."""
    place = taken["place"].to_numpy()
    found = []
    for fold in folds:
        within = np.zeros((2, count), dtype=bool)
        within[0, fold.train] = within[1, fold.test] = True
        train, test = (np.flatnonzero(part[place]) for part in within)
        if len(test) and len(train) >= 2 * parameters.min_leaf_rows:
            found.append(Fold(train, test))
    return found

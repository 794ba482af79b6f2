"""Learners behind one protocol, their out-of-fold predictions, and the identity of a training.

A learner is plain parameters; what it fits is a native booster that saves to its own text, never a pickle.
The heavy libraries are imported where they are used.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import polars as pl

from alpha_assets.quant.parameters import LearningParameters
from alpha_assets.quant.splits import Fold

#: What a fit hands back: opaque to everybody but its learner.
Model = Any


@dataclass(frozen=True)
class Refusal:
    """Why a symbol has no fit of its own: a state of affairs, not an error."""

    reason: str


class Learner(Protocol):
    """Fits P(up) on a matrix of features; the same rows, parameters and versions give the same bytes."""

    #: Distributions whose version changes the fit.
    libraries: tuple[str, ...]

    def __init__(self, parameters: LearningParameters) -> None: ...

    def fit(self, features: np.ndarray, up: np.ndarray, weight: np.ndarray | None = None) -> Model:
        """A model of ``features`` (rows x columns, NaN for null) and ``up`` (rows, 0 or 1), rows in time order."""

    def predict(self, model: Model, features: np.ndarray) -> np.ndarray:
        """P(up) of each row, f64, inside (0, 1)."""

    def save(self, model: Model) -> str:
        """The model as its library's own text."""

    def load(self, text: str) -> Model:
        """The model of ``save``; predicts the same numbers."""


class DirectionLightGBM:
    """Small gradient-boosted trees for the direction of the labelled return; nulls need no filling.

    One thread, row-wise and deterministic: a symbol's rows are too few for threads to pay, and symbols are
    fitted side by side.
    """

    libraries: tuple[str, ...] = ("lightgbm", "numpy")

    def __init__(self, parameters: LearningParameters) -> None:
        self.parameters = parameters

    def fit(self, features: np.ndarray, up: np.ndarray, weight: np.ndarray | None = None) -> Model:
        """A booster with the rounds of the parameters; no early stopping, which would look at a held-out future."""
        import lightgbm

        settings = self._settings()
        rows = lightgbm.Dataset(
            np.ascontiguousarray(features, dtype=np.float64),
            label=np.asarray(up, dtype=np.float64),
            weight=weight,
            params=settings,
        )
        return lightgbm.train(settings, rows, num_boost_round=self.parameters.rounds)

    def predict(self, model: Model, features: np.ndarray) -> np.ndarray:
        """P(up) of each row."""
        return np.asarray(model.predict(np.ascontiguousarray(features, dtype=np.float64), num_threads=1))

    def save(self, model: Model) -> str:
        """LightGBM's text."""
        return str(model.model_to_string())

    def load(self, text: str) -> Model:
        """The booster of LightGBM's text."""
        import lightgbm

        return lightgbm.Booster(model_str=text)

    def _settings(self) -> dict[str, object]:
        parameters = self.parameters
        return {
            "objective": "binary",
            "learning_rate": parameters.learning_rate,
            "num_leaves": parameters.leaves,
            "min_data_in_leaf": parameters.min_leaf_rows,
            "lambda_l2": parameters.l2,
            "feature_fraction": parameters.column_share,
            "bagging_fraction": parameters.row_share,
            "bagging_freq": 1,
            "max_bin": 63,
            "seed": parameters.seed,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


LEARNERS: Mapping[str, type[Learner]] = {"direction-lightgbm": DirectionLightGBM}


def learner(parameters: LearningParameters) -> Learner:
    """The learner that the parameters name. Raises ValueError for a name that is none."""
    if parameters.learner not in LEARNERS:
        raise ValueError(f"no learner is called {parameters.learner!r}; there are {', '.join(sorted(LEARNERS))}")
    return LEARNERS[parameters.learner](parameters)


def matrix(rows: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Features as rows x columns, f64, NaN for null."""
    return rows.select(pl.col(columns).cast(pl.Float64).fill_null(np.nan)).to_numpy()


def enough(rows: pl.DataFrame, parameters: LearningParameters) -> Refusal | None:
    """Why these labelled rows of one symbol are too few, or of one kind only; None where they will do."""
    labels = rows.height // parameters.horizon
    if rows.height < parameters.min_rows or labels < parameters.min_labels:
        return Refusal(
            f"{rows.height} labelled rows, {labels} of them without overlap at horizon {parameters.horizon}; "
            f"an own fit needs {parameters.min_rows} and {parameters.min_labels}"
        )
    if rows["up"].n_unique() < 2:
        return Refusal(f"all {rows.height} labelled rows went the same way; there is nothing to tell apart")
    return None


def refit(rows: pl.DataFrame, columns: Sequence[str], parameters: LearningParameters) -> Model | Refusal:
    """A fit on all labelled rows of one symbol (``columns`` and ``up``, in time order): the one that will serve."""
    refusal = enough(rows, parameters)
    if refusal:
        return refusal
    return learner(parameters).fit(matrix(rows, columns), rows["up"].to_numpy())


def out_of_fold(
    rows: pl.DataFrame, columns: Sequence[str], folds: Sequence[Fold], parameters: LearningParameters
) -> pl.DataFrame | Refusal:
    """What the procedure would have said at each bar, by fits that never saw it.

    ``rows`` are the labelled rows of one symbol in time order: timestamp, up and the features named by
    ``columns``; ``folds`` number its rows. A fold whose training rows all went one way is skipped.

    The answer holds timestamp, p_up, prior (share of up among the rows its fit saw: the symbol's naive rival) and
    score, the log-odds of p_up less those of the prior, which is what the features said beyond the drift of the past;
    or it is a Refusal where no fold could be fitted.
    """
    refusal = enough(rows, parameters)
    if refusal:
        return refusal
    features, up, stamps = matrix(rows, columns), rows["up"].to_numpy(), rows["timestamp"]
    fitter = learner(parameters)
    parts = []
    for fold in folds:
        prior = float(up[fold.train].mean())
        if not 0.0 < prior < 1.0:
            continue
        p_up = fitter.predict(fitter.fit(features[fold.train], up[fold.train]), features[fold.test])
        parts.append(
            pl.DataFrame(
                {"timestamp": stamps.gather(fold.test), "p_up": p_up, "score": _log_odds(p_up) - _log_odds(prior)}
            ).with_columns(prior=pl.lit(prior))
        )
    if not parts:
        return Refusal(f"{rows.height} labelled rows leave no walk-forward fold that can be fitted")
    return pl.concat(parts).sort("timestamp")


def _log_odds(probability: Any) -> Any:
    inside = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.log(inside / (1 - inside))


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """The installed versions of these distributions."""
    return {name: version(name) for name in sorted(names)}


def training_id(
    rows: pl.DataFrame,
    *,
    feature_set: str,
    parameters: LearningParameters,
    versions: Mapping[str, str],
) -> str:
    """The identity of a training: sha256 over the rows it sees and everything that shapes the fit.

    ``rows`` holds a unique (symbol, timestamp), the features as stored, and the label; neither the order of its rows
    nor that of its columns matters. ``feature_set`` is the set's hash; the learner's name and the seed are in
    ``parameters``; ``versions`` are those of the learner's libraries (``library_versions``).
    """
    digest = hashlib.sha256()
    recipe = {"feature_set": feature_set, "parameters": asdict(parameters), "versions": dict(sorted(versions.items()))}
    digest.update(json.dumps(recipe, sort_keys=True).encode())
    ordered = rows.sort("symbol", "timestamp")
    for name in sorted(rows.columns):
        digest.update(f"\n{name} {ordered.height}\n".encode())
        digest.update(_bytes(ordered[name]))
    return digest.hexdigest()


def _bytes(column: pl.Series) -> bytes:
    """The column's values, one form a value: null and NaN alike, -0.0 as 0.0, floats in 64 bits."""
    if column.dtype.is_float():
        values = column.cast(pl.Float64).fill_null(math.nan).to_numpy() + 0.0
        return np.where(np.isnan(values), np.nan, values).tobytes()
    if column.dtype.is_temporal():
        column = column.to_physical()
    return json.dumps(column.to_list()).encode()

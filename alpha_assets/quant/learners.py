"""Heads behind one protocol, and the identity of a training.

A head is plain parameters; what it fits is a native booster or a document of coefficients that saves to its library's
own format, never a pickle. One class and one line in ``LEARNERS`` make another. The heavy libraries are imported where
they are used, and every fit has one thread: a symbol's rows are too few for threads to pay, and symbols are fitted side
by side.
"""

import hashlib
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import polars as pl
from scipy.special import expit

from alpha_assets.quant.labels import met_first, side
from alpha_assets.quant.parameters import SIGNAL_LABELS, LearningParameters

Array = np.ndarray

#: What a fit hands back: opaque to everybody but its head.
Model = Any

#: What a head tells: the label's return, P(up), P(sell), P(hold) and P(buy), or of an event P(success).
Kind = Literal["return", "direction", "signal", "pattern"]

#: The order of the classes of ``labels.side``, and of the three probabilities.
SELL, HOLD, BUY = range(3)

#: Bins a feature is cut into: of 1,000 rows each holds 16, and finer cuts follow the noise.
BINS = 63

#: Probabilities of a forest are kept this far from 0 and 1, which no share of rows can know.
CERTAIN = 1e-9

#: Distance from the median, in deviations, that a linear head and the dissimilarity count at most.
FAR = 8.0


@dataclass(frozen=True)
class Lesson:
    """The labelled rows of one fit, in time order.

    ``features`` is rows x columns, f64, NaN for null; ``up`` holds 0 or 1; ``signal`` SELL, HOLD or BUY;
    ``earned`` the label's return, cut at ``clip`` volatilities; ``precision`` the inverse of its variance, as known at
    the row. ``sample`` is what each row counts for in any fit, mean 1 (``weights.sample_weights``).
    """

    features: Array
    up: Array
    signal: Array
    earned: Array
    precision: Array
    sample: Array

    def at(self, rows: Array) -> "Lesson":
        """Some of the rows, by number."""
        return Lesson(*(getattr(self, field.name)[rows] for field in fields(self)))

    def weighed(self, sample: Array) -> "Lesson":
        """The same rows, each counting for what ``sample`` says."""
        return replace(self, sample=sample)

    @property
    def counts(self) -> Array | None:
        """``sample`` as a booster takes it: None where all rows count alike, which it fits without weights."""
        return None if (self.sample == 1.0).all() else self.sample

    @cached_property
    def weight(self) -> Array:
        """The weight of each row in a regression of the return, so that a wild month does not drown the quiet ones."""
        return evened(self.precision)

    @property
    def regression(self) -> Array:
        """What each row weighs in a regression of the return."""
        return self.weight * self.sample

    @cached_property
    def binned(self) -> Any:
        """LightGBM's histogram bins, made once for all heads that read them."""
        import lightgbm

        features = np.ascontiguousarray(self.features, dtype=np.float64)
        return lightgbm.Dataset(features, label=self.up.astype(np.float64), params=_lightgbm(0)).construct()

    @cached_property
    def scaling(self) -> "Scaling":
        """What makes the columns comparable, made once."""
        return Scaling.of(self.features)


def evened(precision: Array) -> Array:
    """Weights of mean 1 in proportion to ``precision``, cut at ten times its median.

    Of the rows that are fitted or judged together and of no others: what is usual among all rows of a symbol is not
    known before its end.
    """
    if not len(precision):
        return precision
    weight = np.minimum(precision / np.median(precision), 10.0)
    return np.asarray(weight / weight.mean())


def lesson(rows: pl.DataFrame, columns: Sequence[str], parameters: LearningParameters) -> Lesson:
    """The rows as a head reads them, all counting alike.

    They hold ``columns`` and the labels label_return, scaled_return, scale and up, and barrier where that is the
    label of the three classes.
    """
    scaled = rows["scaled_return"].to_numpy()
    scale = rows["scale"].to_numpy()
    classes = side(parameters.hold_band) if parameters.signal_label == SIGNAL_LABELS[0] else met_first()
    return Lesson(
        features=matrix(rows, columns),
        up=rows["up"].to_numpy().astype(np.int8),
        signal=rows.select(classes.to_physical()).to_series().to_numpy().astype(np.int8),
        earned=np.clip(scaled, -parameters.clip, parameters.clip) * scale,
        precision=scale**-2.0,
        sample=np.ones(rows.height),
    )


def matrix(rows: pl.DataFrame, columns: Sequence[str]) -> Array:
    """Features as rows x columns, f64, NaN for null.

    Without an expression: a plan for the one row of a signal takes eight times as long as the row.
    """
    return rows[list(columns)].to_numpy().astype(np.float64)


@dataclass(frozen=True)
class Scaling:
    """Fills nulls with the training median and scales by the training deviation; a constant column becomes 0."""

    median: Array
    deviation: Array

    @classmethod
    def of(cls, features: Array) -> "Scaling":
        """The medians and deviations of the columns; a column without any value has median 0."""
        known = np.isfinite(features)
        hollow = ~known.any(axis=0)
        values = np.where(known, features, np.nan)
        values[:, hollow] = 0.0
        median = np.nanmedian(values, axis=0)
        return cls(median, np.sqrt(np.nanmean((values - median) ** 2, axis=0)))

    def __call__(self, features: Array) -> Array:
        """rows x columns without nulls, in deviations from the median, none further than ``FAR``."""
        filled = np.where(np.isfinite(features), features, self.median)
        scale = np.where(self.deviation > 0, self.deviation, np.inf)
        return np.clip((filled - self.median) / scale, -FAR, FAR)

    def document(self) -> dict[str, list[float]]:
        """For JSON."""
        return {"median": self.median.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def restored(cls, document: Mapping[str, Any]) -> "Scaling":
        """The scaling of ``document``."""
        return cls(np.asarray(document["median"]), np.asarray(document["deviation"]))


class Learner(Protocol):
    """Fits one head; the same rows, parameters and versions give the same bytes."""

    kind: ClassVar[Kind]
    #: Whether it belongs to the linear candidate, which is a rival of the trees.
    linear: ClassVar[bool]
    #: Distributions whose version changes the fit.
    libraries: ClassVar[tuple[str, ...]]
    #: Of its file.
    suffix: ClassVar[str]
    #: The parameters that a search may turn.
    searched: ClassVar[tuple[str, ...]]

    def __init__(self, parameters: LearningParameters) -> None: ...

    def fit(self, rows: Lesson) -> Model:
        """A model of the rows."""

    def predict(self, model: Model, features: Array) -> Array:
        """What it says of each row, f64: a return, P(up) or P(success) inside (0, 1), or three probabilities (x 3)."""

    def save(self, model: Model) -> bytes:
        """The model in its own format."""

    def load(self, stored: bytes) -> Model:
        """The model of ``save``; predicts the same numbers."""

    def importance(self, model: Model) -> Array | None:
        """How much each column counts, summing to 1, or None where nothing was learnt."""

    def contributions(self, model: Model, features: Array) -> Array | None:
        """What each column adds to the answer for each row, rows x columns; None where nobody can tell.

        In the unit of the return (return), in log-odds (direction, pattern), in log-weight of buy less sell (signal).
        """


#: What shapes small boosted trees.
BOOSTED = ("rounds", "learning_rate", "leaves", "min_leaf_rows", "l2", "column_share", "row_share")


def _lightgbm(seed: int) -> dict[str, Any]:
    """One thread, row-wise and deterministic; bins are shared, so whatever decides them is the same for all heads."""
    return {
        "max_bin": BINS,
        "feature_pre_filter": False,
        "seed": seed,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


class _LightGBM(ABC):
    """What all heads of LightGBM share; nulls need no filling."""

    kind: ClassVar[Kind]
    linear: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("lightgbm", "numpy")
    suffix: ClassVar[str] = "lgb"
    searched: ClassVar[tuple[str, ...]]

    def __init__(self, parameters: LearningParameters) -> None:
        self.parameters = parameters

    def fit(self, rows: Lesson) -> Model:
        """A booster of a stated number of rounds; no early stopping, which would look at a held-out future."""
        import lightgbm

        label, objective = self._task(rows)
        binned = rows.binned
        binned.set_label(label.astype(np.float64))
        # By the field itself: ``set_weight(None)`` leaves the weights of the head before in place.
        binned.set_field("weight", rows.regression if self.kind == "return" else rows.counts)
        settings = _lightgbm(self.parameters.seed) | objective | self._shape()
        # Without ``keep`` the booster is written as text and read again: the same trees for 5 % more time.
        return lightgbm.train(settings, binned, num_boost_round=self._rounds(), keep_training_booster=True)

    def predict(self, model: Model, features: Array) -> Array:
        """The booster's answers."""
        return np.asarray(model.predict(np.ascontiguousarray(features, dtype=np.float64), num_threads=1))

    def save(self, model: Model) -> bytes:
        """LightGBM's text."""
        return str(model.model_to_string()).encode()

    def load(self, stored: bytes) -> Model:
        """The booster of LightGBM's text."""
        import lightgbm

        return lightgbm.Booster(model_str=stored.decode())

    def importance(self, model: Model) -> Array | None:
        """Share of the gain."""
        return _shares(model.feature_importance("gain"))

    def contributions(self, model: Model, features: Array) -> Array | None:
        """Exact TreeSHAP (Lundberg and others, 2020), by the library."""
        told = model.predict(np.ascontiguousarray(features, dtype=np.float64), num_threads=1, pred_contrib=True)
        return _beside_the_mean(np.asarray(told).reshape(len(features), -1, features.shape[1] + 1))

    def _task(self, rows: Lesson) -> tuple[Array, dict[str, Any]]:
        if self.kind == "return":
            return rows.earned, {"objective": "l2"}
        if self.kind == "direction":
            return rows.up, {"objective": "binary"}
        return rows.signal, {"objective": "multiclass", "num_class": 3}

    @abstractmethod
    def _shape(self) -> dict[str, Any]:
        """The settings of the trees."""

    @abstractmethod
    def _rounds(self) -> int:
        """The number of trees."""


class _Forest(_LightGBM):
    """A random forest (Breiman, 2001): each tree sees 63 % of the rows and a third of the columns."""

    searched: ClassVar[tuple[str, ...]] = ("depth", "forest_leaf_rows")

    def contributions(self, model: Model, features: Array) -> Array | None:
        """Exact TreeSHAP; the library adds up what the trees say, where a forest's answer is their mean."""
        told = super().contributions(model, features)
        return None if told is None else np.asarray(told / max(model.current_iteration(), 1))

    def _shape(self) -> dict[str, Any]:
        return {
            "boosting": "rf",
            "bagging_freq": 1,
            "bagging_fraction": 0.632,
            "feature_fraction": 1 / 3,
            "max_depth": self.parameters.depth,
            "num_leaves": min(2**self.parameters.depth, 1 << 16),
            "min_data_in_leaf": self.parameters.forest_leaf_rows,
        }

    def _rounds(self) -> int:
        return self.parameters.trees


class _Boosted(_LightGBM):
    """Small gradient-boosted trees (Friedman, 2001)."""

    searched: ClassVar[tuple[str, ...]] = BOOSTED

    def _shape(self) -> dict[str, Any]:
        parameters = self.parameters
        regression = self.kind == "return"
        return {
            "learning_rate": parameters.return_learning_rate if regression else parameters.learning_rate,
            "num_leaves": parameters.leaves,
            "min_data_in_leaf": parameters.min_leaf_rows,
            "lambda_l2": parameters.l2,
            "feature_fraction": parameters.column_share,
            "bagging_fraction": parameters.row_share,
            "bagging_freq": 1,
            # The same trees a tenth sooner; a forest, whose trees are deep, is sooner by rows.
            "force_row_wise": False,
            "force_col_wise": True,
        }

    def _rounds(self) -> int:
        return self.parameters.return_rounds if self.kind == "return" else self.parameters.rounds


class ForestReturn(_Forest):
    """The label's return by a random forest."""

    kind: ClassVar[Kind] = "return"


class BoostedReturn(_Boosted):
    """The label's return by gradient boosting."""

    kind: ClassVar[Kind] = "return"


class ForestDirection(_Forest):
    """P(up) by a random forest."""

    kind: ClassVar[Kind] = "direction"


class BoostedDirection(_Boosted):
    """P(up) by gradient boosting."""

    kind: ClassVar[Kind] = "direction"


class ForestSignal(_Forest):
    """P(sell), P(hold) and P(buy) by a random forest."""

    kind: ClassVar[Kind] = "signal"


class BoostedSignal(_Boosted):
    """P(sell), P(hold) and P(buy) by gradient boosting."""

    kind: ClassVar[Kind] = "signal"


class _XGBoost(ABC):
    """What all heads of XGBoost share: another library's bins, splits and regularisation; nulls need no filling."""

    kind: ClassVar[Kind]
    linear: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("xgboost", "numpy")
    suffix: ClassVar[str] = "ubj"
    searched: ClassVar[tuple[str, ...]] = BOOSTED
    #: How many of the last columns are names written as numbers, which have no order.
    named: ClassVar[int] = 0

    def __init__(self, parameters: LearningParameters) -> None:
        self.parameters = parameters

    def fit(self, rows: Lesson) -> Model:
        """A booster of a stated number of rounds."""
        import xgboost

        parameters = self.parameters
        settings = {
            "tree_method": "hist",
            "max_bin": BINS,
            "max_depth": max(1, round(math.log2(parameters.leaves))),
            "eta": parameters.learning_rate,
            # A row's p (1 - p) counts at most 1/4 here: the same rows behind a leaf as elsewhere.
            "min_child_weight": parameters.min_leaf_rows / 4,
            "lambda": parameters.l2 / 4,
            "subsample": parameters.row_share,
            "colsample_bytree": parameters.column_share,
            "seed": parameters.seed,
            "nthread": 1,
            "verbosity": 0,
        }
        label, objective = self._task(rows)
        types = [*["q"] * (rows.features.shape[1] - self.named), *["c"] * self.named] if self.named else None
        binned = xgboost.QuantileDMatrix(
            rows.features,
            label,
            weight=rows.counts,
            feature_types=types,
            enable_categorical=bool(types),
            max_bin=BINS,
            nthread=1,
        )
        return xgboost.train(settings | objective, binned, num_boost_round=parameters.rounds)

    def predict(self, model: Model, features: Array) -> Array:
        """The booster's probabilities."""
        return np.asarray(model.inplace_predict(np.ascontiguousarray(features)), dtype=np.float64)

    def save(self, model: Model) -> bytes:
        """XGBoost's binary JSON."""
        return bytes(model.save_raw("ubj"))

    def load(self, stored: bytes) -> Model:
        """The booster of XGBoost's binary JSON."""
        import xgboost

        return xgboost.Booster({"nthread": 1}, model_file=bytearray(stored))

    def importance(self, model: Model) -> Array | None:
        """Share of the gain."""
        gains = model.get_score(importance_type="total_gain")
        return _shares(np.array([gains.get(f"f{column}", 0.0) for column in range(model.num_features())]))

    def contributions(self, model: Model, features: Array) -> Array | None:
        """Exact TreeSHAP (Lundberg and others, 2020), by the library."""
        import xgboost

        types = [*["q"] * (features.shape[1] - self.named), *["c"] * self.named] if self.named else None
        rows = xgboost.DMatrix(features, feature_types=types, enable_categorical=bool(types), nthread=1)
        told = np.asarray(model.predict(rows, pred_contribs=True), dtype=np.float64)
        return _beside_the_mean(told.reshape(len(features), -1, features.shape[1] + 1))

    @abstractmethod
    def _task(self, rows: Lesson) -> tuple[Array, dict[str, Any]]:
        """The label and the objective."""


class XGBoostSignal(_XGBoost):
    """P(sell), P(hold) and P(buy) by XGBoost."""

    kind: ClassVar[Kind] = "signal"

    def predict(self, model: Model, features: Array) -> Array:
        """Three probabilities a row."""
        return super().predict(model, features).reshape(-1, 3)

    def _task(self, rows: Lesson) -> tuple[Array, dict[str, Any]]:
        return rows.signal, {"objective": "multi:softprob", "num_class": 3}


class XGBoostPattern(_XGBoost):
    """P(success) of a pattern by XGBoost; the last of its columns is the pattern (``pattern_heads.inputs``)."""

    kind: ClassVar[Kind] = "pattern"
    named: ClassVar[int] = 1

    def _task(self, rows: Lesson) -> tuple[Array, dict[str, Any]]:
        return rows.up, {"objective": "binary:logistic"}


@dataclass(frozen=True)
class Forest:
    """The trees of scikit-learn's forest as arrays, one entry a node, so that it is kept without a pickle.

    ``roots`` is the first node of each tree; ``left`` and ``right`` the nodes that follow, -1 behind a leaf; a row goes
    left where its f32 ``feature`` is at most ``threshold``, or unknown and ``unknown_left``; ``value`` (nodes x
    answers) is what a leaf says, ``shares`` the importance of each column.
    """

    roots: Array
    left: Array
    right: Array
    feature: Array
    threshold: Array
    unknown_left: Array
    value: Array
    shares: Array

    #: Rows walked down at a time, all trees at once.
    chunk: ClassVar[int] = 8192

    @classmethod
    def of(cls, forest: Any, answers: int, places: Sequence[int]) -> "Forest":
        """The arrays of a fitted forest whose leaves hold the answers ``places``, of ``answers`` there are."""
        trees = [tree.tree_ for tree in forest.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]

        def joined(name: str, shifted: bool = False) -> Array:
            parts = [getattr(tree, name) for tree in trees]
            if shifted:
                parts = [np.where(part < 0, -1, part + root) for part, root in zip(parts, roots, strict=True)]
            return np.concatenate(parts)

        held = joined("value")[:, 0, :]
        value = np.zeros((len(held), answers))
        value[:, list(places)] = held
        left, right = joined("children_left", shifted=True), joined("children_right", shifted=True)
        unknown = joined("missing_go_to_left").astype(bool)
        shares = forest.feature_importances_
        return cls(roots, left, right, joined("feature"), joined("threshold"), unknown, value, shares)

    def __call__(self, features: Array) -> Array:
        """The mean of what the trees say, rows x answers."""
        parts = [self._walked(features[at : at + self.chunk]) for at in range(0, len(features), self.chunk)]
        return np.concatenate([np.empty((0, self.value.shape[1])), *parts])

    def _walked(self, features: Array) -> Array:
        read = features.astype(np.float32)
        node = np.tile(self.roots, (len(read), 1))
        row = np.arange(len(read))[:, None]
        while (going := self.left[node] >= 0).any():
            told = read[row, np.maximum(self.feature[node], 0)]
            leftwards = np.where(np.isnan(told), self.unknown_left[node], told <= self.threshold[node])
            node = np.where(going, np.where(leftwards, self.left[node], self.right[node]), node)
        return np.asarray(self.value[node].mean(axis=1))


class _Scikit(ABC):
    """A random forest of scikit-learn: exact splits instead of bins, in four to seven times the time of our own."""

    kind: ClassVar[Kind]
    linear: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "numpy")
    suffix: ClassVar[str] = "npz"
    searched: ClassVar[tuple[str, ...]] = ("depth", "forest_leaf_rows")

    def __init__(self, parameters: LearningParameters) -> None:
        self.parameters = parameters

    def fit(self, rows: Lesson) -> Model:
        """The trees of a forest that sees a third of the columns at every split."""
        from sklearn import ensemble

        parameters = self.parameters
        settings = {
            "n_estimators": parameters.trees,
            "max_depth": parameters.depth,
            "min_samples_leaf": parameters.forest_leaf_rows,
            "max_features": 1 / 3,
            "random_state": parameters.seed,
            "n_jobs": 1,
        }
        features = rows.features.astype(np.float32)
        if self.kind == "return":
            forest = ensemble.RandomForestRegressor(**settings).fit(features, rows.earned, rows.regression)
            return Forest.of(forest, 1, [0])
        label = rows.up if self.kind == "direction" else rows.signal
        forest = ensemble.RandomForestClassifier(**settings).fit(features, label, rows.counts)
        # A class that these rows lack has a share of nothing.
        return Forest.of(forest, 2 if self.kind == "direction" else 3, forest.classes_)

    def predict(self, model: Model, features: Array) -> Array:
        """The forest's answers."""
        said = model(features)
        if self.kind == "return":
            return np.asarray(said[:, 0])
        inside = np.clip(said, CERTAIN, 1 - CERTAIN)
        return np.asarray(inside[:, 1] if self.kind == "direction" else inside)

    def save(self, model: Model) -> bytes:
        """NumPy's archive of the arrays."""
        stored = io.BytesIO()
        np.savez(stored, **vars(model))
        return stored.getvalue()

    def load(self, stored: bytes) -> Model:
        """The trees of the archive."""
        with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
            return Forest(**arrays)

    def importance(self, model: Model) -> Array | None:
        """Mean decrease of impurity."""
        return _shares(model.shares)

    def contributions(self, model: Model, features: Array) -> Array | None:  # noqa: ARG002
        """Unknown: its trees are kept as arrays of our own, and no library walks them."""
        return None


class ScikitReturn(_Scikit):
    """The label's return by scikit-learn's random forest."""

    kind: ClassVar[Kind] = "return"


class ScikitDirection(_Scikit):
    """P(up) by scikit-learn's random forest."""

    kind: ClassVar[Kind] = "direction"


class ScikitSignal(_Scikit):
    """P(sell), P(hold) and P(buy) by scikit-learn's random forest."""

    kind: ClassVar[Kind] = "signal"


@dataclass(frozen=True)
class Line:
    """A fitted linear head: intercept and slopes on the scaled columns."""

    scaling: Scaling
    intercept: float
    slopes: Array

    def __call__(self, features: Array) -> Array:
        """intercept + scaled features · slopes, a row."""
        return self.intercept + self.scaling(features) @ self.slopes


class _Linear:
    """What both linear heads share: JSON of coefficients, with the filling of nulls and the scaling inside."""

    linear: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    suffix: ClassVar[str] = "json"
    searched: ClassVar[tuple[str, ...]] = ("linear_l2",)

    def __init__(self, parameters: LearningParameters) -> None:
        self.parameters = parameters

    def save(self, model: Model) -> bytes:
        """JSON; a float is written so that it reads back as itself."""
        document = {"intercept": model.intercept, "slopes": model.slopes.tolist(), **model.scaling.document()}
        return json.dumps(document).encode()

    def load(self, stored: bytes) -> Model:
        """The line of the JSON."""
        document = json.loads(stored)
        return Line(Scaling.restored(document), float(document["intercept"]), np.asarray(document["slopes"]))

    def importance(self, model: Model) -> Array | None:
        """Share of the absolute slopes, which are comparable, the columns being scaled."""
        return _shares(np.abs(model.slopes))

    def contributions(self, model: Model, features: Array) -> Array | None:
        """Slope times distance from the training median, in deviations: the Shapley value of a sum about that row."""
        return np.asarray(model.scaling(features) * model.slopes)


class RidgeReturn(_Linear):
    """The label's return by weighted ridge regression (Hoerl and Kennard, 1970); the intercept is free."""

    kind: ClassVar[Kind] = "return"

    def fit(self, rows: Lesson) -> Model:
        """Closed form."""
        columns = rows.scaling(rows.features)
        weight = rows.regression
        mean = np.average(columns, axis=0, weights=weight)
        level = float(np.average(rows.earned, weights=weight))
        centred = columns - mean
        weighted = centred * weight[:, None]
        slopes = np.linalg.solve(
            weighted.T @ centred + self.parameters.linear_l2 * np.eye(centred.shape[1]),
            weighted.T @ (rows.earned - level),
        )
        return Line(rows.scaling, level - float(mean @ slopes), slopes)

    def predict(self, model: Model, features: Array) -> Array:
        """The expected return."""
        return np.asarray(model(features))


class LogisticDirection(_Linear):
    """P(up) by logistic regression with a ridge penalty (le Cessie and van Houwelingen, 1992), by Newton's steps."""

    kind: ClassVar[Kind] = "direction"

    #: The penalty makes the problem strongly convex: six digits after four or five steps on any of our samples.
    steps: ClassVar[int] = 8

    def fit(self, rows: Lesson) -> Model:
        """A fixed number of steps, so that the same rows give the same bytes."""
        columns = np.column_stack([np.ones(len(rows.up)), rows.scaling(rows.features)])
        # In units of the information of a row, p (1 - p), as for the regression.
        penalty = np.full(columns.shape[1], self.parameters.linear_l2 / 4)
        penalty[0] = 1e-9
        slopes = np.zeros(columns.shape[1])
        for _ in range(self.steps):
            p = expit(columns @ slopes)
            gradient = columns.T @ (rows.sample * (rows.up - p)) - penalty * slopes
            curvature = (columns * (rows.sample * p * (1 - p))[:, None]).T @ columns + np.diag(penalty)
            slopes = slopes + np.linalg.solve(curvature, gradient)
        return Line(rows.scaling, float(slopes[0]), slopes[1:])

    def predict(self, model: Model, features: Array) -> Array:
        """P(up)."""
        return np.asarray(expit(model(features)))


LEARNERS: Mapping[str, type[Learner]] = {
    "rf_return": ForestReturn,
    "gb_return": BoostedReturn,
    "rf_direction": ForestDirection,
    "gb_direction": BoostedDirection,
    "rf_signal": ForestSignal,
    "gb_signal": BoostedSignal,
    "xgb_signal": XGBoostSignal,
    "xgb_pattern": XGBoostPattern,
    "ridge": RidgeReturn,
    "logistic": LogisticDirection,
    "skrf_return": ScikitReturn,
    "skrf_direction": ScikitDirection,
    "skrf_signal": ScikitSignal,
}


def learner(name: str, parameters: LearningParameters) -> Learner:
    """The head of this name. Raises ValueError for a name that is none."""
    if name not in LEARNERS:
        raise ValueError(f"no head is called {name!r}; there are {', '.join(LEARNERS)}")
    return LEARNERS[name](parameters)


def libraries(parameters: LearningParameters) -> dict[str, str]:
    """The installed versions of everything that shapes the fits of these heads."""
    names = {library for head in parameters.heads for library in learner(head, parameters).libraries}
    return {name: version(name) for name in sorted(names)}


def _beside_the_mean(told: Array) -> Array:
    """Rows x columns of a library's rows x classes x (columns and the mean): one class, or buy less sell."""
    return np.asarray(told[:, 0, :-1] if told.shape[1] == 1 else told[:, BUY, :-1] - told[:, SELL, :-1])


def _shares(values: Array) -> Array | None:
    total = float(np.sum(values))
    return np.asarray(values) / total if total > 0 else None


#: How rows become fits: raised whenever the same rows and parameters come to other numbers.
PROCEDURE = 3


def training_id(
    rows: pl.DataFrame,
    *,
    feature_set: str,
    parameters: LearningParameters,
    versions: Mapping[str, str],
    events: pl.DataFrame | None = None,
) -> str:
    """The identity of a training: sha256 over the rows it sees and everything that shapes the fit.

    ``rows`` holds a unique (symbol, timestamp), the features as stored, and the label; neither the order of its rows
    nor that of its columns matters. ``feature_set`` is the set's hash; the heads' names and the seed are in
    ``parameters``; ``versions`` are those of the heads' ``libraries``. ``events``, a unique (symbol, timestamp,
    pattern) each, are what pattern heads see beside the rows.
    """
    digest = hashlib.sha256()
    recipe = {
        "procedure": PROCEDURE,
        "feature_set": feature_set,
        "parameters": asdict(parameters),
        "versions": dict(sorted(versions.items())),
    }
    digest.update(json.dumps(recipe, sort_keys=True).encode())
    frames = [rows.sort("symbol", "timestamp")]
    if events is not None:
        frames.append(events.sort("symbol", "timestamp", "pattern"))
    for ordered in frames:
        for name in sorted(ordered.columns):
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
    if column.dtype.is_integer() and not column.null_count():
        return column.cast(pl.Int64).to_numpy().tobytes()
    return json.dumps(column.to_list()).encode()

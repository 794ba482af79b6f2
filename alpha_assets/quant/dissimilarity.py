"""How unlike its training data a row is: far from everything that was learnt, a model's answer is a guess."""

import io
from dataclasses import dataclass

import numpy as np

from alpha_assets.quant.learners import Scaling

#: Rows measured at a time: 8 MB of distances to 128 references.
CHUNK = 8192


@dataclass(frozen=True)
class Dissimilarity:
    """Distance to the nearest of some training rows over the mean distance between them (FreqAI's index).

    Below 1 a row lies among what was learnt; well above, nothing like it was. Euclidean on filled and scaled columns.
    The references are training rows evenly spaced in time, kept as f32.
    """

    scaling: Scaling
    references: np.ndarray
    mean_distance: float

    @classmethod
    def of(cls, features: np.ndarray, scaling: Scaling, count: int) -> "Dissimilarity":
        """``features``: the training rows in time order, one at least."""
        chosen = np.unique(np.linspace(0, len(features) - 1, count).round().astype(int))
        references = scaling(features[chosen]).astype(np.float32).astype(np.float64)
        between = np.sqrt(_squares(references, references))
        pairs = len(references) * (len(references) - 1)
        return cls(scaling, references, float(between.sum() / pairs) if pairs else 0.0)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The index of each row, 0 or more; infinite for a row off the only point that all training rows share."""
        nearest = np.empty(len(features))
        for start in range(0, len(features), CHUNK):
            some = self.scaling(features[start : start + CHUNK])
            nearest[start : start + CHUNK] = np.sqrt(_squares(some, self.references).min(axis=1))
        if self.mean_distance > 0:
            return np.asarray(nearest / self.mean_distance)
        return np.where(nearest > 0, np.inf, 0.0)

    def save(self) -> bytes:
        """The references as a .npy file of f32."""
        buffer = io.BytesIO()
        np.save(buffer, self.references.astype(np.float32), allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def load(cls, stored: bytes, scaling: Scaling, mean_distance: float) -> "Dissimilarity":
        """What ``save`` kept."""
        references = np.load(io.BytesIO(stored), allow_pickle=False).astype(np.float64)
        return cls(scaling, references, mean_distance)


def _squares(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances; what rounding makes negative is 0, and so is a row's distance to itself."""
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2 * rows @ others.T
    return np.where(squares < 1e-9, 0.0, squares)

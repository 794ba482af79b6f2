"""How MLflow loads a version of ours: a folder of native files, no pickle (``loader_module`` of its pyfunc flavour)."""

from pathlib import Path
from typing import TYPE_CHECKING

from alpha_assets.quant.heads import ANSWERS, Candidate

if TYPE_CHECKING:
    import pandas as pd


class Heads:
    """All heads of one candidate: a frame of features in, a frame of ``ANSWERS`` out, with the index that came in."""

    def __init__(self, folder: Path) -> None:
        self._candidate = Candidate.load({file.name: file.read_bytes() for file in folder.iterdir()})

    def predict(self, features: "pd.DataFrame", params: object = None) -> "pd.DataFrame":  # noqa: ARG002 - MLflow's
        """What the candidate says of every row; columns are taken by name, ``symbol`` sets a pooled intercept."""
        import pandas as pd

        columns = features[list(self._candidate.columns)].to_numpy(dtype="float64")
        symbols = features["symbol"].astype(str).to_list() if "symbol" in features else None
        said = self._candidate.predict(columns, symbols)
        return pd.DataFrame({name: said[name] for name in ANSWERS}, features.index)


def _load_pyfunc(path: str) -> Heads:
    return Heads(Path(path))

"""How MLflow loads a version of ours: a folder of native files, no pickle (``loader_module`` of its pyfunc flavour)."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class Heads:
    """All heads of one (symbol, regime): a frame of features in, a frame of predictions out."""

    def __init__(self, folder: Path) -> None:
        import lightgbm

        self._columns = json.loads((folder / "columns.json").read_text())
        self._direction = lightgbm.Booster(model_file=str(folder / "direction.lgb"))

    def predict(self, features: "pd.DataFrame") -> "pd.DataFrame":
        """P(up) of every row; columns are taken by name."""
        import pandas as pd

        return pd.DataFrame({"p_up": self._direction.predict(features[self._columns], num_threads=1)}, features.index)


def _load_pyfunc(path: str) -> Heads:
    return Heads(Path(path))

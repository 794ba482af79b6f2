"""The picture of how confidences held: a panel a source, the blend with its errors, the views beside it."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_assets.stations.drawing import FALL, INK, MUTED, TITLE, draw_held, draw_words, figure_of, png_of
from alpha_assets.stations.outcome import BLEND

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from alpha_assets.stations.reliability import Documents

COLOURS = (FALL, MUTED, INK)


def reliability_picture(documents: "Mapping[str, Documents]", title: str) -> bytes | None:
    """A PNG; None where no source has a curve of any strategy. A panel without a curve says why."""
    if not any(one["curve"] for by_strategy in documents.values() for one in by_strategy.values()):
        return None
    figure, panels = figure_of(4.6 * len(documents), 3.6, columns=len(documents))
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    for panel, (source, by_strategy) in zip(panels, documents.items(), strict=True):
        panel.set_title(f"{source}: share that earned its costs, by confidence", **TITLE)
        _draw(panel, by_strategy)
    return png_of(figure)


def _draw(panel: "Axes", by_strategy: "Documents") -> None:
    blend = by_strategy.get(BLEND)
    shown = {name: one for name, one in by_strategy.items() if one["curve"]}
    if not shown:
        return draw_words(panel, "nothing was stated" if blend is None else blend["sentence"].replace("; ", "\n"))
    if BLEND in shown:
        curve = shown.pop(BLEND)["curve"]
        said, came, error = (_series(curve, name) for name in ("said", "came", "error"))
        draw_held(panel, said, came, error, BLEND)
    for colour, (name, one) in zip(cycle(COLOURS), sorted(shown.items()), strict=False):
        curve = one["curve"]
        panel.plot(_series(curve, "said"), _series(curve, "came"), color=colour, linewidth=0.9, label=name)
    panel.legend(fontsize=7, frameon=False, loc="best")
    return None


def _series(rows: "list[Mapping[str, Any]]", name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float64)

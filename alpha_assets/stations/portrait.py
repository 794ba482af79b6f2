"""The picture of a version: how its P(up) held, what it confused, what it reads, what more rows taught it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_assets.stations.drawing import FALL, INK, LINE, MUTED, TITLE, draw_held, draw_words, figure_of, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray

#: Features shown: those that the heads lean on most.
FEATURES = 12

CLASSES = ("sell", "hold", "buy")


def portrait(report: Mapping[str, Any], title: str) -> bytes:
    """A PNG of four panels of the report that is logged with a training; a panel without data says so."""
    figure, (held, confused, read, taught) = figure_of(9.0, 6.2, rows=2, columns=2)
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    _calibration(held, report.get("calibration") or [])
    _confusion(confused, report.get("confusion") or [])
    _importance(read, report.get("heads") or {})
    _learning(taught, report.get("learning") or [])
    return png_of(figure)


def _calibration(panel: "Axes", groups: list[Mapping[str, float]]) -> None:
    panel.set_title("share that went up, by the P(up) that was said out of fold", **TITLE)
    if not groups:
        return draw_words(panel, "nothing to show")
    said, up, rows = (_series(groups, name) for name in ("said", "up", "rows"))
    draw_held(panel, said, up, np.sqrt(up * (1 - up) / rows))
    return None


def _confusion(panel: "Axes", counts: list[list[int]]) -> None:
    panel.set_title("bars by what came (rows) and what was likeliest (columns)", **TITLE)
    if not counts:
        return draw_words(panel, "nothing to show")
    shares = np.array(counts) / max(np.sum(counts), 1)
    panel.grid(visible=False)
    panel.imshow(shares, cmap="Blues", vmin=0.0, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        dark = shares[row, column] > 0.6 * shares.max()
        text = f"{counts[row][column]:,}"
        panel.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else INK)
    panel.set_xticks(range(3), CLASSES)
    panel.set_yticks(range(3), CLASSES)
    return None


def _importance(panel: "Axes", heads: Mapping[str, Mapping[str, Any]]) -> None:
    panel.set_title("what the heads lean on: mean share of importance", **TITLE)
    shares: dict[str, float] = {}
    told = [head["importance"] for head in heads.values() if head.get("importance")]
    for importance in told:
        for name, share in importance.items():
            shares[name] = shares.get(name, 0.0) + share / len(told)
    if not shares:
        return draw_words(panel, "nothing to show")
    first = sorted(shares, key=lambda name: (-shares[name], name))[:FEATURES][::-1]
    panel.barh(first, [shares[name] for name in first], color=LINE, height=0.7)
    return None


def _learning(panel: "Axes", steps: list[Mapping[str, float]]) -> None:
    panel.set_title("accuracy of each outer fold, by the rows learnt from", **TITLE)
    if not steps:
        return draw_words(panel, "nothing to show")
    panel.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=":")
    rows, accuracy, answered = (_series(steps, name) for name in ("rows", "accuracy", "answered"))
    panel.errorbar(rows, accuracy, yerr=0.5 / np.sqrt(answered), color=FALL, ecolor=MUTED, marker="o", markersize=3.5)
    return None


def _series(rows: list[Mapping[str, float]], name: str) -> Array:
    """One figure of every row; what is undefined is no point, and must not cost the picture, let alone the run."""
    return np.array([row.get(name) for row in rows], np.float64)

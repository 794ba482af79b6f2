"""The picture of a version, of whatever its report holds."""

import io
from typing import Any

import pytest
from PIL import Image

from alpha_assets.stations.portrait import portrait

REPORT: dict[str, Any] = {
    "calibration": [{"rows": 40, "said": 0.45, "up": 0.4}, {"rows": 40, "said": 0.55, "up": 0.6}],
    "confusion": [[3, 2, 1], [2, 4, 2], [1, 2, 3]],
    "heads": {"gb_return": {"importance": {f"f{number}": 0.05 for number in range(20)}}},
    "learning": [{"rows": 200, "answered": 40, "accuracy": 0.5}, {"rows": 400, "answered": 40, "accuracy": 0.6}],
}


def inks(png: bytes) -> int:
    """Pixels that are not white."""
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return sum(count for count, colour in picture.convert("L").getcolors() or [] if colour < 250)


@pytest.mark.parametrize("undefined", [{"accuracy": None}, {"said": None, "up": None}])
def test_an_undefined_figure_costs_its_point_and_not_the_picture(undefined: dict[str, None]) -> None:
    part = "learning" if "accuracy" in undefined else "calibration"
    report = REPORT | {part: [REPORT[part][0] | undefined, REPORT[part][1]]}
    assert inks(portrait(report, "a version")) < inks(portrait(REPORT, "a version"))


@pytest.mark.parametrize("name", sorted(REPORT))
def test_each_panel_shows_its_part_of_the_report_and_says_so_where_that_is_missing(name: str) -> None:
    whole = portrait(REPORT, "a version")
    assert len(whole) < 80_000
    for nothing in ({}, {name: None}):
        without = {other: value for other, value in REPORT.items() if other != name} | nothing
        assert inks(portrait(without, "a version")) < inks(whole)

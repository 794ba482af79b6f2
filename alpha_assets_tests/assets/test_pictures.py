"""Pictures are PNGs small enough for an event log, whatever the figures are."""

import io
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from alpha_assets.assets.pictures import as_markdown, symbol_picture, universe_picture
from alpha_assets_tests.quant.histories import closes


def size(png: bytes) -> tuple[int, int]:
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return picture.size


def profiles(count: int, **changes: Any) -> dict[str, Any]:
    draws = np.random.default_rng(2)
    return {
        f"S{number:03}": {
            "returns": {"annual": float(draws.normal()), "annual_volatility": float(draws.random()), **changes},
            "drawdown": {"max": -float(draws.random())},
        }
        for number in range(count)
    }


@pytest.mark.parametrize("bars", [1, 2, 30, 5_000])
def test_a_symbol_of_any_length_has_a_picture(bars: int) -> None:
    steps = np.random.default_rng(1).normal(0.0, 0.02, bars)
    png = symbol_picture(closes(*100.0 * np.exp(np.cumsum(steps))), 252)
    assert size(png) == (720, 460)
    assert len(png) < 60_000


@pytest.mark.parametrize("count", [1, 2, 600])
def test_a_universe_of_any_size_has_a_picture(count: int) -> None:
    png = universe_picture(profiles(count))
    assert png is not None
    assert size(png) == (720, 440)
    assert len(png) < 60_000


def test_one_symbol_beyond_all_bounds_leaves_the_others_where_they_are() -> None:
    usual = profiles(200)
    wild = {**usual, "WILD": {"returns": {"annual": 1e9, "annual_volatility": 40.0}}}
    one, other = (np.asarray(Image.open(io.BytesIO(png)).convert("L")) for png in map(drawn, (usual, wild)))
    assert (one != other).mean() < 0.3


def drawn(documents: dict[str, Any]) -> bytes:
    png = universe_picture(documents)
    assert png is not None
    return png


def test_nobody_to_draw_is_no_picture() -> None:
    assert universe_picture({}) is None
    assert universe_picture({"NEW": {"coverage": {"bars": 1}}}) is None


def test_pictures_leave_nothing_behind_in_pyplot() -> None:
    universe_picture(profiles(3))
    assert pyplot.get_fignums() == []


def test_markdown_holds_the_picture_and_says_what_it_is() -> None:
    assert as_markdown(b"png", "a picture") == "![a picture](data:image/png;base64,cG5n)"

"""What the page of the backtest shows."""

import pytest

from alpha_assets.assets import backtest as module
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.stations.backtest import LookedBack
from alpha_assets_tests.assets.world import World, said


def test_the_picture_of_a_backtest_is_shown_with_the_disclaimer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    played = LookedBack({"state": "empty", "reason": "told by a test"}, b"a picture")
    monkeypatch.setattr(module, "look_back", lambda *_: played)
    result = world.launch("backtest_only", {}, {})
    (told,) = said(result, "backtest").values()
    assert told["picture"].startswith("![backtest")
    assert DISCLAIMER in told["picture"]

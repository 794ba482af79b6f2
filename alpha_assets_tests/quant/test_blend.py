"""One opinion is one signal; HOLD states no direction and so has no confidence."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.blend import direction
from alpha_assets.quant.parameters import DISCLAIMER, SignalParameters

PARAMETERS = SignalParameters(buy_from=0.55, sell_to=0.45)


@pytest.mark.parametrize(
    ("p_up", "signal", "confidence"),
    [(0.55, "BUY", 0.55), (0.9, "BUY", 0.9), (0.5499, "HOLD", None), (0.4501, "HOLD", None), (0.45, "SELL", 0.55)],
)
def test_thresholds_belong_to_the_signal(p_up: float, signal: str, confidence: float | None) -> None:
    stated, sure = direction(p_up, PARAMETERS)
    assert stated == signal
    assert sure == (None if confidence is None else pytest.approx(confidence))


@settings(deadline=None)
@given(p_up=st.floats(0, 1))
def test_confidence_is_the_probability_of_the_stated_direction(p_up: float) -> None:
    signal, confidence = direction(p_up, PARAMETERS)
    assert (confidence is None) == (signal == "HOLD")
    assert confidence is None or confidence >= 0.5
    mirrored, _ = direction(1 - p_up, PARAMETERS)
    if abs(abs(p_up - 0.5) - 0.05) > 1e-9:
        assert {signal, mirrored} in ({"BUY", "SELL"}, {"HOLD"})


@pytest.mark.parametrize("p_up", [float("nan"), float("inf"), -0.01, 1.01])
def test_what_is_no_probability_is_refused(p_up: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        direction(p_up, PARAMETERS)


@pytest.mark.parametrize(("buy_from", "sell_to"), [(0.4, 0.3), (0.6, 0.55), (1.0, 0.4), (0.6, 0.0)])
def test_thresholds_that_overlap_are_refused(buy_from: float, sell_to: float) -> None:
    with pytest.raises(ValueError, match="wanted"):
        SignalParameters(buy_from=buy_from, sell_to=sell_to)


def test_parameters_and_signals_need_no_heavy_library() -> None:
    program = (
        "import sys, alpha_assets.quant.blend, alpha_assets.quant.parameters;"
        "print({'polars', 'numpy', 'scipy', 'lightgbm', 'pandas'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
    assert "not financial advice" in DISCLAIMER

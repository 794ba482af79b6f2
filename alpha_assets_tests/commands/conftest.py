"""A home that the commands themselves have taken through the whole line, once a worker."""

import json
from pathlib import Path

import pytest

from alpha_assets.quant.parameters import GateParameters
from alpha_assets_tests.commands.call import Answer, call, home

#: The flow of a user's first day, and the same once more.
FLOW = {
    "add": ("universe", "add", "--all"),
    "refresh": ("refresh", "--format", "json"),
    "train": ("train", "--format", "json"),
    "signals": ("signals", "--format", "json"),
    "promotions": ("promotions", "--format", "json"),
}


#: Fits of the symbols' own serve, so that there is a model a symbol; who serves otherwise the station's tests tell.
OWN = json.dumps([line for line in GateParameters().deciding_lines if line != "pooled"])


@pytest.fixture(scope="session")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Answer], dict[str, Answer]]:
    """The home, what the flow answered, and what it answered when it was repeated."""
    folder = tmp_path_factory.mktemp("worked") / "home"
    with home(folder, GATE__DECIDING_LINES=OWN):
        first = {name: call(*arguments) for name, arguments in FLOW.items()}
        second = {name: call(*arguments) for name, arguments in FLOW.items()}
    return folder, first, second

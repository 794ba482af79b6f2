"""The command called within this process, with everything it says kept apart."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alpha_assets.cli import main
from alpha_assets_tests.processes import LIGHT_HEADS


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The answer of a call with ``--format json``."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def csv(self) -> list[dict[str, str]]:
        """The answer of a call with ``--format csv``."""
        assert self.code == 0, self.err
        return list(csv.DictReader(io.StringIO(self.out)))


def call(*arguments: str) -> Answer:
    """``alpha-assets ARGUMENTS`` under the environment as it is."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


@contextmanager
def home(folder: Path, **variables: str) -> Iterator[Path]:
    """A home for the calls inside: four symbols of the simulated market unless ``variables`` say otherwise."""
    market = {"SOURCE": "simulated", "SIMULATION__SYMBOLS": "4", "WORKERS": "1", "LEARNING__HEADS": LIGHT_HEADS}
    chosen = {**market, **variables, "HOME": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        # Set and removed, so that what the command exports is forgotten afterwards.
        for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
            patch.setenv(name, "")
            patch.delenv(name)
        for name, value in chosen.items():
            patch.setenv(f"ALPHA_{name}", value)
        yield folder

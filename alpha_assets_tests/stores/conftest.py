"""A fresh home whose ledger is on either database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests import postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    home = tmp_path / "home"
    if request.param == "sqlite":
        yield Settings(home=home)
        return
    with postgres.database() as url:
        yield Settings(home=home, ledger_url=SecretStr(url))


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(settings)
    yield ledger
    ledger.close()

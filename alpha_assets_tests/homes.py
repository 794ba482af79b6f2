"""Fresh homes whose ledger has its tables: making them takes a tenth of a second, and hundreds of tests begin so."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger


@cache
def _made() -> tuple[TemporaryDirectory[str], Path]:
    """A ledger as the migrations make it, once a process; its folder goes with the process."""
    folder = TemporaryDirectory(prefix="alpha-ledger-")
    settings = Settings(home=Path(folder.name), ledger_url=None, _env_file=None)  # type: ignore[call-arg]
    ledger = Ledger(settings)
    ledger.migrate()
    ledger.close()
    return folder, settings.ledger_file


def make_tables(settings: Settings) -> None:
    """Give a home that has no ledger one with nothing in it."""
    if settings.ledger_url is None and not settings.ledger_file.exists():
        settings.ledger_file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_made()[1], settings.ledger_file)

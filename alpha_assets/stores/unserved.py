"""Which symbols' newest signals are in the lake alone, because the ledger took none. Imports nothing heavy.

A ledger that is full, locked or read-only still answers readers, with what was said before; without this note they
would take that for the newest. It is a file of the home: a reader on another machine, of a ledger on a server, sees the
older signals until they expire.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alpha_assets.settings import Settings

FILE, LOCK = "unserved.json", "unserved.lock"


def note(settings: Settings, symbols: Sequence[str], trouble: str) -> None:
    """Remember that the ledger has not got the newest signals of these, and why. Raises OSError."""
    with _locked(settings):
        held = noted(settings)
        _write(settings, trouble, {*symbols, *(held[1] if held else ())})


def settled(settings: Settings, symbols: Sequence[str]) -> None:
    """Forget what was noted of these: the ledger has got their newest signals. Raises OSError."""
    if not _file(settings).exists():
        return
    with _locked(settings):
        held = noted(settings)
        if held is not None:
            _write(settings, held[0], held[1] - set(symbols))


def noted(settings: Settings) -> tuple[str, set[str]] | None:
    """Why, and of which symbols, the newest signals are in the lake alone; None where there are none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(_file(settings).read_bytes())
        return str(held["trouble"]), set(held["symbols"])
    return None


def _write(settings: Settings, trouble: str, symbols: set[str]) -> None:
    file = _file(settings)
    if not symbols:
        file.unlink(missing_ok=True)
        return
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"trouble": trouble, "symbols": sorted(symbols)}))
    partial.replace(file)


def _file(settings: Settings) -> Path:
    return settings.home / FILE


def _locked(settings: Settings) -> Any:
    from filelock import FileLock

    settings.home.mkdir(parents=True, exist_ok=True)
    return FileLock(settings.home / LOCK)

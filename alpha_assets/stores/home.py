"""One home holds bars of one interval: stamped at its first use, refused by name ever after."""

import json
import os
from pathlib import Path

from alpha_assets.settings import Settings
from alpha_assets.stores.trouble import StoreTrouble

STAMP = "home.json"


class OtherInterval(StoreTrouble):
    """The home holds bars of another interval than the settings say."""


class HomeDamaged(StoreTrouble):
    """The stamp of the home cannot be read."""


def stamp(settings: Settings) -> None:
    """Make the home and stamp it with the settings' interval. Raises OtherInterval where it was stamped otherwise."""
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / STAMP
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"interval": settings.interval}))
        partial.replace(path)
    refuse_other_interval(settings)


def refuse_other_interval(settings: Settings) -> None:
    """Raise OtherInterval where the home holds bars of another interval than these settings say."""
    stamped = stamped_interval(settings)
    if stamped not in (None, settings.interval):
        raise OtherInterval(
            f"ALPHA_INTERVAL={settings.interval}, but {settings.home} holds {stamped} bars: one home holds one "
            f"interval; set ALPHA_INTERVAL={stamped}, or another ALPHA_HOME"
        )


def identity_of(ledger: Path) -> tuple[int, int] | None:
    """What tells this file from another of its name; None where there is none, or one without content: no ledger is."""
    try:
        found = ledger.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def lost_ledger(settings: Settings) -> str | None:
    """What to say where the ledger's file is not there and the lake holds signals: a ledger was when they were said.

    It may be on a server that this shell was not told of, so what would harm then is said last.
    """
    file = settings.ledger_file
    if settings.ledger_url is not None or identity_of(file) or not (Path(settings.lake) / "signals").exists():
        return None
    return (
        f"the ledger {file} is not there, or empty, and the lake holds signals: if the ledger is on a server, set "
        "ALPHA_LEDGER_URL; else restore the file from a backup, for the universe, every decision and what was booked "
        f"are gone with it; only where there is no backup move {settings.home} away to begin anew"
    )


def stamped_interval(settings: Settings) -> str | None:
    """The interval a home was first used with; None where it is new."""
    path = settings.home / STAMP
    try:
        return str(json.loads(path.read_bytes())["interval"]) if path.exists() else None
    except (ValueError, KeyError, TypeError) as error:
        raise HomeDamaged(
            f"{path} cannot be read ({error}): write into it the interval of this home's bars, as in "
            f'{{"interval": "{settings.interval}"}}'
        ) from error

"""The folder that holds everything: made at first use, stamped with its interval, and Dagster's home inside it."""

import json
import os
from pathlib import Path

from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings, project_root

STAMP = "home.json"


def prepare(settings: Settings) -> None:
    """Make the home, stamp it with its interval, export an absolute DAGSTER_HOME with its ``dagster.yaml``.

    A DAGSTER_HOME that is already exported is the user's (PostgreSQL, say) and stays. Raises CommandFailed where
    the home was stamped with another interval or cannot be written.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        _stamp(settings)
        if not os.environ.get("DAGSTER_HOME"):
            _make_dagster_home(settings.dagster_home)
    except OSError as error:
        raise CommandFailed(f"ALPHA_HOME={settings.home} cannot be used: {error.strerror}: {error.filename}") from error


def _make_dagster_home(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    template = project_root() / "dagster.yaml"
    copy = folder / "dagster.yaml"
    if template.exists() and (not copy.exists() or copy.read_bytes() != template.read_bytes()):
        copy.write_bytes(template.read_bytes())
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")


def _stamp(settings: Settings) -> None:
    path = settings.home / STAMP
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"interval": settings.interval}))
        partial.replace(path)
    refuse_other_interval(settings)


def refuse_other_interval(settings: Settings) -> None:
    """Raise CommandFailed where the home holds bars of another interval than these settings say."""
    path = settings.home / STAMP
    stamped = stamped_interval(path) if path.exists() else settings.interval
    if stamped != settings.interval:
        raise CommandFailed(
            f"ALPHA_INTERVAL={settings.interval}, but {settings.home} holds {stamped} bars: one home holds one "
            f"interval; set ALPHA_INTERVAL={stamped}, or another ALPHA_HOME"
        )


def stamped_interval(path: Path) -> str:
    """The interval a home was first used with."""
    return str(json.loads(path.read_text())["interval"])

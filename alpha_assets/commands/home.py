"""The folder that holds everything, made ready for a command that writes, with Dagster's home inside it."""

import os
from pathlib import Path

from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings, project_root
from alpha_assets.stores.home import stamp


def prepare(settings: Settings) -> None:
    """Make the home, stamp it with its interval, export an absolute DAGSTER_HOME with its ``dagster.yaml``.

    A DAGSTER_HOME that is already exported is the user's (PostgreSQL, say) and stays. Raises CommandFailed where
    the home cannot be written, OtherInterval where it was stamped with another interval.
    """
    try:
        stamp(settings)
        if not os.environ.get("DAGSTER_HOME"):
            _make_dagster_home(settings.dagster_home)
    except OSError as error:
        raise CommandFailed(f"ALPHA_HOME={settings.home} cannot be used: {error.strerror}: {error.filename}") from error


def _make_dagster_home(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    template = project_root() / "dagster.yaml"
    copy = folder / "dagster.yaml"
    if template.exists() and not copy.exists():
        copy.write_bytes(template.read_bytes())
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")

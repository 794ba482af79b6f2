"""The folder that holds everything, made ready for a command that writes, with Dagster's home inside it."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings, project_root
from alpha_assets.stores.home import stamp

#: Dagster's own SQLite files under its home: runs, events of all runs with the partitions, switches.
DAGSTER_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def prepare(settings: Settings) -> None:
    """Make the home, stamp it with its interval, export an absolute DAGSTER_HOME with its ``dagster.yaml``.

    The ledger of an older program is brought up to date. A DAGSTER_HOME that is already exported is the user's
    (PostgreSQL, say) and stays. Raises CommandFailed where the home cannot be written or a database of Dagster's in it
    is damaged, OtherInterval where it was stamped with another interval.
    """
    from alpha_assets.stores.ledger import Ledger, LedgerUnavailable

    try:
        stamp(settings)
        with suppress(LedgerUnavailable):  # whoever needs it says so; the pages can be opened without
            Ledger(settings).upgrade()
        if not os.environ.get("DAGSTER_HOME"):
            _make_dagster_home(settings.dagster_home)
        _refuse_damaged(Path(os.environ["DAGSTER_HOME"]))
    except OSError as error:
        raise CommandFailed(f"ALPHA_HOME={settings.home} cannot be used: {error.strerror}: {error.filename}") from error


def _refuse_damaged(folder: Path) -> None:
    """Say of a database that Dagster would end on with a traceback which one it is, and what is lost without it."""
    for file in (folder / place for place in DAGSTER_DATABASES):
        if not file.exists():
            continue
        try:
            # To read a database whose writer was killed is to roll back what that left, which is to write.
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=30)) as database:
                database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            raise CommandFailed(
                f"Dagster's database {file} is damaged ({error}): restore it from a backup, or move the folder "
                f"{folder} away; that loses the history of runs and the switches of sensors and schedules, while bars, "
                "models, decisions and signals are elsewhere and stay"
            ) from error


def _make_dagster_home(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    template = project_root() / "dagster.yaml"
    copy = folder / "dagster.yaml"
    if template.exists() and not copy.exists():
        copy.write_bytes(template.read_bytes())
    os.environ["DAGSTER_HOME"] = str(folder)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")

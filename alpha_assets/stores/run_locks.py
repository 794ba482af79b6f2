"""A run holds an operating-system lock as long as it lives; the kernel drops it on death, however it came.

Dagster keeps a killed run STARTED for ever, with its slot. Nobody can tell that from a run that takes long, except by
asking the kernel: whose lock is free has died. Promises: ``hold`` succeeds at once or raises; a held lock is
free the moment its process is gone; ``is_dead`` never disturbs a living run.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alpha_assets.settings import Settings

#: Runs whose lock this process holds, through whichever object.
_held: set[str] = set()


class RunLocks:
    """One lock file a run under ``HOME/run-locks``."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home / "run-locks"

    @contextmanager
    def hold(self, run_id: str) -> Iterator[None]:
        """Hold the run's lock until the block is left; in a process that holds it already this does nothing.

        A kill leaves an empty file behind, which is what tells that the run died; the reaper removes it. That of a
        command killed before its run was recorded, and the one under the process's own number of a kill before the
        rename, stay: nobody can tell them from another instance's, and they block nothing. Raises OSError where the
        folder cannot be written to.
        """
        if run_id in _held:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(run_id)
        unlocked = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Renamed once it is locked: under its own name nobody ever sees the file of a living run without its lock.
            unlocked.rename(path)
            _held.add(run_id)
            yield
        finally:
            _held.discard(run_id)
            # Unlinked before it is released: whoever opens the name later sees a run that has ended, not one that died.
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def is_dead(self, run_id: str) -> bool:
        """True where the run took its lock and its process is gone; False while it lives or never took it."""
        path = self._path(run_id)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two who ask at once both learn it.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # A run that ended between our opening and our locking has removed its name.
            return path.exists()
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)

    def dead(self) -> list[str]:
        """The runs whose process is gone and whose lock nobody has removed yet."""
        return [name for name in sorted(path.stem for path in self._folder.glob("*.lock")) if self.is_dead(name)]

    def forget(self, run_id: str) -> None:
        """Remove the lock of a run that is known to have died."""
        self._path(run_id).unlink(missing_ok=True)

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.lock"

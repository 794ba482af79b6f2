"""The one place that reads the wall clock, so that a replay can put another in its stead."""

from datetime import UTC, datetime


class Clock:
    """Now, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)

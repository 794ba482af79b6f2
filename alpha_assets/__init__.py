"""Market bars to trading signals you can trust: ``from alpha_assets import signals`` reads the newest ones.

``signals()``, ``signals.explain("AAPL")`` and ``signals.metrics()`` are what ``alpha-assets signals`` shows.

Research and education, not financial advice; past results guarantee nothing.
"""

import os
from typing import TYPE_CHECKING, Any

# Polars and delta-rs each bring jemalloc, which gives memory back ten seconds after it was last used and, in part, at
# once; touched again, each page of it costs a fault. Of a build of 505 symbols 150,000 faults were a fifth. They read
# this when they are loaded, so it stands before anything that imports them; what a user has set stays.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:60000,muzzy_decay_ms:60000")

if TYPE_CHECKING:
    from alpha_assets.reading import signals

__all__ = ["signals"]


def __getattr__(name: str) -> Any:
    # Lazily, so that importing a part of the package does not import the ledger.
    if name == "signals":
        from alpha_assets.reading import signals

        return signals
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Market bars to trading signals you can trust: ``from alpha_assets import signals`` reads the newest ones.

Research and education, not financial advice; past results guarantee nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpha_assets.reading import signals

__all__ = ["signals"]


def __getattr__(name: str) -> Any:
    # Lazily, so that importing a part of the package does not import the ledger.
    if name == "signals":
        from alpha_assets.reading import signals

        return signals
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

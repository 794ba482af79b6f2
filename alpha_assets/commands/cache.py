"""``alpha-assets cache``: what is kept for a while, and getting rid of it."""

from argparse import Namespace
from datetime import UTC, datetime, timedelta

from alpha_assets.commands import show
from alpha_assets.commands.launch import say
from alpha_assets.settings import Settings
from alpha_assets.stores.cache import SIGNALS, STATUS_FIELDS, Cache
from alpha_assets.stores.home import refuse_other_interval
from alpha_assets.stores.ledger import Ledger

GONE_FIELDS = ("namespace", "deleted")


def status(settings: Settings, options: Namespace) -> None:
    """A row a namespace: what it holds, and how often it spared a computation."""
    show.table(_opened(settings).status(datetime.now(UTC)), STATUS_FIELDS, options.format)


def clear(settings: Settings, options: Namespace) -> None:
    """Delete what has expired; the lake keeps every signal ever said."""
    _show_gone(_opened(settings).clear(datetime.now(UTC)), options, "nothing has expired")


def clean(settings: Settings, options: Namespace) -> None:
    """Delete what is older than so many hours, expired or not; the lake keeps every signal ever said."""
    older = timedelta(hours=options.older_than)
    gone = _opened(settings).clean(datetime.now(UTC), older)
    _show_gone(gone, options, f"nothing is older than {options.older_than:g} hours")


def _opened(settings: Settings) -> Cache:
    refuse_other_interval(settings)
    return Cache(Ledger(settings))


def _show_gone(gone: dict[str, int], options: Namespace, nothing: str) -> None:
    rows = [{"namespace": name, "deleted": count} for name, count in sorted(gone.items())]
    show.table(rows, GONE_FIELDS, options.format, nothing)
    if gone.get(SIGNALS):
        say(f"{show.counted(gone[SIGNALS], 'symbol')} without a signal until the next: alpha-assets refresh")

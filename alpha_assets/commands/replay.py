"""Signals of the past made again from what was known then, and held against what was said."""

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from alpha_assets.commands import show
from alpha_assets.commands.models import opened, refuse_unknown
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

FIELDS = ("symbol", "bar_time", "created_at", "state", "differs", "why")


def replay(settings: Settings, options: Namespace) -> int:
    """A row of each signal that does not come out the same, and how many do; 1 where one is different."""
    from alpha_assets.stations.remake import remake
    from alpha_assets.stores.lake import Lake
    from alpha_assets.stores.registry import Registry

    ledger = opened(settings)
    for symbol in options.symbols:
        refuse_unknown(ledger, symbol)
    if options.since and options.until and options.since > options.until:
        raise CommandFailed(f"--since {options.since} is after --until {options.until}")
    lake, symbols = Lake(settings), options.symbols or None
    found = remake(
        lake,
        ledger,
        Registry(settings),
        settings,
        symbols,
        options.since,
        options.until,
        show.progress(),
    )
    counts = found.counts
    if options.format == "json":
        show.record({**counts, "rows": show.plain(found.rows, FIELDS)}, "json")
    elif options.format == "csv" or found.rows:
        show.table([_shown(row) for row in found.rows], FIELDS, options.format)
    if options.format == "table":
        print(_sentence(counts) if counts["signals"] else _why_none(lake.last_rows("signals", symbols)))
    return 1 if counts["different"] else 0


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "differs": ", ".join(row["differs"])}


def _why_none(held: "pl.DataFrame") -> str:
    """``held`` are the first and last bar of which a signal was said, by symbol."""
    if held.is_empty():
        return "no signal was said of these bars yet: alpha-assets refresh"
    days = f"from {min(held['first']):%Y-%m-%d} to {max(held['last']):%Y-%m-%d}"
    return f"no signal was said of these bars: those there are, are of bars {days}"


def _sentence(counts: dict[str, int]) -> str:
    parts = [f"{counts['same']:,} came out the same", f"{counts['different']:,} different"]
    if counts["untold"]:
        parts.append(f"of {counts['untold']:,} nobody can tell any more")
    of = f"{show.counted(counts['signals'], 'signal')} of {show.counted(counts['runs'], 'run')}"
    return f"{of} made again from what was known then: {', '.join(parts)}."

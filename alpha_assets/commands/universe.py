"""``alpha-assets universe``: which symbols are followed."""

from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime

from alpha_assets.commands import home, show
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.quant.symbols import well_formed
from alpha_assets.settings import Settings
from alpha_assets.stores.home import refuse_other_interval
from alpha_assets.stores.ledger import Ledger, Row

FIELDS = ("symbol", "source", "calendar", "added_at", "retired_at")


def add(settings: Settings, options: Namespace) -> None:
    """Follow symbols; each keeps the source it was added with."""
    source = options.source or settings.source
    symbols = list(options.symbols) or (held_by(settings, source) if options.all else [])
    if not symbols:
        raise CommandFailed("name the symbols to follow, or --all for every symbol that the source holds")
    rows = follow(settings, symbols, source, listed=not options.symbols)
    already = len(set(symbols)) - len(rows)
    said = f"{show.counted(len(rows), 'symbol')} followed from now on, source: {source}"
    print(said + (f"; {already} followed already, source unchanged" if already else ""))


def follow(settings: Settings, symbols: Sequence[str], source: str, listed: bool = False) -> list[Row]:
    """Register symbols in the ledger; their partitions follow with the next run. Known ones keep their source.

    ``listed``: the source itself named them, so it is not asked again whether it holds them.
    """
    from alpha_assets.quant.calendars import calendar_name, sessions

    home.prepare(settings)
    wrong = [symbol for symbol in symbols if not well_formed(symbol)]
    if wrong:
        raise CommandFailed(
            f"{', '.join(map(repr, wrong[:5]))}: a symbol has up to 32 letters, digits or . - = ^ & _ "
            "(BRK.B, ^GSPC, BTC-USD)"
        )
    ledger = Ledger(settings)
    known = {row["symbol"]: row for row in ledger.universe(retired=True)}
    new = [symbol for symbol in dict.fromkeys(symbols) if symbol not in known or known[symbol]["retired_at"]]
    if not listed:
        _refuse_absent(settings, source, new)
    now = datetime.now(UTC)
    rows = []
    try:
        for symbol in new:
            name = calendar_name(symbol, settings.calendars)
            sessions(name, now.date(), now.date())
            rows.append({"symbol": symbol, "source": source, "calendar": name, "added_at": now})
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    ledger.add_symbols(rows)
    return rows


def _refuse_absent(settings: Settings, source: str, symbols: Sequence[str]) -> None:
    """Refuse what a source of a finite stock does not hold: it would be followed for ever and never have a bar."""
    if source == "yahoo" or not symbols:
        return
    held = held_by(settings, source)
    absent = [symbol for symbol in symbols if symbol not in set(held)]
    if absent:
        place = f"ALPHA_FILES={settings.files}" if source == "files" else "the simulated market"
        raise CommandFailed(
            f"{', '.join(absent[:5])}: not in {place}, which has {', '.join(held[:5])}"
            f"{' …' if len(held) > 5 else ''}; nothing was added"
        )


def held_by(settings: Settings, source: str) -> list[str]:
    """Every symbol that a source of a finite stock holds."""
    from alpha_assets.sources.all import Sources
    from alpha_assets.sources.base import SourceUnavailable

    if source == "yahoo":
        raise CommandFailed("yahoo cannot list its symbols: name the ones to follow")
    try:
        return list(Sources(settings)[source].symbols())  # type: ignore[attr-defined]
    except SourceUnavailable as error:
        raise CommandFailed(str(error)) from error


def show_members(settings: Settings, options: Namespace) -> None:
    """List the universe."""
    refuse_other_interval(settings)
    rows = Ledger(settings).universe(retired=options.retired)
    show.table(rows, FIELDS, options.format, "the universe is empty: alpha-assets universe add SYMBOL")


def retire(settings: Settings, options: Namespace) -> None:
    """Follow symbols no longer."""
    refuse_other_interval(settings)
    ledger = Ledger(settings)
    known = {row["symbol"] for row in ledger.universe(retired=True)}
    unknown = [symbol for symbol in options.symbols if symbol not in known]
    if unknown:
        raise CommandFailed(f"{', '.join(unknown)}: not in the universe, see «alpha-assets universe list»")
    ledger.retire(options.symbols, datetime.now(UTC))
    print(f"{show.counted(len(set(options.symbols)), 'symbol')} no longer followed; bars and models stay")

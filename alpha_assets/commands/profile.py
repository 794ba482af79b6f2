"""The documents of one symbol, and what their fields mean. Opens the ledger and nothing else."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from alpha_assets.commands import show
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.quant.profile_schema import (
    COMPANY,
    DOCUMENTS,
    FUNDAMENTALS,
    KINDS,
    PATTERNS,
    RATE_FIGURES,
    STATISTICAL,
    field_of,
    figure,
    leaves,
)
from alpha_assets.settings import Settings
from alpha_assets.stores.home import refuse_other_interval

FIELDS = ("kind", "field", "type", "unit", "meaning")
FIGURES = ("kind", "field", "value", "unit")
CELLS = ("pattern", "regime", "horizon", *RATE_FIGURES)

#: The kind that is no stored document: a view over decisions and MLflow.
ML = "ml"

#: What is shown where no kind is asked for: the patterns are a table of their own.
USUAL = (STATISTICAL, COMPANY)


def profile(settings: Settings, options: Namespace) -> None:
    """The documents of a symbol, or one: a line a field, of the patterns a line a pattern, regime and horizon.

    JSON is an object by kind, each document as it is stored.
    """
    if options.kind == ML:
        _show_models(settings, options)
        return
    asked = () if options.kind is None else (options.kind,)
    if options.fields:
        show.table([row for kind in asked or KINDS for row in declared(kind)], FIELDS, options.format)
        return
    kinds = asked or USUAL
    if options.symbol is None:
        raise CommandFailed("profile of which symbol? «alpha-assets profile SYMBOL», or --fields for what they hold")
    stored = _stored(settings, options.symbol, kinds)
    if options.format == "json":
        show.record(stored, "json")
        return
    if options.kind == PATTERNS:
        _show_patterns(options.symbol, stored[PATTERNS]["document"], options.format)
        return
    people = options.format == "table"
    rows = [row for kind in kinds for row in _figures(kind, stored[kind]["document"], people)]
    show.table(rows, FIGURES, options.format)


def _show_models(settings: Settings, options: Namespace) -> None:
    """The ML profile: what is known of the symbol's models, by regime; nothing of it is stored."""
    from alpha_assets.commands.models import now, opened, refuse_unknown
    from alpha_assets.stations.dossier import ml_profile
    from alpha_assets.stores.registry import Registry

    if options.fields or options.symbol is None:
        raise CommandFailed("the ML profile is a view: «alpha-assets profile SYMBOL --kind ml» shows all its fields")
    ledger = opened(settings)
    refuse_unknown(ledger, options.symbol)
    document = ml_profile(ledger, Registry(settings), settings, options.symbol, now())
    if options.format == "json":
        show.record({ML: {"schema_version": 1, "document": document}}, "json")
        return
    rows = [{"kind": ML, "field": path, "value": value, "unit": ""} for path, value in leaves(document)]
    show.table(rows, FIGURES, options.format, f"{options.symbol} has no model yet: alpha-assets train")


def declared(kind: str) -> list[dict[str, str]]:
    """The fields of a document with type, unit and meaning."""
    facts = {f"fundamentals.{name}.value": field for name, field in FUNDAMENTALS.items()} if kind == "company" else {}
    return [
        {"kind": kind, "field": path, "type": field.type, "unit": field.unit, "meaning": field.doc}
        for path, field in {**DOCUMENTS[kind], **facts}.items()
    ]


def _stored(settings: Settings, symbol: str, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    from alpha_assets.stores.ledger import Ledger

    refuse_other_interval(settings)
    ledger = Ledger(settings)
    stored = {kind: row for (name, kind), row in ledger.profiles().items() if name == symbol}
    if all(kind in stored for kind in kinds):
        return {
            kind: {
                "schema_version": stored[kind]["schema_version"],
                "written_at": stored[kind]["written_at"].isoformat(),
                "document": stored[kind]["document"],
            }
            for kind in kinds
        }
    if symbol not in {row["symbol"] for row in ledger.universe(retired=True)}:
        raise CommandFailed(f"{symbol}: not in the universe, see «alpha-assets universe list»")
    lacks = "no profile" if not stored else "no profile of its patterns"
    raise CommandFailed(f"{symbol} has {lacks} yet: alpha-assets refresh --symbols {symbol}")


def _show_patterns(symbol: str, document: Mapping[str, Any], form: str) -> None:
    """A line a cell; people are told before it which outcomes count."""
    rows = [
        {"pattern": pattern, "regime": regime, "horizon": int(horizon), **figures}
        for pattern, regimes in document["rates"].items()
        for regime, horizons in regimes.items()
        for horizon, figures in horizons.items()
    ]
    if form != "table":
        show.table(rows, CELLS, form)
        return
    known_until, least = figure(document["known_until"]), figure(document["least"])
    print(f"{symbol}: outcomes known by {known_until}; what has fewer than {least} that do not overlap is left out")
    shown = [{name: figure(value) for name, value in row.items()} for row in rows]
    show.table(shown, CELLS, form, "no pattern has as many outcomes yet")


def _figures(kind: str, document: Mapping[str, Any], people: bool) -> list[dict[str, Any]]:
    rows = []
    for path, value in leaves(document):
        field = field_of(kind, path)
        unit = field.unit if field else ""
        rows.append({"kind": kind, "field": path, "value": figure(value) if people else value, "unit": unit})
    return rows

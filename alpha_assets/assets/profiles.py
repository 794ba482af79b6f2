"""Profiles, one partition a symbol: three documents, and a picture of the symbol or of the universe."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from alpha_assets.assets.features import features
from alpha_assets.assets.frame import OWNERS, Only, plain_failures, say, symbols_of
from alpha_assets.assets.market import ohlcv
from alpha_assets.assets.pictures import as_markdown, symbol_picture, universe_picture
from alpha_assets.clock import Clock
from alpha_assets.partitions import ONE_RUN, symbols
from alpha_assets.quant import calendars
from alpha_assets.quant.profile_schema import COMPANY, STATISTICAL, field_of, figure, leaves
from alpha_assets.settings import Settings
from alpha_assets.sources.all import Sources
from alpha_assets.stations.profile import profile, read_series
from alpha_assets.stations.series import calendars_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.run_locks import RunLocks

#: What the summary leaves to the document: the indicators are a table of their own, the rest is long.
LEFT_OUT = ("indicators.", "dependence.absolute", "regimes.bars", "fundamentals_asked_at")


@dg.asset(
    partitions_def=symbols,
    backfill_policy=ONE_RUN,
    deps=[ohlcv, features],
    group_name="features",
    kinds={"json", "sql"},
    owners=OWNERS,
)
def statistical_profiles(
    context: dg.AssetExecutionContext,
    config: Only,
    settings: dg.ResourceParam[Settings],
    lake: dg.ResourceParam[Lake],
    ledger: dg.ResourceParam[Ledger],
    sources: dg.ResourceParam[Sources],
    clock: dg.ResourceParam[Clock],
    run_lock: dg.ResourceParam[RunLocks],  # noqa: ARG001 - held for the life of the run
) -> dg.MaterializeResult:
    """What holding each symbol was like, its company, and what followed its patterns: JSON documents in the ledger."""
    wanted, kept = symbols_of(context, config)
    with plain_failures(context):
        report = profile(lake, ledger, settings, wanted, clock.now(), sources)
    told = report.in_state("written", "unchanged")
    if len(context.partition_keys) == 1:
        for symbol in told:
            summary = symbol_summary(lake, ledger, settings, symbol)
            context.add_asset_metadata({"summary": dg.MetadataValue.md(summary)}, partition_key=symbol)
        return say(context, report, kept)
    return say(context, report, kept, universe_summary(ledger, told))


def symbol_summary(lake: Lake, ledger: Ledger, settings: Settings, symbol: str) -> str:
    """The documents of a symbol as Markdown tables under its picture."""
    names = calendars_of(ledger)
    series, _ = read_series(lake, settings, names, [symbol])
    picture = symbol_picture(series[symbol], calendars.bars_a_year(names[symbol], settings.interval))
    parts = [as_markdown(picture, f"{symbol}: price, drawdown and volatility")]
    documents = ledger.profiles()
    for kind in (STATISTICAL, COMPANY):
        parts += [f"### {symbol}: {kind}", figures_table(kind, documents[symbol, kind]["document"])]
    return "\n\n".join(parts)


def universe_summary(ledger: Ledger, symbols: Sequence[str]) -> dict[str, dg.MetadataValue]:
    """One picture of these symbols; nothing where there is nothing to draw."""
    documents = ledger.profiles()
    told = {symbol: documents[symbol, STATISTICAL]["document"] for symbol in symbols}
    picture = universe_picture(told)
    what = f"return and volatility of {len(told):,} symbols"
    return {} if picture is None else {"universe": dg.MetadataValue.md(as_markdown(picture, what))}


def figures_table(kind: str, document: Mapping[str, Any]) -> str:
    """The fields of a document as a Markdown table: name, value, unit."""
    lines = ["| field | value | unit |", "|---|---:|---|"]
    for path, value in leaves(document):
        field = field_of(kind, path)
        if field is not None and not path.startswith(LEFT_OUT) and not path.endswith(".read_at"):
            shown = figure(value).replace("|", "\\|")
            lines.append(f"| {path.removesuffix('.value')} | {shown} | {field.unit} |")
    return "\n".join(lines)

"""The ``patterns`` document of a symbol: what followed its patterns, by regime and horizon (``quant.pattern_rates``).

A document is due where its digest is not that of what it would be made of now: the bars of the newest listing before
its period began, as traded, the events among them, the recipes of patterns and regimes, the knobs. So it is written
where it is missing, where its past was restated or its patterns are others, and once a period otherwise; no mark has to
be kept for it. What is to be built anew first is waited for.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl

from alpha_assets.quant.pattern_rates import cells, known_by, rates
from alpha_assets.quant.patterns import HORIZONS, identity
from alpha_assets.quant.profile_schema import PATTERNS, SCHEMA_VERSION, STATE
from alpha_assets.quant.schema import TIME
from alpha_assets.settings import Settings
from alpha_assets.stations.quarantine import alone
from alpha_assets.stations.recognise import TABLE
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Row

#: What patterns and regimes look at, of a bar as traded.
SEEN = ("timestamp", "open", "high", "low", "close", "flags")

_READ = ("symbol", "timestamp", "pattern", "direction")
_OUTCOME = tuple(f"{kind}_{horizon}" for horizon in HORIZONS for kind in ("return", "success", "known"))

#: Hashes are cut to so many bits that the sum over a series does not overflow.
_HASH_BITS = 40


def pattern_documents(
    lake: Lake,
    settings: Settings,
    states: Mapping[str, Row],
    known: Mapping[tuple[str, str], Row],
    bars: pl.DataFrame,
    actions: pl.DataFrame,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The documents of the symbols in ``bars`` that are due, and why a symbol's cannot be made.

    ``bars`` are as traded, whole histories sorted by symbol and timestamp, with ``SEEN`` and the listing; ``states``
    and ``known`` are what the ledger holds of the symbols and of their documents.
    """
    chosen = identity(settings.patterns)
    begins = _begins(bars, settings.profiles.rate_days)
    ready = {symbol: at for symbol, at in begins.items() if _is_ready(states[symbol], chosen, at)}
    begun = {}
    for symbol, digest, start in _covered(bars, actions, ready):
        made_of = [digest, start, ready[symbol], chosen, states[symbol]["features_set"], settings.profiles.rate_least]
        covers = hashlib.blake2b(f"{made_of} {SCHEMA_VERSION}".encode(), digest_size=12).hexdigest()
        if known.get((symbol, PATTERNS), {}).get("document", {}).get(STATE) != {"covers": covers}:
            begun[symbol] = (start, covers)
    tables = {states[symbol]["features_set"] for symbol in begun}
    if not begun or any(lake.version(table) is None for table in (TABLE, *tables)):
        return {}, {}
    since = {symbol: start for symbol, (start, _) in begun.items()}
    until = max(ready[symbol] for symbol in begun)
    outcomes = lake.read(TABLE, since=since, until=until, columns=[*_READ, *_OUTCOME])
    regimes = pl.concat(
        lake.read(
            table,
            since={symbol: start for symbol, start in since.items() if states[symbol]["features_set"] == table},
            until=until,
            columns=["symbol", "timestamp", "regime"],
        )
        for table in sorted(tables)
    )
    found, failed = alone(outcomes, lambda some: rates(some, regimes, ready, settings.patterns.rate_prior))
    told = cells(found, settings.profiles.rate_least)
    documents = {
        symbol: {
            "known_until": ready[symbol].isoformat(),
            "patterns": chosen,
            "regimes": states[symbol]["features_set"],
            "least": settings.profiles.rate_least,
            "prior": settings.patterns.rate_prior,
            "rates": told.get(symbol, {}),
            STATE: {"covers": covers},
        }
        for symbol, (_, covers) in begun.items()
        if symbol not in failed
    }
    return documents, {symbol: f"the rates of its patterns cannot be computed: {why}" for symbol, why in failed.items()}


def _begins(bars: pl.DataFrame, days: int) -> dict[str, datetime]:
    """When the newest period of each symbol began."""
    newest = bars.group_by("symbol", maintain_order=True).agg(pl.col("timestamp").last())
    return {symbol: known_by(last, days) for symbol, last in newest.iter_rows()}


def _is_ready(state: Row, chosen: str, at: datetime) -> bool:
    """True where the patterns and the features of every bar before ``at`` are stored, and none is to be built anew."""
    untils = (state["patterns_until"], state["features_until"])
    anew = state["rebuild_patterns"] or state["rebuild_features"] or state["patterns_set"] != chosen
    return not anew and all(until is not None and until >= at for until in untils)


def _covered(
    bars: pl.DataFrame, actions: pl.DataFrame, until: Mapping[str, datetime]
) -> list[tuple[str, str, datetime]]:
    """Of each symbol a digest of the newest listing's bars and of the events before ``until``, and its first bar."""
    schema = {"symbol": pl.String(), "until": TIME}
    bounds = pl.DataFrame({"symbol": list(until), "until": list(until.values())}, schema=schema)
    marks = pl.struct(SEEN).hash().mod(2**_HASH_BITS)
    spans = (
        bars.lazy()
        .select("symbol", "timestamp", "listing", mark=marks)
        .join(bounds.lazy(), on="symbol", maintain_order="left")
        .group_by("symbol", "listing", maintain_order=True)
        .agg(
            pl.col("timestamp").first(),
            digest=pl.col("mark").filter(pl.col("timestamp") < pl.col("until")).sum(),
            bars=(pl.col("timestamp") < pl.col("until")).sum(),
        )
        .group_by("symbol", maintain_order=True)
        .last()
        .collect()
    )
    events = (
        actions.join(bounds, on="symbol")
        .filter(pl.col("ex_date") < pl.col("until").dt.date())
        .select("symbol", event=pl.format("{} {} {}", "ex_date", "kind", "value"))
        .group_by("symbol")
        .agg(pl.col("event").sort())
    )
    by_symbol = dict(events.iter_rows())
    return [
        (symbol, f"{listing} {count} {digest} {by_symbol.get(symbol, [])}", start)
        for symbol, listing, start, digest, count in spans.iter_rows()
    ]

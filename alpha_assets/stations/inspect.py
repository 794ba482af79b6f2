"""What is wrong in the lake, by symbol and day: found for the symbols of a run, remembered for the whole universe.

A check that forgets is worse than none: one that failed for six symbols turned green when a later run covered two. So
what is found goes to the ledger, and every verdict is over everything that is stored there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import polars as pl

from alpha_assets.quant.schema import BARS, TIME
from alpha_assets.sources.base import Source, reach
from alpha_assets.stations.ingest import MISSING_SESSION
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger

KEY_DOUBLED = "key_doubled"
OHLC_BROKEN = "ohlc_broken"
SPLIT_SIZED_JUMP = "split_sized_jump"

#: A sample of what was found is shown, beside the full count.
SAMPLE = 20


@dataclass(frozen=True)
class Verdict:
    """What one check says: whether it passed, how many were found, and some of them by symbol and day."""

    passed: bool
    count: int
    sample: list[str]
    sentence: str


def inspect_bars(lake: Lake, ledger: Ledger, symbols: Sequence[str], now: datetime) -> None:
    """Look through the stored bars of ``symbols`` for doubled keys and broken prices, and remember what is found."""
    bars = lake.read("bars", symbols=symbols, columns=["symbol", "timestamp", "open", "high", "low", "close"])
    key = pl.col("symbol", "timestamp")
    doubled = bars.filter(pl.all_horizontal(key == key.shift(1)))
    prices = pl.col("open", "high", "low", "close")
    broken = bars.filter(
        pl.any_horizontal(prices.is_null() | ~prices.is_finite() | (prices <= 0))
        | (pl.col("high") < pl.max_horizontal("open", "close", "low"))
        | (pl.col("low") > pl.min_horizontal("open", "close", "high"))
    )
    found = pl.concat(
        [
            frame.select("symbol", rule=pl.lit(rule), day=pl.col("timestamp").dt.date()).unique()
            for rule, frame in ((KEY_DOUBLED, doubled), (OHLC_BROKEN, broken))
        ]
    )
    rows = found.with_columns(seen_at=pl.lit(now, TIME)).to_dicts()
    ledger.note_findings(dict.fromkeys(symbols), [KEY_DOUBLED, OHLC_BROKEN], rows)


def schema_verdict(lake: Lake) -> Verdict:
    """The columns of the stored bars are those that are declared."""
    declared = {**BARS, "fetched_at": TIME}
    stored = lake.read("bars", symbols=[]).schema
    wrong = [
        f"{name}: stored {stored.get(name)}, declared {kind}"
        for name, kind in declared.items()
        if stored.get(name) != kind
    ]
    return verdict_of(wrong, "columns differ from the declared schema")


def findings_verdict(ledger: Ledger, rules: Sequence[str], what: str) -> Verdict:
    """Everything these rules found and nobody cleared, over the whole universe; retired symbols are not its members."""
    members = {row["symbol"] for row in ledger.universe()}
    found = [f"{row['symbol']} {row['day']}" for row in ledger.findings(rules) if row["symbol"] in members]
    return verdict_of(found, what)


def quarantine_verdict(ledger: Ledger) -> Verdict:
    """The symbols in quarantine, each with its cause."""
    states = ledger.states()
    wrong = [
        f"{row['symbol']}: {states[row['symbol']]['quarantine_cause']}"
        for row in ledger.universe()
        if states.get(row["symbol"], {}).get("quarantine_cause")
    ]
    return verdict_of(wrong, "symbols are quarantined")


def freshness_verdict(ledger: Ledger, sources: Mapping[str, Source], now: datetime) -> Verdict:
    """The symbols whose last bar is older than what their source could have by now, by its calendar.

    A source that cannot say is named in the sentence and fails the verdict: whether its symbols are fresh is not known.
    """
    states, members = ledger.states(), ledger.universe()
    could_have = reach(members, sources, now)
    wrong = []
    for symbol in (row["symbol"] for row in members):
        last, newest = states.get(symbol, {}).get("last_bar"), could_have.newest.get(symbol)
        if newest is not None and (last is None or last < newest):
            wrong.append(f"{symbol}: holds {_shown(last)}, its source could have {_shown(newest)}")
    verdict = verdict_of(wrong, "symbols are behind their calendar")
    if not could_have.silent:
        return verdict
    return replace(verdict, passed=False, sentence="; ".join([verdict.sentence, *could_have.silent.values()]))


def features_verdict(ledger: Ledger) -> Verdict:
    """The symbols whose features do not reach their last bar, but for those in quarantine, which say so themselves."""
    states = ledger.states()
    wrong = []
    for row in ledger.universe():
        state = states.get(row["symbol"], {})
        behind = state.get("last_bar") is not None and state.get("features_until") != state["last_bar"]
        if behind and not state["quarantine_cause"]:
            wrong.append(f"{row['symbol']}: {_shown(state['features_until'])}, bars until {_shown(state['last_bar'])}")
    return verdict_of(wrong, "symbols have bars without features")


#: The findings that each check of the bars reports, and its words for them.
FINDING_CHECKS: Mapping[str, tuple[list[str], str]] = {
    "keys_unique": ([KEY_DOUBLED], "keys are held twice"),
    "ohlc_consistent": ([OHLC_BROKEN], "bars have a price outside their range, missing or not positive"),
    "sessions_complete": ([MISSING_SESSION], "sessions of the calendar have no bar"),
    "jumps_explained": ([SPLIT_SIZED_JUMP], "split-sized jumps have no event"),
}


def verdict_of(wrong: Sequence[str], what: str) -> Verdict:
    """The verdict on a check that found ``wrong``; ``what`` says what these are."""
    sentence = f"{len(wrong):,} {what}" if wrong else f"no {what}"
    return Verdict(not wrong, len(wrong), list(wrong[:SAMPLE]), sentence)


def _shown(at: datetime | date | None) -> Any:
    return "nothing" if at is None else f"{at:%Y-%m-%d %H:%M}" if isinstance(at, datetime) else str(at)

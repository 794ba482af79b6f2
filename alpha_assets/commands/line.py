"""The line from the command: refresh, train, the main job, the demonstration. Everything runs through Dagster."""

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alpha_assets.commands import backtest, read, show
from alpha_assets.commands.home import prepare
from alpha_assets.commands.launch import Line, say
from alpha_assets.commands.trouble import CommandFailed
from alpha_assets.commands.universe import follow, held_by
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.settings import Settings, load, project_root
from alpha_assets.stations.base import some_of
from alpha_assets.stores.home import STAMP
from alpha_assets.stores.ledger import Ledger

#: The figures of a refresh, in order; ``refresh --format json`` prints one object with these and ``by_rule``.
REFRESH_FIELDS = (
    "symbols",
    "rows_read",
    "kept",
    "repaired",
    "dropped",
    "flagged",
    "by_rule",
    "new",
    "restated",
    "quarantined",
    "seconds",
)


def refresh(settings: Settings, options: Namespace) -> None:
    """Bars, features, profiles and signals of the universe or some of it."""
    say("refresh: bars, features, profiles, signals")
    line = Line(settings)
    show.record(_refresh(line, _chosen(settings, options.symbols), options.full), options.format)


def train(settings: Settings, options: Namespace) -> None:
    """Candidates, decisions, and signals where a decision is new."""
    say("train: candidates and the gate")
    line = Line(settings)
    rows = _train(line, _chosen(settings, options.symbols), options.regimes)
    show.table(rows, ("symbol", "regime", "training", "decision", "version", "reason"), options.format)
    if rows and all(row["training"] == "failed" for row in rows):
        raise CommandFailed(f"every training failed, the first because {rows[0]['reason']}")


def run(settings: Settings, options: Namespace) -> None:
    """The main job on the user's symbols."""
    prepare(settings)
    members = {row["symbol"] for row in Ledger(settings).universe()}
    symbols = options.symbols or sorted(members)
    listed = not symbols and settings.source != "yahoo"
    if listed:
        symbols = held_by(settings, settings.source)
    if not symbols:
        raise CommandFailed('name the symbols: make run SYMBOLS="AAPL MSFT", or alpha-assets run AAPL MSFT')
    follow(settings, symbols, settings.source, listed)
    _main_job(settings, list(symbols), options.regimes)


def demo(settings: Settings, options: Namespace) -> None:
    """The main job on the simulated market of these settings."""
    if settings.source != "simulated":
        raise CommandFailed("the demonstration runs on the simulated market: make demo, or ALPHA_SOURCE=simulated")
    settings = _begun(settings)
    symbols = held_by(settings, "simulated")
    follow(settings, symbols, "simulated", listed=True)
    _main_job(settings, symbols, options.regimes)


#: What the demonstration's home is begun with. Of a position of one bar nearly nothing is left after 10 bp a side,
#: whatever a model knows (GATE.md); a week leaves room to act.
DEMONSTRATION = {"ALPHA_SOURCE": "simulated", "ALPHA_LEARNING__HORIZON": "5"}


def _begun(settings: Settings) -> Settings:
    """The settings with those of the demonstration, which a new home keeps; what the user has set stands above them."""
    file = settings.home / ".env"
    if not settings.ledger_file.exists() and not file.exists():
        prepare(settings)
        told = "# What this home was begun with; the environment and other .env files count more.\n"
        file.write_text(told + "".join(f"{name}={value}\n" for name, value in DEMONSTRATION.items()))
    return load()


def advance(settings: Settings, options: Namespace) -> None:
    """Move the simulated market's clock on, where somebody follows it."""
    from alpha_assets.sources.base import SourceUnavailable
    from alpha_assets.sources.simulated import Simulated

    if not any(row["source"] == "simulated" for row in Ledger(settings).universe()):
        raise CommandFailed(
            f"{settings.home} follows no simulated symbol, so there is no market to move on: «alpha-assets demo», or "
            "«alpha-assets universe add --all --source simulated»"
        )
    try:
        day = Simulated(settings).advance(options.sessions)
    except (SourceUnavailable, ValueError) as error:
        raise CommandFailed(str(error)) from error
    print(f"the simulated market has traded until {day}")


def _main_job(settings: Settings, symbols: Sequence[str], regimes: Sequence[str] | None) -> None:
    started = time.perf_counter()
    say(f"{show.counted(len(symbols), 'symbol')}: {', '.join(symbols[:12])}{' …' if len(symbols) > 12 else ''}")
    say("refresh: bars, features, profiles, signals")
    line = Line(settings)
    figures = _refresh(line, symbols, full=False)
    say("train: candidates and the gate")
    rows = _train(line, symbols, regimes)
    _print_decisions(rows)
    say("backtest: what following the models' words would have come to")
    backtest.print_brief(line.launch_whole("backtest_only", "backtest"))
    found = [row for row in read.signal_rows(settings, None, None) if row["symbol"] in set(symbols)]
    show.table(found, read.SHOWN_SIGNAL_FIELDS, "table")
    _print_close(settings, figures, rows, time.perf_counter() - started)


def _refresh(line: Line, symbols: Collection[str], full: bool) -> dict[str, Any]:
    from alpha_assets.automation.jobs import REFRESH

    line.register(Ledger(line.settings).universe())
    said = line.launch("refresh", REFRESH, symbols, full=full)
    totals = next(iter(said["ohlcv"].values()))["run"]
    figures = {name: totals[name] for name in REFRESH_FIELDS}
    states = Counter(str(figures["state"]) for figures in said["ohlcv"].values())
    say(
        f"  {show.counted(figures['rows_read'], 'row')} read: {figures['kept']:,} kept, "
        f"{figures['repaired']:,} repaired, {figures['dropped']:,} dropped, {figures['flagged']:,} flagged; "
        f"{figures['new']:,} new, {figures['restated']:,} restated; symbols: {_counted(states)}"
    )
    for symbol, partition in said["ohlcv"].items():
        if partition["state"] == "quarantined":
            say(f"  {symbol} is quarantined: {partition['reason']}")
    return figures


def _train(line: Line, symbols: Collection[str], regimes: Sequence[str] | None) -> list[dict[str, Any]]:
    """A row a cell, of these regimes (None: of all), sorted by symbol and regime."""
    from alpha_assets.automation.jobs import SIGNALS, TRAIN
    from alpha_assets.automation.wishes import unsaid

    line.register(Ledger(line.settings).universe())
    said = line.launch("train", TRAIN, symbols, regimes or REGIMES)
    ledger = Ledger(line.settings)
    candidates = {f"{regime}|{symbol}": row["model_name"] for (symbol, regime), row in ledger.candidates().items()}
    rows = [
        _outcome(cell, said["candidate_model"][cell], said["promoted_model"][cell], candidates.get(cell))
        for cell in said["promoted_model"]
    ]
    rows = sorted((row for row in rows if row["training"] != "kept"), key=_by_cell)
    say(f"  trained: {_counted(Counter(row['training'] for row in rows))}")
    say(f"  decided: {_counted(Counter(row['decision'] for row in rows))}")
    pending = sorted(set(unsaid(ledger.last_decisions(), ledger.signals())) & set(symbols))
    if pending:
        say("signals: of the symbols with a new decision")
        line.launch("signals_only", SIGNALS, pending)
    return rows


def _by_cell(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["symbol"], REGIMES.index(row["regime"])


def _outcome(
    cell: str, trained: Mapping[str, Any], promoted: Mapping[str, Any], candidate: str | None
) -> dict[str, Any]:
    """What a run made of a cell, whose candidate is now a version of the model ``candidate``; None: it has none."""
    regime, symbol = cell.split("|", 1)
    return {
        "symbol": symbol,
        "regime": regime,
        "training": trained["state"],
        "candidate": candidate,
        "decision": promoted["state"],
        "version": promoted.get("version") or trained.get("version"),
        "model": promoted.get("model"),
        "reason": promoted.get("reason") or trained.get("reason"),
        "pool": promoted["run"].get("pools", {}).get(regime),
    }


def _counted(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"


def _print_decisions(rows: Sequence[Mapping[str, Any]]) -> None:
    """The word on each pool, and a line a symbol: ``alpha-assets promotions`` has the reason of each cell."""
    pools = {row["regime"]: row["pool"] for row in rows if row["pool"]}
    if pools:
        print("\nThe gate, over all symbols together:")
        print("\n".join(f"  {regime}: {pools[regime]}" for regime in REGIMES if regime in pools) + "\n")
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row["symbol"], {"symbol": row["symbol"]})[row["regime"]] = _in_words(row)
    show.table(
        list(found.values()),
        ("symbol", *(name for name in REGIMES if any(name in row for row in found.values()))),
        "table",
    )


def _in_words(row: Mapping[str, Any]) -> str:
    """What became of a cell: the decision and on which model, or the training alone where it left nothing to decide."""
    from alpha_assets.stations.train import pool_name

    training, decision = str(row["training"]), str(row["decision"])
    if decision in ("no_candidate", training):
        return training
    if row["model"] is None:
        return f"{decision} ({training})"
    pooled = pool_name(row["regime"])
    if row["model"] != pooled:
        return f"{decision}: own fit ({training})"
    return f"{decision}: pooled" + ("" if row["candidate"] in (None, pooled) else f" (own fit {training})")


def _print_close(
    settings: Settings, figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], seconds: float
) -> None:
    from alpha_assets.quant.parameters import DISCLAIMER

    if not figures["new"] and not figures["restated"] and all(row["training"] == "unchanged" for row in rows):
        print("Nothing was new: no bar was fetched twice, no model trained again, the decisions stand.")
    there = "" if settings.home == _home_of_the_pages() else f"ALPHA_HOME={settings.home} "
    here = f"ALPHA_HOME={settings.home} "
    print(f"\nDone in {seconds:.0f} s. Everything is under {settings.home}. Next:")
    for command, what in (
        (f"{there}make ui", "the Dagster page (runs, assets) and the MLflow page (models, metrics)"),
        (f"{here}.venv/bin/alpha-assets status", "where each symbol stands"),
        (f"{here}.venv/bin/alpha-assets promotions", "what was promoted and rejected, and why"),
    ):
        print(f"  {command}\n      {what}")
    print(f"\n{DISCLAIMER}")


def _home_of_the_pages() -> Path:
    """The home that «make ui» opens where ALPHA_HOME is not set: the demonstration's, until another one was used."""
    usual = project_root() / ".alpha"
    return usual if (usual / STAMP).exists() else usual / "demo"


def _refuse_without_files(settings: Settings, members: Iterable[Mapping[str, Any]]) -> None:
    """A setting that is missing is no outage of the source: nothing is run, and nobody is quarantined."""
    of_files = [row["symbol"] for row in members if row["source"] == "files"]
    if of_files and not settings.files:
        raise CommandFailed(
            f"the source files needs ALPHA_FILES: the file, folder or glob that {some_of(of_files, 3)} came from"
        )


def _chosen(settings: Settings, wanted: Sequence[str] | None) -> list[str]:
    universe = Ledger(settings).universe()
    members = [row["symbol"] for row in universe]
    if not members:
        raise CommandFailed("the universe is empty: alpha-assets universe add SYMBOL")
    _refuse_without_files(settings, universe)
    if wanted is None:
        return members
    if not wanted:
        raise CommandFailed("--symbols names no symbol: write them as A,B")
    unknown = [symbol for symbol in wanted if symbol not in members]
    if unknown:
        raise CommandFailed(f"{', '.join(unknown)}: not in the universe; alpha-assets universe add {' '.join(unknown)}")
    return list(wanted)

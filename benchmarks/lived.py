"""A year lived through on real bars: ``python -m benchmarks.lived --format json``.

The stations run as they would have run then, evening by evening, each with the clock of its day: bars come, features
and signals follow, positions are entered and left, and every quarter everybody is trained anew and the gate judges.
What is told is what came of it, whatever it is.

- ``versions``, ``promotions``: trained, and brought into production by the gate.
- ``signals``, ``stated``: said, and of these such as state a direction.
- ``STRATEGY_trades``, ``_win_rate``, ``_net_bp``, ``_profit_factor``, ``_sharpe``: closed positions of the blend and
  of each view that took any, by itself; wins after costs, mean net return of one in basis points, gains over losses,
  and the Sharpe ratio of the account.
- ``backtest_*``: every candidate's predictions, none of a bar its fit had seen, played as a portfolio.
"""

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from alpha_assets.quant.performance import ALL, EVER
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.sources.files import Files
from alpha_assets.stations.backtest import backtest
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.outcome import outcome
from alpha_assets.stations.perform import perform
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.promote import promote
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.signal import signal
from alpha_assets.stations.train import train
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets.stores.registry import Registry
from benchmarks.frame import Figure, run
from benchmarks.market import Home, as_source_rows, daily_options, daily_rows, evening, loaded_home

#: A strategy's figures, by the end of their key, and what they are counted in.
TOLD = {"trades": ("closed", 1.0), "win_rate": ("win_rate", 1.0), "net_bp": ("expectancy", 1e4)}
TOLD |= {name: (name, 1.0) for name in ("profit_factor", "sharpe")}

#: The same of a backtest.
LOOKED_BACK = ("annual_return", "sharpe", "max_drawdown", "turnover")


def measure(options: Namespace) -> Mapping[str, Figure]:
    """Every figure by its documented key."""
    with tempfile.TemporaryDirectory() as folder:
        rows, data = daily_rows(options)
        source = as_source_rows(rows)
        symbols = sorted(source["symbol"].unique())
        days = rows["timestamp"].unique().sort().to_list()[-options.sessions :]
        known = source.filter(pl.col("timestamp").dt.date() < days[0])
        home, _ = loaded_home(Path(folder), known, symbols, days[0] - timedelta(days=1))
        for number, day in enumerate(days):
            source.filter(pl.col("timestamp").dt.date() <= day).write_parquet(str(home.settings.files))
            _evening(home, symbols, evening(day), learn=number % options.retrain == 0)
        told: dict[str, Figure] = {"data": data, "symbols": len(symbols), "first": str(days[0]), "last": str(days[-1])}
        return {**told, "sessions": len(days), **_came_of(home, evening(days[-1]))}


def _evening(home: Home, symbols: Sequence[str], now: datetime, *, learn: bool) -> None:
    lake, ledger, settings = home.lake, home.ledger, home.settings
    registry = Registry(settings)
    ingest(lake, ledger, {"files": Files(settings)}, settings, symbols, now)
    featurise(lake, ledger, settings, symbols)
    recognise(lake, ledger, settings, symbols)
    if learn:
        cells = [(symbol, regime) for regime in REGIMES for symbol in symbols]
        train_pools(lake, ledger, registry, settings, now, regimes=REGIMES)
        train(lake, ledger, registry, settings, cells, now)
        promote(lake, ledger, registry, settings, cells, now)
    signal(lake, ledger, registry, settings, symbols, now + timedelta(minutes=1))
    outcome(lake, ledger, settings, now + timedelta(minutes=2))


def _came_of(home: Home, now: datetime) -> dict[str, Figure]:
    lake, ledger, registry = home.lake, home.ledger, Registry(home.settings)
    perform(lake, ledger, registry, home.settings, now)
    said = lake.read("signals", columns=["signal"])
    figures: dict[str, Figure] = {
        "versions": len(registry.client.search_model_versions()),
        "promotions": sum(row["verdict"] == "promote" for row in ledger.decisions()),
        "signals": said.height,
        "stated": said.filter(pl.col("signal") != "HOLD").height,
    }
    for row in Outcomes(ledger).performance():
        if (row["symbol"], row["regime"], row["window"]) == (ALL, ALL, EVER):
            figures |= _of_strategy(row["strategy"].replace(":", "_"), row["document"])
    looked_back = backtest(lake, ledger, registry, home.settings, now).told
    of_it = looked_back.get("figures", {})
    return figures | {f"backtest_{name}": _rounded(of_it.get(name)) for name in LOOKED_BACK}


def _of_strategy(strategy: str, document: Mapping[str, float]) -> dict[str, Figure]:
    figures = {f"{strategy}_{end}": (document.get(name), scale) for end, (name, scale) in TOLD.items()}
    return {name: _rounded(None if value is None else value * scale) for name, (value, scale) in figures.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _options(parser: ArgumentParser) -> None:
    daily_options(parser)
    parser.set_defaults(symbols=75)
    parser.add_argument("--sessions", type=int, default=252, help="evenings lived through (252)")
    parser.add_argument("--retrain", type=int, default=63, help="evenings from one training to the next (63)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("A year lived through on real bars", measure, _options, arguments)


if __name__ == "__main__":
    main()

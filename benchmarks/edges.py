"""What a backtest earns where there is nothing to earn, and where an edge is planted.

``python -m benchmarks.edges --format json`` prints one flat object. Markets are those of ``benchmarks.pools``: 20
symbols, a persistent feature, 2 % volatility a bar, labels of 5 bars, costs on; scores are a ridge's, walk-forward,
each unseen by the fit that made it.

- ``null_…``: clustered returns without any edge, where the trade rule is forced on (sign of the score). The mean gross
  return of a trade in bp with its error over the seeds and its interval of 95 %; ``null_covered`` the share of seeds
  whose own interval holds 0; ``null_gated`` that on which the gate would have let anything trade.
- ``edge010_…``, ``edge015_…``: a planted TS-IC of 0.10 and 0.15, traded where the expected return exceeds the round
  trip. Profit factor of the trades net of costs, its error over the seeds, its lower bound of 95 %, and the account.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant.backtest import Plan, planned
from alpha_assets.quant.backtest_report import figures as account_of
from alpha_assets.quant.backtest_report import outcomes, trades
from alpha_assets.quant.evidence import Array
from alpha_assets.quant.parameters import BacktestParameters, GateParameters, SignalParameters, TradingParameters
from benchmarks.frame import Figure, run
from benchmarks.honesty import share, verdict
from benchmarks.pools import (
    LEARNT,
    LOOKBACKS,
    PAST,
    SIGMA,
    SYMBOLS,
    Market,
    Predictions,
    Procedure,
    clustered,
    evidence,
    labelled,
    market,
    planted,
)

HORIZON, BARS, A_YEAR = 5, 2500, 252

TRADING = TradingParameters(participation=1.0)

#: The account may hold 20 symbols in full; what is not said to move by more than it costs is not traded.
FORCED = BacktestParameters(rule="sign", per_position=1.0)
BEYOND_COSTS = BacktestParameters(rule="expected", per_position=0.2)

FIRST = np.datetime64("2015-01-01", "us")


@dataclass(frozen=True)
class Seed:
    """What one market came to."""

    gross: float
    inside: bool
    profit_factor: float | None
    net: float
    account: Mapping[str, Any]
    gated: bool
    ic: float


def bars_of(made: Market) -> pl.DataFrame:
    """The market as adjusted bars: open(t+1) is open(t) x (1 + the return of bar t), and nothing moves overnight."""
    moves = np.clip(SIGMA * made.returns, -0.9, 0.9)
    opens = 100 * np.cumprod(np.concatenate([np.ones((1, SYMBOLS)), 1 + moves]), axis=0)
    dates = len(moves)
    stamps = FIRST + np.arange(dates) * np.timedelta64(1, "D")
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:02}" for number in range(SYMBOLS)], dates),
            "timestamp": np.tile(stamps, SYMBOLS),
            "open": opens[:-1].T.ravel(),
            "close": opens[1:].T.ravel(),
        }
    ).with_columns(
        pl.col("timestamp").dt.replace_time_zone("UTC"),
        listing=pl.lit(None, pl.Date),
        flags=pl.lit(None, pl.String),
        known_at=pl.col("timestamp").dt.replace_time_zone("UTC") + pl.duration(hours=21),
    )


def said_of(labels: Any, said: Predictions) -> pl.DataFrame:
    """The predictions as the backtest wants them, stamped as ``bars_of`` does."""
    rows = evidence(labels, said).select("symbol", "timestamp", "score", "p_up", "expected_return")
    later = pl.duration(days=PAST + LEARNT)
    return rows.with_columns((pl.col("timestamp") + later).dt.replace_time_zone("UTC"), regime=pl.lit("all"))


def played(made: Market, parameters: BacktestParameters) -> tuple[Plan, Any, Predictions]:
    """The plan of one market, and what was said in it."""
    labels = labelled(made.returns, HORIZON)
    said = Procedure(made, labels, "pooled", LOOKBACKS[0]).predictions(PAST + LEARNT + BARS)
    plan = planned(
        *(said_of(labels, said), bars_of(made)),
        horizon=HORIZON,
        parameters=parameters,
        trading=TRADING,
        signal=SignalParameters(),
        a_year=A_YEAR,
    )
    return plan, labels, said


def tried(ic: float, seed: int) -> Seed:
    """One market: without an edge where ``ic`` is 0, and then asked of the gate too."""
    random = np.random.default_rng([round(1000 * ic), seed, 5])
    dates = PAST + LEARNT + BARS + HORIZON + 1
    made = planted(random, dates, ic, HORIZON) if ic else market(random, dates, clustered)
    plan, labels, said = played(made, BEYOND_COSTS if ic else FORCED)
    found = trades(plan, outcomes(plan, TRADING, HORIZON), GateParameters(), HORIZON)
    gross, factor = found["gross"], found["profit_factor"]
    scaled = labels.scaled[PAST + LEARNT :][: len(said.score)]
    return Seed(
        gross=gross["value"],
        inside=gross["low"] < 0 < gross["high"],
        profit_factor=factor["value"] if factor else None,
        net=found["net"]["value"],
        account=account_of(plan.played(TRADING.cost_per_side, TRADING.borrow_bp_year / 1e4), A_YEAR),
        gated=not ic and verdict(labels, said).pool.decision == "promote",
        ic=float(np.corrcoef(said.score.ravel(), scaled.ravel())[0, 1]),
    )


def nulls(seeds: Sequence[Seed]) -> dict[str, Figure]:
    """Where there is nothing to earn."""
    gross = estimated(1e4 * np.array([seed.gross for seed in seeds]), "null_gross_bp")
    value, error = float(str(gross["null_gross_bp"])), float(str(gross["null_gross_bp_error"]))
    reach = error * student(len(seeds), 0.975)
    return {
        **gross,
        "null_gross_bp_low": round(value - reach, 3),
        "null_gross_bp_high": round(value + reach, 3),
        **share([seed.inside for seed in seeds], "null_covered"),
        **share([seed.gated for seed in seeds], "null_gated"),
    }


def edges(seeds: Sequence[Seed], name: str) -> dict[str, Figure]:
    """Where an edge is planted."""
    factors = np.array([seed.profit_factor for seed in seeds if seed.profit_factor is not None])
    figures = estimated(factors, f"{name}_profit_factor")
    bound = factors.mean() - student(len(factors), 0.95) * factors.std(ddof=1) / len(factors) ** 0.5
    figures[f"{name}_profit_factor_bound"] = round(float(bound), 4)
    figures |= estimated(np.array([seed.ic for seed in seeds]), f"{name}_ic")
    figures |= estimated(1e4 * np.array([seed.net for seed in seeds]), f"{name}_net_bp")
    for told in ("annual_return", "sharpe", "max_drawdown", "turnover"):
        figures |= estimated(np.array([seed.account[told] for seed in seeds], float), f"{name}_{told}")
    return figures


def estimated(values: Array, name: str) -> dict[str, Figure]:
    """The mean over the seeds and its standard error."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return {name: round(float(values.mean()), 4), f"{name}_error": round(error, 4)}


def student(count: int, level: float) -> float:
    """The quantile of Student's t for the mean of so many."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, level))


def measure(options: Namespace) -> Mapping[str, Figure]:
    """Everything, in one flat object."""
    from joblib import Parallel, delayed

    def each(job: Callable[[int], Seed]) -> list[Seed]:
        return Parallel(n_jobs=options.workers)(delayed(job)(seed) for seed in range(options.seeds))

    figures: dict[str, Figure] = {"seeds": options.seeds, "bars": BARS, "horizon": HORIZON}
    figures |= nulls(each(partial(tried, 0.0)))
    for ic in (0.10, 0.15):
        figures |= edges(each(partial(tried, ic)), f"edge{round(100 * ic):03}")
    return figures


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--seeds", type=int, default=50, help="markets of each kind (50)")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("What a backtest earns with and without an edge.", measure, options, arguments)


if __name__ == "__main__":
    main()

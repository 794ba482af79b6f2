"""How long a backtest takes over ready predictions: ``backtest505_s``, of 505 symbols and five years.

``python -m benchmarks.backtest --format json`` prints one flat object. Timed is everything from predictions and
adjusted bars to the whole report: sizing, the account at every cost, errors over blocks of dates, benchmarks, tables.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from alpha_assets.quant.backtest import planned
from alpha_assets.quant.backtest_report import report
from alpha_assets.quant.parameters import BacktestParameters, GateParameters, SignalParameters, TradingParameters
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.sharpe import Trials
from benchmarks.frame import Figure, lap, median, run
from benchmarks.market import daily_options, daily_rows

HORIZON, A_YEAR = 5, 252


def measure(options: Namespace) -> Mapping[str, Figure]:
    """The figures of this benchmark."""
    rows, data = daily_rows(options)
    bars = rows.drop_nulls().with_columns(pl.col("timestamp").cast(TIME))
    bars = bars.with_columns(
        listing=pl.lit(None, pl.Date),
        flags=pl.lit(None, pl.String),
        known_at=pl.col("timestamp") + timedelta(hours=21),
        value=pl.col("open") * pl.col("volume"),
    )
    said = _noise(bars)
    taken = []
    for _ in range(options.repeats):
        with lap() as lasted:
            plan = planned(
                *(said, bars),
                horizon=HORIZON,
                parameters=BacktestParameters(),
                trading=TradingParameters(),
                signal=SignalParameters(),
                a_year=A_YEAR,
            )
            told = report(plan, TradingParameters(), GateParameters(), HORIZON, Trials(1), None)
        taken.append(lasted)
    return {
        "data": data,
        "backtest_symbols": bars["symbol"].n_unique(),
        "backtest_rows": said.height,
        "backtest_trades": told["trades"].get("closed", 0),
        "backtest505_s": median([each.seconds for each in taken]),
        "backtest505_cpu_s": median([each.cpu for each in taken]),
    }


def _noise(bars: pl.DataFrame) -> pl.DataFrame:
    """A prediction a bar that knows nothing: how long it takes does not depend on what was said."""
    random = np.random.default_rng(20240229)
    score = random.standard_normal(bars.height)
    return bars.select("symbol", "timestamp").with_columns(
        regime=pl.Series(random.choice(["trending", "sideways", "volatile", "consolidation"], bars.height)),
        score=score,
        p_up=1 / (1 + np.exp(-score / 5)),
        expected_return=score / 100,
    )


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark."""
    daily_options(parser)
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median counts (5)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("How long a backtest takes.", measure, options, arguments)


if __name__ == "__main__":
    main()

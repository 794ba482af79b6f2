"""How often drift is called where there is none, and where there is: ours beside the textbook's rules.

    python -m benchmarks.drifting --format json

One flat object, over independent simulated markets whose features are AR(1) and share a factor across symbols
(correlation 0.3) and one across the features of a symbol (0.3). Each market is one look: a reference, 300 rows that
nobody looks at, then two windows. Persistence 0.90, 0.95 and 0.99 and references of 950 and 2,500 rows make six cells.

- ``drift_false``: share of undrifted symbols with an alarm in the worst cell, ``drift_false_error`` its Monte-Carlo
  standard error over markets, ``drift_false_upper`` the largest upper 95 % bound of all cells: at most 0.08 (GATE.md).
- ``drift_power``: share of symbols with an alarm after all features rose by one standard deviation, the mean of the
  cells; ``drift_power_least`` of the worst cell, ``drift_power_third`` the mean where a third of the features rose.
- ``drift_textbook_false_psi``, ``drift_textbook_false_ks``: share of the same undrifted feature windows that PSI > 0.25
  and KS at 5 % flag, in the worst cell.
- ``drift_untold``: share of looks that could not tell, because the reference was worth too little, in the worst cell;
  they alarm neither truly nor falsely.
- ``false_ar90_950``, ``power_ar90_950``, ...: the cells, each with its ``_error``.
"""

import math
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from scipy.signal import lfilter

from alpha_assets.quant.drift import DriftFinding, calibrate, examine_all
from alpha_assets.quant.parameters import DriftParameters
from alpha_assets.quant.schema import TIME
from benchmarks.frame import Figure, run

PERSISTENCE = (0.90, 0.95, 0.99)
ROWS = (950, 2500)

#: Rows between reference and windows: even an AR(0.99) has forgotten most of it.
GAP = 300
#: Correlation of a feature across symbols, and of the features of a symbol.
ACROSS, WITHIN = 0.3, 0.3

DAY = 86_400_000_000


@dataclass(frozen=True)
class Look:
    """Shares of one market: symbols with an alarm, by what was shifted; windows the textbook flags; looks in vain."""

    false: float
    power: float
    power_third: float
    textbook_psi: float
    textbook_ks: float
    untold: float


def persistent(random: np.random.Generator, rows: int, symbols: int, features: int, memory: float) -> np.ndarray:
    """Standard normal AR(1) features, rows x symbols x features, a factor across symbols and one across features."""
    market = random.standard_normal((rows, 1, features))
    symbol = random.standard_normal((rows, symbols, 1))
    own = random.standard_normal((rows, symbols, features))
    shocks = math.sqrt(ACROSS) * market + math.sqrt(WITHIN) * symbol + math.sqrt(1 - ACROSS - WITHIN) * own
    shocks[1:] *= math.sqrt(1 - memory**2)
    return np.asarray(lfilter([1.0], [1.0, -memory], shocks, axis=0))


def as_frame(values: np.ndarray) -> pl.DataFrame:
    """symbol, timestamp and columns f0, f1, ... of rows x symbols x features."""
    rows, symbols, features = values.shape
    names = [f"S{number:03}" for number in range(symbols)]
    return pl.DataFrame(
        {
            "symbol": np.tile(names, rows),
            "timestamp": pl.Series(np.arange(rows).repeat(symbols) * DAY).cast(TIME),
            **{f"f{feature}": values[..., feature].ravel() for feature in range(features)},
        }
    )


def look(
    random: np.random.Generator, rows: int, symbols: int, features: int, memory: float, parameters: DriftParameters
) -> Look:
    """One market: calibrated on its reference and examined undrifted and after each shift."""
    values = persistent(random, rows + GAP + parameters.pair, symbols, features, memory)
    columns = [f"f{feature}" for feature in range(features)]
    calibration = calibrate(as_frame(values[:rows]), columns, parameters)
    newest = values[-parameters.pair :]
    third = np.where(np.arange(features) < features / 3, 1.0, 0.0)
    still, all_up, third_up = (
        list(examine_all(as_frame(newest + shift), calibration, parameters).values()) for shift in (0.0, 1.0, third)
    )
    return Look(
        false=_alarmed(still),
        power=_alarmed(all_up),
        power_third=_alarmed(third_up),
        textbook_psi=statistics.fmean(finding.textbook_psi / features for finding in still),
        textbook_ks=statistics.fmean(finding.textbook_ks / features for finding in still),
        untold=statistics.fmean(finding.alarm is None for finding in still),
    )


def _alarmed(findings: Sequence[DriftFinding]) -> float:
    return statistics.fmean(finding.alarm is True for finding in findings)


def measure(options: Namespace) -> dict[str, Figure]:
    """Every figure of this benchmark."""
    parameters = DriftParameters()
    cells = {}
    for number, (memory, rows) in enumerate(product(PERSISTENCE, ROWS)):
        cells[f"ar{100 * memory:.0f}_{rows}"] = [
            look(
                np.random.default_rng([options.seed, number, market]),
                rows,
                options.symbols,
                options.features,
                memory,
                parameters,
            )
            for market in range(options.markets)
        ]
    return {
        "markets": options.markets,
        "symbols": options.symbols,
        "features": options.features,
        **_worst(cells, "false", "drift_false"),
        "drift_false_upper": round(max(_mean(c, "false") + 1.645 * _error(c, "false") for c in cells.values()), 4),
        **_average(cells, "power", "drift_power"),
        "drift_power_least": round(min(_mean(looks, "power") for looks in cells.values()), 4),
        **_average(cells, "power_third", "drift_power_third"),
        **_worst(cells, "textbook_psi", "drift_textbook_false_psi"),
        **_worst(cells, "textbook_ks", "drift_textbook_false_ks"),
        **_worst(cells, "untold", "drift_untold"),
        **{
            f"{figure}_{cell}{suffix}": round(value(looks, figure), 4)
            for figure, (cell, looks) in product(("false", "power"), cells.items())
            for suffix, value in (("", _mean), ("_error", _error))
        },
    }


def _worst(cells: Mapping[str, Sequence[Look]], figure: str, name: str) -> dict[str, Figure]:
    worst = max(cells.values(), key=lambda looks: _mean(looks, figure))
    return {name: round(_mean(worst, figure), 4), f"{name}_error": round(_error(worst, figure), 4)}


def _average(cells: Mapping[str, Sequence[Look]], figure: str, name: str) -> dict[str, Figure]:
    mean = statistics.fmean(_mean(looks, figure) for looks in cells.values())
    error = math.sqrt(sum(_error(looks, figure) ** 2 for looks in cells.values())) / len(cells)
    return {name: round(mean, 4), f"{name}_error": round(error, 4)}


def _mean(looks: Sequence[Look], figure: str) -> float:
    return statistics.fmean(getattr(look, figure) for look in looks)


def _error(looks: Sequence[Look], figure: str) -> float:
    """Standard error of the mean over markets: the symbols of one are not independent."""
    return statistics.stdev(getattr(look, figure) for look in looks) / math.sqrt(len(looks))


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--markets", type=int, default=100, help="independent markets a cell, at least 2 (100)")
    parser.add_argument("--symbols", type=int, default=20, help="symbols of a market (20)")
    parser.add_argument("--features", type=int, default=20, help="features of a symbol (20)")
    parser.add_argument("--seed", type=int, default=20240229, help="of the simulated markets")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run(str(__doc__).splitlines()[0], measure, _options, arguments)


if __name__ == "__main__":
    main()

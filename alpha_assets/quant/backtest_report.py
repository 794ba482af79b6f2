"""What a backtest is told as: figures with their errors, what costs and luck explain of them, and what to compare with.

Returns are per period of the grid (a session of daily bars) and net unless they are called gross. Every figure that is
undefined is None.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from alpha_assets.quant import ratios
from alpha_assets.quant.backtest import Plan, Played, held_from_the_start, play
from alpha_assets.quant.evidence import Estimate, Panel
from alpha_assets.quant.parameters import GateParameters, TradingParameters
from alpha_assets.quant.sharpe import Trials, minimum_years, probabilistic_sharpe, sharpe_error

Array = np.ndarray
Row = dict[str, Any]

#: Costs a side at which the sensitivity is told, in basis points.
SENSITIVITY_BP = (0.0, 5.0, 10.0, 20.0)

#: Level of the one-sided bounds, and of either side of an interval of 95 %.
LEVEL, TAIL = 0.05, 0.025

#: The benchmark that is always there: the universe, held in equal parts from the first day.
UNIVERSE = "universe"

SURVIVORS = "survivor-biased universe"


def report(
    plan: Plan, trading: TradingParameters, gate: GateParameters, horizon: int, trials: Trials, benchmark: str | None
) -> Row:
    """Everything that is told of a backtest, as plain dicts, lists, numbers and text.

    ``trials`` are the configurations whose score was seen of what made the predictions; ``benchmark`` is a symbol of
    the bars to compare with beside the universe. ``gate`` has the blocks of dates that errors are estimated by.
    """
    cost, borrow = trading.cost_per_side, trading.borrow_bp_year / 10_000
    played = plan.played(cost, borrow)
    stamps, over = plan.grid.stamps[:-1], outcomes(plan, trading, horizon)
    held = _benchmarks(plan, trading, benchmark)
    return {
        "period": _period(stamps),
        "figures": figures(played, plan.a_year),
        "trades": trades(plan, over, gate, horizon),
        "costs": sensitivity(plan, borrow, {cost: played}),
        "break_even_bp": break_even(played),
        "luck": luck(played.net, plan.a_year, trials),
        "benchmarks": {name: compared(played.net, other, plan.a_year) for name, other in held.items()},
        "years": _by_year(stamps, played, held.get(UNIVERSE), plan.a_year),
        "months": _by_month(stamps, played.net),
        "regimes": by_regime(plan, played, over),
        "universe": universe(plan),
        "series": _series(stamps, played, held),
    }


def figures(played: Played, a_year: float) -> Row:
    """``ratios.figures`` of the net returns, and what was held and traded for them.

    gross_return (a year, not compounded), costs and borrow (a year, shares of the account), turnover (value traded a
    year over the account; in and out counts twice), exposure and net_exposure (mean, of the account), positions (mean).
    """
    told: dict[str, float | int | None] = {
        "gross_return": _mean(played.gross, a_year),
        "costs": _mean(played.cost, a_year),
        "borrow": _mean(played.borrow, a_year),
        "turnover": _mean(played.turnover, a_year),
        "exposure": _mean(played.exposure),
        "net_exposure": _mean(played.long - played.short),
        "positions": _mean(played.held),
    }
    return ratios.figures(played.net, a_year) | told


def break_even(played: Played) -> float | None:
    """Cost a side, in basis points, at which nothing is left: gross less borrow over the value traded, both summed.

    Sums, not compounded: costs are linear in what is traded. None where nothing was traded; negative where the
    positions lose before costs.
    """
    traded = float(played.turnover.sum())
    return 1e4 * float((played.gross - played.borrow).sum()) / traded if traded > 0 else None


def sensitivity(plan: Plan, borrow: float, known: Mapping[float, Played]) -> list[Row]:
    """The figures ``COMPARED`` at each cost a side of ``SENSITIVITY_BP``; ``known`` are played already, by the cost."""
    rows = []
    for bp in SENSITIVITY_BP:
        cost = bp / 10_000
        played = known[cost] if cost in known else plan.played(cost, borrow)
        found = ratios.figures(played.net, plan.a_year)
        rows.append({"cost_bp": bp, **{name: found[name] for name in COMPARED}})
    return rows


#: Figures that costs and benchmarks are compared in.
COMPARED = ("total_return", "annual_return", "volatility", "sharpe", "max_drawdown")


def luck(net: Array, a_year: float, trials: Trials) -> Row:
    """What luck explains: Sharpe ratio per period with its error, and the chance that the true one beats a threshold.

    ``probabilistic`` is against 0, ``deflated`` against the best of the trials by luck (``quant.sharpe``);
    ``minimum_years`` the length below which so many trials show this ratio by luck, beside the ``years`` there are.
    """
    found, shape = ratios.sharpe(net, 1.0), ratios.shape(net)
    told: Row = {"trials": trials.count, "years": len(net) / a_year}
    if found is None or shape is None:
        nothing = ("sharpe", "error", "threshold", "probabilistic", "deflated", "minimum_years")
        return told | dict.fromkeys(nothing)
    error, threshold = sharpe_error(found, *shape, dates=len(net)), trials.threshold(len(net))
    return told | {
        "sharpe": found,
        "error": error,
        "threshold": threshold,
        "probabilistic": probabilistic_sharpe(found, 0.0, error),
        "deflated": probabilistic_sharpe(found, threshold, error),
        "minimum_years": minimum_years(trials.count, found * a_year**0.5),
    }


def outcomes(plan: Plan, trading: TradingParameters, horizon: int) -> pl.DataFrame:
    """The decisions whose position is over, with ``gross`` and ``net``: the return of the position, alone and paid.

    Each pays both sides, as if none took over from another, and a short its borrow.
    """
    side, borrow = pl.col("side"), trading.borrow_bp_year / 10_000 * horizon / plan.a_year
    paid = 2 * trading.cost_per_side + pl.when(side < 0).then(borrow).otherwise(0.0)
    done = plan.decisions.filter(pl.col("trade_return").is_not_null())
    return done.with_columns(gross=pl.col("trade_return") * side).with_columns(net=pl.col("gross") - paid)


def trades(plan: Plan, over: pl.DataFrame, gate: GateParameters, horizon: int) -> Row:
    """How many positions came to what, and what the ``outcomes`` earned, each counting alike.

    ``gross`` and ``net`` are means, ``profit_factor`` is gains over losses net of costs, each with its ``error`` over
    blocks of dates (``evidence.Panel``), ``low`` and ``high`` the interval of 95 %, ``bound`` the lower one-sided one.
    """
    counts = dict(plan.decisions["state"].value_counts().iter_rows())
    told: Row = {"decisions": plan.decisions.height, **counts}
    if over.is_empty():
        return told
    net = over["net"].to_numpy()
    stamps = plan.grid.stamps[:-1]
    # Sums in the order of the rows: those of a group in polars depend on its threads, in the last digit.
    row = stamps.search_sorted(over["timestamp"]).to_numpy().astype(np.int64)
    sums = {
        name: np.bincount(row, values, len(stamps))
        for name, values in (
            ("count", np.ones(len(net))),
            ("gross", over["gross"].to_numpy()),
            ("net", net),
            ("gain", np.maximum(net, 0.0)),
            ("loss", -np.minimum(net, 0.0)),
        )
    }
    panel = Panel(np.ones((len(stamps), 1)), gate, horizon)
    means = {name: _estimated(panel, sums[name], sums["count"]) for name in ("gross", "net")}
    factor = _estimated(panel, sums["gain"], sums["loss"])
    # The interval is symmetric, and there is nothing below 0.
    above_nothing = factor and {name: max(value, 0.0) for name, value in factor.items()}
    return told | {"hit_rate": float((net > 0).mean()), **means, "profit_factor": above_nothing}


def _estimated(panel: Panel, above: Array, below: Array) -> Row | None:
    if panel.blocks < 2:
        return {"value": float(above.sum() / below.sum())} if below.sum() > 0 else None
    found: Estimate | None = panel.ratio(above, below)
    if found is None:
        return None
    low = found.bound(TAIL)
    return {
        "value": found.value,
        "error": found.error,
        "low": low,
        "high": 2 * found.value - low,
        "bound": found.bound(LEVEL),
    }


def compared(net: Array, other: Array, a_year: float) -> Row:
    """The figures of what is compared with, and how the strategy goes with it.

    ``beta`` and ``alpha`` (a year, not compounded) are of the least squares of its return on the other's;
    ``excess`` is the mean difference a year, ``information`` its Sharpe ratio.
    """
    told: Row = {name: ratios.figures(other, a_year)[name] for name in COMPARED}
    told |= {"excess": _mean(net - other, a_year), "information": ratios.sharpe(net - other, a_year)}
    if not ratios.deviation(other) or not ratios.deviation(net):
        return told | dict.fromkeys(("correlation", "beta", "alpha"))
    spread = np.cov(net, other)
    beta = float(spread[0, 1] / spread[1, 1])
    return told | {
        "correlation": float(np.corrcoef(net, other)[0, 1]),
        "beta": beta,
        "alpha": float(net.mean() - beta * other.mean()) * a_year,
    }


def by_regime(plan: Plan, played: Played, over: pl.DataFrame) -> list[Row]:
    """Per regime of the decision: its ``outcomes`` (count, means, hit rate), and the account's gross gains, summed."""
    regimes, gained = over["regime"].to_numpy(), played.by_group.sum(axis=0)
    gross, net = over["gross"].to_numpy(), over["net"].to_numpy()
    rows = []
    for number, regime in enumerate(plan.groups):
        inside = regimes == regime
        if inside.any():
            rows.append(
                {
                    "regime": regime,
                    "trades": int(inside.sum()),
                    "hit_rate": float((net[inside] > 0).mean()),
                    "gross": float(gross[inside].mean()),
                    "net": float(net[inside].mean()),
                    "gained": float(gained[number]),
                }
            )
    return rows


def universe(plan: Plan) -> Row:
    """How many symbols there were, and which were gone or retired before the end.

    Always told as biased: the universe is who is or was followed, and nobody knows who would have been at each date.
    """
    gone, retired, count = plan.gone, plan.retired, plan.grid.symbols.n_unique()
    sentence = f"{SURVIVORS}: members and former ones, {len(gone)} of {count} gone, {len(retired)} retired"
    return {"symbols": count, "gone": gone, "retired": retired, "survivor_biased": True, "sentence": sentence}


def _benchmarks(plan: Plan, trading: TradingParameters, benchmark: str | None) -> dict[str, Array]:
    wanted: dict[str, list[str] | None] = {UNIVERSE: None}
    if benchmark is not None:
        wanted[benchmark] = [benchmark]
    found = {}
    for name, symbols in wanted.items():
        orders = held_from_the_start(plan.grid, trading.delisting_haircut, symbols)
        if len(orders):
            found[name] = play(plan.grid, orders, 1, 1.0, trading.cost_per_side, 0.0).net
    return found


def _period(stamps: pl.Series) -> Row:
    if stamps.is_empty():
        return {"first": None, "last": None, "periods": 0}
    return {"first": f"{stamps[0]:%Y-%m-%d}", "last": f"{stamps[-1]:%Y-%m-%d}", "periods": len(stamps)}


def _by_year(stamps: pl.Series, played: Played, other: Array | None, a_year: float) -> list[Row]:
    years = stamps.dt.year().to_numpy()
    rows = []
    for year in np.unique(years):
        inside = years == year
        net = played.net[inside]
        rows.append(
            {
                "year": int(year),
                "periods": int(inside.sum()),
                "return": ratios.total_return(net),
                "sharpe": ratios.sharpe(net, a_year),
                "max_drawdown": ratios.max_fall(net),
                "turnover": _mean(played.turnover[inside], a_year),
                "benchmark": None if other is None else ratios.total_return(other[inside]),
            }
        )
    return rows


def _by_month(stamps: pl.Series, net: Array) -> list[Row]:
    years, months = stamps.dt.year().to_numpy().astype(int), stamps.dt.month().to_numpy().astype(int)
    month = 12 * years + months - 1
    return [
        {"year": int(which // 12), "month": int(which % 12 + 1), "return": ratios.total_return(net[month == which])}
        for which in np.unique(month)
    ]


def _series(stamps: pl.Series, played: Played, held: Mapping[str, Array]) -> Row:
    """The daily series, rounded: for the artifact and the picture."""
    shown = {"net": played.net, "gross": played.gross, "turnover": played.turnover, "exposure": played.exposure, **held}
    return {
        "timestamp": stamps.dt.strftime("%Y-%m-%d %H:%M" if _intraday(stamps) else "%Y-%m-%d").to_list(),
        **{name: np.round(values, 8).tolist() for name, values in shown.items()},
    }


def _intraday(stamps: pl.Series) -> bool:
    return bool((stamps.dt.hour() != 0).any())


def _mean(values: Array, times: float = 1.0) -> float | None:
    return float(values.mean()) * times if len(values) else None

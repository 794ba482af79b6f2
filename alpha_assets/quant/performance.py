"""How strategies did: what the book says of their positions, beside holding the same symbols and the naive rivals.

A cell is a strategy × symbol × regime × window, ``ALL`` standing for all symbols or regimes together. A window holds
the positions decided on within so many days. Figures of single positions are there in every cell. Those of the account
(``ACCOUNT``) are there where symbol or regime stands for all: of one symbol in one regime there is too little of a
series. The account holds a slot of ``notional`` for each symbol of the cell from the first position to the end; its
returns are the pnl of a bar, marked to the close, over that capital.

A figure that is undefined is null, never 0 or NaN. Intervals take positions as independent: those of many symbols on
one date are not, so that a pooled interval is too narrow rather than too wide.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alpha_assets.quant import ratios
from alpha_assets.quant.labels import LISTING
from alpha_assets.quant.metrics import calibration_error, wilson
from alpha_assets.quant.parameters import TradingParameters

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALL = "*"

#: The window without a beginning.
EVER = "all"

CELL = ("strategy", "symbol", "regime")

#: Figures of the positions of a cell, each with its meaning.
POSITION_FIGURES: Mapping[str, str] = {
    "signals": "signals that would open a position",
    "closed": "positions that were opened and left",
    "open": "positions still held, marked to the last close",
    "void": "positions with a flagged bar inside: no outcome",
    "wins": "closed positions that earned more than their costs",
    "win_rate": "wins over closed",
    "win_low": "lower end of its interval of 95 % (Wilson)",
    "win_high": "upper end",
    "hit_rate": "closed positions that went the way they said, before costs",
    "hit_low": "lower end of its interval of 95 % (Wilson)",
    "hit_high": "upper end",
    "total_pnl": "profit and loss of closed and open positions after costs, in the listing currency",
    "mean_pnl": "the same of a closed position",
    "expectancy": "mean net return of a closed position",
    "mean_gross": "mean return of a closed position before costs",
    "mean_cost": "mean cost of a closed position, as a share of its value",
    "profit_factor": "gains over losses of closed positions, after costs",
    "stated": "closed positions whose signal stated a confidence",
    "mean_confidence": "its mean",
    "brier": "mean squared distance of the confidence from the net win (1 or 0)",
    "calibration_error": "mean distance of confidence and share of wins, over ten groups",
    "held_long": "mean return of a closed position's interval held long, without costs",
    "persistence": "mean net return of the sign of the past horizon over the same intervals, at the same costs",
    "momentum": "the same of the sign of the last 20 bars",
}

#: Years of bars below which a ratio that is told of a year is none: half a month.
LEAST_YEARS = 1 / 24

#: Figures of the account of a cell.
ACCOUNT: Mapping[str, str] = {
    "total_return": "wealth of the account at the end less 1",
    "sharpe": "annualised Sharpe ratio of the account's returns, over half a month or more",
    "sortino": "annualised Sortino ratio, likewise",
    "max_drawdown": "deepest fall of the account from its highest, 0 or negative",
    "turnover": "value traded a year over the capital",
    "exposure": "mean value held at a close over the capital, long and short alike",
    "hold_return": "total return of holding the same symbols alike over the same bars",
    "hold_sharpe": "its annualised Sharpe ratio, likewise",
    "hold_drawdown": "its deepest fall",
    "exposed_return": "mean net exposure times the hold return: holding as much of them as the strategy did",
}

FIGURES: Mapping[str, str] = {**POSITION_FIGURES, **ACCOUNT}


def performance(
    booked: pl.DataFrame,
    marked: pl.DataFrame,
    bars: pl.DataFrame,
    as_of: datetime,
    a_year: float,
    parameters: TradingParameters,
) -> pl.DataFrame:
    """A row a cell: strategy, symbol, regime, window (days, or ``EVER``), then ``FIGURES``.

    ``booked`` and ``marked`` are ``book.positions`` and ``book.marks`` as of ``as_of``, ``bars`` what they were made
    of, and ``a_year`` the bars of a year. Windows end at ``as_of``; later bars are left out.
    """
    if booked.is_empty():
        return pl.DataFrame(
            schema={name: pl.String() for name in (*CELL, "window")} | dict.fromkeys(FIGURES, pl.Float64())
        )
    prices = _Prices.of(bars)
    marked = prices.placed(marked)
    last = prices.last(as_of)
    found = []
    for window, days in (*((str(days), days) for days in parameters.windows), (EVER, None)):
        since = pl.lit(True) if days is None else pl.col("bar_time") > as_of - timedelta(days=days)
        decided, held = booked.filter(since), marked.filter(since)
        if decided.is_empty():
            continue
        figures = pl.concat([_positions(_cells(decided, *how)) for how in _GROUPINGS])
        accounts = pl.DataFrame(
            [row for how in _GROUPINGS[:-1] for row in _accounts(_cells(held, *how), prices, last, a_year, parameters)],
            schema={**dict.fromkeys(CELL, pl.String()), **dict.fromkeys(ACCOUNT, pl.Float64())},
        )
        found.append(figures.join(accounts, on=CELL, how="left").with_columns(window=pl.lit(window)))
    return (
        pl.concat(found)
        .select(*CELL, "window", *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in FIGURES))
        .sort(*CELL, "window")
    )


#: Whether the cells are one a symbol, and one a regime.
_GROUPINGS = ((False, False), (True, False), (False, True), (True, True))


def _cells(rows: pl.DataFrame, by_symbol: bool, by_regime: bool) -> pl.DataFrame:
    """The rows with the symbol and regime of their cell."""
    rows = rows if not by_regime else rows.filter(pl.col("regime").is_not_null())
    return rows.with_columns(
        symbol="symbol" if by_symbol else pl.lit(ALL),
        regime="regime" if by_regime else pl.lit(ALL),
    )


def _positions(rows: pl.DataFrame) -> pl.DataFrame:
    """``POSITION_FIGURES`` of each cell."""
    closed, net, gross = pl.col("status") == "closed", pl.col("net_return"), pl.col("gross_return")
    share, asset = gross - net, pl.col("side") * gross
    stated = closed & pl.col("confidence").is_not_null()
    won = (net > 0).cast(pl.Float64)
    rivals = {
        name: (pl.col(side) * asset - share * pl.col(side).abs()).filter(closed).mean()
        for name, side in (("persistence", "past_side"), ("momentum", "momentum_side"))
    }
    pnl = pl.col("pnl").filter(closed)
    gained, lost = pnl.filter(pnl > 0).sum(), -pnl.filter(pnl < 0).sum()
    found = rows.group_by(CELL).agg(
        signals=pl.len(),
        closed=closed.sum(),
        open=(pl.col("status") == "open").sum(),
        void=(pl.col("status") == "void").sum(),
        wins=(closed & (net > 0)).sum(),
        hits=(closed & (gross > 0)).sum(),
        total_pnl=pl.col("pnl").sum(),
        mean_pnl=pnl.mean(),
        expectancy=net.filter(closed).mean(),
        mean_gross=gross.filter(closed).mean(),
        mean_cost=share.filter(closed).mean(),
        profit_factor=pl.when(lost > 0).then(gained / lost),
        stated=stated.sum(),
        mean_confidence=pl.col("confidence").filter(stated).mean(),
        brier=((pl.col("confidence") - won) ** 2).filter(stated).mean(),
        held_long=asset.filter(closed).mean(),
        said=pl.col("confidence").filter(stated),
        right=won.filter(stated),
        **rivals,
    )
    errors = [
        calibration_error(np.asarray(said), np.asarray(right)) for said, right in found.select("said", "right").rows()
    ]
    closed_count = found["closed"].cast(pl.Float64).to_numpy()
    for name, wins in (("win", "wins"), ("hit", "hits")):
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = found[wins].to_numpy() / closed_count
            low, high = wilson(rate, closed_count)
        found = found.with_columns(
            pl.Series(f"{name}_rate", rate), pl.Series(f"{name}_low", low), pl.Series(f"{name}_high", high)
        )
    return found.with_columns(calibration_error=pl.Series(errors, dtype=pl.Float64)).select(*CELL, *POSITION_FIGURES)


@dataclass(frozen=True)
class _Prices:
    """The total return of every symbol from close to close, bars x symbols; NaN where it has no bar."""

    stamps: NDArray[np.datetime64]
    columns: Mapping[str, int]
    returns: Floats

    @classmethod
    def of(cls, bars: pl.DataFrame) -> "_Prices":
        moved = pl.col("close") * pl.col("growth") / pl.col("close").shift(1).over(LISTING) - 1
        told = bars.sort("symbol", "timestamp").select("symbol", "timestamp", moved=moved.fill_null(0.0).fill_nan(0.0))
        stamps, symbols = told["timestamp"].unique().sort(), told["symbol"].unique().sort().to_list()
        columns = {symbol: place for place, symbol in enumerate(symbols)}
        returns = np.full((len(stamps), len(symbols)), np.nan)
        row = stamps.search_sorted(told["timestamp"]).to_numpy()
        returns[row, told["symbol"].replace_strict(columns, return_dtype=pl.Int64).to_numpy()] = told[
            "moved"
        ].to_numpy()
        return cls(stamps.dt.replace_time_zone(None).to_numpy(), columns, returns)

    def placed(self, marked: pl.DataFrame) -> pl.DataFrame:
        """Marks with the ``row`` and the ``column`` of each here."""
        stamps = pl.Series(self.stamps).dt.replace_time_zone("UTC")
        row = pl.Series("row", stamps.search_sorted(marked["timestamp"]), dtype=pl.Int64)
        return marked.with_columns(row, column=pl.col("symbol").replace_strict(self.columns, return_dtype=pl.Int64))

    def last(self, as_of: datetime) -> int:
        """The row of the newest bar that is no later."""
        return int(np.searchsorted(self.stamps, np.datetime64(as_of.replace(tzinfo=None), "us"), side="right")) - 1

    def over(self, columns: Integers, first: int, last: int) -> tuple[Integers, Floats]:
        """The rows from ``first`` to ``last`` in which any of these symbols has a bar, and their mean return there."""
        part = self.returns[first : last + 1, columns]
        there = np.isfinite(part)
        count = there.sum(axis=1)
        rows = np.flatnonzero(count)
        return first + rows, np.where(there, part, 0.0).sum(axis=1)[rows] / count[rows]


@dataclass(frozen=True)
class Account:
    """Returns of a cell's account bar by bar, its exposure and trade as shares of the capital, and of holding."""

    stamps: NDArray[np.datetime64]
    returns: Floats
    exposure: Floats
    net_exposure: Floats
    traded: Floats
    held: Floats


def _accounts(
    rows: pl.DataFrame, prices: _Prices, last: int, a_year: float, parameters: TradingParameters
) -> Iterator[dict[str, object]]:
    if rows.is_empty():
        return
    ordered = rows.sort(CELL)
    begins = ordered.select((pl.struct(CELL) != pl.struct(CELL).shift(1)).fill_null(True).arg_true()).to_series()
    names = ordered.select(CELL).gather(begins).rows()
    columns = _columns(ordered)
    for cell, first, end in zip(names, begins, [*begins[1:], ordered.height], strict=True):
        account = _account([values[first:end] for values in columns], prices, last, parameters)
        years = len(account.returns) / a_year
        hold = ratios.total_return(account.held)
        yield dict(zip(CELL, cell, strict=True)) | {
            "total_return": ratios.total_return(account.returns),
            "sharpe": _over_a_year(ratios.sharpe, account.returns, a_year),
            "sortino": _over_a_year(ratios.sortino, account.returns, a_year),
            "max_drawdown": ratios.max_fall(account.returns),
            "turnover": float(account.traded.sum()) / years,
            "exposure": float(account.exposure.mean()),
            "hold_return": hold,
            "hold_sharpe": _over_a_year(ratios.sharpe, account.held, a_year),
            "hold_drawdown": ratios.max_fall(account.held),
            "exposed_return": float(account.net_exposure.mean()) * hold,
        }


def _over_a_year(ratio: Callable[[Floats, float], float | None], returns: Floats, a_year: float) -> float | None:
    """The ratio, None of less than ``LEAST_YEARS``: a single loss among two bars had a Sharpe ratio of -16."""
    return ratio(returns, a_year) if len(returns) >= LEAST_YEARS * a_year else None


def account_of(
    marked: pl.DataFrame, bars: pl.DataFrame, strategy: str, as_of: datetime, parameters: TradingParameters
) -> Account | None:
    """The account of a strategy over all symbols and regimes, ever; None where it has held nothing yet."""
    part = marked.filter(pl.col("strategy") == strategy)
    if part.is_empty():
        return None
    prices = _Prices.of(bars)
    return _account(_columns(prices.placed(part)), prices, prices.last(as_of), parameters)


def _columns(placed: pl.DataFrame) -> list[NDArray[Any]]:
    return [placed[name].to_numpy() for name in ("row", "column", "pnl", "exposure", "traded")]


def _account(marked: Sequence[NDArray[Any]], prices: _Prices, last: int, parameters: TradingParameters) -> Account:
    """The account of one cell from its marks, in ``_columns``."""
    row, column, pnl, exposure, traded = marked
    symbols = np.unique(column)
    rows, held = prices.over(symbols, int(row.min()), last)
    place = np.searchsorted(rows, row)
    capital = parameters.notional * len(symbols)

    def summed(values: Floats) -> Floats:
        return np.bincount(place, values, minlength=len(rows)) / capital

    return Account(
        stamps=prices.stamps[rows],
        returns=summed(pnl),
        exposure=summed(np.abs(exposure)),
        net_exposure=summed(exposure),
        traded=summed(traded),
        # A return from before the account began is no part of it.
        held=np.concatenate([[0.0], held[1:]]),
    )


def monthly(account: Account) -> pl.DataFrame:
    """year, month and the compound return of the account in it, in order."""
    rows = pl.DataFrame({"at": account.stamps, "growth": 1.0 + account.returns})
    return (
        rows.group_by(year=pl.col("at").dt.year(), month=pl.col("at").dt.month())
        .agg(earned=pl.col("growth").product() - 1.0)
        .sort("year", "month")
    )


def rolling_hits(booked: pl.DataFrame, strategy: str, parameters: TradingParameters) -> pl.DataFrame:
    """left_at, hit_rate and win_rate over the last ``rolling`` closed positions, where there are so many."""
    closed = booked.filter(pl.col("strategy") == strategy, pl.col("status") == "closed").sort("left_at", "symbol")
    return closed.select(
        "left_at",
        hit_rate=(pl.col("gross_return") > 0).cast(pl.Float64).rolling_mean(parameters.rolling),
        win_rate=(pl.col("net_return") > 0).cast(pl.Float64).rolling_mean(parameters.rolling),
    ).drop_nulls()

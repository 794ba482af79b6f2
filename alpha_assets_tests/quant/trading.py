"""Small markets and what was said of them, as the book and its figures read them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from alpha_assets.quant.adjust import carried
from alpha_assets.quant.book import SIGNALS
from alpha_assets.quant.parameters import TradingParameters
from alpha_assets.quant.schema import ACTIONS, BARS, DIVIDEND, SPLIT

START = date(2020, 1, 1)
OPENS, LAG = timedelta(hours=14, minutes=30), timedelta(hours=21, minutes=30)

#: Round numbers: 10 bp a side, 1 % a year of what is borrowed, and positions of 1,000 that no volume holds up.
PLAIN = TradingParameters(notional=1000.0, borrow_bp_year=100.0)


#: Stop and target on, so that every way out is taken.
ALL_WAYS = replace(PLAIN, stop=1.0, target=1.5)


def day(number: int) -> datetime:
    return datetime.combine(START, datetime.min.time(), UTC) + timedelta(days=number)


def bars_of(prices: Sequence[Sequence[float]], symbol: str = "SYM", volume: float = 1e6) -> pl.DataFrame:
    """A bar a day as traded, each (open, high, low, close)."""
    rows = [(symbol, day(number), *bar, volume, START, None) for number, bar in enumerate(prices)]
    return pl.DataFrame(rows, schema=dict(BARS), orient="row")


def market(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> pl.DataFrame:
    """The bars as the book reads them."""
    events = pl.DataFrame(schema=dict(ACTIONS)) if actions is None else actions
    names = dict.fromkeys(bars["symbol"].unique(), "24/7")
    return carried(bars, events, calendars=names).with_columns(
        opens_at=pl.col("timestamp") + OPENS, known_at=pl.col("timestamp") + LAG
    )


def actions_of(*events: tuple[str, int, str, float]) -> pl.DataFrame:
    rows = [(symbol, day(number).date(), kind, value) for symbol, number, kind, value in events]
    return pl.DataFrame(rows, schema=dict(ACTIONS), orient="row")


def said(
    *rows: tuple[int, int], symbol: str = "SYM", strategy: str = "blend", late: timedelta | None = None
) -> pl.DataFrame:
    """Signals by (number of the bar, side), said as soon as the bar is known or ``late`` after that."""
    known = LAG if late is None else LAG + late
    data = [
        (
            symbol,
            strategy,
            day(bar),
            f"{symbol}{bar}{side}",
            day(bar) + known,
            day(bar) + known,
            side,
            "all",
            0.6,
            "m",
            "1",
        )
        for bar, side in rows
    ]
    return pl.DataFrame(data, schema=dict(SIGNALS), orient="row")


def walk(seed: int, count: int = 60, symbol: str = "SYM") -> tuple[pl.DataFrame, pl.DataFrame]:
    """As-traded bars of a random walk with gaps between them, with three splits and three dividends on the way."""
    random = np.random.default_rng(seed)
    held = np.exp(np.cumsum(random.normal(0, 0.02, count)))
    chosen = sorted(random.choice(np.arange(2, count), 6, replace=False).tolist())
    kinds = random.permutation([SPLIT] * 3 + [DIVIDEND] * 3)
    events, units, closes = [], 1.0, [50.0]
    prices = []
    for number in range(count):
        here = [(number, kind) for at, kind in zip(chosen, kinds, strict=True) if at == number]
        for at, kind in here:
            value = float(random.choice([2.0, 0.1, 1.5])) if kind == SPLIT else 0.03 * closes[-1]
            events.append((symbol, at, str(kind), value))
            units *= value if kind == SPLIT else closes[-1] / (closes[-1] - value)
        opened = 50 * held[number] / units
        close = opened * float(np.exp(random.normal(0, 0.015)))
        reach = np.abs(random.normal(0, 0.01, 2))
        prices.append((opened, max(opened, close) * (1 + reach[0]), min(opened, close) * (1 - reach[1]), close))
        closes.append(close)
    return bars_of(prices, symbol), actions_of(*events)


def both(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    parts = [walk(seed), walk(seed + 1, symbol="ZZZ")]
    return pl.concat([part[0] for part in parts]), pl.concat([part[1] for part in parts])


def random_signals(seed: int, bars: pl.DataFrame, share: float, *, changing: bool) -> pl.DataFrame:
    """Some bars' signals, of two strategies; of one side a strategy where not ``changing``."""
    random = np.random.default_rng(seed)
    rows = []
    for symbol, stamp in bars.select("symbol", "timestamp").iter_rows():
        for strategy, own in (("blend", 1), ("view:model", -1)):
            if random.random() < share:
                side = int(random.choice([-1, 0, 1])) if changing else own
                number = (stamp - day(0)).days
                rows.append(said((number, side), symbol=symbol, strategy=strategy))
    return pl.concat(rows) if rows else pl.DataFrame(schema=dict(SIGNALS))

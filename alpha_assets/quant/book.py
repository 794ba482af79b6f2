"""The book: what would have become of every position that a strategy's signals opened, in money and as a return.

The conventions are GATE.md's («One return», «The ledger's conventions»):

- A signal is traded at the first open after its bar that lies not before ``known_at``, the instant from which it could
  be acted upon, and is left at the open ``horizon`` bars later, at the next open after a signal of the other side, or
  at the stop or target where there are any. A position that is left at the horizon has exactly the ``label_return`` of
  its bar (``labels.open_to_open``), a short one its negative: one return, one interval.
- **One position at a time** for each strategy and symbol. A signal of the same side while a position is open opens no
  second one: the two would share bars, hence their returns, and count as more evidence and more money than there is. A
  HOLD closes nothing. A signal whose entry is the very open at which the position is left opens the next one, and an
  opposite signal both closes and opens.
- A gap through stop or target fills at the open; a bar that holds both meets the stop first (``labels.touched``).
- A split changes the units. A dividend is received by a long and paid by a short on its ex-date and put back into the
  position at the price that it leaves, as adjusted prices have it; stop and target move with both.
- A position that holds a flagged bar, its entry and exit included, is ``void``: nothing is guessed.
- A listing that ends, because the ticker becomes another company or the symbol is delisted, ends the position at the
  last close, less ``delisting_haircut`` where it is long. A short is closed at the last close itself: an assumption is
  not to earn anything.
- Costs are a share of the traded value on either side, borrowing one of the value sold short by calendar day / 365. An
  entry takes at most ``participation`` of the units that its bar traded; a symbol of which no volume is known at all
  (an index, a currency) has no such cap.

Incremental equals full: a strategy is without a position where the one before was left, so that going on from
``resume_points`` with the signals and bars since gives the rows that a rebuild gives, and no row depends on a bar after
the one in which its position is left.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alpha_assets.quant.labels import LISTING, TIE, known_then, touched
from alpha_assets.quant.parameters import TradingParameters
from alpha_assets.quant.schema import TIME

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: What may become of a signal that would open a position: its entry lies ahead; it is held; it was left; a bar of it is
#: flagged; nothing was traded, because nothing could be.
STATUSES = pl.Enum(("pending", "open", "closed", "void", "unfilled"))
PENDING, OPEN, CLOSED, VOID, UNFILLED = range(5)

#: Why a position ended, or why there is none.
REASONS = pl.Enum(("horizon", "opposite", "stop", "target", "delisted", "flagged", "no volume"))
HORIZON, OPPOSITE, STOP, TARGET, DELISTED, FLAGGED, NO_VOLUME = range(7)

#: One row a signal that would open a position, by symbol, strategy and bar. Prices are as traded and money in the
#: listing currency; ``left_at`` is the bar in which the position is left, null while it is open.
POSITIONS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "strategy": pl.String(),
    "bar_time": TIME,
    "signal_id": pl.String(),
    "regime": pl.String(),
    "confidence": pl.Float64(),
    "model_name": pl.String(),
    "model_version": pl.String(),
    "side": pl.Int64(),
    "status": STATUSES,
    "reason": REASONS,
    "entered_at": TIME,
    "left_at": TIME,
    "settled_at": TIME,  # when the outcome is known: the exit's bar is final
    "valued_at": TIME,  # the bar of ``exit_price``: the exit's, or the newest while the position is open
    "entry_price": pl.Float64(),
    "exit_price": pl.Float64(),  # while the position is open, the last close
    "quantity": pl.Float64(),  # units at the entry
    "exit_quantity": pl.Float64(),  # the same after splits, with dividends put back in
    "dividends": pl.Float64(),  # received, negative where paid
    "gross_return": pl.Float64(),  # in the direction of the position, before costs
    "cost": pl.Float64(),  # commission, slippage and borrowing, so far
    "pnl": pl.Float64(),
    "net_return": pl.Float64(),  # pnl over the value at the entry
    "bars_held": pl.Int64(),
    "past_side": pl.Int64(),  # the naive rivals' sides at the decision: persistence
    "momentum_side": pl.Int64(),  # and momentum
}

#: What a signal is: ``said_at`` orders what was said of one bar; ``known_at`` is the instant from which it could be
#: acted upon, null where that is the next bar whenever that comes.
SIGNALS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "strategy": pl.String(),
    "bar_time": TIME,
    "signal_id": pl.String(),
    "said_at": TIME,
    "known_at": TIME,
    "side": pl.Int64(),
    "regime": pl.String(),
    "confidence": pl.Float64(),
    "model_name": pl.String(),
    "model_version": pl.String(),
}

LANE = ("symbol", "strategy")


def positions(
    signals: pl.DataFrame,
    bars: pl.DataFrame,
    horizon: int,
    parameters: TradingParameters,
    ended: Collection[str] = (),
) -> pl.DataFrame:
    """``POSITIONS`` of these signals, each (symbol, strategy) beginning without a position.

    ``signals`` holds ``SIGNALS``; a side of 0 or null is a HOLD. ``bars`` are as traded: symbol, timestamp, listing,
    OHLCV, flags, ``growth`` and ``paid`` (``adjust.carried``), ``opens_at`` and ``known_at`` (when the bar begins to
    trade, and is known). They hold the bar of every signal and all that follow; stop and target in units of the scale
    and the rivals' sides need 21 more before. ``ended`` are the symbols that trade no longer.

    Of what was said of one bar the last counts that was in time for the earliest open; of bars that share an entry the
    newest counts. Raises ValueError for a horizon below 1 and for a signal of a symbol without bars.
    """
    if horizon < 1:
        raise ValueError(f"positions of {horizon} bars: the horizon must be at least 1 bar")
    market = _Market.of(bars, horizon)
    orders = _Orders.of(signals, market)
    fills = _Fills(len(orders.side))
    _trade(market, orders, fills, horizon, parameters)
    _leave_off(market, orders, fills, horizon, parameters, ended)
    return _positions(market, orders, fills, parameters)


def resume_points(booked: pl.DataFrame, until: Mapping[str, object]) -> pl.DataFrame:
    """Symbol, strategy and ``since``: the bar from whose signals on each booked (symbol, strategy) is traded anew.

    ``booked`` holds symbol, strategy, bar_time, status, left_at of every row booked; ``until`` is the newest bar of
    each symbol whose signals have been traded. ``since`` is the bar of the oldest position that is not over; else
    ``until`` where the newest was over by then, because nothing is held there; else the bar of the newest.
    """
    marks = pl.DataFrame({"symbol": list(until), "until": list(until.values())}, {"symbol": pl.String(), "until": TIME})
    running = pl.col("status").cast(pl.String).is_in(["pending", "open"])
    over = pl.coalesce("left_at", "bar_time").max() <= pl.col("until").first()
    newest = pl.when(over).then(pl.col("until").first())
    return (
        booked.join(marks, on="symbol", how="left")
        .sort(*LANE, "bar_time")
        .group_by(LANE, maintain_order=True)
        .agg(since=pl.coalesce(pl.col("bar_time").filter(running).min(), newest, pl.col("bar_time").max()))
    )


#: What a position was worth from bar to bar: ``pnl`` after costs in each bar, ``exposure`` the value held at its close,
#: negative of a short, ``traded`` the value bought or sold in it. ``bar_time`` is the position's.
MARKS: Mapping[str, pl.DataType] = {
    **{name: POSITIONS[name] for name in ("symbol", "strategy", "bar_time", "regime")},
    "timestamp": TIME,
    "pnl": pl.Float64(),
    "exposure": pl.Float64(),
    "traded": pl.Float64(),
}


def marks(booked: pl.DataFrame, bars: pl.DataFrame, parameters: TradingParameters) -> pl.DataFrame:
    """``MARKS`` of every position that was entered and is not void, a row a bar that it was held in.

    ``booked`` holds ``POSITIONS``, ``bars`` are those of ``positions``. The rows of a position add up to its pnl.
    """
    key = ["symbol", "timestamp"]
    row = bars.sort(key).with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int64), grown=pl.col("growth").fill_nan(1.0).cum_prod().over("symbol")
    )
    held = booked.filter(pl.col("exit_price").is_not_null())
    place = row.select(*key, "row")
    for end, stamp in (("first", "entered_at"), ("last", "valued_at")):
        held = held.join(
            place.rename({"timestamp": stamp, "row": end}), on=["symbol", stamp], how="left", maintain_order="left"
        )
    held = held.drop_nulls(["first", "last"]).with_row_index("position")
    spread = held.with_columns(row=pl.int_ranges("first", pl.col("last") + 1)).explode("row")
    spread = spread.join(row.select("row", "timestamp", "close", "grown"), on="row", how="left", maintain_order="left")
    side, quantity, last = pl.col("side"), pl.col("quantity"), pl.col("row") == pl.col("last")
    begins, left = pl.col("row") == pl.col("first"), pl.col("left_at").is_not_null()
    entry, final = quantity * pl.col("entry_price"), pl.col("exit_quantity") * pl.col("exit_price")
    units = quantity * pl.col("grown") / pl.col("grown").first().over("position")
    worth = pl.when(last).then(final).otherwise(units * pl.col("close"))
    before = pl.when(begins).then(entry).otherwise(pl.col("worth").shift(1))
    days = (pl.col("timestamp") - pl.col("timestamp").shift(1)).dt.total_microseconds() / 86_400e6
    borrowed = (
        pl.when((side < 0) & ~begins).then(entry * days * parameters.borrow_bp_year / 10_000 / 365).otherwise(0.0)
    )
    traded = pl.when(begins).then(entry).otherwise(0.0) + pl.when(last & left).then(final).otherwise(0.0)
    return (
        spread.with_columns(worth=worth)
        .with_columns(traded=traded, moved=side * (pl.col("worth") - before), borrowed=borrowed)
        .select(
            *(name for name in MARKS if name in POSITIONS and name != "pnl"),
            "timestamp",
            pnl=pl.col("moved") - pl.col("borrowed") - parameters.cost_per_side * pl.col("traded"),
            exposure=pl.when(last & left).then(0.0).otherwise(side * pl.col("worth")),
            traded="traded",
        )
        .select(pl.col(name).cast(kind) for name, kind in MARKS.items())
        .sort("strategy", "symbol", "timestamp", "bar_time")
    )


@dataclass(frozen=True)
class _Market:
    """Bars as arrays, symbol after symbol; ``first`` is each symbol's first row, ``count`` its number of rows."""

    symbols: Mapping[str, int]
    first: Integers
    count: Integers
    frame: pl.DataFrame
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    growth: Floats
    paid: Floats
    flagged: Flags
    listing: Integers
    scale: Floats
    days: Floats

    @classmethod
    def of(cls, bars: pl.DataFrame, horizon: int) -> "_Market":
        grown = pl.col("growth").fill_nan(None).fill_null(1.0).cum_prod().over(LISTING)
        then = bars.sort("symbol", "timestamp").with_columns(traded="close").with_columns(close=pl.col("close") * grown)
        frame = then.with_columns(**known_then(horizon)).with_columns(
            close="traded", past_side=_sign("past_return"), momentum_side=_sign("momentum_return")
        )
        lengths = frame.group_by("symbol", maintain_order=True).agg(count=pl.len(), told=(pl.col("volume") > 0).any())
        count = lengths["count"].to_numpy().astype(np.int64)
        capped = np.repeat(lengths["told"].fill_null(False).to_numpy(), count)
        flagged = frame["flags"].is_not_null() | frame["growth"].is_nan() | frame["open"].is_null()
        arrays = {name: frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in ("open", "high", "low")}
        return cls(
            symbols={symbol: place for place, symbol in enumerate(lengths["symbol"])},
            first=np.cumsum(count) - count,
            count=count,
            frame=frame,
            **arrays,
            close=frame["close"].to_numpy(),
            volume=np.where(capped, frame["volume"].fill_null(0.0).to_numpy(), np.inf),
            growth=frame["growth"].to_numpy(),
            paid=frame["paid"].to_numpy(),
            flagged=flagged.to_numpy(),
            listing=frame["listing"].to_physical().fill_null(0).cast(pl.Int64).to_numpy(),
            scale=frame["scale"].fill_null(np.nan).to_numpy(),
            days=frame["timestamp"].dt.epoch("us").to_numpy() / 86_400e6,
        )


def _sign(name: str) -> pl.Expr:
    moved = pl.when(pl.col(name).abs() > TIE).then(pl.col(name).sign()).otherwise(0.0)
    return pl.when(pl.col(name).is_finite()).then(moved).cast(pl.Int64)


@dataclass(frozen=True)
class _Orders:
    """Signals in the order of their entries: lane, side, row of the decision and step of the entry.

    A lane is a (symbol, strategy); a step counts the bars of its symbol, so that all lanes are traded at once. Entries
    after the last bar have the step that comes next, though of late signals not all will be there.
    """

    frame: pl.DataFrame
    lane: Integers
    side: Integers
    decided: Integers
    step: Integers
    market_of_lane: Integers

    @classmethod
    def of(cls, signals: pl.DataFrame, market: _Market) -> "_Orders":
        strange = sorted(set(signals["symbol"]) - market.symbols.keys())
        if strange:
            raise ValueError(f"signals of {', '.join(strange[:5])}, of which there are no bars")
        bar = market.frame.select("symbol", "timestamp", "opens_at", row=pl.int_range(pl.len(), dtype=pl.Int64))
        place = pl.col("symbol").replace_strict(dict(market.symbols), return_dtype=pl.Int64)
        said = signals.with_columns(place=place, side=pl.col("side").fill_null(0), order=pl.int_range(pl.len()))
        said = said.sort("bar_time").join_asof(
            bar.select("symbol", "timestamp", decided="row"),
            left_on="bar_time",
            right_on="timestamp",
            by="symbol",
            check_sortedness=False,
        )
        said = said.join_asof(
            bar.select("symbol", "timestamp", after="row"),
            left_on="bar_time",
            right_on="timestamp",
            by="symbol",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        said = said.with_columns(known=pl.coalesce("known_at", "bar_time")).sort("known")
        said = said.join_asof(
            bar.select("symbol", "opens_at", possible="row"),
            left_on="known",
            right_on="opens_at",
            by="symbol",
            strategy="forward",
            check_sortedness=False,
        )
        end = pl.Series(market.first + market.count).gather(said["place"])
        first = pl.Series(market.first).gather(said["place"])
        entry = pl.max_horizontal(pl.col("after").fill_null(end), pl.col("possible").fill_null(end))
        said = said.with_columns(step=entry - first, ahead=entry == end, decided=pl.col("decided").fill_null(first))
        chosen = (
            said.sort("bar_time", "said_at", "order")
            .filter(pl.col("step") == pl.col("step").min().over(*LANE, "bar_time"))
            .filter((pl.col("bar_time") == pl.col("bar_time").max().over(*LANE, "step")) | pl.col("ahead"))
            .unique([*LANE, "bar_time"], keep="last", maintain_order=True)
            .filter(pl.col("side") != 0)
            .with_columns(lane=pl.struct(*LANE).rank("dense").cast(pl.Int64) - 1)
            .sort("step", "lane")
        )
        lanes = chosen.unique("lane").sort("lane")
        lane, side, decided, step = (chosen[name].to_numpy() for name in ("lane", "side", "decided", "step"))
        return cls(chosen, lane, side, decided, step, lanes["place"].to_numpy())


class _Fills:
    """What became of each order."""

    def __init__(self, count: int) -> None:
        self.status = np.full(count, -1, np.int64)
        self.reason = np.full(count, -1, np.int64)
        self.entry = np.full(count, -1, np.int64)
        self.exit = np.full(count, -1, np.int64)
        self.price = np.full(count, np.nan)
        self.quantity = np.full(count, np.nan)
        self.units = np.full(count, np.nan)
        self.paid = np.full(count, np.nan)


def _trade(market: _Market, orders: _Orders, fills: _Fills, horizon: int, parameters: TradingParameters) -> None:
    """Trade all lanes bar by bar; what is open at the end has an entry in ``fills`` and no status."""
    desk = _Desk(market, orders, fills, horizon, parameters)
    last = int(market.count[orders.market_of_lane].max(initial=0))
    bounds = np.searchsorted(orders.step, np.arange(last + 1))
    for step in range(last):
        desk.step(step, np.arange(bounds[step], bounds[step + 1]))


class _Desk:
    """The positions that are held, by lane: the order that opened each, or -1, and its stop and target."""

    def __init__(
        self, market: _Market, orders: _Orders, fills: _Fills, horizon: int, parameters: TradingParameters
    ) -> None:
        self.market, self.orders, self.fills = market, orders, fills
        self.horizon, self.parameters = horizon, parameters
        lanes = len(orders.market_of_lane)
        self.first = market.first[orders.market_of_lane]
        self.count = market.count[orders.market_of_lane]
        self.order = np.full(lanes, -1, np.int64)
        self.stop, self.target = np.full(lanes, np.nan), np.full(lanes, np.nan)

    def step(self, step: int, arriving: Integers) -> None:
        """One bar of every symbol: what ends before it or at its open, what begins there, what ends within it."""
        here = arriving[step < self.count[self.orders.lane[arriving]]]
        held = np.flatnonzero((self.order >= 0) & (step < self.count))
        if not len(here) and not len(held):
            return
        incoming = np.zeros(len(self.order), np.int64)
        incoming[self.orders.lane[here]] = self.orders.side[here]
        held = self._end_listings(held, step)
        held = self._carry(held, step)
        held = self._leave_at_open(held, step, incoming)
        opened = self._enter(here, step)
        self._leave_within(np.concatenate([held, opened]), step)

    def _end_listings(self, held: Integers, step: int) -> Integers:
        row, order = self.first[held] + step, self.order[held]
        gone = self.market.listing[row] != self.market.listing[self.fills.entry[order]]
        _delist(self.market, self.orders, self.fills, self.parameters, order[gone], row[gone] - 1)
        self.order[held[gone]] = -1
        return held[~gone]

    def _carry(self, held: Integers, step: int) -> Integers:
        """Splits and dividends before the open; a flagged bar voids the position."""
        row, order = self.first[held] + step, self.order[held]
        growth = self.market.growth[row]
        self.fills.paid[order] += self.fills.units[order] * self.market.paid[row]
        self.fills.units[order] *= growth
        self.stop[held] /= growth
        self.target[held] /= growth
        flagged = self.market.flagged[row]
        self._close(held[flagged], row[flagged], np.full(int(flagged.sum()), np.nan), FLAGGED, VOID)
        return held[~flagged]

    def _leave_at_open(self, held: Integers, step: int, incoming: Integers) -> Integers:
        row, order = self.first[held] + step, self.order[held]
        price = self.market.open[row]
        due = row == self.fills.entry[order] + self.horizon
        turned = incoming[held] == -self.orders.side[order]
        stopped, reached, fill = self._touched(held, row)
        gapped = fill == price
        cause = np.select([due, turned, stopped & gapped, reached & gapped], [HORIZON, OPPOSITE, STOP, TARGET], -1)
        left = cause >= 0
        self._close(held[left], row[left], price[left], cause[left])
        return held[~left]

    def _enter(self, here: Integers, step: int) -> Integers:
        """Open what may be opened; the lanes that now hold it."""
        here = here[self.order[self.orders.lane[here]] < 0]
        lane, side, decided = self.orders.lane[here], self.orders.side[here], self.orders.decided[here]
        row = self.first[lane] + step
        price = self.market.open[row]
        quantity = np.minimum(self.parameters.notional / price, self.parameters.participation * self.market.volume[row])
        gone = self.market.listing[row] != self.market.listing[decided]
        flagged = ~gone & self.market.flagged[row]
        empty = ~gone & ~flagged & ~(quantity > 0)
        filled = ~gone & ~flagged & ~empty
        for some, status, reason in (
            (gone, UNFILLED, DELISTED),
            (flagged, VOID, FLAGGED),
            (empty, UNFILLED, NO_VOLUME),
        ):
            self.fills.status[here[some]], self.fills.reason[here[some]] = status, reason
        self.fills.entry[here[flagged]] = self.fills.exit[here[flagged]] = row[flagged]
        here, lane, side, decided, row, price = (values[filled] for values in (here, lane, side, decided, row, price))
        self.fills.entry[here], self.fills.quantity[here] = row, quantity[filled]
        self.fills.units[here], self.fills.paid[here] = 1.0, 0.0
        self.order[lane] = here
        self.stop[lane] = self._barrier(price, -side, self.parameters.stop, self.market.scale[decided])
        self.target[lane] = self._barrier(price, side, self.parameters.target, self.market.scale[decided])
        return lane

    def _barrier(self, price: Floats, side: Integers, distance: float, scale: Floats) -> Floats:
        if not distance:
            return np.full(len(price), np.nan)
        if self.parameters.barrier_unit == "share":
            return np.asarray(price * (1 + side * distance))
        return np.asarray(price * np.exp(side * distance * scale))

    def _leave_within(self, held: Integers, step: int) -> None:
        row = self.first[held] + step
        stopped, reached, fill = self._touched(held, row)
        left = stopped | reached
        self._close(held[left], row[left], fill[left], np.where(stopped, STOP, TARGET)[left])

    def _touched(self, held: Integers, row: Integers) -> tuple[Flags, Flags, Floats]:
        """``labels.touched``, of a short with all prices turned over."""
        side = self.orders.side[self.order[held]]
        high, low = self.market.high[row], self.market.low[row]
        high, low = np.where(side > 0, high, -low), np.where(side > 0, low, -high)
        stopped, reached, fill = touched(
            side * self.market.open[row], high, low, side * self.stop[held], side * self.target[held]
        )
        return stopped, reached, side * fill

    def _close(
        self, lanes: Integers, row: Integers, price: Floats, reason: Integers | int, status: int = CLOSED
    ) -> None:
        order = self.order[lanes]
        self.fills.status[order], self.fills.reason[order] = status, reason
        self.fills.exit[order], self.fills.price[order] = row, price
        self.order[lanes] = -1


def _delist(
    market: _Market, orders: _Orders, fills: _Fills, parameters: TradingParameters, order: Integers, row: Integers
) -> None:
    kept = np.where(orders.side[order] > 0, 1 - parameters.delisting_haircut, 1.0)
    fills.status[order], fills.reason[order] = CLOSED, DELISTED
    fills.exit[order], fills.price[order] = row, market.close[row] * kept


def _leave_off(
    market: _Market,
    orders: _Orders,
    fills: _Fills,
    horizon: int,
    parameters: TradingParameters,
    ended: Collection[str],
) -> None:
    """After the last bar: what is held is marked to it or delisted, what would be opened next pending or unfilled."""
    market_of = orders.market_of_lane[orders.lane]
    end = market.first[market_of] + market.count[market_of]
    over = np.isin(market_of, [market.symbols[symbol] for symbol in ended if symbol in market.symbols])
    held = (fills.entry >= 0) & (fills.status < 0)
    still = np.flatnonzero(held & ~over)
    fills.status[still], fills.exit[still] = OPEN, end[still] - 1
    fills.price[still] = market.close[end[still] - 1]
    gone = np.flatnonzero(held & over)
    _delist(market, orders, fills, parameters, gone, end[gone] - 1)

    holding = np.full(len(orders.market_of_lane), -1, np.int64)
    holding[orders.lane[still]] = still
    ahead = np.flatnonzero(orders.step == market.count[market_of])
    other = holding[orders.lane[ahead]]
    due = fills.entry[other] + horizon == end[ahead]
    free = (other < 0) | due | (orders.side[other] == -orders.side[ahead])
    for some, status, reason in ((free & ~over[ahead], PENDING, -1), (free & over[ahead], UNFILLED, DELISTED)):
        fills.status[ahead[some]], fills.reason[ahead[some]] = status, reason


def _positions(market: _Market, orders: _Orders, fills: _Fills, parameters: TradingParameters) -> pl.DataFrame:
    at = np.flatnonzero(fills.status >= 0)
    side, decided, quantity = orders.side[at], orders.decided[at], fills.quantity[at]
    entry, left = fills.entry[at], fills.exit[at]
    entered = np.where(entry >= 0, market.open[entry], np.nan)
    valued = np.isfinite(fills.price[at])
    grown = fills.units[at] * fills.price[at] / entered
    days = np.where(valued, market.days[left] - market.days[entry], np.nan)
    value, closed = quantity * entered, fills.status[at] == CLOSED
    traded = 1 + np.where(closed, grown, 0.0)
    borrowed = np.where(side < 0, parameters.borrow_bp_year / 10_000 * days / 365, 0.0)
    gross, cost = side * (grown - 1), parameters.cost_per_side * traded + borrowed
    stamps, known = market.frame["timestamp"], market.frame["known_at"]
    seen, gone = entry >= 0, (left >= 0) & (fills.status[at] != OPEN)
    numbers = {
        "entry_price": np.where(valued, entered, np.nan),
        "exit_price": fills.price[at],
        "quantity": np.where(valued, quantity, np.nan),
        "exit_quantity": np.where(valued, quantity * fills.units[at], np.nan),
        "dividends": np.where(valued, side * quantity * fills.paid[at], np.nan),
        "gross_return": gross,
        "cost": np.where(valued, value * cost, np.nan),
        "pnl": value * (gross - cost),
        "net_return": np.where(valued, gross - cost, np.nan),
    }
    told = orders.frame[at].with_columns(
        status=_words(STATUSES, fills.status[at]),
        reason=_words(REASONS, fills.reason[at]),
        entered_at=_at(stamps, entry, seen),
        left_at=_at(stamps, left, gone),
        settled_at=_at(known, left, gone),
        valued_at=_at(stamps, left, valued),
        bars_held=_where(valued, left - entry),
        past_side=market.frame["past_side"].gather(decided),
        momentum_side=market.frame["momentum_side"].gather(decided),
        **{name: pl.Series(values).fill_nan(None) for name, values in numbers.items()},
    )
    return told.select(pl.col(name).cast(kind) for name, kind in POSITIONS.items()).sort(*LANE, "bar_time")


def _words(kinds: pl.Enum, places: Integers) -> pl.Series:
    return pl.Series(kinds.categories, dtype=kinds).gather(_where(places >= 0, places))


def _at(values: pl.Series, rows: Integers, there: Flags) -> pl.Series:
    return values.gather(_where(there, rows))


def _where(there: Flags, values: Integers) -> pl.Series:
    return pl.Series(values).set(pl.Series(~there), None)

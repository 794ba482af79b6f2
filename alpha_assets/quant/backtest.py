"""A backtest: what an account would have become that followed predictions, bar by bar, at a cost.

**One interval.** A position is opened at open(t+1) and left at open(t+1+h), as in ``labels.open_to_open``; what it
earned is that label. It keeps the model that opened it for h bars, so h generations of positions are held at once, each
of a share 1/h of the account (Jegadeesh and Titman, 1993); within a generation nothing is rebalanced. What one opens
and another leaves of the same symbol at the same open is netted: only the rest is traded and pays.

**What is known when.** All decisions at one stamp are sized together: the last of them is known before the first
is filled, as every exchange opens after the last one of the session before has closed. A size depends on predictions of
that stamp, on returns up to it, and on the account at the fill. What is learnt later is booked when it is learnt, so
removing data after t changes no period that ended by t:

- a *flagged* bar inside the interval makes the position void, as it does the label: at that bar what it had made is
  taken off, and its price is believed by nobody;
- a listing is *gone* when it had no bar for ``gone_after`` of its own sessions, of whatever bars: a weekend of an
  exchange is no silence, though others trade. A long position is then closed at the last close less the haircut, a
  short one at the last close, because an assumption is no gain (as in the ledger);
- silence counts while somebody asked and was answered. A symbol that nobody follows any more is not gone: what is held
  of it is left at the last close. Nor is one whose source has stopped: what is held of it stays open.

Bars are adjusted for splits and dividends: longs receive and shorts pay dividends, splits change nothing. Cash earns
nothing. An entry takes no more than its share of the bar's volume, where the listing has ever shown one, and what was
so entered is taken to get out whole.
Stops and targets are the ledger's: here a position lasts as long as its label. Amounts are shares of the account at the
beginning of the period; the account has one currency.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.labels import LISTING, open_to_open
from alpha_assets.quant.parameters import BacktestParameters, SignalParameters, TradingParameters

Array = np.ndarray

#: What a prediction must hold. ``expected_return`` is of the label's interval and not scaled; null where unknown.
NEEDED = ("symbol", "timestamp", "regime", "score", "p_up", "expected_return")

#: What became of a decision to trade: held its whole interval; void; delisted; left because its symbol was retired;
#: still held; and never filled, because there was no next bar, it was flagged, or nothing of it was traded.
STATES = ("closed", "void", "delisted", "retired", "open", "unfilled")
CLOSED, VOID, DELISTED, RETIRED, OPEN, UNFILLED = range(len(STATES))

#: Mean of the absolute value of a standard normal number.
MEAN_MOVE = float(np.sqrt(2 / np.pi))


@dataclass(frozen=True)
class Grid:
    """The opens that the account is marked at, periods x listings, and where each bar lies in it.

    ``stamps`` are those of the bars, in order; period d lasts from open d to open d+1. ``price`` is the open, or the
    last one that was believed, 0 before the first. Of each bar ``column`` and ``at`` are its place; of each column
    ``last`` is the number of its last bar, ``closing`` that bar's close, ``gone`` the row from which it is held to be
    gone and ``retired`` that from which nobody follows it (beyond the last: never), and ``symbols`` its name.
    """

    stamps: pl.Series
    price: Array
    column: Array
    at: Array
    last: Array
    closing: Array
    gone: Array
    retired: Array
    symbols: pl.Series

    @cached_property
    def moves(self) -> Array:
        """What a unit of each listing gains from one open to the next; shape (periods - 1, listings)."""
        begun = self.price[:-1] > 0
        return np.where(begun, np.diff(self.price, axis=0), 0.0)


@dataclass(frozen=True)
class Orders:
    """Positions to be taken, one an entry of each array, in order of ``entered``.

    ``listing`` is a column of the grid, ``entered`` and ``left`` are rows of it (``left`` beyond the last: never),
    ``opened`` and ``closed`` the prices there; ``share`` is of the account, signed; ``most`` is the value that may be
    filled, in units of the account at its beginning; ``group`` numbers whom the gain is told of (a regime).
    """

    listing: Array
    entered: Array
    left: Array
    opened: Array
    closed: Array
    share: Array
    most: Array
    group: Array

    def __len__(self) -> int:
        """Positions."""
        return len(self.listing)

    def taken(self, order: Array) -> "Orders":
        """These positions alone, in this order."""
        return Orders(**{name: values[order] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Played:
    """The account, period by period, each an array of shape (periods,), and what each order came to.

    ``gross`` is the return before costs, ``cost`` and ``borrow`` what is paid, ``net`` what is left; ``turnover`` the
    value traded, ``long`` and ``short`` (not negative) the value held after trading, ``held`` the number of positions;
    ``by_group`` the gross return by group, shape (periods, groups). ``value`` is the signed value of each order at its
    entry as a share of the account, 0 where nothing was filled.
    """

    gross: Array
    cost: Array
    borrow: Array
    turnover: Array
    long: Array
    short: Array
    held: Array
    by_group: Array
    value: Array

    @property
    def net(self) -> Array:
        """Gross less cost and borrow."""
        return self.gross - self.cost - self.borrow

    @property
    def exposure(self) -> Array:
        """Long and short together."""
        return self.long + self.short


@dataclass(frozen=True)
class Plan:
    """Everything but the costs: ``decisions`` (a row each, in order of ``orders``), the grid, and the groups' names.

    ``decisions`` hold symbol, timestamp, regime, side, entered, left, trade_return (of the price, null while open or
    where nothing was filled) and state (``STATES``), beside what the prediction said.
    """

    decisions: pl.DataFrame
    orders: Orders
    grid: Grid
    groups: Sequence[str]
    gross: float
    a_year: float

    def played(self, cost_per_side: float, borrow_a_year: float = 0.0) -> Played:
        """The account at these costs, shares of the traded value, and of the value short a year."""
        return play(self.grid, self.orders, len(self.groups), self.gross, cost_per_side, borrow_a_year / self.a_year)

    def while_held(self, last: datetime) -> "Plan":
        """The same without the idle periods after the ``last`` word and the last position.

        What became of each position was decided by every bar there is; one that stays open is marked at its last bar.
        """
        grid, orders = self.grid, self.orders
        taken = orders.entered < len(grid.stamps)
        over = np.where(orders.left < len(grid.stamps), orders.left, grid.at[grid.last[orders.listing]])[taken]
        until = 1 + max(over.max(initial=0), int(grid.stamps.search_sorted(last)))
        return replace(self, grid=replace(grid, stamps=grid.stamps[:until], price=grid.price[:until]))

    @property
    def gone(self) -> list[str]:
        """Symbols of the universe that had a listing which ended before the last period: nobody chose survivors."""
        return self._named(self.grid.gone < len(self.grid.stamps))

    @property
    def retired(self) -> list[str]:
        """Symbols of the universe that nobody followed any more before the last period, and that were not gone."""
        never = len(self.grid.stamps)
        return self._named((self.grid.retired < never) & (self.grid.gone >= never))

    def _named(self, listings: Array) -> list[str]:
        return self.grid.symbols.filter(listings).unique().sort().to_list()


def planned(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    *,
    horizon: int,
    parameters: BacktestParameters,
    trading: TradingParameters,
    signal: SignalParameters,
    a_year: float,
    names: Mapping[str, str] | None = None,
    followed_until: Mapping[str, datetime] | None = None,
    retired: Collection[str] = (),
) -> Plan:
    """The positions that these predictions ask for, sized, and when each is left.

    ``predictions`` hold ``NEEDED``, at most one row a symbol and bar: what was said of that bar by a model that had not
    seen what followed. ``bars`` are those of ``labels.open_to_open`` of the whole universe, perhaps with ``value``, the
    traded value of the bar in currency, which fills are limited by. ``a_year`` is the number of periods a year.
    ``names`` are the calendars by symbol, New York's where it lacks one. ``followed_until`` is until when the silence
    of a symbol says anything, where it lacks one until the last bar of all; ``retired`` are those that nobody follows
    since. Raises ValueError for a missing column, two rows of one key or a horizon below 1.
    """
    missing = [name for name in NEEDED if name not in predictions.columns]
    if missing:
        raise ValueError(f"the predictions of a backtest lack {', '.join(missing)}")
    bars = bars.sort("symbol", "timestamp")
    labels = open_to_open(bars, horizon)
    numbered = labels.select("symbol", "timestamp", "label_return", "scale").with_row_index("row")
    said = predictions.join(numbered, on=["symbol", "timestamp"], how="inner")
    if said["row"].is_duplicated().any():
        twice = said.filter(pl.col("row").is_duplicated())
        raise ValueError(f"two predictions of {twice['symbol'][0]} on {twice['timestamp'][0]}: one speaks for a bar")
    wanted = sized(sided(said, parameters, trading, signal), horizon, parameters, trading, a_year)
    wanted = wanted.with_columns(pl.col("regime").fill_null("none")).sort("row")
    silence = Silence(parameters.gone_after, names or {}, followed_until or {}, retired)
    grid = grid_of(bars, _first(predictions), silence)
    return _plan(wanted, bars, grid, horizon, parameters, trading, a_year)


def _plan(
    wanted: pl.DataFrame,
    bars: pl.DataFrame,
    grid: Grid,
    horizon: int,
    parameters: BacktestParameters,
    trading: TradingParameters,
    a_year: float,
) -> Plan:
    """Where each wanted position is entered and left, and what becomes of it; ``bars`` are sorted as ``row`` counts."""
    row = wanted["row"].to_numpy().astype(np.int64)
    column = grid.column[row]
    last, gone, retired = grid.last[column], grid.gone[column], grid.retired[column]
    entry, exit_ = np.minimum(row + 1, last), row + 1 + horizon
    flagged = _next(bars["flags"].is_not_null().to_numpy(), entry)
    value = _fillable(bars, grid)[entry]
    never = len(grid.stamps)
    state = np.select(
        [
            (row == last) | (flagged == entry) | (value <= 0),
            flagged <= np.minimum(exit_, last),
            exit_ <= last,
            gone < never,
            retired < never,
        ],
        [UNFILLED, VOID, CLOSED, DELISTED, RETIRED],
        OPEN,
    )
    opened = bars["open"].to_numpy()[entry]
    earned = wanted["label_return"].to_numpy()
    cut = (state == DELISTED) & (wanted["side"].to_numpy() > 0)
    ended = grid.closing[column] * np.where(cut, 1 - trading.delisting_haircut, 1.0) / opened - 1
    over = (state == DELISTED) | (state == RETIRED)
    returned = np.select([state == CLOSED, over], [earned, ended], np.nan)
    left = np.select(
        [state == VOID, state == CLOSED, over],
        [grid.at[np.minimum(flagged, last)], grid.at[np.minimum(exit_, last)], np.minimum(gone, retired)],
        never,
    )
    entered = np.where(state == UNFILLED, never, grid.at[entry])
    regimes = wanted["regime"]
    groups = regimes.unique().sort()
    order = np.argsort(entered, kind="stable")
    orders = Orders(
        listing=column,
        entered=entered,
        left=left,
        opened=opened,
        closed=np.where(np.isnan(returned), 1.0, 1.0 + returned) * opened,
        share=np.where(state == UNFILLED, 0.0, wanted["share"].to_numpy()),
        most=value * trading.participation / parameters.capital,
        group=groups.search_sorted(regimes).to_numpy().astype(np.int64),
    )
    at = pl.concat([grid.stamps, pl.Series([None], dtype=grid.stamps.dtype)])
    decisions = wanted.select("symbol", "timestamp", *(name for name in NEEDED[2:]), "side", "share").with_columns(
        entered=at.gather(entered),
        left=at.gather(left),
        trade_return=pl.Series(returned).fill_nan(None),
        state=pl.Series(STATES).gather(state),
    )
    return Plan(decisions[order], orders.taken(order), grid, groups.to_list(), parameters.gross, a_year)


def _fillable(bars: pl.DataFrame, grid: Grid) -> Array:
    """The traded value of each bar; without limit while a listing has shown none at all (an index, a currency)."""
    if "value" not in bars.columns:
        return np.full(bars.height, np.inf)
    value = bars["value"].fill_null(0.0).to_numpy()
    total = np.cumsum(value)
    before = np.concatenate([[0.0], total[grid.last[:-1]]])[grid.column]
    return np.where(total > before, value, np.inf)


def held_from_the_start(grid: Grid, haircut: float, symbols: Sequence[str] | None = None) -> Orders:
    """Buy and hold: equal shares of the account in every listing that trades at the second open, when a strategy that
    decides at the first stamp can first buy; what goes or is retired is closed as in ``planned`` and stays cash.

    ``symbols`` are those to be held, all of them where it is None.
    """
    first = grid.price[1] if len(grid.price) > 1 else np.zeros(grid.price.shape[1])
    left = np.minimum(grid.gone, grid.retired)
    there = (first > 0) & (left > 1)
    if symbols is not None:
        there &= grid.symbols.is_in(list(symbols)).to_numpy()
    column = np.flatnonzero(there)
    count = len(column)
    return Orders(
        listing=column,
        entered=np.ones(count, np.int64),
        left=left[column],
        opened=first[column],
        closed=grid.closing[column] * np.where(grid.gone[column] < len(grid.stamps), 1 - haircut, 1.0),
        share=np.full(count, 1 / max(count, 1)),
        most=np.full(count, np.inf),
        group=np.zeros(count, np.int64),
    )


def _first(predictions: pl.DataFrame) -> datetime:
    first = predictions["timestamp"].min()
    if not isinstance(first, datetime):
        raise ValueError("there is no prediction to trade on")
    return first


def _next(true: Array, start: Array) -> Array:
    """The first place from each of ``start`` on that is true; beyond the last where there is none."""
    places = np.append(np.flatnonzero(true), len(true))
    return places[np.searchsorted(places, start)]


def sided(
    said: pl.DataFrame, parameters: BacktestParameters, trading: TradingParameters, signal: SignalParameters
) -> pl.DataFrame:
    """The rows that ask for a position, with ``side`` (1 or -1) and ``conviction`` (larger is more).

    - signal: long from P(up) ``buy_from`` on, short down to ``sell_to``; conviction is the distance from one half
    - expected: where the expected return exceeds the round trip; conviction is what it exceeds it by
    - sign: always the score's; conviction is its size. The rule that is forced on where nothing is promoted.
    """
    side: pl.Expr
    if parameters.rule == "expected":
        expected = pl.col("expected_return")
        beyond = expected.abs() - 2 * trading.cost_per_side
        side, conviction = pl.when(beyond > 0).then(expected.sign()), beyond
    elif parameters.rule == "sign":
        side, conviction = pl.col("score").sign(), pl.col("score").abs()
    else:
        p_up = pl.col("p_up")
        side = pl.when(p_up >= signal.buy_from).then(1.0).when(p_up <= signal.sell_to).then(-1.0)
        conviction = (p_up - 0.5).abs()
    rows = said.with_columns(side=side.cast(pl.Int8), conviction=conviction)
    return rows.filter(pl.col("side") > 0 if parameters.long_only else pl.col("side") != 0)


def depended_on(
    parameters: BacktestParameters, trading: TradingParameters, signal: SignalParameters
) -> dict[str, float]:
    """What decides the trades of these parameters beside them: who turns it trades in another way.

    A cost is a fact of the market, but for a rule or size that trades by it a threshold too.
    """
    told = {"participation": trading.participation}
    if parameters.rule == "signal":
        told |= {"buy_from": signal.buy_from, "sell_to": signal.sell_to}
    if parameters.rule == "expected" or parameters.sizing == "kelly":
        told |= {"cost_per_side": trading.cost_per_side}
    return told


def sized(
    rows: pl.DataFrame, horizon: int, parameters: BacktestParameters, trading: TradingParameters, a_year: float
) -> pl.DataFrame:
    """The rows that get a position, with ``share``: its signed share of the account, a 1/horizon of what it would be
    if the h generations held at once said the same.

    Of n positions opened at a stamp, each has before the limits

    - equal: gross / n
    - volatility: gross / n x target_volatility / the symbol's own of a year, from ``scale``
    - kelly: kelly_fraction x m / s^2, m the expected return less the round trip and s the ``scale`` (Thorp, 2006); of a
      model that tells P(up) alone m is (2 P(up) - 1) x the mean move of that scale

    No symbol has more than ``per_position``; where all exceed ``gross`` they are cut alike. A position whose size is
    not known (no scale yet) is none.
    """
    if parameters.positions:
        ranked = rows.sort("timestamp", "conviction", "symbol", descending=[False, True, False])
        rows = ranked.filter(pl.int_range(pl.len()).over("timestamp") < parameters.positions)
    count, scale, own = pl.len().over("timestamp"), pl.col("scale"), parameters.gross
    if parameters.sizing == "volatility":
        yearly = scale * (a_year / horizon) ** 0.5
        size = own / count * parameters.target_volatility / yearly
    elif parameters.sizing == "kelly":
        told = pl.coalesce("expected_return", (2 * pl.col("p_up") - 1) * scale * MEAN_MOVE)
        earned = told * pl.col("side") - 2 * trading.cost_per_side
        size = parameters.kelly_fraction * earned.clip(lower_bound=0.0) / scale**2
    else:
        size = own / count
    limited = size.clip(upper_bound=parameters.per_position)
    rows = rows.with_columns(share=limited).filter(pl.col("share").is_finite() & (pl.col("share") > 0))
    excess = (pl.col("share").sum().over("timestamp") / own).clip(lower_bound=1.0)
    return rows.with_columns(share=pl.col("share") / excess * pl.col("side") / horizon)


@dataclass(frozen=True)
class Silence:
    """What it says that a listing has no bar any more; the fields are those of ``planned``."""

    gone_after: int
    names: Mapping[str, str]
    followed_until: Mapping[str, datetime]
    retired: Collection[str]

    def gone(self, symbols: pl.Series, last: pl.Series, stamps: pl.Series) -> Array:
        """The row of ``stamps`` from which each listing is held to be gone, beyond them: never.

        That is its session after ``gone_after`` others without a bar, where it was followed until then.
        """
        found = np.full(len(symbols), len(stamps))
        listings = pl.DataFrame({"symbol": symbols, "last": last, "until": self._until(symbols, stamps)})
        # Fewer days than sessions cannot hold them.
        long = pl.col("until") - pl.col("last") > timedelta(days=self.gone_after)
        calendar = pl.col("symbol").replace_strict(
            dict(self.names), default=calendars.DEFAULT_CALENDAR, return_dtype=pl.String
        )
        for (name,), silent in listings.with_row_index("column").filter(long).group_by(calendar):
            days = silent.select(first=pl.col("last").dt.date().min(), last=pl.col("until").dt.date().max()).row(0)
            sessions = calendars.sessions(str(name), *days)
            after = sessions.search_sorted(silent["last"].dt.date(), side="right") + self.gone_after
            at = sessions.cast(stamps.dtype).gather(after.clip(upper_bound=len(sessions) - 1))
            reached = (after < len(sessions)) & (at <= silent["until"])
            found[silent["column"].filter(reached)] = stamps.search_sorted(at.filter(reached))
        return found

    def left(self, symbols: pl.Series, last: Array, stamps: pl.Series) -> Array:
        """The row of ``stamps`` from which nobody follows each listing, after its ``last``; beyond them: never."""
        until = stamps.search_sorted(self._until(symbols, stamps), side="right").to_numpy().astype(np.int64)
        retired = symbols.is_in(list(self.retired)).to_numpy()
        return np.where(retired, np.maximum(until, last + 1), len(stamps))

    def _until(self, symbols: pl.Series, stamps: pl.Series) -> pl.Series:
        return symbols.replace_strict(dict(self.followed_until), default=stamps.max(), return_dtype=stamps.dtype)


def grid_of(bars: pl.DataFrame, first: datetime, silence: Silence) -> Grid:
    """The grid of ``bars``, which are sorted by symbol and timestamp, from the stamp ``first`` on.

    A flagged bar's open is not believed.
    """
    stamps = bars["timestamp"].unique().sort()
    stamps = stamps.filter(stamps >= first)
    column = bars.select(pl.struct(LISTING).rle_id()).to_series().to_numpy().astype(np.int64)
    # Bars before the first stamp are at no row; nothing is entered there.
    at = stamps.search_sorted(bars["timestamp"]).to_numpy().astype(np.int64)
    last = np.flatnonzero(np.diff(column, append=-1))
    opened = bars["open"].to_numpy()
    believed = bars["flags"].is_null().to_numpy() & (bars["timestamp"] >= first).to_numpy() & (opened > 0)
    price = np.zeros((len(stamps), len(last)))
    price[at[believed], column[believed]] = opened[believed]
    symbols = bars["symbol"].gather(last)
    return Grid(
        *(stamps, _carried(price), column, at, last),
        closing=bars["close"].to_numpy()[last],
        gone=silence.gone(symbols, bars["timestamp"].gather(last), stamps),
        retired=silence.left(symbols, at[last], stamps),
        symbols=symbols,
    )


def _carried(price: Array) -> Array:
    """The last price above 0, down each column."""
    there = np.where(price > 0, np.arange(len(price))[:, None], 0)
    return np.take_along_axis(price, np.maximum.accumulate(there, axis=0), axis=0)


def play(grid: Grid, orders: Orders, groups: int, gross: float, cost_per_side: float, borrow_a_period: float) -> Played:
    """The account that fills these orders; it begins with 1, and has nothing left to trade once it is at 0.

    At each open: what is left is closed, then what is wanted is opened, at its share of the account at that open, up
    to ``most`` and to what is free of ``gross``; the net value traded of each listing pays ``cost_per_side``.
    """
    periods, columns = len(grid.stamps) - 1, grid.price.shape[1]
    groups = max(groups, 1)
    told = {
        name: np.zeros(max(periods, 0)) for name in ("gross", "cost", "borrow", "turnover", "long", "short", "held")
    }
    by_group = np.zeros((max(periods, 0), groups))
    value, units = np.zeros(len(orders)), np.zeros(len(orders))
    starts = np.searchsorted(orders.entered, np.arange(periods + 1))
    leaving = np.argsort(orders.left, kind="stable")
    ends = np.searchsorted(orders.left[leaving], np.arange(periods + 2))
    cell = orders.group * columns + orders.listing
    holding, many = np.zeros(groups * columns), np.zeros(groups * columns, np.int64)
    account = 1.0
    for period in range(periods):
        out, new = leaving[ends[period] : ends[period + 1]], slice(starts[period], starts[period + 1])
        price = grid.price[period]
        traded = np.zeros(columns)
        if len(out):
            holding -= np.bincount(cell[out], units[out], len(holding))
            many -= np.bincount(cell[out][units[out] != 0], minlength=len(many))
            holding[many == 0] = 0.0  # what rounding leaves is no position
            traded -= np.bincount(orders.listing[out], units[out] * orders.closed[out], columns)
        net = holding.reshape(groups, columns).sum(axis=0)
        if new.stop > new.start and account > 0:
            wanted = np.minimum(np.abs(orders.share[new]) * account, orders.most[new])
            free = max(gross * account - _size(holding, price, groups), 0.0)
            total = float(wanted.sum())
            filled = np.sign(orders.share[new]) * (wanted if total <= free else wanted * (free / total))
            value[new] = filled / account
            units[new] = filled / orders.opened[new]
            holding += np.bincount(cell[new], units[new], len(holding))
            many += np.bincount(cell[new][units[new] != 0], minlength=len(many))
            traded += np.bincount(orders.listing[new], filled, columns)
            net = holding.reshape(groups, columns).sum(axis=0)
        elif account <= 0:
            units[leaving[ends[period] :]] = 0.0
            holding[:] = many[:] = net[:] = traded[:] = 0
        worth = net * price
        gains = holding.reshape(groups, columns) @ grid.moves[period]
        # What leaves at another price than the open (void, delisted) settles at the end of the period before it.
        last = leaving[ends[period + 1] : ends[period + 2]]
        settled = units[last] * (orders.closed[last] - grid.price[period + 1][orders.listing[last]])
        gains = gains + np.bincount(orders.group[last], settled, groups)
        base = account if account > 0 else 1.0
        turnover, short = float(np.abs(traded).sum()) / base, -float(np.minimum(worth, 0.0).sum()) / base
        by_group[period] = gains / base
        told["gross"][period] = gains.sum() / base
        told["turnover"][period], told["cost"][period] = turnover, turnover * cost_per_side
        told["short"][period], told["borrow"][period] = short, short * borrow_a_period
        told["long"][period], told["held"][period] = float(np.maximum(worth, 0.0).sum()) / base, many.sum()
        account += account * (told["gross"][period] - told["cost"][period] - told["borrow"][period])
    return Played(**told, by_group=by_group, value=value)


def _size(holding: Array, price: Array, groups: int) -> float:
    """The value of all positions, long and short of one listing netted."""
    return float(np.abs(holding.reshape(groups, -1).sum(axis=0) * price).sum())

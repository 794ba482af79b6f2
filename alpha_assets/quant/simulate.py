"""A market whose truth is known: what a model may find in it is planted, and what it may not find is not there.

The return of bar t's interval, open(t) to open(t+1), is

    R(t) = sigma(t) · (rho · z(t−1) + sqrt(1 − rho²) · e(t))

with e(t) of mean 0 and variance 1 given all that was known at the close of t−1, and z(t−1) of mean 0 and variance 1,
known at that close. So the correlation of z with the next volatility-scaled open-to-open return (TS-IC, GATE.md) is
rho, and with rho = 0 returns are a martingale difference: nothing known at a close tells the sign of what follows,
though much tells its size. These are simple returns: a log return with mean 0 would drift by half its variance.

- z is minus (plus, with ``momentum``) the exponentially weighted sum of the past innovations, so that returns over some
  bars, RSI and the like carry it, moved by the drift of the regime at that close; standardised.
- sigma is the symbol's volatility × the regime's multiplier × exp(log-volatility), a stationary AR(1) that the market
  shares. Regimes are a Markov chain, each symbol its own.
- e is student-t: sqrt(c) · market + sqrt(1 − c) · own. An interval is a body (open to close) and a gap (close to the
  next open).
- high and low are the exact extremes of a Brownian bridge from open to close, given the body's variance.

**Prefix stable.** Every quantity of every symbol has its own random stream, drawn bar by bar from the market's first
day, and nothing looks at the end: a later ``last`` gives exactly the same earlier bars, and so does asking for
other symbols beside it. Appending day by day equals simulating at once.

**Not rounded.** Prices are f64, not cents: rounding a price of 0.50 to cents is a predictable return of up to 1 %.
The unpredictable part of an interval is cut, symmetrically, so that it loses at most 95 % and no price reaches 0.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alpha_assets.quant.calendars import session_bounds
from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.quant.schema import ACTIONS, DIVIDEND, INTERVAL_SECONDS, RAW_BARS, SPLIT, TIME, empty

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

REGIMES = ("trending", "sideways", "volatile", "consolidation")

#: What was true of each bar. ``regime`` and ``sigma`` (standard deviation of the return open(t) to open(t+1), as a
#: fraction) are the bar's own; ``z`` is the oracle's score at its close, about the interval of the next bar; ``edge``
#: is the planted TS-IC. The conditional mean of R(t+1) at the close of t is edge · z(t) · sigma(t+1).
TRUTH: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "timestamp": TIME,
    "regime": pl.String(),
    "z": pl.Float64(),
    "sigma": pl.Float64(),
    "edge": pl.Float64(),
}

YEAR = 252
QUARTER = 63
DAY = 86_400_000_000  # microseconds
SPLIT_RATIOS = np.array([2.0, 2.0, 2.0, 3.0, 4.0, 1.5, 7.0, 0.1])
#: Share of the trading variance between the close of a bar and the open of the next within a session.
TICK = 0.02
LARGEST_SIGMA = 0.1
LARGEST_Z = 4.0
#: Cuts of the unpredictable part. With the largest mean, 0.5 · 4 · 0.1, split between the two, a fall stays below 1.
LARGEST_BODY = 0.5
LARGEST_GAP = 0.25


@dataclass(frozen=True)
class Market:
    """A simulated market, each frame sorted by symbol and time.

    ``bars`` follows ``schema.RAW_BARS`` (as traded), ``actions`` follows ``schema.ACTIONS``, ``truth`` has a row a bar
    (``TRUTH``).
    """

    bars: pl.DataFrame
    actions: pl.DataFrame
    truth: pl.DataFrame


@dataclass(frozen=True)
class Life:
    """What is decided about a symbol before its first bar: first and last day of trading, and its planted edge."""

    listed: date
    delisted: date | None
    edge: float


def default_symbols(count: int) -> list[str]:
    """Names of a simulated universe, in order: SIM01, SIM02, ..."""
    width = max(2, len(str(count)))
    return [f"SIM{number:0{width}}" for number in range(1, count + 1)]


def life(parameters: SimulationParameters, symbol: str, first: date) -> Life:
    """When ``symbol`` is traded in the market that begins on ``first``, and its edge; known without simulating it."""
    late, share, ends, end, edged = _stream(parameters, symbol, "life").random(5)
    days = 365.25 * parameters.years
    after = timedelta(days=int(days * (0.1 + 0.4 * share))) if late < parameters.late_share else timedelta(0)
    until = timedelta(days=int(days * (0.6 + 0.35 * end)))
    return Life(
        listed=first + after,
        delisted=first + until if ends < parameters.delisted_share else None,
        edge=parameters.edge if edged < parameters.edge_share else 0.0,
    )


def simulate(
    parameters: SimulationParameters,
    *,
    symbols: Sequence[str],
    first: date,
    last: date,
    interval: str = "1d",
    calendar: str = "XNYS",
    calendars: Mapping[str, str] | None = None,
) -> Market:
    """The market of ``symbols`` from ``first`` to the session of ``last`` (inclusive).

    ``first`` is part of the market's identity, ``last`` is not. ``calendars`` names the calendar of a symbol that does
    not keep ``calendar``. A split holds from the open of its ex-date; a dividend lowers that open by the share
    1 − d/P(previous close), so that prices adjusted for both are the simulated total return.

    Raises ValueError for an unknown interval.
    """
    if interval not in INTERVAL_SECONDS:
        raise ValueError(f"interval {interval!r} cannot be simulated; it is one of {', '.join(INTERVAL_SECONDS)}")
    own = calendars or {}
    grids = {
        name: _grid(name, first, last, interval, parameters.overnight)
        for name in {own.get(symbol, calendar) for symbol in symbols}
    }
    slots = max((grid.slot[-1] + 1 for grid in grids.values() if grid.slot.size), default=0)
    shared = _market(parameters, slots)
    markets = [
        _one(parameters, symbol, first, grids[own.get(symbol, calendar)], shared) for symbol in sorted(set(symbols))
    ]
    return Market(
        bars=pl.concat([empty(RAW_BARS), *(market.bars for market in markets)]),
        actions=pl.concat([empty(ACTIONS), *(market.actions for market in markets)]),
        truth=pl.concat([empty(TRUTH), *(market.truth for market in markets)]),
    )


@dataclass(frozen=True)
class _Grid:
    """The bars of a calendar, in arrays of one length."""

    start: NDArray[np.datetime64]
    #: Session number, counted from the market's first, and whether the bar is its last.
    session: Integers
    ends: NDArray[np.bool_]
    dates: NDArray[np.datetime64]
    #: Number of the interval since the day before the market's first (in UTC, sessions may begin on the eve): what
    #: happens at the same time has the same number.
    slot: Integers
    #: Share of the session's variance within the bar, and in the gap after it.
    body: Floats
    gap: Floats


@dataclass(frozen=True)
class _Shared:
    """The market factor, a value a slot of time."""

    body: Floats
    gap: Floats
    log_volatility: Floats


@dataclass(frozen=True)
class _Path:
    """One symbol's total-return path, before splits and dividends."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    regime: Integers
    z: Floats
    sigma: Floats


def _stream(parameters: SimulationParameters, owner: str, quantity: str) -> np.random.Generator:
    name = hashlib.blake2b(f"{owner}\n{quantity}".encode(), digest_size=16).digest()
    return np.random.default_rng([parameters.seed, int.from_bytes(name)])


def _grid(calendar: str, first: date, last: date, interval: str, overnight: float) -> _Grid:
    bounds = session_bounds(calendar, first, last)
    dates = bounds["session"].to_numpy().astype("datetime64[D]")
    opens = bounds["opens"].dt.epoch("us").to_numpy()
    closes = bounds["closes"].dt.epoch("us").to_numpy()
    nights = np.where(closes - opens < 23 * DAY // 24, overnight, 0.0)
    step = INTERVAL_SECONDS[interval] * 1_000_000
    counts = np.ones_like(opens) if interval == "1d" else -((opens - closes) // step)
    session = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(session)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = (
        dates.astype("datetime64[us]") if interval == "1d" else (opens[session] + step * number).view("datetime64[us]")
    )
    night = nights[session]
    weight = _day_shape(number, counts[session])
    trading = (1 - night) * weight
    ends = number == counts[session] - 1
    return _Grid(
        start=start,
        session=session,
        ends=ends,
        dates=dates,
        slot=(start - np.datetime64(first - timedelta(days=1), "us")).astype(np.int64) // step,
        body=(1 - TICK) * trading,
        gap=TICK * trading + np.where(ends, night, 0.0),
    )


def _day_shape(number: Integers, count: Integers) -> Floats:
    """Share of a session in its bars: busy at the open and the close, a third as busy at noon; sums to 1 a session."""
    place = 2 * (number + 0.5) / count - 1
    mean = 1 + 2 * (1 - 1 / (count.astype(np.float64) ** 2)) / 3
    return (1 + 2 * place**2) / (mean * count)


def _market(parameters: SimulationParameters, slots: int) -> _Shared:
    return _Shared(
        body=_student(_stream(parameters, "", "body"), parameters.tail, slots),
        gap=_student(_stream(parameters, "", "gap"), parameters.tail, slots),
        log_volatility=_memory(
            _stream(parameters, "", "volatility").standard_normal(slots), parameters.clustering_half_life
        ),
    )


def _student(stream: np.random.Generator, tail: float, count: int) -> Floats:
    """Student-t innovations, scaled to variance 1."""
    return stream.standard_t(tail, count) * ((tail - 2) / tail) ** 0.5


def _memory(noise: Floats, half_life: float) -> Floats:
    """Stationary AR(1) with variance 1 from noise with variance 1."""
    keep = 0.5 ** (1 / half_life)
    entering = noise * np.sqrt(1 - keep**2) / (1 - keep)
    entering[:1] = noise[:1]
    return pl.Series(entering).ewm_mean(alpha=1 - keep, adjust=False).to_numpy()


def _regimes(parameters: SimulationParameters, symbol: str, count: int) -> Integers:
    """Regime of each bar: spells of geometric length, each followed by any of the other three regimes alike."""
    stream = _stream(parameters, symbol, "regimes")
    start = int(len(REGIMES) * stream.random())
    draws = stream.random((count, 2))
    jumps = 1 + (3 * draws[:, 0]).astype(np.int64)
    kinds = (start + np.cumsum(jumps)) % len(REGIMES)
    stay = 1 - 1 / _by_regime(parameters, "spell")
    lengths = 1 + (np.log1p(-draws[:, 1]) / np.log(stay)[kinds]).astype(np.int64)
    needed = int(np.searchsorted(np.cumsum(lengths), count)) + 1
    return np.repeat(kinds[:needed], lengths[:needed])[:count]


def _by_regime(parameters: SimulationParameters, quantity: str) -> Floats:
    return np.array([getattr(parameters, f"{regime}_{quantity}") for regime in REGIMES])


def _drifts(parameters: SimulationParameters) -> tuple[Floats, float]:
    """Drift of each regime about the mean of the chain, and the variance that it adds to the score."""
    spells, drifts = _by_regime(parameters, "spell"), _by_regime(parameters, "drift")
    weights = spells / spells.sum()
    centred = drifts - weights @ drifts
    return centred, float(weights @ centred**2)


def _before(values: Floats) -> Floats:
    """Each bar's previous value; 0 before the first."""
    return np.concatenate([np.zeros(min(1, len(values))), values[:-1]])


def _path(parameters: SimulationParameters, symbol: str, edge: float, grid: _Grid, shared: _Shared) -> _Path:
    count = len(grid.start)
    own, common = (1 - parameters.correlation) ** 0.5, parameters.correlation**0.5

    def stream(quantity: str) -> np.random.Generator:
        return _stream(parameters, symbol, quantity)

    level, price, turnover = stream("size").standard_normal(3)
    regime = _regimes(parameters, symbol, count)
    log_volatility = parameters.clustering * (
        own * _memory(stream("volatility").standard_normal(count), parameters.clustering_half_life)
        + common * shared.log_volatility[grid.slot]
    )
    multiplier = _by_regime(parameters, "volatility")[regime]
    typical = parameters.volatility * np.exp(parameters.volatility_spread * level)
    session_sigma = np.minimum(typical * multiplier * np.exp(log_volatility - parameters.clustering**2), LARGEST_SIGMA)
    share = grid.body + grid.gap
    sigma = session_sigma * np.sqrt(share)
    in_body = grid.body / share

    body = own * _student(stream("body"), parameters.tail, count) + common * shared.body[grid.slot]
    gap_before = own * _student(stream("gap"), parameters.tail, count) + common * shared.gap[grid.slot]
    z = _score(parameters, regime, body, gap_before, in_body)

    known, blind = edge * _before(z), (1 - edge**2) ** 0.5
    body_return = sigma * in_body * known + np.clip(
        blind * sigma * np.sqrt(in_body) * body, -LARGEST_BODY, LARGEST_BODY
    )
    # The gap before bar t is the end of the interval of bar t−1: its sigma, its shares, and the score before that.
    gap_return = _before(sigma * (1 - in_body) * known) + np.clip(
        blind * _before(sigma * np.sqrt(1 - in_body)) * gap_before, -LARGEST_GAP, LARGEST_GAP
    )
    opens = 50 * np.exp(0.6 * price) * np.cumprod(1 + _before(body_return) + gap_return)
    closes = opens * (1 + body_return)
    high, low = _extremes(stream("extremes"), opens, closes, session_sigma**2 * grid.body)
    volume = _volume(stream("volume"), turnover, session_sigma / typical, np.abs(body), grid.body)
    return _Path(opens, high, low, closes, volume, regime, z, sigma)


def _score(
    parameters: SimulationParameters, regime: Integers, body: Floats, gap_before: Floats, in_body: Floats
) -> Floats:
    """The oracle's score at each close: variance 1, of what happened until then and the regime then."""
    in_gap = _before(1 - in_body)
    happened = (np.sqrt(in_gap) * gap_before + np.sqrt(in_body) * body) / np.sqrt(in_gap + in_body)
    sign = 1 if parameters.momentum else -1
    drifts, variance = _drifts(parameters)
    score = sign * _memory(happened, parameters.edge_half_life) + drifts[regime]
    return np.clip(score / np.sqrt(1 + variance), -LARGEST_Z, LARGEST_Z)


def _extremes(stream: np.random.Generator, opens: Floats, closes: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """High and low of each bar: maximum and minimum of a Brownian bridge of the logarithm from open to close.

    P(max > m) = exp(−2 m (m − x) / v) for a bridge from 0 to x with variance v (Karatzas and Shreve, 4.3.40), inverted
    at a uniform number; the minimum likewise. Drawn independently of each other.
    """
    body = np.log(closes / opens)
    uniform = 1 - stream.random((len(opens), 2))
    reach = np.sqrt(body[:, None] ** 2 - 2 * variance[:, None] * np.log(uniform))
    high = opens * np.exp((body + reach[:, 0]) / 2)
    low = opens * np.exp((body - reach[:, 1]) / 2)
    return np.maximum(high, np.maximum(opens, closes)), np.minimum(low, np.minimum(opens, closes))


def _volume(
    stream: np.random.Generator, turnover: float, relative_sigma: Floats, moved: Floats, share: Floats
) -> Floats:
    """Units traded: more where volatile, where the bar moved, and at both ends of a session; with moods of its own."""
    moods = _memory(stream.standard_normal(len(moved)), 3.0)
    return 2e6 * np.exp(0.8 * turnover + 0.3 * moods) * np.sqrt(relative_sigma) * (0.7 + 0.4 * moved) * share


def _one(parameters: SimulationParameters, symbol: str, first: date, grid: _Grid, shared: _Shared) -> Market:
    plan = life(parameters, symbol, first)
    path = _path(parameters, symbol, plan.edge, grid, shared)
    traded = grid.dates >= np.datetime64(plan.listed)
    if plan.delisted is not None:
        traded &= grid.dates <= np.datetime64(plan.delisted)
    session_close = path.close[grid.ends]
    ratio, paid = _events(parameters, symbol, traded)
    kept = np.cumprod((1 - paid) / ratio, dtype=np.float64)
    units = np.cumprod(ratio)
    cash = paid * _before(session_close * kept)

    shown = traded[grid.session]
    session = grid.session[shown]
    start = pl.Series("timestamp", grid.start[shown]).dt.replace_time_zone("UTC")
    name = pl.lit(symbol).alias("symbol")
    prices = {side: getattr(path, side)[shown] * kept[session] for side in ("open", "high", "low", "close")}
    volume = np.maximum(np.rint(path.volume[shown] * units[session]), 1.0)
    truth = {"regime": pl.Series(REGIMES).gather(path.regime[shown]), "z": path.z[shown], "sigma": path.sigma[shown]}
    return Market(
        bars=pl.DataFrame({"timestamp": start, **prices, "volume": volume}).select(name, pl.all()),
        actions=_actions(name, grid.dates, ratio, cash),
        truth=pl.DataFrame({"timestamp": start, **truth}).select(name, pl.all(), pl.lit(plan.edge).alias("edge")),
    )


def _events(parameters: SimulationParameters, symbol: str, traded: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Split ratio (1: none) and dividend as a share of the previous close (0: none) of each session.

    None on the first day of trading: there is no close before it. No dividend on the day of a split: whether it is
    paid on old shares or new would be a matter of custom.
    """
    count = len(traded)
    pays, phase, generosity = _stream(parameters, symbol, "dividends").random(3)
    draws = _stream(parameters, symbol, "splits").random((count, 2))
    open_before = _before(traded.astype(np.float64)) > 0
    splits = (draws[:, 0] < parameters.split_rate / YEAR) & traded & open_before
    ratio = np.where(splits, SPLIT_RATIOS[(len(SPLIT_RATIOS) * draws[:, 1]).astype(np.int64)], 1.0)
    due = (np.arange(count) % QUARTER == int(QUARTER * phase)) & traded & open_before & ~splits
    share = parameters.dividend_yield * QUARTER / YEAR * (0.5 + generosity)
    return ratio, np.where(due & (pays < parameters.dividend_share), share, 0.0)


def _actions(name: pl.Expr, dates: NDArray[np.datetime64], ratio: Floats, cash: Floats) -> pl.DataFrame:
    def of(kind: str, happened: NDArray[np.bool_], value: Floats) -> pl.DataFrame:
        return pl.DataFrame({"ex_date": dates[happened], "value": value[happened]}).select(
            name, pl.col("ex_date").cast(pl.Date), pl.lit(kind).alias("kind"), "value"
        )

    return pl.concat([of(DIVIDEND, cash > 0, cash), of(SPLIT, ratio != 1, ratio)]).sort("ex_date")

"""The two documents of a symbol: what holding it was like (``statistical``), and what is known of it (``company``).

Fields, types and units are declared in ``profile_schema``; a figure that is undefined is absent. Every figure looks at
bars up to ``as_of`` and no further. Prices are adjusted for splits and dividends, so returns are total returns, and an
adjustment for a later event changes no earlier return; volume is adjusted for splits, so that a mean has one unit, and
traded value is that of the bars as traded, because adjusted closes times volumes would be money that nobody paid.

**Incremental equals full.** Moments (Chan, Golub, LeVeque 1979; Pébay 2008), drawdowns and regime transitions are
merged into the state that the last document kept; everything that needs the order of all returns is computed anew.
There is one path: a full profile is the merge into nothing. A state holds a checksum of the bars and events it covers,
so a past that was restated, rebuilt or cut differently is seen whatever else was said about it, and starts from
nothing. Prices in a state are kept as the places of their bars and looked up in the present series, because a split
rescales them all.
"""

import hashlib
import math
from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alpha_assets.quant import calendars
from alpha_assets.quant.parameters import ProfileParameters
from alpha_assets.quant.profile_schema import SCHEMA_VERSION, STATE
from alpha_assets.quant.schema import SPLIT

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Document = dict[str, Any]

LAGS = (1, 2, 5, 10, 20)

#: A deviation of one-bar returns up to here is rounding or no movement: its ratios would be noise.
STILL = 1e-7

#: Bars of the usual volume that the newest is held against: a month of sessions.
USUAL_BARS = 20

#: A return up to here is the rounding of an adjustment, no gain, and returns or falls that differ by no more are equal.
ROUNDING = 1e-12

#: More calendar days than any exchange has been closed in a row.
LONGEST_CLOSURE = timedelta(days=30)

#: Of a year, for the annualising of weekly and monthly figures.
PERIODS_A_YEAR = {"week": 365.25 / 7, "month": 12.0}

#: MacKinnon (1994), table 3 in the arrangement of statsmodels' ``adfvalues``: one series, with a constant. Below and
#: above ``_TAU_STAR``, the p-value is the normal distribution of a polynomial of the statistic, lowest power first.
_TAU_MIN, _TAU_STAR, _TAU_MAX = -18.83, -1.61, 2.74
_SMALL_P = (2.1659, 1.4412, 0.038269)
_LARGE_P = (1.7339, 0.93202, -0.12745, -0.010368)


@dataclass(frozen=True)
class Series:
    """One symbol's newest listing, an element a bar.

    ``at`` is the bar's start in microseconds, ``session`` the day number of its session, ``missed`` the sessions
    without a bar just before it. ``close`` is adjusted for splits and dividends; ``traded_close`` and ``volume`` are as
    traded, a volume that is unknown is NaN. ``mark`` is a hash of the bar as traded. ``actions`` are (ex-date, kind,
    value) of this listing up to its last bar. ``next_session`` is the session that follows the last bar: its own while
    it is not over, None where the calendar does not say. ``listings`` counts the companies that used the ticker.
    """

    symbol: str
    listing: date | None
    listings: int
    at: Integers
    session: Integers
    missed: Integers
    close: Floats
    traded_close: Floats
    volume: Floats
    flagged: NDArray[np.bool_]
    mark: NDArray[np.uint64]
    actions: tuple[tuple[date, str, float], ...] = ()
    next_session: int | None = None

    def __len__(self) -> int:
        """The number of bars."""
        return len(self.at)

    def head(self, bars: int) -> "Series":
        """The series as it was when it had so many bars; what follows its last session is then unknown."""
        cut = {name: getattr(self, name)[:bars] for name in _ARRAYS}
        last = _day(int(self.session[bars - 1]))
        actions = tuple(action for action in self.actions if action[0] <= last)
        following = int(self.session[bars]) if bars < len(self) else self.next_session
        return replace(self, **cut, actions=actions, next_session=following)


_ARRAYS = ("at", "session", "missed", "close", "traded_close", "volume", "flagged", "mark")


@dataclass(frozen=True)
class Labels:
    """Regimes of one symbol's bars: ``code`` indexes ``names``, -1 where a bar has none; ``source`` is their table."""

    source: str
    names: tuple[str, ...]
    at: Integers
    code: Integers


# -- from frames to series --------------------------------------------------------------------------------------------


def series_of(
    bars: pl.DataFrame, actions: pl.DataFrame, interval: str, names: Mapping[str, str]
) -> tuple[dict[str, Series], dict[str, str]]:
    """The newest listing of each symbol in ``bars``, and for each symbol that cannot be one, why.

    ``bars`` are sorted by symbol and timestamp and hold OHLC adjusted, ``traded_close`` and ``volume`` as traded,
    ``listing`` and ``flags``; ``names`` has the calendar of each symbol. A close that is not a positive number fails
    its symbol.
    """
    session = calendars.bar_sessions(bars, interval, names)
    columns = {
        "at": bars["timestamp"].to_physical().to_numpy(),
        "session": session.to_physical().cast(pl.Int64).to_numpy(),
        "number": _session_numbers(bars["symbol"], session, names),
        "close": _numbers(bars["close"]),
        "traded_close": _numbers(bars["traded_close"]),
        "volume": _numbers(bars["volume"]),
        "flagged": bars["flags"].is_not_null().to_numpy(),
    }
    # Regimes and indicators come of the whole bar. Its shape, to nine digits, is what no adjustment changes.
    shape = [np.round(_numbers(bars[name]) / columns["close"], 9) for name in ("open", "high", "low")]
    flags = bars["flags"].fill_null("").hash(0).to_numpy().astype(np.float64)
    columns["mark"] = _marks(columns["at"], columns["traded_close"], columns["volume"], *shape, flags)
    spans, events = _spans(bars), _events(actions)
    following = _next_sessions(bars[[end - 1 for *_, end in spans]], columns["session"], spans, interval, names)
    done, wrong = {}, {}
    for symbol, listing, listings, start, end in spans:
        part = {name: values[start:end] for name, values in columns.items()}
        if not (np.isfinite(part["close"]) & (part["close"] > 0.0)).all():
            wrong[symbol] = f"a close of {symbol} is not a positive number; cleaning drops such bars"
            continue
        number = part.pop("number")
        last = _day(int(part["session"][-1]))
        own = (event for event in events.get(symbol, ()) if event[0] <= last and (not listing or event[0] >= listing))
        done[symbol] = Series(
            symbol,
            listing,
            listings,
            **part,
            missed=np.maximum(np.diff(number, prepend=number[0] - 1) - 1, 0),
            actions=tuple(own),
            next_session=following[symbol],
        )
    return done, wrong


def _numbers(column: pl.Series) -> Floats:
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def _session_numbers(symbols: pl.Series, session: pl.Series, names: Mapping[str, str]) -> Integers:
    """The place of each session among those of its symbol's calendar."""
    calendar = symbols.replace_strict(dict(names), return_dtype=pl.String)
    numbers = np.zeros(len(session), dtype=np.int64)
    for name in calendar.unique():
        own = (calendar == name).to_numpy()
        days = session.filter(own)
        held = calendars.sessions(name, days.min(), days.max())  # type: ignore[arg-type]
        numbers[own] = np.searchsorted(held.to_physical(), days.to_physical(), side="right")
    return numbers


def _spans(frame: pl.DataFrame) -> list[tuple[str, date | None, int, int, int]]:
    """Symbol, newest listing, number of listings, first row and end of that listing's rows."""
    runs = (
        frame.with_row_index("place")
        .group_by("symbol", "listing", maintain_order=True)
        .agg(start=pl.col("place").first(), end=pl.col("place").last() + 1)
    )
    newest: dict[str, tuple[str, date | None, int, int, int]] = {}
    for symbol, listing, start, end in runs.iter_rows():
        newest[symbol] = (symbol, listing, newest[symbol][2] + 1 if symbol in newest else 1, start, end)
    return list(newest.values())


def _events(actions: pl.DataFrame) -> dict[str, list[tuple[date, str, float]]]:
    events: dict[str, list[tuple[date, str, float]]] = {}
    for symbol, day, kind, value in actions.select("symbol", "ex_date", "kind", "value").sort(pl.all()).iter_rows():
        events.setdefault(symbol, []).append((day, kind, value))
    return events


def _marks(at: Integers, *figures: Floats) -> NDArray[np.uint64]:
    """A hash of each bar (multiply and shift, after MurmurHash3's finaliser); the sum of a span is its checksum."""
    mark = at.view(np.uint64)
    for part in figures:
        mark = (mark ^ np.ascontiguousarray(part).view(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
        mark = (mark ^ (mark >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return mark ^ (mark >> np.uint64(33))


def _next_sessions(
    newest: pl.DataFrame,
    session: Integers,
    spans: Sequence[tuple[str, date | None, int, int, int]],
    interval: str,
    names: Mapping[str, str],
) -> dict[str, int | None]:
    """Day number of the session after that of each newest bar, its own while bars of it are still to come."""
    ends = calendars.bar_ends(newest, interval, names).to_list()
    found: dict[tuple[str, int, datetime], int | None] = {}
    following: dict[str, int | None] = {}
    for (symbol, *_, end), over in zip(spans, ends, strict=True):
        key = (names[symbol], int(session[end - 1]), over)
        if key not in found:
            found[key] = _next_session(*key)
        following[symbol] = found[key]
    return following


def _next_session(calendar: str, session: int, over: datetime) -> int | None:
    """The first session after this one, or this one where it closes later than ``over``."""
    day = _day(session)
    ahead = calendars.session_bounds(calendar, day, min(day + LONGEST_CLOSURE, calendars.LATEST))
    left = ahead.filter((pl.col("session") > day) | (pl.col("closes") > over))
    return _number(left["session"][0]) if left.height else None


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _stamp(at: int) -> str:
    """Microseconds as an ISO 8601 instant."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(at))).isoformat()


def _microseconds(stamp: str) -> int:
    return (datetime.fromisoformat(stamp) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# -- the state that is merged -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Count, mean and sums of powers of deviations from it; ``+`` is that of both samples together (Pébay 2008)."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> "Moments":
        """The moments of a sample."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        away = values - mean
        squares = away * away
        return cls(len(values), mean, float(squares.sum()), float((squares * away).sum()), float(squares @ squares))

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of the two samples as one."""
        if not self.count or not other.count:
            return self if self.count else other
        a, b, n = self.count, other.count, self.count + other.count
        d = other.mean - self.mean
        return Moments(
            n,
            self.mean + d * b / n,
            self.m2 + other.m2 + d * d * a * b / n,
            self.m3 + other.m3 + d**3 * a * b * (a - b) / n**2 + 3.0 * d * (a * other.m2 - b * self.m2) / n,
            self.m4
            + other.m4
            + d**4 * a * b * (a * a - a * b + b * b) / n**3
            + 6.0 * d * d * (a * a * other.m2 + b * b * self.m2) / n**2
            + 4.0 * d * (a * other.m3 - b * self.m3) / n,
        )

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1); None of fewer than two values or where nothing moves."""
        found = math.sqrt(max(self.m2, 0.0) / (self.count - 1)) if self.count > 1 else 0.0
        return found if found > STILL else None


@dataclass(frozen=True)
class Drawdowns:
    """Places of bars: the highest close so far, and peak, trough and recovery of the deepest fall (None: no fall)."""

    highest: int = 0
    peak: int | None = None
    trough: int | None = None
    recovery: int | None = None

    def after(self, close: Floats, start: int) -> "Drawdowns":
        """As it stands at the end of ``close``, when this is how it stood before ``start``; of equals the first."""
        new = close[start:]
        if not len(new):
            return self
        fall = new / np.maximum.accumulate(np.maximum(new, close[self.highest])) - 1.0
        peak, trough, recovery = self.peak, self.trough, self.recovery
        worst = 0.0 if peak is None or trough is None else close[trough] / close[peak] - 1.0
        seek = start
        if fall.min() < worst - ROUNDING:
            trough, recovery = start + _first_near(fall, fall.min()), None
            peak, seek = _highest(close, self.highest, start, trough), trough + 1
        if peak is not None and recovery is None:
            back = np.flatnonzero(close[seek:] >= close[peak] * (1.0 - ROUNDING))
            recovery = seek + int(back[0]) if len(back) else None
        return Drawdowns(_highest(close, self.highest, start, len(close)), peak, trough, recovery)


def _first_near(values: Floats, extreme: float) -> int:
    """Place of the first value that is ``extreme``, their highest or lowest, but for rounding.

    Which of equals is the very highest is decided by rounding, and by another one after the next split or dividend.
    """
    return int((np.abs(values - extreme) <= ROUNDING * (1.0 + abs(extreme))).argmax())


def _highest(close: Floats, held: int, start: int, end: int) -> int:
    """Place of the highest close, among ``held`` and those from ``start`` up to ``end``; of equals the first."""
    new = close[start:end]
    if new.max(initial=0.0) <= close[held] * (1.0 + ROUNDING):
        return held
    return start + _first_near(new / new.max(), 1.0)


def resumable(document: Mapping[str, Any] | None, series: Series) -> bool:
    """True where the state of ``document`` is of bars and events that ``series`` still begins with."""
    state = (document or {}).get(STATE)
    if not state or state.get("schema") != SCHEMA_VERSION or not 0 < state["bars"] <= len(series):
        return False
    covered = series.head(state["bars"])
    return bool(state["covers"] == _checksum(covered))


def _checksum(series: Series) -> str:
    """What a state covers, in one word: listing, bars as traded, events up to the last of them."""
    events = [(day.isoformat(), kind, value) for day, kind, value in series.actions]
    total = int(series.mark.sum(dtype=np.uint64))
    text = f"{series.listing} {len(series)} {total} {events}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


# -- the statistical document -----------------------------------------------------------------------------------------


def statistical_profile(
    series: Series,
    a_year: float,
    known: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
    indicators: Mapping[str, Any] | None = None,
    parameters: ProfileParameters | None = None,
) -> Document:
    """The ``statistical`` document of a symbol's newest listing, ready for JSON (``profile_schema``).

    ``a_year`` is the number of bars a year (252 for daily bars of a stock exchange). ``known`` is the last document:
    its state is merged into where it is ``resumable``, and then ``labels`` may leave out what it covers
    (``labels_since``). ``indicators`` has ``at``, ``table`` and ``values``. The figures are those of a profile made
    at once, to 1e-9.
    """
    knobs = parameters or ProfileParameters()
    state = known[STATE] if known is not None and resumable(known, series) else None
    covered = state["bars"] if state else 0
    returns = np.diff(np.log(series.close))
    simple = np.expm1(returns)
    fresh = max(covered - 1, 0)
    logs = _moments(state, "log") + Moments.of(returns[fresh:])
    gains = _moments(state, "simple") + Moments.of(simple[fresh:])
    losses = simple[fresh:][simple[fresh:] < 0.0]
    squares = (state["loss_squares"] if state else 0.0) + float(losses @ losses)
    falls = (Drawdowns(*state["drawdown"]) if state else Drawdowns()).after(series.close, max(covered, 1))
    regimes = _regimes(state, series, labels)
    document = {
        "as_of": _stamp(series.at[-1]),
        "coverage": {
            "bars": len(series),
            "first_bar": _stamp(series.at[0]),
            "last_bar": _stamp(series.at[-1]),
            "listing": series.listing.isoformat() if series.listing else None,
        },
        "returns": _returns(series, logs, gains, squares, falls, simple, a_year),
        "drawdown": _drawdown(series, falls),
        "risk": _risk(simple, returns, knobs),
        "distribution": _distribution(logs),
        "dependence": _dependence(series.close, returns, logs, knobs),
        "liquidity": _liquidity(series, returns),
        "regimes": _regime_figures(regimes),
        "timeframes": {name: _timeframe(series, name) for name in PERIODS_A_YEAR},
        "indicators": dict(indicators or {}),
    }
    return {
        **_defined(document),
        STATE: {
            "schema": SCHEMA_VERSION,
            "bars": len(series),
            "covers": _checksum(series),
            "log": [logs.count, logs.mean, logs.m2, logs.m3, logs.m4],
            "simple": [gains.count, gains.mean, gains.m2, gains.m3, gains.m4],
            "loss_squares": squares,
            "drawdown": [falls.highest, falls.peak, falls.trough, falls.recovery],
            "regimes": regimes,
        },
    }


def labels_since(known: Mapping[str, Any] | None, series: Series, source: str) -> int | None:
    """The bar (microseconds) after which labels of ``source`` are wanted; None: all of them."""
    regimes = known[STATE]["regimes"] if known is not None and resumable(known, series) else None
    return int(regimes["until"]) if regimes and regimes["source"] == source else None


def _moments(state: Mapping[str, Any] | None, name: str) -> Moments:
    return Moments(*state[name]) if state else Moments()


def _defined(document: Document) -> Document:
    """Without what is undefined: None, numbers that are not finite, and sections of which nothing is left."""
    kept: Document = {}
    for name, value in document.items():
        if isinstance(value, dict):
            value = _defined(value)
            if not value:
                continue
        elif value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue
        kept[name] = value
    return kept


def _returns(
    series: Series, logs: Moments, gains: Moments, squares: float, falls: Drawdowns, simple: Floats, a_year: float
) -> Document:
    if not logs.count:
        return {}
    total = math.log(series.close[-1] / series.close[0])
    annual = _grown(total * a_year / logs.count)
    deviation, spread = logs.deviation, gains.deviation
    downside = math.sqrt(squares / gains.count)
    deepest = _deepest(series, falls)
    best, worst = _first_near(simple, simple.max()), _first_near(simple, simple.min())
    return {
        "total": _grown(total),
        "annual": annual,
        "annual_volatility": deviation * math.sqrt(a_year) if deviation else 0.0 if logs.count > 1 else None,
        "sharpe": gains.mean / spread * math.sqrt(a_year) if spread else None,
        "sortino": gains.mean / downside * math.sqrt(a_year) if downside > STILL else None,
        "calmar": annual / -deepest if annual is not None and deepest < -STILL else None,
        "positive_share": float((simple > ROUNDING).mean()),
        "best": {"at": _stamp(series.at[best + 1]), "return": float(simple[best])},
        "worst": {"at": _stamp(series.at[worst + 1]), "return": float(simple[worst])},
    }


def _grown(log_return: float) -> float | None:
    return math.expm1(log_return) if log_return < 700.0 else None


def _deepest(series: Series, falls: Drawdowns) -> float:
    if falls.peak is None or falls.trough is None:
        return 0.0
    return float(series.close[falls.trough] / series.close[falls.peak] - 1.0)


def _drawdown(series: Series, falls: Drawdowns) -> Document:
    if len(series) < 2:
        return {}
    places = {"peak": falls.peak, "trough": falls.trough, "recovery": falls.recovery}
    return {
        "max": _deepest(series, falls),
        **{name: _stamp(series.at[place]) for name, place in places.items() if place is not None},
        "now": min(float(series.close[-1] / series.close[falls.highest] - 1.0), 0.0),
    }


def _risk(simple: Floats, returns: Floats, knobs: ProfileParameters) -> Document:
    """Historical value at risk and expected shortfall, Hill's tail index.

    VaR is the empirical quantile at the place ceil(n · share); CVaR is the estimator of Acerbi and Tasche (2002), which
    takes the share of a bar that n · share leaves over. Both follow the data continuously, so a last digit moves no bar
    into the tail or out of it. Hill (1975): k over the sum of log(loss_i / loss_{k+1}) of the k largest log losses.
    """
    n = len(simple)
    figures: Document = {}
    ordered = np.sort(simple)
    for percent in (5, 1):
        if n * percent < 100:
            continue
        whole, part = divmod(n * percent, 100)
        rest = ordered[whole] * part / 100 if part else 0.0
        figures[f"var_{100 - percent}"] = float(-ordered[-(-n * percent // 100) - 1])
        figures[f"cvar_{100 - percent}"] = float(-(ordered[:whole].sum() + rest) * 100 / (n * percent))
    k = int(n * knobs.tail_share)
    if k < knobs.tail_least:
        return figures
    losses = np.sort(-returns)[::-1][: k + 1]
    if losses[k] > STILL and losses[0] > losses[k] * (1.0 + STILL):
        figures["tail_index"] = float(k / np.log(losses[:k] / losses[k]).sum())
        figures["tail_bars"] = k
    return figures


def _distribution(logs: Moments) -> Document:
    if not logs.count:
        return {}
    deviation = logs.deviation
    if deviation is None:
        return {"mean": logs.mean}
    n = logs.count
    return {
        "mean": logs.mean,
        "deviation": deviation,
        "skew": math.sqrt(n) * logs.m3 / logs.m2**1.5 if n > 2 else None,
        "excess_kurtosis": n * logs.m4 / logs.m2**2 - 3.0 if n > 3 else None,
    }


def _dependence(close: Floats, returns: Floats, logs: Moments, knobs: ProfileParameters) -> Document:
    if logs.deviation is None:
        return {}
    tested = returns[-knobs.test_bars :]
    return {
        "autocorrelation": _autocorrelation(returns),
        "absolute_autocorrelation": _autocorrelation(np.abs(returns)),
        "adf_returns": dickey_fuller(tested),
        "adf_log_prices": dickey_fuller(np.log(close[-knobs.test_bars :])),
    }


def _autocorrelation(values: Floats) -> Document:
    """Sum of lagged products over the sum of squares, both of deviations from the mean of all (Box and Jenkins)."""
    away = values - values.mean()
    whole = float(away @ away)
    if whole <= len(values) * STILL**2:
        return {}
    return {str(lag): float(away[lag:] @ away[:-lag]) / whole for lag in LAGS if len(values) > 3 * lag}


def dickey_fuller(levels: Floats) -> Document:
    """The augmented Dickey-Fuller test with a constant: does a level pull the next change back (no unit root)?

    Regression of the change on the level before, on ``lags`` earlier changes and a constant; ``statistic`` is the t of
    the level (Said and Dickey 1984). The lags are Schwert's l4, 4 (n / 100)^(1/4) rounded down; the p-value is
    MacKinnon's (1994). Empty where there are too few values, or the regression is singular.
    """
    lags = int(4.0 * (len(levels) / 100.0) ** 0.25)
    changes = np.diff(levels)
    rows = len(changes) - lags
    if rows < 10 * (lags + 2):
        return {}
    level = levels[lags:-1]
    design = np.empty((lags + 2, rows))
    design[0] = level - level.mean()
    for lag in range(lags + 1):
        part = changes[lags - lag : len(changes) - lag]
        design[lag + 1] = part - part.mean()
    scale = np.sqrt((design * design).sum(axis=1))
    if not (scale > STILL * math.sqrt(rows)).all():
        return {}
    products = design @ design.T / np.outer(scale, scale)
    rest = [0, *range(2, lags + 2)]
    square = products[np.ix_(rest, rest)]
    if np.linalg.eigvalsh(square)[0] < 1e-10:
        return {}
    inverse = np.linalg.inv(square)
    weights = inverse @ products[rest, 1]
    unexplained = float(1.0 - products[rest, 1] @ weights)
    if unexplained < 1e-10:
        return {}
    statistic = float(weights[0] / math.sqrt(unexplained * inverse[0, 0] / (rows - lags - 2)))
    return {"statistic": statistic, "p_value": unit_root_p(statistic), "lags": lags, "bars": len(levels)}


def unit_root_p(statistic: float) -> float:
    """MacKinnon's (1994) approximate p-value of the Dickey-Fuller t with a constant."""
    if statistic > _TAU_MAX:
        return 1.0
    if statistic < _TAU_MIN:
        return 0.0
    powers = _SMALL_P if statistic <= _TAU_STAR else _LARGE_P
    normal = sum(weight * statistic**power for power, weight in enumerate(powers))
    return 0.5 * math.erfc(-normal / math.sqrt(2.0))


def _liquidity(series: Series, returns: Floats) -> Document:
    """Volume in today's units, traded value as traded; Amihud's (2002) mean of |return| over the value of traded bars.

    All are computed anew: medians need the order of all bars, and a split since the last document rescales volumes.
    """
    value = series.traded_close * series.volume
    known = value[~np.isnan(value)]
    if not len(known):
        return {}
    volume = _volume_of_today(series)
    counted = volume[~np.isnan(volume)]
    newest = volume[-USUAL_BARS:]
    usual = float(newest.mean()) if len(newest) == USUAL_BARS else 0.0
    traded = value[1:] > 0.0
    moved = np.abs(returns[traded]) / value[1:][traded]
    return {
        "mean_volume": float(counted.mean()),
        "median_volume": float(np.median(counted)),
        "volume_to_mean_20": float(newest[-1]) / usual if usual > 0.0 else None,
        "mean_traded_value": float(known.mean()),
        "median_traded_value": float(np.median(known)),
        "amihud": float(moved.mean()) * 1e6 if len(moved) else None,
        "zero_volume_share": float((known == 0.0).mean()),
    }


def _volume_of_today(series: Series) -> Floats:
    """Volume in the units of the last bar: each split multiplies what was traded before its ex-date."""
    volume = series.volume.copy()
    for day, kind, ratio in series.actions:
        if kind == SPLIT:
            volume[: np.searchsorted(series.session, _number(day))] *= ratio
    return volume


def _timeframe(series: Series, name: str) -> Document:
    """Figures over the closes of complete weeks (Monday to Sunday) or months; the first close has no return."""
    period = _periods(series.session, name)
    ends = np.flatnonzero(np.diff(period))
    if series.next_session is not None and _periods(np.array([series.next_session]), name)[0] != period[-1]:
        ends = np.append(ends, len(period) - 1)
    if len(ends) < 2:
        return {}
    close = series.close[ends]
    returns = np.diff(np.log(close))
    moments = Moments.of(returns)
    a_year = PERIODS_A_YEAR[name]
    deviation = moments.deviation
    return {
        "periods": len(returns),
        "last_end": _day(int(series.session[ends[-1]])).isoformat(),
        "last_return": math.expm1(returns[-1]),
        "annual_return": _grown(moments.mean * a_year),
        "annual_volatility": deviation * math.sqrt(a_year) if deviation else 0.0 if moments.count > 1 else None,
        "max_drawdown": float((close / np.maximum.accumulate(close) - 1.0).min()),
        "positive_share": float((returns > ROUNDING).mean()),
        "best": math.expm1(returns.max()),
        "worst": math.expm1(returns.min()),
    }


def _periods(session: Integers, name: str) -> Integers:
    """The number of each session's week or month."""
    if name == "week":
        return (session + 3) // 7  # day 0, 1 January 1970, was a Thursday
    return session.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _regimes(state: Mapping[str, Any] | None, series: Series, labels: Labels | None) -> Document | None:
    """Counts of bars and of transitions between neighbouring bars, up to the newest label; None without any."""
    if labels is None:
        return None
    known = state["regimes"] if state else None
    if known and known["source"] != labels.source:
        known = None
    floor = known["until"] if known else int(series.at[0]) - 1
    inside = (labels.at > floor) & (labels.at <= series.at[-1])
    at, code = labels.at[inside], labels.code[inside]
    counts = {name: dict(into) for name, into in known["transitions"].items()} if known else {}
    bars = dict(known["bars"]) if known else {}
    last = known["last"] if known else None
    if len(at):
        kinds = len(labels.names)
        first = labels.names.index(last) if last in labels.names else -1
        path = np.concatenate(([first], code))
        both = (path[:-1] >= 0) & (path[1:] >= 0)
        pairs = np.bincount(path[:-1][both] * kinds + path[1:][both], minlength=kinds * kinds)
        for pair in np.flatnonzero(pairs):
            into = counts.setdefault(labels.names[pair // kinds], {})
            into[labels.names[pair % kinds]] = into.get(labels.names[pair % kinds], 0) + int(pairs[pair])
        for kind, found in enumerate(np.bincount(code[code >= 0], minlength=kinds)):
            if found:
                bars[labels.names[kind]] = bars.get(labels.names[kind], 0) + int(found)
        last = labels.names[code[-1]] if code[-1] >= 0 else None
    elif known is None:
        return None
    until = int(at[-1]) if len(at) else floor
    return {"source": labels.source, "until": until, "last": last, "bars": bars, "transitions": counts}


def _regime_figures(regimes: Mapping[str, Any] | None) -> Document:
    if not regimes or not regimes["bars"]:
        return {}
    whole = sum(regimes["bars"].values())
    return {
        "until": _stamp(regimes["until"]),
        "now": regimes["last"],
        "bars": dict(regimes["bars"]),
        "shares": {name: found / whole for name, found in regimes["bars"].items()},
        "transitions": {
            name: {to: found / sum(into.values()) for to, found in into.items()}
            for name, into in regimes["transitions"].items()
        },
    }


# -- the company document ---------------------------------------------------------------------------------------------


def company_profile(
    series: Series, statistical: Mapping[str, Any], fundamentals: Mapping[str, Any] | None = None
) -> Document:
    """The ``company`` document: the raw data, performance and risk in short, and what the source knows of the company.

    ``statistical`` is the other document of the same series; ``fundamentals`` has ``fundamentals`` (field to value and
    the time it was read) and ``fundamentals_asked_at``.
    """
    risk, returns, drawdown = (statistical.get(name, {}) for name in ("risk", "returns", "drawdown"))
    document = {
        "as_of": _stamp(series.at[-1]),
        "coverage": {
            "bars": len(series),
            "first_bar": _stamp(series.at[0]),
            "last_bar": _stamp(series.at[-1]),
            "listings": series.listings,
            "sessions": int((np.diff(series.session) != 0).sum()) + 1,
            "missing_sessions": int(series.missed[1:].sum()),
            "longest_gap": int(series.missed[1:].max(initial=0)),
            "flagged_bars": int(series.flagged.sum()),
        },
        "actions": _action_figures(series),
        "performance": {**_performance(series), "annual_return": returns.get("annual")},
        "risk": {
            "annual_volatility": returns.get("annual_volatility"),
            "sharpe": returns.get("sharpe"),
            "max_drawdown": drawdown.get("max"),
            "drawdown_now": drawdown.get("now"),
            "var_95": risk.get("var_95"),
        },
        **(fundamentals or {}),
    }
    return _defined(document)


def _action_figures(series: Series) -> Document:
    splits = [action for action in series.actions if action[1] == SPLIT]
    paid = [action for action in series.actions if action[1] != SPLIT]
    figures: Document = {"splits": len(splits), "dividends": len(paid)}
    for name, found in (("last_split", splits), ("last_dividend", paid)):
        if found:
            figures[name] = {"at": found[-1][0].isoformat(), "value": float(found[-1][2])}
    return figures


def _performance(series: Series) -> Document:
    """Returns over months that end at the last bar, from the last close no later than the day that many months ago."""
    last = _day(int(series.session[-1]))
    figures: Document = {"last_close": float(series.traded_close[-1])}
    for months in (1, 3, 6, 12, 36, 60):
        figures[f"return_{months}m"] = _since(series, _number(_months_back(last, months)))
    figures["year_to_date"] = _since(series, _number(date(last.year, 1, 1)) - 1)
    year = series.close[np.searchsorted(series.session, _number(_months_back(last, 12)), side="right") :]
    figures["below_year_high"] = float(series.close[-1] / year.max() - 1.0)
    figures["above_year_low"] = float(series.close[-1] / year.min() - 1.0)
    return figures


def _months_back(day: date, months: int) -> date:
    """The same day of the month so many months ago, or the last of that month."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _since(series: Series, day: int) -> float | None:
    place = int(np.searchsorted(series.session, day, side="right")) - 1
    return float(series.close[-1] / series.close[place] - 1.0) if place >= 0 else None

"""What the calendar says of a bar before it begins: its weekday, the gaps around its session, the period it belongs to.

Sessions are counted as planned: a closing that nobody foresaw (a day of mourning, a hurricane) is a session here, for
the day before could not know. The next higher timeframe is the week of daily bars, the session of hourly ones and the
UTC hour of minutes; a period is complete at the bar with which the calendar says it is over, or, where that bar is
missing, at the next one that is held.
"""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.schema import TIME

Array = np.ndarray

_HOUR = 3_600_000_000

#: The columns that ``with_timeframes`` adds, Float64.
COLUMNS = ("day_of_week", "month_turn", "gap_ahead", "gap_behind", "period", "period_ends")


def with_timeframes(bars: pl.DataFrame, interval: str, names: Mapping[str, str]) -> pl.DataFrame:
    """The bars with ``COLUMNS``; ``names`` gives the calendar by symbol.

    - day_of_week: 0 Monday to 6 Sunday, of the session
    - month_turn: weekdays from the nearer turn of the month, 1 on the first weekday, -1 on the last
    - gap_ahead: days to the next session (daily bars), or the share of the session that is left when the bar ends
    - gap_behind: days from the session before
    - period: number of the week, session or hour that the bar belongs to
    - period_ends: 1 where the period is over when the bar is, else 0
    """
    held = {str(names.get(symbol)) for symbol in bars["symbol"].unique()}
    if len(held) == 1:
        return _of_one_calendar(bars, held.pop(), interval, names)
    calendar = pl.col("symbol").replace_strict(dict(names), default=None).alias("calendar")
    parts = [
        _of_one_calendar(part, str(name), interval, names)
        for (name,), part in bars.with_columns(calendar).with_row_index("row").group_by("calendar", maintain_order=True)
    ]
    if not parts:
        return bars.with_columns(pl.lit(None, pl.Float64).alias(name) for name in COLUMNS)
    return pl.concat(parts).sort("row").drop("row", "calendar")


def _of_one_calendar(bars: pl.DataFrame, calendar: str, interval: str, names: Mapping[str, str]) -> pl.DataFrame:
    keys = bars.select("symbol", pl.col("timestamp").cast(TIME))
    day = calendars.bar_sessions(keys, interval, names).to_physical().cast(pl.Int64).to_numpy()
    days, place = calendars.each_day(day)
    planned = _planned(calendar, days)
    following = planned[np.searchsorted(planned, days, side="right")]
    if interval == "1d":
        ahead = (following - days)[place]
        period, ends = _week(days)[place], (_week(following) != _week(days))[place]
    else:
        ahead, period, ends = _within_session(keys, calendar, interval, names, day)
    columns = {
        "day_of_week": ((days + 3) % 7)[place],
        "month_turn": _month_turn(days)[place],
        "gap_ahead": ahead,
        "gap_behind": (days - planned[np.searchsorted(planned, days, side="left") - 1])[place],
        "period": period,
        "period_ends": ends,
    }
    return bars.with_columns(pl.Series(name, columns[name].astype(np.float64)) for name in COLUMNS)


def _planned(calendar: str, days: Array) -> Array:
    """The planned sessions around these days, in order; at least one before and one after."""
    epoch = np.datetime64(0, "D").astype(object)
    first, last = epoch + timedelta(days=int(days[0]) - 40), epoch + timedelta(days=int(days[-1]) + 40)
    return calendars.planned_sessions(calendar, first, last).to_physical().cast(pl.Int64).to_numpy()


def _within_session(
    keys: pl.DataFrame, calendar: str, interval: str, names: Mapping[str, str], day: Array
) -> tuple[Array, Array, Array]:
    epoch = np.datetime64(0, "D").astype(object)
    first, last = epoch + timedelta(days=int(day.min())), epoch + timedelta(days=int(day.max()))
    bounds = calendars.session_bounds(calendar, first, last)
    days = bounds["session"].to_physical().cast(pl.Int64).to_numpy()
    opens, closes = (bounds[name].to_physical().to_numpy() for name in ("opens", "closes"))
    place = np.searchsorted(days, day).clip(max=len(days) - 1)
    held = days[place] == day
    end = calendars.bar_ends(keys, interval, names).to_physical().to_numpy()
    left = (closes[place] - end) / (closes[place] - opens[place])
    ahead = np.where(held, left.clip(0, 1), np.nan)
    closing = held & (end >= closes[place])
    if interval == "1h":
        return ahead, day, closing
    hour = keys["timestamp"].to_physical().to_numpy() // _HOUR
    return ahead, hour, closing | (end >= (hour + 1) * _HOUR)


def _week(day: Array) -> Array:
    """Number of the week that begins on Monday; 1970-01-01 was a Thursday."""
    return (day + 3) // 7


def _month_turn(day: Array) -> Array:
    dates = day.astype("datetime64[D]")
    month = dates.astype("datetime64[M]")
    gone = np.busday_count(month.astype("datetime64[D]"), dates + 1)
    left = np.busday_count(dates, (month + 1).astype("datetime64[D]"))
    return np.asarray(np.where(gone <= left, np.maximum(gone, 1), -np.maximum(left, 1)))

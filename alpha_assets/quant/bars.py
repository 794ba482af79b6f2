"""Cleaning: errors told from events, every row accounted for.

A row is kept, kept with a flag, repaired by a stated rule, or dropped, and every touch is a line of the log. Rules
compare what is comparable: as-traded prices with the known splits divided out, so that a split is an event and never an
error.

A verdict on the row at t looks back no further than ``reach(interval)`` and forward to the next sound row only. That is
why a refresh that reads ``context_sessions(interval)`` sessions more than it judges says what a rebuild says. Rules of
lag 1 are decided by the next row, so they restate the newest row of a series when its successor comes.

Rules act in this order; a row is dropped by the first that applies:

1. each row by itself (lag 0): key, grid, finality, calendar, prices, range; then duplicates;
2. the sound rows among themselves: slips of the unit (lag 0), copies of the next bar and wrong levels (lag 1);
3. the rows that are kept: jumps between them, stale bars (lag 0).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import polars as pl

from alpha_assets.quant.calendars import (
    ALWAYS_OPEN,
    EARLIEST,
    LATEST,
    bar_ends,
    bar_sessions,
    calendar_name,
    elapsed_sessions,
    session_bounds,
    session_of,
)
from alpha_assets.quant.parameters import CleaningParameters
from alpha_assets.quant.schema import BARS, CLEANING, INTERVAL_SECONDS, OHLC, OHLCV, RAW_BARS, SPLIT, TIME, empty

Action = Literal["dropped", "repaired", "flagged"]


@dataclass(frozen=True)
class Rule:
    """One cleaning rule: what it does, how many bars later it is decided, and why."""

    action: Action
    lag: Literal[0, 1]
    meaning: str


RULES: Mapping[str, Rule] = {
    "null_key": Rule("dropped", 0, "a row without symbol or timestamp"),
    "off_grid": Rule("dropped", 0, "a time at which no bar of this interval starts, such as the source's live quote"),
    "not_final": Rule("dropped", 0, "a bar from the future or not over for as long as the source restates it"),
    "closed_day": Rule(
        "dropped",
        0,
        "a daily bar on a date that is no session of the symbol's calendar, or outside the usual week where it ends",
    ),
    "outside_hours": Rule("dropped", 0, "an intraday bar that starts outside its session"),
    "null_price": Rule(
        "dropped", 0, "open, high, low or close is missing or not a number; an open made up would be traded at"
    ),
    "nonpositive_price": Rule("dropped", 0, "a price of zero or less"),
    "ohlc_inconsistent": Rule("dropped", 0, "a price so far outside the range that one of the four must be wrong"),
    "range_widened": Rule(
        "repaired", 0, "high and low are moved to hold open and close, from which they miss a little"
    ),
    "volume_unknown": Rule("repaired", 0, "a volume that is negative or not a number becomes null"),
    "duplicate_identical": Rule("dropped", 0, "the same bar again"),
    "duplicate_conflicting": Rule(
        "dropped",
        0,
        "another bar of the same time; the one with the most volume, then the widest range, is the latest snapshot",
    ),
    "conflict_resolved": Rule("flagged", 0, "the bar that was kept of several that contradict each other"),
    "unit_slip": Rule(
        "repaired", 0, "prices 100 times or one hundredth of the bars before, traded shares as ever: divided out"
    ),
    "copy_of_next": Rule("dropped", 1, "open, high, low, close and volume equal the next bar's: it tells the future"),
    "level_error": Rule("dropped", 1, "the bar's whole range is far from those of both neighbours, on the same side"),
    "split_sized_jump": Rule("flagged", 0, "an overnight gap like an unrecorded split, spin-off or special dividend"),
    "stale": Rule("flagged", 0, "flat at the close before, nothing traded: a halt or a filled hole"),
}

#: How far apart neighbours may be, and the window of statistics: together the reach. Daily: a neighbour across any
#: holiday but Lunar New Year's, and 14 sessions. Intraday: a long weekend, and some of the session before it.
_NEIGHBOUR = {"1d": timedelta(days=8), "intraday": timedelta(days=4)}
_WINDOW = {"1d": timedelta(days=20), "intraday": timedelta(days=4)}

_HUNDRED = math.log(100)
_UNIX_SPAN = 10**11
_FINAL_AFTER = timedelta(days=4)
_COARSEST_GRID = INTERVAL_SECONDS["15m"]

_FINDING = {"row": pl.UInt32(), "rule": pl.String()}

Carried = Mapping[str, tuple[datetime, date]]


@dataclass(frozen=True)
class Cleaned:
    """What cleaning made of the rows it judged.

    ``bars`` follows ``schema.BARS``, sorted by symbol and timestamp. ``log`` follows ``schema.CLEANING``: a line a row
    and rule, with what the source said. ``counts`` has ``rows_read`` = ``kept`` + ``repaired`` + ``dropped``,
    ``flagged`` (of those kept or repaired), ``unordered`` (rows delivered right after a later one of their symbol; they
    were sorted) and, for the rules that fired, ``by_rule``: {rule: {"repaired": n, "dropped": n, "flagged": n}}.
    """

    bars: pl.DataFrame
    log: pl.DataFrame
    counts: dict[str, Any]


def reach(interval: str) -> timedelta:
    """How far back from a row's timestamp its verdict may look, splits and listings aside."""
    return _neighbour(interval) + _window(interval)


def context_sessions(interval: str) -> int:
    """Sessions to read before the first judged one: they cover ``reach`` even where every day is a session."""
    return reach(interval).days


def clean(
    raw: pl.DataFrame,
    actions: pl.DataFrame,
    *,
    interval: str,
    calendars: Mapping[str, str],
    parameters: CleaningParameters,
    now: datetime,
    lag: timedelta,
    listing_cuts: Mapping[str, Sequence[date]] | None = None,
    carried: Carried | None = None,
    judged_from: Mapping[str, datetime] | None = None,
) -> Cleaned:
    """Judge every row of ``raw`` (``schema.RAW_BARS``, as traded, any order, many symbols) by ``RULES``.

    ``actions`` (``schema.ACTIONS``) gives the splits that explain jumps. ``calendars`` names each symbol's calendar; a
    symbol it lacks has its ``calendar_name``. A bar is final when its end plus ``lag`` is not after ``now``.

    Rows of a symbol before its ``judged_from`` are context: neighbours of others, neither returned nor counted.
    ``carried`` gives the last bar kept before that as (timestamp, listing), so that an increment continues the listing.
    A listing begins with a symbol's first bar, with the first bar on or after a date of ``listing_cuts``, and with a
    bar more than ``parameters.listing_gap_sessions`` sessions after the one before.
    """
    names = {symbol: calendars.get(symbol) or calendar_name(symbol) for symbol in raw["symbol"].unique().drop_nulls()}
    rows = _prepared(raw, judged_from or {})
    cuts = {symbol: dates for symbol, dates in (listing_cuts or {}).items() if dates and symbol in names}
    if cuts:
        rows = _divided(rows, interval, names, cuts)

    unsound = _drops(rows, interval, names, parameters, now, lag)
    sound = _without(rows, unsound)
    duplicates, conflicts = _duplicates(sound)
    widened, sound = _small_repairs(_with_scale(_without(sound, duplicates), actions, interval, names))
    slips, sound = _unit_slips(sound, interval, parameters)
    late = [_copies(sound, interval), _level_errors(sound, interval, parameters)]
    late_drops = pl.concat(late).unique("row", keep="first", maintain_order=True)
    kept = _without(sound, late_drops)
    jumps = _split_sized_jumps(kept, sound, interval, parameters)

    dropped = pl.concat([unsound, duplicates, late_drops])
    touched = _without(pl.concat([conflicts, widened, slips, jumps, _stale(kept, interval)]), dropped)
    judged = rows.filter("judged")
    log = judged.select("row", *RAW_BARS).join(pl.concat([dropped, touched]), on="row", maintain_order="left")
    bars = _listed(kept.filter("judged"), names, parameters, cuts, carried or {})
    return Cleaned(_flagged(bars, log), _as_log(log), _counts(judged, bars, log) | {"unordered": _unordered(raw)})


def _neighbour(interval: str) -> timedelta:
    return _NEIGHBOUR["1d" if interval == "1d" else "intraday"]


def _window(interval: str) -> timedelta:
    return _WINDOW["1d" if interval == "1d" else "intraday"]


def _prepared(raw: pl.DataFrame, judged_from: Mapping[str, datetime]) -> pl.DataFrame:
    """Rows by symbol and timestamp: ``row`` is the place in ``raw``, ``series`` a number a symbol, and ``judged``."""
    rows = raw.select([pl.col(name).cast(kind) for name, kind in RAW_BARS.items()]).with_row_index("row")
    rows = rows.sort("symbol", "timestamp", maintain_order=True).with_columns(series=pl.col("symbol").rle_id())
    if not judged_from:
        return rows.with_columns(judged=pl.lit(True))
    starts = pl.DataFrame({"symbol": list(judged_from), "start": list(judged_from.values())})
    starts = starts.cast({"symbol": pl.String(), "start": TIME})
    rows = rows.join(starts, on="symbol", how="left", maintain_order="left")
    return rows.with_columns(judged=(pl.col("timestamp") >= pl.col("start")).fill_null(True)).drop("start")


def _divided(
    rows: pl.DataFrame, interval: str, names: Mapping[str, str], cuts: Mapping[str, Sequence[date]]
) -> pl.DataFrame:
    """Rows with another number of the series from each cut on: the bars of another company are no neighbours."""
    dates = pl.DataFrame(
        [(symbol, cut, place + 1) for symbol, dates in cuts.items() for place, cut in enumerate(sorted(dates))],
        schema={"symbol": pl.String(), "session": pl.Date(), "passed": pl.Int64()},
        orient="row",
    )
    cut = rows.filter(pl.col("symbol").is_in(list(cuts))).drop_nulls("timestamp")
    cut = cut.with_columns(bar_sessions(cut, interval, names))
    passed = cut.join_asof(dates, on="session", by="symbol", check_sortedness=False).select("row", "passed")
    rows = rows.join(passed, on="row", how="left", maintain_order="left")
    return rows.with_columns(series=pl.struct("symbol", "passed").rle_id()).drop("passed")


def _without(rows: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    if not findings.height:
        return rows
    return rows.join(findings, on="row", how="anti", maintain_order="left")


def _found(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    return rows.select("row", rule=pl.lit(rule, pl.String()))


def _drops(
    rows: pl.DataFrame,
    interval: str,
    names: Mapping[str, str],
    parameters: CleaningParameters,
    now: datetime,
    lag: timedelta,
) -> pl.DataFrame:
    """Rows that are dropped for what they hold by themselves, each by the first rule that applies."""
    finite = pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in OHLC)
    highest, lowest = pl.max_horizontal("open", "low", "close"), pl.min_horizontal("open", "high", "close")
    outside = (highest > pl.col("high") * (1 + parameters.range_tolerance)) | (
        lowest < pl.col("low") * (1 - parameters.range_tolerance)
    )
    grid = INTERVAL_SECONDS[interval] if interval == "1d" else min(INTERVAL_SECONDS[interval], _COARSEST_GRID)
    rules = {
        "null_key": pl.col("symbol").is_null() | pl.col("timestamp").is_null(),
        "off_grid": pl.col("timestamp").dt.epoch("us") % (grid * 1_000_000) != 0,
        "not_final": pl.col("row").is_in(_not_final(rows, interval, names, now, lag).implode()),
        "closed_day": pl.col("row").is_in(_closed(rows, interval, names).implode()),
        "null_price": ~finite,
        "nonpositive_price": pl.min_horizontal(OHLC) <= 0,
        "ohlc_inconsistent": outside,
    }
    if interval != "1d":
        rules = {("outside_hours" if rule == "closed_day" else rule): applies for rule, applies in rules.items()}
    suspects = rows.filter(pl.any_horizontal(applies.fill_null(False) for applies in rules.values()))
    first = pl.coalesce(pl.when(applies).then(pl.lit(rule)) for rule, applies in rules.items())
    return suspects.select("row", rule=first)


def _not_final(rows: pl.DataFrame, interval: str, names: Mapping[str, str], now: datetime, lag: timedelta) -> pl.Series:
    """Rows whose end plus ``lag`` is after ``now``; only the newest are asked, a bar of last week is over."""
    recent = rows.filter(pl.col("timestamp") > now - lag - _FINAL_AFTER, pl.col("symbol").is_not_null())
    ends = bar_ends(recent.select("symbol", "timestamp"), interval, names)
    return recent.filter(ends + lag > now)["row"]


def _closed(rows: pl.DataFrame, interval: str, names: Mapping[str, str]) -> pl.Series:
    """Rows at times when their exchange is closed: a date without session, or an intraday start outside it."""
    by_calendar: dict[str, list[str]] = {}
    for symbol, calendar in names.items():
        by_calendar.setdefault(calendar, []).append(symbol)
    closed = [pl.Series("row", [], pl.UInt32())]
    for calendar, symbols in by_calendar.items():
        of_calendar = pl.lit(True) if len(symbols) == len(names) else pl.col("symbol").is_in(symbols)
        times = rows.lazy().filter(of_calendar).select("row", "timestamp").drop_nulls().collect()
        if calendar == ALWAYS_OPEN:
            closed.append(times.filter(~pl.col("timestamp").dt.date().is_between(EARLIEST, LATEST))["row"])
        else:
            closed.append(_closed_daily(times, calendar) if interval == "1d" else _closed_intraday(times, calendar))
    return pl.concat(closed)


def _closed_daily(times: pl.DataFrame, calendar: str) -> pl.Series:
    dates = times["timestamp"].dt.date()
    unique = dates.unique()
    on_session = unique.filter(session_of(calendar, unique.cast(TIME)) == unique)
    return times.filter(~dates.is_in(on_session.implode()))["row"]


def _closed_intraday(times: pl.DataFrame, calendar: str) -> pl.Series:
    times = times.with_columns(session=session_of(calendar, times["timestamp"]))
    first, last = times["session"].min(), times["session"].max()
    if first is None or last is None:
        return times["row"]
    assert isinstance(first, date)
    assert isinstance(last, date)
    times = times.join(session_bounds(calendar, first, last), on="session", how="left", maintain_order="left")
    under_way = pl.col("timestamp").is_between("opens", "closes", closed="left")
    return times.filter(~under_way.fill_null(False))["row"]


def _duplicates(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows dropped because another of the same key is kept, and the rows kept of those that contradict each other."""
    same_as_before = (pl.col("series") == pl.col("series").shift(1)) & (
        pl.col("timestamp") == pl.col("timestamp").shift(1)
    )
    twice = rows.filter((same_as_before | same_as_before.shift(-1)).fill_null(False))
    if not twice.height:
        return empty(_FINDING), empty(_FINDING)
    key = ["series", "timestamp"]
    best = twice.sort(
        *key,
        _known_volume(),
        pl.col("high") - pl.col("low"),
        *OHLC,
        descending=[False, False] + [True] * 6,
        nulls_last=True,
    )
    first = [pl.col(name).first().over(key) for name in OHLCV]
    best = best.with_columns(
        equal=pl.all_horizontal(pl.col(name).eq_missing(kept) for name, kept in zip(OHLCV, first, strict=True)),
        kept=pl.int_range(pl.len()).over(key) == 0,
    )
    dropped = best.filter(~pl.col("kept")).select(
        "row",
        rule=pl.when("equal").then(pl.lit("duplicate_identical")).otherwise(pl.lit("duplicate_conflicting")),
    )
    contradicted = best.filter(pl.col("kept"), ~pl.col("equal").all().over(key))
    return dropped, _found(contradicted, "conflict_resolved")


def _with_scale(rows: pl.DataFrame, actions: pl.DataFrame, interval: str, names: Mapping[str, str]) -> pl.DataFrame:
    """Rows with ``scale``: times which a price is comparable with those before it, known splits divided out."""
    splits = actions.filter(pl.col("kind") == SPLIT, pl.col("value") > 0, pl.col("value").is_finite())
    splits = splits.filter(pl.col("symbol").is_in(list(names))).sort("symbol", "ex_date")
    if not splits.height:
        return rows.with_columns(scale=pl.lit(1.0))
    splits = splits.select("symbol", session="ex_date", scale=pl.col("value").cum_prod().over("symbol"))
    of_splits = rows.filter(pl.col("symbol").is_in(splits["symbol"].unique().implode()))
    of_splits = of_splits.with_columns(bar_sessions(of_splits, interval, names))
    scales = of_splits.join_asof(splits, on="session", by="symbol", check_sortedness=False).select("row", "scale")
    scaled = rows.join(scales, on="row", how="left", maintain_order="left")
    return scaled.with_columns(pl.col("scale").fill_null(1.0))


def _known_volume() -> pl.Expr:
    return pl.when(pl.col("volume").is_finite() & (pl.col("volume") >= 0)).then("volume")


def _small_repairs(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ranges widened by what they lack within the tolerance, impossible volumes made unknown."""
    highest, lowest = pl.max_horizontal(OHLC), pl.min_horizontal(OHLC)
    known = _known_volume()
    findings = [
        _found(rows.filter((highest > pl.col("high")) | (lowest < pl.col("low"))), "range_widened"),
        _found(rows.filter(pl.col("volume").is_not_null() & known.is_null()), "volume_unknown"),
    ]
    repaired = rows.with_columns(high=highest, low=lowest, volume=known)
    return pl.concat(findings), repaired


def _beside(name: str, by: int, span: timedelta) -> pl.Expr:
    """Column ``name`` of the row ``by`` places before (negative: after); null where it is another symbol's or far."""
    same = pl.col("series") == pl.col("series").shift(by)
    near = (pl.col("timestamp") - pl.col("timestamp").shift(by)).abs() <= span
    return pl.when(same & near).then(pl.col(name).shift(by))


def _index() -> pl.Expr:
    """Seconds that run on from symbol to symbol, so far apart that no window crosses from one to the next."""
    return pl.col("series").cast(pl.Int64) * _UNIX_SPAN + pl.col("timestamp").dt.epoch("s")


def _seconds(span: timedelta) -> str:
    return f"{int(span.total_seconds())}i"


def _mean_before(value: pl.Expr, span: timedelta) -> pl.Expr:
    """Mean of ``value`` over the rows of ``span`` before each row, itself excluded; null where there is none."""
    return value.rolling_mean_by(_index(), window_size=_seconds(span), closed="left")


def _of_symbols(rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """All rows of the symbols in ``found``: statistics are wanted for candidates only."""
    return rows.filter(pl.col("series").is_in(found["series"].unique().implode()))


def _unit_slips(rows: pl.DataFrame, interval: str, parameters: CleaningParameters) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows out of line by 100 with most bars of the window before; their prices are brought back into line.

    A jump of 100 moves the unit up or down by one, unless the shares traded moved the other way: that is a split.
    Where half the window stands in the new unit, it is the unit.
    """
    price = (pl.col("close") * pl.col("scale")).log()
    shares = (pl.col("volume") / pl.col("scale")).log()
    moves = rows.select("row", "series", "timestamp", price=price, shares=shares)
    near = _neighbour(interval)
    move = pl.col("price") - _beside("price", 1, near)
    split = ((pl.col("shares") - _beside("shares", 1, near) + move).abs() < _HUNDRED / 2).fill_null(False)
    jump = pl.when(((move.abs() - _HUNDRED).abs() <= parameters.unit_tolerance) & ~split).then(move.sign()).fill_null(0)
    moves = moves.with_columns(jump=jump)
    jumps = moves.filter(pl.col("jump") != 0)
    if not jumps.height:
        return empty(_FINDING), rows
    moves = _of_symbols(moves, jumps).with_columns(unit=pl.col("jump").cum_sum(), one=pl.lit(1.0))
    ahead = pl.col("unit") - _mean_before(pl.col("unit"), _window(interval))
    seen = pl.col("one").rolling_sum_by(_index(), window_size=_seconds(_window(interval)), closed="left")
    slips = moves.select("row", slip=ahead.round(), clear=(ahead.abs() > 0.5) & (seen >= parameters.unit_history))
    slips = slips.filter("clear", pl.col("slip") != 0).select("row", "slip")
    rows = rows.join(slips, on="row", how="left", maintain_order="left")
    factor = pl.lit(100.0).pow(-pl.col("slip").fill_null(0))
    return _found(slips, "unit_slip"), rows.with_columns(pl.col(OHLC) * factor).drop("slip")


def _copies(rows: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Rows that equal the row after in all five values, where trading was real (some volume, not flat)."""
    equal = pl.all_horizontal(pl.col(name) == _beside(name, -1, _neighbour(interval)) for name in OHLCV)
    traded = (pl.col("volume") > 0) & (pl.col("high") > pl.col("low"))
    return _found(rows.filter(equal & traded), "copy_of_next")


def _level_errors(rows: pl.DataFrame, interval: str, parameters: CleaningParameters) -> pl.DataFrame:
    """Rows whose whole range lies off those of the two rows before and of the row after, which is back where they were.

    Two rows before, so that a good row between two wrong ones is not taken for the wrong one.
    """
    near = _neighbour(interval)
    levels = rows.select(
        "row", "series", "timestamp", *[(pl.col(name) * pl.col("scale")).log() for name in ("high", "low")]
    )
    high_before = pl.max_horizontal(_beside("high", 1, near), _beside("high", 2, near))
    low_before = pl.min_horizontal(_beside("low", 1, near), _beside("low", 2, near))
    high_after, low_after = _beside("high", -1, near), _beside("low", -1, near)
    above = pl.col("low") - pl.max_horizontal(high_before, high_after)
    below = pl.min_horizontal(low_before, low_after) - pl.col("high")
    apart = pl.max_horizontal(above, below)
    moved_on = pl.max_horizontal(low_after - high_before, low_before - high_after)
    both = high_before.is_not_null() & high_after.is_not_null()
    back = moved_on <= parameters.level_return * apart
    levels = levels.with_columns(apart=pl.when(both & back).then(apart))
    candidates = levels.filter(pl.col("apart") > parameters.level_floor)
    if not candidates.height:
        return empty(_FINDING)
    usual = _mean_before(pl.col("high") - pl.col("low"), _window(interval)).fill_null(0)
    judged = _of_symbols(levels, candidates).with_columns(usual=usual)
    wrong = judged.filter(
        pl.col("apart") > pl.max_horizontal(pl.lit(parameters.level_floor), parameters.level_ranges * pl.col("usual"))
    )
    return _found(wrong, "level_error")


def _split_sized_jumps(
    kept: pl.DataFrame, sound: pl.DataFrame, interval: str, parameters: CleaningParameters
) -> pl.DataFrame:
    """Rows that open a split's ratio, or an unexplained drop, away from the close before and then trade as ever.

    Neighbours are the rows kept; the usual traded value is the geometric mean over the sound rows of the window before.
    """
    before = _beside("before", 1, _neighbour(interval))
    jumps = kept.with_columns(before=pl.col("close") * pl.col("scale")).select(
        "row",
        "series",
        gap=(pl.col("open") * pl.col("scale") / before).log(),
        span=(pl.col("high") / pl.col("low")).log(),
    )
    ratios = [math.log(ratio) for ratio in parameters.split_ratios]
    ratios += [-math.log(ratio) for ratio in parameters.split_ratios if ratio >= 2]
    sized = pl.any_horizontal((pl.col("gap") + ratio).abs() <= parameters.split_tolerance for ratio in ratios)
    sized = sized | (pl.col("gap") < math.log(1 - parameters.unexplained_drop))
    beyond_news = pl.col("gap").abs() >= math.log(parameters.unexplained_factor)
    candidates = jumps.filter(sized | beyond_news)
    if not candidates.height:
        return empty(_FINDING)
    value = (pl.col("close") * pl.col("volume")).log()
    usual = _mean_before(pl.when(value.is_finite()).then(value), _window(interval))
    traded = _of_symbols(sound, candidates).select("row", traded=value - usual)
    ordinary = (pl.col("span") <= parameters.split_range_share * pl.col("gap").abs()) & ~(
        pl.col("traded") > math.log(parameters.split_traded_value)
    ).fill_null(False)
    found = candidates.join(traded, on="row", how="left", maintain_order="left").filter(ordinary | beyond_news)
    return _found(found, "split_sized_jump")


def _stale(kept: pl.DataFrame, interval: str) -> pl.DataFrame:
    """Flat rows without volume at the close before."""
    flat = (pl.col("high") == pl.col("low")) & (pl.col("volume") == 0)
    unmoved = kept.with_columns(close=pl.col("close") * pl.col("scale"))
    before = _beside("close", 1, _neighbour(interval))
    return _found(unmoved.filter(flat & ((pl.col("close") / before - 1).abs() < 1e-6)), "stale")


def _listed(
    kept: pl.DataFrame,
    names: Mapping[str, str],
    parameters: CleaningParameters,
    cuts: Mapping[str, Sequence[date]],
    carried: Carried,
) -> pl.DataFrame:
    """The rows with ``listing``, the session date at which the ticker's present use began."""
    last = pl.DataFrame(
        [(symbol, when, listing) for symbol, (when, listing) in carried.items()],
        schema={"symbol": pl.String(), "carried": TIME, "carried_listing": pl.Date()},
        orient="row",
    )
    first_of_symbol = (pl.col("series") != pl.col("series").shift(1)).fill_null(True)
    rows = (
        kept.join(last, on="symbol", how="left", maintain_order="left")
        if last.height
        else kept.with_columns(carried=pl.lit(None, TIME), carried_listing=pl.lit(None, pl.Date()))
    )
    rows = rows.with_columns(
        before=pl.when(first_of_symbol).then("carried").otherwise(pl.col("timestamp").shift(1)),
        listing=pl.when(first_of_symbol).then("carried_listing"),
    )
    begins = _begins(rows, names, parameters, cuts)
    rows = rows.join(begins, on="row", how="left", maintain_order="left")
    return rows.with_columns(listing=pl.coalesce("begins", "listing").forward_fill())


def _begins(
    rows: pl.DataFrame, names: Mapping[str, str], parameters: CleaningParameters, cuts: Mapping[str, Sequence[date]]
) -> pl.DataFrame:
    """Rows that begin a listing, with the date of their session: few, so they are asked one by one."""
    far = timedelta(days=parameters.listing_gap_sessions)
    asked = rows.filter(
        pl.col("before").is_null()
        | (pl.col("timestamp") - pl.col("before") > far)
        | pl.col("symbol").is_in([symbol for symbol, dates in cuts.items() if dates])
    ).select("row", "symbol", "timestamp", "before")
    found: dict[str, list[Any]] = {"row": [], "begins": []}
    for (symbol,), some in asked.group_by("symbol"):
        calendar = names[str(symbol)]
        days = session_of(calendar, some["timestamp"])
        days_before = session_of(calendar, some["before"])
        for row, day, before in zip(some["row"], days, days_before, strict=True):
            if before is None or _is_cut(calendar, before, day, parameters, cuts.get(str(symbol), ())):
                found["row"].append(row)
                found["begins"].append(day)
    return pl.DataFrame(found, schema={"row": pl.UInt32(), "begins": pl.Date()})


def _is_cut(calendar: str, before: date, day: date, parameters: CleaningParameters, cuts: Sequence[date]) -> bool:
    if any(before < cut <= day for cut in cuts):
        return True
    return elapsed_sessions(calendar, before, day) > parameters.listing_gap_sessions


def _flagged(bars: pl.DataFrame, log: pl.DataFrame) -> pl.DataFrame:
    """``schema.BARS``: the rows with the names of the rules that fired on them."""
    dropped = [rule for rule, what in RULES.items() if what.action == "dropped"]
    fired = log.filter(~pl.col("rule").is_in(dropped))
    flags = fired.group_by("row").agg(flags=pl.col("rule").sort().str.join(","))
    return bars.join(flags, on="row", how="left", maintain_order="left").select(list(BARS))


def _as_log(log: pl.DataFrame) -> pl.DataFrame:
    actions = {rule: what.action for rule, what in RULES.items()}
    return (
        log.with_columns(action=pl.col("rule").replace_strict(actions, return_dtype=pl.String()))
        .sort("symbol", "timestamp", "row", "rule")
        .select(list(CLEANING))
    )


def _counts(judged: pl.DataFrame, bars: pl.DataFrame, log: pl.DataFrame) -> dict[str, Any]:
    of_rule = dict(log.group_by("rule").len().sort("rule").iter_rows())
    by_rule = {
        rule: {action: count if RULES[rule].action == action else 0 for action in ("repaired", "dropped", "flagged")}
        for rule, count in of_rule.items()
    }
    rows_of = {
        action: log.filter(pl.col("rule").is_in([rule for rule, what in RULES.items() if what.action == action]))[
            "row"
        ].n_unique()
        for action in ("repaired", "dropped", "flagged")
    }
    assert bars.height + rows_of["dropped"] == judged.height
    return {
        "rows_read": judged.height,
        "kept": bars.height - rows_of["repaired"],
        **rows_of,
        "by_rule": by_rule,
    }


def _unordered(raw: pl.DataFrame) -> int:
    """Rows delivered after a row of their symbol that is later."""
    return raw.select((pl.col("timestamp") < pl.col("timestamp").shift(1).over("symbol")).sum()).item()


def held_symbols(bars: pl.DataFrame, within: int) -> pl.DataFrame:
    """Columns ``symbol``, ``date``: split-sized jumps without an event among the newest ``within`` bars of a symbol.

    ``bars`` follows ``schema.BARS``, sorted. What follows such a jump may be bookkeeping, so nothing is published for
    the symbol until the event is recorded or the jump is older.
    """
    newest = bars.filter(pl.int_range(pl.len(), 0, -1).over("symbol") <= within)
    jumped = newest.filter(pl.col("flags").str.split(",").list.contains("split_sized_jump"))
    return jumped.select("symbol", date=pl.col("timestamp").dt.date())


@dataclass(frozen=True)
class Difference:
    """What fetched bars say that the stored ones do not: both frames hold fetched bars (``schema.BARS``).

    ``new`` are those whose keys are not stored, ``moved`` those that say something else than the stored bar of their
    key.
    """

    new: pl.DataFrame
    moved: pl.DataFrame


#: Volumes are corrected for days after the close by fractions of a percent; only more is a restatement.
VOLUME_TOLERANCE = 5e-3


def compare(stored: pl.DataFrame, fetched: pl.DataFrame, tolerance: float = 1e-4) -> Difference:
    """What ``fetched`` says otherwise than ``stored``, both ``schema.BARS``.

    A bar has moved where a price differs by more than ``tolerance`` or its volume by more than ``VOLUME_TOLERANCE``,
    relative, or where flags or listing differ. A stored bar that was not fetched is no difference: a source that
    answers short, or forgets, restates nothing.
    """
    key = ["symbol", "timestamp"]
    new = fetched.join(stored, on=key, how="anti", maintain_order="left")
    both = stored.join(fetched, on=key, how="inner", suffix="_now")
    moved = pl.any_horizontal(
        *[_apart(name, tolerance) for name in OHLC],
        _apart("volume", VOLUME_TOLERANCE),
        *[pl.col(name).ne_missing(pl.col(f"{name}_now")) for name in ("flags", "listing")],
    )
    return Difference(new, fetched.join(both.filter(moved), on=key, how="semi", maintain_order="left"))


def _apart(name: str, tolerance: float) -> pl.Expr:
    """The two values differ by more than ``tolerance`` of the stored one; a value that came or went differs."""
    before, now = pl.col(name), pl.col(f"{name}_now")
    apart = (now - before).abs() > tolerance * before.abs()
    return pl.when(before.is_null() | now.is_null()).then(before.is_null() != now.is_null()).otherwise(apart)

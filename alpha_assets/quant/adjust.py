"""Adjustment for splits and dividends, both ways: as traded, as adjusted by a vendor, as known on any date.

Adjustment is multiplicative, the convention of QuantConnect's factor files (tested against them) and of Yahoo. With
as-traded prices P, new shares per old R and a dividend d per new share on the same ex-date, the price that continues
P_prev, the last close before the ex-date, is P_prev / R − d. So the factor of an ex-date is (P_prev / R − d) / P_prev,
which is 1 / R for a split and 1 − d / P_prev for a dividend alone, and a bar of session D as of A has the product of
the factors of every ex-date with D < ex-date ≤ A. Events between the same two bars chain: the second one starts from
the price that the first one left. Volume is multiplied by the splits' R only.

Factors never cross a cut: where the bars have a ``listing``, an action acts on the bars of the listing that its ex-date
falls into, and one without an earlier bar there acts on nothing.

**An action that cannot be** (a split ratio that is not positive, a negative dividend, one that is not below the price
it is paid from) fails its symbol and no other: nothing raises, the bars before it come back without prices (null;
without volume too where it is a split), and ``impossible_actions`` names it, so that the caller can quarantine the
symbol.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from alpha_assets.quant.calendars import bar_sessions
from alpha_assets.quant.schema import ACTIONS, DIVIDEND, OHLC, SPLIT

#: ``key`` numbers the listings: nothing here crosses them, and an integer is joined faster than two columns.
_SYMBOL_STEP = 2**32


def adjusted(
    bars: pl.DataFrame,
    actions: pl.DataFrame,
    as_of: date | None = None,
    dividends: bool = True,
    *,
    interval: str = "1d",
    calendars: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """As-traded ``bars`` with prices adjusted for splits and dividends, and volume for splits, as known on ``as_of``.

    ``bars`` has symbol, timestamp, any of open, high, low, close, volume (close where dividends count) and perhaps
    ``listing``; other columns, the order of the rows and of the columns stay. Sessions after ``as_of`` are left out and
    actions with a later ex-date ignored: the answer is what this function would have said that evening. None:
    everything handed in. ``dividends=False`` adjusts for splits only. ``interval`` and ``calendars`` say how intraday
    bars find their session.
    """
    rows = _with_session(bars, interval, calendars)
    if as_of is not None:
        rows, actions = rows.filter(pl.col("session") <= as_of), actions.filter(pl.col("ex_date") <= as_of)
    if not dividends:
        actions = actions.filter(pl.col("kind") == SPLIT)
    return _adjusted(rows, _chained(rows, actions), bars.columns)


def adjusted_where_possible(
    bars: pl.DataFrame, actions: pl.DataFrame, interval: str = "1d", calendars: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``adjusted`` without the symbols of ``impossible_actions``, and these actions; both in one pass."""
    rows = _with_session(bars, interval, calendars)
    chained = _chained(rows, actions)
    wrong = _impossible(chained, actions)
    done = _adjusted(rows, chained, bars.columns)
    return done.filter(~pl.col("symbol").is_in(wrong["symbol"].unique().implode())), wrong


def _adjusted(rows: pl.DataFrame, chained: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    factors = chained.with_columns(
        price_factor=pl.col("price_step").cum_prod(reverse=True).over("key"),
        volume_factor=pl.col("ratio").cum_prod(reverse=True).over("key"),
    )
    return _scaled(rows, factors, columns)


def carried(
    bars: pl.DataFrame, actions: pl.DataFrame, interval: str = "1d", calendars: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """As-traded ``bars`` with what one unit, held from the bar before into this one, has become at its open.

    ``growth``: units, after splits and with every dividend put back in at the price that it leaves, P_prev / R − d;
    so open × growth over the close before is the total return, and a product of them that of ``adjusted`` prices. 1
    where nothing happens and at the first bar of a listing, NaN where an action cannot be. ``paid``: the cash that the
    unit was paid meanwhile. Columns and order stay; nothing depends on bars before the last one or after this one.
    """
    rows = _with_session(bars, interval, calendars)
    firsts = rows.select("key", "session", at="row").unique(["key", "session"], keep="first", maintain_order=True)
    paid = (pl.col("dividend") * pl.col("ratio").cum_prod().over("between")).cum_sum().over("between")
    moved = (
        _chained(rows, actions)
        .with_columns(paid=pl.when(pl.col("previous_close").is_null()).then(0.0).otherwise(paid))
        .sort("ex_date")
        .join_asof(
            firsts.sort("session"),
            left_on="ex_date",
            right_on="session",
            by="key",
            strategy="forward",
            check_sortedness=False,
        )
        .drop_nulls("at")
        .group_by("at", maintain_order=True)
        .agg(growth=(1.0 / pl.col("price_step")).product(), paid=pl.col("paid").last())
    )
    return (
        rows.join(moved, left_on="row", right_on="at", how="left")
        .sort("row")
        .select(*bars.columns, pl.col("growth").fill_null(1.0), pl.col("paid").fill_null(0.0))
    )


def as_traded(
    bars: pl.DataFrame, actions: pl.DataFrame, interval: str = "1d", calendars: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Bars that a vendor adjusted for every split of ``actions`` (not for dividends), back to what was traded.

    Yahoo's ``close`` and ``volume`` are such: hand in every split since, those after the last bar included. Columns and
    order stay.
    """
    rows = _with_session(bars, interval, calendars)
    ratio = pl.col("ratio").cum_prod(reverse=True).over("key")
    chained = _by_ex_date(rows, actions.filter(pl.col("kind") == SPLIT)).with_columns(
        price_factor=ratio, volume_factor=1.0 / ratio
    )
    return _scaled(rows, chained, bars.columns)


def from_adjusted(
    bars: pl.DataFrame, actions: pl.DataFrame, interval: str = "1d", calendars: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Bars that a vendor adjusted for every split and dividend of ``actions``, as traded: inverts ``adjusted``.

    With A the adjusted close before an ex-date, R its split ratio and d its dividend as paid, the divisors G = 1 /
    factor obey G_i = R_i (G_{i+1} + d_i / A_i) from the newest (G = 1) to the oldest; with C_i = R_i R_{i+1} … that is
    G_i = C_i (1 + Σ_{j ≥ i} d_j / (A_j C_{j+1})), which needs no loop.
    """
    rows = _with_session(bars, interval, calendars)
    splits = pl.col("ratio").cum_prod(reverse=True).over("key")
    paid = (pl.col("dividend") * pl.col("ratio") / (pl.col("previous_close") * pl.col("splits"))).fill_null(0.0)
    chained = (
        _with_previous_close(rows, _by_ex_date(rows, actions))
        .with_columns(splits=splits)
        .with_columns(price_factor=pl.col("splits") * (1.0 + paid.cum_sum(reverse=True).over("key")))
        .with_columns(volume_factor=1.0 / pl.col("splits"))
    )
    return _scaled(rows, chained, bars.columns)


def dividends_as_paid(actions: pl.DataFrame) -> pl.DataFrame:
    """Actions whose dividends are quoted in today's shares (Yahoo) with each dividend as it was paid.

    That is the dividend times the ratios of all splits with a later ex-date; one on the ex-date of a split is already
    per new share.
    """
    later = (
        actions.filter(pl.col("kind") == SPLIT)
        .group_by("symbol", "ex_date")
        .agg(ratio=_ratio(pl.col("value")).product())
        .sort("symbol", "ex_date")
        .with_columns(later_splits=pl.col("ratio").cum_prod(reverse=True).over("symbol"))
        .drop("ratio")
    )
    value = pl.when(pl.col("kind") == DIVIDEND).then(pl.col("value") * pl.col("later_splits").fill_null(1.0))
    return (
        actions.with_row_index("row")
        .sort("ex_date")
        .join_asof(
            later.sort("ex_date"),
            on="ex_date",
            by="symbol",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .sort("row")
        .with_columns(value=value.otherwise(pl.col("value")))
        .select(actions.columns)
    )


def impossible_actions(
    bars: pl.DataFrame, actions: pl.DataFrame, interval: str = "1d", calendars: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """The actions that cannot be: columns of ACTIONS, ``previous_close`` (what they meet) and ``reason`` (a sentence).

    ``bars`` are as traded. Empty where ``adjusted`` has a factor for every bar.
    """
    return _impossible(_chained(_with_session(bars, interval, calendars), actions), actions)


def _impossible(chained: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    met = chained.select("symbol", "ex_date", "previous_close", "left")
    kind, day, value = pl.col("kind"), pl.col("ex_date"), pl.col("value")
    text = value.cast(pl.String).fill_null("missing")
    no_ratio = (kind == SPLIT) & ~_is_ratio(value)
    no_payment = (kind == DIVIDEND) & ~_is_payment(value)
    too_much = (kind == DIVIDEND) & (pl.col("left") <= 0.0)
    reason = (
        pl.when(no_ratio)
        .then(pl.format("{}: the split of {} has the ratio {}, which is not a positive number", "symbol", day, text))
        .when(no_payment)
        .then(pl.format("{}: the dividend of {} is {}, which is not a positive number", "symbol", day, text))
        .when(too_much)
        .then(
            pl.format(
                "{}: the dividend of {} ({}) is not below the last close before it ({})",
                "symbol",
                day,
                text,
                "previous_close",
            )
        )
    )
    return (
        actions.join(met, on=["symbol", "ex_date"], how="left")
        .with_columns(reason=reason)
        .filter(pl.col("reason").is_not_null())
        .select(*ACTIONS, "previous_close", "reason")
    )


def _with_session(bars: pl.DataFrame, interval: str, calendars: Mapping[str, str] | None) -> pl.DataFrame:
    """``bars`` with the row's number, its session and the ``key`` of its listing, in order of sessions a key."""
    listing = pl.col("listing").fill_null(date.min) if "listing" in bars.columns else pl.lit(date.min)
    symbol = pl.col("symbol").cast(pl.Categorical).to_physical().cast(pl.Int64)
    rows = bars.with_row_index("row").with_columns(listing=listing, key=symbol * _SYMBOL_STEP + listing.to_physical())
    rows = rows.with_columns(bar_sessions(rows, interval, calendars or {}))
    return rows if _in_order(rows) else rows.sort("session", "timestamp")


def _in_order(rows: pl.DataFrame) -> bool:
    """True where each key is one run of rows that ascends: a sort of the whole frame is most of the work otherwise."""
    begins = (pl.col("key") != pl.col("key").shift(1)).fill_null(True)
    ascends = pl.col("session") >= pl.col("session").shift(1)
    runs = begins.sum() == pl.col("key").n_unique()
    return bool(rows.select(runs & (begins | ascends).all()).item())


def _by_ex_date(rows: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """One line an ex-date and key, in order: ``ratio`` (NaN where impossible) and ``dividend`` per new share."""
    listings = rows.select("symbol", "key", starts="listing").unique("key").sort("starts")
    split = pl.col("kind") == SPLIT
    return (
        actions.filter(pl.col("kind").is_in([SPLIT, DIVIDEND]))
        .group_by("symbol", "ex_date")
        .agg(
            ratio=_ratio(pl.col("value").filter(split)).product(),
            dividend=_dividend(pl.col("value").filter(~split)).sum(),
        )
        .sort("ex_date")
        .join_asof(listings, left_on="ex_date", right_on="starts", by="symbol", check_sortedness=False)
        .filter(pl.col("key").is_not_null())
        .sort("key", "ex_date")
        .select("symbol", "key", "ex_date", "ratio", "dividend")
    )


def _is_ratio(value: pl.Expr) -> pl.Expr:
    return ((value > 0.0) & value.is_finite()).fill_null(False)


def _is_payment(value: pl.Expr) -> pl.Expr:
    return ((value >= 0.0) & value.is_finite()).fill_null(False)


def _ratio(value: pl.Expr) -> pl.Expr:
    return pl.when(_is_ratio(value)).then(value).otherwise(float("nan"))


def _dividend(value: pl.Expr) -> pl.Expr:
    return pl.when(_is_payment(value)).then(value).otherwise(float("nan"))


def _with_previous_close(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """``events`` with ``previous_close`` and ``previous_session``: the last bar of their listing before the ex-date."""
    priced = rows.filter(pl.col("close") > 0.0, pl.col("close").is_finite())
    return events.join_asof(
        priced.select("key", "session", previous_session="session", previous_close="close"),
        left_on="ex_date",
        right_on="session",
        by="key",
        allow_exact_matches=False,
        check_sortedness=False,
    )


def _chained(rows: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """``_by_ex_date`` with ``price_step``, each factor (NaN: impossible), and ``left``, the price it leaves."""
    splits = pl.col("ratio").cum_prod().over("between")
    paid = (pl.col("dividend") * splits).cum_sum().over("between")
    first = (pl.col("between") != pl.col("between").shift(1)).fill_null(True)
    before = pl.when(first).then(pl.col("previous_close")).otherwise(pl.col("left").shift(1))
    step = pl.when(pl.col("left") > 0.0).then(pl.col("left") / before).otherwise(float("nan"))
    return (
        _with_previous_close(rows, _by_ex_date(rows, actions))
        .with_columns(between=pl.struct("key", "previous_session").rle_id())
        .with_columns(left=(pl.col("previous_close") - paid) / splits)
        .with_columns(price_step=pl.when(pl.col("previous_close").is_null()).then(1.0).otherwise(step))
    )


def _scaled(rows: pl.DataFrame, chained: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """``rows`` times the factors of the next ex-date after their session; NaN (impossible) becomes null."""
    price, volume = (pl.col(name).fill_null(1.0).fill_nan(None) for name in ("price_factor", "volume_factor"))
    scaled = rows.join_asof(
        chained.select("key", "ex_date", "price_factor", "volume_factor"),
        left_on="session",
        right_on="ex_date",
        by="key",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).with_columns(
        *(pl.col(name) * price for name in OHLC if name in columns),
        *(pl.col(name) * volume for name in ("volume",) if name in columns),
    )
    return scaled.sort("row").select(columns)

"""Adjustment as laws over drawn markets, and against a vendor's own factors on twenty years of real bars.

The drawn markets hold what breaks adjustment in life: rows in any order, two listings under one symbol, actions on days
without a bar, several between the same two bars, a split and a dividend on one day, actions before the first bar and
after the last.
"""

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import (
    adjusted,
    adjusted_where_possible,
    as_traded,
    carried,
    dividends_as_paid,
    from_adjusted,
    impossible_actions,
)
from alpha_assets.quant.calendars import sessions
from alpha_assets.quant.schema import ACTIONS, DIVIDEND, OHLC, OHLCV, RAW_BARS, SPLIT, TIME, empty

DAY_ZERO = date(2020, 1, 1)
DAYS = [DAY_ZERO + timedelta(days=n) for n in range(30)]
PRICES = st.floats(50.0, 150.0)
LAWS = settings(max_examples=50, deadline=None)


def bars_of(rows: list[tuple[str, date, float, float, date | None]]) -> pl.DataFrame:
    """Bars from (symbol, session, close, volume, listing); the other prices are fixed parts of the close."""
    frame = pl.DataFrame(
        rows,
        schema={"symbol": pl.String, "day": pl.Date, "close": pl.Float64, "volume": pl.Float64, "listing": pl.Date},
        orient="row",
    )
    return frame.select(
        "symbol",
        timestamp=pl.col("day").cast(TIME),
        open=pl.col("close") * 0.99,
        high=pl.col("close") * 1.02,
        low=pl.col("close") * 0.97,
        close="close",
        volume="volume",
        listing="listing",
    )


def actions_of(*rows: tuple[str, date, str, float | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(ACTIONS), orient="row")


@st.composite
def markets(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """As-traded bars of two symbols, in any order, the first cut into two listings or not, and their actions."""
    rows: list[tuple[str, date, float, float, date | None]] = []
    for symbol in ("A", "B"):
        days = sorted(draw(st.sets(st.sampled_from(DAYS[3:27]), min_size=1, max_size=12)))
        cut = draw(st.sampled_from([days[0], draw(st.sampled_from(days))]))
        for day in days:
            rows.append((symbol, day, draw(PRICES), draw(PRICES), cut if day >= cut else days[0]))
    split = st.tuples(st.just(SPLIT), st.sampled_from([2.0, 1.999996, 0.05, 1.0027, 7.0, 1.5]))
    # A reverse split of 1:20 and 7:1 splits leave prices between 50 / 7 ** n and 3,000: dividends stay below them.
    dividend = st.tuples(st.just(DIVIDEND), st.just(0.0) | st.floats(1e-6, 1e-3))
    what = st.one_of(split, dividend, dividend)
    events = draw(
        st.dictionaries(
            st.tuples(st.sampled_from(["A", "B"]), st.sampled_from(DAYS), st.sampled_from([SPLIT, DIVIDEND])),
            what,
            max_size=8,
        )
    )
    actions = actions_of(
        *{
            (symbol, day, kind): (symbol, day, kind, value) for (symbol, day, _), (kind, value) in events.items()
        }.values()
    )
    return bars_of(draw(st.permutations(rows))), actions


def slow_adjusted(bars: pl.DataFrame, actions: pl.DataFrame, as_of: date) -> list[tuple[float, float]]:
    """(close, volume) of every bar, by the definition: from event to event, one price at a time."""
    held = list(bars.iter_rows(named=True))
    answer = []
    for bar in held:
        mine = [row for row in held if (row["symbol"], row["listing"]) == (bar["symbol"], bar["listing"])]
        later_cuts = [r["listing"] for r in held if r["symbol"] == bar["symbol"] and r["listing"] > bar["listing"]]
        end = min([as_of, *(cut - timedelta(days=1) for cut in later_cuts)])
        price, volume = bar["close"], bar["volume"]
        day, last_price, last_day = bar["timestamp"].date(), None, None
        by_day: dict[date, list[dict[str, object]]] = {}
        for action in actions.iter_rows(named=True):
            if action["symbol"] == bar["symbol"] and day < action["ex_date"] <= end:
                by_day.setdefault(action["ex_date"], []).append(action)
        for ex_date in sorted(by_day):
            before = max((row for row in mine if row["timestamp"].date() < ex_date), key=lambda row: row["timestamp"])
            if before["timestamp"] != last_day:
                last_day, last_price = before["timestamp"], before["close"]
            ratio = math.prod(a["value"] for a in by_day[ex_date] if a["kind"] == SPLIT)  # type: ignore[misc]
            paid = sum(a["value"] for a in by_day[ex_date] if a["kind"] == DIVIDEND)  # type: ignore[misc]
            left = last_price / ratio - paid
            price, volume, last_price = price * left / last_price, volume * ratio, left
        answer.append((price, volume))
    return answer


def close_to(left: pl.DataFrame, right: pl.DataFrame) -> None:
    assert_frame_equal(left, right, check_exact=False, rel_tol=1e-9, abs_tol=0.0)


def splits_of(actions: pl.DataFrame) -> pl.DataFrame:
    return actions.filter(pl.col("kind") == SPLIT)


@LAWS
@given(markets(), st.sampled_from(DAYS))
def test_every_factor_is_the_product_of_the_steps_between_the_bar_and_the_date(
    market: tuple[pl.DataFrame, pl.DataFrame], as_of: date
) -> None:
    bars, actions = market
    known = bars.filter(pl.col("timestamp").dt.date() <= as_of)
    # A listing that starts after the date is known to nobody then, so the oracle is asked with what was known.
    expected = slow_adjusted(known, actions, as_of)
    found = adjusted(bars, actions, as_of)
    assert found.select("symbol", "timestamp").equals(known.select("symbol", "timestamp"))
    for row, (price, volume) in zip(found.iter_rows(named=True), expected, strict=True):
        assert row["close"] == pytest.approx(price, rel=1e-9)
        assert row["volume"] == pytest.approx(volume, rel=1e-9)


@LAWS
@given(markets())
def test_what_a_unit_becomes_from_bar_to_bar_is_the_step_of_adjusted_prices(
    market: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    bars, actions = market
    key = ["symbol", "listing"]
    total = adjusted(bars, actions).select(*key, "timestamp", adjusted="close")
    grown = carried(bars, actions).join(total, on=[*key, "timestamp"]).sort("symbol", "timestamp")
    step = grown.select(
        by_unit=pl.col("close") * pl.col("growth") / pl.col("close").shift(1).over(key),
        by_price=pl.col("adjusted") / pl.col("adjusted").shift(1).over(key),
    ).drop_nulls()
    close_to(step.select(price="by_unit"), step.select(price="by_price"))


def test_a_unit_is_paid_for_the_units_that_it_has_become() -> None:
    days = [date(2024, 1, 2), date(2024, 1, 4)]
    bars = bars_of([("A", day, 100.0, 10.0, days[0]) for day in days])
    actions = actions_of(("A", date(2024, 1, 3), SPLIT, 4.0), ("A", date(2024, 1, 4), DIVIDEND, 5.0))
    assert carried(bars, actions).select("growth", "paid").rows() == [(1.0, 0.0), (pytest.approx(4 * 25 / 20), 20.0)]


@LAWS
@given(markets())
def test_one_factor_scales_the_four_prices_of_a_bar_and_nothing_else_changes(
    market: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    bars, actions = market
    found = adjusted(bars, actions)
    assert found.columns == bars.columns
    assert found.select("symbol", "timestamp", "listing").equals(bars.select("symbol", "timestamp", "listing"))
    factors = [found[name] / bars[name] for name in OHLC]
    for factor in factors[1:]:
        assert ((factor / factors[0] - 1.0).abs() < 1e-12).all()


@LAWS
@given(markets())
def test_as_traded_undoes_the_splits_that_adjusted_puts_in_and_the_other_way_round(
    market: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    bars, actions = market
    close_to(as_traded(adjusted(bars, actions, dividends=False), actions), bars)
    close_to(adjusted(as_traded(bars, actions), actions, dividends=False), bars)


@LAWS
@given(markets())
def test_prices_that_a_vendor_adjusted_come_back_as_traded(market: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    bars, actions = market
    close_to(from_adjusted(adjusted(bars, actions), actions), bars)


@LAWS
@given(markets(), st.sampled_from(DAYS))
def test_what_happens_after_a_date_is_not_used_as_of_it(market: tuple[pl.DataFrame, pl.DataFrame], as_of: date) -> None:
    bars, actions = market
    known = adjusted(bars.filter(pl.col("timestamp").dt.date() <= as_of), actions.filter(pl.col("ex_date") <= as_of))
    assert adjusted(bars, actions, as_of).equals(known)


@LAWS
@given(markets(), st.sampled_from(DAYS), st.sampled_from(DAYS))
def test_two_dates_differ_by_one_constant_a_listing_for_the_bars_before_both(
    market: tuple[pl.DataFrame, pl.DataFrame], one: date, other: date
) -> None:
    bars, actions = market
    early, late = sorted((one, other))
    before = adjusted(bars, actions, early)
    after = adjusted(bars, actions, late).filter(pl.col("timestamp").dt.date() <= early)
    ratio = before.select(
        "symbol", "listing", price=after["close"] / before["close"], volume=after["volume"] / before["volume"]
    )
    spread = ratio.group_by("symbol", "listing").agg(
        price=pl.col("price").max() / pl.col("price").min() - 1.0,
        volume=pl.col("volume").max() / pl.col("volume").min() - 1.0,
    )
    assert (spread["price"] < 1e-9).all()
    assert (spread["volume"] < 1e-9).all()


@LAWS
@given(markets())
def test_money_traded_is_the_same_before_and_after_splits(market: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    bars, actions = market
    found = adjusted(bars, actions, dividends=False)
    assert ((found["close"] * found["volume"]) / (bars["close"] * bars["volume"]) - 1.0).abs().max() < 1e-9  # type: ignore[operator]


@LAWS
@given(st.lists(PRICES, min_size=4, max_size=12), st.sampled_from([2.0, 0.05, 7.0, 1.999996]), st.data())
def test_a_split_changes_no_return(values: list[float], ratio: float, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(values) - 1))
    whole = [("A", DAYS[n], price, 1.0, DAYS[0]) for n, price in enumerate(values)]
    split = [("A", DAYS[n], price / ratio if n >= at else price, 1.0, DAYS[0]) for n, price in enumerate(values)]
    found = adjusted(bars_of(split), actions_of(("A", DAYS[at], SPLIT, ratio)))["close"]
    expected = bars_of(whole)["close"]
    assert ((found.pct_change() - expected.pct_change()).abs().fill_null(0.0) < 1e-9).all()


@LAWS
@given(markets())
def test_a_symbol_is_adjusted_alike_alone_and_in_company(market: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    bars, actions = market
    together = adjusted(bars, actions)
    for symbol in ("A", "B"):
        mine = pl.col("symbol") == symbol
        assert adjusted(bars.filter(mine), actions.filter(mine)).equals(together.filter(mine))


@LAWS
@given(markets())
def test_dividends_in_todays_shares_come_back_as_paid(market: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    _, actions = market
    later = {
        (row["symbol"], row["ex_date"]): math.prod(
            split["value"]
            for split in splits_of(actions).iter_rows(named=True)
            if split["symbol"] == row["symbol"] and split["ex_date"] > row["ex_date"]
        )
        for row in actions.iter_rows(named=True)
    }
    today = actions.with_columns(
        value=pl.Series(
            [
                row["value"] / later[row["symbol"], row["ex_date"]] if row["kind"] == DIVIDEND else row["value"]
                for row in actions.iter_rows(named=True)
            ],
            dtype=pl.Float64,
        )
    )
    close_to(dividends_as_paid(today), actions)


def test_a_dividend_on_the_day_of_a_split_is_per_new_share() -> None:
    bars = bars_of([("A", DAYS[0], 100.0, 10.0, None), ("A", DAYS[1], 49.0, 20.0, None)])
    actions = actions_of(("A", DAYS[1], SPLIT, 2.0), ("A", DAYS[1], DIVIDEND, 1.0))
    found = adjusted(bars, actions)
    assert found["close"].to_list() == pytest.approx([49.0, 49.0])
    assert found["volume"].to_list() == pytest.approx([20.0, 20.0])


def test_actions_between_the_same_two_bars_chain() -> None:
    bars = bars_of([("A", DAYS[0], 100.0, 10.0, None), ("A", DAYS[9], 48.0, 20.0, None)])
    actions = actions_of(("A", DAYS[2], SPLIT, 2.0), ("A", DAYS[4], DIVIDEND, 1.0), ("A", DAYS[6], DIVIDEND, 1.0))
    assert adjusted(bars, actions)["close"].to_list() == pytest.approx([48.0, 48.0])


def test_an_action_of_the_new_company_leaves_the_old_one_alone() -> None:
    old, new = DAYS[0], DAYS[9]
    bars = bars_of([("WM", DAYS[0], 0.16, 1.0, old), ("WM", DAYS[9], 28.0, 1.0, new), ("WM", DAYS[10], 28.0, 1.0, new)])
    actions = actions_of(("WM", DAYS[9], DIVIDEND, 0.85), ("WM", DAYS[10], SPLIT, 2.0))
    assert adjusted(bars, actions)["close"].to_list() == [0.16, 14.0, 28.0]
    assert impossible_actions(bars, actions).is_empty()


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (DIVIDEND, 100.0, r"A: the dividend of 2020-01-03 \(100\.0\) is not below the last close before it \(100\.0\)"),
        (DIVIDEND, -1.0, r"A: the dividend of 2020-01-03 is -1\.0, which is not a positive number"),
        (DIVIDEND, None, r"A: the dividend of 2020-01-03 is missing"),
        (SPLIT, 0.0, r"A: the split of 2020-01-03 has the ratio 0\.0, which is not a positive number"),
        (SPLIT, float("inf"), r"A: the split of 2020-01-03 has the ratio inf"),
        (SPLIT, None, r"A: the split of 2020-01-03 has the ratio missing"),
    ],
)
def test_an_action_that_cannot_be_fails_its_symbol_by_name_and_no_other(
    kind: str, value: float | None, reason: str
) -> None:
    rows = [(symbol, DAYS[n], 100.0, 10.0, None) for symbol in ("A", "B") for n in range(5)]
    actions = actions_of(("A", DAYS[2], kind, value), ("B", DAYS[2], DIVIDEND, 1.0))
    found = adjusted(bars_of(rows), actions)
    assert found["close"].to_list() == pytest.approx([None, None, 100, 100, 100, 99, 99, 100, 100, 100])
    assert found["volume"].null_count() == (2 if kind == SPLIT else 0)
    wrong = impossible_actions(bars_of(rows), actions)
    assert wrong.columns == [*ACTIONS, "previous_close", "reason"]
    assert wrong.select("symbol", "ex_date", "previous_close").rows() == [("A", DAYS[2], 100.0)]
    assert wrong["reason"].str.contains(f"^{reason}").all()


@LAWS
@given(markets(), st.sampled_from([None, 0.0, -1.0, 1e12]))
def test_one_pass_gives_the_adjusted_bars_of_the_sound_symbols_and_the_impossible_actions(
    market: tuple[pl.DataFrame, pl.DataFrame], value: float | None
) -> None:
    bars, actions = market
    if actions.height:
        spoilt = pl.int_range(pl.len()) == actions.height // 2
        actions = actions.with_columns(value=pl.when(spoilt).then(pl.lit(value, pl.Float64)).otherwise("value"))
    wrong = impossible_actions(bars, actions)
    sound = bars.filter(~pl.col("symbol").is_in(wrong["symbol"].to_list()))
    at_once, named = adjusted_where_possible(bars, actions)
    assert_frame_equal(at_once, adjusted(sound, actions))
    assert_frame_equal(named, wrong)


@LAWS
@given(markets())
def test_where_no_action_is_impossible_every_bar_has_a_price(market: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    bars, actions = market
    assert impossible_actions(bars, actions).is_empty()
    assert adjusted(bars, actions).null_count().sum_horizontal().item() == 0


def test_the_price_before_an_ex_date_is_the_last_one_that_is_a_price() -> None:
    bars = bars_of([("A", DAYS[0], 100.0, 1.0, None), ("A", DAYS[1], 0.0, 1.0, None), ("A", DAYS[3], 99.0, 1.0, None)])
    bars = bars.with_columns(close=pl.when(pl.col("close") > 0).then("close"))
    found = adjusted(bars, actions_of(("A", DAYS[2], DIVIDEND, 1.0)))["close"]
    assert found.to_list() == [99.0, None, 99.0]


@pytest.mark.parametrize("interval", ["1d", "1h"])
def test_nothing_to_adjust_stays_nothing(interval: str) -> None:
    none = empty(RAW_BARS)
    assert adjusted(none, empty(ACTIONS), interval=interval).equals(none)
    assert as_traded(none, empty(ACTIONS), interval).equals(none)
    assert from_adjusted(none, empty(ACTIONS), interval).equals(none)
    assert dividends_as_paid(empty(ACTIONS)).equals(empty(ACTIONS))
    one = bars_of([("A", DAYS[0], 100.0, 10.0, None)]).drop("listing")
    assert adjusted(one, empty(ACTIONS)).equals(one)


def test_an_intraday_bar_is_adjusted_by_its_session_not_by_its_utc_date() -> None:
    """Sydney opens at 23:00 UTC of the day before in summer: a split of the session holds from that bar on."""
    starts = [
        datetime(2024, 1, 9, 4, tzinfo=UTC),
        datetime(2024, 1, 9, 23, tzinfo=UTC),
        datetime(2024, 1, 10, 1, tzinfo=UTC),
    ]
    bars = pl.DataFrame(
        {
            "symbol": "BHP.AX",
            "timestamp": starts,
            **{name: [100.0, 50.0, 50.0] for name in OHLC},
            "volume": [1.0, 2.0, 2.0],
        },
        schema=dict(RAW_BARS),
    )
    actions = actions_of(("BHP.AX", date(2024, 1, 10), SPLIT, 2.0))
    found = adjusted(bars, actions, interval="1h")
    assert found["close"].to_list() == [50.0, 50.0, 50.0]
    close_to(as_traded(found, actions, "1h"), bars)
    mixed = pl.concat([bars.with_columns(symbol=pl.lit("X")), bars])
    both = adjusted(mixed, actions, interval="1h", calendars={"X": "24/7"})
    assert both["close"].to_list() == [100.0, 50.0, 50.0, 50.0, 50.0, 50.0]


def test_a_dividend_of_an_intraday_market_counts_from_the_last_bar_of_the_session_before() -> None:
    starts = [datetime(2024, 1, day, 14, 30, tzinfo=UTC) + timedelta(hours=h) for day in (9, 10) for h in (0, 6)]
    closes = [90.0, 100.0, 98.0, 97.0]
    bars = pl.DataFrame(
        {"symbol": "A", "timestamp": starts, **dict.fromkeys(OHLC, closes), "volume": [1.0] * 4}, schema=dict(RAW_BARS)
    )
    found = adjusted(bars, actions_of(("A", date(2024, 1, 10), DIVIDEND, 2.0)), interval="1h")
    assert found["close"].to_list() == pytest.approx([90.0 * 0.98, 98.0, 98.0, 97.0])


# Real bars: QuantConnect's as-traded US bars with the splits, dividends and adjusted closes of its factor files.

#: The factor file of BAC is NationsBank's, which took the ticker on 1998-10-01 (map file: "nb" until 1998-09-30); the
#: bars before are the old BankAmerica's, with no gap between the two: a listing that only a mapping event shows.
MAPPED_CUTS = {"BAC": date(1998, 10, 1)}
#: Listings under whose bars the factor file of another company lies, so that its adjusted closes are not theirs.
OF_ANOTHER_COMPANY = {("BAC", date(1998, 1, 2)), ("WM", date(1998, 12, 9))}


@pytest.fixture(scope="module")
def lean(shared_data: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bars with ``adj_close``, cut into listings by gaps over 60 sessions and the map files; their actions."""
    raw = pl.read_parquet(shared_data / "lean_us_daily_raw.parquet").sort("symbol", "timestamp")
    mapped = pl.any_horizontal((pl.col("symbol") == s) & (pl.col("timestamp") == day) for s, day in MAPPED_CUTS.items())
    gap = pl.col("number").diff().over("symbol").fill_null(61)
    days = sessions("XNYS", raw["timestamp"].min(), raw["timestamp"].max())  # type: ignore[arg-type]
    bars = (
        raw.with_columns(number=days.search_sorted(raw["timestamp"]).cast(pl.Int64))
        .with_columns(listing=pl.when((gap > 60) | mapped).then("timestamp").forward_fill().over("symbol"))
        .with_columns(pl.col("timestamp").cast(TIME))
        .select("symbol", "timestamp", *OHLCV, "listing", "adj_close")
    )
    events = [
        raw.filter(pl.col(column) != 0.0).select("symbol", ex_date="timestamp", kind=pl.lit(kind), value=column)
        for column, kind in (("splits", SPLIT), ("dividends", DIVIDEND))
    ]
    return bars, pl.concat(events)


def reference_prices(shared_data: Path, symbol: str) -> dict[date, float]:
    """The close before each event that the factor file itself was made from."""
    rows = json.loads((shared_data / "lean_factor_map_files.json").read_text())["factor_files"][symbol.lower()]
    return {datetime.strptime(row[0], "%Y%m%d").date(): float(row[3]) for row in rows[1:-1]}


def test_adjusted_closes_as_of_the_last_date_are_the_vendors_own(lean: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """Newest listings to 1e-4 as they are; older ones up to one constant: the vendor carries factors across the cut."""
    bars, actions = lean
    found = adjusted(bars, actions).filter(pl.col("adj_close").is_not_null())
    listings = found.group_by("symbol", "listing", maintain_order=True).agg(
        rows=pl.len(),
        empty=pl.col("close").null_count(),
        low=(pl.col("close") / pl.col("adj_close")).min(),
        high=(pl.col("close") / pl.col("adj_close")).max(),
        newest=pl.col("timestamp").max(),
    )
    assert found["symbol"].n_unique() == 15
    assert listings["empty"].sum() == 0
    foreign = pl.struct("symbol", "listing").map_elements(
        lambda key: tuple(key.values()) in OF_ANOTHER_COMPANY, pl.Boolean
    )
    ours = listings.filter(~foreign)
    assert listings.height - ours.height == len(OF_ANOTHER_COMPANY)
    assert ours["rows"].sum() == 65_727 - 188 - 2_465
    assert (ours["high"] / ours["low"] - 1.0).max() < 1e-4  # type: ignore[operator]
    # NWSA's two bars of 2013 lie before every row that its factor file, the new News Corp's, has: a constant there too.
    newest = ours.filter(pl.col("newest") == pl.col("newest").max().over("symbol"), pl.col("symbol") != "NWSA")
    assert newest["symbol"].n_unique() == 14
    assert (newest["low"] - 1.0).abs().max() < 1e-4  # type: ignore[operator]
    assert (newest["high"] - 1.0).abs().max() < 1e-4  # type: ignore[operator]


@pytest.mark.parametrize(("symbol", "listing"), sorted(OF_ANOTHER_COMPANY))
def test_the_listings_left_out_were_adjusted_from_closes_that_are_not_theirs(
    lean: tuple[pl.DataFrame, pl.DataFrame], shared_data: Path, symbol: str, listing: date
) -> None:
    bars, _ = lean
    reference = reference_prices(shared_data, symbol)
    closes = bars.filter(pl.col("symbol") == symbol).select(pl.col("timestamp").dt.date(), "close", "listing")
    off = {
        mine: [
            abs(row[1] / reference[row[0]] - 1.0)
            for row in closes.iter_rows()
            if row[0] in reference and (row[2] == listing) == mine
        ]
        for mine in (True, False)
    }
    assert min(off[True]) > 0.01
    assert sorted(off[False])[len(off[False]) // 2] < 0.001


def test_without_the_cut_between_two_companies_waste_managements_dividend_is_refused(
    lean: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    bars, actions = lean
    wrong = impossible_actions(bars.drop("listing"), actions)
    assert wrong.select("symbol", "ex_date", "value", "previous_close").rows() == [
        ("WM", date(2009, 8, 5), pytest.approx(0.85), 0.16)
    ]
    assert impossible_actions(bars, actions).is_empty()


def test_the_day_before_its_2014_split_apple_is_what_was_known_that_day(
    lean: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    bars, actions = lean
    apple, of_apple = bars.filter(pl.col("symbol") == "AAPL"), actions.filter(pl.col("symbol") == "AAPL")
    eve, day = date(2014, 6, 6), date(2014, 6, 9)
    known = adjusted(apple, of_apple, eve)
    traded = apple.filter(pl.col("timestamp").dt.date() <= eve)
    assert known["timestamp"].max() == datetime(2014, 6, 6, tzinfo=UTC)
    # Nothing lies between the last dividend and the eve: these bars are as traded, some 645 dollars, volume too.
    last_dividend = date(2014, 5, 8)
    recent = pl.col("timestamp").dt.date() >= last_dividend
    assert known.filter(recent).equals(traded.filter(recent))
    assert known["close"][-1] == pytest.approx(645.57, abs=0.5)
    # Before, the vendor's factors divided by the one that was in force on the eve: what a factor file of that day held.
    in_force = traded["adj_close"][-1] / traded["close"][-1]
    assert in_force == pytest.approx(1 / 28, rel=0.2)
    assert ((known["close"] / (traded["adj_close"] / in_force) - 1.0).abs() < 1e-4).all()
    # The morning after, the same bars are a seventh and seven times the volume.
    after = adjusted(apple, of_apple, day).filter(pl.col("timestamp").dt.date() <= eve)
    assert ((known["close"] / after["close"] / 7.0 - 1.0).abs() < 1e-4).all()
    assert ((after["volume"] / known["volume"].replace(0.0, 1.0) / 7.0 - 1.0).abs() < 1e-4).all()


def test_splits_back_to_as_traded_on_every_real_bar(lean: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    bars, actions = lean
    close_to(as_traded(adjusted(bars, actions, dividends=False), actions), bars)
    close_to(from_adjusted(adjusted(bars, actions), actions), bars)

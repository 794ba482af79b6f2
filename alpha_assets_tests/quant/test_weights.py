"""A label weighs what it alone tells: by how long nobody else of its symbol held, and by how long ago that was."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.weights import recency, sample_weights, uniqueness

START = datetime(2020, 1, 1, tzinfo=UTC)

Span = tuple[str, int, int]  # symbol, first hour held, first hour no longer held


def held(*spans: Span) -> pl.DataFrame:
    """Labels by the hours they are held, decided an hour before."""
    return pl.DataFrame(
        {
            "symbol": [symbol for symbol, _, _ in spans],
            "timestamp": _hours([first - 1 for _, first, _ in spans]),
            "label_start": _hours([first for _, first, _ in spans]),
            "held_until": _hours([end for _, _, end in spans]),
        },
        schema_overrides={"symbol": pl.String},
    )


def _hours(numbers: Sequence[int]) -> pl.Series:
    return pl.Series([START + timedelta(hours=number) for number in numbers], dtype=TIME)


def by_hand(spans: Sequence[Span]) -> list[float]:
    """Hour by hour: the mean over a label's hours of one over the labels of its symbol in that hour."""
    found = []
    for symbol, first, end in spans:
        shares = [
            Fraction(1, sum(own == symbol and one <= hour < other for own, one, other in spans))
            for hour in range(first, end)
        ]
        found.append(float(sum(shares) / (end - first)))
    return found


several = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 40), st.integers(1, 12)).map(
        lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
    ),
    min_size=1,
    max_size=25,
)


# -- uniqueness -------------------------------------------------------------------------------------------------------


def test_uniqueness_of_four_labels_on_paper() -> None:
    # hours 0 1 2 3 4 5 6 7 8: the first is alone for 2 of 4, the second shares 2 of 4, the third is alone
    spans = held(("A", 0, 4), ("A", 2, 6), ("A", 7, 9), ("B", 0, 9))
    assert uniqueness(spans).to_list() == [(2 + 2 * 0.5) / 4, (2 * 0.5 + 2) / 4, 1.0, 1.0]


@given(spans=several)
def test_uniqueness_is_that_of_a_count_hour_by_hour(spans: list[Span]) -> None:
    assert uniqueness(held(*spans)).to_list() == pytest.approx(by_hand(spans), rel=1e-12)


@settings(max_examples=40)
@given(spans=several, seed=st.integers(0, 10**6))
def test_neither_order_nor_other_symbols_change_a_bit_of_it(spans: list[Span], seed: int) -> None:
    rows = held(*spans).with_columns(place=pl.int_range(pl.len()))
    whole = uniqueness(rows)
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=seed)
    assert uniqueness(shuffled).to_list() == whole.gather(shuffled["place"]).to_list()
    for (symbol,), own in rows.group_by("symbol"):
        assert uniqueness(own).to_list() == whole.filter(rows["symbol"] == symbol).to_list()


@settings(max_examples=20)
@given(horizon=st.integers(1, 10), count=st.integers(30, 60))
def test_labels_of_so_many_bars_at_every_bar_count_as_those_that_do_not_overlap(horizon: int, count: int) -> None:
    labels = open_to_open(daily(count), horizon).drop_nulls("label_return")
    weights = uniqueness(labels)
    within = weights[horizon - 1 : labels.height - horizon + 1]
    assert within.len() > 0
    assert within.to_list() == pytest.approx([1 / horizon] * within.len())
    assert weights.sum() == pytest.approx((labels.height + horizon - 1) / horizon)
    apart = labels.gather_every(horizon)
    assert uniqueness(apart).to_list() == [1.0] * apart.height


def daily(count: int) -> pl.DataFrame:
    stamps = pl.Series([START + timedelta(days=day) for day in range(count)], dtype=TIME)
    price = pl.Series(50 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, count))))
    return pl.DataFrame({"timestamp": stamps, "open": price, "close": price}).with_columns(
        symbol=pl.lit("SYM"),
        listing=pl.lit(date(2020, 1, 1)),
        known_at=stamps.dt.offset_by("21h30m"),
        flags=pl.lit(None, pl.String),
    )


def test_rows_that_a_regime_left_out_share_nothing() -> None:
    labels = open_to_open(daily(60), 5).drop_nulls("label_return")
    assert uniqueness(labels)[30] == pytest.approx(0.2)
    alone = pl.concat([labels.slice(10, 1), labels.slice(30, 1), labels.slice(31, 1)])
    assert uniqueness(alone).to_list() == [1.0, 0.6, 0.6]


def test_a_label_that_is_held_for_no_time_or_unknown_is_refused() -> None:
    for spans in (held(("A", 3, 3)), held(("A", 3, 4)).with_columns(held_until=pl.lit(None, TIME))):
        with pytest.raises(ValueError, match="leave others out"):
            uniqueness(spans)


# -- recency ----------------------------------------------------------------------------------------------------------


def test_a_row_weighs_half_a_half_life_ago() -> None:
    rows = held(("A", 1, 2), ("A", 5, 6), ("B", 9, 10))
    assert recency(rows, _hours(range(9)), 4).to_list() == [0.25, 0.5, 1.0]


def test_without_a_half_life_every_age_weighs_the_same() -> None:
    rows = held(("A", 1, 2), ("A", 5, 6), ("B", 9, 10))
    assert recency(rows, _hours(range(9)), 0).to_list() == [1.0] * 3
    with pytest.raises(ValueError, match="turns it off"):
        recency(rows, _hours(range(9)), -1)


def test_age_is_counted_in_the_bars_of_the_pool_not_in_the_rows_that_a_regime_kept() -> None:
    rows = held(("A", 1, 2), ("A", 11, 12))
    assert recency(rows, _hours(range(11)), 5).to_list() == [0.25, 1.0]
    assert recency(rows, _hours([0, 3, 3, 10]), 5).to_list() == [2 ** -(2 / 5), 1.0]


# -- both -------------------------------------------------------------------------------------------------------------


@given(spans=several, half_life=st.integers(0, 50), later=st.integers(1, 100))
def test_weights_have_mean_one_and_know_nothing_after_the_newest_row(
    spans: list[Span], half_life: int, later: int
) -> None:
    rows = held(*spans)
    stamps = rows["timestamp"]
    weights = sample_weights(rows, stamps, half_life)
    assert weights.mean() == pytest.approx(1.0)
    assert weights.min() >= 0
    more = pl.concat([stamps, stamps.dt.offset_by("100h"), _hours([200 + later])])
    assert sample_weights(rows, more, half_life).to_list() == weights.to_list()


@settings(max_examples=40)
@given(spans=several)
def test_a_weight_is_uniqueness_times_recency(spans: list[Span]) -> None:
    rows = held(*spans)
    stamps = rows["timestamp"]
    product = uniqueness(rows) * recency(rows, stamps, 3)
    assert sample_weights(rows, stamps, 3).to_list() == pytest.approx((product / product.mean()).to_list())


def test_no_rows_have_no_weights() -> None:
    rows = held()
    assert sample_weights(rows, rows["timestamp"], 10).to_list() == []

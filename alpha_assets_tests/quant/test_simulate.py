"""The simulated market is the yardstick of every test of truth, so what it promises is measured here.

Sampling errors: z(t) is known when the next innovation falls, so that the mean of their product over N bars of
independent symbols has the standard error 1/sqrt(N), whatever their tails or memories. Bounds are 4 of these; the seeds
are fixed.
"""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.calendars import session_bounds, session_of, sessions
from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.quant.schema import ACTIONS, INTERVAL_SECONDS, OHLC, RAW_BARS
from alpha_assets.quant.simulate import REGIMES, TRUTH, Market, default_symbols, life, simulate

FIRST = date(2010, 1, 4)
LAST = date(2019, 12, 31)
SYMBOLS = default_symbols(40)

#: Symbols that differ in nothing but luck, all traded from the first day to the last.
ALIKE = SimulationParameters(seed=5, edge_share=1.0, correlation=0.0, late_share=0.0, delisted_share=0.0)


def market(parameters: SimulationParameters, symbols: list[str] = SYMBOLS, last: date = LAST) -> Market:
    return simulate(parameters, symbols=symbols, first=FIRST, last=last)


def scored(simulated: Market) -> pl.DataFrame:
    """Each bar with its truth and ``next``, the return open(t+1) to open(t+2) in units of its volatility."""
    bars = adjusted(simulated.bars, simulated.actions).join(simulated.truth, on=["symbol", "timestamp"])
    interval = pl.col("open").shift(-1) / pl.col("open") - 1
    return bars.with_columns(now=(interval / pl.col("sigma")).over("symbol")).with_columns(
        next=pl.col("now").shift(-1).over("symbol")
    )


TECHNICAL = {
    "return of 1 bar": pl.col("close").pct_change(1),
    "return of 10 bars": pl.col("close").pct_change(10),
    "return of 60 bars": pl.col("close").pct_change(60),
    "gap": pl.col("open") / pl.col("close").shift(1) - 1,
    "place in the range": (pl.col("close") - pl.col("low")) / (pl.col("high") - pl.col("low")),
    "distance from the mean": pl.col("close") / pl.col("close").rolling_mean(20) - 1,
    "share of rises (RSI)": (pl.col("close").diff() > 0).cast(pl.Float64).rolling_mean(14),
    "volatility": pl.col("close").pct_change(1).rolling_std(20),
    "volume ratio": pl.col("volume") / pl.col("volume").rolling_mean(20),
}


def information(rows: pl.DataFrame, score: pl.Expr) -> tuple[float, float]:
    """Correlation of a score with the next scaled return, both demeaned a symbol, over all; its standard error."""
    pairs = (
        rows.with_columns(score=score.over("symbol"))
        .select("symbol", "score", "next")
        .filter(pl.all_horizontal(pl.col("score", "next").is_finite()))
        .with_columns((pl.col("score", "next") - pl.col("score", "next").mean()).over("symbol"))
    )
    return pairs.select(pl.corr("score", "next")).item(), pairs.height**-0.5


# Prefix and independence


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**63),
    interval_days=st.sampled_from([("1d", 500), ("1h", 40), ("5m", 6)]),
    calendar=st.sampled_from(["XNYS", "24/7", "XASX"]),
    cut=st.floats(0, 1),
    edge=st.sampled_from([0.0, 0.15]),
)
def test_a_later_end_gives_exactly_the_same_earlier_bars(
    seed: int, interval_days: tuple[str, int], calendar: str, cut: float, edge: float
) -> None:
    interval, days = interval_days
    parameters = replace(ALIKE, seed=seed, edge=edge, correlation=0.3, split_rate=3.0, dividend_share=1.0, years=1)
    parameters = replace(parameters, late_share=0.3, delisted_share=0.3)
    middle = FIRST + timedelta(days=int(cut * days))

    def until(last: date) -> Market:
        return simulate(parameters, symbols=["A", "B"], first=FIRST, last=last, interval=interval, calendar=calendar)

    short, long = until(middle), until(FIRST + timedelta(days=days))
    within = session_of(calendar, long.bars["timestamp"]) <= middle
    assert_frame_equal(short.bars, long.bars.filter(within), check_exact=True)
    assert_frame_equal(short.truth, long.truth.filter(within), check_exact=True)
    assert_frame_equal(short.actions, long.actions.filter(pl.col("ex_date") <= middle), check_exact=True)


def test_appending_day_by_day_equals_simulating_at_once() -> None:
    parameters = SimulationParameters(split_rate=5.0)
    days = sessions("XNYS", FIRST, date(2010, 3, 1)).to_list()
    daily = [market(parameters, ["SIM01", "SIM02"], day) for day in days]
    appended = pl.concat(
        each.bars.filter(pl.col("timestamp").dt.date() == day) for each, day in zip(daily, days, strict=True)
    ).sort("symbol", "timestamp")
    assert_frame_equal(appended, daily[-1].bars, check_exact=True)


def test_a_symbol_is_the_same_whichever_others_are_asked_for() -> None:
    parameters = SimulationParameters()
    together = market(parameters, default_symbols(12))
    among_others = simulate(
        parameters,
        symbols=["ZZZ", "SIM07", "BTC", "SIM07"],
        first=FIRST,
        last=LAST,
        calendars={"BTC": "24/7", "ZZZ": "XLON"},
    )
    for alone in (market(parameters, ["SIM07"]), among_others):
        for mine, theirs in (
            (alone.bars, together.bars),
            (alone.actions, together.actions),
            (alone.truth, together.truth),
        ):
            wanted = pl.col("symbol") == "SIM07"
            assert_frame_equal(mine.filter(wanted), theirs.filter(wanted), check_exact=True)


def test_another_seed_is_another_market() -> None:
    one, other = (market(replace(ALIKE, seed=seed), ["SIM01"]).bars for seed in (1, 2))
    assert one.select(pl.corr(pl.col("close").pct_change(), other["close"].pct_change())).item() < 0.1


# Form


def test_frames_follow_the_schemas_and_are_sorted() -> None:
    simulated = market(SimulationParameters(), ["SIM03", "SIM01"])
    for frame, schema in ((simulated.bars, RAW_BARS), (simulated.actions, ACTIONS), (simulated.truth, TRUTH)):
        assert dict(frame.schema) == dict(schema)
        assert_frame_equal(frame, frame.sort(frame.columns[:2]))
    assert_frame_equal(simulated.bars.select("symbol", "timestamp"), simulated.truth.select("symbol", "timestamp"))
    assert simulated.bars.null_count().row(0) == (0,) * len(RAW_BARS)


def test_no_symbol_and_no_session_give_empty_frames_with_the_schemas() -> None:
    weekend = simulate(ALIKE, symbols=["A"], first=date(2010, 1, 2), last=date(2010, 1, 3))
    for simulated in (market(ALIKE, []), weekend):
        assert dict(simulated.bars.schema) == dict(RAW_BARS)
        assert dict(simulated.truth.schema) == dict(TRUTH)
        assert simulated.bars.height == simulated.actions.height == simulated.truth.height == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    interval=st.sampled_from(["1d", "30m"]),
    volatility=st.floats(0.0001, 0.05),
    tail=st.floats(2.05, 30),
    edge=st.floats(0, 0.5),
)
def test_ohlc_is_consistent_and_prices_stay_above_zero_however_wild_the_market(
    seed: int, interval: str, volatility: float, tail: float, edge: float
) -> None:
    wild = replace(ALIKE, seed=seed, volatility=volatility, tail=tail, edge=edge, clustering=1.0, split_rate=3.0)
    bars = simulate(wild, symbols=["A"], first=FIRST, last=date(2010, 6, 30), interval=interval).bars
    assert bars.select(
        pl.all_horizontal(pl.col(*OHLC, "volume").is_finite() & (pl.col(*OHLC, "volume") > 0)).all()
    ).item()
    assert (bars["high"] >= bars.select(pl.max_horizontal(*OHLC)).to_series()).all()
    assert (bars["low"] <= bars.select(pl.min_horizontal(*OHLC)).to_series()).all()


def test_no_bar_falls_so_far_that_nothing_is_left() -> None:
    bars = market(replace(ALIKE, volatility=0.05, tail=2.5, clustering=1.0, edge=0.5)).bars
    assert 0.3 <= bars.select((pl.col("close") / pl.col("open")).min()).item() < 0.55
    assert bars.select(pl.col(*OHLC).min()).min_horizontal().item() > 0


@pytest.mark.parametrize("calendar", ["XNYS", "24/7", "XASX"])
@pytest.mark.parametrize("interval", ["1h", "5m"])
def test_intraday_bars_fill_each_session_and_nothing_else(calendar: str, interval: str) -> None:
    first, last = date(2019, 11, 25), date(2019, 12, 4)  # an early close in New York on the 29th
    bars = simulate(ALIKE, symbols=["A"], first=first, last=last, interval=interval, calendar=calendar).bars
    wanted = session_bounds(calendar, first, last).select(
        pl.datetime_ranges("opens", "closes", interval=interval, closed="left").alias("timestamp")
    )
    assert bars["timestamp"].to_list() == wanted.explode("timestamp")["timestamp"].to_list()


def test_daily_bars_carry_the_dates_of_all_sessions() -> None:
    bars = market(ALIKE, ["SIM01"]).bars
    assert bars["timestamp"].dt.date().to_list() == sessions("XNYS", FIRST, LAST).to_list()


def test_intraday_volume_is_u_shaped_and_the_night_holds_its_share_of_variance() -> None:
    first, last = date(2018, 1, 2), date(2018, 12, 31)
    simulated = simulate(ALIKE, symbols=SYMBOLS[:10], first=first, last=last, interval="30m")
    rows = simulated.bars.join(simulated.truth, on=["symbol", "timestamp"]).with_columns(
        day=session_of("XNYS", simulated.bars["timestamp"])
    )
    rows = rows.with_columns(place=pl.int_range(pl.len()).over("symbol", "day"))
    usual = rows.group_by("place").agg(pl.col("volume").median(), pl.col("sigma").pow(2).mean()).sort("place")
    noon = usual["volume"][6]
    assert usual["volume"][0] > 2 * noon
    assert usual["volume"][12] > 2 * noon
    assert usual["sigma"][12] / usual["sigma"].sum() > ALIKE.overnight


def test_an_unknown_interval_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'1w' cannot be simulated"):
        simulate(ALIKE, symbols=["A"], first=FIRST, last=LAST, interval="1w")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"edge": 0.6}, "edge"),
        ({"edge_share": 1.2}, "edge_share"),
        ({"tail": 2.0}, "degrees of freedom"),
        ({"volatility": 0.5}, "volatility"),
        ({"seed": -1}, "seed"),
        ({"clustering_half_life": 0.0}, "half-life"),
        ({"split_rate": -1.0}, "split rate"),
        ({"volatile_volatility": 0.0}, "volatility of a simulated regime"),
        ({"sideways_spell": 1.0}, "mean spell of a simulated regime"),
    ],
)
def test_parameters_that_make_no_market_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SimulationParameters(**wrong)  # type: ignore[arg-type]


# Truth


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("edge", [0.05, 0.1, 0.15, 0.5])
def test_the_oracle_has_the_planted_ic(edge: float, momentum: bool) -> None:
    rows = scored(market(replace(ALIKE, edge=edge, momentum=momentum)))
    realised, error = information(rows, pl.col("z"))
    # Demeaning a symbol costs about 4 / 2,500 here: its mean score knows the innovations that follow.
    assert abs(realised - edge) < 4 * error
    assert rows["z"].mean() == pytest.approx(0, abs=0.05)
    assert rows["z"].std() == pytest.approx(1, abs=0.02)
    assert rows["next"].std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_intraday_the_oracle_has_the_planted_ic_too(interval: str) -> None:
    days = {"5m": 60, "1h": 600}[interval]
    simulated = simulate(ALIKE, symbols=SYMBOLS[:20], first=FIRST, last=FIRST + timedelta(days=days), interval=interval)
    bars = adjusted(simulated.bars, simulated.actions, interval=interval)
    realised, error = information(scored(Market(bars, simulated.actions.clear(), simulated.truth)), pl.col("z"))
    assert abs(realised - ALIKE.edge) < 4 * error


def test_technical_scores_carry_most_of_the_planted_edge() -> None:
    rows = scored(market(ALIKE))
    day = pl.col("close").pct_change()
    rise, fall = (day.clip(*bounds).abs().ewm_mean(com=13) for bounds in ((0, None), (None, 0)))
    rsi, _ = information(rows, rise / (rise + fall))
    change, _ = information(rows, pl.col("close").pct_change(10) / day.rolling_std(20))
    assert rsi < -0.75 * ALIKE.edge
    assert change < -0.6 * ALIKE.edge


@pytest.mark.parametrize("seed", range(4))
def test_without_an_edge_nothing_known_at_a_close_tells_what_follows(seed: int) -> None:
    rows = scored(market(replace(ALIKE, seed=seed, edge=0.0)))
    for name, score in {"oracle": pl.col("z"), **TECHNICAL}.items():
        realised, error = information(rows, score)
        assert abs(realised) < 4 * error, name


@pytest.mark.parametrize("seed", range(3))
def test_without_an_edge_the_mean_simple_return_is_zero_in_a_wild_market_too(seed: int) -> None:
    """Where log returns had mean 0, the simple return would gain half its variance: here 6 standard errors and more."""
    rows = scored(market(replace(ALIKE, seed=seed, edge=0.0, volatility=0.05)))
    assert abs(rows.select(pl.col("next").mean()).item()) < 4 * rows.height**-0.5


def test_without_an_edge_regimes_differ_in_volatility_and_not_in_mean() -> None:
    rows = scored(market(replace(ALIKE, edge=0.0, volatility_spread=0.0)))
    for regime in REGIMES:
        within = rows.filter(pl.col("regime") == regime, pl.col("now").is_not_null())
        assert abs(within.select(pl.col("next").mean()).item()) < 4 * within.height**-0.5, regime
        realised = within.select((pl.col("now") * pl.col("sigma")).std()).item() / ALIKE.volatility
        assert realised == pytest.approx(getattr(ALIKE, f"{regime}_volatility"), rel=0.06), regime


def test_with_an_edge_the_regime_at_the_close_moves_the_mean() -> None:
    rows = scored(market(replace(ALIKE, edge=0.3)))
    means = dict(rows.group_by("regime").agg(pl.col("next").mean()).iter_rows())
    assert means["trending"] > means["sideways"] + 0.05
    assert means["volatile"] < means["sideways"] - 0.05


def test_spells_of_a_regime_are_as_long_as_the_chain_says() -> None:
    long = simulate(ALIKE, symbols=["A"], first=date(2000, 1, 3), last=LAST, interval="15m").truth
    spells = (
        long.with_columns(spell=pl.col("regime").rle_id()).group_by("spell").agg(pl.col("regime").first(), pl.len())
    )
    for regime in REGIMES:
        lengths = spells.filter(pl.col("regime") == regime)["len"]
        mean = getattr(ALIKE, f"{regime}_spell")
        error = mean * len(lengths) ** -0.5
        assert len(lengths) > 500
        assert abs(lengths.mean() - mean) < 4 * error, regime


def test_returns_cluster_have_fat_tails_and_share_a_market() -> None:
    parameters = replace(ALIKE, edge=0.0, correlation=0.3)
    rows = scored(market(parameters)).with_columns(plain=pl.col("now") * pl.col("sigma"))
    for lag in (1, 5, 10):
        echo = rows.select(pl.corr(pl.col("plain").abs(), pl.col("plain").abs().shift(lag).over("symbol"))).item()
        assert echo > 0.1
    kurtosis = rows.group_by("symbol").agg(
        plain=pl.col("plain").kurtosis(fisher=False), scaled=pl.col("now").kurtosis(fisher=False)
    )
    assert kurtosis["plain"].min() > 4  # type: ignore[operator]
    assert kurtosis["scaled"].median() > 3.3  # type: ignore[operator]
    wide = rows.pivot("symbol", index="timestamp", values="now").drop("timestamp").drop_nulls()
    together = np.corrcoef(wide.to_numpy().T)[np.triu_indices(len(SYMBOLS), 1)]
    assert together.mean() == pytest.approx(0.3, abs=0.03)


def test_the_range_tells_the_variance_of_the_body() -> None:
    """Rogers and Satchell: u(u − c) + d(d − c), of high, low and close over the open, is unbiased under any drift."""
    rows = scored(market(ALIKE)).select(
        "sigma", *((pl.col(side) / pl.col("open")).log().alias(side) for side in ("high", "low", "close"))
    )
    up, down = (pl.col(side) * (pl.col(side) - pl.col("close")) for side in ("high", "low"))
    estimate = rows.select(((up + down) / pl.col("sigma") ** 2).mean()).item()
    assert estimate == pytest.approx(0.98 * (1 - ALIKE.overnight), rel=0.02)


# Splits, dividends, listings


def test_prices_adjusted_for_splits_and_dividends_are_the_simulated_total_return() -> None:
    eventful = replace(ALIKE, split_rate=4.0, dividend_share=1.0, dividend_yield=0.08)
    quiet = replace(eventful, split_rate=0.0, dividend_share=0.0)
    symbols, last = SYMBOLS[:8], date(2013, 12, 31)
    simulated, plain = market(eventful, symbols, last), market(quiet, symbols, last)
    assert plain.actions.is_empty()
    kinds = dict(simulated.actions["kind"].value_counts().iter_rows())
    assert kinds["split"] > 50
    assert kinds["dividend"] > 100

    both = adjusted(simulated.bars, simulated.actions).join(plain.bars, on=["symbol", "timestamp"], suffix="_plain")
    scale = both.select(
        "symbol",
        *((pl.col(side) / pl.col(f"{side}_plain")).alias(side) for side in OHLC),
        volume=pl.col("volume") / pl.col("volume_plain"),
    )
    spread = scale.group_by("symbol").agg(
        (pl.col(*OHLC).max() / pl.col(*OHLC).min()), pl.col("open").first().alias("by")
    )
    assert spread.select(pl.max_horizontal(pl.col(*OHLC).max())).item() == pytest.approx(1, abs=1e-9)
    volume = scale.group_by("symbol").agg(pl.col("volume").quantile(0.9) / pl.col("volume").quantile(0.1))
    assert volume["volume"].max() == pytest.approx(1, abs=0.01)


def test_a_split_divides_the_price_and_multiplies_the_volume_at_once() -> None:
    eventful = replace(ALIKE, split_rate=3.0, dividend_share=0.0, volatility=0.001)
    simulated = market(eventful, SYMBOLS[:5])
    rows = (
        simulated.bars.with_columns(
            fell=(pl.col("close").shift(1) / pl.col("open")).over("symbol"),
            grew=(pl.col("volume").rolling_mean(5).shift(-4) / pl.col("volume").rolling_mean(5).shift(1)).over(
                "symbol"
            ),
            ex_date=pl.col("timestamp").dt.date(),
        )
        .join(simulated.actions, on=["symbol", "ex_date"])
        .filter(pl.col("grew").is_not_null())
    )
    assert rows.height > 50
    assert rows.select((pl.col("fell") / pl.col("value")).log().abs().max()).item() < 0.05
    assert rows.select((pl.col("grew") / pl.col("value")).log().mean()).item() == pytest.approx(0, abs=0.2)


def test_a_dividend_is_what_the_open_of_its_ex_date_falls_by() -> None:
    payers = replace(ALIKE, split_rate=0.0, dividend_share=1.0, dividend_yield=0.2, volatility=0.0001)
    simulated = market(payers, SYMBOLS[:5])
    rows = simulated.bars.with_columns(
        fell=(pl.col("close").shift(1) - pl.col("open")).over("symbol"), ex_date=pl.col("timestamp").dt.date()
    ).join(simulated.actions, on=["symbol", "ex_date"])
    assert rows.height > 150
    assert rows.select((pl.col("fell") / pl.col("value") - 1).abs().max()).item() < 0.1


def test_late_listings_and_delistings_bound_a_symbols_bars_and_actions() -> None:
    mortal = replace(ALIKE, late_share=1.0, delisted_share=1.0, years=5, split_rate=20.0)
    simulated = market(mortal)
    spans = {
        row[0]: row[1:]
        for row in simulated.bars.group_by("symbol")
        .agg(pl.col("timestamp").min().dt.date().alias("begins"), pl.col("timestamp").max().dt.date().alias("ends"))
        .iter_rows()
    }
    for symbol in SYMBOLS:
        own = life(mortal, symbol, FIRST)
        assert own.delisted is not None
        traded = sessions("XNYS", own.listed, own.delisted)
        assert own.listed > FIRST
        assert spans[symbol] == (traded[0], traded[-1])
        ex_dates = simulated.actions.filter(pl.col("symbol") == symbol)["ex_date"]
        assert ((ex_dates > traded[0]) & (ex_dates <= traded[-1])).all()


def test_the_default_universe_has_edges_rejections_a_late_listing_and_a_delisting() -> None:
    parameters = SimulationParameters()
    lives = [life(parameters, symbol, parameters.first) for symbol in default_symbols(parameters.symbols)]
    assert sum(own.edge > 0 for own in lives) == 8
    assert sum(own.listed > parameters.first for own in lives) == 2
    assert sum(own.delisted is not None for own in lives) == 1


def test_an_edge_share_of_half_gives_about_half_of_the_symbols_the_edge() -> None:
    parameters = SimulationParameters(edge_share=0.5, edge=0.1)
    edges = [life(parameters, symbol, FIRST).edge for symbol in default_symbols(1000)]
    assert set(edges) == {0.0, 0.1}
    assert sum(edge > 0 for edge in edges) == pytest.approx(500, abs=64)


@pytest.mark.parametrize(("count", "names"), [(2, ["SIM01", "SIM02"]), (100, ["SIM001", "SIM100"])])
def test_names_of_the_universe_sort_in_their_order(count: int, names: list[str]) -> None:
    universe = default_symbols(count)
    assert [universe[0], universe[-1]] == names
    assert universe == sorted(set(universe))


def test_every_interval_that_the_house_knows_can_be_simulated() -> None:
    for interval in INTERVAL_SECONDS:
        assert simulate(ALIKE, symbols=["A"], first=FIRST, last=FIRST, interval=interval).bars.height > 0

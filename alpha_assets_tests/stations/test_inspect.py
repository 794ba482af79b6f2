"""What the checks of the bars say: over the whole universe, with symbols and days, not forgotten by the next run."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from alpha_assets.quant.schema import BARS
from alpha_assets.sources.base import Cause, Fetched, Source
from alpha_assets.stations import inspect
from alpha_assets_tests.stations.market import House, Market, evening, simulated, soil


@pytest.fixture
def market() -> Market:
    return simulated(3, date(2020, 1, 2), date(2020, 4, 30), split_rate=0.0)


@pytest.fixture
def days(market: Market) -> list[date]:
    return market.sessions()


@pytest.fixture
def house(tmp_path: Path, market: Market, days: list[date]) -> House:
    """Sixty sessions of three clean symbols."""
    house = House(tmp_path, market)
    house.refresh(days[59])
    return house


def look(house: House, *symbols: str) -> None:
    inspect.inspect_bars(house.lake, house.ledger, symbols or house.symbols, evening(date(2020, 6, 1)))


def verdict(house: House, check: str) -> inspect.Verdict:
    return inspect.findings_verdict(house.ledger, *inspect.FINDING_CHECKS[check])


def spoil(house: House, symbol: str, day: date, change: pl.Expr, append: bool = False) -> None:
    """Break the stored bar of a day behind the lake's back, or put a changed copy of it beside it."""
    bars = house.lake.read("bars")
    here = (pl.col("symbol") == symbol) & (pl.col("timestamp").dt.date() == day)
    if append:
        twin = bars.filter(here).with_columns(change, year=pl.col("timestamp").dt.year())
        write_deltalake(f"{house.settings.lake}/bars", twin.to_arrow(), mode="append")
    else:
        name = change.meta.output_name()
        spoilt = bars.with_columns(pl.when(here).then(change).otherwise(pl.col(name)).alias(name))
        house.lake.replace("bars", spoilt, house.symbols)


def test_sound_bars_pass_every_check(house: House, days: list[date]) -> None:
    look(house)
    for check in inspect.FINDING_CHECKS:
        assert verdict(house, check).passed, check
    assert inspect.schema_verdict(house.lake) == inspect.Verdict(
        True, 0, [], "no columns differ from the declared schema"
    )
    assert inspect.quarantine_verdict(house.ledger).sentence == "no symbols are quarantined"
    assert inspect.freshness_verdict(house.ledger, {"market": house.market}, evening(days[59])).passed


def test_a_key_held_twice_is_named(house: House, days: list[date]) -> None:
    name = house.symbols[1]
    spoil(house, name, days[7], pl.col("close") * 1.01, append=True)
    look(house)
    assert verdict(house, "keys_unique") == inspect.Verdict(False, 1, [f"{name} {days[7]}"], "1 keys are held twice")


@pytest.mark.parametrize(
    "change",
    [
        pl.col("low") * 0 + 1e9,
        pl.col("high") * 0.5,
        pl.lit(-1.0).alias("close"),
        pl.lit(None, pl.Float64()).alias("open"),
        pl.lit(float("nan")).alias("high"),
        pl.lit(float("inf")).alias("high"),
    ],
)
def test_a_price_outside_its_range_missing_or_not_positive_is_named(
    house: House, days: list[date], change: pl.Expr
) -> None:
    name = house.symbols[2]
    spoil(house, name, days[11], change)
    look(house)
    assert verdict(house, "ohlc_consistent").sample == [f"{name} {days[11]}"]


def test_a_finding_is_not_forgotten_by_a_run_over_other_symbols_and_cleared_by_one_over_its_own(
    house: House, days: list[date]
) -> None:
    bad, *others = house.symbols
    sound = house.lake.read("bars")
    spoil(house, bad, days[11], pl.col("high") * 0.5)
    look(house)
    look(house, *others)
    assert not verdict(house, "ohlc_consistent").passed
    house.lake.replace("bars", sound, house.symbols)
    look(house, bad)
    assert verdict(house, "ohlc_consistent").passed


def test_what_was_found_of_a_retired_symbol_no_longer_fails_the_universe(house: House, days: list[date]) -> None:
    bad = house.symbols[0]
    spoil(house, bad, days[11], pl.col("high") * 0.5)
    look(house)
    house.ledger.retire([bad], evening(days[59]))
    assert verdict(house, "ohlc_consistent").passed


def test_missing_sessions_and_unexplained_jumps_are_named(house: House, market: Market, days: list[date]) -> None:
    first, second, _ = house.symbols
    soil(market, first, days[60], "missing")
    soil(market, second, days[61], "split_sized_jump")
    house.refresh(days[62])
    assert verdict(house, "sessions_complete").sample == [f"{first} {days[60]}"]
    assert verdict(house, "sessions_complete").sentence == "1 sessions of the calendar have no bar"
    assert verdict(house, "jumps_explained").sample == [f"{second} {days[61]}"]


def test_a_sample_is_shown_beside_the_full_count(tmp_path: Path, market: Market, days: list[date]) -> None:
    name = sorted(market.bars["symbol"].unique())[0]
    for day in days[10:40]:
        soil(market, name, day, "missing")
    house = House(tmp_path, market)
    house.refresh(days[59])
    found = verdict(house, "sessions_complete")
    assert (found.count, len(found.sample)) == (30, inspect.SAMPLE)
    assert found.sample[0] == f"{name} {days[10]}"


def test_a_column_of_another_type_fails_the_schema(tmp_path: Path, market: Market) -> None:
    house = House(tmp_path, market)
    rows = pl.DataFrame(
        {name: [] for name in [*BARS, "fetched_at"]},
        schema={**BARS, "volume": pl.Int64, "fetched_at": BARS["timestamp"]},
    ).with_columns(year=pl.lit(2020, pl.Int32))
    write_deltalake(f"{house.settings.lake}/bars", rows.to_arrow(), partition_by=["year"])
    found = inspect.schema_verdict(house.lake)
    assert not found.passed
    assert found.sample == ["volume: stored Int64, declared Float64"]


def test_quarantined_symbols_are_named_with_their_cause(house: House, market: Market, days: list[date]) -> None:
    bad = house.symbols[1]
    market.behaviour.failing = {bad: Cause.RATE_LIMITED}
    house.refresh(days[60])
    assert inspect.quarantine_verdict(house.ledger) == inspect.Verdict(
        False, 1, [f"{bad}: rate_limited"], "1 symbols are quarantined"
    )


def test_a_symbol_behind_what_its_source_could_have_is_named(house: House, market: Market, days: list[date]) -> None:
    late, *others = house.symbols
    house.refresh(days[60], others)
    found = inspect.freshness_verdict(house.ledger, {"market": market}, evening(days[60]))
    assert found.sample == [f"{late}: holds {days[59]} 00:00, its source could have {days[60]} 00:00"]


class Speechless:
    """A source that raises whatever it is asked."""

    name = "speechless"

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:
        raise NotImplementedError

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:  # noqa: ARG002
        raise ArithmeticError("a file that nobody thought of")


def test_a_source_that_cannot_say_how_far_it_reaches_is_named_and_hides_nobody_elses_symbols(
    house: House, market: Market, days: list[date]
) -> None:
    house.ledger.add_symbols(
        [{"symbol": "X", "source": "speechless", "calendar": "XNYS", "added_at": evening(days[0])}]
    )
    sources: dict[str, Source] = {"market": market, "speechless": Speechless()}
    fresh = inspect.freshness_verdict(house.ledger, sources, evening(days[59]))
    assert (fresh.passed, fresh.count, fresh.sample) == (False, 0, [])
    assert fresh.sentence == (
        "no symbols are behind their calendar; the source speechless cannot say what it has of its symbols, "
        "1 of them: ArithmeticError: a file that nobody thought of"
    )
    behind = inspect.freshness_verdict(house.ledger, sources, evening(days[60]))
    assert [line.split(":")[0] for line in behind.sample] == house.symbols

"""The laws of features, regimes and patterns on real bars: nothing rewritten, nothing from the future, no scale.

Apple's splits of 2000, 2005, 2014 and 2020 go through source, cleaning, lake and stations session by session, as they
came; whoever crashed, was merged or gave a ticker to another company is held to the laws column by column; and crypto,
which never closes, runs through the same code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant import patterns
from alpha_assets.quant.alpha158 import ALPHA158
from alpha_assets.quant.feature_set import FeatureSet, compute
from alpha_assets.quant.indicators import default_set, market_column
from alpha_assets.quant.parameters import FeatureParameters, PatternParameters, RegimeParameters
from alpha_assets.quant.regimes import memory as regime_memory
from alpha_assets.quant.regimes import regimes
from alpha_assets.quant.regimes import warm_up as regime_warm_up
from alpha_assets.quant.schema import DIVIDEND, OHLC, RAW_BARS, SPLIT, TIME
from alpha_assets.quant.timeframes import with_timeframes
from alpha_assets.settings import Settings
from alpha_assets.sources.files import Files
from alpha_assets.stations.base import Report
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.recognise import TABLE, recognise
from alpha_assets.stations.series import adjusted_bars, calendars_of
from alpha_assets.stations.sets import REGIME_COLUMNS, recipe_of, table_of
from alpha_assets.stations.threads import side_by_side
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.stations.market import House, Market

BEFORE_ALL, AFTER_ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2021, 4, 1, 23, 30, tzinfo=UTC)

SPLITS = (date(2000, 6, 21), date(2005, 2, 28), date(2014, 6, 9), date(2020, 8, 31))
#: Log returns of those days, by the file's closes and ratios, worked out by hand.
RETURNS_ON_SPLITS = (0.095488, 0.007951, 0.015874, 0.033350)
#: The first after seventeen years, the first after a split, and the last of the file.
DIVIDENDS = (date(2012, 8, 9), date(2014, 8, 7), date(2021, 2, 5))

#: What is 0 in exact arithmetic is this close to it in f64: a close at the mean of five may be 2e-16 above it after one
#: more dividend, which is many units in the last place of 2e-16 and nothing in those of the column.
ROUNDING_OF_ZERO = 1e-13

KEY = ["symbol", "timestamp"]
WITH_SPY = FeatureParameters(benchmark="SPY")


# --- Comparing


def bits(values: pl.Series) -> np.ndarray:
    """The stored bits of a 32-bit column; those of a null are of no concern, ``rewritten`` looks at nulls apart."""
    return values.fill_null(0.0).to_numpy().view(np.uint32)


def rewritten(before: pl.DataFrame, after: pl.DataFrame) -> list[str]:
    """The columns of which a stored value is not the same bytes in both frames, which hold the same keys."""
    assert_frame_equal(before.select(KEY), after.select(KEY))
    return [
        name
        for name in before.columns
        if (before[name].is_null() != after[name].is_null()).any()
        or (
            (bits(before[name]) != bits(after[name])).any()
            if before[name].dtype == pl.Float32
            else before[name].ne_missing(after[name]).any()
        )
    ]


@dataclass(frozen=True)
class Rounding:
    """How two stored tables of the same keys differ: values compared, values unequal, and the unequal ones by column.

    ``beyond`` are the columns in which a null or a label differs, or a number by more than one unit in the last place
    of its 32 bits and more than the rounding of zero.
    """

    values: int
    unequal: dict[str, int]
    beyond: dict[str, int]

    @classmethod
    def of(cls, one: pl.DataFrame, other: pl.DataFrame) -> "Rounding":
        assert_frame_equal(one.select(KEY), other.select(KEY))
        values, unequal, beyond = 0, {}, {}
        for name in (name for name in one.columns if name not in KEY):
            apart = _units_apart(one[name], other[name])
            values += one[name].count()
            unequal[name], beyond[name] = int((apart > 0).sum()), int((apart > 1).sum())
        return cls(values, *({name: rows for name, rows in found.items() if rows} for found in (unequal, beyond)))


def _units_apart(one: pl.Series, other: pl.Series) -> np.ndarray:
    if one.dtype != pl.Float32:
        return np.where(one.eq_missing(other).to_numpy(), 0.0, np.inf)
    a, b = (values.cast(pl.Float64).fill_null(0.0).to_numpy() for values in (one, other))
    gap = np.abs(a - b)
    unit = np.spacing(np.maximum(np.abs(a), np.abs(b)).astype(np.float32)).astype(np.float64)
    units = np.where((gap > 0) & (gap <= ROUNDING_OF_ZERO), 1.0, gap / unit)
    return np.where((one.is_null() != other.is_null()).to_numpy(), np.inf, units)


def worst(left: pl.DataFrame, right: pl.DataFrame, sd_of: pl.DataFrame) -> dict[str, float]:
    """Largest difference of each number in its column's standard deviations; infinite where nulls or labels differ."""
    assert_frame_equal(left.select(KEY), right.select(KEY))
    differences = {}
    for name in (name for name in left.columns if name not in KEY):
        one, other = left[name], right[name]
        if one.dtype == pl.String:
            differences[name] = 0.0 if one.eq_missing(other).all() else float("inf")
        elif (one.is_null() != other.is_null()).any():
            differences[name] = float("inf")
        else:
            deviation = float(sd_of[name].std() or 0.0)  # type: ignore[arg-type]
            differences[name] = float((one - other).abs().max() or 0.0) / (deviation or 1.0)  # type: ignore[arg-type]
    return differences


def excess(differences: Mapping[str, float], bound: float) -> dict[str, float]:
    return {name: value for name, value in differences.items() if value > bound}


# --- Apple, session by session


def as_traded(shared_data: Path, symbols: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Raw bars and true actions of the file."""
    rows = pl.read_parquet(shared_data / "lean_us_daily_raw.parquet").filter(pl.col("symbol").is_in(list(symbols)))
    rows = rows.with_columns(pl.col("timestamp").cast(TIME), pl.col("volume").cast(pl.Float64))
    day = pl.col("timestamp").dt.date()
    actions = [
        rows.filter(pl.col(column) != 0.0).select("symbol", day.alias("ex_date"), kind=pl.lit(kind), value=column)
        for column, kind in (("splits", SPLIT), ("dividends", DIVIDEND))
    ]
    return rows.select(RAW_BARS.keys()), pl.concat(actions)


def never_split(bars: pl.DataFrame, actions: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same market had there never been a split: other prices, volumes and dividends, the same fortunes."""
    splits = actions.filter(pl.col("kind") == SPLIT)

    def shares(rows: pl.DataFrame, day: str) -> pl.Series:
        """Today's shares for one of each row's day; a split acts from its ex-date on."""
        numbered = rows.with_row_index("row").with_columns(pl.col(day).cast(pl.Date).alias("day"))
        later = numbered.join(splits.select("symbol", "ex_date", ratio="value"), on="symbol", how="left")
        ratio = pl.when(pl.col("ex_date_right" if "ex_date" in rows.columns else "ex_date") > pl.col("day"))
        product = later.with_columns(ratio.then("ratio").otherwise(1.0).alias("ratio")).group_by("row")
        return product.agg(pl.col("ratio").product()).sort("row")["ratio"]

    of_bars = shares(bars, "timestamp")
    dividends = actions.filter(pl.col("kind") == DIVIDEND)
    return (
        bars.with_columns(*(pl.col(name) / of_bars for name in OHLC), pl.col("volume") * of_bars),
        dividends.with_columns(pl.col("value") / shares(dividends, "ex_date")),
    )


def work(house: House, day: date) -> dict[str, Report]:
    """The three stations on the evening of ``day``."""
    return {
        "ingest": house.refresh(day),
        "featurise": featurise(house.lake, house.ledger, house.settings, house.symbols),
        "recognise": recognise(house.lake, house.ledger, house.settings, house.symbols),
    }


def features_of(house: House) -> pl.DataFrame:
    return house.lake.read(table_of(house.settings))


def events_of(house: House) -> pl.DataFrame:
    return house.lake.read(TABLE)


def files_of(house: House) -> set[str]:
    """The data files that the newest version of the feature table names."""
    return set(DeltaTable(f"{house.settings.lake}/{table_of(house.settings)}").file_uris())


@dataclass
class Walk:
    """A home that worked on some evenings, and what its feature table held after each."""

    house: House
    days: list[date] = field(default_factory=list)
    tables: list[pl.DataFrame] = field(default_factory=list)
    files: list[set[str]] = field(default_factory=list)
    reports: list[dict[str, Report]] = field(default_factory=list)

    @classmethod
    def through(cls, house: House, days: Sequence[date]) -> "Walk":
        walk = cls(house)
        for day in days:
            walk.days.append(day)
            walk.reports.append(work(house, day))
            walk.tables.append(features_of(house))
            walk.files.append(files_of(house))
        return walk

    def rewritten(self) -> dict[date, list[str]]:
        """Of each evening the columns in which anything that was published before is no longer the same bytes."""
        found = {}
        for day, before, after in zip(self.days[1:], self.tables[:-1], self.tables[1:], strict=True):
            if columns := rewritten(before, after.join(before, on=KEY, how="semi", maintain_order="left")):
                found[day] = columns
        return found


def eves(sessions: Sequence[date], days: Sequence[date]) -> list[date]:
    """Each of the days and the session before it, in order, and the last session of all."""
    places = [sessions.index(day) for day in days]
    return sorted({sessions[place + step] for place in places for step in (-1, 0)} | {sessions[-1]})


def begun(home: Path, bars: pl.DataFrame, actions: pl.DataFrame) -> House:
    return House(home, Market(bars, actions), features=WITH_SPY)


@dataclass(frozen=True)
class Apple:
    """Apple beside the S&P's fund, its benchmark: walked through its actions, at once, and had it never split."""

    walk: Walk
    once: House
    unsplit: House


@pytest.fixture(scope="module")
def apple(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Apple:
    home = tmp_path_factory.mktemp("apple")
    said = as_traded(shared_data, ["AAPL", "SPY"])
    house, once = begun(home / "walk", *said), begun(home / "once", *said)
    unsplit = begun(home / "unsplit", *never_split(*said))
    sessions = house.market.sessions()
    for at_once in (once, unsplit):
        work(at_once, sessions[-1])
    return Apple(Walk.through(house, eves(sessions, [*SPLITS, *DIVIDENDS])), once, unsplit)


def test_what_is_published_stays_the_same_bytes_whatever_split_or_dividend_arrives(apple: Apple) -> None:
    assert apple.walk.rewritten() == {}
    assert all(said["featurise"].states() == {"updated": 2} for said in apple.walk.reports[1:])
    assert apple.walk.tables[-1].height == apple.once.lake.read("bars").height


def test_no_file_of_the_table_is_written_again(apple: Apple) -> None:
    for before, after in pairwise(apple.walk.files):
        assert before < after


def test_in_steps_is_what_at_once_is_within_one_unit_in_the_last_place(apple: Apple) -> None:
    found = Rounding.of(apple.walk.tables[-1], features_of(apple.once))
    assert found.values > 800_000
    assert found.beyond == {}
    assert sum(found.unequal.values()) < 1e-4 * found.values
    assert_frame_equal(events_of(apple.walk.house), events_of(apple.once), rel_tol=0, abs_tol=1e-12)


def test_had_apple_never_split_its_features_regimes_and_events_would_be_the_same(apple: Apple) -> None:
    found = Rounding.of(features_of(apple.once), features_of(apple.unsplit))
    assert found.beyond == {}
    assert sum(found.unequal.values()) < 1e-4 * found.values
    assert_frame_equal(events_of(apple.once), events_of(apple.unsplit), rel_tol=0, abs_tol=1e-12)


def test_on_the_day_of_a_split_no_feature_moves_as_it_never_moved(apple: Apple) -> None:
    rows = features_of(apple.once).filter(pl.col("symbol") == "AAPL")
    columns = recipe_of(apple.once.settings).columns
    moves = rows.select("timestamp", pl.col(columns).diff().abs())
    split = pl.col("timestamp").dt.date().is_in(list(SPLITS))
    on_split, otherwise = (moves.filter(which).select(pl.col(columns).max()) for which in (split, ~split))
    assert moves.filter(split).height == len(SPLITS)
    assert {name for name in columns if on_split[name][0] > otherwise[name][0]} == set()
    assert rows.filter(split)["return_1"].to_list() == pytest.approx(RETURNS_ON_SPLITS, abs=1e-4)


# --- What is learnt late


@dataclass(frozen=True)
class Late:
    """Two homes, one of which learns of an action three sessions after its ex-date."""

    ex_date: date
    before: pl.DataFrame
    after: pl.DataFrame
    punctual: pl.DataFrame
    report: Report
    untouched: bool


def learnt_late(home: Path, shared_data: Path, kind: str, ex_date: date) -> Late:
    bars, actions = as_traded(shared_data, ["AAPL"])
    recent = pl.col("timestamp").dt.year() >= ex_date.year - 3
    bars, actions = bars.filter(recent), actions.filter(pl.col("ex_date").dt.year() >= ex_date.year - 3)
    this = (pl.col("kind") == kind) & (pl.col("ex_date") == ex_date)
    value = actions.filter(this)["value"].item()
    late = House(home / "late", Market(bars, actions.filter(~this)))
    punctual = House(home / "punctual", Market(bars, actions))
    sessions = late.market.sessions()
    at = sessions.index(ex_date)
    late.market.act("AAPL", ex_date, kind, value, said_from=sessions[at + 3])
    for place in (-1, 0, 2):
        work(late, sessions[at + place])
    before, files = features_of(late), files_of(late)
    report = work(late, sessions[at + 3])["featurise"]
    work(punctual, sessions[at + 3])
    old_years = {file for file in files if f"year={ex_date.year}" not in file}
    return Late(ex_date, before, features_of(late), features_of(punctual), report, old_years <= files_of(late))


@pytest.mark.parametrize(("kind", "ex_date"), [(SPLIT, date(2014, 6, 9)), (DIVIDEND, date(2012, 8, 9))])
def test_an_action_learnt_late_changes_the_rows_from_its_ex_date_on_and_no_other(
    shared_data: Path, tmp_path: Path, kind: str, ex_date: date
) -> None:
    late = learnt_late(tmp_path, shared_data, kind, ex_date)
    assert late.report.states() == {"built": 1}
    assert Rounding.of(late.after, late.punctual).beyond == {}
    known = late.after.join(late.before, on=KEY, how="semi", maintain_order="left")
    earlier = pl.col("timestamp").dt.date() < ex_date
    assert Rounding.of(late.before.filter(earlier), known.filter(earlier)).beyond == {}
    wrong, right = late.before.filter(~earlier), known.filter(~earlier)
    changed = wrong.join(right, on=wrong.columns, how="anti", nulls_equal=True)
    assert changed["timestamp"].dt.date().to_list()[0] == ex_date
    assert changed.height == 3
    before, after = wrong["return_1"][0], right["return_1"][0]
    assert abs(after) < 0.03
    assert abs(before - after) > (1.9 if kind == SPLIT else 0.004)
    assert late.untouched


# --- The laws, column by column


SETS: Mapping[str, FeatureSet] = {
    "default": default_set("1d", WITH_SPY),
    "ema": default_set("1d", FeatureParameters(denoiser="ema", benchmark="SPY")),
    "kalman": default_set("1d", FeatureParameters(denoiser="kalman", benchmark="SPY")),
    "alpha158": ALPHA158,
}

#: A year of fitting, few steps of it: a filter of its own for each of the listings that are longer.
REGIMES: Mapping[str, RegimeParameters] = {
    "regimes": RegimeParameters(),
    "filtered regimes": RegimeParameters(method="hmm", hmm_bars=252, hmm_iterations=4),
}
PATTERN_RULES = PatternParameters()

#: AIG fell by 58 % in a day and was merged 20:1; WM, FB and USO are tickers that two companies have had.
HARD = ("AIG", "FB", "SPY", "USO", "WM")
#: With 62, 52 and 40 % in a day, with sessions that are missing, and with rows that cleaning took.
DIRTY = ("AMD", "BHF", "DHR", "VRTX")


def ingested(home: Path, file: Path, symbols: Sequence[str] | None, now: datetime, **knobs: Any) -> "Home":
    settings = Settings(
        home=home, source="files", files=str(file), history_start=date(1990, 1, 1), _env_file=None, **knobs
    )  # type: ignore[call-arg]
    source = Files(settings)
    return Home(settings, Lake(settings), Ledger(settings), source, list(symbols or source.symbols())).begun(now)


@dataclass(frozen=True)
class Home:
    """Symbols of a file."""

    settings: Settings
    lake: Lake
    ledger: Ledger
    source: Files
    symbols: list[str]

    def begun(self, now: datetime) -> "Home":
        calendar = self.settings.calendars
        self.ledger.add_symbols(
            [
                {"symbol": name, "source": "files", "calendar": calendar.get(name, "XNYS"), "added_at": now}
                for name in self.symbols
            ]
        )
        return self

    def ingest(self, now: datetime) -> Report:
        return ingest(self.lake, self.ledger, {"files": self.source}, self.settings, self.symbols, now)

    def work(self, now: datetime) -> dict[str, Report]:
        return {
            "ingest": self.ingest(now),
            "featurise": featurise(self.lake, self.ledger, self.settings, self.symbols),
            "recognise": recognise(self.lake, self.ledger, self.settings, self.symbols),
        }

    def bars(self) -> pl.DataFrame:
        """Everything that is held, adjusted for everything that is known."""
        bars, left_out = adjusted_bars(self.lake, self.settings, calendars_of(self.ledger), self.symbols)
        assert left_out == {}
        return bars.sort(KEY)


def real_bars(home: Path, shared_data: Path, hard: Sequence[str] | None, dirty: Sequence[str] | None) -> pl.DataFrame:
    """Adjusted bars of both files, those of the second under names of their own, with the fund's return beside them."""
    files = {"lean": ("lean_us_daily_raw", hard), "sp500": ("sp500_daily_2013_2018", dirty)}
    held = []
    for name, (file, symbols) in files.items():
        one = ingested(home / name, shared_data / f"{file}.parquet", symbols, AFTER_ALL)
        one.ingest(AFTER_ALL)
        held.append(one.bars())
    lean, sp500 = held
    fund = lean.filter(pl.col("symbol") == "SPY")
    returns = fund.select("timestamp", (pl.col("close") / pl.col("close").shift(1)).log().alias(market_column("SPY")))
    both = pl.concat([lean, sp500.with_columns(pl.col("symbol") + "-sp500")])
    bars = both.join(returns, on="timestamp", how="left", maintain_order="left").sort(KEY)
    return with_timeframes(bars, "1d", dict.fromkeys(bars["symbol"].unique(), "XNYS"))


@dataclass(frozen=True)
class Subject:
    """Real bars, and what they are in each feature set, in regimes and in events."""

    bars: pl.DataFrame
    sets: Mapping[str, FeatureSet]

    @cached_property
    def whole(self) -> dict[str, pl.DataFrame]:
        return self.seen(self.bars)

    def seen(self, bars: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """Everything that is said of these bars."""
        return {
            **{name: compute(bars, chosen, spread=side_by_side(2)) for name, chosen in self.sets.items()},
            **{name: regimes(bars, chosen) for name, chosen in REGIMES.items()},
            "events": patterns.events(bars, PATTERN_RULES),
        }

    def update(self, bars: pl.DataFrame, until: datetime, held: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """What is said of the bars after ``until``, from no more bars before them than each declares to need.

        ``held`` are the regimes said so far, by their name.
        """
        after = dict.fromkeys(bars["symbol"].unique(), until)
        last = {
            name: rows.group_by("symbol", maintain_order=True).last().select("symbol", "timestamp", "regime")
            for name, rows in held.items()
        }
        pending = pl.col("timestamp") > until
        of_events = patterns.events(tail(bars, until, patterns.memory(PATTERN_RULES)), PATTERN_RULES)
        return {
            **{
                name: compute(tail(bars, until, chosen.memory), chosen, after, spread=side_by_side(2))
                for name, chosen in self.sets.items()
            },
            **{
                name: regimes(tail(bars, until, regime_memory(chosen)), chosen, last[name])
                for name, chosen in REGIMES.items()
            },
            "events": of_events.filter(pending),
        }

    def differences(self, said: Mapping[str, pl.DataFrame], since: datetime, until: datetime) -> dict[str, float]:
        """How what was said of the bars after ``since`` and up to ``until`` differs from the whole, by column."""
        between = (pl.col("timestamp") > since) & (pl.col("timestamp") <= until)
        found = {}
        for name, whole in self.whole.items():
            ours, theirs = (frame.filter(between).sort(KEY, maintain_order=True) for frame in (said[name], whole))
            if name == "events":
                assert_frame_equal(ours, theirs, check_exact=True)
            else:
                found |= {f"{name}: {column}": apart for column, apart in worst(ours, theirs, whole).items()}
        return found


def tail(bars: pl.DataFrame, until: datetime, memory: int | None) -> pl.DataFrame:
    """The bars after ``until`` and ``memory`` before them (None: all), of each symbol that has any."""
    pending = (pl.col("timestamp") > until).sum().over("symbol")
    left = pl.int_range(pl.len(), 0, -1).over("symbol")
    remembered = pl.len().over("symbol") if memory is None else memory
    return bars.filter((pending > 0) & (left <= pending + remembered))


@pytest.fixture(scope="module")
def subject(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    bars = real_bars(tmp_path_factory.mktemp("laws"), shared_data, HARD, DIRTY)
    return Subject(bars, {"default": SETS["default"]})


@pytest.fixture(scope="module")
def everything(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    bars = real_bars(tmp_path_factory.mktemp("all"), shared_data, None, None)
    names = bars["symbol"].unique().sort()
    sp500 = names.filter(names.str.ends_with("-sp500")).gather_every(8)
    kept = ~pl.col("symbol").str.ends_with("-sp500") | pl.col("symbol").is_in(sp500.implode())
    return Subject(bars.filter(kept), SETS)


def place(share: float, subject: Subject) -> datetime:
    """The session at this share of all."""
    times = subject.bars["timestamp"].unique().sort()
    return times[int(share * (len(times) - 1))]  # type: ignore[no-any-return]


def nothing_comes_from_the_future(subject: Subject, share: float) -> None:
    until = place(share, subject)
    known = subject.seen(subject.bars.filter(pl.col("timestamp") <= until))
    assert excess(subject.differences(known, BEFORE_ALL, until), 1e-12) == {}


def chunks_are_the_whole(subject: Subject, share: float, sizes: Sequence[int]) -> None:
    times = subject.bars["timestamp"].unique().sort()
    first = int(share * (len(times) - 1 - sum(sizes)))
    begin = until = times[first]
    said = {name: [whole.filter(pl.col("timestamp") <= begin)] for name, whole in subject.whole.items()}
    for size in sizes:
        first += size
        part = subject.bars.filter(pl.col("timestamp") <= times[first])
        held = {name: pl.concat(said[name]) for name in REGIMES}
        for name, rows in subject.update(part, until, held).items():
            said[name].append(rows)
        until = times[first]
    together = {name: pl.concat(parts) for name, parts in said.items()}
    assert excess(subject.differences(together, begin, until), 1e-9) == {}


def scale_changes_nothing(subject: Subject, price: float, volume: float) -> None:
    scaled = subject.bars.with_columns(pl.col(*OHLC) * price, pl.col("volume") * volume)
    free = Subject(scaled, {name: chosen for name, chosen in subject.sets.items() if name != "alpha158"})
    said = {**subject.whole, **free.whole}
    assert excess(subject.differences(said, BEFORE_ALL, AFTER_ALL), 1e-8) == {}


SHARES = st.floats(0.02, 1.0)
SIZES = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 90)), min_size=2, max_size=4)
PRICES = st.sampled_from([1 / 7, 7.0, 1e-4])
VOLUMES = st.sampled_from([0.3, 7.0, 1e4])


@given(share=SHARES)
@examples(max_examples=6, deadline=None)
def test_what_is_known_later_changes_nothing_said_before(subject: Subject, share: float) -> None:
    nothing_comes_from_the_future(subject, share)


@given(share=SHARES, sizes=SIZES)
@examples(max_examples=6, deadline=None)
def test_updates_of_any_size_say_what_one_run_says(subject: Subject, share: float, sizes: list[int]) -> None:
    chunks_are_the_whole(subject, share, sizes)


@pytest.mark.parametrize(("price", "volume"), [(1 / 7, 7.0), (7.0, 1 / 7), (1e-4, 1e4)])
def test_scaling_prices_and_volume_changes_nothing(subject: Subject, price: float, volume: float) -> None:
    scale_changes_nothing(subject, price, volume)


@pytest.mark.parametrize("denoiser", ["ema", "kalman"])
def test_scaling_changes_nothing_behind_a_denoiser_either(subject: Subject, denoiser: str) -> None:
    scale_changes_nothing(Subject(subject.bars, {denoiser: SETS[denoiser]}), 1 / 7, 7.0)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@given(share=SHARES, sizes=SIZES, price=PRICES, volume=VOLUMES)
@examples(max_examples=12, deadline=None)
def test_every_set_obeys_the_laws_on_many_more_bars(
    everything: Subject, share: float, sizes: list[int], price: float, volume: float
) -> None:
    nothing_comes_from_the_future(everything, share)
    chunks_are_the_whole(everything, share, sizes)
    scale_changes_nothing(everything, price, volume)


# --- Every split and dividend of many years


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_published_rows_outlive_the_actions_of_eleven_symbols(shared_data: Path, tmp_path: Path) -> None:
    symbols = ["AAPL", "AIG", "BAC", "BNO", "EEM", "GOOG", "IBM", "IWM", "SPY", "USO", "WM"]
    bars, actions = as_traded(shared_data, symbols)
    house, once = begun(tmp_path / "walk", bars, actions), begun(tmp_path / "once", bars, actions)
    sessions = house.market.sessions()
    splits_and_apple = actions.filter((pl.col("kind") == SPLIT) | (pl.col("symbol") == "AAPL"))
    walk = Walk.through(house, eves(sessions, splits_and_apple["ex_date"].unique().to_list()))
    assert walk.rewritten() == {}
    work(once, sessions[-1])
    found = Rounding.of(walk.tables[-1], features_of(once))
    print(f"{len(walk.days)} evenings, {found.values:,} values, not the same bits: {found.unequal}")
    assert found.beyond == {}
    assert_frame_equal(events_of(house), events_of(once), rel_tol=0, abs_tol=1e-12)


# --- Markets that never close


@dataclass(frozen=True)
class Crypto:
    """A file of a market that never closes."""

    file: str
    interval: str
    rows: int
    now: datetime


#: Share of values that may be undefined: a bar that did not move, five closes alike, an hour without trade.
MOST_UNDEFINED = 1e-4

HOURS = Crypto("btcusdt_1h_long.parquet", "1h", 58_419, datetime(2024, 4, 21, 18, tzinfo=UTC))
MINUTES = Crypto("crypto_5m_majors.parquet", "5m", 1_007_628, datetime(2024, 9, 7, 6, tzinfo=UTC))


def never_closing(crypto: Crypto, home: Path, shared_data: Path) -> Home:
    file = shared_data / crypto.file
    symbols = pl.scan_parquet(file).select(pl.col("symbol").unique().sort()).collect()["symbol"].to_list()
    return ingested(home, file, symbols, crypto.now, interval=crypto.interval, calendars=dict.fromkeys(symbols, "24/7"))


def runs_through_the_same_code(crypto: Crypto, home: Path, shared_data: Path, stops: Sequence[timedelta]) -> None:
    """Rows are accounted for, every feature and regime is there, and what came in chunks is what came at once."""
    once = never_closing(crypto, home / "once", shared_data)
    reports = once.work(crypto.now)
    for station, report in reports.items():
        print(f"{crypto.file}: {station} took {report.totals['seconds']} s")
    read = reports["ingest"].totals
    assert read["rows_read"] == read["kept"] + read["repaired"] + read["dropped"] == crypto.rows
    table = once.lake.read(table_of(once.settings))
    assert table.height == crypto.rows - read["dropped"]
    place = pl.int_range(pl.len()).over("symbol")
    for feature in recipe_of(once.settings).feature_set.features:
        early, late = (
            table.filter(which)[feature.name] for which in (place < feature.warm_up, place >= feature.warm_up)
        )
        assert early.count() == 0, feature.name
        if market_column(None) not in feature.needs:
            assert late.null_count() <= MOST_UNDEFINED * len(late), feature.name
    late = table.filter(place >= regime_warm_up(once.settings.regimes))
    assert late.select(REGIME_COLUMNS).null_count().sum_horizontal().item() == 0
    assert late["regime"].n_unique() == 4
    chunks = never_closing(crypto, home / "chunks", shared_data)
    for before in (*stops, timedelta()):
        chunks.work(crypto.now - before)
    found = Rounding.of(chunks.lake.read(table_of(chunks.settings)), table)
    print(f"{crypto.file}: {found.values:,} values in {len(stops) + 1} chunks, not the same bits: {found.unequal}")
    assert found.beyond == {}
    assert_frame_equal(chunks.lake.read(TABLE), once.lake.read(TABLE), rel_tol=0, abs_tol=1e-12)


@pytest.mark.slow
def test_seven_years_of_hours_run_through_the_same_code(shared_data: Path, tmp_path: Path) -> None:
    stops = (timedelta(days=40, hours=5), timedelta(days=40, hours=4), timedelta(days=9))
    runs_through_the_same_code(HOURS, tmp_path, shared_data, stops)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_million_five_minute_bars_run_through_the_same_code(shared_data: Path, tmp_path: Path) -> None:
    runs_through_the_same_code(MINUTES, tmp_path, shared_data, (timedelta(days=3, minutes=35), timedelta(minutes=300)))

"""The promises of the lake that one writer can see: same tests on a folder and on an S3 server on loopback.

What is not read is proved by taking it away: the files of other years or symbols are deleted, and the answer stays.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import SecretStr

from alpha_assets.quant.schema import ACTIONS, BARS, CLEANING, TIME
from alpha_assets.settings import Settings
from alpha_assets.stores import lake as lake_module
from alpha_assets.stores.lake import (
    PREDICTIONS,
    ROW_GROUP_ROWS,
    SIGNALS,
    SMALL_FILES,
    Lake,
    LakeDamaged,
    LakeUnavailable,
)
from alpha_assets_tests import s3

NOW = datetime(2024, 6, 3, 20, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def day(text: str) -> datetime:
    """Midnight UTC of an ISO date."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bars(*rows: tuple[str, str, float], fetched_at: datetime = NOW) -> pl.DataFrame:
    """Bars from (symbol, ISO date, close)."""
    return pl.DataFrame(
        [
            {"symbol": symbol, "timestamp": day(at), "close": close, "volume": 1e6, "fetched_at": fetched_at}
            | dict.fromkeys(("open", "high", "low"), close)
            for symbol, at, close in rows
        ],
        schema_overrides={"timestamp": TIME, "fetched_at": TIME},
    ).select(
        pl.lit(None, kind).alias(name) if name in ("listing", "flags") else pl.col(name)
        for name, kind in {**BARS, "fetched_at": TIME}.items()
    )


def line(
    symbol: str | None, at: str | None, rule: str, close: float | None = 1.0, fetched_at: datetime = NOW
) -> dict[str, object]:
    """One line of the cleaning log."""
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    moment = None if at is None else day(at)
    return {
        "symbol": symbol,
        "timestamp": moment,
        **prices,
        "volume": None,
        "rule": rule,
        "action": "dropped",
        "fetched_at": fetched_at,
    }


def log(*lines: dict[str, object]) -> pl.DataFrame:
    """A cleaning log from its lines."""
    return pl.DataFrame(list(lines), schema={**CLEANING, "fetched_at": TIME})


@dataclass(frozen=True)
class Home:
    """A lake, and its files as the storage has them."""

    settings: Settings
    files: Callable[[], list[str]]
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]

    @property
    def lake(self) -> Lake:
        """A lake that shares nothing but the storage with the ones before."""
        return Lake(self.settings)

    def delete_where(self, part: str) -> int:
        """Delete the data files whose name has ``part``; how many there were."""
        found = [name for name in self.files() if part in name and "_delta_log" not in name]
        for name in found:
            self.delete(name)
        return len(found)

    def table(self, name: str) -> DeltaTable:
        """The table as delta-rs sees it."""
        options = {key: secret.get_secret_value() for key, secret in self.settings.lake_options.items()}
        return DeltaTable(f"{self.settings.lake}/{name}", storage_options=options)


def in_folder(folder: Path) -> Home:
    """A lake in a folder."""
    settings = Settings(home=folder)
    root = Path(settings.lake)

    def put(name: str, content: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    def files() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    return Home(settings, files, put, lambda name: (root / name).unlink())


def on_s3(folder: Path) -> Home:
    """A lake on the S3 server, below a prefix of its own."""
    server, prefix = s3.running(), uuid4().hex
    options = {name: SecretStr(value) for name, value in server.options.items()}
    return Home(
        Settings(home=folder, lake_url=server.url(prefix), lake_options=options),
        lambda: sorted(key.removeprefix(f"{prefix}/") for key in server.keys(f"{prefix}/")),
        lambda name, content: server.put(f"{prefix}/{name}", content),
        lambda name: server.delete(f"{prefix}/{name}"),
    )


@pytest.fixture(params=[in_folder, on_s3])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """The same lake in both kinds of storage."""
    made: Home = request.param(tmp_path / "home")
    return made


@pytest.fixture
def lake(home: Home) -> Lake:
    """The lake of ``home``."""
    return home.lake


class TestAppend:
    def test_what_is_written_is_read_sorted_by_key_and_without_the_year(self, lake: Lake) -> None:
        written = bars(("MSFT", "2024-01-02", 3.0), ("AAPL", "2024-01-02", 2.0), ("AAPL", "2023-12-29", 1.0))
        assert lake.append("bars", written) == 3
        assert_frame_equal(lake.read("bars"), written.sort("symbol", "timestamp"))

    def test_the_same_rows_again_write_nothing_and_make_no_version(self, lake: Lake) -> None:
        rows = bars(("AAPL", "2024-01-02", 1.0), ("AAPL", "2024-01-03", 2.0))
        lake.append("bars", rows)
        before = lake.version("bars")
        assert lake.append("bars", rows) == 0
        assert lake.version("bars") == before

    def test_a_held_row_stays_as_it_is_and_only_new_keys_enter(self, lake: Lake) -> None:
        lake.append("bars", bars(("AAPL", "2024-01-02", 1.0)))
        new = bars(("AAPL", "2024-01-02", 9.0), ("AAPL", "2024-01-03", 2.0), fetched_at=LATER)
        assert lake.append("bars", new) == 1
        assert lake.read("bars")["close"].to_list() == [1.0, 2.0]

    def test_an_empty_frame_makes_no_table(self, lake: Lake) -> None:
        assert lake.append("bars", bars(("AAPL", "2024-01-02", 1.0)).clear()) == 0
        assert lake.version("bars") is None

    def test_a_key_twice_in_the_frame_is_refused_and_the_first_one_named(self, lake: Lake) -> None:
        rows = bars(("MSFT", "2024-01-02", 1.0), ("AAPL", "2024-01-03", 1.0), ("AAPL", "2024-01-03", 2.0))
        with pytest.raises(ValueError, match=r"the frame holds the key symbol AAPL, timestamp 2024-01-03 .* twice"):
            lake.append("bars", rows)
        assert lake.version("bars") is None

    def test_a_row_with_an_incomplete_key_is_refused(self, lake: Lake) -> None:
        rows = bars(("AAPL", "2024-01-02", 1.0)).with_columns(timestamp=pl.lit(None, TIME))
        with pytest.raises(ValueError, match="incomplete key: symbol AAPL, timestamp None"):
            lake.append("bars", rows)

    def test_other_columns_are_refused_by_name(self, lake: Lake) -> None:
        rows = bars(("AAPL", "2024-01-02", 1.0)).rename({"volume": "vol"})
        with pytest.raises(ValueError, match="columns missing: volume; columns it does not have: vol"):
            lake.append("bars", rows)

    def test_a_table_that_is_not_declared_is_refused(self, lake: Lake) -> None:
        with pytest.raises(ValueError, match="no table 'barz'; it has bars, actions"):
            lake.append("barz", bars(("AAPL", "2024-01-02", 1.0)))

    def test_every_declared_table_takes_its_rows(self, lake: Lake) -> None:
        assert lake.append("actions", a_split()) == 1
        assert (
            lake.append("predictions", pl.DataFrame([dict.fromkeys(PREDICTIONS) | A_PREDICTION], schema=PREDICTIONS))
            == 1
        )
        assert lake.append("signals", pl.DataFrame([dict.fromkeys(SIGNALS) | A_SIGNAL], schema=SIGNALS)) == 1
        assert lake.append("cleaning", log(line("AAPL", "2024-01-02", "copy"))) == 1
        assert lake.append("features/base-1a2b", features("AAPL", "2024-01-02")) == 1
        assert lake.tables() == ["actions", "cleaning", "features/base-1a2b", "predictions", "signals"]
        assert_frame_equal(lake.read("actions"), a_split())
        assert_frame_equal(lake.read("features/base-1a2b"), features("AAPL", "2024-01-02"))

    def test_predictions_of_two_trainings_live_side_by_side(self, lake: Lake) -> None:
        rows = pl.DataFrame([dict.fromkeys(PREDICTIONS) | A_PREDICTION], schema=PREDICTIONS)
        lake.append("predictions", rows)
        assert lake.append("predictions", rows.with_columns(training_id=pl.lit("another"))) == 1
        assert lake.append("predictions", rows.with_columns(p_up=pl.lit(0.1))) == 0

    def test_a_feature_set_keeps_the_columns_it_began_with(self, lake: Lake) -> None:
        lake.append("features/base-1a2b", features("AAPL", "2024-01-02"))
        with pytest.raises(ValueError, match="columns it does not have: another"):
            lake.append("features/base-1a2b", features("AAPL", "2024-01-03").with_columns(another=pl.lit(1.0)))


def prediction(symbol: str, at: str, **more: float) -> pl.DataFrame:
    """One row of the table predictions; what is not given is null."""
    key = {"symbol": symbol, "regime": "all", "timestamp": day(at), "training_id": "t1", "origin": "oof"}
    return pl.DataFrame([{**key, "p_up": 0.5, "made_at": NOW, **more}], schema=dict(PREDICTIONS))


class TestATableOfAnOlderProgram:
    """Its columns are fewer: it is read and written on, and nothing that it holds is lost."""

    @pytest.fixture
    def older(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
        """Predictions as they were before anything but P(up) was kept."""
        old = {name: kind for name, kind in PREDICTIONS.items() if name in prediction_columns()}
        spec = lake_module.TABLES["predictions"]
        with monkeypatch.context() as patch:
            patch.setattr(lake_module, "TABLES", {**lake_module.TABLES, "predictions": replace(spec, schema=old)})
            home.lake.append("predictions", prediction("A", "2024-06-03").select(list(old)))
            home.lake.append("predictions", prediction("A", "2023-06-05").select(list(old)))
        return home

    def test_is_read_with_nulls_where_it_has_no_column(self, older: Home) -> None:
        assert_frame_equal(
            older.lake.read("predictions"), pl.concat([prediction("A", "2023-06-05"), prediction("A", "2024-06-03")])
        )
        assert older.lake.read("predictions", columns=["symbol", "p_buy"])["p_buy"].null_count() == 2

    def test_takes_new_rows_and_columns_and_doubles_none(self, older: Home) -> None:
        new = prediction("B", "2024-06-03", p_buy=0.3, expected_return=0.01)
        assert older.lake.append("predictions", pl.concat([prediction("A", "2024-06-03", p_buy=0.9), new])) == 1
        everything = pl.concat([prediction("A", "2023-06-05"), prediction("A", "2024-06-03"), new])
        assert_frame_equal(older.lake.read("predictions"), everything)
        assert older.lake.append("predictions", everything) == 0
        older.lake.compact("predictions")
        assert_frame_equal(older.lake.read("predictions"), everything)

    def test_is_replaced_and_merged_like_any_other(self, older: Home) -> None:
        again = prediction("A", "2024-06-03", p_buy=0.3)
        assert older.lake.replace("predictions", again, ["A"]) == 1
        assert_frame_equal(older.lake.read("predictions"), again)


def prediction_columns() -> tuple[str, ...]:
    key = lake_module.TABLES["predictions"].key
    return (*key, "p_up", "score", "prior", "made_at")


class TestTheCleaningLog:
    def test_a_line_that_repeats_counts_once(self, lake: Lake) -> None:
        same = line("AAPL", "2024-01-02", "duplicate")
        assert lake.append("cleaning", log(same, same, line("AAPL", "2024-01-02", "duplicate", close=2.0))) == 2

    def test_a_line_seen_again_at_the_next_fetch_is_no_new_line(self, lake: Lake) -> None:
        lake.append("cleaning", log(line("AAPL", "2024-01-02", "null_price", close=None)))
        again = log(line("AAPL", "2024-01-02", "null_price", close=None, fetched_at=LATER))
        assert lake.append("cleaning", again) == 0

    def test_a_line_without_symbol_or_time_is_kept_once(self, lake: Lake) -> None:
        lines = log(
            line(None, "2024-01-02", "null_key"), line("AAPL", None, "null_key"), line("AAPL", "2024-01-02", "copy")
        )
        assert lake.append("cleaning", lines) == 3
        assert lake.append("cleaning", lines) == 0
        assert lake.read("cleaning").height == 3
        assert lake.read("cleaning", symbols=["AAPL"]).height == 2


class TestReplace:
    def test_the_rows_of_exactly_these_symbols_become_the_frames(self, lake: Lake) -> None:
        held = bars(("AAPL", "2023-01-03", 1.0), ("AAPL", "2024-01-02", 1.0), ("MSFT", "2024-01-02", 5.0))
        lake.append("bars", held)
        restated = bars(("AAPL", "2024-01-02", 2.0), ("AAPL", "2024-01-03", 2.0), fetched_at=LATER)
        assert lake.replace("bars", restated, ["AAPL"]) == 2
        expected = pl.concat([restated, held.filter(pl.col("symbol") == "MSFT")])
        assert_frame_equal(lake.read("bars"), expected)

    def test_where_nothing_differs_there_is_no_commit_and_the_first_clock_stays(self, lake: Lake) -> None:
        rows = bars(("AAPL", "2023-01-03", 1.0), ("AAPL", "2024-01-02", 1.0))
        lake.append("bars", rows)
        before = lake.version("bars")
        assert lake.replace("bars", rows.with_columns(fetched_at=pl.lit(LATER)), ["AAPL"]) == 0
        assert lake.version("bars") == before
        assert lake.read("bars")["fetched_at"].to_list() == [NOW, NOW]

    def test_a_restated_row_has_the_new_clock_and_its_neighbours_keep_theirs(self, lake: Lake) -> None:
        lake.append("bars", bars(("AAPL", "2024-01-02", 1.0), ("AAPL", "2024-01-03", 1.0)))
        lake.replace("bars", bars(("AAPL", "2024-01-02", 1.0), ("AAPL", "2024-01-03", 2.0), fetched_at=LATER), ["AAPL"])
        assert lake.read("bars")["fetched_at"].to_list() == [NOW, LATER]

    def test_years_in_which_nothing_differs_keep_their_files(self, home: Home) -> None:
        rows = bars(("AAPL", "2022-01-03", 1.0), ("AAPL", "2023-01-03", 1.0), ("AAPL", "2024-01-02", 1.0))
        home.lake.append("bars", rows)
        before = set(home.table("bars").file_uris())
        home.lake.replace("bars", rows.with_columns(close=pl.Series([1.0, 1.5, 1.0])), ["AAPL"])
        gone = before - set(home.table("bars").file_uris())
        assert [name.split("/")[-2] for name in gone] == ["year=2023"]

    def test_an_empty_frame_removes_the_symbols(self, lake: Lake) -> None:
        lake.append("bars", bars(("AAPL", "2024-01-02", 1.0), ("MSFT", "2024-01-02", 5.0)))
        assert lake.replace("bars", bars(("AAPL", "2024-01-02", 1.0)).clear(), ["AAPL"]) == 0
        assert lake.read("bars")["symbol"].to_list() == ["MSFT"]

    def test_it_makes_a_table_that_does_not_exist(self, lake: Lake) -> None:
        assert lake.replace("bars", bars(("AAPL", "2024-01-02", 1.0)), ["AAPL"]) == 1
        assert lake.read("bars").height == 1

    def test_a_row_of_another_symbol_is_refused(self, lake: Lake) -> None:
        with pytest.raises(ValueError, match="bars: a row of 'MSFT' in a replacement of AAPL, IBM"):
            lake.replace("bars", bars(("MSFT", "2024-01-02", 1.0)), ["IBM", "AAPL"])

    def test_symbols_with_quotes_and_signs_are_names_and_nothing_else(self, lake: Lake) -> None:
        names = ["O'NEIL", "BRK.B", "^GSPC", "EURUSD=X", "x' OR '1'='1", "Ü/%_\\"]
        lake.append("bars", bars(*((name, "2024-01-02", 1.0) for name in names)))
        for name in names:
            assert lake.replace("bars", bars((name, "2024-01-02", 2.0)), [name]) == 1
            assert lake.read("bars", symbols=[name])["close"].to_list() == [2.0]
        assert lake.read("bars").height == len(names)


class TestRead:
    @pytest.fixture
    def held(self, lake: Lake) -> pl.DataFrame:
        days = ("2021-06-01", "2022-06-01", "2023-06-01", "2023-06-02")
        rows = bars(*((symbol, at, 1.0) for symbol in ("A", "B", "C") for at in days))
        lake.append("bars", rows)
        return rows

    def test_since_and_until_are_inclusive(self, lake: Lake, held: pl.DataFrame) -> None:
        found = lake.read("bars", since=day("2022-06-01"), until=day("2023-06-01"))
        assert_frame_equal(found, held.filter(pl.col("timestamp").is_between(day("2022-06-01"), day("2023-06-01"))))

    def test_a_mapping_gives_each_symbol_its_own_since(self, lake: Lake, held: pl.DataFrame) -> None:
        found = lake.read("bars", since={"A": day("2023-06-02"), "B": None})
        assert_frame_equal(
            found,
            held.filter(
                (pl.col("symbol") == "B") | ((pl.col("symbol") == "A") & (pl.col("timestamp") >= day("2023-06-02")))
            ),
        )

    @pytest.mark.usefixtures("held")
    def test_a_symbol_without_an_entry_in_the_mapping_is_read_whole(self, lake: Lake) -> None:
        found = lake.read("bars", symbols=["A", "C"], since={"A": day("2023-06-02"), "B": None})
        assert dict(found.group_by("symbol").len().iter_rows()) == {"A": 1, "C": 4}

    @pytest.mark.usefixtures("held")
    def test_columns_come_in_the_order_asked_for(self, lake: Lake) -> None:
        assert lake.read("bars", columns=["close", "symbol"]).columns == ["close", "symbol"]
        with pytest.raises(ValueError, match="bars has no column 'clse'; it has symbol, timestamp"):
            lake.read("bars", columns=["clse"])

    def test_rows_may_be_chosen_by_a_column_that_is_not_asked_for(self, lake: Lake, held: pl.DataFrame) -> None:
        found = lake.read("bars", since={"A": day("2023-06-01")}, columns=["symbol"], where=pl.col("close") > 0)
        assert found["symbol"].to_list() == ["A", "A"]
        chosen = lake.read("bars", where=pl.col("symbol") != "B")
        assert_frame_equal(chosen, held.filter(pl.col("symbol") != "B"))
        assert lake.read("bars", columns=["close"], where=pl.col("close") > 1).is_empty()

    def test_without_order_the_same_rows_come_in_any(self, lake: Lake, held: pl.DataFrame) -> None:
        found = lake.read("bars", ordered=False)
        assert_frame_equal(found, held, check_row_order=False)

    def test_a_time_without_a_zone_is_refused(self, lake: Lake) -> None:
        with pytest.raises(ValueError, match="2024-01-02 00:00:00 has no time zone"):
            lake.read("bars", since=datetime(2024, 1, 2))

    def test_bounds_in_another_zone_are_the_same_instants(self, lake: Lake) -> None:
        lake.append("bars", bars(("A", "2023-12-31", 1.0), ("A", "2024-01-01", 1.0)))
        evening = datetime(2023, 12, 31, 19, tzinfo=ZoneInfo("America/New_York"))
        assert lake.read("bars", since=evening)["timestamp"].to_list() == [day("2024-01-01")]
        assert lake.read("bars", since={"A": evening})["timestamp"].to_list() == [day("2024-01-01")]
        sydney = datetime(2024, 1, 1, 10, tzinfo=ZoneInfo("Australia/Sydney"))
        assert lake.read("bars", since={"A": sydney}).height == 1

    def test_an_old_version_is_what_it_was(self, lake: Lake, held: pl.DataFrame) -> None:
        before = lake.version("bars")
        lake.replace("bars", held.clear(), ["A", "B", "C"])
        assert lake.read("bars").is_empty()
        assert_frame_equal(lake.read("bars", version=before), held)

    def test_no_symbols_are_no_rows(self, lake: Lake, held: pl.DataFrame) -> None:
        assert lake.read("bars", symbols=[]).is_empty()
        assert lake.read("bars", since={}).is_empty()
        assert lake.read("bars", symbols=["Z"]).schema == held.schema

    def test_a_table_that_does_not_exist_is_an_empty_frame_of_its_columns(self, lake: Lake) -> None:
        assert lake.read("bars").schema == {**BARS, "fetched_at": TIME}
        assert lake.read("actions", columns=["value", "symbol"]).columns == ["value", "symbol"]
        assert lake.read("features/base-1a2b", columns=["symbol", "rsi"]).columns == ["symbol", "rsi"]
        assert lake.last_rows("bars").is_empty()
        assert lake.last_times("bars", ["AAPL"]) == {}
        assert lake.version("bars") is None
        assert lake.tables() == []
        assert lake.compact("bars") == 0
        assert lake.vacuum("bars") == []

    def test_dates_take_instants_as_bounds(self, lake: Lake) -> None:
        lake.append("actions", a_split())
        assert lake.read("actions", since=day("2014-06-09"), until=day("2014-06-09")).height == 1
        assert lake.read("actions", since={"AAPL": day("2014-06-10")}).is_empty()

    @pytest.mark.usefixtures("held")
    def test_last_rows_counts_and_bounds_every_symbol(self, lake: Lake) -> None:
        lake.append("bars", bars(("A", "2024-01-02", 1.0)))
        assert lake.last_rows("bars", ["A", "B"]).rows() == [
            ("A", day("2021-06-01"), day("2024-01-02"), 5),
            ("B", day("2021-06-01"), day("2023-06-02"), 4),
        ]

    @pytest.mark.usefixtures("held")
    def test_last_times_goes_back_until_every_symbol_is_found(self, lake: Lake) -> None:
        lake.append("bars", bars(("A", "2024-01-02", 1.0), ("OLD", "1999-01-04", 1.0)))
        found = lake.last_times("bars", ["A", "B", "OLD", "NEVER"])
        assert found == {"A": day("2024-01-02"), "B": day("2023-06-02"), "OLD": day("1999-01-04")}


class TestWhatIsNotAskedForIsNotRead:
    """Deleting the files that must not be touched is the proof: with one of them a read fails."""

    @pytest.fixture(autouse=True)
    def held(self, home: Home) -> None:
        for year in (2021, 2022, 2023):
            home.lake.append("bars", bars(*((symbol, f"{year}-06-01", 1.0) for symbol in ("A", "B"))))
        home.lake.append("bars", bars(("Z", "2023-06-01", 1.0)))

    def test_a_read_of_the_whole_table_needs_every_file(self, home: Home) -> None:
        assert home.delete_where("year=2021") == 1
        with pytest.raises(LakeUnavailable, match=r"/bars, version \d+"):
            home.lake.read("bars")

    def test_the_tail_needs_the_last_year_only(self, home: Home) -> None:
        home.delete_where("year=2021")
        home.delete_where("year=2022")
        assert home.lake.read("bars", since=day("2023-01-01")).height == 3
        assert home.lake.read("bars", since={"A": day("2023-01-01"), "Z": day("2022-12-31")}).height == 2
        assert home.lake.last_times("bars", ["A", "B", "Z"]).keys() == {"A", "B", "Z"}

    def test_an_append_of_new_rows_needs_the_last_year_only(self, home: Home) -> None:
        home.delete_where("year=2021")
        home.delete_where("year=2022")
        new = bars(("A", "2023-06-01", 9.0), ("A", "2023-06-02", 1.0), ("B", "2023-06-02", 1.0))
        assert home.lake.append("bars", new) == 2

    def test_the_past_needs_no_later_file(self, home: Home) -> None:
        home.delete_where("year=2023")
        assert home.lake.read("bars", until=day("2022-12-31")).height == 4

    def test_a_symbol_needs_only_the_files_whose_range_of_symbols_covers_it(self, home: Home) -> None:
        before = set(home.table("bars").file_uris())
        home.lake.append("bars", bars(("P", "2023-06-02", 1.0)))
        only_p = set(home.table("bars").file_uris()) - before
        for name in home.files():
            if "_delta_log" not in name and not any(uri.endswith(name) for uri in only_p):
                home.delete(name)
        assert home.lake.read("bars", symbols=["P"]).height == 1

    def test_one_symbol_far_behind_opens_old_files_for_itself_only(self, home: Home) -> None:
        home.delete_where("year=2021")
        found = home.lake.read("bars", since={"A": day("2022-01-01"), "B": day("2023-01-01")})
        assert found.select("symbol", pl.col("timestamp").dt.year()).rows() == [("A", 2022), ("A", 2023), ("B", 2023)]
        with pytest.raises(LakeUnavailable, match=r"/bars, version \d+"):
            home.lake.read("bars", since={"A": None, "B": day("2023-01-01")})


class TestFiles:
    def test_row_groups_are_small_and_each_holds_few_symbols(self, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        home = in_folder(tmp_path)
        symbols, days = 600, 250
        home.lake.append("bars", many(symbols, days))
        (name,) = (name for name in home.files() if name.endswith(".parquet"))
        file = pq.ParquetFile(Path(home.settings.lake) / name).metadata
        groups = [file.row_group(number) for number in range(file.num_row_groups)]
        assert max(group.num_rows for group in groups) <= ROW_GROUP_ROWS
        bounds = [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups]
        assert all(first[1] <= second[0] for first, second in pairwise(bounds))
        assert len(groups) == -(-symbols * days // ROW_GROUP_ROWS)

    def test_floats_have_neither_dictionary_nor_bounds_and_all_is_zstd_but_features(self, tmp_path: Path) -> None:
        import pyarrow.parquet as pq

        home = in_folder(tmp_path)
        home.lake.append("bars", many(2, 50))
        home.lake.append("features/base-1a2b", features("AAPL", "2024-01-02"))
        for name in (name for name in home.files() if name.endswith(".parquet")):
            group = pq.ParquetFile(Path(home.settings.lake) / name).metadata.row_group(0)
            columns = [group.column(number) for number in range(group.num_columns)]
            assert {column.compression for column in columns} == {"LZ4" if name.startswith("features") else "ZSTD"}
            assert [column.path_in_schema for column in columns if column.statistics is None] == [
                column.path_in_schema for column in columns if column.physical_type in ("DOUBLE", "FLOAT")
            ]
            assert not any(
                column.has_dictionary_page for column in columns if column.physical_type in ("DOUBLE", "FLOAT")
            )

    def test_many_small_appends_leave_few_files_and_every_row(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lake_module, "SMALL_FILES", 3)
        days = [day("2024-01-01") + timedelta(days=number) for number in range(14)]
        for at in days:
            home.lake.append("bars", bars(("A", f"{at:%Y-%m-%d}", 1.0), ("B", f"{at:%Y-%m-%d}", 2.0)))
        assert len(home.table("bars").file_uris()) <= 3
        assert home.lake.read("bars", symbols=["A"])["timestamp"].to_list() == days
        assert home.lake.read("bars").height == 2 * len(days)

    def test_small_appends_do_not_rewrite_a_large_file(self, tmp_path: Path) -> None:
        home = in_folder(tmp_path)
        home.lake.append("bars", many(400, 100))
        large = set(home.table("bars").file_uris())
        for number in range(SMALL_FILES + 2):
            home.lake.append("bars", bars(("A", f"2024-12-{number + 1:02d}", 1.0)))
        assert large < set(home.table("bars").file_uris())
        assert len(home.table("bars").file_uris()) <= 1 + SMALL_FILES

    def test_compact_keeps_every_row_of_every_kind_of_table(self, home: Home) -> None:
        for number in range(4):
            home.lake.append("bars", bars(("B", f"2024-01-0{number + 1}", 1.0), ("A", f"2023-01-0{number + 1}", 1.0)))
            home.lake.append("actions", a_split(date(2014, 6, 9 + number)))
            home.lake.append(
                "cleaning", log(line("A", None, "null_key", number), line("A", "2024-01-02", "copy", number))
            )
        held = {name: home.lake.read(name) for name in home.lake.tables()}
        assert {name: home.lake.compact(name) for name in held} == {"actions": 1, "bars": 2, "cleaning": 2}
        for name, rows in held.items():
            assert_frame_equal(home.lake.read(name), rows)
            assert home.lake.compact(name) == 0
        assert len(home.table("bars").file_uris()) == 2

    def test_times_within_a_millisecond_survive_a_merge(self, home: Home) -> None:
        start = datetime(2024, 1, 2, 14, 30, 0, 123_000, tzinfo=UTC)
        moments = [start + timedelta(microseconds=step) for step in (0, 1, 456, 999, 1000, 1001)]
        for moment in moments:
            home.lake.append("bars", bars(("A", "2024-01-02", 1.0)).with_columns(timestamp=pl.lit(moment, TIME)))
        home.lake.compact("bars")
        for moment in moments:
            assert home.lake.read("bars", since=moment, until=moment)["timestamp"].to_list() == [moment]
        assert home.lake.read("bars").height == len(moments)

    def test_the_log_has_checkpoints(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lake_module, "CHECKPOINT_INTERVAL", 4)
        for number in range(6):
            home.lake.append("bars", bars(("A", f"{1990 + number}-01-02", 1.0)))
        assert any("_delta_log" in name and "checkpoint.parquet" in name for name in home.files())
        assert home.lake.read("bars").height == 6

    def test_a_file_that_no_commit_names_is_invisible_and_vacuumed_when_old(self, home: Home) -> None:
        home.lake.append("bars", bars(("A", "2024-01-02", 1.0)))
        (real,) = (name for name in home.files() if name.endswith(".parquet"))
        orphan = "bars/year=2024/part-00000-left-by-a-kill.zstd.parquet"
        home.put(orphan, b"half a file")
        assert home.lake.read("bars").height == 1
        assert home.lake.last_rows("bars")["rows"].to_list() == [1]
        assert home.lake.vacuum("bars") == home.lake.vacuum("bars", older_than=timedelta(minutes=1)) == []
        assert orphan in home.files()
        removed = home.lake.vacuum("bars", older_than=timedelta(0))
        assert [name.split("/")[-1] for name in removed] == [orphan.split("/")[-1]]
        assert orphan not in home.files()
        assert real in home.files()
        assert home.lake.read("bars").height == 1


class TestStorage:
    def test_credentials_from_the_environment_are_enough(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server = s3.running()
        for name, value in server.options.items():
            monkeypatch.setenv(name, value)
        lake = Lake(Settings(home=tmp_path, lake_url=server.url(uuid4().hex)))
        lake.append("bars", bars(("A", "2024-01-02", 1.0)))
        assert lake.read("bars").height == 1
        assert lake.tables() == ["bars"]

    def test_a_store_that_does_not_answer_is_named_and_the_secret_is_not(self, tmp_path: Path) -> None:
        options = {**s3.running().options, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
        secrets = {name: SecretStr(value) for name, value in options.items()}
        lake = Lake(Settings(home=tmp_path, lake_url="s3://lake/somewhere", lake_options=secrets))
        for act in (
            lambda: lake.read("bars"),
            lake.tables,
            lambda: lake.append("bars", bars(("A", "2024-01-02", 1.0))),
        ):
            with pytest.raises(LakeUnavailable, match=r"s3://lake/somewhere.*refused.*ALPHA_LAKE_URL") as refused:
                act()
            assert "nobody-may-read-this" not in str(refused.value)
        assert "nobody-may-read-this" not in repr(vars(lake))

    def test_a_bucket_that_does_not_exist_is_unavailable_and_not_empty(self, tmp_path: Path) -> None:
        secrets = {name: SecretStr(value) for name, value in s3.running().options.items()}
        lake = Lake(Settings(home=tmp_path, lake_url="s3://no-such-bucket/lake", lake_options=secrets))
        with pytest.raises(LakeUnavailable, match="no-such-bucket"):
            lake.read("bars")

    @pytest.mark.parametrize("damage", [b"", b"\xff\x00" * 500, None], ids=["emptied", "garbled", "deleted"])
    def test_a_damaged_file_is_no_matter_of_reach_and_the_table_and_the_remedy_are_named(
        self, home: Home, damage: bytes | None
    ) -> None:
        home.lake.append("bars", bars(("A", "2024-01-02", 1.0)))
        file = next(name for name in home.files() if name.startswith("bars/") and name.endswith(".parquet"))
        if damage is None:
            assert home.delete_where(file) == 1
        else:
            home.put(file, damage)
        with pytest.raises(LakeDamaged, match=r"the table bars of the lake is damaged .*refresh --full") as raised:
            home.lake.read("bars")
        assert "cannot be reached" not in str(raised.value)
        assert str(raised.value).isprintable()
        assert "\ufffd" not in str(raised.value)

    def test_a_damaged_log_is_told_so_without_the_backtrace_of_the_library(self, home: Home) -> None:
        home.lake.append("signals", pl.DataFrame([dict.fromkeys(SIGNALS) | A_SIGNAL], schema=SIGNALS))
        home.put("signals/_delta_log/00000000000000000001.json", b"\xff\x00" * 500)
        with pytest.raises(LakeDamaged, match=r"the table signals of the lake is damaged .*the newest stay") as raised:
            home.lake.read("signals")
        assert "<unknown>" not in str(raised.value)

    def test_a_folder_that_may_not_be_written_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "lake").write_text("a file where the folder should be")
        with pytest.raises(LakeUnavailable, match="ALPHA_LAKE_URL"):
            Lake(Settings(home=tmp_path)).append("bars", bars(("A", "2024-01-02", 1.0)))

    @pytest.mark.parametrize("name", ["a [b]", "%41"])
    def test_a_folder_that_delta_would_take_for_a_url_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="set ALPHA_HOME or ALPHA_LAKE_URL to another folder"):
            Lake(Settings(home=tmp_path / name))

    def test_a_folder_may_have_any_other_name(self, tmp_path: Path) -> None:
        home = in_folder(tmp_path / "a *ü % 'c' ?#&{}")
        home.lake.append("bars", bars(("A", "2024-01-02", 1.0)))
        assert home.lake.append("bars", bars(("A", "2024-01-02", 1.0), ("A", "2024-01-03", 1.0))) == 1
        assert home.lake.read("bars").height == 2
        assert home.lake.tables() == ["bars"]

    def test_a_folder_left_empty_by_a_kill_is_no_table_yet(self, tmp_path: Path) -> None:
        home = in_folder(tmp_path)
        (Path(home.settings.lake) / "bars" / "_delta_log").mkdir(parents=True)
        assert home.lake.version("bars") is None
        assert home.lake.append("bars", bars(("A", "2024-01-02", 1.0))) == 1

    def test_importing_the_module_loads_neither_delta_nor_arrow(self) -> None:
        code = "import sys, alpha_assets.stores.lake; print([m for m in ('deltalake', 'pyarrow') if m in sys.modules])"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == "[]"


SYMBOLS = ("A", "B", "C")
DAYS = ("2022-12-30", "2022-12-31", "2023-01-01", "2023-07-03", "2024-02-29")
keyed = st.dictionaries(
    st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DAYS)), st.sampled_from([1.0, 2.0, float("nan")])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), keyed),
        st.tuples(st.just("replace"), keyed, st.sets(st.sampled_from(SYMBOLS), min_size=1)),
        st.tuples(st.just("compact")),
    ),
    max_size=8,
)


class TestAnySequenceOfWritesEqualsADictionary:
    @given(steps)
    @examples(max_examples=30, deadline=None)
    def test_append_sets_what_lacks_and_replace_sets_the_symbols(self, taken: list[tuple]) -> None:
        with TemporaryDirectory() as folder:
            lake, model = Lake(Settings(home=Path(folder))), {}
            for act, *arguments in taken:
                play(lake, model, act, *arguments)
                found = lake.read("bars")
                assert_frame_equal(found.select("symbol", "timestamp", "close"), as_frame(model))
                assert found.select(pl.struct("symbol", "timestamp").n_unique()).item() == len(model)
                assert dict(lake.last_rows("bars").select("symbol", "rows").iter_rows()) == counted(model)

    @given(st.lists(st.sets(st.integers(0, 4_000), min_size=1, max_size=4), min_size=2, max_size=6))
    @examples(max_examples=25, deadline=None)
    def test_a_merge_beside_files_that_are_not_small_keeps_every_microsecond(self, files: list[set[int]]) -> None:
        start = day("2024-01-02")
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(lake_module, "ROW_GROUP_ROWS", 3)
            lake = Lake(Settings(home=Path(folder)))
            for number, micros in enumerate(files):
                row = bars((f"S{number}", "2024-01-02", 1.0))
                times = pl.DataFrame({"timestamp": [start + timedelta(microseconds=step) for step in micros]})
                lake.append("bars", row.drop("timestamp").join(times.cast(TIME), how="cross"))
            before = lake.read("bars")
            lake.compact("bars")
            assert before.height == sum(map(len, files))
            assert_frame_equal(lake.read("bars"), before)


def play(lake: Lake, model: dict, act: str, rows: dict | None = None, symbols: set[str] | None = None) -> None:
    """One step on the lake and on the dictionary, which must agree on what was written."""
    if act == "compact":
        lake.compact("bars")
        return
    assert rows is not None
    if act == "append":
        lacking = {key: value for key, value in rows.items() if key not in model}
        assert lake.append("bars", frame_of(rows)) == len(lacking)
        model |= lacking
        return
    assert symbols is not None
    kept = {key: value for key, value in rows.items() if key[0] in symbols}
    changed = [key for key, value in kept.items() if key not in model or repr(model[key]) != repr(value)]
    assert lake.replace("bars", frame_of(kept), sorted(symbols)) == len(changed)
    for key in [key for key in model if key[0] in symbols]:
        del model[key]
    model |= kept


def frame_of(rows: dict) -> pl.DataFrame:
    """Bars of a dictionary from (symbol, day) to close, or none."""
    some = bars(("A", "2024-01-02", 1.0))
    return bars(*((*key, close) for key, close in rows.items())) if rows else some.clear()


def as_frame(model: dict) -> pl.DataFrame:
    """What the lake should answer for the model."""
    return frame_of(model).select("symbol", "timestamp", "close").sort("symbol", "timestamp")


def counted(model: dict) -> dict[str, int]:
    """Rows a symbol."""
    symbols = [symbol for symbol, _ in model]
    return {symbol: symbols.count(symbol) for symbol in symbols}


def many(symbols: int, days: int) -> pl.DataFrame:
    """Bars of many symbols over the first days of 2024."""
    names = pl.LazyFrame({"symbol": [f"S{number:04d}" for number in range(symbols)]})
    first = day("2024-01-01")
    times = pl.LazyFrame(
        {"timestamp": [first + timedelta(days=number) for number in range(days)]}, schema={"timestamp": TIME}
    )
    prices = pl.int_range(pl.len()).cast(pl.Float64)
    return (
        names.join(times, how="cross")
        .with_columns(
            *(prices.alias(name) for name in ("open", "high", "low", "close", "volume")),
            listing=pl.lit(None, pl.Date),
            flags=pl.lit(None, pl.String),
            fetched_at=pl.lit(NOW, TIME),
        )
        .collect()
    )


def a_split(ex_date: date = date(2014, 6, 9)) -> pl.DataFrame:
    """AAPL's split of 2014."""
    row = {"symbol": "AAPL", "ex_date": ex_date, "kind": "split", "value": 7.0, "first_seen_at": NOW}
    return pl.DataFrame([row], schema={**ACTIONS, "first_seen_at": TIME})


def features(symbol: str, at: str) -> pl.DataFrame:
    """One row of a small feature set."""
    return pl.DataFrame(
        {"symbol": [symbol], "timestamp": [day(at)], "rsi": [0.5], "macd": [None], "regime": ["trending"]},
        schema={"symbol": pl.String, "timestamp": TIME, "rsi": pl.Float32, "macd": pl.Float32, "regime": pl.String},
    )


A_PREDICTION = {"symbol": "AAPL", "regime": "all", "timestamp": day("2024-01-02"), "training_id": "t", "origin": "oof"}
A_SIGNAL = {"symbol": "AAPL", "bar_time": day("2024-01-02"), "signal_id": "s", "signal": "HOLD", "created_at": NOW}

"""The promises of the lake that need more than one writer, or one that dies: processes that race, and SIGKILL.

Writers are real processes, forked by a server that has everything imported, so that a race starts within a
millisecond and a kill meets a writer at work rather than one that is still importing.
"""

import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from polars.testing import assert_frame_equal

from alpha_assets.settings import Settings
from alpha_assets.stores.lake import SMALL_FILES, Lake, LakeConflict
from alpha_assets_tests.stores.test_lake import (
    Home,
    a_split,
    bars,
    day,
    in_folder,
    line,
    log,
    on_s3,
)

pytestmark = pytest.mark.slow

ROUNDS = 8
FIRST = day("2023-12-20")

#: A writer that has not finished by then hangs.
PATIENCE_SECONDS = 120


def at(number: int) -> str:
    """The ISO date of a day by number; the first twelve are in 2023, the others later."""
    return f"{FIRST + timedelta(days=number):%Y-%m-%d}"


@pytest.fixture(params=[in_folder, on_s3])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """The same lake in both kinds of storage."""
    made: Home = request.param(tmp_path / "home")
    return made


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Where new processes come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def run_together(
    processes: ForkServerContext, settings: Settings, *writers: Callable[[Lake, int], Any]
) -> list[list[Any]]:
    """Each writer in a process of its own; all begin each round at the same moment. What each did, round by round."""
    barrier = processes.Barrier(len(writers))
    results = processes.SimpleQueue()
    started = [
        processes.Process(target=_take_part, args=(settings, number, writer, barrier, results))
        for number, writer in enumerate(writers)
    ]
    for process in started:
        process.start()
    answers = dict(results.get() for _ in started)
    for process in started:
        process.join(PATIENCE_SECONDS)
    errors = [answer for answer in answers.values() if isinstance(answer, str)]
    assert not errors, errors[0]
    return [answers[number] for number in range(len(writers))]


def _take_part(
    settings: Settings, number: int, writer: Callable[[Lake, int], Any], barrier: Barrier, results: Any
) -> None:
    lake = Lake(settings)
    done = []
    try:
        for round_number in range(ROUNDS):
            barrier.wait(PATIENCE_SECONDS)
            done.append(writer(lake, round_number))
    except Exception as error:
        barrier.abort()
        results.put((number, f"writer {number}: {error!r}"))
        return
    results.put((number, done))


def append_days(lake: Lake, number: int, close: float, days: range, symbols: tuple[str, ...] = ("A", "B")) -> int:
    """Append the bars of some days, counted from three times the round's number."""
    return lake.append("bars", bars(*((symbol, at(3 * number + step), close) for symbol in symbols for step in days)))


def append_features(lake: Lake, number: int, value: float) -> int:
    """Append a hundred rows to a feature set that begins with this round."""
    return lake.append(
        f"features/set-{number}",
        pl.DataFrame(
            {"symbol": "A", "timestamp": [FIRST + timedelta(days=n) for n in range(100)], "x": value},
            schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
        ),
    )


def restate(lake: Lake, number: int) -> int:
    """Make the history of A thirty days that all close at the round's number."""
    return lake.replace("bars", bars(*(("A", at(step), float(number)) for step in range(30))), ["A"])


def compact(lake: Lake, _number: int) -> int:
    """Merge whatever is small."""
    return lake.compact("bars")


def assert_one_row_a_key_in_every_version(lake: Lake, table: str) -> None:
    """Whoever reads whenever sees no key twice."""
    newest = lake.version(table)
    assert newest is not None
    for version in range(newest + 1):
        keys = lake.read(table, columns=["symbol", "timestamp"], version=version)
        assert not keys.is_duplicated().any(), f"version {version} holds a key twice"


class TestTwoWritersAtOnce:
    def test_two_that_append_overlapping_days_write_each_key_once(
        self, processes: ForkServerContext, home: Home
    ) -> None:
        first, second = run_together(
            processes,
            home.settings,
            partial(append_days, close=1.0, days=range(0, 4)),
            partial(append_days, close=2.0, days=range(1, 5)),
        )
        rows = home.lake.read("bars")
        expected = {(symbol, day(at(number))) for symbol in ("A", "B") for number in range(3 * (ROUNDS - 1) + 5)}
        assert rows.select("symbol", "timestamp").rows() == sorted(expected)
        assert sum(first) + sum(second) == len(expected)
        assert_one_row_a_key_in_every_version(home.lake, "bars")

    def test_two_that_create_the_same_table_write_each_key_once(self, processes: ForkServerContext, home: Home) -> None:
        first, second = run_together(
            processes, home.settings, partial(append_features, value=1.0), partial(append_features, value=2.0)
        )
        assert sorted(pl.Series(first) + pl.Series(second)) == [100] * ROUNDS
        for number in range(ROUNDS):
            rows = home.lake.read(f"features/set-{number}")
            assert rows.height == rows["timestamp"].n_unique() == 100
            assert rows["x"].n_unique() == 1

    def test_an_append_beside_a_replacement_loses_no_row_and_revives_none(
        self, processes: ForkServerContext, home: Home
    ) -> None:
        _, appended = run_together(
            processes, home.settings, restate, partial(append_days, close=-1.0, days=range(40, 43))
        )
        rows = home.lake.read("bars")
        restated = rows.filter(pl.col("symbol") == "A", pl.col("timestamp") < day(at(30)))
        assert restated["close"].to_list() == [ROUNDS - 1.0] * 30
        assert rows.filter(pl.col("symbol") == "B")["timestamp"].to_list() == [
            day(at(40 + n)) for n in range(3 * ROUNDS)
        ]
        assert appended == [6] * ROUNDS
        assert_one_row_a_key_in_every_version(home.lake, "bars")

    def test_a_merge_beside_an_append_loses_and_doubles_nothing(self, processes: ForkServerContext, home: Home) -> None:
        run_together(processes, home.settings, compact, compact, partial(append_days, close=1.0, days=range(3)))
        home.lake.compact("bars")
        rows = home.lake.read("bars", symbols=["A"])
        assert rows["timestamp"].to_list() == [day(at(number)) for number in range(3 * ROUNDS)]
        assert_one_row_a_key_in_every_version(home.lake, "bars")

    def test_four_writers_on_one_table_all_get_through(self, processes: ForkServerContext, tmp_path: Path) -> None:
        folder = in_folder(tmp_path)
        writers = [partial(append_days, close=1.0, days=range(3), symbols=(symbol, "ALL")) for symbol in "ABCD"]
        counts = run_together(processes, folder.settings, *writers)
        assert sum(map(sum, counts)) == folder.lake.read("bars").height == 5 * 3 * ROUNDS

    def test_a_reader_sees_whole_writes_only(self, processes: ForkServerContext, home: Home) -> None:
        home.lake.append("bars", bars(*(("A", at(step), -1.0) for step in range(30))))
        _, seen = run_together(processes, home.settings, restate, look)
        assert all(len(closes) == 1 and rows == 30 for closes, rows in seen)

    def test_who_never_gets_through_is_told_and_has_written_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = in_folder(tmp_path)
        folder.lake.append("bars", bars(("A", at(0), 1.0)))
        read = Lake._open

        def slow(self: Lake, table: str, version: int | None = None) -> Any:
            opened = read(self, table, version)
            write_deltalake(folder.table("bars"), folder.table("bars").to_pyarrow_table().slice(0, 0), mode="append")
            return opened

        monkeypatch.setattr(Lake, "_open", slow)
        monkeypatch.setattr("alpha_assets.stores.lake.ATTEMPTS", 3)
        with pytest.raises(LakeConflict, match="bars: other writers were faster at each of 3 attempts"):
            folder.lake.append("bars", bars(("A", at(1), 1.0)))
        monkeypatch.undo()
        assert folder.lake.read("bars").height == 1


def look(lake: Lake, _number: int) -> tuple[set[float], int]:
    """The different closes of A's rows, and how many rows there are."""
    rows = lake.read("bars", symbols=["A"])
    return set(rows["close"]), rows.height


class TestWhatIsAssumedOfDeltaRs:
    """If these change, the writing rule of the lake has to change with them."""

    def stale(self, home: Home) -> tuple[DeltaTable, pl.DataFrame]:
        """A table object one version behind, and the row that the newest version has already."""
        row = pl.DataFrame({"symbol": ["A"], "close": [1.0]})
        options = {name: secret.get_secret_value() for name, secret in home.settings.lake_options.items()}
        where = f"{home.settings.lake}/assumed"
        write_deltalake(where, row.head(0), storage_options=options)
        behind = DeltaTable(where, storage_options=options)
        write_deltalake(where, row, mode="append", storage_options=options)
        return behind, row

    def test_a_plain_append_from_an_old_version_succeeds_and_doubles_the_row(self, home: Home) -> None:
        behind, row = self.stale(home)
        write_deltalake(behind, row, mode="append")
        assert behind.to_pyarrow_table().num_rows == 2

    @pytest.mark.parametrize("how", [{"mode": "append"}, {"mode": "overwrite", "predicate": "symbol IN ('A')"}])
    def test_without_retries_it_is_refused(self, home: Home, how: dict[str, str]) -> None:
        behind, row = self.stale(home)
        with pytest.raises(CommitFailedError):
            write_deltalake(behind, row, commit_properties=CommitProperties(max_commit_retries=0), **how)  # type: ignore[call-overload]


# -- kills ----------------------------------------------------------------------------------------------------------


def a_run(lake: Lake, number: int) -> Iterator[str]:
    """Everything one refresh does to the lake, write by write; the same for the same number."""
    symbols = ("A", "B", "C", "D")
    days = range(10 * number, 10 * number + 10)
    fresh = partial(bars, fetched_at=datetime(2024, 6, 3, tzinfo=UTC) + timedelta(days=number))
    yield "begin"
    lake.append("actions", a_split(date(2014, 6, 9) + timedelta(days=number)))
    yield "actions"
    lake.append(
        "cleaning",
        log(*(line(symbol, at(days[0]), "copy") for symbol in symbols), line(None, None, "null_key", number)),
    )
    yield "cleaning"
    lake.append("bars", fresh(*((symbol, at(step), float(step)) for symbol in symbols for step in days)))
    yield "bars"
    restated = symbols[number % len(symbols)]
    lake.replace("bars", fresh(*((restated, at(step), step + number + 0.5) for step in range(days.stop))), [restated])
    yield "bars"
    for step in range(days.stop, days.stop + SMALL_FILES // 4):
        lake.append("bars", fresh(("LATE", at(step), float(step))))
        yield "bars"
    lake.compact("bars")
    yield "bars"


def run_to_the_end(lake: Lake, number: int) -> None:
    """One refresh, undisturbed."""
    for _ in a_run(lake, number):
        pass


def _run_when_told(settings: Settings, number: int, told: Any) -> None:
    lake = Lake(settings)
    lake.read("bars")
    told.wait()
    run_to_the_end(lake, number)


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    """Everything the lake holds."""
    return {table: lake.read(table) for table in ("actions", "bars", "cleaning")}


def states(lake: Lake, number: int) -> tuple[dict[str, list[pl.DataFrame]], float]:
    """Every state each table goes through in one undisturbed refresh, and how long the refresh takes."""
    seen: dict[str, list[pl.DataFrame]] = {table: [rows] for table, rows in contents(lake).items()}
    spent, started = 0.0, time.perf_counter()
    for table in a_run(lake, number):
        spent += time.perf_counter() - started
        if table != "begin":
            seen[table].append(lake.read(table))
        started = time.perf_counter()
    return seen, spent


def kill_and_run_again(
    processes: ForkServerContext, killed: Home, undisturbed: Lake, kills: int, chance: random.Random
) -> int:
    """Refresh after refresh, each killed at a random moment and then run again; how many died before their end."""
    died = 0
    for number in range(kills):
        possible, seconds = states(undisturbed, number)
        told = processes.Event()
        writer = processes.Process(target=_run_when_told, args=(killed.settings, number, told))
        writer.start()
        told.set()
        time.sleep(chance.uniform(0, 1.5 * seconds))
        writer.kill()
        writer.join(PATIENCE_SECONDS)
        died += writer.exitcode == -signal.SIGKILL
        for table, rows in contents(killed.lake).items():
            assert any(rows.equals(state) for state in possible[table]), (
                f"{table} holds half a write after kill {number}"
            )
        run_to_the_end(killed.lake, number)
        for table, rows in contents(undisturbed).items():
            assert_frame_equal(killed.lake.read(table), rows)
    return died


class TestAKill:
    def test_leaves_whole_writes_only_and_the_same_run_again_completes_them(
        self, processes: ForkServerContext, tmp_path: Path
    ) -> None:
        killed, undisturbed = in_folder(tmp_path / "killed"), in_folder(tmp_path / "undisturbed")
        died = kill_and_run_again(processes, killed, undisturbed.lake, kills=12, chance=random.Random(7))
        assert died >= 4, "the kills came too late to prove anything"

    @pytest.mark.slow
    @pytest.mark.parametrize(("where", "kills"), [(in_folder, 60), (on_s3, 20)])
    def test_leaves_whole_writes_only_many_times(
        self, processes: ForkServerContext, tmp_path: Path, where: Callable[[Path], Home], kills: int
    ) -> None:
        killed, undisturbed = where(tmp_path / "killed"), in_folder(tmp_path / "undisturbed")
        assert kill_and_run_again(processes, killed, undisturbed.lake, kills, random.Random(11)) >= kills // 4

    @pytest.mark.slow
    def test_leaves_only_files_that_a_vacuum_removes(self, processes: ForkServerContext, tmp_path: Path) -> None:
        killed, undisturbed = in_folder(tmp_path / "killed"), in_folder(tmp_path / "undisturbed")
        kill_and_run_again(processes, killed, undisturbed.lake, kills=20, chance=random.Random(13))
        killed.lake.vacuum("bars", older_than=timedelta(0))
        data = {name.rpartition("/")[2] for name in killed.files() if name.startswith("bars/year=")}
        assert data == {uri.rpartition("/")[2] for uri in killed.table("bars").file_uris()}
        assert_frame_equal(killed.lake.read("bars"), undisturbed.lake.read("bars"))

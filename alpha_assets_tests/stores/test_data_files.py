"""Data files of an append, before a commit names them; ``test_lake`` says what becomes of them then."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from alpha_assets.stores.data_files import added

ROWS = pl.DataFrame(
    {
        "symbol": ["A", "B", "B"],
        "timestamp": [
            datetime(2023, 5, 1, 9, 30, 0, 123_456, UTC),
            *[datetime(2024, 5, day, tzinfo=UTC) for day in (1, 2)],
        ],
        "close": [1.0, None, 3.0],
        "year": [2023, 2024, 2024],
    },
    schema_overrides={"timestamp": pl.Datetime("us", "UTC"), "year": pl.Int32},
)


def write(folder: Path, rows: pl.DataFrame = ROWS) -> list[str]:
    return [action.path for action in added(str(folder), rows, "year", ("symbol", "timestamp"), {})]


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.parquet"))


def test_each_partition_is_one_file_of_its_rows_in_order(tmp_path: Path) -> None:
    paths = write(tmp_path)
    assert sorted(paths) == files(tmp_path)
    assert pl.concat(pl.read_parquet(tmp_path / path) for path in paths).equals(ROWS.drop("year"))


def test_bounds_are_cut_to_milliseconds_and_count_the_nulls(tmp_path: Path) -> None:
    first, second = added(str(tmp_path), ROWS, "year", ("symbol", "timestamp", "close"), {})
    assert '"timestamp": "2023-05-01T09:30:00.123Z"' in first.stats
    assert '"nullCount": {"symbol": 0, "timestamp": 0, "close": 1}' in second.stats


def test_where_one_file_cannot_be_written_none_stays(tmp_path: Path) -> None:
    (tmp_path / "year=2024").write_text("in the way")
    with pytest.raises(OSError, match="year=2024"):
        write(tmp_path)
    assert files(tmp_path) == []

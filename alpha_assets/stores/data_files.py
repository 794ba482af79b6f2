"""Data files of a Delta table on a local folder, written by pyarrow and committed as one append.

What delta-rs writes itself costs twice the processor time, and of a first build of features the write is a third. Files
that no commit names are nobody's rows: a kill before the commit leaves some, and a vacuum takes them away.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from deltalake.transaction import AddAction, RemoveAction


def added(
    folder: str, rows: pl.DataFrame, partition: str, bounded: Sequence[str], how: Mapping[str, object]
) -> "list[AddAction | RemoveAction]":
    """Write ``rows`` as a file a partition under ``folder``; the actions that add them.

    ``bounded`` names the columns whose bounds go into the log, ``how`` the options of ``pyarrow.parquet.write_table``.
    Raises OSError.
    """
    write = partial(_written, rows=rows, folder=folder, partition=partition, bounded=bounded, how=how)
    return list(_writers().map(write, rows[partition].unique().sort()))


@cache
def _writers() -> ThreadPoolExecutor:
    """Threads that stay: those that end give back memory that the next ones have to touch anew."""
    return ThreadPoolExecutor(2, thread_name_prefix="data-files")


# A forked process has none of these threads, and would wait for them.
os.register_at_fork(after_in_child=_writers.cache_clear)


def _written(
    value: int, rows: pl.DataFrame, folder: str, partition: str, bounded: Sequence[str], how: Mapping[str, object]
) -> "AddAction":
    from deltalake.transaction import AddAction
    from pyarrow import parquet

    # A third less than to partition all rows at once.
    some = rows.filter(pl.col(partition) == value).drop(partition)
    path = f"{partition}={value}/part-00000-{uuid.uuid4()}-c000.parquet"
    file = Path(folder) / path
    file.parent.mkdir(exist_ok=True)
    indexed = [name for name, kind in some.schema.items() if not kind.is_float()]
    parquet.write_table(
        some.to_arrow(), file, use_dictionary=indexed, write_statistics=indexed, store_schema=False, **how
    )
    return AddAction(
        path=path,
        size=file.stat().st_size,
        partition_values={partition: str(value)},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps(_bounds(some, bounded)),
    )


def _bounds(rows: pl.DataFrame, names: Sequence[str]) -> dict[str, object]:
    """What the log says of a file: its rows, and of each column the bounds and how many values are null."""
    found = rows.select(
        *(pl.col(name).min().name.prefix("min ") for name in names),
        *(pl.col(name).max().name.prefix("max ") for name in names),
        *(pl.col(name).null_count().name.prefix("nulls ") for name in names),
    ).row(0, named=True)
    known = [name for name in names if found[f"min {name}"] is not None]
    return {
        "numRecords": rows.height,
        "minValues": {name: _told(found[f"min {name}"]) for name in known},
        "maxValues": {name: _told(found[f"max {name}"]) for name in known},
        "nullCount": {name: found[f"nulls {name}"] for name in names},
    }


def _told(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value.isoformat() if isinstance(value, date) else value

"""The lake: Delta tables of bars, actions, cleaning log, features, predictions and signals, one row a key.

A Delta commit is the creation of one numbered file in the table's log, which fails where that number is taken; there
is no other lock. But delta-rs commits an append blind: where the number is taken it takes the next one, because one
append cannot contradict another. Ours can: which rows are new was decided by reading. Two appends of the same rows,
read at the same version, then both succeed and every key is there twice. So every write here goes through a table
object loaded at the version that was read, with ``max_commit_retries=0``: the commit follows exactly that version or
fails, and after a failure the read is done again. On S3 the same holds by conditional put (``If-None-Match: *``),
which delta-rs uses by default; a store that ignores that header protects nothing.
"""

import math
import random
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from alpha_assets.quant.patterns import PATTERN_OUTCOMES
from alpha_assets.quant.schema import ACTIONS, BARS, CLEANING, OHLCV, TIME, empty
from alpha_assets.settings import Settings
from alpha_assets.stores import data_files
from alpha_assets.stores.trouble import StoreTrouble

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, WriterProperties

#: Hidden partition column: the year (UTC) of a row's time, 0 for a log line without one.
YEAR = "year"

FEATURES = "features/"

#: One symbol of 505 is then in one of four row groups of a year of daily bars. Any size from 8 thousand to a million
#: rows reads one symbol in 7 to 11 ms; larger ones cost memory when a few rows are wanted of a long table.
ROW_GROUP_ROWS = 32_768

#: Pages that stay in the processor's cache while they are filled and packed: with the megabyte that is usual the same
#: table takes a third longer to write.
PAGE_BYTES = 65_536

#: A file below one row group is small; a partition with more small files than this is compacted by the writer.
SMALL_FILES = 16

#: Tries of one write, and the longest pause before the next. Of eight writers that did nothing else, on two cores, the
#: unluckiest needed 19.
ATTEMPTS = 30
LONGEST_PAUSE_SECONDS = 1.0

#: A commit writes a checkpoint when its number is divisible by this; opening replays at most so many commits.
CHECKPOINT_INTERVAL = 20

RETENTION = timedelta(days=7)

#: A store that cannot be reached is reported in seconds, not after the three minutes that delta-rs would try.
_REACHING = {"max_retries": "3", "retry_timeout": "20s", "connect_timeout": "5s"}

#: Statistics in a Delta log are cut to milliseconds, so a file may end this much after what its statistics say.
_CUT = timedelta(milliseconds=1)

#: Colours and arrows between the causes in the errors of delta-rs.
_PAINT = re.compile("\x1b\\[[0-9;]*m|↳")


#: What delta-rs adds of its own stack.
_BACKTRACE = re.compile(r"\s+0: <unknown>.*", re.DOTALL)

#: Bytes that a library shows because it could not read them.
_NO_TEXT = re.compile(r"[\ufffd\x00-\x1f\x7f-\x9f]+")


class LakeConflict(Exception):
    """Other writers were faster at every attempt. Nothing of this write is in the lake; running it again is safe."""


class LakeUnavailable(StoreTrouble):
    """A table cannot be opened; the message says where it was looked for and what the storage answered."""


class LakeDamaged(LakeUnavailable):
    """The storage answers, but a file of a table is missing or is not what was written; the message says what to do."""


@dataclass(frozen=True)
class Table:
    """What one table holds: its key, the key column that is its time, its columns and its clock columns.

    ``schema`` is None where the first frame decides. ``clocks`` say when a row was learnt: rows that differ in nothing
    else are the same row. A ``log`` may repeat a line, which counts once, and may lack the symbol or time.
    """

    key: tuple[str, ...]
    time: str
    schema: Mapping[str, pl.DataType] | None
    clocks: tuple[str, ...] = ()
    log: bool = False


PREDICTIONS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "regime": pl.String(),
    "timestamp": TIME,
    "training_id": pl.String(),
    "origin": pl.String(),
    "p_up": pl.Float64(),
    "score": pl.Float64(),
    "prior": pl.Float64(),
    "made_at": TIME,
    "expected_return": pl.Float64(),
    "p_sell": pl.Float64(),
    "p_hold": pl.Float64(),
    "p_buy": pl.Float64(),
    "dissimilarity": pl.Float64(),
    "linear_score": pl.Float64(),
    "linear_p_up": pl.Float64(),
    "learnt_until": TIME,
    "linear_expected_return": pl.Float64(),
}

SIGNALS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "bar_time": TIME,
    "signal_id": pl.String(),
    "signal": pl.String(),
    "confidence": pl.Float64(),
    "model_version": pl.String(),
    "reason": pl.String(),
    "created_at": TIME,
    "regime": pl.String(),
    "score": pl.Float64(),
    "expected_return": pl.Float64(),
    "price": pl.Float64(),
    "predicted_price": pl.Float64(),
    "price_low": pl.Float64(),
    "price_high": pl.Float64(),
    "risk": pl.String(),
    "views": pl.String(),
    "top_features": pl.String(),
    "data_points": pl.Int64(),
    "features_set": pl.String(),
}

#: Every table but the feature sets, which share one declaration. A row that a source restates and that is cleaned
#: again is another line of the cleaning log, hence the prices in its key.
TABLES: Mapping[str, Table] = {
    "bars": Table(("symbol", "timestamp"), "timestamp", {**BARS, "fetched_at": TIME}, ("fetched_at",)),
    "actions": Table(("symbol", "ex_date", "kind"), "ex_date", {**ACTIONS, "first_seen_at": TIME}, ("first_seen_at",)),
    "cleaning": Table(
        key=("symbol", "timestamp", "rule", *OHLCV),
        time="timestamp",
        schema={**CLEANING, "fetched_at": TIME},
        clocks=("fetched_at",),
        log=True,
    ),
    "predictions": Table(
        ("symbol", "regime", "timestamp", "training_id", "origin"), "timestamp", PREDICTIONS, ("made_at",)
    ),
    "signals": Table(("symbol", "bar_time", "signal_id"), "bar_time", SIGNALS, ("created_at",)),
    "pattern_outcomes": Table(("symbol", "timestamp", "pattern"), "timestamp", PATTERN_OUTCOMES),
}

#: What follows where a table's folder is deleted; a feature set is built anew.
REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(("bars", "actions", "cleaning"), "«alpha-assets refresh --full» fetches it anew"),
    "predictions": "what models have said is then lost, and they are judged again once trained anew",
    "signals": "the signals said so far are then lost, the newest stay in the ledger",
}
_FEATURE_SET = Table(("symbol", "timestamp"), "timestamp", None)


def declared(table: str) -> Table:
    """The declaration of a table. Raises ValueError for a name the lake does not know."""
    if table in TABLES:
        return TABLES[table]
    if table.startswith(FEATURES) and table.count("/") == 1 and len(table) > len(FEATURES):
        return _FEATURE_SET
    raise ValueError(f"the lake has no table {table!r}; it has {', '.join(TABLES)} and {FEATURES}<name>-<hash>")


class Lake:
    """Delta tables in one folder or under one object-store URL; a row is known by its key and is there once.

    - **Atomic**: ``append``, ``replace`` and ``compact`` (a partition) are one commit each. A reader sees all of it or
      nothing, and one call of ``read`` sees one version.
    - **Idempotent**: ``append`` writes only keys that the table lacks and leaves held rows as they are; ``replace``
      writes only what differs. The same call again writes nothing.
    - **Two writers at once**: any number, in threads, processes or machines, in any mix of calls, on tables that exist
      or not. Their writes take effect one after the other, each decided on what the one before left behind. A
      writer that loses the race reads and tries again; after ``ATTEMPTS`` it raises LakeConflict.
    - **A kill** leaves the whole write or nothing of it behind. Files that no commit names may remain: no reader sees
      them, and ``vacuum`` removes them once they are older than its retention.
    - **Cost** follows what is asked, not what is held: rows lie in partitions by year, sorted by key, and a read opens
      only the files whose years, times and symbols can match. Writers merge small files by themselves.

    Every method raises ValueError for a table the lake does not declare, and LakeUnavailable where the storage does not
    answer or denies, or holds a damaged table.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.lake
        self._secrets = settings.lake_options

    # -- writing --------------------------------------------------------------------------------------------------

    def append(self, table: str, frame: pl.DataFrame) -> int:
        """Write the rows of ``frame`` whose keys the table does not hold; the number of rows written.

        Raises ValueError, naming what is wrong, where the columns are not the table's or a key is incomplete or there
        twice; LakeConflict where other writers never let it through.
        """
        spec = declared(table)
        rows = _checked(table, spec, frame)
        if rows.is_empty():
            return 0

        def attempt() -> int:
            opened = self._open(table) or self._create(table, spec, rows)
            fitted = opened.fitted(rows)
            new = fitted.join(opened.held(fitted), on=list(spec.key), how="anti", nulls_equal=True)
            if not new.is_empty():
                opened.commit(new)
                self._tidy(opened, new)
            return new.height

        return _until_committed(table, attempt)

    def replace(self, table: str, frame: pl.DataFrame, symbols: Sequence[str], gone: pl.DataFrame | None = None) -> int:
        """Make the rows of ``frame`` the rows of exactly these symbols; the number of rows that are new or different.

        With ``gone`` (columns of the key) only those keys are taken away and every other row stays, one that another
        writer adds meanwhile included. A row that differs from the held one in its clock columns only keeps the held
        clock: it was known since then. Years in which nothing differs are not touched; where nothing differs at all
        there is no commit. Raises as ``append`` does, and ValueError for a row of a symbol that is not among
        ``symbols``.
        """
        spec = declared(table)
        rows = _checked(table, spec, frame)
        wanted, key = sorted(set(symbols)), list(spec.key)
        strangers = rows.filter(~pl.col("symbol").is_in(wanted).fill_null(False))
        if not strangers.is_empty():
            raise ValueError(f"{table}: a row of {strangers['symbol'][0]!r} in a replacement of {_some(wanted)}")

        # Where only some keys go, years without news cannot change: a long history is not read to settle its end.
        touched = None if gone is None else sorted({*rows[YEAR].unique(), *gone.select(_year(spec))[YEAR].unique()})

        def attempt() -> int:
            opened = self._open(table) or (None if rows.is_empty() else self._create(table, spec, rows))
            if opened is None:
                return 0
            held = opened.collected(opened.rows(wanted, None, None, touched).with_columns(_year(spec)))
            if held.is_empty():
                known = opened.fitted(rows)
                if known.height:
                    opened.commit(known)
                    self._tidy(opened, known)
                return known.height
            rated = _rated(opened.fitted(rows), held, spec)
            changed = rated.filter(~pl.col("same"))
            others = held.join(rated, on=key, how="anti", nulls_equal=True)
            away = others if gone is None else others.join(gone, on=key, how="semi", nulls_equal=True)
            years = sorted({*changed[YEAR].unique(), *away[YEAR].unique()})
            if years:
                stay = others.join(away, on=key, how="anti", nulls_equal=True).select(held.columns)
                known = pl.concat([rated.select(held.columns), stay]).filter(pl.col(YEAR).is_in(years)).sort(key)
                opened.commit(known, f"{_in(YEAR, years)} AND {_in('symbol', wanted)}")
                self._tidy(opened, known)
            return changed.height

        return _until_committed(table, attempt) if wanted else 0

    def compact(self, table: str) -> int:
        """Merge the small files of every partition that has more than one; the number of partitions rewritten.

        Gives way to other writers: a partition whose merge meets a conflict is left for the next time.
        """
        opened = self._open(table)
        return 0 if opened is None else self._merge(opened, opened.files()[YEAR].unique().to_list(), allowed=1)

    def vacuum(self, table: str, older_than: timedelta = RETENTION) -> list[str]:
        """Delete the data files that the newest version does not name and that are older; their names.

        Old versions that need such a file can no longer be read. A retention shorter than the longest write would take
        away the files of a writer that has not committed yet.
        """
        opened = self._open(table)
        return [] if opened is None else opened.vacuum(older_than)

    # -- reading --------------------------------------------------------------------------------------------------

    def read(
        self,
        table: str,
        *,
        symbols: Sequence[str] | None = None,
        since: datetime | Mapping[str, datetime | None] | None = None,
        until: datetime | None = None,
        columns: Sequence[str] | None = None,
        version: int | None = None,
        where: pl.Expr | None = None,
        ordered: bool = True,
    ) -> pl.DataFrame:
        """The rows asked for, sorted by key, with the table's columns or exactly ``columns`` in that order.

        Sorting takes most of the time of a long read: ``where`` leaves rows out before it, and whoever joins them by
        their key does without (``ordered`` false: in any order). ``since`` and ``until`` are inclusive. A mapping gives
        each symbol its own ``since``: without ``symbols`` its symbols are read and no others; None, or no entry for a
        symbol of ``symbols``, is its whole history. A table that does not exist is an empty frame (of a feature set
        only the key's types are known). Raises ValueError for a column that the table does not have and for a time
        without a zone.
        """
        spec = declared(table)
        start, end = _instants(since), _instant(until)
        opened = self._open(table, version)
        if opened is None:
            return _nothing(table, spec, columns)
        names = _known(table, columns, opened.schema)
        if isinstance(start, dict):
            asked = start if symbols is None else {symbol: start.get(symbol) for symbol in symbols}
            rows = opened.rows_since(asked, end)
        else:
            rows = opened.rows(symbols, start, end)
        if where is not None:
            rows = rows.filter(where)
        if not ordered:
            return opened.collected(rows.select(names))
        return _ordered(opened.collected(rows.select(*dict.fromkeys([*spec.key, *names]))), spec).select(names)

    def last_rows(self, table: str, symbols: Sequence[str] | None = None) -> pl.DataFrame:
        """One row a symbol held, sorted: ``symbol``, its ``first`` and ``last`` time, its number of ``rows``.

        Reads two columns of the whole history; who needs the newest times only asks ``last_times``.
        """
        spec = declared(table)
        opened = self._open(table)
        if opened is None:
            kind = _declared_schema(spec)[spec.time]
            return empty({"symbol": pl.String(), "first": kind, "last": kind, "rows": pl.UInt32()})
        moment = pl.col(spec.time)
        return opened.collected(
            opened.rows(symbols, None, None)
            .group_by("symbol")
            .agg(first=moment.min(), last=moment.max(), rows=pl.len())
            .sort("symbol")
        )

    def last_times(self, table: str, symbols: Sequence[str]) -> dict[str, Any]:
        """The newest time of each of these symbols that is held.

        Goes back year by year until every symbol is found, so that a universe that is alive costs one partition.
        """
        opened = self._open(table)
        return {} if opened is None else opened.last_times(symbols)

    def version(self, table: str) -> int | None:
        """The number of the newest version, None where the table does not exist."""
        declared(table)
        opened = self._open(table)
        return None if opened is None else opened.version

    def tables(self) -> list[str]:
        """The names of the tables that exist, sorted."""
        from deltalake.exceptions import TableNotFoundError
        from deltalake.fs import DeltaStorageHandler
        from pyarrow.fs import FileSelector, FileType, PyFileSystem

        try:
            files = PyFileSystem(DeltaStorageHandler(self._url, self._options))
            folders = [
                entry.path
                for folder in ("", FEATURES.rstrip("/"))
                for entry in files.get_file_info(FileSelector(folder, allow_not_found=True))
                if entry.type == FileType.Directory
            ]
        except TableNotFoundError:
            return []
        except OSError as error:
            raise _unavailable(self._url, error) from error
        return sorted(name for name in folders if _is_declared(name) and self._open(name) is not None)

    # -- the table underneath --------------------------------------------------------------------------------------

    @property
    def _options(self) -> dict[str, str]:
        given = {name: secret.get_secret_value() for name, secret in self._secrets.items()}
        taken = {name.lower() for name in given}
        return {name: value for name, value in _REACHING.items() if name not in taken} | given

    def _open(self, table: str, version: int | None = None) -> "_Opened | None":
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        declared(table)
        where = f"{self._url}/{table}"
        try:
            return _Opened(
                DeltaTable(where, version=version, storage_options=self._options), table, where, self._options
            )
        except TableNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(where, error) from error
        except DeltaError as error:
            # The log was read, and makes no sense.
            raise _damaged(where, table, error) from error

    def _create(self, table: str, spec: Table, rows: pl.DataFrame) -> "_Opened":
        """The table as an empty version 0. Of two that create it one fails, and goes on with what the other made."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        refused: Exception | None = None
        try:
            DeltaTable.create(
                f"{self._url}/{table}",
                rows.head(0).to_arrow().schema,
                mode="error",
                partition_by=[YEAR],
                storage_options=self._options,
                configuration={
                    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
                    "delta.dataSkippingStatsColumns": f"symbol,{spec.time}",
                },
            )
        except (OSError, DeltaError) as error:
            refused = error
        opened = self._open(table)
        if opened is None:
            raise _unavailable(f"{self._url}/{table}", refused) from refused
        return opened

    def _tidy(self, opened: "_Opened", written: pl.DataFrame) -> None:
        from deltalake.exceptions import CommitFailedError

        if not self._merge(opened, written[YEAR].unique().to_list(), allowed=SMALL_FILES):
            return
        try:
            opened.vacuum(RETENTION)
        except CommitFailedError:
            return  # The rows are committed; who moved the table meanwhile vacuums after a merge of its own.

    def _merge(self, opened: "_Opened", years: Iterable[int], allowed: int) -> int:
        from deltalake.exceptions import CommitFailedError

        merged, files = 0, opened.files()
        for year in years:
            span = _crowded(files.filter(pl.col(YEAR) == year), allowed)
            if span is None:
                continue
            try:
                opened.merge(year, *span)
            except CommitFailedError:
                return merged
            merged += 1
        return merged


class _Opened:
    """One version of one table: what it holds, and a commit that succeeds only if it is still the newest."""

    def __init__(self, delta: "DeltaTable", table: str, where: str, options: dict[str, str]) -> None:
        self._delta = delta
        self._table = table
        self._spec = declared(table)
        self._where = where
        self._reading = {name: value for name, value in options.items() if name.lower() not in _REACHING}

    @property
    def version(self) -> int:
        return int(self._delta.version())

    @cached_property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns a reader sees: those stored, and those that the table has been declared with since."""
        return {**self._stored, **(self._spec.schema or {})} if self._behind else self._stored

    @cached_property
    def _stored(self) -> dict[str, pl.DataType]:
        columns: dict[str, Any] = dict(pl.Schema(self._delta.schema().to_arrow()))
        columns.pop(YEAR)
        return columns

    @cached_property
    def _behind(self) -> bool:
        """Whether an older program made the table, with fewer columns: the others are null in its rows."""
        return any(name not in self._stored for name in self._spec.schema or {})

    def files(self) -> pl.DataFrame:
        """One row a data file: path, rows, year, and the bounds of its symbols and times (null: unknown)."""
        actions = pl.DataFrame(self._delta.get_add_actions(flatten=True))
        bounds = {
            "first": f"min.{self._spec.time}",
            "last": f"max.{self._spec.time}",
            "low": "min.symbol",
            "high": "max.symbol",
        }
        return actions.select(
            pl.col("path"),
            pl.col("num_records").alias("rows"),
            pl.col(f"partition.{YEAR}").alias(YEAR),
            *(
                pl.col(name).alias(short) if name in actions.columns else pl.lit(None).alias(short)
                for short, name in bounds.items()
            ),
        ).with_columns(pl.col("first", "last").cast(TIME), pl.col("low", "high").cast(pl.String))

    def rows(
        self,
        symbols: Sequence[str] | None,
        since: datetime | None,
        until: datetime | None,
        years: Sequence[int] | None = None,
    ) -> pl.LazyFrame:
        """The rows of these symbols between these times, both inclusive, from the files that can hold them."""
        files = _matching(self.files(), symbols, since, until)
        if years is not None:
            files = files.filter(pl.col(YEAR).is_in(years))
        return self._scan(files, symbols, since, until)

    def rows_since(self, since: Mapping[str, datetime | None], until: datetime | None) -> pl.LazyFrame:
        """The rows of each symbol from its own time on; a symbol that is far behind opens old files for itself only."""
        parts = []
        files = self.files()
        for (symbols, floor), years in _by_reach(since, files[YEAR].unique()):
            within = _matching(files.filter(pl.col(YEAR).is_in(years)), symbols, floor, until)
            parts.append(self._scan(within, symbols, floor, until))
        if not parts:
            return empty(self.schema).lazy()
        starts = pl.LazyFrame(
            {"symbol": list(since), "starts": list(since.values())}, schema={"symbol": pl.String, "starts": TIME}
        )
        return (
            pl.concat(parts)
            .join(starts, on="symbol", how="left", maintain_order="left")
            .filter(pl.col("starts").is_null() | (pl.col(self._spec.time).cast(TIME) >= pl.col("starts")))
            .drop("starts")
        )

    def fitted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``rows`` with the columns of the table in its order; raises ValueError where they are others."""
        _same_columns(self._where, rows.columns, [*self.schema, YEAR])
        return rows.select(*(pl.col(name).cast(kind) for name, kind in self.schema.items()), YEAR)

    def held(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The keys that the table has among the symbols and between the first and last time of ``rows``."""
        known = rows.filter(pl.col(YEAR) != 0)
        symbols = known["symbol"].unique().to_list()
        keys = []
        if not known.is_empty():
            moment = pl.col(self._spec.time).cast(TIME)
            first, last = known.select(first=moment.min(), last=moment.max()).row(0)
            keys.append(self.rows(None if None in symbols else symbols, first, last))
        if known.height < rows.height:
            keys.append(self.rows(None, None, None, years=[0]))
        return self.collected(pl.concat(frame.select(self._spec.key) for frame in keys))

    def last_times(self, symbols: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        missing = set(symbols)
        for year in sorted(self.files()[YEAR].unique(), reverse=True):
            if not missing:
                break
            newest = (
                self.rows(sorted(missing), None, None, years=[year])
                .group_by("symbol")
                .agg(pl.col(self._spec.time).max())
            )
            found |= dict(self.collected(newest).iter_rows())
            missing -= found.keys()
        return found

    def commit(self, rows: pl.DataFrame, instead_of: str | None = None) -> None:
        """Write ``rows``, instead of those that match the SQL predicate, as the version after this one.

        This object then is that version or a later one. Raises CommitFailedError where the number is taken.
        """
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError

        once = CommitProperties(max_commit_retries=0)
        try:
            if instead_of is None and not self._behind and "://" not in self._where:
                self._append(rows, once)
                return
            how: dict[str, Any] = {"mode": "overwrite", "predicate": instead_of} if instead_of else {"mode": "append"}
            write_deltalake(
                self._delta,
                rows.to_arrow(),
                **how,
                schema_mode="merge" if self._behind else None,
                writer_properties=_writer_properties(rows, self._table),
                commit_properties=once,
            )
        except CommitFailedError:
            raise
        except (OSError, DeltaError) as error:
            raise _unavailable(self._where, error) from error

    def _append(self, rows: pl.DataFrame, once: "CommitProperties") -> None:
        from deltalake.exceptions import DeltaError

        files = data_files.added(self._where, rows, YEAR, ("symbol", self._spec.time), _options(self._table))
        self._delta.create_write_transaction(files, "append", self._delta.schema(), [YEAR], commit_properties=once)
        # The rows are there, whatever becomes of this look.
        with suppress(OSError, DeltaError):
            self._delta.update_incremental()

    def merge(self, year: int, first: datetime | None, last: datetime | None) -> None:
        """Rewrite the rows of one partition between two times as one sorted file."""
        rows = self.collected(self.rows(None, first, last, [year]).with_columns(_year(self._spec)).sort(self._spec.key))
        predicate = f"{YEAR} = {year}"
        if first is not None and last is not None:
            low, high = (_literal(_as_kind(moment, self.schema[self._spec.time])) for moment in (first, last))
            predicate += f" AND {self._spec.time} >= {low} AND {self._spec.time} <= {high}"
        self.commit(rows, instead_of=predicate)

    def collected(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """The frame; LakeDamaged where a file of this version is missing or broken, LakeUnavailable out of reach."""
        try:
            return frame.collect()
        except (OSError, pl.exceptions.ComputeError) as error:
            where = f"{self._where}, version {self.version}"
            if isinstance(error, FileNotFoundError) or str(error).startswith("parquet:"):
                raise _damaged(where, self._table, error) from error
            raise _unavailable(where, error) from error

    def vacuum(self, older_than: timedelta) -> list[str]:
        from deltalake import CommitProperties

        return list(
            self._delta.vacuum(
                retention_hours=math.ceil(older_than / timedelta(hours=1)),
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        )

    def _scan(
        self, files: pl.DataFrame, symbols: Sequence[str] | None, since: datetime | None, until: datetime | None
    ) -> pl.LazyFrame:
        if files.is_empty():
            return empty(self.schema).lazy()
        frame = pl.scan_parquet(
            [f"{self._where}/{path}" for path in files["path"]],
            schema=self.schema,
            # Files of an older program lack the columns that came later; a feature set never gets another.
            missing_columns="insert" if self._spec.schema else "raise",
            glob=False,
            hive_partitioning=False,
            storage_options=self._reading or None,
            credential_provider=None,
        )
        moment = pl.col(self._spec.time)
        kind = self.schema[self._spec.time]
        if symbols is not None:
            frame = frame.filter(pl.col("symbol").is_in(list(symbols)))
        if since is not None:
            frame = frame.filter(moment >= _as_kind(since, kind))
        if until is not None:
            frame = frame.filter(moment <= _as_kind(until, kind))
        return frame


def _checked(table: str, spec: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """``frame`` in the table's columns, sorted by key, with the year. Raises ValueError where it does not fit."""
    schema = spec.schema or {**frame.schema, **_declared_schema(spec)}
    _same_columns(table, frame.columns, list(schema))
    rows = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    if spec.log:
        rows = rows.unique([name for name in schema if name not in spec.clocks], keep="first")
    else:
        _complete(table, spec, rows)
    rows = _sorted(rows.with_columns(_year(spec)), spec)
    keys = rows.select(spec.key)
    twice = keys.filter(pl.all_horizontal(pl.all().eq_missing(pl.all().shift(1))))
    if not twice.is_empty():
        raise ValueError(f"{table}: the frame holds the key {_named(spec, twice)} twice")
    return rows


def _ordered(rows: pl.DataFrame, spec: Table) -> pl.DataFrame:
    """``rows`` sorted by key. Of a symbol and a time the symbol is compared as a number, which halves what a read of
    many bars costs beside the decoding."""
    if spec.key != ("symbol", spec.time):
        return rows.sort(spec.key)
    names = pl.Enum(rows["symbol"].unique().sort())
    symbol, time_of = rows["symbol"].cast(names).to_physical(), rows[spec.time].to_physical()
    return rows[np.lexsort((time_of.to_numpy(), symbol.to_numpy()))]


def _sorted(rows: pl.DataFrame, spec: Table) -> pl.DataFrame:
    """``rows`` sorted by key; the same frame where they are: a copy of a long feature table costs half a gigabyte."""
    order = rows.select(pl.arg_sort_by(spec.key)).to_series()
    return rows if (order.diff().drop_nulls() == 1).all() else rows[order]


def _complete(table: str, spec: Table, rows: pl.DataFrame) -> None:
    incomplete = rows.filter(pl.any_horizontal(pl.col(name).is_null() for name in spec.key))
    if not incomplete.is_empty():
        raise ValueError(f"{table}: the frame holds a row with an incomplete key: {_named(spec, incomplete)}")


def _named(spec: Table, rows: pl.DataFrame) -> str:
    return ", ".join(f"{name} {value}" for name, value in rows.select(spec.key).row(0, named=True).items())


def _same_columns(table: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in wanted]
    if missing or strange:
        raise ValueError(f"{table}: columns missing: {_some(missing)}; columns it does not have: {_some(strange)}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10]) or "none"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _year(spec: Table) -> pl.Expr:
    return pl.col(spec.time).dt.year().fill_null(0).cast(pl.Int32).alias(YEAR)


def _declared_schema(spec: Table) -> dict[str, pl.DataType]:
    return dict(spec.schema or {"symbol": pl.String(), "timestamp": TIME})


def _is_declared(name: str) -> bool:
    try:
        declared(name)
    except ValueError:
        return False
    return True


def _rated(rows: pl.DataFrame, held: pl.DataFrame, spec: Table) -> pl.DataFrame:
    """``rows`` with a column ``same``: held already, clocks aside. Such a row has the held clocks."""
    values = [name for name in rows.columns if name not in (*spec.key, *spec.clocks)]
    equal = [pl.col(name).eq_missing(pl.col(f"{name}_held")) for name in values]
    paired = rows.join(
        held.with_columns(known=pl.lit(True)), on=list(spec.key), how="left", nulls_equal=True, suffix="_held"
    ).with_columns(same=pl.all_horizontal(pl.col("known").fill_null(False), *equal))
    clocks = [
        pl.when("same").then(f"{name}_held").otherwise(name).alias(name) if name in spec.clocks else pl.col(name)
        for name in rows.columns
    ]
    return paired.select(*clocks, "same").sort(spec.key)


def _matching(
    files: pl.DataFrame, symbols: Sequence[str] | None, since: datetime | None, until: datetime | None
) -> pl.DataFrame:
    """Of ``_Opened.files``: those that may hold a row of these symbols between these times."""
    if since is not None:
        files = files.filter((pl.col("last") + _CUT >= since).fill_null(True))
    if until is not None:
        files = files.filter((pl.col("first") <= until).fill_null(True))
    if symbols is None:
        return files
    wanted = sorted(set(symbols))
    return files.filter(
        pl.Series(
            [_any_between(wanted, low, high) for low, high in files.select("low", "high").iter_rows()], dtype=pl.Boolean
        )
    )


def _any_between(names: list[str], low: str | None, high: str | None) -> bool:
    """True where one of the sorted names lies between the bounds, or a bound is unknown."""
    if low is None or high is None:
        return True
    at = bisect_left(names, low)
    return at < len(names) and names[at] <= high


def _by_reach(
    since: Mapping[str, datetime | None], years: Iterable[int]
) -> Iterable[tuple[tuple[list[str], datetime | None], list[int]]]:
    """Which symbols to look for, from what time on, in which of the ``years``."""
    begins = {symbol: 0 if start is None else start.year for symbol, start in since.items()}

    def reaching(year: int) -> tuple[list[str], datetime | None]:
        symbols = [symbol for symbol, begin in begins.items() if begin <= year]
        starts = [start for symbol in symbols if (start := since[symbol]) is not None]
        return symbols, min(starts) if len(starts) == len(symbols) else None

    if begins:
        earliest = min(begins.values())
        for reached, group in groupby(sorted(year for year in years if year >= earliest), key=reaching):
            yield reached, list(group)


def _crowded(files: pl.DataFrame, allowed: int) -> tuple[datetime | None, datetime | None] | None:
    """Between which times to merge the files of one partition: the span of the small ones, if over ``allowed``.

    None where there is nothing to merge; a pair of None is the whole partition. The bounds are whole milliseconds,
    like the statistics by which delta-rs finds the files to rewrite: with finer ones it could skip a file that was
    read, and its rows would be there twice.
    """
    small = files.filter(pl.col("rows") < ROW_GROUP_ROWS)
    if small.height <= allowed:
        return None
    if small["first"].has_nulls() or small["last"].has_nulls():
        return None, None
    return small.select(pl.col("first").min(), pl.col("last").max() + _CUT).row(0)


def _nothing(table: str, spec: Table, columns: Sequence[str] | None) -> pl.DataFrame:
    """What a table that does not exist answers."""
    schema = _declared_schema(spec)
    if spec.schema is None:
        return empty({name: schema.get(name, pl.Null()) for name in columns or schema})
    return empty({name: schema[name] for name in _known(table, columns, schema)})


def _known(table: str, columns: Sequence[str] | None, schema: Mapping[str, pl.DataType]) -> list[str]:
    names = list(schema if columns is None else columns)
    if unknown := [name for name in names if name not in schema]:
        raise ValueError(f"{table} has no column {unknown[0]!r}; it has {', '.join(schema)}")
    return names


def _instants(
    since: datetime | Mapping[str, datetime | None] | None,
) -> datetime | dict[str, datetime | None] | None:
    if isinstance(since, Mapping):
        return {symbol: _instant(start) for symbol, start in since.items()}
    return _instant(since)


def _instant(moment: datetime | None) -> datetime | None:
    """The moment in UTC; raises ValueError for one without a time zone, which could be anywhere."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone, so it is no instant")
    return moment.astimezone(UTC)


def _as_kind(moment: datetime, kind: pl.DataType) -> datetime | date:
    return moment.date() if kind == pl.Date else moment


def _literal(value: str | int | datetime | date) -> str:
    """An SQL literal. A time is text: a TIMESTAMP literal has nanoseconds, which delta-rs refuses to compare."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        value = value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return "'" + str(value).replace("'", "''") + "'"


def _in(column: str, values: Sequence[str] | Sequence[int]) -> str:
    return f"{column} IN ({', '.join(map(_literal, values))})"


def _options(table: str) -> dict[str, Any]:
    """Small row groups, and floats without dictionaries, which take ten times as long to build.

    Nobody looks for a float by its value: without bounds they are written a tenth faster. Features hardly compress:
    zstd takes twice as long as lz4 to make them a tenth smaller. The rest is zstd.
    """
    return {
        "compression": "LZ4" if table.startswith(FEATURES) else "ZSTD",
        "row_group_size": ROW_GROUP_ROWS,
        "data_page_size": PAGE_BYTES,
    }


def _writer_properties(rows: pl.DataFrame, table: str) -> "WriterProperties":
    """``_options`` and those of ``data_files`` for delta-rs."""
    from deltalake import ColumnProperties, WriterProperties

    options = _options(table)
    plain = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    return WriterProperties(
        compression="LZ4_RAW" if options["compression"] == "LZ4" else options["compression"],
        max_row_group_size=options["row_group_size"],
        data_page_size_limit=options["data_page_size"],
        column_properties={name: plain for name, kind in rows.schema.items() if kind.is_float()} or None,
    )


def _reason(error: Exception | None) -> str:
    """What the library said in one line, without its colours, its backtrace and the bytes that it could not read."""
    said = _BACKTRACE.sub("", _PAINT.sub(" ", str(error)))
    return " ".join(_NO_TEXT.sub("…", " ".join(said.split())).split())


def _damaged(where: str, table: str, error: Exception) -> LakeDamaged:
    remedy = REMEDIES.get(table, "the next «alpha-assets refresh» builds it anew")
    return LakeDamaged(
        f"the table {table} of the lake is damaged ({where}: {_reason(error)}): restore its folder from a backup, or "
        f"delete the folder; {remedy}"
    )


def _unavailable(where: str, error: Exception | None) -> LakeUnavailable:
    return LakeUnavailable(
        f"the lake cannot be reached at {where}: {_reason(error)}. Check ALPHA_LAKE_URL, ALPHA_LAKE_OPTIONS and the "
        "AWS_* variables, and that the folder or bucket exists and may be written"
    )


def _until_committed(table: str, attempt: Callable[[], int]) -> int:
    from deltalake.exceptions import CommitFailedError

    for number in range(ATTEMPTS):
        try:
            return attempt()
        except CommitFailedError:
            time.sleep(random.uniform(0, min(LONGEST_PAUSE_SECONDS, 0.01 * 2**number)))
    raise LakeConflict(
        f"{table}: other writers were faster at each of {ATTEMPTS} attempts; nothing was written, run this again"
    )

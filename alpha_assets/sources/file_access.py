"""Which files there are, and their opening: whatever is broken is one refusal that names the file."""

import csv
import glob
import gzip
import re
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TextIO

from polars.exceptions import PolarsError

from alpha_assets.sources.base import Cause

CSV_SUFFIXES = (".csv.gz", ".csv")
SUFFIXES = (".parquet", ".pq", *CSV_SUFFIXES)

#: Stands in a text for what is not UTF-8.
NOT_TEXT = "\ufffd"

#: Bytes that are no text, as they get into a message: replaced, escaped, or as they are. What lies between two that are
#: near each other is no text either.
_MARK = rf"(?:{NOT_TEXT}|\\x[0-9a-f]{{2}}|[\x00-\x1f\x7f-\x9f]|\bb'[^']*'|\bb\"[^\"]*\")"
_BYTES = re.compile(rf"{_MARK}(?:.{{0,12}}?{_MARK})*")

#: Of how many files the reading, the symbols and the last bars are remembered.
FILES_REMEMBERED = 16_384


class File(NamedTuple):
    """A file as it was seen: changed content is another ``File``, so what is remembered of one is never stale."""

    path: Path
    modified_ns: int
    size: int


class Refusal(Exception):
    """A file that is not read, or not for some symbols; the message names file, column and row, and shows no bytes."""

    def __init__(self, message: str, cause: Cause = Cause.REFUSED) -> None:
        super().__init__(_BYTES.sub("…", message))
        self.cause = cause


Refusals = dict[str, Refusal]


def matching(pattern: str) -> list[File]:
    """The Parquet and CSV files of a file, folder or glob, by path; in a folder, hidden ones are nobody's data."""
    if not pattern:
        return []
    place = Path(pattern).expanduser()
    found: Iterable[Path]
    if place.is_dir():
        found = (
            path for path in place.rglob("*") if not any(part[0] in "._" for part in path.relative_to(place).parts)
        )
    elif place.exists():
        found = [place]
    else:
        found = (Path(name) for name in glob.glob(str(place), recursive=True))  # noqa: PTH207 (Path has no absolute patterns)
    files = []
    for path in sorted(found):
        # One that is being replaced may be gone by now: the next call sees its successor.
        with suppress(FileNotFoundError):
            if path.name.lower().endswith(SUFFIXES) and stat.S_ISREG((seen := path.stat()).st_mode):
                files.append(File(path, seen.st_mtime_ns, seen.st_size))
    return files


def symbol_of(path: Path) -> str:
    """The name of a file without its suffix: BRK.B.csv.gz is BRK.B."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


@contextmanager
def opened(path: Path) -> Iterator[None]:
    """Whatever a reader says of a broken file, as one refusal that names the file."""
    try:
        yield
    except (PolarsError, OSError, EOFError, zlib.error, csv.Error) as error:
        reason = " ".join(str(error).splitlines()[:1]) or type(error).__name__
        raise Refusal(f"{path} cannot be read ({reason}): write it again, CSV as UTF-8", Cause.MALFORMED) from error


def text_of(path: Path) -> TextIO:
    """The text of a CSV, packed or not, without a byte-order mark; NOT_TEXT stands for what is not UTF-8."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")

"""Tables for people, CSV and JSON for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

from alpha_assets.stations.base import Pace, Progress


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: str, empty: str = "nothing to show") -> None:
    """Print rows with these columns; JSON is one array of objects, times in ISO 8601."""
    if form == "json":
        print(json.dumps(plain(rows, columns), indent=2))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _in_a_cell(value) for name, value in row.items()} for row in plain(rows, columns))
    elif not rows:
        print(empty)
    else:
        days = {column for column in columns if _only_days(row.get(column) for row in rows)}
        _grid([{name: _read(row.get(name), name in days) for name in columns} for row in rows], columns)


def plain(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with these columns as JSON has them."""
    return [{column: _plain(row.get(column)) for column in columns} for row in rows]


def progress() -> Progress:
    """Says on stderr, about ten times a stage, how far a long step has come (``Pace``)."""
    pace = Pace()

    def told(stage: str, done: int, total: int, at: str = "") -> None:
        words = pace.words(stage, done, total, at)
        if done == total or done % max(1, total // 10) == 0:
            print(f"  {words}", file=sys.stderr)

    return told


def record(figures: Mapping[str, Any], form: str) -> None:
    """Print one object: JSON as it is, CSV and table as a row of its plain figures."""
    if form == "json":
        print(json.dumps({key: _plain(value) for key, value in figures.items()}, indent=2))
        return
    flat = {key: value for key, value in figures.items() if not isinstance(value, Mapping)}
    table([flat], list(flat), form)


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """So many of them, in words that fit one too: 1 symbol, 2 symbols."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _in_a_cell(value: Any) -> Any:
    """A list or an object as JSON: CSV has no other form for it that a program could read."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _only_days(values: Iterable[Any]) -> bool:
    """True of a column of daily bars: an intraday bar of midnight is told from a day by its neighbours."""
    return all(value.time() == time(0) for value in values if isinstance(value, datetime))


def _read(value: Any, as_day: bool) -> Any:
    """A time as people read it: a daily bar's as its date, another to the minute, in UTC."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}" if as_day else f"{value:%Y-%m-%d %H:%M} UTC"
    return _plain(value)


def _grid(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table(header_style="bold")
    numeric = {column for column in columns if all(isinstance(row[column], int | float | None) for row in rows)}
    for column in columns:
        grid.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(row[column]) for column in columns), style=_COLOURS.get(str(row.get("signal")), ""))
    Console(width=None if sys.stdout.isatty() else 160).print(grid)


_COLOURS = {"BUY": "green", "SELL": "red", "STRONG_BUY": "bold green", "STRONG_SELL": "bold red"}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

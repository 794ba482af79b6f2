"""Bars from the user's own Parquet or CSV files: the usual spellings are understood, anything ambiguous is refused.

Files are the input most easily read wrongly in silence: 03/04/2020 is March or April, 1,234 is a thousand or a little
more than one, a second ``close`` is adjusted or is not, and 202001311530 is a minute of 2020 or a millisecond of 1976.
A reader that guesses is right for years and then moves a whole history by a month. So a column is read only where **the
column as a whole** allows one reading, and a refusal names file, column and row. Rows count from 1 after the header; of
a CSV the line of the text is given too.

What is remembered between calls is small (the reading of each file, its symbols, the last bar of each), belongs to the
process and is keyed by path, modification time and size: a sensor tick costs one ``stat`` a file, and a changed file is
read again. Prices are never kept: a read of the tail pushes the time bound down into Parquet and converts only the rows
that it delivers.

Nothing is dropped here but the empty lines of a CSV: null prices, double keys and times in the future are delivered as
they are, since cleaning accounts for every row.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path

import polars as pl

from alpha_assets.quant.adjust import as_traded, dividends_as_paid, from_adjusted
from alpha_assets.quant.calendars import newest_final
from alpha_assets.quant.schema import ACTIONS, RAW_BARS
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, SourceUnavailable
from alpha_assets.sources.file_access import SUFFIXES, File, Refusal, Refusals, matching
from alpha_assets.sources.file_columns import holders, holders_if_known
from alpha_assets.sources.file_conflicts import adjusted_or_not, not_adjusted, unlike_actions, unlike_twins
from alpha_assets.sources.file_reach import newest_bars
from alpha_assets.sources.file_rows import events_of, gathered, without
from alpha_assets.sources.file_times import Reading

logger = logging.getLogger(__name__)


class Files:
    """The source ``files``: one file or many, long (a symbol column) or one file a symbol (named after it).

    ``settings`` says where they are (``files``: a file, a folder, searched to any depth, or a glob), what naive
    intraday times mean (``files_timezone``) and what the prices are (``files_prices``). No state: two instances, or two
    processes, answer alike.
    """

    name = "files"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        calendars = tuple(sorted(settings.calendars.items()))
        self._reading = Reading(settings.interval, settings.files_timezone, settings.files_prices, calendars)

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:
        """Bars as traded and actions of ``symbols``, each from its ``since`` (None: from the history start).

        Bars come as the files hold them, in file order, the ones after ``now`` included: cleaning names those. Actions
        after ``now`` do not: they have not happened. A value that cannot be read fails its symbol, a file that cannot
        be read every symbol in it; the others go on. Raises SourceUnavailable where there is no file at all.
        """
        files = self._files()
        begin = datetime.combine(self._settings.history_start, time(), UTC)
        starts = {symbol: since.get(symbol) or begin for symbol in symbols}
        rows, refusals, unread = gathered(files, starts, self._reading)
        events = events_of(rows, self._reading)
        refusals |= unlike_actions(events, files) | unlike_twins(rows, files) | self._unclear_prices(rows, files)
        silent = sorted(starts.keys() - refusals.keys() - set(rows["symbol"].unique()))
        new = {symbol for symbol in symbols if since.get(symbol) is None}
        refusals |= self._absent(silent, new, files, unread)
        bars, actions = self._as_traded(without(rows, refusals), without(events, refusals))
        happened = actions.filter(pl.col("ex_date") <= now.astimezone(UTC).date())
        return Fetched(
            bars, happened, {symbol: Failure(symbol, why.cause, str(why)) for symbol, why in refusals.items()}
        )

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:
        """The last bar that the files hold of each symbol and that is over, lag included, by ``now``; else None.

        Reads nothing while the files are unchanged. None for every symbol also where no file matches: ``fetch`` says
        so.
        """
        newest: dict[str, datetime | None] = dict.fromkeys(symbols)
        files = matching(self._settings.files or "")
        if not files:
            return newest
        calendars = {symbol: self._reading.calendar(symbol) for symbol in symbols}
        interval, lag = self._settings.interval, self._settings.final_lag
        final = {calendar: newest_final(calendar, interval, now, lag) for calendar in set(calendars.values())}
        bounds = {symbol: bound for symbol in symbols if (bound := final[calendars[symbol]])}
        for file in files:
            for symbol, last in newest_bars(file, bounds, self._reading).items():
                held = newest[symbol]
                newest[symbol] = last if held is None else max(held, last)
        return newest

    def symbols(self) -> list[str]:
        """Every symbol the files hold, sorted; a file of which not even the symbols can be read is logged and left out.

        Raises SourceUnavailable where there is no file at all.
        """
        held: set[str] = set()
        for file in self._files():
            try:
                held |= holders(file)
            except Refusal as refusal:
                logger.warning("left out: %s", refusal)
        return sorted(held)

    def _files(self) -> list[File]:
        if self._settings.files is None:
            raise SourceUnavailable(
                "the source files needs ALPHA_FILES: a file, a folder or a glob of Parquet or CSV files"
            )
        files = matching(self._settings.files)
        if not files:
            raise SourceUnavailable(
                f"ALPHA_FILES={self._settings.files}: no Parquet or CSV file there "
                f"(looked for {', '.join(SUFFIXES)} from {Path.cwd()}); name a file, a folder or a glob"
            )
        return files

    def _unclear_prices(self, rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
        """Symbols whose files contradict what their prices are said, or by default taken, to be."""
        if self._reading.prices == "adjusted":
            return not_adjusted(rows, files)
        if self._reading.prices is None:
            return adjusted_or_not(rows, files)
        return {}

    def _absent(
        self, symbols: Sequence[str], new: set[str], files: Sequence[File], unread: Sequence[Refusal]
    ) -> Refusals:
        """Why no row came of ``symbols``; nothing for one that the files hold and that is not new: it has nothing new.

        While a file cannot be read at all a symbol is not unknown: that file may be the one that holds it.
        """
        if not symbols:
            return {}
        held = {symbol for file in files for symbol in holders_if_known(file) or ()}
        alike = {symbol.strip().upper(): symbol for symbol in held}
        refusals: Refusals = {}
        for symbol in symbols:
            if symbol in held and symbol in new:
                refusals[symbol] = self._no_data(symbol)
            elif symbol not in held and unread:
                refusals[symbol] = Refusal(f"{symbol} is in no file that could be read; {unread[0]}", Cause.MALFORMED)
            elif symbol not in held:
                refusals[symbol] = self._unknown(symbol, alike.get(symbol.strip().upper()), len(held))
        return refusals

    def _no_data(self, symbol: str) -> Refusal:
        start = self._settings.history_start
        return Refusal(
            f"{symbol} has no row since ALPHA_HISTORY_START={start} in ALPHA_FILES={self._settings.files}",
            Cause.NO_DATA,
        )

    def _unknown(self, symbol: str, alike: str | None, held: int) -> Refusal:
        hint = f"they hold {alike!r}: spell it so" if alike else f"they hold {held} other symbols"
        return Refusal(f"{symbol} is in no file of ALPHA_FILES={self._settings.files}; {hint}", Cause.UNKNOWN_SYMBOL)

    def _as_traded(self, rows: pl.DataFrame, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Bars and actions, prices brought back to what was traded and dividends to what was paid.

        Without ALPHA_FILES_PRICES nothing is converted: a file with splits is as traded, one without knows of none.
        """
        bars, order = rows.select(*RAW_BARS), ["symbol", "ex_date", "kind"]
        actions = events.select(*ACTIONS).unique(maintain_order=True).sort(order, maintain_order=True)
        if self._reading.prices in (None, "as-traded") or actions.is_empty():
            return bars, actions
        paid = dividends_as_paid(actions)
        convert = as_traded if self._reading.prices == "split-adjusted" else from_adjusted
        return convert(bars, paid, self._reading.interval, dict(self._reading.calendars)), paid

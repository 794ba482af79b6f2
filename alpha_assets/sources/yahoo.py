"""Yahoo Finance through yfinance, with its traps answered (each is guarded by a test of ``test_yahoo_assumptions``).

* **An outage looks like a delisting.** yfinance says «possibly delisted» for a refused connection as for a dead
  symbol. So every symbol is asked on its own, with the client's exceptions switched on and the HTTP status at hand,
  and a symbol is called unknown only after the control symbol answered later than it did. Where the control fails
  too, the batch is an outage.
* **Retries are served from an in-process cache**, error bodies included. The client's price reader (what
  ``Ticker.history`` calls) gets its data layer from us (``_Line``), which never goes through that cache and remembers
  the response; it also gets a time zone from us, which saves a request a symbol and the ambiguous answer «no timezone
  found».
* **``close`` is not raw**: Yahoo adjusts prices and volume for every split up to the moment of the download, and
  quotes dividends in today's shares. Every request therefore runs to now: every split after a bar is in the answer
  and is undone.
* **The client has no deadline** (cookie and crumb wait 30 s whatever one asks), so calls run in daemon threads that
  are abandoned when their time is up: a hung socket delays neither the run nor the interpreter's exit.
* **The client's cache on disk keeps a bad cookie for ever** (one without expiry breaks every later request): each
  process has a folder of its own, thrown away at its end, and the cookie is forgotten where the client stumbles over
  it. Without any cache the client would fetch the cookie before every request.
* **The client moves an event to the bar before it** where its own session has no bar, so events are read from the
  body.

Prices come in the listing currency as Yahoo quotes it, which in London is pence (GBp), in Johannesburg cents (ZAc),
in Tel Aviv agorot (ILA). The newest daily bar may be provisional: it is handed over, and the ingestion drops what is
not final.
"""

import functools
import json
import logging
import math
import random
import re
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import polars as pl

from alpha_assets.quant.adjust import as_traded, dividends_as_paid
from alpha_assets.quant.calendars import calendar_name, newest_final
from alpha_assets.quant.profile_schema import FUNDAMENTALS
from alpha_assets.quant.schema import ACTIONS, DIVIDEND, OHLC, OHLCV, RAW_BARS, SPLIT, empty
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Companies, Failure, Fetched, SourceUnavailable

Progress = Callable[[int, int, str], None]

#: Days back that Yahoo serves an interval, and days that one request may span.
REACH_DAYS: Mapping[str, int] = {"1m": 30, "2m": 60, "5m": 60, "15m": 60, "30m": 60, "1h": 730}
SPAN_DAYS: Mapping[str, int] = {"1m": 7}

#: Parts of the main unit in which a listing may be quoted while its dividends come in the main unit.
_SUBUNITS: Mapping[tuple[str, str], float] = {("GBP", "GBp"): 100.0, ("ZAR", "ZAc"): 100.0, ("ILS", "ILA"): 100.0}

#: libcurl's codes for «nobody there»: not resolved, refused, timed out, no TLS, a strange certificate, the proxy.
_NOBODY_THERE = frozenset({5, 6, 7, 28, 35, 60, 97})

_UNKNOWN = re.compile(r"no data found|delisted", re.IGNORECASE)
_OUT_OF_RANGE = re.compile(r"data doesn.t exist for startdate|data not available for starttime", re.IGNORECASE)
_SYMBOL = re.compile(r"[^\s/?#%\\]+")

_DAY = timedelta(days=1)
_log = logging.getLogger(__name__)


class Yahoo:
    """The source ``yahoo``: daily and intraday bars as traded, splits and dividends, a cause for each failed symbol.

    ``progress(done, total, symbol)`` is called whenever a symbol is settled, in the thread that called ``fetch``.
    """

    name: str = "yahoo"

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.progress = progress
        self._settings = settings
        self._pace = _Pace(settings.yahoo_requests_per_second, settings.yahoo_concurrency)

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:
        """Bars and actions of ``symbols``, each from its ``since`` (None: the history start) to ``now``.

        ``now`` is the moment of the call, because Yahoo's numbers are those of the moment of the download. A ``since``
        further back than Yahoo serves the interval is moved forward, and a log line says so. An empty answer to a
        symbol that has a ``since`` means nothing new; without one it is ``NO_DATA``.
        Raises ``SourceUnavailable`` as soon as neither a symbol nor the control symbol could be reached.
        """
        wanted = list(dict.fromkeys(symbols))
        refused = {symbol: refusal for symbol in wanted if (refusal := _refusal(symbol)) is not None}
        questions = [self._question(symbol, since.get(symbol), now) for symbol in wanted if symbol not in refused]
        if not questions:
            return Fetched(failures=refused)
        self._say_clamped(questions, since)
        run = self._asked(questions, now, self.progress)
        return self._assembled(run.answers, {**refused, **run.failures}, now)

    def fundamentals(self, symbols: Sequence[str], now: datetime) -> Companies:
        """What Yahoo says of these companies, one request a symbol, under the same limits as prices.

        An index or a currency has none: it is answered with no facts. Raises ``SourceUnavailable`` as ``fetch`` does.
        """
        wanted = list(dict.fromkeys(symbols))
        refused = {symbol: refusal for symbol in wanted if (refusal := _refusal(symbol)) is not None}
        questions = [_company_question(symbol, now) for symbol in wanted if symbol not in refused]
        if not questions:
            return Companies(failures=refused)
        run = self._asked(questions, now, None)
        told = {answer.question.symbol: answer.facts for answer in run.answers}
        asked = [question.symbol for question in questions if question.symbol not in run.failures]
        return Companies({symbol: told.get(symbol, {}) for symbol in asked}, {**refused, **run.failures})

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:
        """By calendar and lag alone: the newest bar of each symbol that is final by ``now``."""
        names = {symbol: calendar_name(symbol, self._settings.calendars) for symbol in symbols}
        interval, lag = self._settings.interval, self._settings.final_lag
        newest = {name: newest_final(name, interval, now, lag) for name in set(names.values())}
        return {symbol: newest[name] for symbol, name in names.items()}

    def _asked(self, questions: "Sequence[_Question]", now: datetime, progress: Progress | None) -> "_Run":
        run = _Run(self._settings, self._pace, now, len(questions), progress)
        with warnings.catch_warnings():
            _silence_client_deprecations()
            run.ask(questions)
        return run

    @property
    def _history_start(self) -> datetime:
        return datetime.combine(self._settings.history_start, datetime.min.time(), UTC)

    def _question(self, symbol: str, since: datetime | None, now: datetime) -> "_Question":
        interval = self._settings.interval
        start = since or self._history_start
        if interval in REACH_DAYS:
            start = max(start, _first_midnight_after(now - timedelta(days=REACH_DAYS[interval])))
        return _Question(symbol, interval, start, since is not None, _windows(interval, start, now))

    def _say_clamped(self, questions: "Sequence[_Question]", since: Mapping[str, datetime | None]) -> None:
        late = [
            question for question in questions if question.since > (since.get(question.symbol) or self._history_start)
        ]
        if not late:
            return
        _log.warning(
            "Yahoo serves %s bars of the last %d days only: %d symbols (%s) are read from %s on, not from where asked",
            self._settings.interval,
            REACH_DAYS[self._settings.interval],
            len(late),
            _some(question.symbol for question in late),
            late[0].since.date(),
        )

    def _assembled(self, answers: "Sequence[_Answer]", failures: Mapping[str, Failure], now: datetime) -> Fetched:
        """One frame of each kind: splits undone, dividends as paid, nothing outside what was asked."""
        if not answers:
            return Fetched(failures=failures)
        listed = pl.concat([answer.actions for answer in answers])
        traded = as_traded(
            pl.concat([answer.rows for answer in answers]), listed, self._settings.interval, self._settings.calendars
        )
        windows = pl.DataFrame(
            {
                "symbol": [answer.question.symbol for answer in answers],
                "first_ex_date": [answer.question.since.date() for answer in answers],
                "today": [now.astimezone(answer.zone).date() for answer in answers],
            },
            schema={"symbol": pl.String, "first_ex_date": pl.Date, "today": pl.Date},
        )
        # A split listed ahead of its day is undone in the prices above, but an action only once its day has come.
        actions = (
            dividends_as_paid(listed)
            .join(windows, on="symbol")
            .filter(pl.col("ex_date").is_between(pl.col("first_ex_date"), pl.col("today")))
            .select(list(ACTIONS))
            .sort("symbol", "ex_date", "kind")
        )
        return Fetched(traded.sort("symbol", "timestamp"), actions, failures)


@dataclass(frozen=True)
class _Question:
    """Bars of one symbol from ``since`` on, through one request a window (unix seconds, end exclusive).

    With ``company``, what is known of it instead: one request, of no time.
    """

    symbol: str
    interval: str
    since: datetime
    incremental: bool
    windows: tuple[tuple[int, int], ...]
    company: bool = False


@dataclass(frozen=True)
class _Answer:
    """What Yahoo said, in Yahoo's numbers: ``rows`` as RAW_BARS, ``actions`` as ACTIONS; ``zone`` is the exchange's.

    ``facts`` is what it said of the company, where that was asked.
    """

    question: _Question
    rows: pl.DataFrame
    actions: pl.DataFrame
    zone: ZoneInfo
    facts: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Trouble:
    """Why there is no answer: ``nobody`` where no server was reached, ``at`` when it was noticed (monotonic)."""

    cause: Cause
    words: str
    nobody: bool = False
    at: float = 0.0


class _Malformed(Exception):
    """The body was read, and cannot be what Yahoo means."""


class _Run:
    """One fetch: batches in turn, rounds within a batch, and the control symbol as judge of what is general."""

    def __init__(self, settings: Settings, pace: "_Pace", now: datetime, total: int, progress: Progress | None) -> None:
        self.answers: list[_Answer] = []
        self.failures: dict[str, Failure] = {}
        self._settings, self._pace, self._now = settings, pace, now
        self._total, self._done, self._progress = total, 0, progress
        self._workers = _Workers()
        self._client = _client()
        self._somebody_answered = False
        self._outage: _Trouble | None = None

    def ask(self, questions: Sequence[_Question]) -> None:
        """Settle every question: an answer, a failure, or nothing new."""
        size = self._settings.yahoo_batch
        try:
            for start in range(0, len(questions), size):
                self._ask_batch(questions[start : start + size])
        finally:
            self._workers.dismiss()

    def _ask_batch(self, questions: Sequence[_Question]) -> None:
        if self._outage is not None:
            for question in questions:
                self._fail(question, self._outage, "was not asked, because an earlier batch ended in an outage")
            return
        pending = list(questions)
        for attempt in range(self._settings.yahoo_attempts):
            if attempt:
                time.sleep(self._settings.yahoo_backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
            troubles, outage = self._round(pending)
            pending = [question for question in pending if question.symbol in troubles]
            if not pending:
                return
        for question in pending:
            self._fail(question, troubles[question.symbol], f"failed {self._settings.yahoo_attempts} times")
        self._outage = outage

    def _round(self, questions: Sequence[_Question]) -> tuple[dict[str, _Trouble], _Trouble | None]:
        """Ask everything once. Returns what is worth asking again, and the outage that the control symbol showed."""
        control = _Control(self._settings.yahoo_control_symbol, self._now)
        unknown: dict[str, _Trouble] = {}
        again: dict[str, _Trouble] = {}
        waiting = deque(questions)
        for question, said in self._said(waiting, control):
            if question is control.question:
                control.said = said
            elif isinstance(said, _Answer):
                self._settle(question, said)
            elif said.cause is Cause.NO_DATA:
                self._nothing(question, said)
            else:
                (unknown if said.cause is Cause.UNKNOWN_SYMBOL else again)[question.symbol] = said
                control.call(waiting)
            if control.outage is not None:
                self._stop_if_nobody_is_there(control.outage)
                again |= {left.symbol: control.outage for left in waiting}
                waiting.clear()
        outage = self._confirmed(unknown, control)
        if outage is not None:
            return {name: _shared(trouble, outage) for name, trouble in {**again, **unknown}.items()}, outage
        for question in questions:
            if question.symbol in unknown:
                self._fail(question, unknown[question.symbol], "")
        return again, None

    def _confirmed(self, unknown: Mapping[str, _Trouble], control: "_Control") -> _Trouble | None:
        """The outage, if any, after the control symbol was heard later than the last symbol that looked unknown."""
        latest = max((trouble.at for trouble in unknown.values()), default=None)
        if latest is None or control.outage is not None or control.called_at > latest:
            return control.outage
        waiting: deque[_Question] = deque()
        control.call(waiting, anew=True)
        for _, said in self._said(waiting, control):
            control.said = said
        return control.outage

    def _said(self, waiting: deque[_Question], control: "_Control") -> Iterable[tuple[_Question, _Answer | _Trouble]]:
        """Answers as they come in, while ``waiting`` is worked off: so many at once, and no faster than the pace."""
        under_way: dict[int, _Question] = {}
        while waiting or under_way:
            while waiting and len(under_way) < self._settings.yahoo_concurrency and self._pace.pause() <= 0.0:
                question = waiting.popleft()
                if question is control.question:
                    control.called_at = time.monotonic()
                under_way[self._start(question)] = question
            idle = waiting and len(under_way) < self._settings.yahoo_concurrency
            for ticket, said in self._workers.finished(self._pace.pause() if idle else None):
                question = under_way.pop(ticket)
                said = said or self._late(question)
                self._somebody_answered |= isinstance(said, _Answer) or not said.nobody
                yield question, said

    def _start(self, question: _Question) -> int:
        self._pace.spend(len(question.windows))
        timeout = self._settings.yahoo_timeout_seconds
        ask = _ask_company if question.company else _ask
        call = functools.partial(ask, self._client, question, self._now, timeout)
        return self._workers.start(call, timeout * len(question.windows))

    def _late(self, question: _Question) -> _Trouble:
        seconds = self._settings.yahoo_timeout_seconds * len(question.windows)
        return _Trouble(Cause.OUTAGE, f"no answer within {seconds:g} s", nobody=True, at=time.monotonic())

    def _stop_if_nobody_is_there(self, outage: _Trouble) -> None:
        if self._somebody_answered or not outage.nobody:
            return
        raise SourceUnavailable(
            f"Yahoo Finance could not be reached ({outage.words}); check the network or proxy, or use your own bars "
            "with `ALPHA_SOURCE=files ALPHA_FILES=<file, folder or glob>` or a simulated market with "
            "`ALPHA_SOURCE=simulated`, either in another `ALPHA_HOME`: a symbol keeps the source it was added with."
        )

    def _settle(self, question: _Question, answer: _Answer) -> None:
        if answer.rows.is_empty() and not question.incremental:
            return self._nothing(question, _Trouble(Cause.NO_DATA, "the answer holds no bar inside the range"))
        self.answers.append(answer)
        return self._report(question)

    def _nothing(self, question: _Question, trouble: _Trouble) -> None:
        if question.incremental:
            return self._report(question)
        return self._fail(question, trouble, "")

    def _fail(self, question: _Question, trouble: _Trouble, how: str) -> None:
        sentence = _SENTENCES[trouble.cause].format(
            symbol=question.symbol,
            words=trouble.words,
            how=how or "failed",
            interval=question.interval,
            since=question.since.date(),
            now=self._now.date(),
            control=self._settings.yahoo_control_symbol,
        )
        self.failures[question.symbol] = Failure(question.symbol, trouble.cause, sentence)
        self._report(question)

    def _report(self, question: _Question) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, question.symbol)


_SENTENCES: Mapping[Cause, str] = {
    Cause.UNKNOWN_SYMBOL: (
        "{symbol}: Yahoo does not know it ({words}), while {control} was answered: it is misspelt (share classes have "
        "a dash: BRK-B) or delisted; correct it, or retire it with `alpha-assets universe retire {symbol}`."
    ),
    Cause.NO_DATA: (
        "{symbol}: Yahoo knows it, but has no {interval} bars from {since} to {now} ({words}); "
        "check ALPHA_HISTORY_START and ALPHA_INTERVAL."
    ),
    Cause.RATE_LIMITED: (
        "{symbol} {how}: Yahoo limits the rate ({words}); the next refresh asks again, "
        "a lower ALPHA_YAHOO_REQUESTS_PER_SECOND helps."
    ),
    Cause.OUTAGE: "{symbol} {how}: Yahoo is out or out of reach ({words}); the next refresh asks again.",
    Cause.MALFORMED: "{symbol} {how}: Yahoo's answer cannot be read ({words}); the next refresh asks again.",
}


class _Control:
    """The control symbol's question of one round: put for the first trouble, and again to confirm an unknown."""

    def __init__(self, symbol: str, now: datetime) -> None:
        start = now - timedelta(days=10)
        self.question = _Question(symbol, "1d", start, True, _windows("1d", start, now))
        self.said: _Answer | _Trouble | None = None
        self.called_at = -1.0
        self._called = False

    def call(self, waiting: deque[_Question], anew: bool = False) -> None:
        """Put the question in front of all others, unless it was put before."""
        if anew or not self._called:
            self._called = True
            waiting.appendleft(self.question)

    @property
    def outage(self) -> _Trouble | None:
        """The general trouble; None where the control was answered («no data» is an answer) or not asked."""
        if not isinstance(self.said, _Trouble) or self.said.cause is Cause.NO_DATA:
            return None
        cause = Cause.RATE_LIMITED if self.said.cause is Cause.RATE_LIMITED else Cause.OUTAGE
        return replace(
            self.said, cause=cause, words=f"the control symbol {self.question.symbol} failed too: {self.said.words}"
        )


class _Pace:
    """A token bucket: ``rate`` tokens a second, at most ``burst`` saved up. The source's fetches share it."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = 1.0 / rate
        self._saved = burst * self._seconds
        self._due = clock()
        self._clock = clock

    def pause(self) -> float:
        """Seconds until the next token; zero or less where there is one."""
        return self._due + self._seconds - self._saved - self._clock()

    def spend(self, tokens: int) -> None:
        """Take ``tokens``; the bucket may run into debt."""
        self._due = max(self._due, self._clock()) + tokens * self._seconds


class _Workers:
    """Daemon threads that run calls and can be abandoned; they live for one fetch, so that connections are reused."""

    def __init__(self) -> None:
        self._said: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._idle: list[SimpleQueue[Any]] = []
        self._busy: dict[int, tuple[SimpleQueue[Any], float]] = {}
        self._tickets = 0

    def start(self, call: Callable[[], Any], seconds: float) -> int:
        """Run ``call`` for at most ``seconds``; returns its ticket."""
        inbox = self._idle.pop() if self._idle else self._hire()
        self._tickets += 1
        self._busy[self._tickets] = (inbox, time.monotonic() + seconds)
        inbox.put((self._tickets, call))
        return self._tickets

    def finished(self, seconds: float | None) -> list[tuple[int, Any]]:
        """Tickets finished within ``seconds`` (None: until one is), and what was said: None where time was up."""
        deadlines = [deadline for _, deadline in self._busy.values()]
        limits = deadlines if seconds is None else [*deadlines, time.monotonic() + seconds]
        try:
            ticket, said = self._said.get(timeout=max(0.0, min(limits) - time.monotonic()))
        except Empty:
            return [(ticket, None) for ticket in self._overdue()]
        if ticket not in self._busy:
            return []
        self._idle.append(self._busy.pop(ticket)[0])
        return [(ticket, said)]

    def dismiss(self) -> None:
        """Let idle threads end at once, and busy ones after what they do."""
        for inbox in [*self._idle, *(inbox for inbox, _ in self._busy.values())]:
            inbox.put(None)

    def _overdue(self) -> list[int]:
        late = [ticket for ticket, (_, deadline) in self._busy.items() if deadline <= time.monotonic()]
        for ticket in late:
            self._busy.pop(ticket)[0].put(None)
        return late

    def _hire(self) -> "SimpleQueue[Any]":
        inbox: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=_work, args=(inbox, self._said), name="yahoo", daemon=True).start()
        return inbox


def _refusal(symbol: str) -> Failure | None:
    """Why the symbol cannot be asked for, whatever Yahoo says."""
    if _SYMBOL.fullmatch(symbol):
        return None
    wrong = "empty, or with a space or one of / ? # % \\"
    return Failure(symbol, Cause.REFUSED, f"{symbol!r} cannot be a Yahoo symbol: {wrong}; correct it in the universe.")


def _work(inbox: "SimpleQueue[Any]", said: "SimpleQueue[tuple[int, Any]]") -> None:
    while (job := inbox.get()) is not None:
        ticket, call = job
        said.put((ticket, call()))


class _Line:
    """The client's data layer as its price reader uses it: past the response cache, and with the last response kept."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.response: Any = None

    def get(self, url: str, params: Any = None, timeout: Any = 30) -> Any:
        """One request with the client's cookie, crumb and its one retry."""
        self.response = None
        self.response = self._data.get(url=url, params=params, timeout=timeout)
        return self.response

    cache_get = get


@dataclass(frozen=True)
class _Client:
    """The parts of yfinance in use, imported at the first fetch because that takes more than a second."""

    reader: Any
    data: Any
    errors: Any
    cookies: Callable[[], Any]
    folder: tempfile.TemporaryDirectory[str]


@functools.cache
def _loaded() -> _Client:
    import yfinance
    from yfinance import cache, data, exceptions
    from yfinance.scrapers.history import PriceHistory

    folder = tempfile.TemporaryDirectory(prefix="alpha-assets-yahoo-")
    yfinance.set_tz_cache_location(folder.name)
    # Without a handler of its own the client's warnings about cookies would reach the terminal before our one sentence.
    logging.getLogger("yfinance").addHandler(logging.NullHandler())
    return _Client(PriceHistory, data.YfData, exceptions, cache.get_cookie_cache, folder)


def _client() -> _Client:
    """The client, with its exceptions on: somebody else in this process may have switched them off since."""
    import yfinance

    client = _loaded()
    yfinance.config.debug.hide_exceptions = False
    return client


def _silence_client_deprecations() -> None:
    """yfinance 1.7 calls pandas with ``inplace=``: pandas 3.1 answers with a Pandas4Warning a call, thousands a batch.

    Set in the calling thread, because warning filters belong to the process, not to the threads of the batch.
    """
    from pandas.errors import Pandas4Warning

    warnings.filterwarnings("ignore", category=Pandas4Warning, module=r"yfinance\.")


def _ask(client: _Client, question: _Question, now: datetime, timeout: float) -> _Answer | _Trouble:
    """Ask Yahoo through the client, one request a window."""
    line = _Line(client.data())
    rows, events, zone = [], [], None
    quiet = _Trouble(Cause.NO_DATA, "the range is empty")
    for start, end in question.windows:
        try:
            frame = client.reader(line, question.symbol, "UTC").history(
                start=start,
                end=end,
                interval=question.interval,
                auto_adjust=False,
                actions=True,
                keepna=True,
                timeout=timeout,
            )
            result = line.response.json()["chart"]["result"][0]
            zone = ZoneInfo(result["meta"]["exchangeTimezoneName"])
            rows.append(_rows(frame, question, zone, now))
            events.append(_actions(result, question.symbol, zone))
        except Exception as error:  # whatever the client trips over is this symbol's trouble, named by its cause
            trouble = _trouble(client, error, line.response)
            if trouble.cause is not Cause.NO_DATA:
                return trouble
            quiet = trouble
    if zone is None:
        return quiet
    bars = pl.concat(rows).unique("timestamp", keep="last", maintain_order=True)
    return _Answer(question, bars, pl.concat(events).unique(["ex_date", "kind"], maintain_order=True), zone)


#: Where Yahoo keeps each fact: the section of its summary and the name there.
_FACTS: Mapping[str, tuple[str, str]] = {
    "name": ("quoteType", "longName"),
    "quote_type": ("quoteType", "quoteType"),
    "exchange": ("quoteType", "exchange"),
    "currency": ("summaryDetail", "currency"),
    "country": ("assetProfile", "country"),
    "sector": ("assetProfile", "sector"),
    "industry": ("assetProfile", "industry"),
    "employees": ("assetProfile", "fullTimeEmployees"),
    "listed": ("quoteType", "firstTradeDateEpochUtc"),
    "market_cap": ("summaryDetail", "marketCap"),
    "enterprise_value": ("defaultKeyStatistics", "enterpriseValue"),
    "shares_outstanding": ("defaultKeyStatistics", "sharesOutstanding"),
    "trailing_pe": ("summaryDetail", "trailingPE"),
    "forward_pe": ("summaryDetail", "forwardPE"),
    "price_to_book": ("defaultKeyStatistics", "priceToBook"),
    "price_to_sales": ("summaryDetail", "priceToSalesTrailing12Months"),
    "earnings_per_share": ("defaultKeyStatistics", "trailingEps"),
    "dividend_yield": ("summaryDetail", "dividendYield"),
    "payout_ratio": ("summaryDetail", "payoutRatio"),
    "beta": ("summaryDetail", "beta"),
    "profit_margin": ("defaultKeyStatistics", "profitMargins"),
    "return_on_equity": ("financialData", "returnOnEquity"),
    "debt_to_equity": ("financialData", "debtToEquity"),
    "revenue": ("financialData", "totalRevenue"),
}

#: Facts that Yahoo quotes in percent where the others are shares.
_IN_PERCENT = frozenset({"debt_to_equity"})

_SUMMARY_URL = "https://query2.finance.yahoo.com/v10/finance/quoteSummary/"


def _company_question(symbol: str, now: datetime) -> _Question:
    return _Question(symbol, "1d", now, True, ((0, 0),), company=True)


def _ask_company(client: _Client, question: _Question, now: datetime, timeout: float) -> _Answer | _Trouble:  # noqa: ARG001
    """Ask for the summary behind the client's ``Ticker.info``, past its response cache.

    Not ``Ticker.info`` itself: it asks twice a symbol, and its second answer overwrites the dividend yield, a share,
    with one in percent.
    """
    line = _Line(client.data())
    sections = ",".join(dict.fromkeys(section for section, _ in _FACTS.values()))
    params = {"modules": sections, "corsDomain": "finance.yahoo.com", "formatted": "false", "symbol": question.symbol}
    try:
        response = line.get(_SUMMARY_URL + quote(question.symbol, safe=""), params=params, timeout=timeout)
        if response.status_code == 404 and response.json()["quoteSummary"]["error"]:
            return _Trouble(Cause.NO_DATA, "Yahoo has no summary of it")
        response.raise_for_status()
        result = response.json()["quoteSummary"]["result"][0]
        facts = {name: fact for name in _FACTS if (fact := _fact(result, name)) is not None}
    except Exception as error:  # whatever the client trips over is this symbol's trouble, named by its cause
        return _trouble(client, error, line.response)
    return _Answer(question, empty(RAW_BARS), empty(ACTIONS), ZoneInfo("UTC"), facts)


def _fact(result: Mapping[str, Any], name: str) -> float | int | str | None:
    """One fact in our unit; None where Yahoo does not have it, or says something that cannot be it («Infinity»)."""
    section, field_name = _FACTS[name]
    said = (result.get(section) or {}).get(field_name)
    kind = FUNDAMENTALS[name].type
    if kind == "text":
        return said.strip() or None if isinstance(said, str) else None
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        return None
    if kind == "time":
        return datetime.fromtimestamp(said, UTC).date().isoformat()
    if kind == "integer":
        return int(said)
    return said / 100.0 if name in _IN_PERCENT else float(said)


def _shared(trouble: _Trouble, outage: _Trouble) -> _Trouble:
    """A symbol's trouble in an outage: the outage is the cause, whatever the symbol's own trouble looked like."""
    return outage if trouble is outage else replace(outage, words=f"{trouble.words}; {outage.words}")


def _trouble(client: _Client, error: Exception, response: Any) -> _Trouble:
    """The cause behind what the client raised, by its type, the status and the body."""
    if response is None and not isinstance(error, OSError | client.errors.YFException):
        client.cookies().store("curlCffi", None)
    return _Trouble(*_diagnosis(client.errors, error, response), time.monotonic())


def _diagnosis(errors: Any, error: Exception, response: Any) -> tuple[Cause, str, bool]:
    if isinstance(error, errors.YFRateLimitError):
        return Cause.RATE_LIMITED, "429 Too Many Requests", False
    if isinstance(error, errors.YFDataException):
        return Cause.OUTAGE, "«Will be right back»", False
    if response is None:
        nobody = getattr(error, "code", None) in _NOBODY_THERE or type(error).__name__ == "ProxyError"
        return (Cause.OUTAGE if isinstance(error, OSError) else Cause.MALFORMED), _words(error), nobody
    reason = getattr(error, "yahoo_reason", None)
    if reason is not None and _UNKNOWN.search(reason):
        return Cause.UNKNOWN_SYMBOL, reason, False
    if reason is not None and _OUT_OF_RANGE.search(reason):
        return Cause.NO_DATA, reason, False
    if reason is not None or _is_server_trouble(response.status_code):
        return Cause.OUTAGE, f"status {response.status_code}: {reason or _shortened(response.text)}", False
    if _is_empty(response):
        return Cause.NO_DATA, "an answer without bars", False
    words = f"status {response.status_code}, {_words(error)}, body begins {_shortened(response.text)!r}"
    return Cause.MALFORMED, words, False


def _is_server_trouble(status: int) -> bool:
    """Statuses that speak of the server or of our session, not of the symbol; 999 is Yahoo's own «go away»."""
    return status in (401, 403) or status >= 500


def _is_empty(response: Any) -> bool:
    """A well-formed answer about a known symbol that holds not a single bar."""
    try:
        result = response.json()["chart"]["result"][0]
        values = result["indicators"]["quote"][0]
        return bool(result["meta"]["exchangeTimezoneName"]) and not result.get("timestamp") and not any(values.values())
    except (json.JSONDecodeError, LookupError, TypeError, AttributeError):
        return False


def _rows(frame: Any, question: _Question, zone: ZoneInfo, now: datetime) -> pl.DataFrame:
    """The client's frame as RAW_BARS, in Yahoo's numbers: without bars that are null, not asked for, or a live quote.

    The client turns a null volume into 0, so a bar is null when its four prices are.
    """
    daily = question.interval == "1d"
    index = frame.index
    local = (
        index.tz_convert(str(zone)).tz_localize(None).normalize()
        if daily
        else index.tz_convert("UTC").tz_localize(None)
    )
    starts = pl.Series("timestamp", local.as_unit("us").asi8, dtype=pl.Int64).cast(pl.Datetime("us"))
    columns = {name: frame[name.capitalize()].to_numpy(dtype="float64") for name in OHLCV}
    rows = pl.DataFrame({"timestamp": starts.dt.replace_time_zone("UTC"), **columns}).with_columns(
        pl.lit(question.symbol).alias("symbol"), pl.col(OHLCV).fill_nan(None)
    )
    # A session's stamp is its date there, which begins before that date does in UTC (Auckland): compare dates there.
    last = datetime.combine(now.astimezone(zone).date(), datetime.min.time(), UTC) if daily else now
    return rows.filter(
        pl.any_horizontal(pl.col(OHLC).is_not_null()),
        pl.col("timestamp").is_between(question.since, last),
        pl.col("timestamp").dt.second() == 0,
    ).select(list(RAW_BARS))


def _actions(result: Mapping[str, Any], symbol: str, zone: ZoneInfo) -> pl.DataFrame:
    """The events of the body as ACTIONS, dividends still in today's shares.

    The same event listed twice on a date counts once; different ones add up (dividends) or chain (splits). A capital
    gain is part of its date's dividend where that is at least as large (Yahoo lists it twice), else one of its own.
    """
    events = result.get("events") or {}
    splits: dict[date, float] = {}
    paid: dict[date, float] = {}
    for day, value in _once(events.get("splits"), zone, lambda event: event["numerator"] / event["denominator"]):
        splits[day] = splits.get(day, 1.0) * value
    currency = result["meta"].get("currency")
    for day, value in _once(events.get("dividends"), zone, lambda event: _amount(event, currency, symbol)):
        paid[day] = paid.get(day, 0.0) + value
    for day, value in _once(events.get("capitalGains"), zone, lambda event: float(event["amount"])):
        paid[day] = paid.get(day, 0.0) if paid.get(day, 0.0) >= value else paid.get(day, 0.0) + value
    impossible = {day: value for day, value in splits.items() if not 0.0 < value < float("inf")}
    if impossible:
        raise _Malformed(f"splits with an impossible ratio: {impossible}")
    lines = [(symbol, day, SPLIT, value) for day, value in splits.items()]
    lines += [(symbol, day, DIVIDEND, value) for day, value in paid.items() if value]
    return pl.DataFrame(lines, schema=dict(ACTIONS), orient="row") if lines else empty(ACTIONS)


def _once(
    events: Mapping[str, Any] | None, zone: ZoneInfo, value: Callable[[Mapping[str, Any]], float]
) -> list[tuple[date, float]]:
    """Session's date and value of each event; around daylight saving some stamps lie an hour or two before midnight."""
    pairs = [
        ((datetime.fromtimestamp(event["date"], zone) + timedelta(hours=2)).date(), value(event))
        for event in (events or {}).values()
    ]
    return list(dict.fromkeys(pairs))


def _amount(dividend: Mapping[str, Any], currency: str | None, symbol: str) -> float:
    """The dividend in the listing's currency; 0, and a log line, where it is paid in one that cannot be converted."""
    paid_in = dividend.get("currency") or currency
    if paid_in == currency:
        return float(dividend["amount"])
    factor = _SUBUNITS.get((str(paid_in), str(currency)))
    if factor is None:
        _log.warning(
            "%s: the dividend %s is left out, it is not in the listing's currency %s", symbol, dict(dividend), currency
        )
        return 0.0
    return float(dividend["amount"]) * factor


def _windows(interval: str, start: datetime, now: datetime) -> tuple[tuple[int, int], ...]:
    """The requests for one symbol: from a day early (Auckland's session begins on the eve, in UTC) to a day late.

    A day late because a split of today is stamped at today's open while the prices before it may be adjusted already.
    """
    first, last = int((start - (_DAY if interval == "1d" else timedelta(0))).timestamp()), int((now + _DAY).timestamp())
    step = SPAN_DAYS.get(interval, 100_000) * int(_DAY.total_seconds())
    return tuple((begin, min(begin + step, last)) for begin in range(first, last, step))


def _first_midnight_after(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date() + _DAY, datetime.min.time(), UTC)


def _words(error: Exception) -> str:
    """The error in one line, without libcurl's pointer to its manual."""
    text = str(error).split(" See https://curl.se")[0].removeprefix("Failed to perform, ").strip()
    return _shortened(f"{type(error).__name__}: {text}", 300)


def _shortened(text: str, length: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[:length] + "…"


def _some(symbols: Iterable[str], shown: int = 5) -> str:
    names = list(symbols)
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")

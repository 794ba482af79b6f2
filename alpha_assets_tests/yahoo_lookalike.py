"""A Yahoo Finance on loopback for the unmodified client: recorded and synthetic listings, and misbehaviour on demand.

The client reaches it through its ordinary proxy setting: a CONNECT server on 127.0.0.1 that ends the TLS itself, with a
certificate made for the day, and then serves what Yahoo's hosts serve: the cookie, the crumb, the consent pages and the
chart. Nothing of the client is patched. ``redirected`` sends the client of this process here, the variables of
``environment()`` that of another; ``python -m alpha_assets_tests.yahoo_lookalike`` prints them and serves.

A listing holds bars **as traded** and is served the way Yahoo serves it: adjusted for every split up to ``moment``,
dividends in that day's shares. Moving ``moment`` over a split restates history, as the real one does. A recording is
served in its own numbers.
"""

import argparse
import json
import os
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import polars as pl

HOSTS = (
    "fc.yahoo.com",
    "query1.finance.yahoo.com",
    "query2.finance.yahoo.com",
    "guce.yahoo.com",
    "consent.yahoo.com",
    "finance.yahoo.com",
)
CHART_PATH = "/v8/finance/chart/"
SUMMARY_PATH = "/v10/finance/quoteSummary/"
EVERYTHING = "*"
#: Added to a symbol in ``misbehave``: its summary misbehaves, not its chart. Alone: every summary does.
SUMMARY = " summary"
SECONDS = {"1m": 60, "2m": 120, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "60m": 3600, "1d": 86400}
#: Unix seconds, the ratio of the splits after it, and the prices of one bar.
Row = tuple[int, float, Mapping[str, Any]]
CONSENT_PAGE = '<html><form><input name="csrfToken" value="t"><input name="sessionId" value="s"></form></html>'


class Fault(StrEnum):
    """What the chart can do instead of answering properly."""

    NOT_FOUND = "404, the body recorded for SI"
    OUT_OF_RANGE = "400, the body recorded for BEKE"
    RATE_LIMIT = "429"
    SERVER_ERROR = "500 with a page"
    SERVER_ERROR_JSON = "500 with a chart error"
    GO_AWAY = "999"
    UNAUTHORIZED = "401 Invalid Crumb"
    MAINTENANCE = "200, will be right back"
    TRUNCATED = "200, half the JSON"
    HTML = "200, a page"
    NULL_RESULT = "200, result null"
    EMPTY_RESULT = "200, result []"
    EMPTY_QUOTE = "200, a quote without bars"
    NO_TIMESTAMPS = "200, prices without timestamps"
    BAD_SPLIT = "200, a split 0:1"
    SLOW = "no answer for a long time"
    CUT = "the connection is cut in the middle of the body"
    DEAF = "the connection is closed without an answer"
    UNCUT = "200, rows outside the period"
    LIVE_ROW = "200, the last row twice, once as a live quote"


@dataclass(frozen=True)
class Asked:
    """One request that arrived, with the status it got (0: none)."""

    host: str
    path: str
    query: Mapping[str, str]
    status: int

    @property
    def symbol(self) -> str | None:
        """The symbol of a chart request, else None."""
        return _symbol(self.path)


@dataclass
class Listing:
    """One symbol, all as traded: ``bars`` (timestamp, open .. volume) and ``actions`` (ex_date, kind, value)."""

    bars: pl.DataFrame
    actions: pl.DataFrame
    zone: str = "America/New_York"
    currency: str = "USD"
    kind: str = "EQUITY"
    opens: timedelta = timedelta(hours=9, minutes=30)
    interval: str = "1d"

    def body(self, moment: datetime, start: int, end: int, uncut: bool) -> dict[str, Any]:
        """The chart as of ``moment``."""
        today = moment.astimezone(ZoneInfo(self.zone)).date()
        splits = [(day, value) for day, kind, value in self._actions() if kind == "split" and day <= today]
        rows: list[Row] = []
        events: dict[str, dict[str, Any]] = {"splits": {}, "dividends": {}}
        for row in self.bars.sort("timestamp").iter_rows(named=True):
            session = self._session(row["timestamp"])
            stamp = self._stamp(row["timestamp"])
            if session <= today and (uncut or start <= stamp < end):
                rows.append((stamp, _later(splits, session), row))
        for day, kind, value in self._actions():
            stamp = self._open(day)
            if day <= today and (uncut or start <= stamp < end):
                _add_event(events, kind, stamp, value, _later(splits, day))
        return _result(self._meta(rows), rows, {name: found for name, found in events.items() if found})

    def _actions(self) -> list[tuple[date, str, float]]:
        return list(self.actions.select("ex_date", "kind", "value").iter_rows())

    def _session(self, timestamp: datetime) -> date:
        return timestamp.date() if self.interval == "1d" else timestamp.astimezone(ZoneInfo(self.zone)).date()

    def _stamp(self, timestamp: datetime) -> int:
        return self._open(timestamp.date()) if self.interval == "1d" else int(timestamp.timestamp())

    def _open(self, day: date) -> int:
        midnight = datetime.combine(day, datetime.min.time())
        return int((midnight + self.opens).replace(tzinfo=ZoneInfo(self.zone)).timestamp())

    def _meta(self, rows: list[Any]) -> dict[str, Any]:
        meta = _meta(self.zone, self.currency, self.kind, self.interval)
        if self.interval != "1d":
            days: dict[date, list[int]] = {}
            for stamp, _, row in rows:
                days.setdefault(self._session(row["timestamp"]), []).append(stamp)
            length = SECONDS[self.interval]
            meta["tradingPeriods"] = [[_period(min(stamps), max(stamps) + length)] for stamps in days.values()]
        return meta

    @property
    def first(self) -> int:
        """The first bar's stamp."""
        return self._stamp(self.bars["timestamp"].min())  # type: ignore[arg-type]


@dataclass
class Recording:
    """Recorded bodies of one symbol and interval, joined; a later one wins where two hold the same bar."""

    results: list[dict[str, Any]] = field(default_factory=list)

    def body(self, start: int, end: int, uncut: bool) -> dict[str, Any]:
        """The rows and events of the period, in the recording's own numbers."""
        rows: dict[int, dict[str, Any]] = {}
        events: dict[str, dict[str, Any]] = {}
        for result in self.results:
            quote = result["indicators"]["quote"][0]
            if "timestamp" not in result and quote:
                return {"chart": {"result": [result], "error": None}}
            adjusted = result["indicators"].get("adjclose", [{}])[0].get("adjclose")
            for position, stamp in enumerate(result.get("timestamp", [])):
                rows[stamp] = {name: values[position] for name, values in quote.items()}
                rows[stamp]["adjclose"] = adjusted[position] if adjusted else None
            for kind, found in result.get("events", {}).items():
                events.setdefault(kind, {}).update(found)
        inside: list[Row] = [(stamp, 1.0, row) for stamp, row in sorted(rows.items()) if uncut or start <= stamp < end]
        happened = {
            kind: {key: event for key, event in found.items() if uncut or start <= event["date"] < end}
            for kind, found in events.items()
        }
        return _result(
            dict(self.results[-1]["meta"]), inside, {kind: found for kind, found in happened.items() if found}
        )


class YahooLookalike:
    """The server. ``with YahooLookalike() as yahoo:`` starts and stops it; all state may be changed while it runs.

    ``moment`` is the moment of every download until it is moved; ``asked`` logs the requests; ``cookie_age`` None gives
    a bare session cookie; ``companies`` are the sections of a summary; ``chart_seconds`` is how long a chart takes,
    ``most_at_once`` how many were under way.
    """

    def __init__(self, folder: Path | None = None, moment: datetime | None = None) -> None:
        self.moment = moment or datetime.now(UTC)
        self.asked: list[Asked] = []
        self.cookie_age: int | None = 31_536_000
        self.crumb_status = 200
        self.slow_seconds = 30.0
        self.cookie_seconds = 0.0
        self.chart_seconds = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self.listings: dict[tuple[str, str], Listing] = {}
        self.recordings: dict[tuple[str, str], Recording] = {}
        self.recorded_errors: dict[str, tuple[int, str]] = {}
        self.companies: dict[str, dict[str, dict[str, Any]]] = {}
        self._faults: dict[str, list[Any]] = {}
        self._own_folder = tempfile.TemporaryDirectory(prefix="yahoo-lookalike-") if folder is None else None
        self._folder = Path(self._own_folder.name) if self._own_folder else Path(str(folder))
        self._folder.mkdir(parents=True, exist_ok=True)
        self._certificate = _certificate(self._folder)
        self._port = 0
        self._server: _Server | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "YahooLookalike":
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        if self._own_folder:
            self._own_folder.cleanup()

    def accept(self) -> None:
        """Listen; after ``refuse`` on the same port as before."""
        self._closing.clear()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        # A short poll, because shutdown waits for the poll to end.
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Close the port and every open connection: from now on connections are refused."""
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_all()
            self._server = None

    @property
    def proxy(self) -> str:
        """Address for the client's proxy setting."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def authority(self) -> Path:
        """The certificate to trust, as PEM."""
        return self._certificate

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment so that its client ends up here, set before it imports yfinance."""
        return {
            "HTTPS_PROXY": self.proxy,
            "https_proxy": self.proxy,
            "NO_PROXY": "",
            "no_proxy": "",
            "REQUESTS_CA_BUNDLE": str(self.authority),
            "XDG_CACHE_HOME": str(self._folder / "cache"),
        }

    def offer(self, symbol: str, bars: pl.DataFrame, actions: pl.DataFrame | None = None, **properties: Any) -> Listing:
        """Serve ``symbol`` from as-traded bars and actions; ``properties`` are those of ``Listing``."""
        none = pl.DataFrame(schema={"ex_date": pl.Date, "kind": pl.String, "value": pl.Float64})
        listing = Listing(bars, none if actions is None else actions, **properties)
        self.listings[symbol, listing.interval] = listing
        return listing

    def play(self, file: Path) -> None:
        """Serve one recorded body (the files of ``shared/data/yahoo_chart``) under its symbol and interval."""
        recorded = json.loads(file.read_text())
        if recorded["status"] >= 400:
            symbol = _symbol(urlsplit(recorded["url"]).path)
            assert symbol is not None
            self.recorded_errors[symbol] = (recorded["status"], json.dumps(recorded["body"]))
            return
        result = recorded["body"]["chart"]["result"][0]
        key = (result["meta"]["symbol"], result["meta"]["dataGranularity"])
        self.recordings.setdefault(key, Recording()).results.append(result)

    def misbehave(self, symbol: str, fault: Fault, times: float = float("inf"), after: int = 0) -> None:
        """Answer ``times`` charts of ``symbol`` (EVERYTHING: any) with ``fault``, after ``after`` good ones."""
        self._faults[symbol] = [fault, times, after]

    def heal(self) -> None:
        """Behave again."""
        self._faults.clear()

    def charts(self, symbol: str | None = None) -> list[Asked]:
        """The chart requests so far, of one symbol or of all."""
        return [asked for asked in self.asked if asked.symbol and symbol in (None, asked.symbol)]

    def summaries(self) -> list[str]:
        """The symbols whose summaries were asked for so far."""
        return [symbol for asked in self.asked if (symbol := _symbol(asked.path, SUMMARY_PATH)) is not None]

    def fault_for(self, symbol: str, everything: str = EVERYTHING) -> Fault | None:
        """The fault of this request, counted."""
        with self._lock:
            for name in (symbol, everything):
                if name not in self._faults:
                    continue
                fault, times, after = self._faults[name]
                if after > 0:
                    self._faults[name][2] -= 1
                    return None
                if times > 0:
                    self._faults[name][1] -= 1
                    return Fault(fault)
        return None

    def chart(self, symbol: str, query: Mapping[str, str], fault: Fault | None) -> tuple[int, str]:
        """Status and body of a chart request that is answered."""
        start, end = self._period(query)
        if symbol in self.recorded_errors:
            return self.recorded_errors[symbol]
        found = self._found(symbol, query["interval"], start, end, fault is Fault.UNCUT)
        if found is None:
            return 404, _error("Not Found", "No data found, symbol may be delisted")
        if isinstance(found, str):
            return 400, found
        return 200, json.dumps(_spoilt(found, fault))

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """One chart more under way, for as long as charts take."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self._closing.wait(self.chart_seconds)
        yield
        with self._lock:
            self._at_once -= 1

    def wait(self, seconds: float) -> None:
        """What a slow answer does, unless the server closes."""
        self._closing.wait(seconds)

    def _period(self, query: Mapping[str, str]) -> tuple[int, int]:
        if "period1" in query:
            return int(query["period1"]), int(query["period2"])
        end = int(self.moment.timestamp())
        return end - 5 * 86400, end

    def _found(self, symbol: str, interval: str, start: int, end: int, uncut: bool) -> dict[str, Any] | str | None:
        if (symbol, interval) in self.recordings:
            return self.recordings[symbol, interval].body(start, end, uncut)
        listing = self.listings.get((symbol, interval))
        if listing is None:
            return None
        if end <= listing.first:
            return _error("Bad Request", f"Data doesn't exist for startDate = {start}, endDate = {end}")
        return listing.body(self.moment, start, end, uncut)


class _Server(ThreadingHTTPServer):
    """One thread a connection; remembers the connections so that they can be cut."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], yahoo: YahooLookalike) -> None:
        self.yahoo = yahoo
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(yahoo.authority)
        self.tls.set_alpn_protocols(["http/1.1"])
        self._open: set[Any] = set()
        super().__init__(address, _Handler)

    def opened(self, connection: Any) -> None:
        """Remember a connection."""
        self._open.add(connection)

    def closed(self, connection: Any) -> None:
        """Close and forget a connection."""
        self._open.discard(connection)
        connection.close()

    def cut_all(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is part of the play."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    host = ""

    def do_CONNECT(self) -> None:
        """Open the tunnel and end the TLS in it: from here on the connection speaks HTTPS as ``host``."""
        self.host = self.path.split(":")[0]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            tunnel = self.server.tls.wrap_socket(self.connection, server_side=True)
        except (ssl.SSLError, ConnectionError):
            self.close_connection = True
            return
        self.server.opened(tunnel)
        self.connection = self.request = tunnel
        self.rfile, self.wfile = tunnel.makefile("rb"), tunnel.makefile("wb")
        self.close_connection = False

    def finish(self) -> None:
        """Close the tunnel too: the server only knows the socket it accepted."""
        super().finish()
        self.server.closed(self.connection)

    def do_GET(self) -> None:
        """Route by host and path."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        symbol = _symbol(parts.path)
        if symbol is not None:
            with self.server.yahoo.under_way():
                return self._chart(symbol, parts.path, query)
        yahoo = self.server.yahoo
        company = _symbol(parts.path, SUMMARY_PATH)
        if company is not None:
            fault = yahoo.fault_for(company + SUMMARY, SUMMARY)
            status, body = _FIXED[fault] if fault else _summary(yahoo.companies.get(company))
            return self._answer(status, body, parts.path, query)
        if parts.path.endswith("/getcrumb"):
            body = "crumb" if yahoo.crumb_status == 200 else "Too Many Requests"
            return self._answer(yahoo.crumb_status, body, parts.path, query, kind="text/plain")
        if self.host == "fc.yahoo.com":
            yahoo.wait(yahoo.cookie_seconds)
            return self._answer(502, "", parts.path, query, cookie=yahoo.cookie_age)
        if self.host in ("guce.yahoo.com", "consent.yahoo.com"):
            return self._answer(200, CONSENT_PAGE, parts.path, query, kind="text/html")
        return self._answer(404, "{}", parts.path, query)

    def do_POST(self) -> None:
        """The consent form."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(200, "", urlsplit(self.path).path, {})

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: ``asked`` is the log."""

    def _chart(self, symbol: str, path: str, query: dict[str, str]) -> None:
        yahoo = self.server.yahoo
        fault = yahoo.fault_for(symbol)
        if fault is Fault.DEAF:
            return self._hang_up(path, query)
        if fault is Fault.SLOW:
            yahoo.asked.append(Asked(self.host, path, query, 0))
            yahoo.wait(yahoo.slow_seconds)
            self.close_connection = True
            return None
        status, body = _FIXED[fault] if fault in _FIXED else yahoo.chart(symbol, query, fault)
        if fault is Fault.TRUNCATED:
            body = body[: len(body) // 2]
        if fault is Fault.CUT:
            self._send_head(status, len(body), "application/json", None)
            self.wfile.write(body[: len(body) // 2].encode())
            return self._hang_up(path, query)
        return self._answer(status, body, path, query)

    def _hang_up(self, path: str, query: dict[str, str]) -> None:
        self.server.yahoo.asked.append(Asked(self.host, path, query, 0))
        self.close_connection = True

    def _answer(
        self,
        status: int,
        body: str,
        path: str,
        query: dict[str, str],
        kind: str = "application/json",
        cookie: int | None = -1,
    ) -> None:
        self.server.yahoo.asked.append(Asked(self.host, path, query, status))
        content = body.encode()
        self._send_head(status, len(content), kind, cookie)
        self.wfile.write(content)

    def _send_head(self, status: int, length: int, kind: str, cookie: int | None) -> None:
        self.send_response(status, "-")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        if cookie != -1:
            age = "" if cookie is None else f"; Max-Age={cookie}"
            self.send_header("Set-Cookie", f"A3=cookie; Domain=.yahoo.com; Path=/{age}")
        self.end_headers()


def _summary(sections: Mapping[str, Any] | None) -> tuple[int, str]:
    if sections is None:
        error = {"code": "Not Found", "description": "Quote not found for symbol"}
        return 404, json.dumps({"quoteSummary": {"result": None, "error": error}})
    return 200, json.dumps({"quoteSummary": {"result": [sections], "error": None}})


def _error(code: str, description: str) -> str:
    return json.dumps({"chart": {"result": None, "error": {"code": code, "description": description}}})


_FIXED: Mapping[Fault | None, tuple[int, str]] = {
    Fault.NOT_FOUND: (404, _error("Not Found", "No data found, symbol may be delisted")),
    Fault.OUT_OF_RANGE: (400, _error("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2")),
    Fault.RATE_LIMIT: (429, "Too Many Requests\r\n"),
    Fault.SERVER_ERROR: (500, "<html><body>Internal Server Error</body></html>"),
    Fault.SERVER_ERROR_JSON: (500, _error("Internal Server Error", "upstream connect error")),
    Fault.GO_AWAY: (999, "Unable to process request at this time -- error 999"),
    Fault.UNAUTHORIZED: (
        401,
        '{"finance":{"result":null,"error":{"code":"Unauthorized","description":"Invalid Crumb"}}}',
    ),
    Fault.MAINTENANCE: (200, "<html><body>Will be right back...</body></html>"),
    Fault.HTML: (200, "<!doctype html><html><body>Yahoo is part of the Yahoo family of brands</body></html>"),
    Fault.NULL_RESULT: (200, '{"chart":{"result":null,"error":null}}'),
    Fault.EMPTY_RESULT: (200, '{"chart":{"result":[],"error":null}}'),
}


def _spoilt(body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    """A good answer with one thing wrong."""
    result = body["chart"]["result"][0]
    if fault is Fault.EMPTY_QUOTE:
        result.pop("timestamp", None)
        result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    if fault is Fault.NO_TIMESTAMPS:
        result.pop("timestamp", None)
    if fault is Fault.BAD_SPLIT:
        stamp = result["timestamp"][-1]
        result["events"] = {"splits": {str(stamp): {"date": stamp, "numerator": 0, "denominator": 1}}}
    if fault is Fault.LIVE_ROW and result.get("timestamp"):
        result["timestamp"].append(result["timestamp"][-1] + 4321)
        for name, values in [*result["indicators"]["quote"][0].items(), *result["indicators"]["adjclose"][0].items()]:
            values.append(values[-1] + (100 if name == "volume" else 0))
    return body


def _later(splits: "list[tuple[date, float]]", session: date) -> float:
    """New shares of today for one share of ``session``."""
    ratio = 1.0
    for day, value in splits:
        if day > session:
            ratio *= value
    return ratio


def _add_event(events: dict[str, dict[str, Any]], kind: str, stamp: int, value: float, later: float) -> None:
    if kind == "dividend":
        events["dividends"][str(stamp)] = {"amount": value / later, "date": stamp}
        return
    new, old = (value, 1) if value >= 1 else (1, 1 / value)
    events["splits"][str(stamp)] = {"date": stamp, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}


def _result(meta: dict[str, Any], rows: list[Row], events: dict[str, Any]) -> dict[str, Any]:
    """A chart body; without rows in the form that Yahoo gives it."""
    result: dict[str, Any] = {"meta": meta}
    if events:
        result["events"] = events
    if not rows:
        result["indicators"] = {"quote": [{}], "adjclose": [{}]}
        return {"chart": {"result": [result], "error": None}}
    quote: dict[str, Any] = {
        name: [_divided(row[name], ratio) for _, ratio, row in rows] for name in ("open", "high", "low", "close")
    }
    quote["volume"] = [None if row["volume"] is None else round(row["volume"] * ratio) for _, ratio, row in rows]
    adjusted = [_divided(row.get("adjclose", row["close"]), ratio) for _, ratio, row in rows]
    result |= {
        "timestamp": [stamp for stamp, _, _ in rows],
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": adjusted}]},
    }
    return {"chart": {"result": [result], "error": None}}


def _divided(price: float | None, ratio: float) -> float | None:
    return None if price is None else price / ratio


def _meta(zone: str, currency: str, kind: str, interval: str) -> dict[str, Any]:
    period = _period(0, 1)
    return {
        "currency": currency,
        "symbol": "",
        "instrumentType": kind,
        "exchangeTimezoneName": zone,
        "firstTradeDate": 345479400,
        "regularMarketTime": 1739998801,
        "priceHint": 2,
        "currentTradingPeriod": {"pre": dict(period), "regular": dict(period), "post": dict(period)},
        "dataGranularity": interval,
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }


def _period(start: int, end: int) -> dict[str, Any]:
    return {"timezone": "EST", "start": start, "end": end, "gmtoffset": -18000}


def _symbol(path: str, of: str = CHART_PATH) -> str | None:
    head, _, symbol = path.partition(of)
    return unquote(symbol) if not head and symbol else None


def _certificate(folder: Path) -> Path:
    """One PEM with key and self-signed certificate for Yahoo's hosts, which is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Yahoo look-alike on loopback")])
    names = [x509.DNSName(host) for host in HOSTS]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([*names, x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "yahoo-lookalike.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


@contextmanager
def redirected(yahoo: YahooLookalike) -> Iterator[None]:
    """Send this process's client to ``yahoo``, starting from a client that knows no cookie, crumb or cached answer.

    The client is one per process, so whoever uses this runs its tests in one thread at a time.
    """
    import yfinance
    from yfinance import cache
    from yfinance.data import SingletonMeta, YfData

    before = {name: os.environ.get(name) for name in yahoo.environment()}
    hidden = yfinance.config.debug.hide_exceptions
    os.environ.update(yahoo.environment())
    location = cache._TzDBManager.get_location()
    yfinance.set_tz_cache_location(yahoo.environment()["XDG_CACHE_HOME"])
    try:
        SingletonMeta._instances.clear()
        YfData.cache_get.cache_clear()
        cache._CookieCacheManager._Cookie_cache = None
        cache._TzCacheManager._tz_cache = None
        yield
    finally:
        yfinance.set_tz_cache_location(location)
        SingletonMeta._instances.clear()
        YfData.cache_get.cache_clear()
        yfinance.config.debug.hide_exceptions = hidden
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def from_frame(yahoo: YahooLookalike, bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> None:
    """List every symbol of a long frame (symbol, timestamp or date, open, high, low, close, volume)."""
    stamped = bars.with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    for (symbol,), part in stamped.partition_by("symbol", as_dict=True).items():
        own = None if actions is None else actions.filter(pl.col("symbol") == symbol)
        yahoo.offer(str(symbol), part, own)


def offer_control(yahoo: YahooLookalike, symbol: str = "SPY") -> None:
    """List the control symbol of the source, flat, over the ten days before ``moment``."""
    midnight = yahoo.moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    stamps = pl.Series("timestamp", [midnight - timedelta(days=back) for back in range(10, 0, -1)])
    prices = dict.fromkeys(("open", "high", "low", "close"), pl.lit(100.0))
    yahoo.offer(symbol, stamps.to_frame().with_columns(**prices, volume=pl.lit(1000.0)))


def main() -> None:
    """Print the variables that send a client here, then serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m alpha_assets_tests.yahoo_lookalike", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--recordings", type=Path, help="folder of recorded bodies (shared/data/yahoo_chart)")
    parser.add_argument("--bars", type=Path, help="Parquet of as-traded daily bars: symbol, timestamp, open .. volume")
    parser.add_argument(
        "--moment", type=datetime.fromisoformat, help="moment of the downloads, with zone; default: now"
    )
    parser.add_argument("--folder", type=Path, help="where the certificate goes; default: a temporary folder")
    options = parser.parse_args()
    with YahooLookalike(options.folder, options.moment) as yahoo:
        for file in sorted(options.recordings.glob("*.json")) if options.recordings else []:
            if file.name != "MANIFEST.json" and ".fake." not in file.name:
                yahoo.play(file)
        if options.bars:
            from_frame(yahoo, pl.read_parquet(options.bars))
        if ("SPY", "1d") not in yahoo.listings:
            offer_control(yahoo)
        for name, value in yahoo.environment().items():
            print(f"export {name}='{value}'")
        print(flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()

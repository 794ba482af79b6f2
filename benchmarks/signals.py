"""Signals said, held and read: ``python -m benchmarks.signals --format json``.

Every figure is of one run on this machine, on real bars where they are.

- ``fresh75_s``, ``fresh505_s``: the signals of so many symbols from promoted models with an empty cache, from a warm
  process: features of the newest bar read, models asked, views blended and weighed by their record, stored. The first
  ``own`` symbols have models of their own, the others the pooled one. ``held505_s``: the same once more, nothing new.
- ``cached75_p50_ms``, ``cached75_p99_ms``: 75 signals read in process from a ledger that holds all; ``_pg`` the same
  from PostgreSQL (null where ``--postgres`` does not answer).
- ``reads``, ``read_errors``, ``read_mixed``: 16 threads reading while one process writes the whole universe anew again
  and again; reads that failed, and that saw signals of two writings.
- ``backtest505_s``, ``backtest505_cpu_s``: from ``benchmarks.backtest``.
"""

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from alpha_assets import signals
from alpha_assets.settings import Settings
from alpha_assets.stations.decisions import row_of
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.pool import train_pools
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.signal import signal
from alpha_assets.stations.train import ALL, pooled_candidate, train
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Registry
from benchmarks import backtest
from benchmarks.frame import Figure, lap, median, run
from benchmarks.market import Home, as_source_rows, daily_options, daily_rows, evening, loaded_home

#: Writes every signal of a ledger anew, all with one reason, until it is stopped: the home, the ledger's URL or «-».
WRITER = """
import sys
from pathlib import Path
from pydantic import SecretStr
from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger
url = None if sys.argv[2] == "-" else SecretStr(sys.argv[2])
ledger = Ledger(Settings(home=Path(sys.argv[1]), ledger_url=url))
rows = ledger.signals()
number = 0
while True:
    number += 1
    ledger.put_signals([{**row, "reason": str(number)} for row in rows])
"""


def measure(options: Namespace) -> Mapping[str, Figure]:
    """Every figure by its documented key."""
    with tempfile.TemporaryDirectory() as folder:
        rows, data = daily_rows(options)
        source = as_source_rows(rows)
        symbols = sorted(source["symbol"].unique())
        last = rows["timestamp"].max()
        home, _ = loaded_home(Path(folder), source, symbols, last)  # type: ignore[arg-type]
        own = symbols[: options.own]
        now = evening(last)  # type: ignore[arg-type]
        _promoted(home, symbols, own, now)
        figures: dict[str, Figure] = {"data": data, "symbols": len(symbols), "own": len(own)}
        figures |= _said(home, symbols, own, now, options.repeats)
        figures |= _read(home.settings, own, options.reads)
        with _postgres(options.postgres) as url:
            told = dict.fromkeys(("cached75_p50_ms", "cached75_p99_ms", "reads", "read_errors", "read_mixed"))
            if url is not None:
                held = Settings(home=Path(folder) / "pg", ledger_url=SecretStr(url))
                _copied(home, held)
                told = _read(held, own, options.reads)
            figures |= {f"{name}_pg": figure for name, figure in told.items()}
    return {**figures, **_of_backtest(options)}


def _promoted(home: Home, symbols: Sequence[str], own: Sequence[str], now: datetime) -> None:
    """A home in which every symbol has a model in production, by a person's word: the gate would turn most down."""
    featurise(home.lake, home.ledger, home.settings, symbols)
    recognise(home.lake, home.ledger, home.settings, symbols)
    registry = Registry(home.settings)
    train_pools(home.lake, home.ledger, registry, home.settings, now, regimes=(ALL,))
    train(home.lake, home.ledger, registry, home.settings, [(symbol, ALL) for symbol in own], now)
    candidates = home.ledger.candidates()
    trained = {symbol: row for symbol in own if (row := candidates.get((symbol, ALL))) and row["model_version"]}
    pooled = pooled_candidate(registry, home.settings, ALL)
    if pooled is None:
        raise SystemExit("there is no pooled model: too few bars")
    home.ledger.decide(
        [
            row_of(
                trained.get(symbol, {**pooled, "trained_at": now}),
                (symbol, ALL),
                verdict="promote",
                stage="production",
                reason="to be measured",
                who="benchmark",
                last=None,
                production=None,
                evidence={},
                now=now,
                dagster_run=None,
            )
            for symbol in symbols
        ]
    )


def _said(home: Home, symbols: Sequence[str], own: Sequence[str], now: datetime, repeats: int) -> dict[str, Figure]:
    registry = Registry(home.settings)
    cache = Cache(home.ledger)

    def taken(some: Sequence[str], minute: int, empty: bool) -> float:
        if empty:
            cache.clean(now + timedelta(days=999), timedelta(0))
        with lap() as one:
            signal(home.lake, home.ledger, registry, home.settings, some, now + timedelta(minutes=minute))
        return one.seconds

    taken(symbols, 0, empty=True)
    few = [taken(own, 1 + number, empty=True) for number in range(repeats)]
    all_of_them = [taken(symbols, 10 + number, empty=True) for number in range(repeats)]
    held = [taken(symbols, 10 + repeats, empty=False) for _ in range(repeats)]
    return {"fresh75_s": median(few, 3), "fresh505_s": median(all_of_them, 3), "held505_s": median(held, 3)}


def _read(settings: Settings, some: Sequence[str], reads: int) -> dict[str, Figure]:
    taken = []
    for _ in range(reads + 1):
        with lap() as one:
            found = signals(some, settings=settings)
        if len(found) != len(some):
            raise RuntimeError(f"{len(found)} of {len(some)} signals were read")
        taken.append(1e3 * one.seconds)
    steady = np.array(taken[1:])
    figures: dict[str, Figure] = {
        "cached75_p50_ms": round(float(np.median(steady)), 2),
        "cached75_p99_ms": round(float(np.quantile(steady, 0.99)), 2),
    }
    return figures | _beside_a_writer(settings, some)


#: Threads that read beside a writer, and for how long.
READERS, SECONDS = 16, 3.0


def _beside_a_writer(settings: Settings, some: Sequence[str]) -> dict[str, Figure]:
    url = settings.ledger_url.get_secret_value() if settings.ledger_url else "-"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(settings.home), url])
    until = time.monotonic() + SECONDS

    def read(_: int) -> tuple[int, int, int]:
        count, errors, mixed = 0, 0, 0
        while time.monotonic() < until:
            count += 1
            try:
                mixed += len({row["reason"] for row in signals(some, settings=settings) if row["reason"].isdigit()}) > 1
            except Exception:  # counted: none is expected
                errors += 1
        return count, errors, mixed

    try:
        with ThreadPoolExecutor(READERS) as pool:
            told = np.array(list(pool.map(read, range(READERS)))).sum(axis=0)
    finally:
        writer.kill()
        writer.wait()
    return {"reads": int(told[0]), "read_errors": int(told[1]), "read_mixed": int(told[2])}


def _copied(home: Home, held: Settings) -> None:
    ledger = Ledger(held)
    members = home.ledger.universe()
    ledger.add_symbols([{name: row[name] for name in ("symbol", "source", "calendar", "added_at")} for row in members])
    ledger.put_signals(home.ledger.signals())
    ledger.close()


@contextmanager
def _postgres(server: str) -> Iterator[str | None]:
    """The URL of a database of its own on the server, dropped afterwards; None where the server does not answer."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import OperationalError

    name = f"alpha_benchmark_{datetime.now(UTC):%H%M%S%f}"
    url = make_url(server)
    engine = create_engine(url.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError:
        yield None
        return
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()


def _of_backtest(options: Namespace) -> dict[str, Figure]:
    told = backtest.measure(options)
    return {name: told[name] for name in ("backtest505_s", "backtest505_cpu_s")}


def _options(parser: ArgumentParser) -> None:
    daily_options(parser)
    parser.add_argument("--own", type=int, default=75, help="symbols with a model of their own (75)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the median counts (3)")
    parser.add_argument("--reads", type=int, default=300, help="reads of the cached signals (300)")
    parser.add_argument(
        "--postgres",
        default="postgresql://root@127.0.0.1:5432/postgres",
        help="a server that lets us make a database (that of this machine)",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run("Signals said, held and read", measure, _options, arguments)


if __name__ == "__main__":
    main()

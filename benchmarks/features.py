"""How fast features are made: values per second beside three rivals, one long minute history, the daily update.

    python -m benchmarks.features --format json

One flat object; ``_s`` are seconds on the wall, ``_cpu_s`` of the processor in all threads. Bars are loaded first,
which is not timed. What is compared takes turns in the same run.

- ``build_s``, ``values_per_s``: the features station from the lake and back into it, all symbols, first build; values
  are feature and regime columns times rows. The first symbol is the benchmark that beta is taken with.
- ``vs_talib``: ``values_per_s`` as a multiple of ``talib_values_per_s``, a plain TA-Lib loop over the same columns, but
  for regime and calendar, on arrays in memory, one core, nothing stored (``talib_loop``). ``vs_talib_cpu``: the same by
  processor time, which says more where the machine is busy.
- ``vs_pandas``: as a multiple of ``pandas_values_per_s``, the same columns by ``groupby.apply`` (``pandas_twin``), bars
  in memory, nothing stored, on ``pandas_symbols`` symbols.
- ``vs_qlib``: ``alpha158_values_per_s`` as a multiple of ``qlib_values_per_s``: reading and computing the 158 columns,
  nothing written; qlib's own engine with two processes, in an environment that is made for it and thrown away. Without
  it the figure is null and ``qlib`` says why.
- ``minute_build_s``, ``minute_peak_gib``: one symbol of ``minute_rows`` minute bars, bars to all features stored, in a
  process of its own, and the most memory that it held. ``minute_update_s``: one more session.
- ``update_s``: the station for one new session of all symbols, its bars being in the lake; the median of ``updates``
  sessions, ``update_worst_s`` the slowest (the one that compacts small files). ``update_ten_s`` the same with ten times
  the history, ``update_growth`` their ratio.
- ``build_s_50``, ``update_s_50``, ...: build and update by number of symbols; ``build_exponent`` and
  ``update_exponent`` are the slopes of their logarithms from the least to the most.

Without the shared market samples a simulated market takes the place of the S&P set, and ``data`` says so.
"""

import json
import math
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from alpha_assets.quant.alpha158 import ALPHA158
from alpha_assets.quant.feature_set import compute
from alpha_assets.quant.parameters import FeatureParameters
from alpha_assets.quant.schema import OHLCV
from alpha_assets.quant.timeframes import with_timeframes
from alpha_assets.settings import Settings
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.series import adjusted_bars, calendars_of, prices_only
from alpha_assets.stations.sets import REGIME_COLUMNS, recipe_of
from alpha_assets.stations.threads import side_by_side
from benchmarks import pandas_twin, talib_loop
from benchmarks.frame import Figure, Lap, lap, median, run
from benchmarks.market import (
    CALENDAR,
    MINUTES_FROM,
    Home,
    bars_of_sessions,
    daily_options,
    daily_rows,
    deepened_home,
    evening,
    loaded_home,
    minute_bars,
    peak_gib,
    planned_days,
    sessions_from,
)

QLIB = "pyqlib==0.9.7"

#: Two, as the machine has cores and ours has threads.
PROCESSES = 2

#: Symbols whose features are built in one call where the build is not timed: ten times the history needs the memory.
AT_ONCE = 100


def measure(options: Namespace) -> dict[str, Figure]:
    """Every figure of this benchmark."""
    with tempfile.TemporaryDirectory(prefix="alpha-features-") as folder:
        return _daily(Path(folder), options) | _minutes(Path(folder) / "minutes", options)


def _daily(folder: Path, options: Namespace) -> dict[str, Figure]:
    rows, what = daily_rows(options)
    symbols = sorted(rows["symbol"].unique())
    last: date = rows["timestamp"].max()  # type: ignore[assignment]
    loaded, _ = loaded_home(folder, rows, symbols, last)
    homes = {count: _home_of(folder / str(count), loaded, symbols, count) for count in options.scales}
    home = homes[len(symbols)] = _with_benchmark(loaded, symbols[0])
    bars = home.lake.read("bars")
    rivals = _beside_rivals(home, bars, symbols, options) | _beside_qlib(folder, home, bars, symbols, options)

    builds = {count: _built(one, _symbols_of(one)) for count, one in homes.items() if one is not home}
    deep = _with_benchmark(deepened_home(folder, loaded, symbols, last), symbols[0])
    for first in range(0, len(symbols), AT_ONCE):
        featurise(deep.lake, deep.ledger, deep.settings, symbols[first : first + AT_ONCE])
    days = sessions_from(last, options.updates + 1)
    *onward, deeper = _updates([*homes.values(), deep], days)
    updates = dict(zip(homes, onward, strict=True))
    mine = updates[len(symbols)]

    update_s, update_ten_s = median([one.seconds for one in mine]), median([one.seconds for one in deeper])
    build_of = {count: taken.seconds for count, taken in builds.items()} | {len(symbols): float(rivals["build_s"] or 0)}
    update_of = {count: median([one.seconds for one in laps]) for count, laps in updates.items()}
    scales = sorted(homes)
    return {
        "data": what,
        "symbols": len(symbols),
        "rows": bars.height,
        **rivals,
        "updates": len(mine),
        "update_s": update_s,
        "update_cpu_s": median([one.cpu for one in mine]),
        "update_worst_s": round(max(one.seconds for one in mine), 4),
        "update_ten_s": update_ten_s,
        "update_growth": round(update_ten_s / update_s, 3),
        **{f"build_s_{count}": round(build_of[count], 3) for count in scales},
        **{f"update_s_{count}": update_of[count] for count in scales},
        "build_exponent": _exponent(build_of),
        "update_exponent": _exponent(update_of),
    }


def _exponent(cost: Mapping[int, float]) -> float:
    least, most = min(cost), max(cost)
    return round(math.log(cost[most] / cost[least]) / math.log(most / least), 3)


# -- homes --------------------------------------------------------------------------------------------------------


def _with_benchmark(home: Home, symbol: str) -> Home:
    return Home(home.settings.model_copy(update={"features": FeatureParameters(benchmark=symbol)}))


def _home_of(folder: Path, loaded: Home, symbols: Sequence[str], count: int) -> Home:
    """A home of so many symbols: the first ones, or all of them under several names."""
    home = _with_benchmark(Home(loaded.settings.model_copy(update={"home": folder})), symbols[0])
    bars = loaded.lake.read("bars")
    times = math.ceil(count / len(symbols))
    names = [name if time == 0 else f"{name}-{time}" for time in range(times) for name in symbols][:count]
    copies = [bars if time == 0 else bars.with_columns(pl.col("symbol") + f"-{time}") for time in range(times)]
    last: date = bars["timestamp"].dt.date().max()  # type: ignore[assignment]
    home.follow(names, evening(last))
    home.hold(pl.concat(copies).filter(pl.col("symbol").is_in(names)))
    return home


def _symbols_of(home: Home) -> list[str]:
    return sorted(row["symbol"] for row in home.ledger.universe())


def _built(home: Home, symbols: Sequence[str]) -> Lap:
    """What the first build takes; a table that is there already is taken away before."""
    shutil.rmtree(Path(home.settings.lake) / recipe_of(home.settings).table, ignore_errors=True)
    with lap() as taken:
        report = featurise(home.lake, home.ledger, home.settings, symbols)
    assert report.totals["built"] == len(symbols), report.totals
    return taken


def _updates(homes: Sequence[Home], days: Sequence[date]) -> list[list[Lap]]:
    """What each session's features took in each home; its bars come before, and the first session is not counted."""
    symbols = [_symbols_of(home) for home in homes]
    futures = [bars_of_sessions(home.lake.read("bars", since=evening(days[0]) - timedelta(90)), days) for home in homes]
    taken: list[list[Lap]] = [[] for _ in homes]
    for day in days:
        for home, members, future, laps in zip(homes, symbols, futures, taken, strict=True):
            _arrive(home, future.filter(pl.col("timestamp").dt.date() == day))
            with lap() as one:
                report = featurise(home.lake, home.ledger, home.settings, members)
            assert report.totals["rows"] == report.totals["updated"] > 0, report.totals
            laps.append(one)
    return [laps[1:] for laps in taken]


def _arrive(home: Home, bars: pl.DataFrame) -> None:
    home.lake.append("bars", bars)
    newest = bars.group_by("symbol").agg(last_bar=pl.col("timestamp").max())
    home.ledger.note_state(newest.to_dicts())


# -- rivals -------------------------------------------------------------------------------------------------------


def _beside_rivals(home: Home, bars: pl.DataFrame, symbols: Sequence[str], options: Namespace) -> dict[str, Figure]:
    """Ours, the TA-Lib loop and pandas in turns."""
    columns = recipe_of(home.settings).columns
    series = _for_talib(bars, symbols[0])
    few = bars.filter(pl.col("symbol").is_in(symbols[: options.pandas_symbols]))
    naive, sessions = _for_pandas(few, bars, symbols[0]), planned_days(bars)
    ours, talib, talib_cpu, pandas = [], [], [], []
    for _ in range(options.repeats):
        ours.append(_built(home, symbols))
        with lap() as taken:
            calls = talib_loop.computed(series)
        talib.append(calls / taken.seconds)
        talib_cpu.append(calls / taken.cpu)
        with lap() as taken:
            found = pandas_twin.features(naive, sessions)
        assert set(found.columns) == set(columns), set(found.columns) ^ set(columns)
        pandas.append(found.size / taken.seconds)
    build, build_cpu = median([one.seconds for one in ours]), median([one.cpu for one in ours])
    count = bars.height * (len(columns) + len(REGIME_COLUMNS))
    values = count / build
    return {
        "columns": len(columns) + len(REGIME_COLUMNS),
        "build_s": build,
        "build_cpu_s": build_cpu,
        "values_per_s": round(values),
        "talib_values_per_s": round(median(talib)),
        "vs_talib": round(values / median(talib), 3),
        "vs_talib_cpu": round(count / build_cpu / median(talib_cpu), 3),
        "pandas_symbols": few["symbol"].n_unique(),
        "pandas_values_per_s": round(median(pandas)),
        "vs_pandas": round(values / median(pandas), 3),
    }


def _with_market(some: pl.DataFrame, bars: pl.DataFrame, benchmark: str) -> pl.DataFrame:
    """These bars with ``market``, the log return of the benchmark."""
    market = bars.filter(pl.col("symbol") == benchmark).sort("timestamp")
    returns = market.select("timestamp", market=pl.col("close").log().diff())
    return some.join(returns, on="timestamp", how="left", maintain_order="left")


def _for_talib(bars: pl.DataFrame, benchmark: str) -> list[talib_loop.Series]:
    names = dict.fromkeys(bars["symbol"].unique(), CALENDAR)
    return talib_loop.series_of(with_timeframes(_with_market(bars, bars, benchmark), "1d", names), "market")


def _for_pandas(few: pl.DataFrame, bars: pl.DataFrame, benchmark: str) -> pd.DataFrame:
    joined = _with_market(few.select("symbol", "timestamp", *OHLCV), bars, benchmark)
    return joined.with_columns(pl.col("timestamp").dt.replace_time_zone(None)).to_pandas()


def _beside_qlib(
    folder: Path, home: Home, bars: pl.DataFrame, symbols: Sequence[str], options: Namespace
) -> dict[str, Figure]:
    """Alpha158 of ours and of qlib in turns."""
    python, why = (None, "not asked for (--no-qlib)") if options.no_qlib else installed(folder / "qlib")
    file = folder / "alpha158.parquet"
    bars.select("symbol", pl.col("timestamp").dt.replace_time_zone(None), *OHLCV).write_parquet(file)
    ours, theirs = [], []
    for _ in range(options.qlib_repeats):
        if python is not None:
            engine = Path(__file__).with_name("qlib_engine.py")
            found = _output(str(python), str(engine), str(file), "--processes", str(PROCESSES))
            said = json.loads(found.splitlines()[-1])
            theirs.append(said["values"] / said["seconds"])
            why = f"{said['qlib']}, {PROCESSES} processes"
        ours.append(_alpha158(home, symbols))
    mine = bars.height * len(ALPHA158.features) / median(ours)
    return {
        "alpha158_s": median(ours),
        "alpha158_values_per_s": round(mine),
        "qlib": why,
        "qlib_values_per_s": round(median(theirs)) if theirs else None,
        "vs_qlib": round(mine / median(theirs), 3) if theirs else None,
    }


def _alpha158(home: Home, symbols: Sequence[str]) -> float:
    """Seconds to read the bars and compute the 158 columns as they would be stored."""
    with lap() as taken:
        bars, _ = adjusted_bars(home.lake, home.settings, calendars_of(home.ledger), symbols)
        compute(prices_only(bars), ALPHA158, dtype=np.float32, spread=side_by_side(home.settings.workers or PROCESSES))
    return taken.seconds


def installed(folder: Path) -> tuple[Path | None, str]:
    """The interpreter of a new environment with qlib; without, why it cannot be."""
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    try:
        _output(sys.executable, "-m", "uv", "venv", "--python", "3.11", str(folder))
        _output(sys.executable, "-m", "uv", "pip", "install", "--python", str(python), QLIB)
        _output(str(python), "-c", "import qlib")
    except (subprocess.SubprocessError, OSError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()
        return None, f"{QLIB} cannot be installed: {said[-1] if said else error!r}"
    return python, QLIB


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800).stdout


# -- minutes ------------------------------------------------------------------------------------------------------


def _minutes(folder: Path, options: Namespace) -> dict[str, Figure]:
    """One symbol of minutes, built by a process that does nothing else, and then session by session."""
    symbol = "MINUTE"
    home = Home(Settings(home=folder, source="files", interval="1m", history_start=MINUTES_FROM))
    bars, sessions = minute_bars(symbol, options.minute_rows, options.minute_updates + 1)
    home.follow([symbol], evening(MINUTES_FROM))
    home.hold(bars)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
        build, peak = alone.submit(_minute_build, home, symbol).result()
    taken = []
    for session in sessions:
        _arrive(home, session)
        with lap() as one:
            report = featurise(home.lake, home.ledger, home.settings, [symbol])
        assert report.totals["rows"] == session.height, report.totals
        taken.append(one.seconds)
    return {
        "minute_rows": bars.height,
        "minute_build_s": round(build, 3),
        "minute_peak_gib": peak,
        "minute_updates": len(taken[1:]),
        "minute_update_s": median(taken[1:]),
        "minute_update_worst_s": round(max(taken[1:]), 4),
    }


def _minute_build(home: Home, symbol: str) -> tuple[float, float | None]:
    taken = _built(home, [symbol])
    return taken.seconds, peak_gib()


def _options(parser: ArgumentParser) -> None:
    daily_options(parser)
    parser.add_argument("--repeats", type=int, default=3, help="turns of ours and the rivals (3)")
    parser.add_argument("--pandas-symbols", type=int, default=20, help="symbols that pandas computes (20)")
    parser.add_argument("--no-qlib", action="store_true", help="do not install qlib")
    parser.add_argument("--qlib-repeats", type=int, default=2, help="turns of Alpha158 (2)")
    parser.add_argument("--scales", type=int, nargs="+", default=[50, 2000], help="other numbers of symbols (50 2000)")
    parser.add_argument("--updates", type=int, default=20, help="new sessions timed (20)")
    parser.add_argument("--minute-rows", type=int, default=1_850_000, help="bars of the minute history (1,850,000)")
    parser.add_argument("--minute-updates", type=int, default=5, help="sessions of minutes timed (5)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run(str(__doc__).splitlines()[0], measure, _options, arguments)


if __name__ == "__main__":
    main()

"""Times qlib's own Alpha158 on given bars; run by an interpreter that has qlib, in a throw-away environment.

    python benchmarks/qlib_engine.py BARS.parquet [--processes 2] [--keep FEATURES.parquet]

BARS holds symbol, timestamp, open, high, low, close, volume, one row a bar. They are laid out in qlib's binary format
in a temporary folder, which is not timed; reading them and computing the 158 columns of every symbol is. Prints one
JSON object: seconds, values (bars times columns) and qlib's version. This file imports nothing of alpha_assets.
"""

import json
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pandas as pd
import qlib  # type: ignore[import-not-found]
from qlib.contrib.data.loader import Alpha158DL  # type: ignore[import-not-found]
from qlib.data import D  # type: ignore[import-not-found]

PRICES = ("open", "high", "low", "close", "volume", "vwap")


def lay_out(bars: pd.DataFrame, folder: Path) -> None:
    """Calendar, instruments and one file of 32-bit floats a symbol and field: first session's number, then values.

    A session that a symbol lacks between its first and last is NaN.
    """
    bars = bars.dropna().assign(vwap=lambda frame: (frame.high + frame.low + frame.close) / 3)
    sessions = pd.DatetimeIndex(np.sort(bars.timestamp.unique()))
    for name in ("calendars", "instruments"):
        (folder / name).mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(f"{day:%Y-%m-%d}" for day in sessions))
    spans = []
    for symbol, series in bars.groupby("symbol"):
        places = sessions.searchsorted(pd.DatetimeIndex(series.timestamp))
        first, last = places.min(), places.max()
        of_symbol = folder / "features" / str(symbol).lower()
        of_symbol.mkdir(parents=True)
        for field in PRICES:
            values = np.full(last - first + 2, np.nan, "<f4")
            values[0] = first
            values[places - first + 1] = series[field]
            values.tofile(of_symbol / f"{field}.day.bin")
        spans.append(f"{symbol}\t{sessions[first]:%Y-%m-%d}\t{sessions[last]:%Y-%m-%d}")
    (folder / "instruments" / "all.txt").write_text("\n".join(spans))


def measure(folder: Path, processes: int) -> tuple[float, pd.DataFrame]:
    """Seconds to read and compute, and the 158 columns by instrument and datetime."""
    qlib.init(provider_uri=str(folder), kernels=processes, expression_cache=None, dataset_cache=None)
    fields, names = Alpha158DL.get_feature_config()
    started = time.perf_counter()
    found = D.features(D.instruments("all"), fields)
    seconds = time.perf_counter() - started
    found.columns = names
    return seconds, found


def main() -> None:
    """The command."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("bars", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="write the 158 columns there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lay_out(pd.read_parquet(chosen.bars), Path(folder))
        seconds, found = measure(Path(folder), chosen.processes)
    if chosen.keep:
        found.reset_index().rename(columns={"instrument": "symbol", "datetime": "timestamp"}).to_parquet(chosen.keep)
    print(json.dumps({"seconds": round(seconds, 3), "values": found.size, "qlib": qlib.__version__}))


if __name__ == "__main__":
    main()

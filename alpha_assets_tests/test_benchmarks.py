"""The benchmarks run and print what their documentation promises; no time is ever asserted."""

import json
from pathlib import Path

import pytest

from benchmarks import frame, ingest

INGEST = {
    *("data", "symbols", "rows", "load_s", "rows_per_s", "updates", "update_s", "update_cpu_s", "update_worst_s"),
    *("update_ten_s", "update_growth", "rewrite_s", "rewrite_ten_s", "rewrite_growth"),
    *("update_vs_rewrite", "update_vs_rewrite_ten"),
}


def test_the_ingest_benchmark_prints_its_documented_figures_and_says_where_the_samples_are_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ingest, "SP500", tmp_path / "sp500.parquet")
    ingest.main(["--symbols", "2", "--years", "0.5", "--updates", "2", "--format", "json"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == INGEST
    assert figures["data"] == f"simulated market ({tmp_path / 'sp500.parquet'} is absent)"
    assert (figures["symbols"], figures["updates"]) == (2, 2)
    assert all(figure > 0 for name, figure in figures.items() if name.endswith(("_s", "_growth")))


def test_a_table_has_a_line_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    frame.show({"rows": 619_040, "data": "a file"}, "table")
    assert capsys.readouterr().out == "rows  619,040\ndata  a file\n"


def test_a_lap_knows_wall_and_processor_time() -> None:
    with frame.lap() as taken:
        sum(range(100_000))
    assert taken.seconds > 0
    assert taken.cpu > 0


def test_the_median_is_of_several_runs() -> None:
    assert frame.median([9.0, 1.0, 2.0]) == 2.0

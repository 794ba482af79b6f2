"""What the feature set of these settings holds."""

from pathlib import Path

import pytest

from alpha_assets.commands.features import FIELDS
from alpha_assets.quant.indicators import default_set
from alpha_assets_tests.commands.call import call, home

pytestmark = pytest.mark.xdist_group("commands")


def test_a_row_a_column_in_the_order_of_the_set_with_every_field(tmp_path: Path) -> None:
    with home(tmp_path / "home"):
        as_json, as_csv = call("features", "--format", "json").json, call("features", "--format", "csv").csv
    chosen = default_set()
    assert [row["feature"] for row in as_json] == [row["feature"] for row in as_csv] == list(chosen.columns)
    assert {tuple(row) for row in as_json} == {tuple(row) for row in as_csv} == {FIELDS}
    (rsi,) = (row for row in as_json if row["feature"] == "rsi_14")
    assert rsi == {
        "feature": "rsi_14",
        "group": "momentum",
        "formula": "Relative strength index / 100",
        "source": "Wilder (1978), New Concepts in Technical Trading Systems",
        "window": 14,
        "warm_up": 14,
        "memory": 518,
        "version": 1,
    }


def test_the_table_for_people_holds_each_feature_with_its_formula(tmp_path: Path) -> None:
    with home(tmp_path / "home"):
        answer = call("features")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    for feature in default_set().features:
        assert any(feature.name in line and feature.group in line for line in lines), feature.name
    assert "Relative strength index" in answer.out


def test_the_set_is_that_of_the_settings(tmp_path: Path) -> None:
    with home(tmp_path / "home", FEATURES__SET="alpha158"):
        rows = call("features", "--format", "json").json
    assert len(rows) == 158
    assert "KMID" in {row["feature"] for row in rows}


def test_listing_features_makes_no_home(tmp_path: Path) -> None:
    with home(tmp_path / "home"):
        assert call("features").code == 0
    assert not (tmp_path / "home" / "ledger.db").exists()


def test_the_table_says_which_set_denoiser_and_benchmark_the_settings_choose(tmp_path: Path) -> None:
    with home(tmp_path / "home", FEATURES__DENOISER="kalman"):
        assert call("features").out.endswith("set core, denoiser kalman, benchmark none\n")


def test_a_denoiser_that_the_chosen_set_would_not_read_is_refused(tmp_path: Path) -> None:
    with home(tmp_path / "home", FEATURES__DENOISER="kalman", FEATURES__SET="alpha158"):
        said = call("features")
    assert said.code == 1
    assert "denoiser is 'kalman': the definitions of alpha158 read raw prices" in said.err

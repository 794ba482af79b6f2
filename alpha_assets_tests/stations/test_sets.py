"""A recipe decides the numbers of a feature table, and the table's name says which recipe that is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alpha_assets.quant.parameters import FeatureParameters, RegimeParameters
from alpha_assets.settings import Settings
from alpha_assets.stations.sets import Recipe, recipe_of, restored, table_of
from alpha_assets.stores.ledger import Ledger

PLAIN = Recipe("1d", FeatureParameters(), RegimeParameters())

OTHERS = {
    "interval": replace(PLAIN, interval="1h"),
    "denoiser": replace(PLAIN, features=FeatureParameters(denoiser="kalman")),
    "benchmark": replace(PLAIN, features=FeatureParameters(benchmark="SPY")),
    "another benchmark": replace(PLAIN, features=FeatureParameters(benchmark="QQQ")),
    "set": replace(PLAIN, features=FeatureParameters(set="alpha158")),
    "interval of qlib's set": replace(PLAIN, interval="1h", features=FeatureParameters(set="alpha158")),
    "threshold of the regimes": replace(PLAIN, regimes=RegimeParameters(volatile_from=0.8)),
    "method of the regimes": replace(PLAIN, regimes=RegimeParameters(method="hmm")),
}

#: The names of these tables since they were first published.
TABLES = {
    "plain": "features/core-3c8316428935",
    "interval": "features/core-129790a1204c",
    "denoiser": "features/core-f10cd4f7e3b3",
    "benchmark": "features/core-c6a0f6a13c54",
    "another benchmark": "features/core-8df1be976b82",
    "set": "features/alpha158-2f897f722049",
    "interval of qlib's set": "features/alpha158-720c3c4d0d67",
    "threshold of the regimes": "features/core-d6f0f279d116",
    "method of the regimes": "features/core-da162968966b",
}


def test_every_setting_that_changes_numbers_is_another_table() -> None:
    tables = {recipe.table for recipe in (PLAIN, *OTHERS.values())}
    assert len(tables) == len(OTHERS) + 1
    assert all(len(table) <= 80 for table in tables), "the ledger's column"
    assert PLAIN.table.startswith("features/core-")
    assert OTHERS["set"].table.startswith("features/alpha158-")


def test_what_is_stored_already_is_found_again_under_its_name() -> None:
    """Words about a feature are no number: a table that homes hold is renamed by nothing but a raised version."""
    assert {name: recipe.table for name, recipe in {"plain": PLAIN, **OTHERS}.items()} == TABLES


def test_settings_that_change_no_number_are_the_same_table(tmp_path: Path) -> None:
    plain = Settings(home=tmp_path)
    assert table_of(plain) == PLAIN.table
    assert table_of(Settings(home=tmp_path / "other", workers=7, signal_ttl_hours=1)) == PLAIN.table


@pytest.mark.parametrize("name", OTHERS)
def test_a_recipe_comes_back_from_the_ledger_as_it_was(tmp_path: Path, name: str) -> None:
    recipe = OTHERS[name]
    ledger = Ledger(Settings(home=tmp_path))
    ledger.note_recipes([{"features_set": recipe.table, "recipe": recipe.document}])
    assert restored(ledger.recipes()[recipe.table], recipe.table) == recipe


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


@pytest.mark.parametrize(
    "document",
    [
        {},
        without(PLAIN.document, "regimes"),
        PLAIN.document | {"features": {"set": "core", "smell": "roses"}},
        PLAIN.document | {"features": {"set": "forgotten"}},
        PLAIN.document | {"regimes": PLAIN.document["regimes"] | {"confirm": 0}},
        OTHERS["denoiser"].document,
    ],
)
def test_a_recipe_that_this_program_makes_otherwise_or_not_at_all_is_none(document: dict[str, Any]) -> None:
    assert restored(document, PLAIN.table) is None


def test_a_recipe_has_a_benchmark_where_one_of_its_features_reads_it() -> None:
    qlib = replace(PLAIN, features=FeatureParameters(set="alpha158", benchmark="SPY"))
    assert [recipe.benchmark for recipe in (PLAIN, OTHERS["benchmark"], qlib)] == [None, "SPY", None]
    assert qlib.table == OTHERS["set"].table


def test_the_recipe_of_the_settings_is_theirs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, features=FeatureParameters(denoiser="ema"), interval="1h")
    assert recipe_of(settings) == Recipe("1h", FeatureParameters(denoiser="ema"), RegimeParameters())
    assert "noise_score_20" in recipe_of(settings).columns

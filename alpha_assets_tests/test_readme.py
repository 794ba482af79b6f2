"""The README's tables are the program's: what it lists exists, and what exists is listed."""

import re
from pathlib import Path

import pytest

from alpha_assets.commands.explain import VIEW_FIELDS
from alpha_assets.commands.models import CLEAN_FIELDS, MODEL_FIELDS, PROMOTION_FIELDS
from alpha_assets.commands.read import FINDING_FIELDS, STATUS_FIELDS
from alpha_assets.quant.bars import RULES
from alpha_assets.quant.indicators import GROUPS, default_set
from alpha_assets.reading import SIGNAL_FIELDS
from alpha_assets.settings import Settings
from alpha_assets.stations.dossier import LINE_FIELDS
from alpha_assets.stores.lake import TABLES
from alpha_assets.stores.tables import metadata

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_listed(name: str) -> None:
    assert f"`ALPHA_{name.upper()}" in README


def test_no_setting_is_listed_that_does_not_exist() -> None:
    listed = {name.split("__")[0] for name in re.findall(r"ALPHA_([A-Z_]+)", README)}
    assert listed <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("rule", RULES)
def test_every_cleaning_rule_is_listed_with_what_it_does(rule: str) -> None:
    assert f"| `{rule}` | {RULES[rule].action} |" in README


def group_row(group: str) -> str:
    """What the README's table of features says of a group."""
    section = README.split("## Features, regimes, patterns")[1].split("\n## ")[0]
    return next(line for line in section.splitlines() if line.startswith(f"| {group} |"))


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_of_features_is_listed_with_its_columns_in_order(group: str) -> None:
    _, _, what, columns, _ = (cell.strip() for cell in group_row(group).split("|"))
    assert what == GROUPS[group]
    expected = [feature.name for feature in default_set().features if feature.group == group]
    assert columns == ", ".join(f"`{name}`" for name in expected)


def test_the_number_of_columns_is_said() -> None:
    assert f"The default set `core` has {len(default_set().columns)} columns." in README


@pytest.mark.parametrize("table", [*TABLES, *metadata.tables])
def test_every_table_is_listed_where_it_is_stored(table: str) -> None:
    assert f"`{table}`" in README


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_the_lake_is_listed_with_its_key(table: str) -> None:
    assert re.search(rf"`{table}` \| .*key `{', '.join(TABLES[table].key)}`", README)


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("findings", FINDING_FIELDS),
        ("status", STATUS_FIELDS),
        ("signals", SIGNAL_FIELDS),
        ("signals explain", VIEW_FIELDS),
        ("models", MODEL_FIELDS),
        ("models explain", LINE_FIELDS),
        ("models clean", CLEAN_FIELDS),
        ("promotions", PROMOTION_FIELDS),
    ],
)
def test_every_reading_command_is_listed_with_its_fields(verb: str, fields: tuple[str, ...]) -> None:
    assert re.search(rf"^\| `{verb} .*ows: `{', '.join(fields)}` \|$", README, re.MULTILINE)


@pytest.mark.parametrize("target", re.findall(r"^\$ make (\w[\w-]*)", README, re.MULTILINE))
def test_every_make_target_that_is_shown_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("picture", re.findall(r"!\[[^]]*\]\(([^)]+)\)", README))
def test_every_picture_is_there(picture: str) -> None:
    assert (ROOT / picture).exists()

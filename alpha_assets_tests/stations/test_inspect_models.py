"""What the checks of the models find: a model that is silent, reads other columns, is old, or has a false alias."""

from datetime import timedelta
from pathlib import Path

import pytest

from alpha_assets.quant.parameters import PromotionParameters
from alpha_assets.stations.inspect import Verdict
from alpha_assets.stations.inspect_models import (
    EXPIRED,
    MODEL_CHECKS,
    OTHER_FEATURES,
    SILENT,
    aliases_verdict,
    inspect_models,
    models_verdict,
)
from alpha_assets.stations.promote import reconcile
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

CHOSEN = "SIM02"


@pytest.fixture
def line(promoted: Path, tmp_path: Path) -> Line:
    return copied(promoted, tmp_path / "home")


def looked(line: Line, symbols: tuple[str, ...] = SYMBOLS, days: float = 0) -> dict[str, Verdict]:
    """The verdicts after a look at these symbols."""
    inspect_models(line.lake, line.ledger, line.registry, line.settings, symbols, later(days=days))
    return {check: models_verdict(line.ledger, check) for check in MODEL_CHECKS}


def failed(line: Line, symbols: tuple[str, ...] = SYMBOLS, days: float = 0) -> dict[str, list[str]]:
    return {check: verdict.sample for check, verdict in looked(line, symbols, days).items() if not verdict.passed}


def files_of(line: Line, symbol: str) -> list[Path]:
    place = Path(line.ledger.production()[symbol, "all"]["model_location"])
    return [file for file in (place / "data" / "heads").rglob("*") if file.is_file()]


def test_healthy_models_pass_and_every_alias_has_its_decision(line: Line) -> None:
    assert failed(line) == {}
    verdict = aliases_verdict(line.ledger, line.registry)
    assert (verdict.passed, verdict.count) == (True, 0)


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_model_that_cannot_be_read_is_named_until_it_can_be_even_by_looks_at_others(line: Line, how: str) -> None:
    kept = {file: file.read_bytes() for file in files_of(line, CHOSEN)}
    for file, content in kept.items():
        file.write_bytes(content + b"x") if how == "damaged" else file.unlink()
    assert failed(line) == {"production_predicts": [f"{CHOSEN} all"]}
    others = tuple(symbol for symbol in SYMBOLS if symbol != CHOSEN)
    assert failed(line, others) == {"production_predicts": [f"{CHOSEN} all"]}
    for file, content in kept.items():
        file.write_bytes(content)
    assert failed(line) == {}


def test_a_model_of_a_table_that_is_no_longer_made_is_named(line: Line) -> None:
    row = line.ledger.production()[CHOSEN, "all"]
    more = {"features_set": "features/core-of-old", "seq": row["seq"] + 1}
    line.ledger.decide([{name: value for name, value in {**row, **more}.items() if name != "id"}])
    found = failed(line)
    assert found["production_predicts"] == [f"{CHOSEN} all"]
    assert found["feature_set_matches"] == [f"{CHOSEN} all"]


def test_a_model_that_asks_for_a_column_its_table_lacks_is_named(line: Line) -> None:
    place = Path(line.ledger.production()[CHOSEN, "all"]["model_location"])
    page = place / "MLmodel"
    page.write_text(page.read_text().replace("rsi_14", "rsi_41"))
    assert failed(line) == {"feature_set_matches": [f"{CHOSEN} all"]}


def test_a_model_is_too_old_from_its_expiry_on_counted_from_its_training(line: Line) -> None:
    limit = PromotionParameters().expiry_days
    assert failed(line, days=limit) == {}
    served = sorted(f"{symbol} all" for symbol, _ in line.ledger.production())
    assert failed(line, days=limit + 1) == {"none_expired": served}


def test_rules_are_one_a_regime_so_that_two_models_of_a_symbol_are_told_apart(line: Line) -> None:
    row = {name: value for name, value in line.ledger.production()[CHOSEN, "all"].items() if name != "id"}
    line.ledger.decide([{**row, "regime": "volatile", "seq": 1, "trained_at": NOW - timedelta(days=999)}])
    looked(line)
    rules = {row["rule"] for row in line.ledger.findings() if row["symbol"] == CHOSEN}
    assert rules & {
        f"{kind}.{regime}" for kind in (SILENT, OTHER_FEATURES, EXPIRED) for regime in ("all", "volatile")
    } == {f"{EXPIRED}.volatile"}


def test_an_alias_that_somebody_set_by_hand_is_named_and_the_next_reconcile_sets_it_right(line: Line) -> None:
    (rejected, *_) = sorted(set(SYMBOLS) - {symbol for symbol, _ in line.ledger.production()})
    line.registry.client.set_registered_model_alias(f"{rejected}.all", "production", "1")
    line.registry.client.create_registered_model("somebody-elses")
    assert aliases_verdict(line.ledger, line.registry).sample == [f"{rejected}.all@production is version 1"]
    assert reconcile(line.ledger, line.registry) == 1
    assert aliases_verdict(line.ledger, line.registry).passed


def test_staging_is_explained_by_no_decision_and_is_named_where_there_is_one(line: Line) -> None:
    client = line.registry.client
    model = client.create_registered_model("NEW.all").name
    client.create_model_version(model, client.get_model_version(f"{CHOSEN}.all", "1").source)
    client.set_registered_model_alias(model, "staging", "1")
    assert aliases_verdict(line.ledger, line.registry).passed
    client.set_registered_model_alias(f"{CHOSEN}.all", "staging", "1")
    assert aliases_verdict(line.ledger, line.registry).sample == [f"{CHOSEN}.all@staging is version 1"]


def test_a_home_without_models_passes_and_creates_no_registry(tmp_path: Path) -> None:
    empty = Line(tmp_path / "home")
    assert aliases_verdict(empty.ledger, empty.registry).passed
    assert not (tmp_path / "home").exists()

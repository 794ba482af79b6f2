"""Old versions go with their files, and nothing goes that anybody may need again."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from alpha_assets.settings import Settings
from alpha_assets.stations.cleanup import clean, plan
from alpha_assets.stations.decisions import DecisionRefused, promote_version, roll_back
from alpha_assets.stations.promote import reconcile
from alpha_assets.stations.sets import table_of
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.registry import Held, Registry, Version
from alpha_assets_tests.stations.line import copied
from alpha_assets_tests.stores.test_registry import log

NOW = datetime(2024, 3, 1, tzinfo=UTC)

CELL = ("AAA", "all")


class Shelf:
    """A registry with versions of one model, and the ledger that decides on them."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.ledger, self.registry = Ledger(self.settings), Registry(self.settings)

    @cached_property
    def places(self) -> dict[int, str]:
        """Where the files of each version were when this was asked first."""
        found = self.registry.client.search_model_versions("name='AAA.all'")
        return {int(version.version): version.tags["location"] for version in found}

    def fill(self) -> None:
        """Eight versions: 2 and 4 have served, 5 serves; 1 was the best of the rejected; 3 is held for a person."""
        made = [
            log(self.registry, "AAA.all", {"tree": f"tree {number}".encode()}, f"t{number}") for number in range(1, 9)
        ]
        for seq, (verdict, ic) in enumerate(DECIDED, 1):
            self.ledger.decide([decision(made[seq - 1], seq, verdict, ic, table_of(self.settings))])
        reconcile(self.ledger, self.registry)

    def numbers(self) -> list[int]:
        found = self.registry.client.search_model_versions("name='AAA.all'")
        return sorted(int(version.version) for version in found)

    def files(self) -> list[int]:
        """The versions whose files are there."""
        return sorted(number for number, place in self.places.items() if Path(place).exists())


#: What was decided on versions 1 to 7, with the symbol's own TS-IC.
DECIDED = (
    ("reject", 0.3),
    ("promote", 0.1),
    ("hold", 0.2),
    ("promote", 0.1),
    ("promote", 0.1),
    ("reject", 0.0),
    ("reject", 0.0),
)


def decision(version: Version, seq: int, verdict: str, ic: float, table: str) -> dict[str, Any]:
    return {
        "symbol": "AAA",
        "regime": "all",
        "seq": seq,
        "verdict": verdict,
        "reason": "because",
        "training_id": f"t{seq}",
        "features_set": table,
        "model_name": version.name,
        "model_version": version.number,
        "model_location": version.location,
        "model_digest": version.digest,
        "evidence": {"symbol": {"ic": ic}},
        "decided_at": NOW.replace(day=seq),
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = Shelf(tmp_path_factory.mktemp("shelf") / "home")
    shelf.fill()
    return shelf.settings.home


@pytest.fixture
def shelf(filled: Path, tmp_path: Path) -> Shelf:
    """A copy of its own of that home."""
    copied(filled, tmp_path / "home")
    return Shelf(tmp_path / "home")


def test_a_dry_run_says_what_becomes_of_each_and_deletes_nothing(shelf: Shelf) -> None:
    fates = {int(fate.version.number): fate.keep for fate in plan(shelf.ledger, shelf.registry, keep=1)}
    assert fates == {
        1: "the best of its name",
        2: "a rollback may return to it",
        3: "held for a person",
        4: "alias previous",
        5: "alias production",
        6: None,
        7: None,
        8: "alias staging",
    }
    assert shelf.numbers() == shelf.files() == list(range(1, 9))


def test_what_goes_goes_with_its_files_and_a_rollback_still_finds_its_own(shelf: Shelf) -> None:
    assert shelf.files() == list(range(1, 9))
    gone = clean(shelf.ledger, shelf.registry, keep=1)
    assert [int(fate.version.number) for fate in gone] == [6, 7]
    assert shelf.numbers() == shelf.files() == [1, 2, 3, 4, 5, 8]
    assert clean(shelf.ledger, shelf.registry, keep=1) == []
    for expected in ("4", "2"):
        row = roll_back(shelf.ledger, CELL, None, why="back", who="ann", now=NOW)
        assert row["model_version"] == expected
        assert shelf.registry.read_files(*(row[f"model_{name}"] for name in ("name", "version", "location", "digest")))


def test_the_newest_few_stay(shelf: Shelf) -> None:
    assert [int(fate.version.number) for fate in clean(shelf.ledger, shelf.registry, keep=2)] == [6]


@pytest.mark.parametrize("call", ["delete_logged_model", "delete_model_version"])
def test_a_clean_up_that_is_killed_is_gone_on_with(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    assert shelf.files() == list(range(1, 9))
    with monkeypatch.context() as patch:
        patch.setattr(shelf.registry.client, call, die)
        with pytest.raises(KeyboardInterrupt):
            clean(shelf.ledger, shelf.registry, keep=1)
    assert 6 in shelf.numbers()
    clean(shelf.ledger, shelf.registry, keep=1)
    assert shelf.numbers() == shelf.files() == [1, 2, 3, 4, 5, 8]


def test_who_promotes_an_old_version_while_it_is_cleaned_up_waits_and_is_refused(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, delete = shelf.ledger.decisions(), Registry.delete

    def promote() -> None:
        other = Shelf(shelf.settings.home)
        promote_version(
            other.ledger, other.registry, other.settings, CELL, "6", why="the best", who="ann", now=NOW.replace(day=28)
        )

    with ThreadPoolExecutor(1) as pool:
        asked: list[Future[None]] = []

        def slow(registry: Registry, version: Held) -> None:
            if not asked:
                asked.append(pool.submit(promote))
                wait(asked, timeout=1)
            delete(registry, version)

        monkeypatch.setattr(Registry, "delete", slow)
        clean(shelf.ledger, shelf.registry, keep=1)
        with pytest.raises(DecisionRefused, match=r"AAA\.all version 6 cannot be read"):
            asked[0].result()
    assert shelf.ledger.decisions() == before


def test_a_version_whose_files_another_one_has_too_stays(shelf: Shelf) -> None:
    client = shelf.registry.client
    source = client.get_model_version("AAA.all", "6")
    client.create_registered_model("copy.all")
    client.create_model_version("copy.all", source.source, tags={"location": source.tags["location"]})
    fates = {
        fate.version.number: fate.keep
        for fate in plan(shelf.ledger, shelf.registry, 1)
        if fate.version.name == "AAA.all"
    }
    assert fates["6"] == "another version has its files"
    assert fates["7"] is None


def test_versions_of_others_in_the_same_store_are_left_alone(shelf: Shelf) -> None:
    client = shelf.registry.client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", client.get_model_version("AAA.all", "6").source)
    clean(shelf.ledger, shelf.registry, keep=1)
    assert len(client.search_model_versions("name='theirs'")) == 1


def test_a_version_that_was_given_an_alias_meanwhile_is_not_deleted(shelf: Shelf) -> None:
    (sixth, *_) = [fate.version for fate in plan(shelf.ledger, shelf.registry, 1) if fate.keep is None]
    shelf.registry.client.set_registered_model_alias("AAA.all", "canary", "6")
    with pytest.raises(ValueError, match="is canary by now: it stays"):
        shelf.registry.delete(sixth)
    assert 6 in shelf.files()


def test_a_version_that_is_gone_cannot_be_promoted(shelf: Shelf) -> None:
    clean(shelf.ledger, shelf.registry, keep=1)
    with pytest.raises(DecisionRefused, match=r"version 6 cannot be read .*train it again"):
        promote_version(shelf.ledger, shelf.registry, shelf.settings, CELL, "6", why="x", who="ann", now=NOW)

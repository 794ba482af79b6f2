"""The registry's promises, on MLflow's own store."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from alpha_assets.quant.heads import ANSWERS, Candidate, Learnt, blocks, learn
from alpha_assets.settings import Settings
from alpha_assets.stores.registry import (
    HEADS,
    SYMBOL,
    TRAINING,
    WHOLE,
    ModelDamaged,
    Registry,
    RegistryUnavailable,
    Version,
)
from alpha_assets_tests import postgres
from alpha_assets_tests.quant.test_heads import FEW
from alpha_assets_tests.quant.test_learners import COLUMNS as LEARNT
from alpha_assets_tests.quant.test_learners import labelled

COLUMNS = ("one", "two")

FIRST_USE = """
from alpha_assets.settings import load
from alpha_assets.stores.registry import Registry
registry = Registry(load())
print(len(registry.client.search_experiments()), registry.production_versions())
"""

#: Opens a fresh store and is killed at the statement about a table in passing that its first argument counts.
KILLED_EARLY = """
import os, signal, sys
from sqlalchemy import Engine, event
from alpha_assets.settings import load
from alpha_assets.stores.registry import Registry
left = int(sys.argv[1])
@event.listens_for(Engine, "before_cursor_execute")
def count(_connection, _cursor, statement, *_):
    global left
    left -= "_alembic_tmp" in statement
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
Registry(load()).prepare()
"""

#: Registers a model and is killed at the call named by its first argument.
KILLED = """
import os, signal, sys
from alpha_assets.settings import load
from alpha_assets.stores.registry import Registry
from alpha_assets_tests.stores.test_registry import log
registry = Registry(load())
setattr(registry.client, sys.argv[1], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
log(registry, sys.argv[2], {"tree": open(sys.argv[3], "rb").read()})
"""


#: Files that no loader is asked to read.
TREE = {"tree": b"any bytes"}


def log(
    registry: Registry,
    name: str,
    files: Mapping[str, bytes] = TREE,
    training_id: str = "t1",
    columns: Sequence[str] = COLUMNS,
    tags: Mapping[str, str] | None = None,
) -> Version:
    return registry.log_candidate(
        name,
        files,
        training_id=training_id,
        columns=columns,
        answers=ANSWERS,
        parameters={"rounds": 5},
        metrics={"oof_ts_ic": 0.1},
        tags={"symbol": name, "regime": "all", "dagster_run_id": f"run-of-{name}", **(tags or {})},
        report={"folds": 5},
        dataset=("features/x", training_id),
        note="**what** it is",
    )


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def registry(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One store for all tests of this file, each with a model name of its own; opened from some other folder."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        registry = Registry(settings)
        registry.prepare()
        log(registry, "opened-elsewhere")
    assert list(elsewhere.iterdir()) == [], "MLflow put files into the folder that happened to be current"
    return registry


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    rows = labelled(400)
    burn_in, folds = blocks(rows, np.ones(rows.height, dtype=bool), FEW, FEW.min_rows)
    learnt = learn(rows, LEARNT, burn_in, folds, FEW)
    assert isinstance(learnt, Learnt)
    return learnt.candidate


def first_use(settings: Settings, processes: int) -> list[str]:
    """What as many processes say that open a fresh store at once."""
    environment = {"ALPHA_HOME": str(settings.home), "ALPHA_MLFLOW_URL": settings.mlflow}
    opening = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_USE],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    ended = [(process.communicate(), process.returncode) for process in opening]
    assert [code for _, code in ended] == [0] * processes, ended
    return [said[0].strip() for said, _ in ended]


class TestFirstUse:
    @pytest.mark.slow
    def test_several_processes_may_open_a_fresh_store_at_once(self, tmp_path: Path) -> None:
        assert first_use(Settings(home=tmp_path), 2) == ["6 {}"] * 2  # MLflow's own «Default» is the sixth experiment

    @pytest.mark.slow
    def test_several_processes_may_open_a_fresh_store_on_postgresql_at_once(self, tmp_path: Path) -> None:
        with postgres.database() as url:
            assert first_use(Settings(home=tmp_path, mlflow_url=SecretStr(url)), 4) == ["6 {}"] * 4

    @pytest.mark.slow
    def test_a_first_use_that_is_killed_amid_a_migration_is_begun_anew(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_EARLY, "5"], env=os.environ | {"ALPHA_HOME": str(tmp_path)}, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert not Registry(settings).exists()
        registry = Registry(settings)
        registry.prepare()
        assert (len(registry.client.search_experiments()), registry.production_versions()) == (6, {})
        assert sorted(path.name for path in tmp_path.glob("mlflow.db*") if path.is_dir()) == []

    def test_asking_whether_a_store_exists_creates_nothing(self, tmp_path: Path) -> None:
        assert not Registry(Settings(home=tmp_path / "fresh")).exists()
        assert list(tmp_path.iterdir()) == []

    def test_a_used_store_exists(self, registry: Registry) -> None:
        assert registry.exists()

    def test_a_server_that_does_not_answer_is_named_at_once_without_its_password(self, tmp_path: Path) -> None:
        url = SecretStr("postgresql://somebody:geheim@127.0.0.1:1/mlflow")
        absent = Registry(Settings(home=tmp_path, mlflow_url=url))
        for ask in (absent.prepare, absent.exists):
            with pytest.raises(RegistryUnavailable, match=r"somebody:\*\*\*@127.0.0.1:1/mlflow") as raised:
                ask()
            assert "geheim" not in str(raised.value)

    def test_files_are_kept_in_an_absolute_place_whatever_folder_is_current(
        self, registry: Registry, settings: Settings
    ) -> None:
        version = registry.find("opened-elsewhere", "t1")
        assert version is not None
        assert Path(version.location).is_relative_to(settings.mlflow_artifact_root)
        assert Path(settings.mlflow_artifact_root).is_absolute()


class TestVersions:
    def test_mlflow_loads_the_production_version_and_it_predicts_what_the_candidate_predicts(
        self, registry: Registry, candidate: Candidate
    ) -> None:
        version = log(registry, "loads", candidate.files(), columns=LEARNT)
        registry.project("loads", {"production": version.number}, {})
        from mlflow.pyfunc import load_model

        model = load_model("models:/loads@production")
        features = pd.DataFrame(np.random.default_rng(7).normal(size=(30, 3)), columns=list(LEARNT))
        for given in (features, features.assign(symbol="SYM")):
            said = model.predict(given)
            assert list(said.columns) == list(ANSWERS)
            for name in ANSWERS:
                assert (said[name].to_numpy() == candidate.predict(features.to_numpy())[name]).all()
        assert model.metadata.signature.inputs.input_names() == [*LEARNT, SYMBOL]
        assert model.metadata.signature.outputs.input_names() == list(ANSWERS)

    def test_each_version_says_in_its_folder_which_model_and_run_it_is(self, registry: Registry) -> None:
        from mlflow.models import Model

        versions = [log(registry, "says-which", training_id=training) for training in ("t1", "t2")]
        read = [Model.load(version.location) for version in versions]
        assert [model.run_id for model in read] == [version.run_id for version in versions]
        assert len({model.model_uuid for model in read}) == len({model.model_id for model in read}) == 2
        for model, version in zip(read, versions, strict=True):
            registered = registry.client.get_model_version("says-which", version.number)
            assert registered.source == f"models:/{model.model_id}"
            assert registry.client.get_logged_model(model.model_id).status == "READY"

    def test_the_newest_of_many_is_the_one_with_the_highest_number(self, registry: Registry) -> None:
        assert registry.newest("newest") is None
        for number in range(1, 12):
            log(registry, "newest", training_id=f"t{number}")
        version, tags = registry.newest("newest") or (None, {})
        assert version is not None
        assert (version.number, tags["training_id"]) == ("11", "t11")

    def test_the_newest_of_a_recipe_is_found_whatever_came_after_it(self, registry: Registry) -> None:
        for number, recipe in enumerate(("ours", "ours", "theirs"), start=1):
            log(registry, "recipes", training_id=f"t{number}", tags={"recipe": recipe})
        version, tags = registry.newest("recipes", recipe="ours") or (None, {})
        assert version is not None
        assert (version.number, tags["training_id"]) == ("2", "t2")
        assert registry.newest("recipes", recipe="another") is None

    def test_the_same_training_is_found_again_and_another_is_not(self, registry: Registry) -> None:
        assert registry.find("found", "t1") is None
        version = log(registry, "found", training_id="t1")
        assert registry.find("found", "t1") == version
        assert registry.find("found", "t2") is None

    def test_a_training_found_again_is_staging_again_unless_something_was_decided_on_it(
        self, registry: Registry
    ) -> None:
        version = log(registry, "decided", training_id="t1")
        registry.project("decided", {"staging": None}, {})
        registry.find("decided", "t1")
        assert aliases_of(registry, "decided") == {"staging": "1"}
        registry.project("decided", {"staging": None}, {version.number: {"state": "failed"}})
        registry.find("decided", "t1")
        assert aliases_of(registry, "decided") == {}

    def test_a_version_has_a_finished_run_with_what_it_was_made_of(self, registry: Registry) -> None:
        version = log(registry, "run-of-a-version")
        run = registry.client.get_run(version.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"rounds": "5"}
        assert run.data.metrics == {"oof_ts_ic": 0.1}
        assert run.data.tags["dagster_run_id"] == "run-of-run-of-a-version"
        assert run.data.tags["mlflow.note.content"] == "**what** it is"
        assert [dataset.dataset.digest for dataset in run.inputs.dataset_inputs] == ["t1"]

    def test_a_registration_that_raises_leaves_a_failed_run_and_no_version(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def disk_full(*_: object) -> None:
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(registry, "keep", disk_full)
            with pytest.raises(OSError, match="no space left"):
                log(registry, "raises")
        assert registry.find("raises", "t1") is None
        assert [run.info.status for run in runs_of(registry, "raises")] == ["FAILED"]

    def test_two_stores_in_one_process_keep_apart(self, registry: Registry, tmp_path: Path) -> None:
        other = Registry(Settings(home=tmp_path))
        log(other, "apart")
        assert registry.find("apart", "t1") is None
        log(registry, "apart", training_id="t2")
        assert (versions_of(registry, "apart"), versions_of(other, "apart")) == (["1"], ["1"])

    @pytest.mark.parametrize(
        ("killed_at", "already_there"),
        [pytest.param("create_model_version", 0, marks=pytest.mark.slow), ("set_logged_model_tags", 1)],
    )
    def test_a_killed_registration_leaves_a_run_that_can_be_ended_and_its_repetition_doubles_no_version(
        self,
        registry: Registry,
        settings: Settings,
        tmp_path: Path,
        killed_at: str,
        already_there: int,
    ) -> None:
        name = f"killed-at-{killed_at}"
        (tmp_path / "head").write_bytes(TREE["tree"])
        environment = os.environ | {"ALPHA_HOME": str(settings.home)}
        command = [sys.executable, "-c", KILLED, killed_at, name, str(tmp_path / "head")]
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
        assert [run.info.status for run in runs_of(registry, name)] == ["RUNNING"]
        assert len(versions_of(registry, name)) == already_there

        assert registry.close_runs_of(["another run", f"run-of-{name}"]) == 1
        assert [run.info.status for run in runs_of(registry, name)] == ["KILLED"]
        assert registry.close_runs_of([f"run-of-{name}"]) == 0

        version = registry.find(name, "t1") or log(registry, name)
        assert versions_of(registry, name) == [version.number]
        assert aliases_of(registry, name) == {"staging": version.number}
        assert f'"{name}"' in links_of(registry, name)
        assert registry.read_files(name, version.number, version.location, version.digest) == TREE


class TestReadingAVersion:
    def test_gives_back_the_files_that_were_registered(self, registry: Registry, candidate: Candidate) -> None:
        version = log(registry, "reads", candidate.files())
        place = ("reads", version.number, version.location, version.digest)
        assert registry.read_files(*place) == candidate.files()
        loaded = registry.candidate(*place)
        assert loaded.files() == candidate.files()
        assert registry.candidate(*place) is loaded, "read once"

    def test_a_damaged_file_is_refused_with_both_digests(self, registry: Registry) -> None:
        version = log(registry, "damaged")
        (Path(version.location) / HEADS / "tree").write_bytes(b"other bytes")
        with pytest.raises(ModelDamaged, match="damaged version 1") as raised:
            registry.read_files("damaged", version.number, version.location, version.digest)
        assert version.digest in str(raised.value)
        assert len([word for word in str(raised.value).split() if len(word.strip(",;")) == 64]) == 2

    @pytest.mark.parametrize("strange", ["missing", "added"])
    def test_a_file_that_is_missing_or_was_added_is_damage_too(self, registry: Registry, strange: str) -> None:
        version = log(registry, strange, {**TREE, "other": b"bytes"})
        folder = Path(version.location) / HEADS
        (folder / "other").unlink() if strange == "missing" else (folder / "more").write_bytes(b"")
        with pytest.raises(ModelDamaged):
            registry.read_files(strange, version.number, version.location, version.digest)


def promoted(number: str, previous: str | None, because: str = "because") -> tuple[dict[str, str | None], Any]:
    """Aliases and tags of a promotion."""
    tags = {number: {"state": "production", "promoted_because": because}}
    archived = {previous: {"state": "archived"}} if previous else {}
    return {"production": number, "previous": previous}, {**archived, **tags}


class TestProjection:
    def test_doing_it_again_changes_nothing(self, registry: Registry) -> None:
        first, second = (log(registry, "again", training_id=training) for training in ("t1", "t2"))
        registry.project("again", *promoted(first.number, None))
        assert aliases_of(registry, "again") == {"production": "1", "staging": "2"}
        for _ in range(2):
            registry.project("again", *promoted(second.number, first.number, "second"), {"2": "the second"})
            assert aliases_of(registry, "again") == {"previous": "1", "production": "2", "staging": "2"}
            versions = {number: registry.client.get_model_version("again", number) for number in ("1", "2")}
            assert versions["1"].tags["state"] == "archived"
            assert versions["2"].tags["state"] == "production"
            assert versions["2"].tags["promoted_because"] == "second"
            assert versions["2"].description == "the second"

    def test_an_alias_of_none_is_taken_away_and_may_be_taken_away_again(self, registry: Registry) -> None:
        version = log(registry, "away")
        registry.project("away", {"canary": version.number, "production": version.number}, {})
        for _ in range(2):
            registry.project("away", {"canary": None, "previous": None, "production": None}, {})
            assert aliases_of(registry, "away") == {"staging": "1"}

    def test_what_the_store_does_not_know_is_left_out(self, registry: Registry) -> None:
        version = log(registry, "known")
        registry.project("known", {"previous": "7", "production": version.number}, {"7": {"state": "archived"}})
        registry.project("unknown", {"production": "1", "canary": None}, {"1": {"state": "production"}}, {"1": "text"})
        assert aliases_of(registry, "known") == {"production": "1", "staging": "1"}

    @pytest.mark.parametrize("call", ["update_model_version", "set_model_version_tag", "set_registered_model_alias"])
    def test_a_crash_anywhere_before_the_alias_leaves_the_old_production_in_place(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        name = f"crash-{call}"
        first, second = (log(registry, name, training_id=training) for training in ("t1", "t2"))
        registry.project(name, *promoted(first.number, None))
        whole = getattr(registry.client, call)

        def die_at_the_second(*arguments: str) -> None:
            if second.number in arguments:
                raise KeyboardInterrupt
            whole(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(registry.client, call, die_at_the_second)
            with pytest.raises(KeyboardInterrupt):
                registry.project(name, *promoted(second.number, first.number), {second.number: "text"})
        assert registry.production_versions()[name] == "1"
        registry.project(name, *promoted(second.number, first.number))
        assert registry.production_versions()[name] == "2"

    def test_a_mirror_that_was_cut_off_is_gone_on_with_and_not_doubled(self, registry: Registry) -> None:
        tags = {"sitting": "cut", "part": WHOLE}
        run_id = registry.open_sitting("gate all", tags)
        assert registry.mirrored_sittings() & {"cut"} == set()
        for _ in range(2):
            same = registry.mirrors("cut")
            assert same == {WHOLE: run_id}
            assert registry.log_decisions("gate all", metrics={}, tags=tags, report={}, same=same[WHOLE]) == run_id
            assert "cut" in registry.mirrored_sittings()

    def test_a_decision_is_mirrored_as_a_run_with_its_figures(self, registry: Registry) -> None:
        run_id = registry.log_decisions(
            "gate all", metrics={"level": 0.03}, tags={"regime": "all"}, report={"judgement": {}, "decisions": []}
        )
        run = registry.client.get_run(run_id)
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"level": 0.03})


def runs_of(registry: Registry, symbol: str) -> list[object]:
    experiment = registry.client.get_experiment_by_name(TRAINING)
    assert experiment is not None
    return list(registry.client.search_runs([experiment.experiment_id], f"tags.symbol = '{symbol}'"))


def versions_of(registry: Registry, name: str) -> list[str]:
    return [str(version.version) for version in registry.client.search_model_versions(f"name='{name}'")]


def links_of(registry: Registry, name: str) -> str:
    """What MLflow's page of the model says it is registered as."""
    source = registry.client.get_model_version(name, "1").source
    model = registry.client.get_logged_model(str(source).removeprefix("models:/"))
    return str(model.tags.get("mlflow.modelVersions"))


def aliases_of(registry: Registry, name: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in registry.client.get_registered_model(name).aliases.items()}

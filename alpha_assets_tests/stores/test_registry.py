"""The registry's promises, on MLflow's own store."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from alpha_assets.settings import Settings
from alpha_assets.stores.registry import (
    DIRECTION_HEAD,
    TRAINING,
    ModelDamaged,
    Registry,
    RegistryUnavailable,
    Version,
)
from alpha_assets_tests import postgres

COLUMNS = ("one", "two")

FIRST_USE = """
from alpha_assets.settings import load
from alpha_assets.stores.registry import Registry
registry = Registry(load())
print(len(registry.client.search_experiments()), registry.production_versions())
"""

#: Registers a model and is killed at the call named by its first argument.
KILLED = """
import os, signal, sys
from alpha_assets.settings import load
from alpha_assets.stores.registry import Registry
from alpha_assets_tests.stores.test_registry import log
registry = Registry(load())
setattr(registry.client, sys.argv[1], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
log(registry, sys.argv[2], open(sys.argv[3]).read())
"""


def log(registry: Registry, name: str, head: str, training_id: str = "t1") -> Version:
    return registry.log_candidate(
        name,
        head,
        training_id=training_id,
        columns=COLUMNS,
        parameters={"rounds": 5},
        metrics={"oof_ts_ic": 0.1},
        tags={"symbol": name, "regime": "all", "dagster_run_id": f"run-of-{name}"},
        report={"folds": 5},
        dataset=("features/x", training_id),
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
        log(registry, "opened-elsewhere", "tree")
    assert list(elsewhere.iterdir()) == [], "MLflow put files into the folder that happened to be current"
    return registry


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(7).normal(size=(300, 2)), columns=list(COLUMNS))


@pytest.fixture(scope="module")
def booster(features: pd.DataFrame) -> lightgbm.Booster:
    up = (features["one"] > 0).astype(float)
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1}
    return lightgbm.train(settings, lightgbm.Dataset(features.to_numpy(), up), num_boost_round=5)


@pytest.fixture(scope="module")
def head(booster: lightgbm.Booster) -> str:
    return booster.model_to_string()


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
    def test_several_processes_may_open_a_fresh_store_at_once(self, tmp_path: Path) -> None:
        assert first_use(Settings(home=tmp_path), 3) == ["4 {}"] * 3  # MLflow's own «Default» is the fourth experiment

    @pytest.mark.slow
    def test_several_processes_may_open_a_fresh_store_on_postgresql_at_once(self, tmp_path: Path) -> None:
        with postgres.database() as url:
            assert first_use(Settings(home=tmp_path, mlflow_url=SecretStr(url)), 4) == ["4 {}"] * 4

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
    def test_mlflow_loads_the_production_version_and_it_predicts_what_the_native_booster_predicts(
        self, registry: Registry, booster: lightgbm.Booster, head: str, features: pd.DataFrame
    ) -> None:
        version = log(registry, "loads", head)
        registry.set_production("loads", version.number, None, {})
        from mlflow.pyfunc import load_model

        model = load_model("models:/loads@production")
        assert (model.predict(features)["p_up"].to_numpy() == booster.predict(features.to_numpy())).all()
        assert model.metadata.signature.inputs.input_names() == list(COLUMNS)

    def test_the_same_training_is_found_again_and_another_is_not(self, registry: Registry) -> None:
        assert registry.find("found", "t1") is None
        version = log(registry, "found", "tree", "t1")
        assert registry.find("found", "t1") == version
        assert registry.find("found", "t2") is None

    def test_a_version_has_a_finished_run_with_what_it_was_made_of(self, registry: Registry) -> None:
        version = log(registry, "run-of-a-version", "tree")
        run = registry.client.get_run(version.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"rounds": "5"}
        assert run.data.metrics == {"oof_ts_ic": 0.1}
        assert run.data.tags["dagster_run_id"] == "run-of-run-of-a-version"
        assert [dataset.dataset.digest for dataset in run.inputs.dataset_inputs] == ["t1"]

    def test_a_registration_that_raises_leaves_a_failed_run_and_no_version(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def disk_full(*_: object) -> None:
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(registry.client, "log_dict", disk_full)
            with pytest.raises(OSError, match="no space left"):
                log(registry, "raises", "tree")
        assert registry.find("raises", "t1") is None
        assert [run.info.status for run in runs_of(registry, "raises")] == ["FAILED"]

    def test_two_stores_in_one_process_keep_apart(self, registry: Registry, tmp_path: Path) -> None:
        other = Registry(Settings(home=tmp_path))
        log(other, "apart", "tree")
        assert registry.find("apart", "t1") is None
        log(registry, "apart", "tree", "t2")
        assert (versions_of(registry, "apart"), versions_of(other, "apart")) == (["1"], ["1"])

    @pytest.mark.parametrize(
        ("killed_at", "already_there"), [("create_model_version", 0), ("set_logged_model_tags", 1)]
    )
    def test_a_killed_registration_leaves_a_run_that_can_be_ended_and_its_repetition_doubles_no_version(
        self,
        registry: Registry,
        settings: Settings,
        head: str,
        tmp_path: Path,
        killed_at: str,
        already_there: int,
    ) -> None:
        name = f"killed-at-{killed_at}"
        (tmp_path / "head").write_text(head)
        environment = os.environ | {"ALPHA_HOME": str(settings.home)}
        command = [sys.executable, "-c", KILLED, killed_at, name, str(tmp_path / "head")]
        assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
        assert [run.info.status for run in runs_of(registry, name)] == ["RUNNING"]
        assert len(versions_of(registry, name)) == already_there

        assert registry.close_runs_of(["another run", f"run-of-{name}"]) == 1
        assert [run.info.status for run in runs_of(registry, name)] == ["KILLED"]
        assert registry.close_runs_of([f"run-of-{name}"]) == 0

        version = registry.find(name, "t1") or log(registry, name, head)
        assert versions_of(registry, name) == [version.number]
        assert aliases_of(registry, name) == {"staging": version.number}
        assert f'"{name}"' in links_of(registry, name)
        assert registry.read_head(name, version.number, version.location, version.digest) == head


class TestReadingAHead:
    def test_gives_back_the_text_that_was_registered(self, registry: Registry, head: str) -> None:
        version = log(registry, "reads", head)
        assert registry.read_head("reads", version.number, version.location, version.digest) == head

    def test_a_damaged_file_is_refused_with_both_digests(self, registry: Registry, head: str) -> None:
        version = log(registry, "damaged", head)
        file = Path(version.location) / "data" / "heads" / DIRECTION_HEAD
        file.write_text(head.replace("tree", "Tree", 1))
        with pytest.raises(ModelDamaged, match="damaged version 1") as raised:
            registry.read_head("damaged", version.number, version.location, version.digest)
        assert version.digest in str(raised.value)
        assert len([word for word in str(raised.value).split() if len(word.strip(",;")) == 64]) == 2


class TestProduction:
    def test_setting_it_again_changes_nothing(self, registry: Registry) -> None:
        first, second = (log(registry, "again", "tree", training) for training in ("t1", "t2"))
        registry.set_production("again", first.number, None, {"promoted_because": "first"})
        assert aliases_of(registry, "again") == {"production": "1", "staging": "2"}
        for _ in range(2):
            registry.set_production("again", second.number, first.number, {"promoted_because": "second"})
            assert aliases_of(registry, "again") == {"previous": "1", "production": "2", "staging": "2"}
            tags = {number: registry.client.get_model_version("again", number).tags for number in ("1", "2")}
            assert tags["1"]["state"] == "archived"
            assert tags["2"]["state"] == "production"
            assert tags["2"]["promoted_because"] == "second"

    def test_a_version_that_succeeds_itself_is_not_archived(self, registry: Registry) -> None:
        version = log(registry, "itself", "tree")
        registry.set_production("itself", version.number, version.number, {})
        assert aliases_of(registry, "itself") == {"production": "1", "staging": "1"}
        assert registry.client.get_model_version("itself", "1").tags["state"] == "production"

    def test_a_crash_anywhere_before_the_alias_leaves_the_old_production_in_place(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = (log(registry, "crash", "tree", training) for training in ("t1", "t2"))
        registry.set_production("crash", first.number, None, {})

        whole = registry.client.set_model_version_tag

        def die_at_the_second(name: str, number: str, *tag: str) -> None:
            if number == second.number:
                raise KeyboardInterrupt
            whole(name, number, *tag)

        with monkeypatch.context() as patch:
            patch.setattr(registry.client, "set_model_version_tag", die_at_the_second)
            with pytest.raises(KeyboardInterrupt):
                registry.set_production("crash", second.number, first.number, {})
        assert registry.production_versions()["crash"] == "1"
        registry.set_production("crash", second.number, first.number, {})
        assert registry.production_versions()["crash"] == "2"

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

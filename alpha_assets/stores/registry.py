"""MLflow as the model registry and metrics store, through ``MlflowClient`` and never the fluent API.

The fluent API keeps a run per thread and leaves it open when a step dies; every call here names its run. Promises:
``prepare`` may be called by many processes at once; ``log_candidate`` either returns a version that can be loaded or
leaves a run marked FAILED (RUNNING where it was killed, until ``close_runs_of`` ends it); the same ``training_id`` is
found again, never logged twice; aliases are projections of the ledger's decisions and ``set_production`` may be
repeated.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from alpha_assets.settings import Settings
from alpha_assets.stores.trouble import StoreTrouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow import MlflowClient

TRAINING = "alpha/training"
PROMOTION = "alpha/promotion"
DRIFT = "alpha/drift"

#: The file of a version's folder that holds its direction head.
DIRECTION_HEAD = "direction.lgb"

#: Any number, the same in every process: PostgreSQL's lock for the first use.
FIRST_USE_LOCK = 2024022902


class RegistryUnavailable(StoreTrouble):
    """MLflow's store cannot be opened; the message names the URL without its password."""


class ModelDamaged(StoreTrouble):
    """A stored model file is not the one that was registered; the message names version and both digests."""


@dataclass(frozen=True)
class Version:
    """A registered version: its name and number, where its files are, the sha256 of its head, its run."""

    name: str
    number: str
    location: str
    digest: str
    run_id: str


class Registry:
    """Runs, versions and aliases in the store of ``ALPHA_MLFLOW_URL`` (SQLite in ``ALPHA_HOME`` by default)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}

    @property
    def tracking_uri(self) -> str:
        """The URI for ``mlflow ui`` and ``MLFLOW_TRACKING_URI``; holds the password, so never log it."""
        url = make_url(self._settings.mlflow)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg2")
        return url.render_as_string(hide_password=False) if url.get_backend_name() != "http" else self._settings.mlflow

    def prepare(self) -> None:
        """Create or open the store, once at a time: MLflow's own first use is not safe under concurrency."""
        if self._client is not None:
            return
        quieten()
        from mlflow import MlflowClient

        try:
            with self._alone():
                client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
                self._experiments = {name: self._experiment(client, name) for name in (TRAINING, PROMOTION, DRIFT)}
        except Exception as error:
            raise self._unavailable(error) from error
        self._client = client

    def exists(self) -> bool:
        """True once somebody has logged something; asking creates nothing."""
        from sqlalchemy import create_engine, inspect

        url = make_url(self.tracking_uri)
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            return True
        if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
            return False
        engine = create_engine(url)
        try:
            return inspect(engine).has_table("experiments")
        except DatabaseError as error:
            raise self._unavailable(error) from error
        finally:
            engine.dispose()

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        shown = make_url(self._settings.mlflow).render_as_string(hide_password=True)
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return RegistryUnavailable(
            f"MLflow's store at {shown} cannot be opened ({reason}); see ALPHA_MLFLOW_URL and ALPHA_HOME"
        )

    @contextmanager
    def _alone(self) -> "Iterator[None]":
        """Nobody else opens the store meanwhile, on this host or, where PostgreSQL tells them, on another.

        Raises at once where the database does not answer: MLflow itself would try for an hour.
        """
        from filelock import FileLock
        from sqlalchemy import create_engine

        self._settings.home.mkdir(parents=True, exist_ok=True)
        with FileLock(self._settings.home / "mlflow.lock"):
            url = make_url(self.tracking_uri)
            if url.get_backend_name() not in ("sqlite", "postgresql"):
                yield
                return
            engine = create_engine(url)
            try:
                with engine.connect() as connection:
                    if connection.dialect.name == "postgresql":
                        connection.exec_driver_sql(f"SELECT pg_advisory_lock({FIRST_USE_LOCK})")
                    else:
                        # Readers beside one writer; the file keeps the mode.
                        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                    yield
            finally:
                engine.dispose()

    def _experiment(self, client: "MlflowClient", name: str) -> str:
        known = client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        # Without a location MLflow takes the folder that happened to be current when the store was opened.
        return client.create_experiment(name, artifact_location=f"{self._settings.mlflow_artifact_root}/{name}")

    @property
    def client(self) -> "MlflowClient":
        """The MLflow client; opens the store at first use."""
        self.prepare()
        assert self._client is not None
        import mlflow

        # A version's source ``models:/<id>`` is resolved through the process-wide URI, whatever the client was given.
        mlflow.set_tracking_uri(self.tracking_uri)
        return self._client

    # -- candidates -----------------------------------------------------------------------------------------------

    def find(self, name: str, training_id: str) -> Version | None:
        """The version of ``name`` that this very training made, if any.

        A kill right after the version was made leaves it without its link and alias: they are set again.
        """
        found = self.client.search_model_versions(f"name='{name}' AND tags.training_id='{training_id}'")
        if not found:
            return None
        self._introduce(name, str(found[0].version), str(found[0].source).removeprefix("models:/"))
        return _version(found[0])

    def log_candidate(
        self,
        name: str,
        head: str,
        *,
        training_id: str,
        columns: "Sequence[str]",
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
        dataset: tuple[str, str],
    ) -> Version:
        """Log one training as a run and register its model as the next version of ``name``.

        Parameters
        ----------
        head : str
            The booster in its library's own text format.
        columns : sequence of str
            The features the model reads, in its order; they become the signature.
        report : mapping
            Everything beyond parameters and metrics (folds, rivals), kept as one JSON artifact.
        dataset : (name, digest)
            What it was trained on; the digest has at most 36 characters.
        """
        with self._run(TRAINING, f"train {name}", {**tags, "training_id": training_id}) as run_id:
            return self._register(run_id, name, head, training_id, columns, parameters, metrics, tags, report, dataset)

    def _register(
        self,
        run_id: str,
        name: str,
        head: str,
        training_id: str,
        columns: "Sequence[str]",
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
        dataset: tuple[str, str],
    ) -> Version:
        from mlflow.entities import LoggedModelOutput, Metric
        from mlflow.exceptions import MlflowException

        client = self.client
        digest = hashlib.sha256(head.encode()).hexdigest()
        version_tags = {**tags, "training_id": training_id, "sha256": digest, "state": "candidate"}
        logged = client.create_logged_model(
            self._experiments[TRAINING],
            name=name.replace(".", "-"),  # registered models may hold a dot, logged models may not
            source_run_id=run_id,
            model_type="direction",
            tags=version_tags,
        )
        folder = Path(tempfile.mkdtemp(prefix="alpha-model-"))
        try:
            _write_pyfunc(folder / "model", head, columns, run_id, logged.model_id)
            client.log_model_artifacts(logged.model_id, str(folder / "model"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        client.finalize_logged_model(logged.model_id, "READY")
        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0, model_id=logged.model_id) for key, value in metrics.items()],
            params=_parameters(parameters),
        )
        self._log_dataset(run_id, dataset)
        client.log_dict(run_id, dict(report), "report.json")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        try:
            client.create_registered_model(name, tags={key: tags[key] for key in ("symbol", "regime") if key in tags})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            model_id=logged.model_id,
            tags={**version_tags, "location": logged.artifact_location},
            await_creation_for=0,
        )
        self._introduce(name, str(made.version), logged.model_id)
        return Version(name, str(made.version), logged.artifact_location, digest, run_id)

    def _introduce(self, name: str, number: str, model_id: str) -> None:
        """Link a new version with its model and make it ``staging``; may be repeated."""
        # Writing straight to the database, MLflow does not link model and version by itself; its pages need the tag.
        link = json.dumps([{"name": name, "version": int(number)}])
        self.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
        self.client.set_registered_model_alias(name, "staging", number)

    def _log_dataset(self, run_id: str, dataset: tuple[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, digest = dataset
        source = json.dumps({"uri": f"{self._settings.lake}/{name}"})
        entity = Dataset(name=name, digest=digest[:36], source_type="delta", source=source)
        self.client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    # -- promotion ------------------------------------------------------------------------------------------------

    def log_decisions(
        self, run_name: str, *, metrics: Mapping[str, float], tags: Mapping[str, str], report: Mapping[str, Any]
    ) -> str:
        """Mirror one sitting of the gate as a run: its figures as metrics, every verdict in ``decisions.json``."""
        from mlflow.entities import Metric

        with self._run(PROMOTION, run_name, tags) as run_id:
            now = int(time.time() * 1000)
            self.client.log_batch(run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
            self.client.log_dict(run_id, dict(report), "decisions.json")
            return run_id

    def log_drift(
        self,
        run_name: str,
        digest: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
    ) -> str:
        """One look at drift as a run: counts as metrics, every finding in ``drift.json``; its id.

        ``digest`` is of what was found; a finished run that has it is the same look, and none is added.
        """
        from mlflow.entities import Metric

        known = self.client.search_runs(
            [self._experiments[DRIFT]], f"attributes.status = 'FINISHED' and tags.look = '{digest}'", max_results=1
        )
        if known:
            return str(known[0].info.run_id)
        with self._run(DRIFT, run_name, {**tags, "look": digest}) as run_id:
            now = int(time.time() * 1000)
            self.client.log_batch(run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
            self.client.log_dict(run_id, dict(report), "drift.json")
            return run_id

    def mirrored_sittings(self, newest: int = 50) -> set[str]:
        """The tag ``sitting`` of the newest finished mirrors; one that a kill cut off is none."""
        client = self.client
        runs = client.search_runs(
            [self._experiments[PROMOTION]],
            "attributes.status = 'FINISHED'",
            max_results=newest,
            order_by=["attributes.start_time DESC"],
        )
        return {run.data.tags["sitting"] for run in runs if "sitting" in run.data.tags}

    def set_rejected(self, name: str, number: str) -> None:
        """Tag a version as turned down; may be repeated. One that this store does not know is left out."""
        with _known_versions_only():
            self.client.set_model_version_tag(name, number, "state", "rejected")

    def set_production(self, name: str, number: str, previous: str | None, tags: Mapping[str, str]) -> None:
        """Bring aliases and tags of ``name`` into line with a decision; may be repeated.

        The alias ``production`` comes last: where it is right, everything else is. A version that this store does not
        know (somebody lost MLflow's database) is left out; its files serve on, and the next training logs it anew.
        """
        client = self.client
        with _known_versions_only():
            if previous is not None and previous != number:
                client.set_registered_model_alias(name, "previous", previous)
                client.set_model_version_tag(name, previous, "state", "archived")
        with _known_versions_only():
            for key, value in {**tags, "state": "production"}.items():
                client.set_model_version_tag(name, number, key, value)
            client.set_registered_model_alias(name, "production", number)

    def production_versions(self) -> dict[str, str]:
        """The number behind the alias ``production`` of every registered name."""
        numbers: dict[str, str] = {}
        token = None
        while True:
            page = self.client.search_registered_models(max_results=1000, page_token=token)
            for model in page:
                aliases = model.aliases or self.client.get_registered_model(model.name).aliases
                if "production" in aliases:
                    numbers[model.name] = str(aliases["production"])
            token = page.token
            if not token:
                return numbers

    # -- reading models -------------------------------------------------------------------------------------------

    def read_head(self, name: str, number: str, location: str, digest: str) -> str:
        """The direction head's text, read from its file and checked against the digest that was registered."""
        relative = f"data/heads/{DIRECTION_HEAD}"
        path = Path(location.removeprefix("file://")) / relative
        if "://" in location.removeprefix("file://"):
            quieten()
            from mlflow.artifacts import download_artifacts

            path = Path(download_artifacts(f"{location}/{relative}", tracking_uri=self.tracking_uri))
        text = path.read_text()
        found = hashlib.sha256(text.encode()).hexdigest()
        if found != digest:
            raise ModelDamaged(
                f"{name} version {number}: {path} has sha256 {found}, registered was {digest}; train it again"
            )
        return text

    # -- runs -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _run(self, experiment: str, run_name: str, tags: Mapping[str, str]) -> "Iterator[str]":
        client = self.client
        run = client.create_run(self._experiments[experiment], run_name=run_name, tags=dict(tags))
        try:
            yield run.info.run_id
        except BaseException:
            client.set_terminated(run.info.run_id, "FAILED")
            raise
        client.set_terminated(run.info.run_id)

    def close_runs_of(self, dagster_runs: "Sequence[str]") -> int:
        """End the MLflow runs that these dead Dagster runs left RUNNING; returns how many."""
        if not self.exists():
            return 0
        closed = 0
        for dagster_run in dagster_runs:
            left = self.client.search_runs(
                list(self._experiments.values()),
                f"attributes.status = 'RUNNING' AND tags.dagster_run_id = '{dagster_run}'",
            )
            for run in left:
                self.client.set_terminated(run.info.run_id, "KILLED")
            closed += len(left)
        return closed


@contextmanager
def _known_versions_only() -> "Iterator[None]":
    """Whatever is said of a name or version that the store does not hold is left out."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def quieten() -> None:
    """Switch off what MLflow prints and sends by itself; call before its first import."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


def _parameters(parameters: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, str(value)) for key, value in parameters.items()]


def _write_pyfunc(folder: Path, head: str, columns: "Sequence[str]", run_id: str, model_id: str) -> None:
    """A folder that ``mlflow.pyfunc.load_model`` loads: the native head, its columns, and our loader's name."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    data = folder.parent / "heads"
    data.mkdir()
    (data / DIRECTION_HEAD).write_text(head)
    (data / "columns.json").write_text(json.dumps(list(columns)))
    with warnings.catch_warnings():
        # It asks for an input example to guess the signature from; ours is stated.
        warnings.filterwarnings("ignore", message=".*An input example was not provided", category=UserWarning)
        pyfunc.save_model(
            path=str(folder),
            loader_module="alpha_assets.stores.heads",
            data_path=str(data),
            pip_requirements=["alpha_assets", "lightgbm"],
            signature=ModelSignature(
                inputs=Schema([ColSpec("double", column) for column in columns]),
                outputs=Schema([ColSpec("double", "p_up")]),
            ),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )


def _version(found: Any) -> Version:
    return Version(found.name, str(found.version), found.tags["location"], found.tags["sha256"], found.run_id)

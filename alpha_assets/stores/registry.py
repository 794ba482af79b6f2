"""MLflow as the model registry and metrics store, through ``MlflowClient`` and never the fluent API.

The fluent API keeps a run per thread and leaves it open when a step dies; every call here names its run. Promises:
``prepare`` may be called by many processes at once; ``log_candidate`` either returns a version that can be loaded or
leaves a run marked FAILED (RUNNING where it was killed, until ``close_runs_of`` ends it); the same ``training_id`` is
found again, never logged twice; aliases are projections of the ledger's decisions, and ``project`` and
``log_decisions`` may be repeated.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError

from alpha_assets.settings import Settings
from alpha_assets.stores.trouble import StoreTrouble

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from mlflow import MlflowClient
    from sqlalchemy import Engine

    from alpha_assets.quant.heads import Candidate

TRAINING = "alpha/training"
PROMOTION = "alpha/promotion"
DRIFT = "alpha/drift"
PERFORMANCE = "alpha/performance"
BACKTEST = "alpha/backtest"

EXPERIMENTS = (TRAINING, PROMOTION, DRIFT, PERFORMANCE, BACKTEST)

#: What a training's run holds beyond parameters and metrics, and the picture of a run.
REPORT, PICTURE = "report.json", "portrait.png"

#: Where the native files of a candidate lie below a version's place.
HEADS = "data/heads"

#: A column that a version may be given beside its features: it sets the intercept of a pooled one.
SYMBOL = "symbol"

#: Versions kept in memory once read: a universe, at about a megabyte each.
CANDIDATES_KEPT = 1024

#: Any number, the same in every process: PostgreSQL's lock for the first use.
FIRST_USE_LOCK = 2024022902

#: The same for bringing aliases, tags and runs into line with the ledger, and for cleaning up.
PROJECTION_LOCK = 2024022903

#: The first of the numbers of those who look whether a version is there and else log it, by the name they log under.
NAMES_LOCK = 2024022910
NAMES = 32

LOCK_FILES = {FIRST_USE_LOCK: "mlflow.lock", PROJECTION_LOCK: "mlflow-projection.lock"}

#: The part of a sitting that is the whole of it: the run with every decision, which is finished last.
WHOLE = "whole"

#: The tag ``state`` of a version until something is decided on it.
CANDIDATE = "candidate"

#: The aliases that follow from decisions, in the order in which they are set: where the last is right, all are.
ALIASES = ("staging", "previous", "canary", "production")


#: A figure of an instant: name, instant, value. The step in MLflow is the ordinal of its date.
Point = tuple[str, datetime, float]

#: Metrics that MLflow takes in one call.
MOST_METRICS = 1000


class RegistryUnavailable(StoreTrouble):
    """MLflow's store cannot be opened; the message names the URL without its password."""


class ModelDamaged(StoreTrouble):
    """A stored model file is not the one that was registered; the message names version and both digests."""


@dataclass(frozen=True)
class Version:
    """A registered version: its name and number, where its files are, ``digest_of`` them, its run."""

    name: str
    number: str
    location: str
    digest: str
    run_id: str


@dataclass(frozen=True)
class Held:
    """A version as the clean-up sees it: where its files are, the logged model they belong to, its aliases."""

    name: str
    number: str
    location: str
    model_id: str
    created_at: datetime
    aliases: tuple[str, ...]


class Registry:
    """Runs, versions and aliases in the store of ``ALPHA_MLFLOW_URL`` (SQLite in ``ALPHA_HOME`` by default)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._templates: dict[tuple[str, ...], Template] = {}
        self._read: OrderedDict[str, Candidate] = OrderedDict()

    def run_page(self, dagster_run: str) -> str:
        """A link to the page of a Dagster run, as MLflow's descriptions show it."""
        return f"[Dagster run {dagster_run}]({self._settings.dagster_url.rstrip('/')}/runs/{dagster_run})"

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
            with self.alone(FIRST_USE_LOCK):
                self._create()
            with self.alone(FIRST_USE_LOCK):
                client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
                self._experiments = {name: self._experiment(client, name) for name in EXPERIMENTS}
        except RegistryUnavailable:
            raise
        except Exception as error:
            raise self._unavailable(error) from error
        self._client = client

    def _create(self) -> None:
        """Make a SQLite store beside its place and move it there when it is whole.

        MLflow migrates it without a transaction: one that was killed on the way could never be opened again («table
        _alembic_tmp_experiments already exists»).
        """
        place = self._to_be_made()
        if place is None:
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        begun = place.with_name(f"{place.name}.begun")
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        store = SqlAlchemyStore(f"sqlite:///{begun / place.name}", self._settings.mlflow_artifact_root)
        store.engine.dispose()
        (begun / place.name).rename(place)
        begun.rmdir()

    def _to_be_made(self) -> Path | None:
        """The place of a SQLite store that is not there yet."""
        url = make_url(self.tracking_uri)
        place = Path(str(url.database)).absolute()
        return place if url.get_backend_name() == "sqlite" and not place.exists() else None

    def exists(self) -> bool:
        """True once somebody has logged something; asking creates nothing."""
        from sqlalchemy import create_engine, inspect

        url = make_url(self.tracking_uri)
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            return True
        if self._to_be_made():
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
    def alone(self, lock: int = PROJECTION_LOCK) -> "Iterator[None]":
        """Nobody else does what ``lock`` stands for meanwhile, on this host or, where PostgreSQL tells, on another.

        Not to be asked for twice by one thread.

        A killed holder holds up nobody. Raises RegistryUnavailable at once where the database does not answer: MLflow
        itself would try for an hour.
        """
        from filelock import FileLock
        from sqlalchemy import create_engine

        self._settings.home.mkdir(parents=True, exist_ok=True)
        with FileLock(self._settings.home / LOCK_FILES.get(lock, f"mlflow-names-{lock - NAMES_LOCK}.lock")):
            url = make_url(self.tracking_uri)
            if url.get_backend_name() not in ("sqlite", "postgresql") or self._to_be_made():
                yield
                return
            engine = create_engine(url)
            try:
                with self._locked(engine, lock):
                    yield
            finally:
                engine.dispose()

    @contextmanager
    def _locked(self, engine: "Engine", lock: int) -> "Iterator[None]":
        try:
            connection = engine.connect()
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_lock({lock})")
            else:
                # Readers beside one writer; the file keeps the mode.
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except DatabaseError as error:
            raise self._unavailable(error) from error
        with connection:
            yield

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

        A kill right after the version was made leaves it without its link and alias: they are set again, but not of
        one that was decided on since, which ``staging`` names no more.
        """
        found = self.client.search_model_versions(f"name='{name}' AND tags.training_id='{training_id}'")
        if not found:
            return None
        if found[0].tags.get("state") == CANDIDATE:
            self._introduce(name, str(found[0].version), str(found[0].source).removeprefix("models:/"))
        return _version(found[0])

    def naming(self, name: str) -> AbstractContextManager[None]:
        """Nobody else logs a version under this name meanwhile (nor under one name in ``NAMES`` others)."""
        return self.alone(NAMES_LOCK + crc32(name.encode()) % NAMES)

    def newest(self, name: str, recipe: str | None = None) -> tuple[Version, dict[str, str]] | None:
        """The newest version of ``name`` with its tags, if there is one; with ``recipe`` among those of that tag."""
        wanted = f"name='{name}'" if recipe is None else f"name='{name}' AND tags.recipe='{recipe}'"
        found = self.client.search_model_versions(wanted, max_results=1, order_by=["version_number DESC"])
        return (_version(found[0]), dict(found[0].tags)) if found else None

    def log_candidate(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        training_id: str,
        columns: "Sequence[str]",
        answers: "Sequence[str]",
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
        dataset: tuple[str, str],
        note: str,
        picture: bytes | None = None,
    ) -> Version:
        """Log one training as a run and register its model as the next version of ``name``.

        Parameters
        ----------
        files : mapping
            The candidate's native files by name (``quant.heads.Candidate.files``).
        columns, answers : sequences of str
            The features the model reads and what it predicts, in its order; they become the signature.
        report : mapping
            Everything beyond parameters and metrics (folds, rivals), kept as one JSON artifact.
        dataset : (name, digest)
            What it was trained on; the digest has at most 36 characters.
        note : str
            What MLflow's page of the run says at its head, as Markdown.
        picture : bytes, optional
            A PNG that the run holds as ``PICTURE``.
        """
        said = {**tags, "training_id": training_id, "mlflow.note.content": note}
        with self._run(TRAINING, f"train {name}", said) as run:
            logged = self._upload(run.run_id, name, files, {**tags, "training_id": training_id}, columns, answers)
            self._describe(run.run_id, logged.model_id, parameters, metrics, dataset)
            self.keep(run.artifact_uri, {REPORT: _as_json(report), **_drawn(picture)})
            owner = {key: tags[key] for key in ("symbol", "regime") if key in tags}
            return self._register(run.run_id, name, logged, owner)

    def _upload(
        self,
        run_id: str,
        name: str,
        files: Mapping[str, bytes],
        tags: Mapping[str, str],
        columns: "Sequence[str]",
        answers: "Sequence[str]",
    ) -> Any:
        """The files as a logged model that is READY; its tags are those that the version will have."""
        version_tags = {**tags, "sha256": digest_of(files), "state": CANDIDATE}
        logged = self.client.create_logged_model(
            self._experiments[TRAINING],
            name=name.replace(".", "-"),  # registered models may hold a dot, logged models may not
            source_run_id=run_id,
            model_type="candidate",
            tags=version_tags,
        )
        self.keep(logged.artifact_location, self._pyfunc(files, columns, answers, run_id, logged.model_id))
        # Left to itself the model would stay PENDING, and load all the same.
        self.client.finalize_logged_model(logged.model_id, "READY")
        return logged

    def _describe(
        self,
        run_id: str,
        model_id: str,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        dataset: tuple[str, str],
    ) -> None:
        from mlflow.entities import LoggedModelOutput, Metric

        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0, model_id=model_id) for key, value in metrics.items()],
            params=_parameters(parameters),
        )
        self._log_dataset(run_id, dataset)
        self.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])

    def _register(self, run_id: str, name: str, logged: Any, tags: Mapping[str, str]) -> Version:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name, tags=dict(tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self.client.create_model_version(
            name,
            source=f"models:/{logged.model_id}",
            run_id=run_id,
            model_id=logged.model_id,
            tags={**logged.tags, "location": logged.artifact_location},
            await_creation_for=0,
        )
        self._introduce(name, str(made.version), logged.model_id)
        return Version(name, str(made.version), logged.artifact_location, logged.tags["sha256"], run_id)

    def keep(self, place: str, files: Mapping[str, bytes]) -> None:
        """Write files by their names below the place of a run or a model: local, of a bucket, or of a server.

        MLflow's own calls (``log_dict``, ``log_model_artifacts``) ask its database for a place that is known here: a
        sixth of what a version took.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tempfile.TemporaryDirectory(prefix="alpha-files-") as folder:
            for name, content in files.items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            get_artifact_repository(place, tracking_uri=self.tracking_uri).log_artifacts(folder)

    def _pyfunc(
        self,
        files: Mapping[str, bytes],
        columns: "Sequence[str]",
        answers: "Sequence[str]",
        run_id: str,
        model_id: str,
    ) -> dict[str, bytes]:
        """What ``mlflow.pyfunc.load_model`` loads: native files and our loader's name.

        MLflow's own writer takes longer than all of its bookkeeping, so it writes once for each signature; what
        belongs to one model alone is set in the copies.
        """
        key = (*columns, "→", *answers)
        if key not in self._templates:
            self._templates[key] = _template(columns, answers)
        own = {
            "run_id": run_id,
            "model_id": model_id,
            "model_uuid": uuid.uuid4().hex,
            "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
            "model_size_bytes": sum(map(len, files.values())),
        }
        template = self._templates[key]
        return {
            **{f"{HEADS}/{name}": content for name, content in files.items()},
            "MLmodel": json.dumps({**template.model, **own}).encode(),  # JSON is YAML
            **{name: text.encode() for name, text in template.others.items()},
        }

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
        self,
        run_name: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
        parent: str | None = None,
        picture: bytes | None = None,
        same: str | None = None,
    ) -> str:
        """Mirror decisions as a run: figures as metrics, the whole in ``decisions.json``, a PNG; the run's id.

        ``same`` is the run of ``mirrors`` that is the same mirror, and is written over: so one which a kill cut off is
        completed. ``parent`` is the run it hangs below.
        """
        below = {} if parent is None else {"mlflow.parentRunId": parent}
        with self._run(PROMOTION, run_name, {**tags, **below}, same) as run:
            return self._tell(run, metrics, report, "decisions.json", picture)

    def report_of(self, name: str, number: str) -> dict[str, Any] | None:
        """What was logged with the training of a version, beyond parameters and metrics; None where it is gone."""
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        quieten()
        try:
            run_id = self.client.get_model_version(name, number).run_id
            with tempfile.TemporaryDirectory(prefix="alpha-report-") as folder:
                file = download_artifacts(
                    run_id=run_id, artifact_path=REPORT, dst_path=folder, tracking_uri=self.tracking_uri
                )
                return dict(json.loads(Path(file).read_text()))
        except (MlflowException, OSError):
            return None

    def open_sitting(self, run_name: str, tags: Mapping[str, str]) -> str:
        """Begin the run that the parts of one sitting hang below; ``log_decisions`` completes it."""
        client = self.client
        return str(client.create_run(self._experiments[PROMOTION], run_name=run_name, tags=dict(tags)).info.run_id)

    def mirrors(self, sitting: str) -> dict[str, str]:
        """The runs of one sitting by their part, the oldest of each."""
        client = self.client
        runs = client.search_runs(
            [self._experiments[PROMOTION]],
            f"tags.sitting = '{sitting}'",
            order_by=["attributes.start_time DESC"],
            max_results=10_000,
        )
        return {run.data.tags["part"]: run.info.run_id for run in runs if "part" in run.data.tags}

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
        return self._log_look(DRIFT, run_name, digest, metrics, tags, report, "drift.json", None)

    def log_backtest(
        self,
        run_name: str,
        digest: str,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
        picture: bytes,
    ) -> str:
        """A backtest as a run: figures as metrics, the whole in ``backtest.json``, a PNG; the run's id.

        ``digest`` is of what was found; a finished run that has it is the same backtest, and none is added.
        """
        return self._log_look(BACKTEST, run_name, digest, metrics, tags, report, "backtest.json", picture)

    def _log_look(
        self,
        experiment: str,
        run_name: str,
        digest: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        report: Mapping[str, Any],
        file: str,
        picture: bytes | None,
    ) -> str:
        known = self.client.search_runs(
            [self._experiments[experiment]], f"attributes.status = 'FINISHED' and tags.look = '{digest}'", max_results=1
        )
        if known:
            return str(known[0].info.run_id)
        with self._run(experiment, run_name, {**tags, "look": digest}) as run:
            return self._tell(run, metrics, report, file, picture)

    def log_vault(
        self, run_name: str, *, metrics: Mapping[str, float], tags: Mapping[str, str], report: Mapping[str, Any]
    ) -> str:
        """One reading of the vault as a run: figures as metrics, all of them in ``vault.json``; its id."""
        with self._run(PROMOTION, run_name, tags) as run:
            return self._tell(run, metrics, report, "vault.json")

    def vault_read(self, release: str) -> bool:
        """Whether the vault was read for this release, to the end."""
        wanted = f"tags.release = '{release}' AND attributes.status = 'FINISHED'"
        return bool(self.client.search_runs([self._experiments[PROMOTION]], wanted, max_results=1))

    # -- performance ----------------------------------------------------------------------------------------------

    def log_live(self, live: Mapping[tuple[str, str], "Sequence[Point]"]) -> int:
        """Metrics over time on the run of each (name, version) that this store knows; how many versions that were.

        The same point again is the same point: what was logged before a kill is logged again and counts once.
        """
        logged = 0
        for (name, number), points in live.items():
            with _known_versions_only():
                self._log_points(str(self.client.get_model_version(name, number).run_id), points)
                logged += 1
        return logged

    def log_performance(
        self,
        points: "Sequence[Point]",
        *,
        tags: Mapping[str, str],
        reports: Mapping[str, Mapping[str, Any]],
        pictures: Mapping[str, bytes],
    ) -> str:
        """Strategies as they go on, in one run for ever: metrics over time; JSON and pictures by file, as of now."""
        client = self.client
        experiment = [self._experiments[PERFORMANCE]]
        known = client.search_runs(experiment, order_by=["attributes.start_time ASC"], max_results=1)
        again = str(known[0].info.run_id) if known else None
        with self._run(PERFORMANCE, "live performance", tags, again) as run:
            self._log_points(run.run_id, points)
            self.keep(run.artifact_uri, {**{file: _as_json(report) for file, report in reports.items()}, **pictures})
            return str(run.run_id)

    def _log_points(self, run_id: str, points: "Sequence[Point]") -> None:
        from mlflow.entities import Metric

        for first in range(0, len(points), MOST_METRICS):
            some = points[first : first + MOST_METRICS]
            self.client.log_batch(
                run_id,
                metrics=[Metric(name, value, int(at.timestamp() * 1000), at.toordinal()) for name, at, value in some],
            )

    def _tell(
        self,
        run: Any,
        metrics: Mapping[str, float],
        report: Mapping[str, Any],
        file: str,
        picture: bytes | None = None,
    ) -> str:
        """Figures as metrics, the whole in ``file``, a PNG; the run's id."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(run.run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
        self.keep(run.artifact_uri, {file: _as_json(report), **_drawn(picture)})
        return str(run.run_id)

    def mirrored_sittings(self, newest: int = 50) -> set[str]:
        """The tag ``sitting`` of the newest finished mirrors; one that a kill cut off is none."""
        client = self.client
        runs = client.search_runs(
            [self._experiments[PROMOTION]],
            f"attributes.status = 'FINISHED' AND tags.part = '{WHOLE}'",
            max_results=newest,
            order_by=["attributes.start_time DESC"],
        )
        return {run.data.tags["sitting"] for run in runs if "sitting" in run.data.tags}

    def project(
        self,
        name: str,
        aliases: Mapping[str, str | None],
        tags: Mapping[str, Mapping[str, str]],
        descriptions: Mapping[str, str] | None = None,
    ) -> None:
        """Bring tags and aliases of ``name`` into line with what was decided; may be repeated.

        ``aliases`` says which version each of ``ALIASES`` names, None for none; ``tags`` and ``descriptions`` are by
        version. The alias ``production`` comes last: where it is right, everything else is. A version that this store
        does not know (somebody lost MLflow's database) is left out; its files serve on, and the next training logs it
        anew.
        """
        client = self.client
        for number, text in (descriptions or {}).items():
            with _known_versions_only():
                client.update_model_version(name, number, text)
        for number, values in tags.items():
            with _known_versions_only():
                for key, value in values.items():
                    client.set_model_version_tag(name, number, key, value)
        for alias in (alias for alias in ALIASES if alias in aliases):
            wanted = aliases[alias]
            with _known_versions_only():
                if wanted is None:
                    client.delete_registered_model_alias(name, alias)
                else:
                    client.set_registered_model_alias(name, alias, wanted)

    def aliases(self) -> dict[str, dict[str, str]]:
        """The aliases of every registered name, each with the number it stands for."""
        found: dict[str, dict[str, str]] = {}
        token = None
        while True:
            page = self.client.search_registered_models(max_results=1000, page_token=token)
            for model in page:
                aliases = model.aliases or self.client.get_registered_model(model.name).aliases
                found[model.name] = {alias: str(number) for alias, number in aliases.items()}
            token = page.token
            if not token:
                return found

    def production_versions(self) -> dict[str, str]:
        """The number behind the alias ``production`` of every registered name that has it."""
        named = self.aliases().items()
        return {name: aliases["production"] for name, aliases in named if "production" in aliases}

    # -- reading models -------------------------------------------------------------------------------------------

    def candidate(self, name: str, number: str, location: str, digest: str) -> "Candidate":
        """A version ready to predict, read once while it is among the last ``CANDIDATES_KEPT`` that were asked for.

        Raises as ``read_files`` does.
        """
        from alpha_assets.quant.heads import Candidate

        if digest not in self._read:
            self._read[digest] = Candidate.load(self.read_files(name, number, location, digest))
        self._read.move_to_end(digest)
        if len(self._read) > CANDIDATES_KEPT:
            self._read.popitem(last=False)
        return self._read[digest]

    def read_files(self, name: str, number: str, location: str, digest: str) -> dict[str, bytes]:
        """The native files of a version by name, checked against the digest that was registered.

        Raises ModelDamaged where they are others, OSError where they cannot be read.
        """
        place = location.removeprefix("file://")
        folder = Path(place) / HEADS
        if "://" in place:
            quieten()
            from mlflow.artifacts import download_artifacts

            folder = Path(download_artifacts(f"{location}/{HEADS}", tracking_uri=self.tracking_uri))
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        found = digest_of(files)
        if found != digest:
            raise ModelDamaged(
                f"{name} version {number}: {folder} has sha256 {found}, registered was {digest}; train it again"
            )
        return files

    def inputs_of(self, location: str) -> list[str]:
        """The columns that a version asks for, by its signature. Raises OSError where its files are out of reach."""
        from mlflow.models import Model

        place = location.removeprefix("file://")
        file = Path(place) / "MLmodel"
        if "://" in place:
            quieten()
            from mlflow.artifacts import download_artifacts

            file = Path(download_artifacts(f"{location}/MLmodel", tracking_uri=self.tracking_uri))
        if not file.exists():
            raise FileNotFoundError(f"{file} is not there")
        signature = Model.load(str(file)).signature
        return [] if signature is None else [str(name) for name in signature.inputs.required_input_names()]

    def figures_of(
        self, versions: "Collection[tuple[str, str]]"
    ) -> dict[tuple[str, str], tuple[dict[str, str], dict[str, float]]]:
        """Parameters and metrics of the run that trained each (name, number) that this store knows."""
        if not versions or not self.exists():
            return {}
        client, runs = self.client, dict[str, tuple[str, str]]()
        for name, number in versions:
            with _known_versions_only():
                runs[str(client.get_model_version(name, number).run_id)] = (name, number)
        if not runs:
            return {}
        wanted = ", ".join(f"'{run_id}'" for run_id in runs)
        found = client.search_runs([self._experiments[TRAINING]], f"attributes.run_id IN ({wanted})")
        return {runs[run.info.run_id]: (dict(run.data.params), dict(run.data.metrics)) for run in found}

    def trained_until(self, regime: str) -> dict[tuple[str, str], date]:
        """The day of the last row that each version of a regime was trained on, by name and number.

        One that does not say is left out. All of the regime are read: 2,020 took 2.3 s of the processor, and to ask
        for each of 505 by its name 4.6 s.
        """
        if not self.exists():
            return {}
        found, token = dict[tuple[str, str], date](), None
        while True:
            page = self.client.search_model_versions(f"tags.regime = '{regime}'", max_results=10_000, page_token=token)
            found |= {
                (version.name, str(version.version)): date.fromisoformat(version.tags["trained_until"])
                for version in page
                if "trained_until" in version.tags
            }
            token = page.token
            if not token:
                return found

    def trainings(self) -> dict[str, dict[str, float]]:
        """The metrics of every finished training by its ``training_id``."""
        if not self.exists():
            return {}
        client, found, token = self.client, dict[str, dict[str, float]](), None
        while True:
            page = client.search_runs(
                [self._experiments[TRAINING]], "attributes.status = 'FINISHED'", max_results=1000, page_token=token
            )
            found |= {
                run.data.tags["training_id"]: dict(run.data.metrics) for run in page if "training_id" in run.data.tags
            }
            token = page.token
            if not token:
                return found

    # -- clean-up -------------------------------------------------------------------------------------------------

    def held(self) -> list[Held]:
        """Every version that this program has registered; those of others in the same store are left out."""
        if not self.exists():
            return []
        aliases = self.aliases()
        found, token = [], None
        while True:
            page = self.client.search_model_versions(max_results=10_000, page_token=token)
            found += [_held(version, aliases.get(version.name, {})) for version in page if "location" in version.tags]
            token = page.token
            if not token:
                return found

    def delete(self, version: Held) -> None:
        """Delete a version with its files: these first, so that a kill leaves something to go on with.

        Raises ValueError where it has an alias by now.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client = self.client
        aliases = client.get_model_version(version.name, version.number).aliases
        if aliases:
            raise ValueError(f"{version.name} version {version.number} is {', '.join(aliases)} by now: it stays")
        get_artifact_repository(version.location).delete_artifacts()
        try:
            client.delete_logged_model(version.model_id)
        except MlflowException as error:  # of a clean-up that was killed after this step
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        client.delete_model_version(version.name, version.number)

    # -- runs -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _run(
        self, experiment: str, run_name: str, tags: Mapping[str, str], again: str | None = None
    ) -> "Iterator[Any]":
        """MLflow's ``RunInfo`` of a run for as long as the block lasts; ``again`` is one that is gone on with."""
        client = self.client
        if again is None:
            run = client.create_run(self._experiments[experiment], run_name=run_name, tags=dict(tags)).info
        else:
            run = client.get_run(again).info
        try:
            yield run
        except BaseException:
            client.set_terminated(run.run_id, "FAILED")
            raise
        client.set_terminated(run.run_id)

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


def _as_json(report: Mapping[str, Any]) -> bytes:
    """A report as people read it in MLflow's pages; what JSON does not know is written as its text."""
    return json.dumps(dict(report), indent=2, default=str).encode()


def _drawn(picture: bytes | None) -> dict[str, bytes]:
    return {} if picture is None else {PICTURE: picture}


def _parameters(parameters: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, str(value)) for key, value in parameters.items()]


def digest_of(files: Mapping[str, bytes]) -> str:
    """sha256 over the names and contents of a version's native files."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Template:
    """What MLflow writes beside the files of a model: its description as a document, and other files by name."""

    model: dict[str, Any]
    others: dict[str, str]


def _template(columns: "Sequence[str]", answers: "Sequence[str]") -> Template:
    """What MLflow's own writer makes of a model of this signature."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    features = [ColSpec("double", column) for column in columns]
    folder = Path(tempfile.mkdtemp(prefix="alpha-template-"))
    try:
        (folder / "heads").mkdir()
        with warnings.catch_warnings():
            # It asks for an input example to guess the signature from; ours is stated.
            warnings.filterwarnings("ignore", message=".*An input example was not provided", category=UserWarning)
            pyfunc.save_model(
                path=str(folder / "model"),
                loader_module="alpha_assets.stores.heads",
                data_path=str(folder / "heads"),
                pip_requirements=["alpha_assets", "lightgbm", "xgboost"],
                signature=ModelSignature(
                    inputs=Schema([*features, ColSpec("string", SYMBOL, required=False)]),
                    outputs=Schema([ColSpec("double", answer) for answer in answers]),
                ),
            )
        written = folder / "model"
        others = {file.name: file.read_text() for file in written.iterdir() if file.is_file()}
        del others["MLmodel"]
        return Template(Model.load(str(written)).to_dict(), others)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _held(found: Any, aliases: Mapping[str, str]) -> Held:
    number = str(found.version)
    return Held(
        found.name,
        number,
        found.tags["location"],
        str(found.source).removeprefix("models:/"),
        datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        tuple(alias for alias, other in aliases.items() if other == number),
    )


def _version(found: Any) -> Version:
    return Version(found.name, str(found.version), found.tags["location"], found.tags["sha256"], found.run_id)

"""A guarded registry in this process: MLflow's store on SQLite, its governor and its watch."""

import importlib
import shutil
import warnings
from types import SimpleNamespace

import pytest

from mlflow_caliber.evidence import REPORT_SIG, load_evidence
from registry_world import World, make_policy, make_rows

PASSES = {"metric": "caliber_brier", "max": 0.3}


class Guarded:
    """MLflow's store under guard, what it knows of the user, and short ways to fill it."""

    def __init__(self, folder, policy, keys=None, database=None):
        from mlflow import MlflowClient
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

        from mlflow_caliber.guard import Governor, Watch, guard_store
        from mlflow_caliber.ledger import Ledger

        uri = database or f"sqlite:///{folder}/mlflow.db"
        self.user = "mia"
        self.keys = keys
        self.client = MlflowClient(uri, uri)  # a store of its own: what it writes is only watched
        experiment = self.client.create_experiment("gate", artifact_location=(folder / "artifacts").as_uri())
        self.world = World(folder, self.client, experiment)
        self.store = SqlAlchemyStore(uri)
        self.ledger = Ledger(self.store.engine, keys)
        self.policy = policy
        actor = lambda: self.user  # noqa: E731
        self.governor = Governor(self.store.engine, self.client, policy, self.ledger, keys=keys, actor=actor)
        guard_store(self.store, self.governor)
        self.watch = Watch(self.store.engine, policy, self.ledger, actor)
        self.watch.start()

    def actions(self, name):
        return [entry.action for entry in self.ledger.entries(model=name)]

    def version(self, rows=None, name=None, keys=None):
        """A registered version with evidence, signed if there are keys; its model's name and its number."""
        folder = self.world.model()
        run_id = self.world.evaluate(folder, make_rows() if rows is None else rows)
        if keys is not None:
            evidence = load_evidence(run_id, self.client)
            self.client.log_text(run_id, keys.sign("evidence", evidence.to_json()), REPORT_SIG)
        if name is None:
            return self.world.register(folder), "1"
        return name, str(self.client.create_model_version(name, source=folder.as_uri()).version)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's tables, made once: its migrations take seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow and its imports warn of themselves while they are imported
        importlib.import_module("mlflow.genai")
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}").engine.dispose()
    return path


@pytest.fixture
def guard(tmp_path, empty_database):
    """Builds guarded registries, and leaves the process as it was."""
    made = []
    shutil.copy(empty_database, tmp_path / "mlflow.db")

    def build(*rules, keys=None, database=None, **targets):
        policy = make_policy(*(rules or (PASSES,)), **targets)
        made.append(Guarded(tmp_path, policy, keys, database))
        return made[-1]

    yield build
    for guarded in made:
        guarded.watch.stop()


@pytest.fixture(scope="session")
def make():
    """The builders of this file."""
    return SimpleNamespace(rows=make_rows, policy=make_policy)

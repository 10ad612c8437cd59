"""A registry on SQLite with model versions and evidence made by hand."""

import warnings
from types import SimpleNamespace

import pytest

from registry_world import World, make_evidence, make_policy, make_rows


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow and its imports warn of themselves while they are imported
        import mlflow
        import mlflow.pyfunc
        import mlflow.sklearn

    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient()
    # SQLite's default experiment writes artifacts beside the working directory; this one writes into the folder.
    experiment = client.create_experiment("gate", artifact_location=(folder / "artifacts").as_uri())
    # `world` goes there for each test; until then, and in other files, MLflow is where it was.
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])
    return World(folder, client, experiment)


@pytest.fixture
def world(mlflow_store):
    """The registry, with MLflow pointed at it: other files of the same process may have chosen another."""
    import mlflow

    uri = f"sqlite:///{mlflow_store.folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow_store


@pytest.fixture(scope="session")
def rows():
    return make_rows()


@pytest.fixture(scope="session")
def make():
    """The builders of this file, for tests that need more than one of a kind."""
    return SimpleNamespace(rows=make_rows, evidence=make_evidence, policy=make_policy)

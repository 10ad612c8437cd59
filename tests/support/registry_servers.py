"""``mlflow server`` as real processes: plain, guarded, with users, behind uvicorn or gunicorn."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

from live_processes import BINARIES, Process, until

ADMIN, PASSWORD = "admin", "a-long-enough-password-1"
KEYS = "test:" + "k" * 40
SECRETS = {
    "MLFLOW_CALIBER_DECISION_KEYS": KEYS,
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "s" * 32,
    "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
    "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
}


# Job runners are a dozen processes that no test needs.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class MlflowServer(Process):
    """
    A tracking server and registry in a folder of its own.

    With a policy (the text of a ``caliber.yaml``) the registry is guarded; without one it is MLflow's own.
    """

    def __init__(
        self,
        folder: Path,
        policy: str | None = None,
        *,
        auth: bool = False,
        workers: int = 2,
        options: tuple[str, ...] = (),
        prefix: str = "",
        database: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.prefix = prefix
        self.uri = f"http://127.0.0.1:{self.port}{prefix}"
        self.database = database or f"sqlite:///{folder}/mlflow.db"
        surroundings = {**_without_mlflow(), **_QUIET, **(environment or {})}
        app = "basic-auth" if auth and policy is None else None if policy is None else "caliber"
        if auth:
            surroundings |= SECRETS | {"MLFLOW_AUTH_CONFIG_PATH": str(_auth_config(folder))}
        if policy is not None:
            (folder / "caliber.yaml").write_text(policy)
            surroundings |= {"CALIBER_CONFIG": str(folder / "caliber.yaml"), **SECRETS, **(environment or {})}
            surroundings["CALIBER_BASE_APP"] = "basic-auth" if auth else ""
        command = [str(BINARIES / "mlflow"), "server", "--port", str(self.port), "--workers", str(workers)]
        command += ["--backend-store-uri", self.database, "--artifacts-destination", str(folder / "artifacts")]
        command += ["--app-name", app] if app else []
        command += ["--static-prefix", prefix] if prefix else []
        if not options:  # a busy machine imports for longer than uvicorn waits, and then kills what it started
            command += ["--uvicorn-opts", "--timeout-worker-healthcheck 300"]
        super().__init__([*command, *options], folder / "server.log", surroundings)

    def wait(self, seconds: float = 400.0) -> MlflowServer:
        """Until it answers."""
        until(self._answers, seconds, f"the server starts ({self.log})")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return response.status == 200
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


def _without_mlflow() -> dict[str, str]:
    """The server's own settings, and none of the test's."""
    return {name: "" for name in os.environ if name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}


def _auth_config(folder: Path) -> Path:
    path = folder / "auth.ini"
    path.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        f"admin_username = {ADMIN}\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return path

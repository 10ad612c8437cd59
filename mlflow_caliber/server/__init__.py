"""The live service: applications send predictions and outcomes, reviewers decide, everybody sees how models are.

:func:`serve` runs it, :func:`create_app` makes the FastAPI application over a store that is given.
"""

from mlflow_caliber.exceptions import OptionalDependencyError

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise OptionalDependencyError("The service needs FastAPI: pip install 'mlflow-caliber[server]'.") from error

from mlflow_caliber.server._settings import ServerSettings
from mlflow_caliber.server.app import create_app, serve

__all__ = ["ServerSettings", "create_app", "serve"]

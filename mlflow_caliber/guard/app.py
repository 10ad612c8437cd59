"""The entry point ``mlflow.app = caliber``: ``mlflow server --app-name caliber``.

The parent process imports this file to see that :func:`create_app` is a function; everything else is imported in the
workers.
"""

from __future__ import annotations

from typing import Any

__all__ = ["create_app"]


def create_app() -> Any:
    """
    MLflow's server with a guarded registry, for uvicorn, gunicorn and waitress.

    The policy is that of ``caliber.yaml`` (``CALIBER_CONFIG``, or in the working directory). With
    ``CALIBER_BASE_APP=basic-auth`` MLflow's own authentication comes first, and its users are who approves.

    Returns
    -------
    fastapi.FastAPI or flask.Flask
        What the server that runs it wants.

    Raises
    ------
    ConfigError
        If the policy is missing or wrong, or asks for what the server cannot know. A guard never starts half.
    """
    from mlflow_caliber.guard._assemble import assemble

    return assemble()

"""The guard inside MLflow's server: ``mlflow server --app-name caliber``.

=================  =================================================================================================
``app``            :func:`create_app`, the entry point ``mlflow.app = caliber``
:class:`Governor`  decides who may hold a guarded alias or stage, and writes it with its audit entry
:class:`Watch`     sees every change to the registry's rows inside its transaction, and refuses what was not decided
=================  =================================================================================================

Importing this room imports MLflow's server parts; only the workers of a guarded server do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_caliber.guard._governor import Governor
    from mlflow_caliber.guard._routes import ROUTES
    from mlflow_caliber.guard._store import guard_store
    from mlflow_caliber.guard._watch import Watch
    from mlflow_caliber.guard.app import create_app

__all__ = ["ROUTES", "Governor", "Watch", "create_app", "guard_store"]

_HOME = {
    "Governor": "_governor",
    "ROUTES": "_routes",
    "Watch": "_watch",
    "create_app": "app",
    "guard_store": "_store",
}


def __getattr__(name: str) -> Any:
    # `mlflow server` imports the package in its parent process, which needs none of this.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

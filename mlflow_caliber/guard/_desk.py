"""What every page is made with: the registry's lists, the ledger, the evidence, and what the reader may do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from flask import Response, g
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.protos.model_registry_pb2 import SearchRegisteredModels
from mlflow.server.handlers import _add_static_prefix
from mlflow.utils.proto_json_utils import message_to_json, parse_dict

from mlflow_caliber.guard._catalog import Catalog, Listed
from mlflow_caliber.guard._chronicle import Chronicle
from mlflow_caliber.guard._governor import Governor
from mlflow_caliber.guard._measured import Measured
from mlflow_caliber.guard._registry import refusal
from mlflow_caliber.guard._routes import check_permission

__all__ = ["Desk", "base", "link", "run_link"]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One for each server."""

    governor: Governor
    catalog: Catalog
    chronicle: Chronicle
    measured: Measured
    people: bool

    @property
    def person(self) -> str | None:
        """Who reads the page; None on a server that does not know its users."""
        return self.governor.actor if self.people else None

    @property
    def sees_all(self) -> bool:
        """Whether the reader is an administrator; asked once a request, as each answer checks the password."""
        if not self.people:
            return True
        if "caliber_admin" not in g:
            from mlflow.server import auth

            g.caliber_admin = auth.sender_is_admin()
        return bool(g.caliber_admin)

    def check(self, permission: str | None) -> None:
        """Refuse a reader who may not do this to the model that the request names."""
        if permission is None or self.sees_all:
            return
        if permission == "admin":
            raise refusal(
                "The audit log of all models is for administrators; that of one model is on the model's page."
            )
        check_permission(permission)

    def may(self, permission: str) -> bool:
        """Whether the reader may do this to the model that the request names."""
        try:
            self.check(permission)
        except MlflowException:
            return False
        return True

    def readable(self, names: Collection[str]) -> tuple[str, ...]:
        """
        Those of the models that the reader may read.

        MLflow's own filter of its list of models decides, in one go: there is no second idea of who may read what.
        """
        if not self.people:
            return tuple(names)
        from mlflow.server import auth

        asked = SearchRegisteredModels.Response()
        for name in names:
            asked.registered_models.add(name=name)
        response = Response(message_to_json(asked), mimetype="application/json")
        auth.filter_search_registered_models(response)
        left = SearchRegisteredModels.Response()
        parse_dict(response.get_json(), left)
        return tuple(model.name for model in left.registered_models)

    def listed(self, name: str, version: str) -> Listed:
        """A version of a model, or MLflow's usual error."""
        found = self.catalog.version(name, version)
        if found is None:
            raise MlflowException(
                f"There must be a version {version:.20} of {name:.80}, got none of that number.",
                RESOURCE_DOES_NOT_EXIST,
            )
        return found

    def targets(self) -> tuple[tuple[str, str], ...]:
        """The guarded targets with their kinds, in the policy's order."""
        return tuple((each.target, each.kind) for each in self.governor.policy.targets.values())

    def now(self) -> datetime:
        """The present."""
        return datetime.now(UTC)


def base() -> str:
    """What every path of this server begins with."""
    return _add_static_prefix("")


def link(page: str, /, **values: Any) -> str:
    """
    The address of a page under ``/caliber/``; values of None are left out.

    Examples
    --------
    >>> link("model", name="a&b", page=None)
    '/caliber/model?name=a%26b'
    """
    given = {key: value for key, value in values.items() if value is not None}
    return f"{base()}/caliber/{page}" + (f"?{urlencode(given)}" if given else "")


def run_link(experiment_id: str | None, run_id: str | None) -> str | None:
    """The address of a run in MLflow's own pages."""
    if experiment_id is None or run_id is None:
        return None
    return f"{base()}/#/experiments/{quote(experiment_id, safe='')}/runs/{quote(run_id, safe='')}"

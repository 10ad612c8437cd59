"""A registry's guard, asked over HTTP with MLflow's own credentials."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

import mlflow
from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request, verify_rest_response

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import PromotionError, StoreError
from mlflow_caliber.ledger import Entry, Head, Verification, verify_chain

__all__ = ["RemoteGuard", "RemoteLedger", "find_guard"]

_PAGE = 1_000
_TRIES = 2  # MLflow's own calls that follow are patient enough
_PREFIX = "/api/2.0/caliber"
_REFUSED = ("PERMISSION_DENIED", "RESOURCE_CONFLICT")
_NOBODY_THERE = (404, 405)


class RemoteGuard:
    """
    The guard of a server, started with ``mlflow server --app-name caliber``.

    Parameters
    ----------
    uri : str
        The server's address.
    """

    def __init__(self, uri: str) -> None:
        self._host = get_default_host_creds(uri)

    def get(self, route: str, **parameters: Any) -> dict[str, Any]:
        """Ask one of the guard's routes; a :class:`PromotionError` carries its refusal."""
        return self._answer(route, "GET", params={key: value for key, value in parameters.items() if value is not None})

    def post(self, route: str, **body: Any) -> dict[str, Any]:
        """Have the guard do something; a :class:`PromotionError` carries its refusal."""
        return self._answer(route, "POST", json={key: value for key, value in body.items() if value is not None})

    def _answer(self, route: str, method: str, **what: Any) -> dict[str, Any]:
        endpoint = f"{_PREFIX}/{route}"
        try:
            answer = verify_rest_response(http_request(self._host, endpoint, method, **what), endpoint)
        except RestException as error:
            if error.error_code in _REFUSED:
                raise PromotionError(error.message.removeprefix(f"{error.error_code}: ")) from error
            raise
        found: dict[str, Any] = answer.json()
        return found


def find_guard(uri: str | None = None) -> RemoteGuard | None:
    """
    The guard of the registry at an address (by default MLflow's own); None if there is none.

    Raises
    ------
    StoreError
        If nobody answers there.
    MlflowException
        If the server does not let the user in.
    """
    uri = uri or mlflow.get_registry_uri()
    if urlparse(uri).scheme not in ("http", "https"):
        return None
    try:
        answer = http_request(get_default_host_creds(uri), f"{_PREFIX}/guard", "GET", max_retries=_TRIES)
    except MlflowException:  # its text has the address, which may hold a password
        raise StoreError("The registry's server must answer, got no answer.") from None
    if answer.status_code in _NOBODY_THERE or "json" not in answer.headers.get("Content-Type", ""):
        return None
    found = verify_rest_response(answer, f"{_PREFIX}/guard").json()
    return RemoteGuard(uri) if found.get("guard") == "caliber" else None


class RemoteLedger:
    """
    The log of a guarded server, read over HTTP; verified here, with one's own keys, and not by the server's word.

    Parameters
    ----------
    guard : RemoteGuard
        The server. The log of one model takes READ on it, the whole one an administrator.
    keys : Keyring, optional
        Verify the entries' signatures.
    """

    def __init__(self, guard: RemoteGuard, keys: Keyring | None = None) -> None:
        self._guard = guard
        self._keys = keys

    def entries(self, *, model: str | None = None, after: int = 0, limit: int | None = None) -> tuple[Entry, ...]:
        """Entries in their order, of one model or of all; as :meth:`mlflow_caliber.ledger.Ledger.entries`."""
        found: list[Entry] = []
        while limit is None or len(found) < limit:
            wanted = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self._page(model, after, wanted)
            found += page
            if len(page) < wanted:
                break
            after = page[-1].seq
        return tuple(found)

    def head(self) -> Head:
        """The end of the log."""
        return Head.from_dict(self._guard.get("chain", limit=1)["head"])

    def verify(self, *, anchor: str | None = None, signed_from: int = 1) -> Verification:
        """Read the whole log, and say what is wrong with it."""
        head = self.head()  # first: what is appended meanwhile is not missing
        entries = self.entries(limit=head.seq)
        return verify_chain(entries, head, self._keys, anchor=anchor, signed_from=signed_from)

    def _page(self, model: str | None, after: int, limit: int) -> list[Entry]:
        route = "chain" if model is None else "ledger"
        answer = self._guard.get(route, name=model, after=after, limit=limit)
        return [Entry.from_dict(entry) for entry in answer["entries"]]

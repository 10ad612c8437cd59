"""One request and its answer, sent again while the service is away or busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from mlflow_caliber._validation import check_at_least, check_count, check_text
from mlflow_caliber.client._rows import as_json
from mlflow_caliber.exceptions import InvalidInputError, ServiceError

__all__ = ["Transport"]

_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


class Transport:
    """A service's address, a token, and how patient to be."""

    def __init__(self, url: str, token: str | None, timeout: float, retries: int) -> None:
        self.url = _checked_url(url)
        self._timeout = check_at_least(timeout, "timeout", 0.001)
        self._retries = check_count(retries, "retries", minimum=0)
        self.sleep: Callable[[float], object] = time.sleep
        self._session = requests.Session()
        if token is not None:
            self._session.auth = _Bearer(check_text(token, "token"))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        kind: str = "application/json",
        again: bool = True,
    ) -> dict[str, Any]:
        """The answer, which is a JSON object; ``again`` says whether sending twice does no harm."""
        data = body if body is None or isinstance(body, bytes) else as_json(body)
        head = {"Accept": "application/json", **({} if data is None else {"Content-Type": kind})}
        tries = self._retries if again else 0
        for number in range(tries + 1):
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**number)
            try:
                response = self._request(method, path, query, data, head)
            except requests.RequestException as error:
                if number == tries:
                    sentence = f"The service at {self.url} does not answer ({type(error).__name__})."
                    raise ServiceError(None, sentence) from error
            else:
                if response.status_code not in _AGAIN or number == tries:
                    return _answer(response, self.url)
                pause = max(pause, _asked_pause(response))
            self.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _request(
        self, method: str, path: str, query: Mapping[str, Any] | None, data: bytes | None, head: Mapping[str, str]
    ) -> requests.Response:
        return self._session.request(
            method,
            f"{self.url}/api/v1{path}",
            params=query,
            data=data,
            headers=head,
            timeout=self._timeout,
            allow_redirects=False,  # a token is for one service
        )


class _Bearer(requests.auth.AuthBase):
    """The token. Given as the session's own way to log in, so that no ~/.netrc takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _checked_url(url: str) -> str:
    wanted = "url must be the service's address, such as https://caliber.example.org"
    parts = urlsplit(check_text(url, "url"))
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError(f"{wanted}, without user and password: the token goes in token.")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidInputError(f"{wanted}, got {url!r:.80}.")
    return url.rstrip("/")


def _answer(response: Any, url: str) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = None
    status = int(response.status_code)
    if 200 <= status < 300 and isinstance(content, dict):
        return content
    if isinstance(content, dict) and isinstance(content.get("detail"), str):
        raise ServiceError(status, content["detail"])
    raise ServiceError(status, f"The service at {url} must answer with JSON, got status {status} and something else.")


def _asked_pause(response: Any) -> float:
    try:
        return min(_LONGEST_PAUSE, max(0.0, float(response.headers.get("Retry-After", "0"))))
    except ValueError:  # a date
        return 0.0

"""The shortest way to the busiest addresses.

An event that comes alone is answered in about a millisecond, and a third of that would be the framework's: matching
some fifty routes, and layers for what these few functions do not use. FastAPI has them in its document all the same,
and answers whatever is not exactly what they take.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from mlflow_caliber.server._errors import answer_for
from mlflow_caliber.server._limits import TEMPLATE

__all__ = ["Express", "json_answer"]

Endpoint = Callable[..., Awaitable[Response]]
# An encoder that is kept: json.dumps with settings of its own makes one each time.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Express:
    """ASGI middleware: POSTs to some paths go to their functions, all else goes on."""

    def __init__(self, app: ASGIApp, *, owner: FastAPI, posts: Mapping[str, Endpoint]) -> None:
        self._app, self._owner = app, owner
        self._posts = [(compile_path(path)[0], path, endpoint) for path, endpoint in posts.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let others."""
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            for pattern, path, endpoint in self._posts:
                found = pattern.match(scope["path"])
                if found is not None:
                    scope.update({"app": self._owner, "path_params": found.groupdict(), TEMPLATE: path})
                    await self._answer(endpoint, scope, receive, send)
                    return
        await self._app(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            answer = await endpoint(request, **request.path_params)
        except Exception as error:  # whatever it is, the caller is told no more than a sentence
            answer = await answer_for(request, error)
        await answer(scope, receive, send)


def json_answer(content: Any) -> Response:
    """The content as JSON."""
    return Response(_encode(content).encode(), media_type="application/json")

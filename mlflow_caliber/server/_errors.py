"""Errors as problem JSON (RFC 9457): a status and a sentence, and nothing of what is inside."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mlflow_caliber.exceptions import (
    CaliberError,
    ConfigError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StoreError,
)

__all__ = ["PROBLEMS", "Problem", "answer_for", "handle_errors", "problem", "unforeseen"]

_SHOWN = 80
# FastAPI's, of a body that is no text, or nested too deeply.
_UNREADABLE = "There was an error parsing the body"
_logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "probability must be a number in [0, 1], got 7.3.",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str


_MEANS = {
    400: "What came is no request that can be read.",
    401: "A token is needed, and none came or it is not known.",
    403: "The token does not allow it.",
    404: "There is no such thing, or the token does not show it.",
    409: "Somebody was first, or the state of things forbids it.",
    413: "The body is too long.",
    415: "The body is of another kind than JSON.",
    422: "A value cannot be used; the detail says which, what was wanted and what came.",
    429: "Too many requests; wait as long as Retry-After says.",
    500: "Something that nobody foresaw; the detail names the entry in the server's log.",
    503: "The store is away or busy; nothing was done, send it again.",
}
_SCHEMA = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": means, "content": _SCHEMA} for status, means in _MEANS.items()
}
"""What every route may answer, for the OpenAPI document."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer for an error."""
    # What came may hold half a character, which no answer can.
    said = detail.encode("utf-8", "backslashreplace").decode()
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": said}
    kept = None if headers is None else dict(headers)
    return JSONResponse(content, status, headers=kept, media_type="application/problem+json")


def handle_errors(app: FastAPI) -> None:
    """Let every error of the application end in a problem."""
    for kind in (CaliberError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, answer_for)


async def answer_for(_: Request, error: Exception) -> JSONResponse:
    """The problem that an error is told as."""
    if isinstance(error, CaliberError):
        return _refused(error)
    if isinstance(error, RequestValidationError):
        return problem(422, " ".join(dict.fromkeys(_sentence(each) for each in error.errors()[:5])))
    if isinstance(error, ClientDisconnect):  # everyday: nobody is left who reads it, and it only counts
        return problem(400, "The request broke off.")
    return _http(error) if isinstance(error, HTTPException) else unforeseen(error)


def status_of(error: CaliberError) -> int:
    """The HTTP status of an error of ours."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, ConflictError):
        return 409
    if isinstance(error, InvalidInputError | ConfigError):
        return 422
    return 503 if isinstance(error, StoreError) else 500


def _refused(error: CaliberError) -> JSONResponse:
    status = status_of(error)
    if status == 503:
        _logger.warning("%s", error)
        # The sentence names the place of the database, which is nobody's business.
        return problem(503, "The store is away or busy. Nothing was done; send it again.", {"Retry-After": "1"})
    if status == 500:
        return unforeseen(error)
    return problem(status, str(error))


def _sentence(found: Mapping[str, Any]) -> str:
    place = (
        ".".join(str(part) for part in found["loc"] if part not in {"body", "query", "path", "header"}) or "The body"
    )
    if found["type"] == "missing":
        return f"{place} is missing."
    if found["type"] in {"json_invalid", "json_type"}:
        return "The body must be JSON, and cannot be read as such."
    text = repr(found.get("input"))
    came = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    what = str(found["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{place}: {what[:1].lower()}{what[1:]}, got {came}."


def _http(error: HTTPException) -> JSONResponse:
    detail = str(error.detail)
    if detail == _UNREADABLE:
        detail = "The body must be JSON, and cannot be read as such."
    if detail == HTTPStatus(error.status_code).phrase:
        detail = {404: "There is no such address.", 405: "That address does not take this method."}.get(
            error.status_code, f"{detail}."
        )
    return problem(error.status_code, detail, error.headers)


def unforeseen(error: Exception) -> JSONResponse:
    """The answer for what nobody foresaw; the server's log has all of it."""
    name = uuid.uuid4().hex[:12]
    _logger.error("Unforeseen error %s: %s", name, type(error).__name__, exc_info=error)
    return problem(500, f"Something went wrong inside; the server's log has it as {name}.")

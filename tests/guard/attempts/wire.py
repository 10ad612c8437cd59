"""The same request written in other ways: paths, verbs, content types, bodies."""

from __future__ import annotations

import json
from collections.abc import Callable

from ._attempt import Act, Attempts, entered, holds
from ._site import BAD, UNKNOWN
from ._target import Target

PATHS, VERBS, TYPES, BODIES = (Attempts(kind) for kind in ("path", "verb", "content type", "body"))
ALIAS, STAGE = "/api/2.0/mlflow/registered-models/alias", "/api/2.0/mlflow/model-versions/transition-stage"
AJAX_ALIAS, AJAX_STAGE = ALIAS.replace("/api/", "/ajax-api/"), STAGE.replace("/api/", "/ajax-api/")


def wanted(target: Target, version: str = BAD) -> dict[str, object]:
    return {"name": target.name, "alias": "champion", "version": version}


def staged(target: Target, version: str = BAD) -> dict[str, object]:
    return {"name": target.name, "version": version, "stage": "Production", "archive_existing_versions": True}


def as_bytes(target: Target) -> bytes:
    return json.dumps(wanted(target)).encode()


# --- paths -----------------------------------------------------------------------------------------------------------


def _path(name: str, line: str, *, quick: bool = False) -> None:
    PATHS.add(name, lambda target: target.raw(line, as_bytes(target)), holds(BAD), quick=quick)


for _name, _line in {
    "api": ALIAS,
    "ajax-api": AJAX_ALIAS,
    "two slashes in front": "/" + ALIAS,
    "two slashes inside": ALIAS.replace("/mlflow/", "/mlflow//"),
    "slashes everywhere": ALIAS.replace("/", "//"),
    "percent-encoded letters": ALIAS.replace("alias", "%61li%61s"),
    "percent-encoded dash": ALIAS.replace("-", "%2D"),
    "percent-encoded slash": ALIAS.replace("models/", "models%2F"),
    "all percent-encoded": "/" + "".join(f"%{ord(sign):02x}" for sign in ALIAS[1:]),
    "another model in the query": ALIAS + "?name=other&alias=shadow&version=1",
    "method in the query": ALIAS + "?_method=GET",
    "an empty query": ALIAS + "?",
    "a fragment": ALIAS + "#shadow",
}.items():
    _path(_name, _line, quick=True)

for _name, _line in {"stage, api": STAGE, "stage, ajax-api": AJAX_STAGE, "stage, slashes": "/" + STAGE}.items():
    PATHS.add(
        _name,
        lambda target, line=_line: target.raw(line, json.dumps(staged(target)).encode()),
        entered(BAD),
        quick=_line is STAGE,
    )


@PATHS.of("absolute form", holds(BAD))
def _absolute(target: Target) -> None:
    target.raw(target.site.uri + ALIAS, as_bytes(target))


# --- verbs and headers -----------------------------------------------------------------------------------------------


def _headers(name: str, **headers: str) -> None:
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    VERBS.add(name, lambda target: target.raw(ALIAS, as_bytes(target), given), holds(BAD))


_headers("said to be a GET", X_HTTP_Method_Override="GET")
_headers("said to be a DELETE", X_HTTP_Method="DELETE", X_Method_Override="DELETE")
_headers("said to be for another path", X_Original_URL="/health", X_Rewrite_URL="/health")
_headers("said to come from the server", X_Forwarded_For="127.0.0.1", X_Real_IP="127.0.0.1", X_Forwarded_Prefix="/x")
_headers("said to come from the guard", X_Caliber_Permit="true", X_Caliber_Actor="admin", X_Remote_User="admin")
_headers("said to be of MLflow's client", User_Agent="mlflow-python-client/3.17.2")
_headers("sent by a browser from the server's own page", Origin="http://127.0.0.1", X_Requested_With="XMLHttpRequest")


# --- content types ---------------------------------------------------------------------------------------------------


def _typed(name: str, kind: str, encode: Callable[[bytes], bytes] = bytes, *, quick: bool = False) -> None:
    TYPES.add(
        name,
        lambda target: target.raw(ALIAS, encode(as_bytes(target)), {"Content-Type": kind}),
        holds(BAD),
        quick=quick,
    )


def _recoded(encoding: str) -> Callable[[bytes], bytes]:
    return lambda body: body.decode().encode(encoding)


_typed("with a charset", "application/json; charset=utf-8", quick=True)
_typed("with a charset that is wrong", "application/json; charset=ascii")
_typed("with a charset that is unknown", "application/json; charset=klingon")
_typed("with parameters", "application/json; version=1; name=other")
_typed("utf-16", "application/json; charset=utf-16", _recoded("utf-16"), quick=True)
_typed("utf-16 little-endian without a mark", "application/json", _recoded("utf-16-le"))
_typed("utf-16 big-endian", "application/json", _recoded("utf-16-be"))
_typed("utf-32", "application/json", _recoded("utf-32"))
_typed("utf-8 with a byte order mark", "application/json", _recoded("utf-8-sig"), quick=True)


# --- bodies ----------------------------------------------------------------------------------------------------------


def _body(name: str, write: Callable[[Target], str], *, quick: bool = False) -> None:
    BODIES.add(name, lambda target: target.raw(ALIAS, write(target).encode()), holds(BAD), quick=quick)


def _text(target: Target, **changes: object) -> str:
    return json.dumps(wanted(target) | changes)


_body("alias given twice", lambda t: f'{{"alias": "shadow", {_text(t)[1:]}', quick=True)
_body("version given twice", lambda t: f'{{"version": "1", {_text(t)[1:]}', quick=True)
_body("name given twice", lambda t: f'{{"name": "other", {_text(t)[1:]}')
_body("escaped letters", lambda t: _text(t).replace("champion", "\\u0063hampi\\u006fn"), quick=True)
_body("escaped keys", lambda t: _text(t).replace('"alias"', '"\\u0061lias"'))
_body("further fields", lambda t: _text(t, guard="off", permit=True, actor="admin", evidence_run="x"), quick=True)
_body("json in json", lambda t: json.dumps(_text(t)), quick=True)
_body("blanks around", lambda t: f"\r\n\t  {_text(t)}  \n")
_body("null for what is not needed", lambda t: _text(t, other=None))
_body("very long", lambda t: _text(t, padding="x" * 2_000_000))


def _stage_body(name: str, change: Callable[[dict[str, object]], dict[str, object]], *, quick: bool = False) -> None:
    BODIES.add(
        f"stage: {name}",
        lambda target: target.raw(STAGE, json.dumps(change(staged(target))).encode()),
        entered(BAD),
        quick=quick,
    )


def _camel(body: dict[str, object]) -> dict[str, object]:
    return {"archiveExistingVersions" if key.startswith("archive") else key: value for key, value in body.items()}


_stage_body("camel case", _camel, quick=True)
_stage_body("without archiving", lambda body: body | {"archive_existing_versions": False}, quick=True)
_stage_body("archiving not said", lambda body: {key: body[key] for key in ("name", "version", "stage")})
_stage_body("archiving as null", lambda body: body | {"archive_existing_versions": None})


def by_client(version: str) -> Act:
    """What everybody would do first."""
    return lambda target: target.attempt(
        lambda client: client.set_registered_model_alias(target.name, "champion", version)
    )


VERBS.add("MLflow's client", by_client(BAD), holds(BAD), quick=True)
VERBS.add("MLflow's client, never evaluated", by_client(UNKNOWN), holds(UNKNOWN), quick=True)


@VERBS.of("taken away first, then set", holds(BAD))
def _delete_then_set(target: Target) -> None:
    target.post(ALIAS, {"name": target.name, "alias": "champion"}, method="DELETE")
    target.alias()


@VERBS.of("asked for many times", holds(BAD))
def _insist(target: Target) -> None:
    for _ in range(8):
        target.alias()

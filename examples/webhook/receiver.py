"""Re-gate a model version as soon as it is created, told by MLflow's own webhook.

    export MLFLOW_TRACKING_URI=https://mlflow.example.com MLFLOW_WEBHOOK_SECRET=...
    uvicorn receiver:app --port 8080

MLflow delivers after the fact and may deliver twice, so this writes a verdict for people to see; it enforces nothing.
What enforces is the guarded server. Register it once, with the same secret:

    MlflowClient().create_webhook("regate", "https://ci.example.com/", ["model_version.created"], secret=...)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request

TARGET = os.environ.get("CALIBER_TARGET", "champion")
TOLERANCE = 300.0  # seconds by which the two clocks may differ
_logger = logging.getLogger("regate")
_seen: OrderedDict[str, None] = OrderedDict()

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


def is_genuine(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether MLflow signed this very body, not long ago."""
    delivery, stamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    if not stamp.isdigit() or abs(now - int(stamp)) > TOLERANCE:
        return False
    signed = hmac.new(secret.encode(), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(signed).decode()
    return hmac.compare_digest(wanted.encode(), headers.get("x-mlflow-signature", "").encode())


def regate(name: str, version: str) -> None:
    """Write the verdict, or say why there is none yet."""
    from mlflow_caliber.exceptions import CaliberError
    from mlflow_caliber.gate import gate_version

    try:
        decision = gate_version(name, version, TARGET, os.environ.get("CALIBER_CONFIG"))
    except CaliberError as error:  # not evaluated yet, say
        _logger.warning("Version %s of %r was not gated: %s", version, name, error)
        return
    _logger.info("Version %s of %r: %s. %s", version, name, decision.verdict, " ".join(decision.reasons))


@app.post("/")
async def receive(request: Request, later: BackgroundTasks) -> dict[str, str]:
    """Answer at once; gate afterwards, each delivery once."""
    body = await request.body()
    if not is_genuine(request.headers, body, os.environ["MLFLOW_WEBHOOK_SECRET"], time.time()):
        raise HTTPException(401, "The request must be signed by MLflow.")
    event = json.loads(body)
    delivery = request.headers["x-mlflow-delivery-id"]
    if (event.get("entity"), event.get("action")) != ("model_version", "created") or delivery in _seen:
        return {"status": "ignored"}
    _seen[delivery] = None
    while len(_seen) > 10_000:
        _seen.popitem(last=False)
    later.add_task(regate, event["data"]["name"], str(event["data"]["version"]))
    return {"status": "accepted"}

"""The live stream, as a WebSocket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect

from mlflow_caliber.exceptions import StoreError
from mlflow_caliber.server._access import SUBPROTOCOL, Caller, allow, check_still
from mlflow_caliber.server._live import Viewer, frame_text
from mlflow_caliber.server._service import service_of
from mlflow_caliber.store import Stream

router = APIRouter()

# A reader who takes nothing for so long is gone.
_PATIENCE = 20.0
_GOING_AWAY, _TRY_AGAIN, _REFUSED = 1001, 1013, 4401


@router.websocket("/live")
async def live(socket: WebSocket, model: str | None = None, version: str | None = None) -> None:
    """Frames of what the caller may see: a hello, then at least one frame a second."""
    caller = await admitted(socket)
    if caller is None:
        return

    def wants(stream: Stream) -> bool:
        return caller.sees(stream.model) and model in {None, stream.model} and version in {None, stream.version}

    viewer = Viewer(wants=wants, write=frame_text, group=("frames", caller.models, model, version))
    await socket.send_text(json.dumps({"type": "hello", "name": caller.name, "roles": list(caller.roles)}))
    await serve_viewer(socket, caller, viewer)


async def admitted(socket: WebSocket) -> Caller | None:
    """The caller, whose WebSocket is accepted; None when it is refused."""
    offered = [name.strip() for name in socket.headers.get("sec-websocket-protocol", "").split(",")]
    chosen = next((name for name in offered if name.startswith(SUBPROTOCOL)), None)
    try:
        caller = await allow("view")(socket)
    except HTTPException as error:
        # Accepted first: a browser shows the reason of a closed socket, and of a refused one nothing.
        await socket.accept(subprotocol=chosen)
        await socket.close(_REFUSED, str(error.detail)[:120])
        return None
    except StoreError:
        await socket.accept(subprotocol=chosen)
        await socket.close(_TRY_AGAIN, "The store is away or busy.")
        return None
    await socket.accept(subprotocol=chosen)
    return caller


async def serve_viewer(socket: WebSocket, caller: Caller, viewer: Viewer) -> None:
    """Send what is queued until the reader goes, is too slow, or may no longer see it."""
    service = service_of(socket)
    service.live.add(viewer)
    service.metrics.connections.inc()
    try:
        async with anyio.create_task_group() as together:

            async def until_it_ends(work: Callable[[], Awaitable[None]]) -> None:
                # A reader that is gone, too slow or no longer let in is no error: the connection ends, and that is all.
                with contextlib.suppress(WebSocketDisconnect, TimeoutError, RuntimeError, HTTPException):
                    await work()
                together.cancel_scope.cancel()

            for work in (partial(_send, socket, caller, viewer), partial(_listen, socket)):
                together.start_soon(until_it_ends, work)
    finally:
        service.live.remove(viewer)
        service.metrics.connections.dec()
    with contextlib.suppress(WebSocketDisconnect, TimeoutError, RuntimeError), anyio.fail_after(1.0):
        await socket.close(_GOING_AWAY)


async def _send(socket: WebSocket, caller: Caller, viewer: Viewer) -> None:
    while True:
        text = await viewer.queue.get()
        # Before each text: of what comes when the token is no longer believed, nothing is told.
        with contextlib.suppress(StoreError):  # a store that is away revokes nothing
            await check_still(socket, caller)
        with anyio.fail_after(_PATIENCE):
            await socket.send_text(text)
            if viewer.missed and viewer.queue.empty():
                missed, viewer.missed = viewer.missed, 0
                await socket.send_text(json.dumps({"type": "dropped", "frames": missed}))


async def _listen(socket: WebSocket) -> None:
    """Nothing that a viewer says matters but that it goes."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass

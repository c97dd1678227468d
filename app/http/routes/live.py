"""WS /v1/streams/{stream}/live: a camera sends frames, and receives a prediction for each that is not dropped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from adapters import AdapterError
from app.engine import Engine
from app.error_table import describe_error
from app.errors import AccessError, EngineClosedError, MediaTypeError, RenormError
from app.http.middleware.authentication import check_key_still_valid, check_stream_access
from app.http.middleware.body_limit import ACCOUNT, FRAMES
from app.http.middleware.observation import note
from app.http.requests.parse import PredictRequest
from app.http.responses.errors import error_response, error_to_json
from app.http.responses.predictions import predict_to_json, prepend_members
from app.http.routes.live_frames import Frame, Frames
from app.http.routes.live_opening import read_opening
from app.resources.memory import Account
from app.server_state import state_of
from app.types import Call

router = APIRouter(prefix="/v1")

REFUSED, ENDING = 1008, 1012
"""Close codes: policy violation (the connection or its key is refused) and service restart (shutdown)."""

LONGEST_REASON = 123
"""Bytes of a close frame's reason."""


@router.websocket("/streams/{stream}/live")
async def live(websocket: WebSocket) -> None:
    """Predict the frames of one connection, in order, until either side closes it.

    A binary message is one encoded image, one request and one step. One call of the engine is in flight, and at most
    ``queue`` frames wait behind it. When the client disconnects, frames that are not in a forward yet take no step.
    """
    state = state_of(websocket.app)
    try:
        engine = state.require_engine()
        opening = read_opening(websocket, state.settings, len(engine.hosted.classes))
        check_stream_access(websocket.scope, opening.call.stream)
    except (RenormError, AdapterError) as error:
        await _refuse(websocket, error)
        return
    note(websocket.scope, opening.call.stream)
    await websocket.accept()
    with _account(websocket) as account:
        # Besides these one frame may wait in the server's network code, and another may be arriving.
        largest = state.settings.max_image_bytes
        frames = Frames(opening.policy, opening.queue, account, max(0, account.room - 2 * largest), largest)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_read(websocket, frames))
                tasks.create_task(_answer(websocket, frames, engine, opening.call))
        except* WebSocketDisconnect:
            pass  # which ends both tasks


def _account(websocket: WebSocket) -> Account:
    """Return the account of the connection: the network layer's, where that has one."""
    account: Account | None = websocket.scope.get(ACCOUNT)
    return account or state_of(websocket.app).memory.open(FRAMES)


async def _read(websocket: WebSocket, frames: Frames) -> NoReturn:
    """Queue frames as they arrive; where there is no room none is read, which blocks the client's TCP."""
    while True:
        await frames.room()
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        content = message.get("bytes")
        frames.put("" if content is None else content)


async def _answer(websocket: WebSocket, frames: Frames, engine: Engine, call: Call) -> NoReturn:
    while True:
        frame = await frames.take()
        ending = None
        try:
            check_key_still_valid(websocket.scope, call.stream)
            body = await predict_to_json(websocket.scope, engine, _to_request(frame, call))
        except Exception as error:
            # An error is the response to one frame: the connection continues.
            body, ending = error_to_json(error), _ending(error)
        await _send(websocket, prepend_members(body, frame=frame.number, dropped=frames.dropped))
        if ending is not None:
            await websocket.close(*ending)
            raise WebSocketDisconnect(ending[0])


def _ending(error: Exception) -> tuple[int, str] | None:
    """Return the close code and the reason after an error that all later frames would have too; None after others."""
    if isinstance(error, EngineClosedError):
        return ENDING, "the server is shutting down"
    return (REFUSED, _reason(error.message)) if isinstance(error, AccessError) else None


def _to_request(frame: Frame, call: Call) -> PredictRequest:
    if isinstance(frame.content, RenormError):
        raise frame.content
    if isinstance(frame.content, str):
        raise MediaTypeError(
            "text messages are not supported",
            hint="send each image as one binary message; POST /v1/admin/reset resets a stream",
            location="frame",
        )
    return PredictRequest(replace(call, images=[frame.content]), "frame")


async def _send(websocket: WebSocket, body: bytes) -> None:
    try:
        await websocket.send_text(body.decode())
    except RuntimeError as error:
        # uvicorn raises it after it has closed the connection itself: for a message too large, or for silence.
        raise WebSocketDisconnect(1006) from error


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    """Send an HTTP response in place of the handshake's; where the ASGI server cannot, a close code."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(error_response(error, websocket.scope))
        return
    await websocket.accept()
    await websocket.close(REFUSED, _reason(describe_error(error).text))


def _reason(text: str) -> str:
    """Return as much of a text as fits into a close frame."""
    return text.encode()[:LONGEST_REASON].decode(errors="ignore")

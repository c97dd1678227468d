"""WS /v1/streams/{stream}/live: a camera sends frames, and gets an answer to each that was taken."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import NoReturn

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from adapters import AdapterError
from app.engine import Engine
from app.errors import AccessError, EngineClosedError, MediaTypeError, RenormError
from app.http.dependencies import the_engine, the_settings
from app.http.middleware.authentication import check_still, check_touch
from app.http.middleware.body_limit import ACCOUNT, FRAMES
from app.http.middleware.observation import note
from app.http.requests.parse import Parsed
from app.http.responses.errors import answer
from app.http.responses.live_answers import extended, failed, predicted
from app.http.routes.live_frames import Frame, Frames
from app.http.routes.live_opening import read_opening
from app.resources.memory import Account, Ledger
from app.types import Call

router = APIRouter(prefix="/v1")

REFUSED, ENDING = 1008, 1012
"""Close codes: the connection may not be as it was asked for; the server restarts or ends."""

LONGEST_REASON = 123
"""Bytes of a close frame's reason."""


@router.websocket("/streams/{stream}/live")
async def live(websocket: WebSocket) -> None:
    """Answer the frames of one connection, in order, until either side ends it.

    A binary message is one encoded image, one request and one step. One call of the engine is in flight, and at most
    ``queue`` frames wait behind it. When the client goes, what is not in a forward yet takes no step.
    """
    try:
        engine = the_engine(websocket)
        opening = read_opening(websocket, the_settings(websocket), len(engine.hosted.classes))
        check_touch(websocket.scope, opening.call.stream)
    except (RenormError, AdapterError) as error:
        await _refuse(websocket, error)
        return
    note(websocket.scope, opening.call.stream)
    await websocket.accept()
    with _account(websocket) as account:
        # Besides these one frame may wait in the server's network code, and another may be on its way in.
        largest = the_settings(websocket).max_image_bytes
        frames = Frames(opening.policy, opening.queue, account, max(0, account.room - 2 * largest), largest)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_read(websocket, frames))
                both.create_task(_answer(websocket, frames, engine, opening.call))
        except* WebSocketDisconnect:
            pass  # how both tasks end: the one that notices ends the other


def _account(websocket: WebSocket) -> Account:
    """The account of the connection: the network's own, where that keeps one."""
    account: Account | None = websocket.scope.get(ACCOUNT)
    ledger: Ledger = websocket.app.state.memory
    return account or ledger.open(FRAMES)


async def _read(websocket: WebSocket, frames: Frames) -> NoReturn:
    """Let frames wait as they come; where there is no room none is read, which holds the client's TCP up."""
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
            check_still(websocket.scope, call.stream)
            body = await predicted(websocket.scope, engine, _parsed(frame, call))
        except Exception as error:
            # One frame's failure is that frame's answer: the camera goes on.
            body, ending = failed(error), _ending(error)
        await _send(websocket, extended(body, frame=frame.number, dropped=frames.dropped))
        if ending is not None:
            await websocket.close(*ending)
            raise WebSocketDisconnect(ending[0])


def _ending(error: Exception) -> tuple[int, str] | None:
    """The close code and the reason after an error that all later frames would have too; None after others."""
    if isinstance(error, EngineClosedError):
        return ENDING, "the server is shutting down"
    return (REFUSED, _reason(error.message)) if isinstance(error, AccessError) else None


def _parsed(frame: Frame, call: Call) -> Parsed:
    if isinstance(frame.content, RenormError):
        raise frame.content
    if isinstance(frame.content, str):
        raise MediaTypeError(
            "text messages are not read here",
            hint="send each image as one binary message; POST /v1/admin/reset forgets a stream",
            location="frame",
        )
    return Parsed(replace(call, images=[frame.content]), "frame")


async def _send(websocket: WebSocket, body: bytes) -> None:
    try:
        await websocket.send_text(body.decode())
    except RuntimeError as error:
        # So says uvicorn after it has closed the connection itself: for a message too large, or for silence.
        raise WebSocketDisconnect(1006) from error


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    """An HTTP response in place of the handshake's; where the ASGI server knows no such thing, a close code."""
    response = answer(error)
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(response)
        return
    await websocket.accept()
    await websocket.close(REFUSED, _reason(json.loads(bytes(response.body))["error"]))


def _reason(text: str) -> str:
    """As much of a text as fits into a close frame."""
    return text.encode()[:LONGEST_REASON].decode(errors="ignore")

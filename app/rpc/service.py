"""The calls of the service: from the bytes of a request's message to those of its answer's. Knows no gRPC."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

from google.protobuf.message import Message
from open_inference.grpc import protocol
from starlette.datastructures import Headers, State

from app.auth.access import presented
from app.engine import Engine
from app.errors import EngineClosedError, RequestError
from app.http.dependencies import engine_of, ready_engine_of
from app.http.requests.fields import check_stream
from app.http.requests.headers import request_id, stream_of
from app.http.requests.parse import SMALL
from app.http.routes.health import DEADLINE_S
from app.http.routes.v2_infer import LARGE
from app.oip import metadata
from app.oip.infer import to_call
from app.oip.inputs import InputLimits
from app.oip.metadata import VERSION, check_model
from app.resources.memory import UNBOUNDED, Account, Ledger, bytes_of
from app.rpc.messages import Asked, parse, read_infer, write_answer
from app.types import Call

EXTENSIONS = ["classification", "parameters", "sequence", "sequence(string_id)"]
"""Those of the HTTP door that the messages of this one can express."""

TYPED = 24
"""Bytes that a byte of typed contents can become: a small number is one on the way, and an object in a list here."""


class About(NamedTuple):
    """What comes with a call: its metadata as headers, the seconds that its client still waits, who that is, and the
    account of the memory that it holds.
    """

    metadata: Headers
    remaining_s: float | None
    client: str = ""
    account: Account | None = None


Handler = Callable[[bytes, About], Awaitable[bytes]]


class Service:
    """``GRPCInferenceService`` over the engine of an application, whose ``state`` holds it."""

    def __init__(self, state: State) -> None:
        self._state = state

    def calls(self) -> dict[str, Handler]:
        """What answers each call, by the name that the protocol gives it."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }

    async def server_live(self, _: bytes, __: About) -> bytes:
        """Whether the event loop and the model thread live, also while the model is still being loaded."""
        engine = self._state.engine
        return _bytes(protocol.ServerLiveResponse(live=engine is None or engine.alive))

    async def server_ready(self, _: bytes, __: About) -> bytes:
        """Whether the model is warm and its thread has answered a ping. Changes no state."""
        return _bytes(protocol.ServerReadyResponse(ready=await self._ready_engine() is not None))

    async def model_ready(self, body: bytes, _: About) -> bytes:
        """Whether that model is the hosted one, and ready. Changes no state."""
        asked = parse(protocol.ModelReadyRequest, body)
        engine = await self._ready_engine()
        own = engine is not None and asked.name == engine.hosted.name and asked.version in {"", VERSION}
        return _bytes(protocol.ModelReadyResponse(ready=own))

    async def server_metadata(self, _: bytes, __: About) -> bytes:
        """Name and version of the server, and the protocol's extensions that it has over gRPC."""
        said = {**metadata.server_metadata(), "extensions": EXTENSIONS}
        return _bytes(protocol.ServerMetadataResponse(**said))

    async def model_metadata(self, body: bytes, _: About) -> bytes:
        """Names, datatypes and shapes of the model's inputs and outputs. -1 is a side of any length."""
        asked = parse(protocol.ModelMetadataRequest, body)
        engine = engine_of(self._state)
        check_model(engine.hosted, asked.name, asked.version)
        said = metadata.model_metadata(engine.hosted)
        said["properties"] = said.pop("parameters")
        return _bytes(protocol.ModelMetadataResponse(**said))

    async def model_infer(self, body: bytes, about: About) -> bytes:
        """Answer images of one stream, and let it learn from them: one call is one step.

        Raises:
            Exception: what `Engine.predict` raises, and what is wrong about the message.
        """
        if self._state.draining:
            # Connections are kept for long: without this, running calls would never have come to their end.
            raise EngineClosedError("the server is ending", hint="send to another one")
        engine = engine_of(self._state)
        asked, call = await self._asked(body, about, engine)
        try:
            prediction = await engine.predict(call)
        except RequestError as error:
            error.location = re.sub("^images", "inputs[0].contents", error.location)
            raise
        said = (asked, prediction, call.stream, engine.hosted)
        small = max(prediction.probabilities.numel(), len(prediction.classes) * call.top_k) <= LARGE
        return write_answer(*said) if small else await asyncio.to_thread(write_answer, *said)

    async def _asked(self, body: bytes, about: About, engine: Engine) -> tuple[Asked, Call]:
        account = about.account or Ledger(UNBOUNDED, UNBOUNDED).open("")
        is_small = len(body) <= SMALL
        account.take(2 * len(body))  # as a message, and as a tensor or files
        kind = protocol.ModelInferRequest
        message = parse(kind, body) if is_small else await asyncio.to_thread(parse, kind, body)
        if not message.raw_input_contents:
            account.take(TYPED * len(body))
        given = (message, about, engine)
        asked, call = self._read(*given) if is_small else await asyncio.to_thread(self._read, *given)
        account.set(bytes_of(call.images))
        return asked, call

    def _read(self, message: protocol.ModelInferRequest, about: About, engine: Engine) -> tuple[Asked, Call]:
        settings, hosted = self._state.settings, engine.hosted
        check_model(hosted, message.model_name, message.model_version)
        limits = InputLimits(hosted.preprocessing.input_shape, settings.max_images)
        asked = read_infer(message, limits)
        call = to_call(
            asked.infer,
            limits,
            settings.strategy,
            stream=stream_of(about.metadata),
            request_id=request_id(about.metadata),
        )
        check_stream(call.stream)
        if self._state.access.keyed:
            keys = presented(about.metadata.raw)
            self._state.access.check_stream(keys, call.stream, forgets=call.start or call.end)
        waits = [seconds for seconds in (call.timeout_s or settings.timeout, about.remaining_s) if seconds is not None]
        return asked, replace(call, timeout_s=min(waits, default=None), client=about.client)

    async def _ready_engine(self) -> Engine | None:
        try:
            return await ready_engine_of(self._state, DEADLINE_S)
        except EngineClosedError:
            return None  # that it is not ready is the answer


def _bytes(message: Message) -> bytes:
    return bytes(message.SerializeToString())

"""The calls of the service, from the bytes of a request message to those of its response. Knows no gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

from google.protobuf.message import Message
from open_inference.grpc import protocol
from starlette.datastructures import Headers

from app.auth.access import presented_keys
from app.engine import Engine
from app.errors import EngineClosedError, locate_images
from app.http.requests.fields import check_stream
from app.http.requests.headers import request_id, stream_of
from app.http.requests.parse import SMALL
from app.http.routes.health import DEADLINE_S
from app.http.routes.v2_infer import LARGE
from app.oip import metadata
from app.oip.infer import InferRequest, to_call
from app.oip.inputs import InputLimits
from app.oip.metadata import VERSION, check_model
from app.resources.memory import UNBOUNDED, Account, Ledger, bytes_of
from app.rpc.messages import parse, read_infer, write_response
from app.server_state import ServerState
from app.types import Call

EXTENSIONS = ["classification", "parameters", "sequence", "sequence(string_id)"]
"""Extensions of the HTTP door that gRPC messages can express."""

TYPED = 24
"""Bytes that a byte of typed contents can become: a small number is one byte on the wire, and an object in a list."""


class CallContext(NamedTuple):
    """Context of a call: metadata as headers, seconds that the client still waits, client's name, account of memory."""

    metadata: Headers
    remaining_s: float | None
    client: str = ""
    account: Account | None = None


Handler = Callable[[bytes, CallContext], Awaitable[bytes]]


class Service:
    """``GRPCInferenceService`` over the engine of a server, whose ``state`` holds it."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def calls(self) -> dict[str, Handler]:
        """Return the handlers by the protocol's name of their call."""
        return {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }

    async def server_live(self, _: bytes, __: CallContext) -> bytes:
        """Report that the event loop and the model thread live, also while the model is being loaded."""
        engine = self._state.engine
        return _bytes(protocol.ServerLiveResponse(live=engine is None or engine.alive))

    async def server_ready(self, _: bytes, __: CallContext) -> bytes:
        """Report whether the model is warm and its thread has answered a ping. Changes no state."""
        return _bytes(protocol.ServerReadyResponse(ready=await self._ready_engine() is not None))

    async def model_ready(self, body: bytes, _: CallContext) -> bytes:
        """Report whether that model is the hosted one and ready. Changes no state."""
        request = parse(protocol.ModelReadyRequest, body)
        engine = await self._ready_engine()
        is_hosted = engine is not None and request.name == engine.hosted.name and request.version in {"", VERSION}
        return _bytes(protocol.ModelReadyResponse(ready=is_hosted))

    async def server_metadata(self, _: bytes, __: CallContext) -> bytes:
        """Return name and version of the server, and its extensions of the protocol over gRPC."""
        fields = {**metadata.server_metadata(), "extensions": EXTENSIONS}
        return _bytes(protocol.ServerMetadataResponse(**fields))

    async def model_metadata(self, body: bytes, _: CallContext) -> bytes:
        """Return names, datatypes and shapes of the model's inputs and outputs; -1 is a dimension of any length."""
        request = parse(protocol.ModelMetadataRequest, body)
        engine = self._state.require_engine()
        check_model(engine.hosted, request.name, request.version)
        fields = metadata.model_metadata(engine.hosted)
        fields["properties"] = fields.pop("parameters")
        return _bytes(protocol.ModelMetadataResponse(**fields))

    async def model_infer(self, body: bytes, context: CallContext) -> bytes:
        """Predict images of one stream, which adapts to them: one call is one step.

        Raises:
            Exception: what `Engine.predict` raises, and what is wrong about the message.
        """
        # Connections are kept for long: a server that drains has to refuse their calls, or they would never cease.
        engine = self._state.require_serving_engine()
        request, call = await self._read_call(body, context, engine)
        with locate_images("inputs[0].contents[{}]"):
            prediction = await engine.predict(call)
        arguments = (request, prediction, call.stream, engine.hosted)
        is_small = max(prediction.probabilities.numel(), len(prediction.classes) * call.top_k) <= LARGE
        return write_response(*arguments) if is_small else await asyncio.to_thread(write_response, *arguments)

    async def _read_call(self, body: bytes, context: CallContext, engine: Engine) -> tuple[InferRequest, Call]:
        account = context.account or Ledger(UNBOUNDED, UNBOUNDED).open("")
        is_small = len(body) <= SMALL
        account.take(2 * len(body))  # as a message, and as a tensor or files
        kind = protocol.ModelInferRequest
        message = parse(kind, body) if is_small else await asyncio.to_thread(parse, kind, body)
        if not message.raw_input_contents:
            account.take(TYPED * len(body))
        arguments = (message, context, engine)
        request, call = self._read(*arguments) if is_small else await asyncio.to_thread(self._read, *arguments)
        account.set(bytes_of(call.images))
        return request, call

    def _read(
        self, message: protocol.ModelInferRequest, context: CallContext, engine: Engine
    ) -> tuple[InferRequest, Call]:
        settings, hosted = self._state.settings, engine.hosted
        check_model(hosted, message.model_name, message.model_version)
        limits = InputLimits(hosted.preprocessing.input_shape, settings.max_images)
        request = read_infer(message, limits)
        call = to_call(
            request,
            limits,
            settings.strategy,
            stream=stream_of(context.metadata),
            request_id=request_id(context.metadata),
        )
        check_stream(call.stream)
        keys = presented_keys(context.metadata.raw)
        self._state.access.check_stream(keys, call.stream, forgets=call.start or call.end)
        timeouts = [t for t in (call.timeout_s or settings.timeout, context.remaining_s) if t is not None]
        return request, replace(call, timeout_s=min(timeouts, default=None), client=context.client)

    async def _ready_engine(self) -> Engine | None:
        try:
            return await self._state.require_ready_engine(DEADLINE_S)
        except EngineClosedError:
            return None  # that it is not ready is the answer


def _bytes(message: Message) -> bytes:
    return bytes(message.SerializeToString())

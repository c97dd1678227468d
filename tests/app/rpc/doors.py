"""An application with a fake engine and a gRPC port, and a channel to it, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from open_inference.grpc import protocol

from app.rpc.messages import CONTENTS
from tests.app.fakes import Client

MODEL = "fake-net"
PIXELS: NDArray[np.uint8] = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)


class Channel:
    """Calls of a server by their names. What is refused raises `grpc.aio.AioRpcError`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def raw(
        self, name: str, body: bytes = b"", service: str = "inference.GRPCInferenceService", **said: Any
    ) -> bytes:
        return bytes(await self.channel.unary_unary(f"/{service}/{name}")(body, **said))

    async def call(self, name: str, request: Any = None, **said: Any) -> Any:
        body = b"" if request is None else request.SerializeToString()
        return getattr(protocol, f"{name}Response").FromString(await self.raw(name, body, **said))


@asynccontextmanager
async def served(client: Client) -> AsyncIterator[Channel]:
    client.state.is_draining = False  # it may have served before
    async with client.app.router.lifespan_context(client.app), connected(client) as channel:
        yield channel


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Channel]:
    """A channel to an application that is running."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{client.state.grpc_port}") as channel:
        yield Channel(channel)


def talk(client: Client, use: Callable[[Channel], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with served(client) as channel:
            return await use(channel)

    return asyncio.run(run())


def refused(client: Client, name: str, request: Any = None, **said: Any) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Code, text and trailing metadata of the error that a call is answered with."""

    async def use(channel: Channel) -> grpc.aio.AioRpcError:
        try:
            await (
                channel.raw(name, request, **said)
                if isinstance(request, bytes)
                else channel.call(name, request, **said)
            )
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("it was answered")

    error = talk(client, use)
    return error.code(), error.details(), dict(error.trailing_metadata())


def parameter(value: str | bool | int | float) -> protocol.InferParameter:
    kinds = {str: "string_param", bool: "bool_param", int: "int64_param", float: "double_param"}
    message = protocol.InferParameter()
    setattr(message, kinds[type(value)], value)
    return message


def ask(
    values: NDArray[Any] = PIXELS, datatype: str = "UINT8", *, raw: bool = True, **parameters: Any
) -> protocol.ModelInferRequest:
    """A request with one input."""
    request = protocol.ModelInferRequest(
        model_name=MODEL, parameters={name: parameter(value) for name, value in parameters.items()}
    )
    one = request.inputs.add(name="input", datatype=datatype, shape=values.shape)
    if raw:
        request.raw_input_contents.append(values.tobytes())
    else:
        getattr(one.contents, CONTENTS[datatype]).extend(values.ravel().tolist())
    return request


def values_of(parameters: Mapping[str, protocol.InferParameter]) -> dict[str, Any]:
    return {name: getattr(value, str(value.WhichOneof("parameter_choice"))) for name, value in parameters.items()}

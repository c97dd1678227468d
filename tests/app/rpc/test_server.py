"""The service as it is on the wire, in front of a fake engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from open_inference.grpc import protocol

from adapters import ParameterError
from app.auth.keys import new_key, write_keys
from app.error_table import TABLE
from app.errors import (
    BusyError,
    DeadlineError,
    EngineClosedError,
    ImageError,
    StreamBusyError,
    TooLargeError,
    UnanswerableError,
)
from app.rpc.errors import CODES
from app.rpc.service import Service
from app.server_state import ServerState
from app.settings import Settings
from tests.app.fakes import Client
from tests.app.rpc.doors import MODEL, PIXELS, Channel, ask, refused, talk, values_of

Code = grpc.StatusCode


def test_every_call_of_the_definitions_is_there() -> None:
    (service,) = protocol.DESCRIPTOR.services_by_name.values()
    assert set(Service(ServerState(Settings())).calls()) == {method.name for method in service.methods}
    assert service.full_name == "inference.GRPCInferenceService"


def test_every_status_of_the_http_door_has_a_code() -> None:
    assert {row.status for row in TABLE.values()} | {500} <= set(CODES)


def test_liveness_and_readiness() -> None:
    async def use(channel: Channel) -> list[Any]:
        names = [("fake-net", ""), ("fake-net", "1"), ("fake-net", "2"), ("other", "")]
        models = [protocol.ModelReadyRequest(name=name, version=version) for name, version in names]
        return [
            (await channel.call("ServerLive")).live,
            (await channel.call("ServerReady")).ready,
            *[(await channel.call("ModelReady", model)).ready for model in models],
        ]

    assert talk(Client(grpc_port=0), use) == [True, True, True, True, False, False]
    slow, dead = Client(grpc_port=0), Client(grpc_port=0)
    slow.engine.ready = dead.engine.ready = dead.engine.living = False
    assert talk(slow, use) == [True, False, False, False, False, False]
    assert talk(dead, use)[:2] == [False, False]
    assert not slow.engine.calls


def test_while_it_opens_and_while_it_ends() -> None:
    client = Client(grpc_port=0)

    async def look(channel: Channel) -> tuple[bool, bool, str]:
        live, ready = await channel.call("ServerLive"), await channel.call("ServerReady")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.call("ModelInfer", ask())
        assert caught.value.code() is Code.UNAVAILABLE
        return live.live, ready.ready, caught.value.details()

    async def use(channel: Channel) -> None:
        state = client.state
        engine, state.engine = state.engine, None
        assert await look(channel) == (
            True,
            False,
            "the server is starting or shutting down; try again, or wait for /readyz",
        )
        state.engine, state.is_draining = engine, True
        assert await look(channel) == (True, False, "the server is shutting down; send the request to another server")

    talk(client, use)
    assert not client.engine.calls


def test_metadata() -> None:
    async def use(channel: Channel) -> list[Any]:
        asked = protocol.ModelMetadataRequest(name=MODEL, version="1")
        return [await channel.call("ServerMetadata"), await channel.call("ModelMetadata", asked)]

    server, model = talk(Client(grpc_port=0), use)
    assert (server.name, "sequence" in server.extensions) == ("renorm", True)
    assert set(server.extensions) < set(Client().get("/v2").json()["extensions"])
    said = Client().get(f"/v2/models/{MODEL}").json()
    assert (model.name, list(model.versions), model.platform) == (said["name"], said["versions"], said["platform"])
    for ours, theirs in ((model.inputs, said["inputs"]), (model.outputs, said["outputs"])):
        assert [{"name": x.name, "datatype": x.datatype, "shape": list(x.shape)} for x in ours] == theirs
    assert dict(model.properties) == said["parameters"]


def test_a_request_becomes_a_call() -> None:
    client = Client(grpc_port=0)
    said: dict[str, Any] = {"sequence_id": 7, "sequence_start": True, "sequence_end": True, "renorm_strategy": "adabn"}
    more: dict[str, Any] = {"renorm_momentum": 0.5, "renorm_update": False, "timeout": 2_000_000}
    metadata = (("x-stream-id", "by-header"), ("idempotency-key", "k"))
    answer = talk(client, lambda channel: channel.call("ModelInfer", ask(**said, **more), metadata=metadata))
    (call,) = client.engine.calls
    assert isinstance(call.images, torch.Tensor)
    assert np.array_equal(call.images.numpy(), PIXELS)
    assert (call.stream, call.start, call.end, call.strategy, call.update) == ("7", True, True, "adabn", False)
    assert (call.params, call.timeout_s, call.request_id) == ({"momentum": 0.5}, 2.0, "k")
    assert values_of(answer.parameters)["renorm_stream"] == "7"
    assert answer.raw_output_contents


def test_the_stream_may_be_in_the_metadata() -> None:
    client = Client(grpc_port=0)
    talk(client, lambda channel: channel.call("ModelInfer", ask(), metadata=(("x-session-id", "camera-7"),)))
    assert client.engine.calls[0].stream == "camera-7"


def test_the_shortest_wait_counts() -> None:
    client = Client(grpc_port=0, timeout=20.0)

    async def use(channel: Channel) -> None:
        await channel.call("ModelInfer", ask())
        await channel.call("ModelInfer", ask(timeout=3_000_000), timeout=60)
        await channel.call("ModelInfer", ask(timeout=3_000_000), timeout=2)

    talk(client, use)
    waits = [call.timeout_s for call in client.engine.calls]
    assert waits[:2] == [20.0, 3.0]
    assert waits[2] == pytest.approx(2.0, abs=0.2)


def test_large_messages_are_read_and_written_in_threads() -> None:
    client = Client(grpc_port=0)
    client.engine.probabilities = [1 / 30_000] * 30_000
    request = ask(np.zeros((1, 200, 200, 3), np.uint8))
    request.outputs.add(name="probabilities")
    answer = talk(client, lambda channel: channel.call("ModelInfer", request))
    assert len(answer.raw_output_contents[0]) == 4 * 30_000


@pytest.mark.parametrize(
    ("error", "code", "more"),
    [
        (ImageError("no image", hint="send one", image=1), Code.INVALID_ARGUMENT, "unreadable_image"),
        (TooLargeError("too many"), Code.RESOURCE_EXHAUSTED, "too_large"),
        (ParameterError("momentum must be in 0 to 1"), Code.INVALID_ARGUMENT, "invalid_parameter"),
        (UnanswerableError("not finite"), Code.INVALID_ARGUMENT, "not_finite"),
        (BusyError("full", retry_after_s=2.5), Code.UNAVAILABLE, "busy"),
        (StreamBusyError("full"), Code.RESOURCE_EXHAUSTED, "stream_busy"),
        (DeadlineError("late"), Code.DEADLINE_EXCEEDED, "deadline"),
        (EngineClosedError("closing"), Code.UNAVAILABLE, "unavailable"),
        (RuntimeError("secret"), Code.INTERNAL, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_has_its_code_and_the_text_that_it_has_over_http(
    error: Exception, code: grpc.StatusCode, more: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(grpc_port=0)
    client.engine.failure = error
    found, text, about = refused(client, "ModelInfer", ask())
    over_http = Client()
    over_http.engine.failure = error
    body = {"inputs": [{"name": "i", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]}]}
    said = over_http.post(f"/v2/models/{MODEL}/infer", json=body)
    assert (found, text, about["renorm-code"]) == (code, said.json()["error"], more)
    assert about.get("retry-after") == said.headers.get("retry-after")
    assert "secret" not in text
    logged = [record for record in caplog.records if record.message == "a gRPC call failed"]
    assert len(logged) == (code is Code.INTERNAL)


def test_an_error_says_where() -> None:
    client = Client(grpc_port=0)
    client.engine.failure = ImageError("no image", image=1)
    assert refused(client, "ModelInfer", ask())[2]["renorm-where"] == "inputs[0].contents[1]"
    odd: dict[str, Any] = {"renorm_\n\u00e9": 1}
    assert refused(client, "ModelInfer", ask(**odd))[2]["renorm-where"] == r"parameters.renorm_\n\xe9"


def test_wrong_request_does_not_reach_the_engine() -> None:
    client = Client(grpc_port=0, max_images=1)
    other = ask()
    other.model_name = "other"
    for name, request, code, says in (
        ("ModelInfer", other, Code.NOT_FOUND, "model 'other' is not hosted"),
        ("ModelInfer", ask(), Code.RESOURCE_EXHAUSTED, "at most 1"),
        ("ModelInfer", ask(PIXELS[:1], sequence_id="a/b"), Code.INVALID_ARGUMENT, "without '/'"),
        ("ModelInfer", b"\xff\xff", Code.INVALID_ARGUMENT, "not a valid ModelInferRequest"),
        ("ModelReady", b"\xff\xff", Code.INVALID_ARGUMENT, "not a valid ModelReadyRequest"),
        ("ModelMetadata", protocol.ModelMetadataRequest(name=MODEL, version="2"), Code.NOT_FOUND, "no version '2'"),
    ):
        found, text, _ = refused(client, name, request)
        assert (found, says in text) == (code, True), text
    assert not client.engine.calls


@pytest.mark.parametrize("name", ["ModelConfig", "RepositoryIndex", "ModelStreamInfer"])
def test_unknown_methods_are_unimplemented(name: str) -> None:
    code, text, about = refused(Client(grpc_port=0), name, b"")
    assert (code, about["renorm-code"]) == (Code.UNIMPLEMENTED, "unsupported")
    assert text.startswith(f"service 'inference.GRPCInferenceService' has no method '{name}'; inference.GRPCInf")
    assert text.endswith(" has ModelInfer, ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady")


def test_a_stream_of_requests_is_refused_the_same_way() -> None:
    async def use(channel: Channel) -> str:
        call = channel.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(iter([b""]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        return str(caught.value.details())

    assert talk(Client(grpc_port=0), use).startswith(
        "service 'inference.GRPCInferenceService' has no method 'ModelStreamInfer'"
    )


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_have_a_limit_before_and_after_compression(compression: grpc.Compression) -> None:
    client = Client(grpc_port=0, max_body_bytes=100_000)
    request = ask(np.zeros((1, 300, 300, 3), np.uint8))
    assert refused(client, "ModelInfer", request, compression=compression)[0] is Code.RESOURCE_EXHAUSTED
    assert not client.engine.calls
    talk(client, lambda channel: channel.call("ModelInfer", ask(), compression=compression))


def test_keys(tmp_path: Path) -> None:
    secret, key = new_key("reader", ["infer"])
    write_keys(tmp_path / "keys.toml", [key])
    client = Client(grpc_port=0, keys=tmp_path / "keys.toml")
    code, text, about = refused(client, "ModelInfer", ask())
    assert (code, about["renorm-code"]) == (Code.UNAUTHENTICATED, "missing_key")
    assert text == Client(keys=tmp_path / "keys.toml").get("/v2").json()["error"]
    for name in ("ServerMetadata", "ModelReady", "ModelMetadata", "Else"):
        assert refused(client, name, b"\xff")[0] is Code.UNAUTHENTICATED
    wrong = (("authorization", "Bearer wrong"),)
    assert refused(client, "ModelInfer", ask(), metadata=wrong)[:2] == (
        Code.PERMISSION_DENIED,
        "the API key is not valid; send one that `renorm key new` printed, or RENORM_ADMIN_KEY",
    )
    assert not client.engine.calls

    async def use(channel: Channel) -> None:
        for metadata in ((("authorization", f"Bearer {secret}"),), (("x-api-key", secret),)):
            await channel.call("ModelInfer", ask(), metadata=metadata)
        assert (await channel.call("ServerLive")).live
        assert (await channel.call("ServerReady")).ready

    talk(client, use)
    assert len(client.engine.calls) == 2


def test_a_fault_before_the_call_leaks_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(grpc_port=0, admin_key="twelve chars")

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(client.state.access, "check", fail)
    code, text, _ = refused(client, "ModelInfer", ask())
    assert (code, text) == (Code.INTERNAL, "internal error; see the server's log")
    assert "a gRPC call failed" in caplog.messages
    assert not client.engine.calls


@pytest.mark.parametrize("keyed", [False, True], ids=["by address", "by key"])
def test_the_engine_is_told_who_calls_in_the_words_of_the_http_door(keyed: bool, tmp_path: Path) -> None:
    secret, key = new_key("shop", ["infer"])
    write_keys(tmp_path / "keys.toml", [key])
    client = Client(grpc_port=0, keys=tmp_path / "keys.toml") if keyed else Client(grpc_port=0)

    async def use(channel: Channel) -> None:
        await channel.call("ModelInfer", ask(), metadata=(("authorization", f"Bearer {secret}"),))

    talk(client, use)
    assert [call.client for call in client.engine.calls] == ["key 'shop'" if keyed else "address 127.0.0.1"]


@pytest.mark.parametrize(("length", "passes"), [(20_000, True), (100_000, False)], ids=["large", "too-large"])
def test_metadata_is_bounded_as_heads_are(length: int, passes: bool) -> None:
    async def use(channel: Channel) -> Any:
        return (await channel.call("ServerLive", metadata=(("x", "a" * length),))).live

    if passes:
        assert talk(Client(grpc_port=0), use)
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        talk(Client(grpc_port=0), use)
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED

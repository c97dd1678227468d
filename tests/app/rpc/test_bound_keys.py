"""Keys that are bound to streams, over gRPC: the same rules as over HTTP, and what is refused reaches no engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.app.rpc.doors import PIXELS, ask, refused, talk
from tests.app.tenants import FOREIGN, OWN, tenants

Code = grpc.StatusCode
LARGE = np.zeros((1, 300, 300, 3), np.uint8)  # which is read in a thread


def test_each_key_predicts_for_the_streams_that_it_is_for(tmp_path: Path) -> None:
    here = tenants(tmp_path, grpc_port=0)
    may = [("all", OWN), ("all", FOREIGN), ("a", FOREIGN), ("b", OWN), ("b-admin", OWN), ("admin", FOREIGN)]

    async def use(channel: Any) -> None:
        for key, stream in may:
            await channel.call("ModelInfer", ask(sequence_id=stream), metadata=here.metadata(key))

    talk(here.client, use)
    assert [(call.client, call.stream) for call in here.client.engine.calls] == [
        (f"key {key!r}", stream) for key, stream in may
    ]


@pytest.mark.parametrize("pixels", [PIXELS, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("key", "stream"), [("a", OWN), ("b", FOREIGN), ("b-admin", FOREIGN), ("b", "tenant-b"), ("b", "Tenant-b-1")]
)
@pytest.mark.parametrize("place", ["sequence_id", "renorm_stream", "x-stream-id", "x-session-id"])
def test_other_streams_are_refused_wherever_they_are_named(
    place: str, key: str, stream: str, pixels: Any, tmp_path: Path
) -> None:
    here = tenants(tmp_path, grpc_port=0)
    metadata = here.metadata(key)
    if place.startswith("x-"):
        request, metadata = ask(pixels), (*metadata, (place, stream))
    else:
        named: dict[str, Any] = {place: stream}
        request = ask(pixels, **named)
    code, text, about = refused(here.client, "ModelInfer", request, metadata=metadata)
    assert (code, about["renorm-code"]) == (Code.PERMISSION_DENIED, "forbidden")
    assert text == f"key '{key}' is not for stream '{stream}'; send a key for this stream or for all"
    assert not here.client.engine.calls


@pytest.mark.parametrize("said", [{}, {"sequence_id": 7}, {"sequence_id": ""}, {"sequence_id": 0}], ids=str)
def test_without_a_stream_of_its_own_a_bound_key_predicts_nothing(said: dict[str, Any], tmp_path: Path) -> None:
    here = tenants(tmp_path, grpc_port=0)
    code, text, _ = refused(here.client, "ModelInfer", ask(**said), metadata=here.metadata("b"))
    assert code in {Code.PERMISSION_DENIED, Code.INVALID_ARGUMENT}, text
    assert not here.client.engine.calls


@pytest.mark.parametrize("flag", ["sequence_start", "sequence_end"])
@pytest.mark.parametrize(
    ("key", "stream", "may"),
    [
        ("all", OWN, False),
        ("all", FOREIGN, False),
        ("a", FOREIGN, True),
        ("b", OWN, True),
        ("b", FOREIGN, False),
        ("b-admin", FOREIGN, False),
        ("b-admin", OWN, True),
        ("admin", FOREIGN, True),
    ],
)
def test_sequences_begin_and_end_for_who_may_forget_them(
    key: str, stream: str, may: bool, flag: str, tmp_path: Path
) -> None:
    here = tenants(tmp_path, grpc_port=0)
    said: dict[str, Any] = {"sequence_id": stream, flag: True}
    request, metadata = ask(**said), here.metadata(key)
    if may:
        talk(here.client, lambda channel: channel.call("ModelInfer", request, metadata=metadata))
        (call,) = here.client.engine.calls
        assert (call.stream, call.start, call.end) == (stream, flag == "sequence_start", flag == "sequence_end")
        return
    code, text, about = refused(here.client, "ModelInfer", request, metadata=metadata)
    assert (code, about["renorm-code"]) == (Code.PERMISSION_DENIED, "forbidden")
    assert ("may not reset" if key == "all" else "is not for stream") in text
    assert not here.client.engine.calls


def test_flags_that_are_not_set_forget_nothing(tmp_path: Path) -> None:
    here = tenants(tmp_path, grpc_port=0)
    request = ask(sequence_id=OWN, sequence_start=False, sequence_end=False)
    talk(here.client, lambda channel: channel.call("ModelInfer", request, metadata=here.metadata("all")))
    assert [call.stream for call in here.client.engine.calls] == [OWN]


def test_one_key_has_to_do_for_the_stream_and_for_forgetting(tmp_path: Path) -> None:
    here = tenants(tmp_path, grpc_port=0)
    both = (*here.metadata("b"), ("authorization", f"Bearer {here.keys['all']}"))
    code, text, _ = refused(here.client, "ModelInfer", ask(sequence_id=FOREIGN, sequence_start=True), metadata=both)
    assert (code, "may not reset" in text) == (Code.PERMISSION_DENIED, True)
    assert not here.client.engine.calls
    talk(here.client, lambda channel: channel.call("ModelInfer", ask(sequence_id=FOREIGN), metadata=both))

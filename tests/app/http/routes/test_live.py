"""The live door against an engine that can be held up."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import cast

import pytest

from app.engine import Engine
from app.errors import EngineClosedError, ImageError, StreamBusyError
from app.http.routes.live_frames import Policy
from app.schemas import PredictResponse
from app.types import Call
from tests.app.fakes import Client
from tests.app.http.cameras import PATH, Camera, Held, play, settled


def test_frames_are_answered_in_order_like_requests() -> None:
    async def scene(client: Client) -> None:
        query = "strategy=bn&update=false&top_k=2&params=%7B%7D"
        async with Camera(client, f"{PATH}?{query}") as camera:
            await camera.opened()
            camera.send(b"one", b"two", b"three")
            answers = await camera.answers(3)
        assert [(answer.pop("frame"), answer.pop("dropped")) for answer in answers] == [(0, 0), (1, 0), (2, 0)]
        assert [answer["step"] for answer in answers] == [1, 2, 3]
        for answer in answers:
            assert PredictResponse.model_validate(answer).stream == "camera-7"
            assert set(answer) == set(PredictResponse.model_fields) - {"explanation"}
        calls = client.engine.calls
        assert [call.images for call in calls] == [[b"one"], [b"two"], [b"three"]]
        assert calls[0] == Call([b"one"], "camera-7", "bn", {}, False, 2)

    play(scene)


@pytest.mark.parametrize(
    ("frame", "failure", "code", "location"),
    [
        (b"", ImageError("0 bytes", image=0), "unreadable_image", "frame"),
        (b"x", StreamBusyError("too many wait"), "stream_busy", "stream"),
        ("hello", None, "unsupported_media_type", "frame"),
        ('{"reset": true}', None, "unsupported_media_type", "frame"),
        ("", None, "unsupported_media_type", "frame"),
    ],
)
def test_a_frame_that_fails_is_answered_and_the_next_one_too(
    frame: bytes | str, failure: Exception | None, code: str, location: str
) -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, PATH) as camera:
            await camera.opened()
            client.engine.failure = failure
            camera.send(frame)
            (bad,) = await camera.answers(1)
            client.engine.failure = None
            camera.send(b"good")
            (good,) = await camera.answers(1)
        assert (bad["frame"], bad["dropped"], bad["code"], bad["where"]) == (0, 0, code, location)
        assert set(bad) == {"frame", "dropped", "error", "code", "where"}
        assert (good["frame"], good["stream"]) == (1, "camera-7")
        assert client.engine.calls[-1].images == [b"good"]

    play(scene)


def test_the_answer_to_text_says_what_to_do() -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, PATH) as camera:
            await camera.opened()
            camera.send('{"reset": true}')
            (answer,) = await camera.answers(1)
        assert "binary message" in answer["error"]
        assert "POST /v1/admin/reset" in answer["error"]
        assert client.engine.calls == []

    play(scene)


def test_our_own_fault_is_logged_and_told_without_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, PATH) as camera:
            await camera.opened()
            client.engine.failure = ZeroDivisionError("a secret")
            camera.send(b"x")
            (bad,) = await camera.answers(1)
            client.engine.failure = None
            camera.send(b"y")
            (good,) = await camera.answers(1)
        assert (bad["code"], bad["frame"], good["frame"]) == ("internal", 0, 1)
        assert "secret" not in json.dumps(bad)

    play(scene)
    assert "a secret" in caplog.text


def test_an_engine_that_closes_ends_the_connection() -> None:
    async def scene(client: Client) -> None:
        client.engine.failure = EngineClosedError("the engine is closed")
        async with Camera(client, PATH) as camera:
            await camera.opened()
            camera.send(b"x")
            (answer,) = await camera.answers(1)
            closed = await camera.message()
            await asyncio.wait_for(camera.task, 5)
        assert answer["code"] == "unavailable"
        assert (closed["type"], closed["code"]) == ("websocket.close", 1012)

    play(scene)


KEPT: dict[Policy, list[int]] = {
    "wait": [0, 1, 2, 3, 4, 5],
    "drop_oldest": [0, 4, 5],
    "drop_latest": [0, 1, 2],
}


@pytest.mark.parametrize("policy", KEPT)
@pytest.mark.parametrize("slow", ["engine", "client"])
def test_policy_decides_about_frames_faster_than_answers(policy: Policy, slow: str) -> None:
    async def scene(client: Client) -> None:
        client.engine = engine = Held(client.settings)
        client.state.engine = cast(Engine, engine)
        if slow == "client":
            engine.gate.set()
        async with Camera(client, f"{PATH}?policy={policy}&queue=2") as camera:
            await camera.opened()
            if slow == "client":
                camera.reading.clear()
            camera.send(b"0")
            await settled()
            camera.send(*(str(i).encode() for i in range(1, 6)))
            await settled()
            # One is in the engine or on its way out and two wait; only a camera that waits is not read on.
            assert camera.sent.qsize() == (3 if policy == "wait" else 0)
            engine.gate.set()
            camera.reading.set()
            answers = await camera.answers(len(KEPT[policy]))
            await settled()
            assert camera.got.empty()
        assert [answer["frame"] for answer in answers] == KEPT[policy]
        assert [call.images for call in engine.calls] == [[str(i).encode()] for i in KEPT[policy]]
        assert [answer["step"] for answer in answers] == list(range(1, len(answers) + 1))
        assert answers[-1]["dropped"] == 6 - len(answers)

    play(scene)


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1012])
def test_waiting_frames_take_no_step_after_either_side_is_gone(code: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(client: Client) -> None:
        client.engine = engine = Held(client.settings)
        client.state.engine = cast(Engine, engine)
        async with Camera(client, PATH) as camera:
            await camera.opened()
            camera.send(b"0", b"1", b"2")
            await settled()
            camera.vanish(code)
            await asyncio.wait_for(camera.task, 5)
        assert (engine.called_off, engine.calls) == (1, [])
        assert camera.got.empty()

    with caplog.at_level(logging.WARNING):
        play(scene)
    assert caplog.records == []


@pytest.mark.parametrize("broken", [OSError("gone"), RuntimeError("after sending 'websocket.close'")])
def test_a_connection_that_breaks_while_an_answer_is_sent_ends_quietly(
    broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(client: Client) -> None:
        async with Camera(client, PATH) as camera:
            await camera.opened()
            camera.broken = broken
            camera.send(b"0", b"1", b"2")
            await asyncio.wait_for(camera.task, 5)
        assert len(client.engine.calls) == 1

    with caplog.at_level(logging.WARNING):
        play(scene)
    assert caplog.records == []

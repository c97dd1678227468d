import asyncio

import httpx
import pytest

from app.errors import EngineClosedError
from tests.app.fakes import Client, refusal


def test_healthz_answers_without_the_engine() -> None:
    client = Client()
    client.engine.failure = RuntimeError("the engine is broken")
    for one, status in ((client, "ok"), (Client(started=False), "starting")):
        response = one.get("/healthz")
        assert (response.status_code, response.json()) == (200, {"status": status})


def test_healthz_when_the_model_thread_is_gone() -> None:
    client = Client()
    client.engine.living = False
    assert "restart the server" in refusal(client.get("/healthz"), 503, "unavailable")


def test_probes_say_why_an_engine_was_given_up() -> None:
    client = Client()
    reason = "engine 1 ended 5 times without an answer"
    client.engine.living = False
    client.engine.reason = reason
    assert reason in refusal(client.get("/healthz"), 503, "unavailable")
    response = client.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert reason in response.json()["error"]


def test_readyz_when_the_server_drains() -> None:
    client = Client()

    async def exchange() -> httpx.Response:
        async with client.app.router.lifespan_context(client.app):
            client.state.is_draining = True
            transport = httpx.ASGITransport(app=client.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as to:
                return await to.get("/readyz")

    response = asyncio.run(exchange())
    assert (response.status_code, response.json()["ready"]) == (503, False)
    assert "the server is shutting down" in response.json()["error"]


def test_readyz_asks_the_model_thread() -> None:
    client = Client()
    response = client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "model": "fake-net"})
    assert client.engine.deadlines == [5.0]


def test_readyz_when_the_model_thread_hangs() -> None:
    client = Client()
    client.engine.ready = False
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ready"] is False
    assert response.json()["code"] == "unavailable"
    assert "within 5 s" in response.json()["error"]


@pytest.mark.parametrize("started", [True, False])
def test_readyz_when_the_engine_is_closed(started: bool) -> None:
    client = Client(started=started)
    client.engine.failure = EngineClosedError("closed", hint="restart")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["ready"] is False
    assert response.json()["error"] == (
        "closed; restart" if started else "the server is starting or shutting down; try again, or wait for /readyz"
    )

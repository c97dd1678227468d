"""Every call has an id and is timed under its route."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import pytest

from app.http.middleware.observation import Observation, note
from app.observability.logs import REQUEST_ID, JsonLines
from app.observability.metrics import Metrics
from app.types import Timing
from tests.app.fakes import Client, FakeEngine, refusal

MADE = re.compile(r"[0-9a-f]{32}")
TIMING = Timing(1.0, 0.5, 2.0, 3.5)


def counted(client: Client) -> dict[tuple[str, str, str], float]:
    """Calls so far by route, method and class of status."""
    return counts(client.state.metrics)


def counts(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    samples = [sample for family in asyncio.run(metrics.look(None)).collect() for sample in family.samples]
    return {
        (one.labels["route"], one.labels["method"], one.labels["status"]): one.value
        for one in samples
        if one.name == "renorm_request_seconds_count"
    }


@pytest.mark.parametrize("given", ["abc", "a.b-c_D9", "x" * 128])
def test_a_sane_id_is_kept(given: str) -> None:
    assert Client().get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "a\tb", "Küche", "a;b", "<b>"])
def test_any_other_id_is_replaced(given: str) -> None:
    answered = Client().get("/healthz", headers={"X-Request-Id": given.encode()}).headers["x-request-id"]
    assert MADE.fullmatch(answered)


def test_ids_differ() -> None:
    client = Client()
    assert len({client.get("/healthz").headers["x-request-id"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("PUT", "/v1/predict", 405), ("POST", "/v1/predict", 422), ("GET", "/", 307)],
)
def test_refusals_have_an_id_too(method: str, path: str, status: int) -> None:
    response = Client().request(method, path, headers={"X-Request-Id": "mine"})
    assert (response.status_code, response.headers["x-request-id"]) == (status, "mine")


def test_refusal_of_middleware_has_an_id_and_its_route() -> None:
    client = Client(max_body_bytes=10)
    response = client.post("/v1/predict", content=b"x" * 11, headers={"X-Request-Id": "mine"})
    refusal(response, 413, "too_large", "body")
    assert response.headers["x-request-id"] == "mine"
    assert counted(client) == {("/v1/predict", "POST", "4xx"): 1}


def test_a_call_without_its_key_has_an_id_and_its_route() -> None:
    client = Client(admin_key="a-long-secret")
    response = client.get("/v1/streams/camera-7", headers={"X-Request-Id": "mine"})
    refusal(response, 401, "missing_key")
    assert response.headers["x-request-id"] == "mine"
    assert counted(client) == {("/v1/streams/{stream}", "GET", "4xx"): 1}


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v1/streams/camera-7", "/v1/streams/{stream}"),
        ("GET", "/v1/streams/camera-8", "/v1/streams/{stream}"),
        ("PUT", "/v1/streams/camera-7", "/v1/streams/{stream}"),
        ("GET", "/v1/streams", "/v1/streams"),
        ("GET", "/healthz", "/healthz"),
        ("GET", "/nowhere/at/all", "other"),
        ("GET", "/v1/predict/more", "other"),
        ("GET", "/openapi.json", "/openapi.json"),
    ],
)
def test_routes_are_templates(method: str, path: str, route: str) -> None:
    client = Client()
    client.request(method, path)
    assert [known for known, _, _ in counted(client)] == [route]


def test_made_up_methods_and_paths_are_few_series() -> None:
    client = Client()
    for i in range(5):
        client.request(f"BREW{i}", f"/coffee/{i}")
    assert counted(client) == {("other", "other", "4xx"): 5}


def test_lines_of_the_engine_within_a_request_carry_its_id() -> None:
    ids: list[str] = []

    class Logging(FakeEngine):
        def streams(self) -> Any:
            ids.append(json.loads(JsonLines().format(logging.makeLogRecord({"msg": "x"})))["request_id"])
            return super().streams()

    client = Client()
    client.engine.__class__ = Logging
    client.get("/v1/streams", headers={"X-Request-Id": "mine"})
    assert ids == ["mine"]
    assert REQUEST_ID.get() == ""


def test_other_scopes_pass_untouched() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    asyncio.run(Observation(app, Metrics())({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == [{"type": "lifespan"}]


def test_a_door_may_be_called_without_the_middleware() -> None:
    scope: dict[str, Any] = {"type": "http"}
    note(scope, "camera-7", TIMING)
    assert scope == {"type": "http"}

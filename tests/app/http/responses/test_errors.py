import logging

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from adapters import CombinationError, InputError, ParameterError, UnknownStrategyError, UnsupportedModelError
from app import errors as tree
from app.errors import (
    AccessError,
    EngineClosedError,
    ImageError,
    MissingPackageError,
    ModelError,
    RenormError,
    RequestError,
)
from app.http.responses.errors import LONGEST, TABLE, answer, wire
from tests.app.fakes import Client, refusal


def test_every_error_that_a_request_can_meet_is_in_the_table() -> None:
    types = [kind for kind in vars(tree).values() if isinstance(kind, type) and issubclass(kind, RenormError)]
    leaves = {kind for kind in types if kind not in (RenormError, RequestError, ModelError, MissingPackageError)}
    assert leaves <= set(TABLE)


def test_no_two_rows_say_the_same_except_of_fields() -> None:
    codes = [row.code for row in TABLE.values()]
    assert sorted({code for code in codes if codes.count(code) > 1}) == ["invalid_field"]


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (ImageError("m", hint="h", location="w"), 422, {"error": "m; h", "code": "unreadable_image", "where": "w"}),
        (ImageError("m"), 422, {"error": "m", "code": "unreadable_image"}),
        (AccessError("m"), 403, {"error": "m", "code": "forbidden"}),
        (UnknownStrategyError("m"), 422, {"error": "m", "code": "unknown_strategy", "where": "strategy"}),
        (ParameterError("m"), 422, {"error": "m", "code": "invalid_parameter", "where": "params"}),
        (CombinationError("m"), 422, {"error": "m", "code": "invalid_strategy", "where": "strategy"}),
        (UnsupportedModelError("m"), 422, {"error": "m", "code": "unsupported_strategy", "where": "strategy"}),
        (ClientDisconnect(), 400, {"error": "ClientDisconnect", "code": "client_disconnected"}),
    ],
)
def test_shape(error: Exception, status: int, body: dict[str, str]) -> None:
    response = answer(error)
    assert response.status_code == status
    assert response.body == answer(error).render(body)


def test_validation_errors_have_the_shape_too() -> None:
    error = RequestValidationError([{"loc": ("query", "n"), "msg": "must be an integer", "type": "int", "input": "x"}])
    response = answer(error)
    assert response.status_code == 422
    assert b"query.n: must be an integer" in response.body


def test_headers_of_errors() -> None:
    assert answer(tree.MissingKeyError("m")).headers["www-authenticate"] == "Bearer"
    assert answer(EngineClosedError("m")).headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [RuntimeError("the secret"), ModelError("the secret"), InputError("the secret")])
def test_other_errors_leak_nothing(error: Exception) -> None:
    client = Client()
    client.engine.failure = error
    for response in (client.predict(b"x"), client.get("/v1/streams"), client.get("/readyz")):
        assert "secret" not in refusal(response, 500, "internal")


def test_other_errors_are_raised_to_the_server_for_its_log(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    import httpx

    client = Client()
    client.engine.failure = RuntimeError("the cause")

    async def exchange() -> None:
        async with client.app.router.lifespan_context(client.app):
            transport = httpx.ASGITransport(app=client.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                await http.get("/v1/model")

    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="the cause"):
        asyncio.run(exchange())


def test_unknown_paths_and_methods() -> None:
    client = Client()
    said = refusal(client.get("/v2/predict"), 404, "not_found")
    assert "GET /v2/predict" in said
    assert "/docs" in said
    response = client.get("/v1/predict")
    assert "use POST" in refusal(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    both = client.request("OPTIONS", "/v1/streams/a")
    assert (both.status_code, both.headers["allow"]) == (405, "DELETE, GET")
    refusal(client.request("DELETE", "/v1/streams"), 405, "method_not_allowed")


def test_before_the_engine_is_open_every_door_that_needs_it_is_unavailable() -> None:
    client = Client(started=False)
    for response in (
        client.predict(b"x"),
        client.get("/v1/model"),
        client.get("/v1/streams"),
        client.get("/v1/streams/a"),
        client.post("/v1/admin/reset?all=true"),
    ):
        assert "starting" in refusal(response, 503, "unavailable")
    assert client.get("/v1/strategies").status_code == 200
    assert client.get("/healthz").status_code == 200


def test_messages_are_bounded_and_always_utf_8() -> None:
    assert len(wire("x" * 10_000, "c")["error"]) == LONGEST + 1
    assert wire("half a pair: \ud800", "c", "\udfff") == {
        "error": "half a pair: \\ud800",
        "code": "c",
        "where": "\\udfff",
    }

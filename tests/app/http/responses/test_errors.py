import logging

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from adapters import InputError
from app.errors import EngineClosedError, MissingKeyError, ModelError
from app.http.responses.errors import error_response
from tests.app.fakes import Client, refusal

SCOPE = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": []}


def test_validation_errors_have_the_shape_of_others() -> None:
    error = RequestValidationError([{"loc": ("query", "n"), "msg": "must be an integer", "type": "int", "input": "x"}])
    response = error_response(error, SCOPE)
    assert response.status_code == 422
    assert b"query.n: must be an integer; see GET /docs" in response.body


def test_a_disconnected_client_is_an_error_of_its_own() -> None:
    response = error_response(ClientDisconnect(), SCOPE)
    assert response.status_code == 400
    assert response.body == b'{"error":"the client disconnected","code":"client_disconnected"}'


def test_headers_of_errors() -> None:
    assert error_response(MissingKeyError("m"), SCOPE).headers["www-authenticate"] == "Bearer"
    assert error_response(EngineClosedError("m"), SCOPE).headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("status", "headers"),
    [(307, {"location": "/docs"}), (429, {"retry-after": "7"}), (401, {"www-authenticate": 'Basic realm="x"'})],
)
@pytest.mark.parametrize("accept", [b"application/json", b"text/html"])
def test_headers_of_a_framework_error_are_kept(status: int, headers: dict[str, str], accept: bytes) -> None:
    response = error_response(
        HTTPException(status, "m", headers), {**SCOPE, "method": "GET", "headers": [(b"accept", accept)]}
    )
    assert {name: response.headers[name] for name in headers} == headers
    assert all(response.headers.getlist(name) == [value] for name, value in headers.items())


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

"""Retries and failures of both clients."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.client import Client, Refused, RenormClientError, ServerUnreachable, UnexpectedAnswer
from tests.app.client.mock import BOTH, Server, error_response, form, predict, prediction_response, run

pytestmark = pytest.mark.usefixtures("pauses")


# Trying again


@BOTH
@pytest.mark.parametrize(
    "failure",
    [
        error_response(429, "stream_busy"),
        error_response(502, "bad_gateway"),
        error_response(503, "busy"),
        error_response(504, "deadline"),
        httpx.ConnectError("[Errno 111] Connection refused"),
        httpx.ReadError("connection reset"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.ReadTimeout("timed out"),
    ],
    ids=str,
)
def test_transient_failures_are_retried_under_the_same_key(kind: type, failure: Any, pauses: list[float]) -> None:
    server = Server(failure, failure, prediction_response(step=7))

    async def use(client: Any) -> Any:
        return (await client.predict([b"one", b"two"])).step, (await client.predict(b"next")).step

    assert run(kind, server, use) == (7, 7)
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(keys) == 4
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert {form(request)[1][0][1] for request in server.requests[:3]} == {b"one"}
    assert pauses[0] == 0 < pauses[1] < pauses[2] < 1


@BOTH
def test_retry_after_is_waited(kind: type, pauses: list[float]) -> None:
    run(kind, Server(error_response(503, "busy", **{"Retry-After": "3"}), prediction_response()), predict())
    assert 3 < pauses[1] < 3.2


@BOTH
@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (3, 4)])
def test_the_last_failure_is_raised_after_all_retries(kind: type, retries: int, tries: int) -> None:
    server = Server(error_response(503, "busy"))
    with pytest.raises(Refused) as caught:
        run(kind, server, predict(), retries=retries)
    assert (caught.value.status, len(server.requests)) == (503, tries)


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 422, 500])
def test_a_refusal_is_final(kind: type, status: int) -> None:
    server = Server(error_response(status, "some_code", "files[1]"))
    with pytest.raises(Refused) as caught:
        run(kind, server, predict([b"one", b"two"]))
    error = caught.value
    assert (error.status, error.code, error.message) == (status, "some_code", "it was wrong; mend it")
    assert (error.where, error.source) == ("files[1]", "image 1")
    assert str(error) == f"image 1: it was wrong; mend it ({status} some_code)"
    assert len(server.requests) == 1


def test_a_reset_that_may_have_happened_is_not_sent_again() -> None:
    server = Server(httpx.ReadError("connection reset"))

    async def use(client: Any) -> None:
        await client.reset("s")

    with pytest.raises(ServerUnreachable, match="was lost: connection reset"):
        run(Client, server, use)
    assert len(server.requests) == 1


# Failing


@BOTH
@pytest.mark.parametrize(
    ("failure", "kind_of_error", "message"),
    [
        (
            httpx.ConnectError("[Errno 111] Connection refused"),
            ServerUnreachable,
            "no server answers at http://127.0.0.1:8000; start one with `renorm serve`, or pass the right URL (--url)",
        ),
        (httpx.ConnectError("Name or service not known"), ServerUnreachable, "at http://127.0.0.1:8000 (Name or"),
        (httpx.ReadTimeout("timed out"), ServerUnreachable, "timed out; raise the timeout"),
        (httpx.RemoteProtocolError(""), ServerUnreachable, "was lost: RemoteProtocolError"),
        (httpx.DecodingError("bad gzip"), UnexpectedAnswer, "cannot be decoded: bad gzip"),
        (httpx.Response(200, text="<html>"), UnexpectedAnswer, "is not a Renorm server"),
        (httpx.Response(200, json={"label": "cow"}), UnexpectedAnswer, "is not a Renorm server"),
        (httpx.Response(204), UnexpectedAnswer, "(nothing)"),
        (httpx.Response(307, headers={"Location": "https://b/"}), UnexpectedAnswer, "redirects to https://b/"),
        (httpx.Response(502, text="<h1>nginx</h1>"), Refused, "<h1>nginx</h1> (502 bad_gateway)"),
        (httpx.Response(404, json={"detail": "Not Found"}), Refused, "(404 not_found)"),
        (httpx.Response(404, json=["x"]), Refused, "(404 not_found)"),
    ],
    ids=str,
)
def test_failures_are_explained(kind: type, failure: Any, kind_of_error: type, message: str) -> None:
    with pytest.raises(RenormClientError) as caught:
        run(kind, Server(failure), predict())
    assert type(caught.value) is kind_of_error
    assert message in str(caught.value)


def test_a_password_in_the_address_is_in_no_message() -> None:
    with pytest.raises(ServerUnreachable, match=r"at https://lab\.example;") as caught:
        run(Client, Server(httpx.ConnectError("refused")), predict(), url="https://me:secret@lab.example")
    assert "secret" not in str(caught.value)

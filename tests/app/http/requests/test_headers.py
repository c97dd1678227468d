"""What headers say of a prediction, beside its fields."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.fakes import Client, refusal

IMAGE = b"any bytes"


def call(headers: Any, query: str = "", **body: Any) -> Any:
    """What the engine was asked."""
    client = Client()
    response = client.post(f"/v1/predict{query}", headers=headers, **(body or {"content": IMAGE}))
    assert response.status_code == 200, response.text
    return client.engine.calls[0]


def said(headers: Any, location: str) -> str:
    """The refusal's message; the engine was not asked."""
    client = Client()
    message = refusal(client.post("/v1/predict", headers=headers, content=IMAGE), 422, "invalid_field", location)
    assert client.engine.calls == []
    return message


def test_without_headers_there_is_no_key_and_the_default_stream() -> None:
    assert (call({}).request_id, call({}).stream, call({}).timeout_s) == (None, "default", None)


@pytest.mark.parametrize("key", ["7d7a1c6e-7f0c-4d0e-9d5b-0f0a2f6f7c11", '"quoted, with spaces"', "~", "x" * 128])
@pytest.mark.parametrize(
    "body", [{"content": IMAGE}, {"files": {"files": ("a.png", IMAGE)}}, {"json": {"images": ["QUJD"]}}]
)
def test_the_idempotency_key_is_the_requests_id(key: str, body: dict[str, Any]) -> None:
    assert call({"idempotency-key": key}, **body).request_id == key


@pytest.mark.parametrize("key", ["", "x" * 129, b"\xc3\xbc", b"a\tb", b"\x7f"])
def test_invalid_idempotency_key_is_refused(key: str | bytes) -> None:
    assert "1 to 128 printable ASCII characters" in said([(b"Idempotency-Key", key)], "Idempotency-Key")


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Stream-Id", "X-Session-Id"])
def test_a_header_given_twice_is_refused(name: str) -> None:
    assert f"{name} appears twice" in said([(name, "a"), (name, "b")], name)


@pytest.mark.parametrize("name", ["X-Stream-Id", "x-session-id"])
def test_a_header_names_the_stream(name: str) -> None:
    assert call({name: "camera-9"}).stream == "camera-9"
    assert call([(name.encode(), "zürich 7".encode())]).stream == "zürich 7"


def test_of_two_headers_the_one_that_says_stream_counts() -> None:
    assert call({"X-Session-Id": "session", "X-Stream-Id": "stream"}).stream == "stream"


def test_a_field_counts_more_than_a_header_even_if_that_is_no_name() -> None:
    for header in ("camera-9", "a/b"):
        assert call({"X-Stream-Id": header}, "?stream=camera-7").stream == "camera-7"
        assert call({"X-Stream-Id": header}, files={"files": ("a", b"a")}, data={"stream": "form"}).stream == "form"
        assert call({"X-Stream-Id": header}, json={"images": ["QUJD"], "stream": "json"}).stream == "json"


@pytest.mark.parametrize("name", ["X-Stream-Id", "X-Session-Id"])
@pytest.mark.parametrize(
    ("value", "says"),
    [(b"a/b", "without '/'"), (b"", "1 to 128"), (b"x" * 129, "1 to 128"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_header_that_is_no_stream_is_refused(name: str, value: bytes, says: str) -> None:
    assert says in said([(name.encode(), value)], name)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?timeout=0.25", {"content": IMAGE}),
        ("", {"files": {"files": ("a", b"a")}, "data": {"timeout": "0.25"}}),
        ("", {"json": {"images": ["QUJD"], "timeout": 0.25}}),
    ],
)
def test_the_timeout_is_the_requests(query: str, body: dict[str, Any]) -> None:
    assert call({}, query, **body).timeout_s == 0.25

"""Every way in which a request to predict can be wrong, and that the engine never sees it."""

import base64
import json
from typing import Any

import pytest

from tests.app.fakes import Client, refusal

TEXT = base64.b64encode(b"image").decode()
FILE = {"files": ("a.png", b"image")}


@pytest.fixture
def client() -> Any:
    client = Client(max_images=3)
    yield client
    assert client.engine.calls == []


def form(*parts: str, close: str = "--b--\r\n") -> bytes:
    return "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode() + close.encode()


@pytest.mark.parametrize(
    ("query", "location", "says"),
    [
        ("?colour=red", "colour", "unknown field 'colour'; the fields are stream, strategy, params, update, top_k"),
        ("?chunk=2", "chunk", "explain; chunk goes in the query of POST /v1/predict/stream"),
        ("?files=x", "files", "unknown field"),
        ("?images=x", "images", "unknown field"),
        ("?stream=a&stream=b", "stream", "appears twice"),
        ("?stream=", "stream", "1 to 128 printable characters"),
        ("?stream=" + "x" * 129, "stream", "1 to 128 printable characters"),
        ("?stream=a%2Fb", "stream", "without '/'"),
        ("?stream=a%0Ab", "stream", "printable"),
        ("?stream=a%00b", "stream", "printable"),
        ("?stream=a%E2%80%AEb", "stream", "printable"),
        ("?strategy=", "strategy", "must be a name"),
        ("?strategy=" + "x" * 129, "strategy", "must be a name"),
        ("?update=yes", "update", "true or false, not 'yes'"),
        ("?update=", "update", "true or false"),
        ("?top_k=0", "top_k", "from 1 to 7, not 0"),
        ("?top_k=8", "top_k", "from 1 to 7, not 8"),
        ("?top_k=-1", "top_k", "integer"),
        ("?top_k=1.0", "top_k", "integer"),
        ("?top_k=%D9%A3", "top_k", "integer"),
        ("?top_k=" + "9" * 5000, "top_k", "integer"),
        ("?params=1", "params", "a JSON object, not a number"),
        ("?params=", "params", "not valid JSON"),
        ("?params=%7B'a':1%7D", "params", "not valid JSON"),
        ('?params={"a":NaN}', "params", "NaN"),
        ("?timeout=0", "timeout", "a number of seconds above 0 and at most 86400, not 0.0"),
        ("?timeout=-1", "timeout", "above 0"),
        ("?timeout=1e3", "timeout", "not '1e3'"),
        ("?timeout=inf", "timeout", "not 'inf'"),
        ("?timeout=86401", "timeout", "at most 86400"),
        ("?timeout=", "timeout", "above 0"),
        ("?explain=please", "explain", "true or false, not 'please'"),
        ("?explain=", "explain", "true or false"),
    ],
)
@pytest.mark.parametrize("body", ["raw", "form", "json"])
def test_query(client: Client, query: str, location: str, says: str, body: str) -> None:
    bodies: dict[str, Any] = {"raw": {"content": b"x"}, "form": {"files": FILE}, "json": {"json": {"images": [TEXT]}}}
    assert says in refusal(client.post(f"/v1/predict{query}", **bodies[body]), 422, "invalid_field", location)


@pytest.mark.parametrize(
    ("data", "location", "says"),
    [
        ({"colour": "red"}, "colour", "the fields are files, stream"),
        ({"stream": ["a", "b"]}, "stream", "appears twice"),
        ({"stream": "a/b"}, "stream", "without '/'"),
        ({"update": "maybe"}, "update", "true or false"),
        ({"top_k": "seven"}, "top_k", "integer"),
        ({"params": "[1]"}, "params", "not a list"),
        ({"params": '{"a": {}'}, "params", "not valid JSON"),
        ({"timeout": "soon"}, "timeout", "not 'soon'"),
        ({"explain": "maybe"}, "explain", "true or false"),
    ],
)
def test_form_fields(client: Client, data: dict[str, Any], location: str, says: str) -> None:
    response = client.post("/v1/predict", files=FILE, data=data)
    assert says in refusal(response, 422, "invalid_field", location)


@pytest.mark.parametrize(
    ("members", "location", "says"),
    [
        ({"image": TEXT}, "image", "unknown field 'image'; the fields are images, stream"),
        ({"stream": None}, "stream", "not null"),
        ({"stream": 7}, "stream", "not 7"),
        ({"stream": "\ud800"}, "stream", "printable"),
        ({"strategy": None}, "strategy", "not null"),
        ({"strategy": ["bn"]}, "strategy", "must be a name"),
        ({"strategy": "\ud800"}, "strategy", "must be a name"),
        ({"params": '{"momentum": 0.1}'}, "params", "must be a JSON object"),
        ({"params": None}, "params", "not null"),
        ({"update": 1}, "update", "not 1"),
        ({"update": "true"}, "update", "not 'true'"),
        ({"top_k": True}, "top_k", "not true"),
        ({"top_k": "3"}, "top_k", "not '3'"),
        ({"top_k": 3.0}, "top_k", "not 3.0"),
        ({"top_k": 10**250}, "top_k", "from 1 to 7"),
        ({"timeout": "1"}, "timeout", "not '1'"),
        ({"explain": 1}, "explain", "not 1"),
        ({"explain": None}, "explain", "not null"),
        ({"timeout": True}, "timeout", "not true"),
        ({"timeout": None}, "timeout", "not null"),
        ({"timeout": 10**250}, "timeout", "at most 86400"),
        ({"\ud800": 1}, "\\ud800", "unknown field"),
        ({"x" * 5000: 1}, "x" * 128, "unknown field"),
    ],
)
def test_json_fields(client: Client, members: dict[str, Any], location: str, says: str) -> None:
    body = json.dumps({"images": [TEXT], **members}).encode()
    assert says in refusal(client.predict(body, "application/json"), 422, "invalid_field", location)


@pytest.mark.parametrize("name", ["stream", "strategy", "update", "top_k", "params"])
def test_different_values_in_query_and_body_are_refused(client: Client, name: str) -> None:
    text = {"stream": "a", "strategy": "bn", "update": "true", "top_k": "1", "params": "{}"}[name]
    other = {"stream": "b", "strategy": "adabn", "update": "false", "top_k": "2", "params": '{"k": 1}'}[name]
    value: Any = {"stream": "a", "strategy": "bn", "update": True, "top_k": 1, "params": {}}[name]
    by_json = client.post(f"/v1/predict?{name}={other}", json={"images": [TEXT], name: value})
    by_form = client.post(f"/v1/predict?{name}={other}", files=FILE, data={name: text})
    for response in (by_json, by_form):
        assert f"{name} appears twice" in refusal(response, 422, "invalid_field", name)


@pytest.mark.parametrize("name", ["stream", "strategy", "update", "top_k", "params", "timeout"])
def test_equal_values_in_query_and_body_are_no_conflict(name: str) -> None:
    """As the page of the documentation sends it."""
    texts = {"stream": "a", "strategy": "bn", "update": "true", "top_k": "1", "params": "{}", "timeout": "2"}
    values = {"stream": "a", "strategy": "bn", "update": True, "top_k": 1, "params": {}, "timeout": 2}
    client = Client()
    by_json = client.post(f"/v1/predict?{name}={texts[name]}", json={"images": [TEXT], name: values[name]})
    by_form = client.post(f"/v1/predict?{name}={texts[name]}", files=FILE, data={name: texts[name]})
    assert (by_json.status_code, by_form.status_code) == (200, 200), by_form.text
    assert len(client.engine.calls) == 2


@pytest.mark.parametrize("name", [".", "..", " ", "  ", " a", "a ", "a/b", "", "a\nb", "\u3000"], ids=repr)
def test_invalid_stream_names_are_refused(client: Client, name: str) -> None:
    response = client.post("/v1/predict", files=FILE, data={"stream": name})
    assert "without leading or trailing spaces" in refusal(response, 422, "invalid_field", "stream")


@pytest.mark.parametrize(
    ("images", "location", "says"),
    [
        ([], "images", "one or more"),
        (TEXT, "images", "must be a list"),
        (None, "images", "must be a list"),
        ({"0": TEXT}, "images", "must be a list"),
        ([TEXT, 7], "images[1]", "must be a string"),
        ([TEXT, "not base64!"], "images[1]", "not valid base64"),
        ([TEXT, "QUJD_-=="], "images[1]", "not valid base64"),
        ([TEXT, "QUJDR"], "images[1]", "not valid base64"),
        ([TEXT, "QUJD===="], "images[1]", "not valid base64"),
        ([TEXT, "ünicode="], "images[1]", "not valid base64"),
        (["data:image/png,rawdata"], "images[0]", "without base64"),
        (["data:image/png;base64"], "images[0]", "without base64"),
        (["data:image/png;base64,!"], "images[0]", "not valid base64"),
    ],
)
def test_json_images(client: Client, images: Any, location: str, says: str) -> None:
    assert says in refusal(client.post("/v1/predict", json={"images": images}), 422, "invalid_field", location)


@pytest.mark.parametrize(
    ("body", "location", "says"),
    [
        (b"", "body", "not valid JSON"),
        (b"{", "body", "not valid JSON"),
        (b'{"images": []} x', "body", "not valid JSON"),
        (b"[]", "body", "must be a JSON object, not a list"),
        (b"null", "body", "must be a JSON object, not null"),
        (b'"\xff"', "body", "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "body", "not UTF-8"),
        (b'\xef\xbb\xbf{"images": []}', "body", "not valid JSON"),
        (b'{"top_k": Infinity}', "body", "Infinity"),
        (b'{"top_k": 1e999}', "body", "out of range"),
        (b'{"top_k": ' + b"9" * 5000 + b"}", "body", "5000 digits"),
        (b'{"params": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", "body", "nested too deeply"),
        (b"[" * 100_000, "body", "nested too deeply"),
        (b"{}", "images", "no member 'images'"),
    ],
)
def test_json_body(client: Client, body: bytes, location: str, says: str) -> None:
    assert says in refusal(client.predict(body, "application/json; charset=utf-8"), 422, "invalid_field", location)


@pytest.mark.parametrize(
    ("body", "location", "says"),
    [
        (form('name="image"; filename="a.png"\r\n\r\nx'), "image", "named 'files'"),
        (form('name="params"; filename="a.json"\r\n\r\n{}'), "params", "named 'files'"),
        (form('name="files"\r\n\r\ntext'), "files", "is not a file"),
        (form('name="stream"\r\n\r\na'), "files", "no image"),
        (form(), "files", "no image"),
        (b"", "body", "cut off"),
        (b"garbage", "body", "malformed"),
        (form('filename="a.png"\r\n\r\nx'), "body", "malformed"),
        (form('name="files"; filename="a.png"\r\n\r\nx', close=""), "body", "cut off"),
        (form('name="files"; filename="a.png"\r\n\r\nx', close="--b\r\n"), "body", "cut off"),
        (form(*['name="files"; filename="a.png"\r\n\r\nx'] * 2, close=""), "body", "cut off"),
    ],
)
def test_form_body(client: Client, body: bytes, location: str, says: str) -> None:
    assert says in refusal(client.predict(body, "multipart/form-data; boundary=b"), 422, "invalid_field", location)


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=other",
        "multipart/form-data; boundary=b; charset=undefined",
    ],
)
def test_form_type(client: Client, kind: str) -> None:
    body = form('name="files"; filename="a.png"\r\n\r\nx')
    assert "malformed" in refusal(client.predict(body, kind), 422, "invalid_field", "body")


@pytest.mark.parametrize("kind", [None, "image/png", "application/octet-stream"])
def test_empty_raw_body(client: Client, kind: str | None) -> None:
    assert "no image" in refusal(client.predict(b"", kind), 422, "invalid_field", "body")


@pytest.mark.parametrize("kind", ["text/plain", "multipart/mixed", "nonsense", "a/b;"])
def test_other_types(client: Client, kind: str) -> None:
    said = refusal(client.predict(b"x", kind), 415, "unsupported_media_type", "body")
    assert kind.strip(";") in said
    assert "image/jpeg" in said


def test_compressed_body(client: Client) -> None:
    response = client.post("/v1/predict", content=b"x", headers={"Content-Encoding": "gzip"})
    assert "gzip" in refusal(response, 415, "unsupported_media_type", "body")


@pytest.mark.parametrize("count", [4, 5, 100])
def test_too_many_images(client: Client, count: int) -> None:
    by_form = client.post("/v1/predict", files=[("files", ("a.png", b"x"))] * count)
    assert "at most 3" in refusal(by_form, 413, "too_large", "files")
    by_json = client.post("/v1/predict", json={"images": [TEXT] * count})
    assert "at most 3" in refusal(by_json, 413, "too_large", "images")


def test_too_many_or_too_long_fields(client: Client) -> None:
    many = client.post("/v1/predict", files=FILE, data={"stream": ["a"] * 100})
    refusal(many, 413, "too_large", "body")
    long = client.post("/v1/predict", files=FILE, data={"params": " " * 100_000})
    refusal(long, 413, "too_large", "body")

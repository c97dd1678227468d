"""Whatever is sent, the answer is an answer or an error of the one shape: no 500, no engine call for junk."""

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.app.fakes import Client

TYPES = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "application/json",
            "multipart/form-data; boundary=b",
            "multipart/form-data; boundary=b; charset=utf-16",
            'multipart/form-data; boundary="',
            "image/png",
            "application/octet-stream",
            "text/plain",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
)

KNOWN = ["images", "stream", "strategy", "params", "update", "top_k", "files", "timeout"]
NAMES = st.one_of(st.sampled_from(KNOWN), st.text())
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.just("QUJD")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"--b\r\n",
                b"--b--\r\n",
                b"\r\n",
                b"\r\n\r\n",
                b'Content-Disposition: form-data; name="files"; filename="a"',
                b'Content-Disposition: form-data; name="stream"',
                b"Content-Disposition: form-data; name*=utf-8''%ff",
                b"Content-Type: image/png",
                b":",
            ]
        ),
        st.binary(max_size=20),
    ),
    max_size=12,
).map(b"".join)
BODIES = st.one_of(st.binary(max_size=200), VALUES.map(lambda v: json.dumps(v).encode()), PIECES)
QUERIES = st.dictionaries(NAMES, st.text(max_size=20), max_size=2)

CLIENT = Client(max_images=3, max_body_bytes=500)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(kind=TYPES, body=BODIES, query=QUERIES)
@example(kind="application/json", body=b'{"images": ["QUJD"], "strategy": "\\ud800"}', query={})
@example(kind="application/json", body=b"[" * 400, query={})
def test_predict_never_fails(kind: str | None, body: bytes, query: dict[str, str]) -> None:
    CLIENT.engine.calls.clear()
    headers = {} if kind is None else {"Content-Type": kind}
    response = CLIENT.post("/v1/predict", content=body, headers=headers, params=query)
    check(response.status_code, response.json(), bool(CLIENT.engine.calls))


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(members=st.dictionaries(NAMES, VALUES, max_size=4), fields=QUERIES)
def test_json_members_never_fail(members: dict[str, object], fields: dict[str, str]) -> None:
    CLIENT.engine.calls.clear()
    body = json.dumps({"images": ["QUJD"], **members}).encode()
    response = CLIENT.post(
        "/v1/predict", content=body[:500], headers={"Content-Type": "application/json"}, params=fields
    )
    check(response.status_code, response.json(), bool(CLIENT.engine.calls))


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(kind=TYPES, body=BODIES)
def test_reset_never_fails(kind: str | None, body: bytes) -> None:
    CLIENT.engine.resets.clear()
    headers = {} if kind is None else {"Content-Type": kind}
    response = CLIENT.post("/v1/admin/reset", content=body, headers=headers)
    check(response.status_code, response.json(), bool(CLIENT.engine.resets))


def check(status: int, said: dict[str, object], reached: bool) -> None:
    assert status in {200, 413, 415, 422}
    assert reached is (status == 200)
    if status != 200:
        assert {"error", "code"} <= set(said) <= {"error", "code", "where"}

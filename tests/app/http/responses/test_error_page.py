"""Errors for people: pages where a browser asks for one, JSON for everyone else."""

from __future__ import annotations

import pytest

from app.error_info import ErrorInfo
from app.errors import AccessError
from app.http.responses.error_page import error_page, prefers_page
from tests.app.fakes import Client, refusal

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER["Accept"], True),
        ("text/html", True),
        ("TEXT/HTML ; q=0.5", True),
        ("application/xhtml+xml", True),
        ("text/html, application/json;q=0.9", True),
        ("text/html;q=0.1, */*;q=0", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0.5, */*", False),
        ("text/html;q=0.5, application/*;q=0.6", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        (";;,,q=", False),
    ],
)
def test_a_page_is_sent_to_whoever_prefers_it_to_json(accept: str, page: bool) -> None:
    assert prefers_page(accept) is page


def test_a_browser_is_told_what_was_wrong_and_where_to_look() -> None:
    client = Client(admin_key="twelve chars")
    shown = client.get("/v1/streams", headers=BROWSER)
    assert shown.status_code == 401
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert shown.headers["www-authenticate"] == "Bearer"
    assert int(shown.headers["content-length"]) == len(shown.content)
    assert "<h1>401 Unauthorized</h1>" in shown.text
    assert "This call needs a key with scope &#x27;infer&#x27;" in shown.text
    assert "Send it as &#x27;Authorization" in shown.text
    assert 'href="/docs"' in shown.text
    assert shown.headers["content-security-policy"].startswith("default-src 'none'")
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert "Accept" in shown.headers["vary"]


def test_any_failing_path_has_a_page() -> None:
    client = Client()
    assert "<h1>404 Not Found</h1>" in client.get("/nowhere", headers=BROWSER).text
    assert "has no state" in client.get("/v1/streams/none", headers=BROWSER).text
    wrong = client.get("/v1/predict", headers=BROWSER)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "use POST" in wrong.text
    client.engine.failure = RuntimeError("the secret")
    broken = client.get("/v1/streams", headers=BROWSER)
    assert "<h1>500 Internal Server Error</h1>" in broken.text
    assert "secret" not in broken.text


def test_text_of_a_client_is_escaped_in_error_pages() -> None:
    shown = Client().get("/<script>alert(1)</script>{title}", headers=BROWSER).text
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{title}" in shown
    page = bytes(error_page(ErrorInfo(404, "c", "a <b> & 'c'", '"d"'), '/x"><script>').body).decode()
    assert "<p>A &lt;b&gt; &amp; &#x27;c&#x27;.</p>" in page
    assert "&quot;d&quot;" in page
    assert "<script" not in page
    assert "<p></p>" not in bytes(error_page(ErrorInfo(404, "c", "a")).body).decode()


def test_everything_else_is_json() -> None:
    client = Client()
    refusal(client.get("/nowhere"), 404, "not_found")
    refusal(client.post("/nowhere", headers=BROWSER), 404, "not_found")
    client.engine.failure = AccessError("m")
    refusal(client.get("/v1/streams", headers={"Accept": "application/json"}), 403, "forbidden")

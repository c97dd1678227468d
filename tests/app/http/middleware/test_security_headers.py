"""What browsers are told: which pages may call, and what pages may do."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from app.http.middleware.security_headers import page_policy
from tests.app.fakes import Client, refusal

PAGES = ["/docs", "/redoc", "/docs/oauth2-redirect"]


def rules(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (rule.split() for rule in policy.split(";"))}


@pytest.mark.parametrize("page", PAGES)
def test_pages_run_their_own_scripts_and_no_others(page: str) -> None:
    shown = Client().get(page)
    assert shown.status_code == 200
    assert int(shown.headers["content-length"]) == len(shown.content)
    policy = rules(shown.headers["content-security-policy"])
    inline = re.findall(r"<script>(.*?)</script>", shown.text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inline]
    assert policy["script-src"] == ["'self'", *(f"'sha256-{one}'" for one in hashes)]
    assert policy["frame-ancestors"] == policy["object-src"] == ["'none'"]
    assert policy["connect-src" if "connect-src" in policy else "default-src"] == ["'self'"]
    assert shown.headers["x-frame-options"] == "DENY"
    assert shown.headers["referrer-policy"] == "no-referrer"
    # No script is in an attribute, which a hash would not allow.
    assert not re.search(r"<[^>]+\son\w+=", shown.text)


def test_the_swagger_page_has_a_script_of_its_own() -> None:
    assert "sha256-" in Client().get("/docs").headers["content-security-policy"]


def test_a_policy_names_each_inline_script() -> None:
    policy = rules(page_policy(b"<script>a</script><script src=x></script><script>b\n</script>"))
    assert len(policy["script-src"]) == 3
    assert "'unsafe-inline'" not in policy["script-src"]


def test_mime_sniffing_is_forbidden() -> None:
    client = Client()
    for path in ("/v1/streams", "/nowhere", "/docs", "/static-offline-docs/swagger-ui.css"):
        response = client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff", path
    assert "content-security-policy" not in client.get("/v1/streams").headers


def test_large_page_is_complete() -> None:
    client = Client()

    async def page() -> object:
        from starlette.responses import StreamingResponse

        return StreamingResponse(iter([b"<p>"] * 1000), media_type="text/html")

    client.app.add_api_route("/page", page, response_model=None)
    shown = client.get("/page")
    assert shown.content == b"<p>" * 1000
    assert "script-src 'self';" in shown.headers["content-security-policy"]
    assert client.request("HEAD", "/page").status_code == 405


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-api-key"}


def test_other_sites_may_not_call_unless_they_are_listed() -> None:
    client = Client()
    response = client.get("/v1/streams", headers={"Origin": "https://lab.example"})
    assert "access-control-allow-origin" not in response.headers
    refused = client.request("OPTIONS", "/v1/predict", headers={"Origin": "https://lab.example", **PREFLIGHT})
    assert "access-control-allow-origin" not in refused.headers


def test_listed_sites_may_call_with_a_key() -> None:
    client = Client(cors_origins="https://lab.example/,https://b.example", admin_key="twelve chars")
    for origin in ("https://lab.example", "https://b.example"):
        allowed = client.request("OPTIONS", "/v1/predict", headers={"Origin": origin, **PREFLIGHT})
        assert allowed.status_code == 200, "a preflight carries no key"
        assert allowed.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in allowed.headers
        response = client.get("/v1/streams", headers={"Origin": origin})
        refusal(response, 401, "missing_key")
        assert response.headers["access-control-allow-origin"] == origin, "a page can read why it was refused"
    for origin in ("https://evil.example", "https://lab.example.evil.example", "http://lab.example", "null"):
        refused = client.request("OPTIONS", "/v1/predict", headers={"Origin": origin, **PREFLIGHT})
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers

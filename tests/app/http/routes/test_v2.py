from __future__ import annotations

from typing import Any

import pytest

from app import __version__
from app.errors import BusyError, EngineClosedError
from app.oip.metadata import EXTENSIONS
from tests.app.fakes import Client, refusal

MODELS = ("/v2/models/fake-net", "/v2/models/fake-net/versions/1")


def said(response: Any) -> Any:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_describes_itself_with_and_without_a_slash(path: str) -> None:
    assert said(Client().get(path)) == {"name": "renorm", "version": __version__, "extensions": EXTENSIONS}


def test_health() -> None:
    assert said(Client().get("/v2/health/live")) == {"live": True}
    assert said(Client().get("/v2/health/ready")) == {"ready": True, "live": True}
    for base in MODELS:
        assert said(Client().get(f"{base}/ready")) == {"name": "fake-net", "ready": True}


def test_not_ready() -> None:
    for path in ("/v2/health/ready", f"{MODELS[0]}/ready", f"{MODELS[1]}/ready"):
        client = Client()
        client.engine.ready = False
        response = client.get(path)
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/json"
        assert response.json()["ready"] is False
        assert "did not answer" in response.json()["error"]


def test_health_is_503_when_the_model_thread_died() -> None:
    client = Client()
    client.engine.living = False
    assert "restart" in refusal(client.get("/v2/health/live"), 503, "unavailable")


def test_while_the_model_is_loaded_the_server_is_alive_and_not_ready() -> None:
    client = Client(started=False)
    assert said(client.get("/v2/health/live")) == {"live": True}
    assert said(client.get("/v2"))["name"] == "renorm"
    assert client.get("/v2/health/ready").json()["ready"] is False
    for path in (*MODELS, f"{MODELS[0]}/ready", f"{MODELS[0]}/config", f"{MODELS[0]}/stats", "/v2/models/stats"):
        assert "starting" in refusal(client.get(path), 503, "unavailable")
    for path in (f"{MODELS[0]}/infer", "/v2/repository/index", "/v2/repository/models/fake-net/load"):
        assert "starting" in refusal(client.post(path), 503, "unavailable")


@pytest.mark.parametrize("base", MODELS)
def test_the_model_describes_itself(base: str) -> None:
    client = Client()
    assert said(client.get(base))["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert said(client.get(f"{base}/config"))["input"][0]["dims"] == [3, 32, 32]
    client.engine.counts.inference_count = 5
    for path in (f"{base}/stats", "/v2/models/stats"):
        assert said(client.get(path))["model_stats"][0]["inference_count"] == 5


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats"])
def test_unknown_models_and_versions(path: str) -> None:
    client = Client()
    assert "'fake-net'" in refusal(client.get(f"/v2/models/other{path}"), 404, "model_not_found", "model")
    refusal(client.get(f"/v2/models/other/versions/1{path}"), 404, "model_not_found", "model")
    for version in ("2", "01", "latest", "-1", "²", "1%20"):
        response = client.get(f"/v2/models/fake-net/versions/{version}{path}")
        refusal(response, 404, "model_not_found", "version")


def test_unknown_models_are_not_inferred_or_loaded() -> None:
    client = Client()
    for path in ("models/other/infer", "models/other/versions/1/infer", "repository/models/other/load"):
        refusal(client.post(f"/v2/{path}"), 404, "model_not_found", "model")
    refusal(client.post("/v2/repository/models/other/unload"), 404, "model_not_found", "model")
    refusal(client.post("/v2/models/fake-net/versions/2/infer"), 404, "model_not_found", "version")
    assert client.engine.calls == []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}'])
def test_the_repository_holds_the_hosted_model(body: bytes) -> None:
    response = Client().post("/v2/repository/index", content=body)
    assert said(response) == [{"name": "fake-net", "version": "1", "state": "READY", "reason": ""}]


def test_the_hosted_model_is_loaded_and_stays() -> None:
    client = Client()
    for body in (b"", b"{}", b'{"parameters": {}}'):
        assert said(client.post("/v2/repository/models/fake-net/load", content=body))["ready"] is True
    changed = client.post("/v2/repository/models/fake-net/load", json={"parameters": {"config": "{}"}})
    assert "restart" in refusal(changed, 501, "unsupported", "parameters")
    refusal(client.post("/v2/repository/models/fake-net/load", content=b"["), 400, "invalid_field", "body")
    assert "the only hosted model" in refusal(client.post("/v2/repository/models/fake-net/unload"), 501, "unsupported")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "trace/setting",
        "models/fake-net/trace/setting",
        "logging",
        "systemsharedmemory/status",
        "systemsharedmemory/region/r/register",
        "cudasharedmemory/region/r/status",
        "cudasharedmemory/unregister",
    ],
)
def test_unsupported_extensions_are_501(method: str, path: str) -> None:
    assert "GET /v2 lists" in refusal(Client().request(method, f"/v2/{path}"), 501, "unsupported")


def test_unknown_paths_and_verbs() -> None:
    client = Client()
    refusal(client.get("/v2/nowhere"), 404, "not_found")
    response = client.get(f"{MODELS[0]}/infer")
    assert "use POST" in refusal(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    refusal(client.post("/v2"), 405, "method_not_allowed")


def test_bodies_other_than_inference_are_never_compressed() -> None:
    client = Client()
    for path in ("/v2", *MODELS, f"{MODELS[0]}/config", f"{MODELS[0]}/stats"):
        response = client.get(path, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert "content-encoding" not in response.headers


@pytest.mark.parametrize(
    ("failure", "status", "code"), [(EngineClosedError("m"), 503, "unavailable"), (BusyError("m"), 503, "busy")]
)
def test_failures_of_the_engine(failure: Exception, status: int, code: str) -> None:
    client = Client()
    client.engine.failure = failure
    refusal(client.get("/v2/models/stats"), status, code)


def test_the_page_lists_the_calls_that_there_are() -> None:
    paths = Client().get("/openapi.json").json()["paths"]
    described = {f"{method.upper()} {path}" for path in paths for method in paths[path] if path.startswith("/v2")}
    of_model = ["GET ", "GET /ready", "GET /config", "GET /stats", "POST /infer"]
    assert described == {
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/stats",
        "POST /v2/repository/index",
        "POST /v2/repository/models/{model}/load",
        *(one.replace(" ", " /v2/models/{model}", 1) for one in of_model),
        *(one.replace(" ", " /v2/models/{model}/versions/{version}", 1) for one in of_model),
    }

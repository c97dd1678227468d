import base64
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from app import __version__
from app.errors import FieldError
from app.http.requests.fields import PREDICT, RESET
from app.http.requests.headers import HEADERS
from app.http.responses.openapi import PNG
from tests.app.fakes import Client

DOCUMENT: dict[str, Any] = Client().get("/openapi.json").json()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = DOCUMENT
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def has_example(media: dict[str, Any]) -> bool:
    """An example of the whole, or of every property of the (items of the) schema."""
    if "example" in media or "examples" in media:
        return True
    schema = resolve(media["schema"])
    schema = resolve(schema["items"]) if schema.get("type") == "array" else schema
    properties = schema.get("properties", {}).values()
    return bool(properties) and all(
        "examples" in one or "example" in one or has_example({"schema": one}) for one in properties
    )


def test_document() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["title"] == "Renorm"
    assert DOCUMENT["info"]["version"] == __version__
    # Those of the protocol, under /v2, are listed where it is tested.
    assert {name for name, _ in operations() if " /v2" not in name} == {
        "POST /v1/predict",
        "POST /v1/predict/stream",
        "GET /v1/strategies",
        "GET /v1/strategies/{name}",
        "GET /v1/model",
        "GET /v1/streams",
        "GET /v1/streams/{stream}",
        "DELETE /v1/streams/{stream}",
        "POST /v1/admin/reset",
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
    }
    for reference in references(DOCUMENT):
        assert resolve({"$ref": reference})


def test_ids_are_unique_and_tags_are_described() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(ids) == len(set(ids))
    described = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for _, operation in operations() for tag in operation["tags"]} == described


@pytest.mark.parametrize("operation", [pytest.param(o, id=name) for name, o in operations()])
def test_operation(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert "200" in operation["responses"]
    assert "500" in operation["responses"]
    for status, response in operation["responses"].items():
        media = next(iter(response["content"].values()))
        assert has_example(media), status
        if status != "200":
            assert {"error", "code", "where"} <= set(resolve(media["schema"])["properties"])
            assert {"error", "code"} <= set(media["example"]) <= {"error", "code", "where", "ready"}
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        # A page fills the fields of a form in from its example, and would send them with the file that a person chose.
        assert ("example" in media or "examples" in media) is (kind != "multipart/form-data")
    for parameter in operation.get("parameters", []):
        said = json.dumps(parameter)
        assert parameter["required"] or '"example' not in said, parameter["name"]
        # Nor what it would fill in of its own: a default, an object, what is not of a plain type.
        if parameter["name"] != "chunk":
            assert '"default"' not in said, parameter["name"]
        assert parameter["schema"].get("type", "string") in {"string", "integer", "number", "boolean"}
        assert "not" not in parameter["schema"]


def test_predict_shows_its_three_forms_and_all_fields() -> None:
    operation = DOCUMENT["paths"]["/v1/predict"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) > {"multipart/form-data", "image/jpeg", "application/octet-stream", "application/json"}
    assert {one["name"] for one in operation["parameters"] if one["in"] == "query"} == set(PREDICT)
    assert {one["name"] for one in operation["parameters"] if one["in"] == "header"} == set(HEADERS)
    assert set(content["application/json"]["schema"]["properties"]) == {"images", *PREDICT}
    form = content["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"files"}, "pages make up values of properties, and send them"
    assert set(form["patternProperties"]) == {f"^{name}$" for name in PREDICT}
    assert set(operation["responses"]) == {"200", "413", "415", "422", "429", "500", "503", "504"}


def test_reset_shows_its_fields_and_both_ways_to_send_a_key() -> None:
    operation = DOCUMENT["paths"]["/v1/admin/reset"]["post"]
    assert {one["name"] for one in operation["parameters"]} == set(RESET)
    assert set(operation["responses"]) >= {"401", "403", "422"}
    named = {name for one in operation["security"] for name in one}
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert {schemes[name]["type"] for name in named} == {"http", "apiKey"}


def test_examples_are_answered() -> None:
    client = Client()
    post = DOCUMENT["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/v1/predict", json=post).status_code == 200
    bodies = DOCUMENT["paths"]["/v1/admin/reset"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    for name, example in bodies.items():
        query = {"stream": "camera-7"} if name == "query" else {}
        assert client.post("/v1/admin/reset", params=query, json=example["value"]).status_code == 200
        if example["value"] == {}:
            assert client.post("/v1/admin/reset", json={}).status_code == 422


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "not yet"])
def test_paths_ask_for_the_hosted_model_by_its_name(is_open: bool) -> None:
    client = Client()
    document = client.get("/openapi.json").json() if is_open else client.app.openapi()
    for operation in (
        one for path, methods in document["paths"].items() if "{model}" in path for one in methods.values()
    ):
        found = {one["name"]: one.get("example") for one in operation["parameters"] if one["in"] == "path"}
        assert found["model"] == ("fake-net" if is_open else None)
        assert found.get("version", "1") == ("1" if is_open else found.get("version", "1"))


@pytest.mark.parametrize(
    ("name", "may"),
    [
        (".", False),
        ("..", False),
        ("...", True),
        (".a", True),
        ("a.", True),
        ("a b", True),
        (" a", False),
        ("a/b", False),
    ],
)
def test_the_pattern_of_streams_says_what_the_server_takes(name: str, may: bool) -> None:
    assert (re.search(PREDICT["stream"].schema["pattern"], name) is not None) is may
    if may:
        PREDICT["stream"].check(name)
    else:
        with pytest.raises(FieldError):
            PREDICT["stream"].check(name)


def test_example_image_is_an_image() -> None:
    with Image.open(io.BytesIO(base64.b64decode(PNG))) as image:
        assert image.convert("RGB").size == (8, 8)

"""One image, asked about with adapter and corrector, in every form that the server reads."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
from websockets.sync.client import connect

from app.client import Client

LAME = "adabn+lame"
EXTRA = ("frame", "dropped", "index", "images")
MEMORY = {"lame.memory": 16, "lame.when": "always"}


def by_form(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    data = {"stream": stream, "strategy": LAME, "params": json.dumps(MEMORY)}
    return dict(http.post("/v1/predict", files=[("files", ("a.png", content))], data=data).json())


def by_lines(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    """An upload that is answered line by line."""
    data = {"stream": stream, "strategy": LAME, "params": json.dumps(MEMORY)}
    answer = http.post("/v1/predict/stream", files=[("files", ("a.png", content))], data=data)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    return {name: lines[0][name] for name in lines[0] if name not in EXTRA}


def by_json(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    body = {"images": [base64.b64encode(content).decode()], "stream": stream, "strategy": LAME, "params": MEMORY}
    return dict(http.post("/v1/predict", json=body).json())


def by_query(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    query = {"strategy": LAME, "params": json.dumps(MEMORY)}
    headers = {"X-Stream-Id": stream, "Content-Type": "image/png"}
    return dict(http.post("/v1/predict", params=query, content=content, headers=headers).json())


def by_plain_plus(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    """A query with a plus sign as it is, which the server reads as a space."""
    params = quote(json.dumps(MEMORY))
    url = f"/v1/predict?stream={stream}&strategy=adabn+lame&params={params}"
    return dict(http.post(url, content=content, headers={"Content-Type": "image/png"}).json())


def by_websocket(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    url = str(http.base_url).replace("http", "ws").rstrip("/")
    query = f"strategy={quote(LAME, safe='')}&params={quote(json.dumps(MEMORY))}"
    with connect(f"{url}/v1/streams/{stream}/live?{query}") as camera:
        camera.send(content)
        answer: dict[str, Any] = json.loads(camera.recv(30))
    return {name: value for name, value in answer.items() if name not in EXTRA}


def by_client(http: httpx.Client, content: bytes, stream: str) -> dict[str, Any]:
    with Client(str(http.base_url)) as client:
        answer = client.predict(content, stream=stream, strategy=LAME, params=MEMORY)
    best = [one.__dict__ for one in answer.predictions]
    told: dict[str, Any] = json.loads(
        json.dumps({**answer.__dict__, "predictions": best}, default=lambda x: x.__dict__)
    )
    del told["explanation"]  # which was not asked for: the other answers have no such field
    return told


FORMS: list[Callable[[httpx.Client, bytes, str], dict[str, Any]]] = [
    by_form,
    by_lines,
    by_json,
    by_query,
    by_plain_plus,
    by_websocket,
    by_client,
]

"""A Python client of the server: `Client`, and `AsyncClient` with the same methods to await.

>>> with Client("http://127.0.0.1:8000") as client:
...     answer = client.predict("image.jpg", stream="camera-7")
>>> answer.step, answer.predictions[0].label
(1, 'cow')

It needs httpx and loads nothing of the server: no torch, no web framework.
"""

from __future__ import annotations

try:
    import httpx as _httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the client needs httpx, which is not installed: pip install httpx", name="httpx"
    ) from error

from app.client.asynchronous import AsyncClient, AsyncStream
from app.client.errors import InvalidInput, Refused, RenormClientError, ServerUnreachable, UnexpectedAnswer
from app.client.results import Answer, ImagePrediction, Ranked, TimingMs
from app.client.synchronous import Client, Stream

del _httpx

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ImagePrediction",
    "InvalidInput",
    "Ranked",
    "Refused",
    "RenormClientError",
    "ServerUnreachable",
    "Stream",
    "TimingMs",
    "UnexpectedAnswer",
]

"""The requests of every server, and its answers: the same images, in the form that its own documentation shows."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from PIL import Image

CLASSES = 10
"""Of the bundled network, which every server hosts."""

SAMPLE = Path(__file__).resolve().parent.parent / "sample"
FORMATS = {"png": {"compress_level": 1}, "jpeg": {"quality": 90}}


class Pictures(NamedTuple):
    """The encoding of the images that are sent: ``format`` png or jpeg, enlarged to ``side`` pixels."""

    format: str = "png"
    side: int = 32

    def of(self, camera: int) -> Sequence[bytes]:
        """The encoded images of one camera: each has a corruption of its own, in turn."""
        corruptions = _encoded(self)
        return corruptions[camera % len(corruptions)]


PLAIN = Pictures()
"""Lossless, in their own size."""


@lru_cache
def _encoded(pictures: Pictures) -> list[list[bytes]]:
    files = sorted(path for path in SAMPLE.glob("*.npy") if path.stem != "labels")
    return [[_encode(Image.fromarray(pixels), pictures) for pixels in np.load(path)] for path in files]


def _encode(image: Image.Image, pictures: Pictures) -> bytes:
    if pictures.side != image.width:
        image = image.resize((pictures.side, pictures.side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, pictures.format, **FORMATS[pictures.format])
    return buffer.getvalue()


class Guess(NamedTuple):
    """The class a server gives an image, and how probable it says that is."""

    chosen: int
    probability: float


@dataclass(frozen=True)
class Dialect:
    """The form of a server's requests and answers: ``server`` is renorm, litserve or mlserver.

    ``body`` is ``raw`` (the image itself; several images go as a form), ``form`` (multipart) or ``json`` (base64).
    ``strategy`` is for Renorm alone.
    """

    server: str
    body: str
    strategy: str = ""

    def request(self, url: str, images: Sequence[bytes], stream: str) -> bytes:
        """A whole HTTP/1.1 request for these encoded images."""
        if self.server == "renorm":
            return _wire(self._renorm(f"{url}/v1/predict", images, stream))
        if self.server == "mlserver":
            return _wire(_open_inference(f"{url}/v2/models/{MLSERVER_MODEL}/infer", images))
        if self.body == "json":
            return _wire(httpx.Request("POST", f"{url}/predict", json={"images": _base64(images)}))
        return _wire(httpx.Request("POST", f"{url}/predict", files=_files(images)))

    def guesses(self, body: bytes) -> list[Guess]:
        """Return the class and probability of each image in a server's answer.

        Raises:
            ValueError, KeyError, TypeError: it is no such answer.
        """
        answer = json.loads(body)
        if self.server == "mlserver":
            columns = {output["name"]: output["data"] for output in answer["outputs"]}
            return [Guess(*pair) for pair in zip(columns["index"], columns["probability"], strict=True)]
        return [Guess(entry["index"], entry["probability"]) for entry in answer["predictions"]]

    def fault(self, status: int, body: bytes, images: int) -> str | None:
        """Return the fault of an answer to a request of so many images, None where it is plausible."""
        if status != 200:
            return f"status {status}: {body[:300].decode(errors='replace')}"
        try:
            guesses = self.guesses(body)
            plausible = len(guesses) == images and all(_plausible(guess) for guess in guesses)
        except (ValueError, KeyError, TypeError):
            plausible = False
        return None if plausible else f"not an answer to {images} images: {body[:300].decode(errors='replace')}"

    def _renorm(self, url: str, images: Sequence[bytes], stream: str) -> httpx.Request:
        fields = {"stream": stream, "strategy": self.strategy, "top_k": "1"}
        if self.body == "raw" and len(images) == 1:
            # The server looks into the image itself: the type only has to be one of an image.
            return httpx.Request("POST", url, params=fields, content=images[0], headers={"Content-Type": "image/*"})
        return httpx.Request("POST", url, data=fields, files=_files(images))


MLSERVER_MODEL = "network"


def _open_inference(url: str, images: Sequence[bytes]) -> httpx.Request:
    tensor: dict[str, Any] = {"name": "images", "shape": [len(images)], "datatype": "BYTES", "data": _base64(images)}
    return httpx.Request("POST", url, json={"inputs": [tensor]})


def _files(images: Sequence[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (f"{i}.png", image, "image/png")) for i, image in enumerate(images)]


def _base64(images: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


def _plausible(guess: Guess) -> bool:
    # The best of ten classes has at least a tenth, but for rounding.
    return (
        isinstance(guess.chosen, int) and 0 <= guess.chosen < CLASSES and 0.999 <= CLASSES * guess.probability < 10.01
    )


def _wire(request: httpx.Request) -> bytes:
    """A request as it goes over the wire; built beforehand, so that building it is not measured."""
    body = request.read()
    lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body

"""The bound on what JSON becomes, against what Python's memory says."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app.http.requests.strict_json import load_object
from app.resources.json_size import unpacked_bytes

COUNT = 20_000
BODIES = {
    "floats": '{"a":[' + ",".join(f"{i / 7:.3g}" for i in range(COUNT)) + "]}",
    "short floats": '{"a":[' + ",".join("1e1" for _ in range(COUNT)) + "]}",
    "whole numbers": '{"a":[' + ",".join("999" for _ in range(COUNT)) + "]}",
    "empty lists": '{"a":[' + ",".join("[]" for _ in range(COUNT)) + "]}",
    "lists of one": '{"a":[' + ",".join("[9]" for _ in range(COUNT)) + "]}",
    "empty objects": '{"a":[' + ",".join("{}" for _ in range(COUNT)) + "]}",
    "objects of one": '{"a":[' + ",".join('{"a":1}' for _ in range(COUNT)) + "]}",
    "many keys": '{"a":{' + ",".join(f'"{i}":999' for i in range(COUNT)) + "}}",
    "short texts": '{"a":[' + ",".join(f'"{i}"' for i in range(COUNT)) + "]}",
    "one long text": '{"a":"' + 200_000 * "x" + '"}',
    "wide text": '{"a":"' + 200_000 * "x" + '\U0001f600"}',
    "white space": '{"a":' + 200_000 * " " + "1}",
}


RESERVED = 12
"""Address space that orjson asks for per byte of text: it writes to 16 bytes of it for each value, and to no more."""


@pytest.mark.parametrize(
    ("read", "reserved"),
    [(orjson.loads, RESERVED), (lambda raw: load_object(raw, "body"), 0)],
    ids=["orjson", "strict"],
)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_reading_takes_no_more_than_the_bound(read: Callable[[bytes], Any], reserved: int, body: str) -> None:
    raw = body.encode()
    assert json.loads(raw)
    tracemalloc.start()
    try:
        kept = read(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept is not None
    assert peak <= unpacked_bytes(raw) + reserved * len(raw) + 2000


def test_images_as_text_are_not_overestimated_by_much() -> None:
    raw = json.dumps({"images": ["A" * 100_000] * 10}).encode()
    assert unpacked_bytes(raw) <= 3.1 * len(raw)

"""Wrong requests to every door, each with one thing wrong."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from .doors import Doors
from .entries import Entry, RecordedAnswer
from .images import ImageSource, save
from .steps import INFER, MODEL, form_files, header_length, infer_request

KEY = "recording-" + "k" * 32
LIMITS = (
    *("--admin-key", KEY, "--max-images", "4", "--max-image-bytes", "20000", "--max-image-pixels", "20000"),
    *("--max-body-bytes", "60000", "--max-decompressed-bytes", "60000"),
)
"""Options of the second server: with a key and low limits."""

PIXELS = ImageSource("clean", seed=0, by_class=False).take(8)
FILE = save(Image.fromarray(PIXELS[0]), "PNG")
TEXT = base64.b64encode(FILE).decode()
IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
Outcome = tuple[str, RecordedAnswer]


def open_errors(doors: Doors) -> Iterator[Entry]:
    """Yield the answers to wrong requests of a server that is open to this machine."""
    for part in (_fields, _bodies, _calls, _line_errors, _oip, _oip_bodies, _grpc, _live):
        yield from (Entry(f"{part.__name__[1:]}: {name}", answer.kind, *answer) for name, answer in part(doors))


def restricted_errors(stranger: Doors, owner: Doors) -> Iterator[Entry]:
    """Yield the answers of a server with a key and low limits, to one without the key and to one with it."""
    for part, doors in ((_access, stranger), (_limits, owner)):
        yield from (Entry(f"{part.__name__[1:]}: {name}", answer.kind, *answer) for name, answer in part(doors))


def _raw(doors: Doors, **query: str) -> RecordedAnswer:
    return doors.call("POST", "/v1/predict", content=FILE, params=query)


def _fields(doors: Doors) -> Iterator[Outcome]:
    for name, text in [
        *[
            ("strategy", text)
            for text in ("nothing", "adabn+bn", "tent+core", "adabn+lame+cofa", "adabn+", "lame+lame")
        ],
        *[("strategy", text) for text in ("temperature", "")],
        *[("params", text) for text in ('{"x": 1}', '{"momentum": 2}', '{"momentum": "x"}', '{"momentum": NaN}')],
        *[("params", text) for text in ("[1]", "{", '{"momentum": 0.1, "momentum": 0.2}')],
        *[("top_k", text) for text in ("0", "11", "x", "1.5")],
        *[("timeout", text) for text in ("-1", "0", "x", "1e9")],
        *[("update", "maybe"), ("stream", "x" * 2000), ("stream", "a\nb"), ("stream", ""), ("unknown", "1")],
    ]:
        yield f"{name}={text[:40]!r}", _raw(doors, **{name: text})
    yield "part named twice", _raw(doors, strategy="adabn+lame", params='{"memory": 1, "lame.memory": 2}')
    yield "ambiguous", _raw(doors, strategy="adabn+tent+robust_bn", params='{"momentum": 0.1}')
    yield "twice", doors.call("POST", "/v1/predict?stream=a&stream=b", content=FILE)
    twice = [("files", ("a.png", FILE)), ("stream", (None, "a")), ("stream", (None, "b"))]
    yield "twice in a form", doors.call("POST", "/v1/predict", files=twice)
    for key in ("", "k" * 129):
        headers = {"Idempotency-Key": key}
        yield f"key of {len(key)}", doors.call("POST", "/v1/predict", content=FILE, headers=headers)
    for chunk in ("0", "x", "100000"):
        yield f"chunk={chunk}", doors.call("POST", "/v1/predict/stream", content=FILE, params={"chunk": chunk})


def _bodies(doors: Doors) -> Iterator[Outcome]:
    def post(content: bytes, **headers: str) -> RecordedAnswer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return doors.call("POST", "/v1/predict", content=content, headers=names)

    yield "empty", post(b"")
    yield "no image", post(b"no image at all")
    yield "cut off", post(FILE[: len(FILE) // 2])
    yield "huge header", post(_png_header(100_000, 100_000))
    yield "animated", post(_animation())
    yield "signed TIFF", post(save(Image.fromarray(np.zeros((4, 4), np.int32)), "TIFF"))
    yield "text", post(FILE, Content_Type="text/plain")
    yield "coding", post(FILE, Content_Encoding="br")
    yield "no boundary", post(FILE, Content_Type="multipart/form-data")
    yield "broken form", post(b"--x\r\nnothing", Content_Type="multipart/form-data; boundary=x")
    files = form_files([FILE, b"broken", FILE])
    yield "broken file", doors.call("POST", "/v1/predict", files=files)
    yield "no files", doors.call("POST", "/v1/predict", files={"other": (None, "1")})
    for name, document in {
        "not JSON": b"{",
        "a list": b"[]",
        "no images": b'{"stream": "a"}',
        "images are text": b'{"images": "a"}',
        "not base64": b'{"images": ["%%%"]}',
        "a number": b'{"images": [1]}',
        "no images listed": b'{"images": []}',
        "NaN": b'{"images": [], "top_k": NaN}',
        "twice": b'{"images": [], "images": []}',
        "unknown": json.dumps({"images": [TEXT], "unknown": 1}).encode(),
        "update": json.dumps({"images": [TEXT], "update": "yes"}).encode(),
        "top_k": json.dumps({"images": [TEXT], "top_k": "3"}).encode(),
        "second image": json.dumps({"images": [TEXT, base64.b64encode(b"broken").decode()]}).encode(),
        "not UTF-8": b'{"stream": "\xff"}',
    }.items():
        yield f"JSON {name}", post(document, Content_Type="application/json")


def _calls(doors: Doors) -> Iterator[Outcome]:
    for method, path in [
        *[("GET", path) for path in ("/nothing", "/v1/predict", "/v1/streams/nobody", "/v1/strategies/nothing")],
        *[("GET", path) for path in ("/v1/strategies/adabn+bn", "/v2/models/other", f"/v2/models/{MODEL}/versions/2")],
        *[("DELETE", path) for path in ("/v1/streams/nobody", "/v1/model", "/v1/streams/x?strategy=nothing")],
        *[("POST", path) for path in ("/v1/admin/reset", "/v1/admin/reset?all=maybe", "/v1/admin/reset?strategy=no")],
        *[("POST", f"/v2/repository/models/{MODEL}/unload"), ("POST", "/v2/repository/models/other/load")],
        *[("GET", "/v2/systemsharedmemory/status"), ("GET", "/v2/cudasharedmemory/status")],
        *[("GET", "/v2/logging"), ("GET", f"/v2/models/{MODEL}/trace/setting"), ("PUT", INFER)],
    ]:
        yield f"{method} {path}", doors.call(method, path)
    load = {"parameters": {"config": "{}"}}
    yield "load with parameters", doors.call("POST", f"/v2/repository/models/{MODEL}/load", json=load)
    origin = {"Origin": "https://elsewhere.example"}
    yield "foreign page", doors.call("POST", "/v1/predict", content=FILE, headers=origin)
    yield "foreign host", doors.call("GET", "/v1/model", headers={"Host": "elsewhere.example"})
    yield "page", doors.call("GET", "/nothing", headers={"Accept": "text/html"})


def _line_errors(doors: Doors) -> Iterator[Outcome]:
    for name, files in {"first": [b"broken", FILE], "later": [FILE] * 4 + [b"broken", FILE], "none": []}.items():
        parts: Any = form_files(files) or {"stream": (None, "lines")}
        query = {"chunk": "2", "stream": "lines", "top_k": "1"}
        yield f"{name} chunk", doors.call("POST", "/v1/predict/stream", files=parts, params=query)


def _oip(doors: Doors) -> Iterator[Outcome]:
    pixels = {**IMAGE, "data": PIXELS[0].reshape(-1).tolist()}
    floats = {"name": "x", "datatype": "FP32", "shape": [1, 3, 32, 32]}
    for name, inputs in {
        "no input": [],
        "two inputs": [pixels, pixels],
        "datatype": [{**pixels, "datatype": "INT8"}],
        "shape": [{**pixels, "shape": [1, 32, 32]}],
        "negative shape": [{**pixels, "shape": [-1, 32, 32, 3]}],
        "too little data": [{**pixels, "data": [1, 2, 3]}],
        "too large value": [{**pixels, "data": [256] * 3072}],
        "no data": [IMAGE],
        "text in data": [{**pixels, "data": ["x"] * 3072}],
        "size": [{**floats, "shape": [1, 3, 16, 16], "data": [0.0] * 768}],
        "raw pixels": [{**floats, "data": [200.0] * 3072}],
        "too large for FP32": [{**floats, "data": [1e39] * 3072}],
        "broken file": [{"name": "b", "datatype": "BYTES", "shape": [2], "data": [TEXT, "AAAA"]}],
        "shared memory": [{**IMAGE, "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 1}}],
    }.items():
        yield name, doors.call("POST", INFER, json={"inputs": inputs})
    for parameters in (
        *({"renorm_nothing": 1}, {"triton_x": 1}, {"renorm_strategy": "nothing"}, {"renorm_strategy": 1}),
        *({"sequence_id": True}, {"sequence_id": -1}, {"sequence_start": "yes"}, {"renorm_momentum": 2.0}),
        *({"renorm_params": "["}, {"timeout": "x"}, {"renorm_update": 1}, {"sequence_id": "a", "renorm_stream": "b"}),
    ):
        yield f"{parameters}", doors.call("POST", INFER, json={"parameters": parameters, "inputs": [pixels]})
    wrong_outputs: list[list[dict[str, Any]]] = [
        [{"name": "nothing"}],
        [{}],
        [{"name": "label"}, {"name": "label"}],
        [{"name": "probabilities", "parameters": {"classification": 0}}],
    ]
    for outputs in wrong_outputs:
        yield f"{outputs}", doors.call("POST", INFER, json={"inputs": [pixels], "outputs": outputs})
    yield "model", doors.call("POST", "/v2/models/other/infer", json={"inputs": [pixels]})
    yield "version", doors.call("POST", f"/v2/models/{MODEL}/versions/2/infer", json={"inputs": [pixels]})


def _oip_bodies(doors: Doors) -> Iterator[Outcome]:
    def post(content: bytes, headers: dict[str, str]) -> RecordedAnswer:
        return doors.call("POST", INFER, content=content, headers=headers)

    yield "not JSON", post(b"{", {})
    yield "empty", post(b"", {})
    yield "not an object", post(b"[]", {})
    yield "gzip", post(b"no gzip", {"Content-Encoding": "gzip"})
    yield "coding", post(b"{}", {"Content-Encoding": "br"})
    yield "length of text", post(b"{}", {"Inference-Header-Content-Length": "x"})
    yield "length beyond", post(b"{}", header_length(100))
    yield "one broken file", post(b"broken", header_length(0))
    for size in (1, 3071, 10_000):
        tensors = {**IMAGE, "parameters": {"binary_data_size": size}}
        head = json.dumps({"inputs": [tensors]}).encode()
        yield f"binary size {size}", post(head + PIXELS[0].tobytes(), header_length(len(head)))
    for value in (float("nan"), float("inf"), 1e30):
        tensors = {"name": "x", "datatype": "FP32", "shape": [1, 3, 32, 32], "parameters": {"binary_data_size": 12288}}
        head = json.dumps({"inputs": [tensors]}).encode()
        yield f"values {value}", post(head + np.full(3072, value, "<f4").tobytes(), header_length(len(head)))


def _grpc(doors: Doors) -> Iterator[Outcome]:
    raw = [PIXELS[0].tobytes()]
    floats = {"name": "x", "datatype": "FP32", "shape": [1, 3, 32, 32]}
    for name, request in {
        "model": infer_request({}, [IMAGE], raw, model_name="other"),
        "version": infer_request({}, [IMAGE], raw, model_version="2"),
        "no input": infer_request({}, []),
        "no contents": infer_request({}, [IMAGE]),
        "too many contents": infer_request({}, [IMAGE], raw * 2),
        "too few bytes": infer_request({}, [IMAGE], [raw[0][:-1]]),
        "datatype": infer_request({}, [{**IMAGE, "datatype": "INT8"}], raw),
        "shape": infer_request({}, [{**IMAGE, "shape": [32, 32, 3]}], raw),
        "not finite": infer_request({}, [floats], [np.full(3072, np.nan, "<f4").tobytes()]),
        "raw pixels": infer_request({}, [floats], [np.full(3072, 255, "<f4").tobytes()]),
        "broken file": infer_request({}, [{"name": "b", "datatype": "BYTES", "shape": [1]}], [b"\x03\0\0\0abc"]),
        "strategy": infer_request({"renorm_strategy": "nothing"}, [IMAGE], raw),
        "combination": infer_request({"renorm_strategy": "adabn+bn"}, [IMAGE], raw),
        "hyperparameter": infer_request({"renorm_momentum": 2.0}, [IMAGE], raw),
        "parameter": infer_request({"renorm_nothing": 2.0}, [IMAGE], raw),
        "sequence": infer_request({"sequence_start": "yes"}, [IMAGE], raw),
        "output": infer_request({}, [IMAGE], raw, outputs=[{"name": "nothing"}]),
    }.items():
        yield name, doors.infer(request)
    yield "stream", doors.infer(infer_request({}, [IMAGE], raw), metadata={"x-stream-id": "x" * 2000})
    yield "no such call", doors.grpc_unknown("RepositoryIndex")


def _live(doors: Doors) -> Iterator[Outcome]:
    for name, text in {
        **{"strategy": "nothing", "params": "[", "policy": "nothing", "queue": "0", "update": "x", "top_k": "0"},
        "unknown": "1",
    }.items():
        (refusal,) = doors.live("wrong", [], **{name: text}) or [RecordedAnswer({"opened": True}, [])]
        yield name, refusal
    for i, answer in enumerate(doors.live("wrong", [b"broken", FILE, "text", b"", FILE], top_k="1")):
        yield f"frame {i}", answer
    yield "no upgrade", doors.call("GET", "/v1/streams/wrong/live")


def _access(doors: Doors) -> Iterator[Outcome]:
    for key in ("", "wrong"):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for method, path in (
            *(("POST", "/v1/predict"), ("POST", "/v1/predict/stream"), ("POST", INFER), ("GET", "/v1/streams")),
            *(("POST", "/v1/admin/reset"), ("GET", "/metrics"), ("GET", "/nothing"), ("DELETE", "/v1/streams/x")),
        ):
            yield f"{method} {path} {key}", doors.call(method, path, content=b"", headers=headers)
        metadata = {"x-api-key": key} if key else {}
        request = infer_request({}, [IMAGE], [PIXELS[0].tobytes()])
        yield f"grpc {key}", doors.infer(request, metadata=metadata)
    (refusal,) = doors.live("door", [FILE])
    yield "live", refusal


def _limits(doors: Doors) -> Iterator[Outcome]:
    noise = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    large, wide = save(Image.fromarray(noise), "PNG"), save(Image.new("L", (200, 200)), "PNG")
    for name, files in {"images": [FILE] * 5, "bytes": [FILE, large], "pixels": [wide], "body": [large] * 3}.items():
        yield f"form {name}", doors.call("POST", "/v1/predict", files=form_files(files))
        yield f"lines {name}", doors.call("POST", "/v1/predict/stream", files=form_files(files))
        texts = [base64.b64encode(content).decode() for content in files]
        yield f"JSON {name}", doors.call("POST", "/v1/predict", json={"images": texts})
        tensors = {"name": "b", "datatype": "BYTES", "shape": [len(files)]}
        yield f"OIP {name}", doors.call("POST", INFER, json={"inputs": [{**tensors, "data": texts}]})
        content = b"".join(struct.pack("<I", len(file)) + file for file in files)
        yield f"grpc {name}", doors.infer(infer_request({}, [tensors], [content]))
        yield f"raw {name}", doors.call("POST", "/v1/predict", content=files[-1])
    bomb = zlib.compress(b" " * 100_000)
    yield "unfolded", doors.call("POST", INFER, content=bomb, headers={"Content-Encoding": "deflate"})
    for name, frame in {"pixels": wide, "bytes": large}.items():
        for i, answer in enumerate(doors.live("door", [frame, FILE], top_k="1")):
            yield f"live {name} {i}", answer


def _png_header(width: int, height: int) -> bytes:
    """Return a PNG that says it is that large, without pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return FILE[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + FILE[33:]


def _animation() -> bytes:
    buffer = io.BytesIO()
    first, *later = (Image.fromarray(pixels) for pixels in PIXELS[:3])
    first.save(buffer, "GIF", save_all=True, append_images=later)
    return buffer.getvalue()

"""Every setting of the server, in one frozen object. `app.configuration` says where their values come from."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _numbers(text: Any) -> Any:
    return text.strip("[]()").split(",") if isinstance(text, str) else text


def _origins(value: Any) -> Any:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("it should be origins such as https://lab.example")
    origins = tuple(word.strip().rstrip("/") for word in words if word.strip())
    # Starlette takes * for every origin, including those that must be kept out.
    if not all(re.fullmatch(r"https?://[^\s/*@?#]+", origin) for origin in origins):
        raise ValueError("it should be origins such as https://lab.example, without a path or *")
    return origins


def _colours(numbers: tuple[float, ...]) -> tuple[float, ...]:
    if len(numbers) not in (1, 3):
        raise ValueError("it should be three numbers, such as 0.5,0.5,0.5, or one")
    return numbers


Colours = Annotated[tuple[float, ...], NoDecode, BeforeValidator(_numbers), AfterValidator(_colours)]
"""One number per channel; in a variable or option ``0.5,0.5,0.5``, or ``0.5`` for grey."""


def _sides(value: Any) -> Any:
    text = "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    sides = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text.strip().lower())
    numbers = [int(side) for side in sides.groups() if side is not None] if sides else []
    if isinstance(value, bool) or not numbers or not all(1 <= side <= 4096 for side in numbers):
        raise ValueError("it should be pixels from 1 to 4096, such as 224, or HEIGHTxWIDTH, such as 240x320")
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


Sides = Annotated[int | tuple[int, int], NoDecode, BeforeValidator(_sides)]
"""Both sides in pixels, or height and width; in a variable or option ``224`` or ``240x320``."""


def _hosts(value: Any) -> Any:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("it should be host names such as gpu-1.lab.example")
    names = tuple(word.strip().lower() for word in words if word.strip())
    if not all(re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:]+", name) for name in names):
        raise ValueError("it should be host names such as gpu-1.lab.example, without a port or *")
    return names


def _name(text: Any) -> Any:
    if not isinstance(text, str) or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text) is None:
        raise ValueError("it should be letters, digits, '.', '_' and '-', at most 100, with a letter or digit first")
    return text


def _device(text: Any) -> Any:
    if not isinstance(text, str) or re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text) is None:
        raise ValueError("it should be auto, cpu, cuda or cuda:NUMBER")
    return text


class Settings(BaseSettings):
    """The settings of `renorm serve`. Each field is also the environment variable ``RENORM_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="RENORM_", frozen=True, extra="forbid")

    model: str = Field(
        "cifar10-resnet20", description="the model to host: a bundled name, timm:NAME or python:module:factory"
    )
    weights: Path | None = Field(None, description="weights to load: safetensors, or a file of torch.save")
    weights_key: str | None = Field(
        None, min_length=1, description="the weights to use if the file has several, such as state_dict_ema"
    )
    name: Annotated[str, BeforeValidator(_name)] | None = Field(
        None, description="name of the model in answers, paths and metrics, by default after the model"
    )
    labels: Path | None = Field(
        None, description="class names: one per line, or JSON (a list, id2label, label2id, class_index)"
    )
    mean: Colours | None = Field(None, description="channel means of the preprocessing")
    std: Colours | None = Field(None, description="channel deviations of the preprocessing")
    size: Sides | None = Field(None, description="size of the network's input in pixels: a side, or HEIGHTxWIDTH")

    input_range: Literal["check", "off"] = Field(
        "check",
        description="refuse tensors with values that no image has under mean and std, or accept any finite values",
    )
    device: Annotated[str, BeforeValidator(_device)] = Field(
        "auto", description="device of the network: cpu, cuda or cuda:NUMBER; auto uses a GPU if there is one"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="type of weights and activations; statistics are always float32"
    )
    compile: bool = Field(
        False, description="compile forwards to machine code before the server is ready, which takes minutes once"
    )

    strategy: str = Field("auto", description="default strategy of requests")
    temperatures: Path | None = Field(
        None,
        description="file of the temperatures that `renorm calibrate-temperature` fits, by default "
        "renorm/temperatures.json in the user's data folder",
    )
    baseline: Path | None = Field(
        None, description="file of the moments of clean images, made by `renorm calibrate`: the baseline of drift"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on, 0 for a free one")
    admin_key: SecretStr | None = Field(
        None, min_length=8, description="a key for every call, in addition to those of the file"
    )
    keys: Path | None = Field(None, description="file of API keys, made by `renorm key`")
    insecure: bool = Field(
        False, description="accept calls from other machines without a key; admin calls are refused then"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        (), description="CORS: origins that may call from browsers, such as https://lab.example; several with commas"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)] = Field(
        (), description="host names, besides localhost, that a server without keys accepts; several with commas"
    )
    grpc_port: int | None = Field(None, ge=0, le=65535, description="port of the gRPC service, by default none")
    drain_seconds: float = Field(
        10.0, ge=0, description="seconds that running requests have to finish when the server shuts down"
    )
    access_log: bool = Field(False, description="log one line per HTTP request")
    log_format: Literal["text", "json"] = Field("text", description="format of the log: text or JSON lines")
    metrics_streams: int = Field(
        20, ge=0, description="streams with metrics of their own, the busiest; the others are summed up"
    )
    traces: bool = Field(False, description="export OpenTelemetry traces; the OTEL_* variables configure it")
    workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] | None = Field(
        None,
        description="processes that run forwards, each with streams of its own; 0 for none but this one; auto, the "
        "server's default: one for each core (with --threads for each so many), or 0 with a GPU",
    )
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None, description="threads of a forward; auto, the server's default: all cores or one, as measured"
    )

    max_images: int = Field(128, ge=1, description="images per request")
    max_image_bytes: int = Field(20_000_000, ge=1, description="bytes of one encoded image")
    max_image_pixels: int = Field(50_000_000, ge=1, description="pixels of one image, read from its header")
    max_decode_seconds: float = Field(
        5.0, gt=0, description="seconds of CPU time that decoding one image may take, before it is refused with 422"
    )
    max_body_bytes: int = Field(100_000_000, ge=1, description="bytes of one request body")
    max_memory_bytes: int = Field(
        1_000_000_000,
        ge=8,
        description="bytes that all requests may hold: received, being decoded, decoded, and in shared lessons; "
        "one connection may hold a quarter",
    )
    max_lesson_bytes: int | None = Field(
        None,
        ge=1,
        description="bytes that learning from one request may need, before it is refused with 413; by default half of "
        "the machine's memory",
    )
    max_head_bytes: int = Field(
        65_536, ge=1024, description="bytes of a request's first line and headers, before it is refused with 431"
    )
    max_head_lines: int = Field(100, ge=1, description="headers of one request, before it is refused with 431")
    head_seconds: float = Field(
        10.0, gt=0, description="seconds that a request's head may take to arrive, before it is refused with 408"
    )
    body_seconds: float = Field(
        30.0, gt=0, description="seconds in which a body must bring 16 KiB more, or an answer be read, before closing"
    )
    keep_alive_seconds: float = Field(
        75.0, gt=0, description="seconds that an idle connection stays open: longer than pools of clients keep theirs"
    )
    max_connections: int | None = Field(
        None, ge=1, description="open connections, by default three quarters of `ulimit -n`, at most 10000"
    )
    max_connections_per_address: int | None = Field(
        None,
        ge=0,
        description="open connections of one address, by default half of all; 0, behind a proxy, for no limit",
    )
    max_bodies: int = Field(
        512, ge=1, description="request bodies that arrive at once, before further ones are refused with 503"
    )
    max_forward_images: int = Field(256, ge=1, description="most images in one shared forward")
    max_forward_seconds: float = Field(
        0.1, gt=0, description="seconds that a forward with more than one request of a stream may take"
    )
    max_waiting_bytes: int = Field(
        250_000_000,
        ge=1,
        description="bytes of decoded images before further requests wait to be decoded, at most a quarter of "
        "max_memory_bytes",
    )
    max_state_bytes: int = Field(
        1_000_000_000, ge=1, description="bytes of all states, before the least recently used are evicted"
    )
    max_streams: int = Field(
        10_000,
        ge=1,
        description="states of all streams, one per stream and strategy, before the least recently used are evicted",
    )
    max_decompressed_bytes: int = Field(200_000_000, ge=1, description="bytes that a compressed body may decompress to")
    max_waiting: int = Field(1024, ge=1, description="requests that wait, before further ones are refused with 503")
    max_waiting_per_stream: int = Field(
        256, ge=1, description="requests of one stream that wait, before further ones are refused with 429"
    )
    timeout: float | None = Field(
        None, gt=0, description="seconds that a request may wait for its forward, before it is refused with 504"
    )

    @property
    def keyed(self) -> bool:
        """True if calls need a key."""
        return self.keys is not None or self.admin_key is not None

    @property
    def loopback(self) -> bool:
        """True if only programs on this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

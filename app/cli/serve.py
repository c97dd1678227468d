"""`renorm serve`: one process that hosts one model over HTTP."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from app import __version__
from app.cli import options as o
from app.cli.given import CANNOT_RUN, fail, settings_from
from app.cli.listening import address, listen, why_not
from app.cli.opening import check_strategy, open_engine

if TYPE_CHECKING:
    from app.engine import Engine
    from app.settings import Settings
    from app.types import ModelInfo

GRACE_S = 10
"""Seconds that running requests have to finish when the server is told to stop."""

SERVE_EXAMPLES = """\
Examples:

* `renorm serve`

* `renorm serve --strategy unmix_tns --port 9000`

* `renorm serve --model timm:resnet50 --compile`

* `renorm serve --model python:my_package.nets:build --weights net.safetensors --labels classes.txt --size 224`

* `RENORM_ADMIN_KEY=a-long-secret renorm serve --host 0.0.0.0`
"""


def serve(
    model: o.ModelOption = None,
    weights: o.WeightsOption = None,
    labels: o.LabelsOption = None,
    mean: o.MeanOption = None,
    std: o.StdOption = None,
    size: o.SizeOption = None,
    device: o.DeviceOption = None,
    dtype: o.DtypeOption = None,
    compile: o.CompileOption = None,
    strategy: o.StrategyOption = None,
    host: o.HostOption = None,
    port: o.PortOption = None,
    admin_key: o.AdminKeyOption = None,
    threads: o.ThreadsOption = None,
    keys: o.KeysOption = None,
    insecure: o.InsecureOption = None,
    cors_origins: o.CorsOriginsOption = None,
    grpc_port: o.GrpcPortOption = None,
    drain_seconds: o.DrainSecondsOption = None,
    log_format: o.LogFormatOption = None,
    metrics_streams: o.MetricsStreamsOption = None,
    traces: o.TracesOption = None,
    access_log: o.AccessLogOption = False,
    max_images: o.MaxImagesOption = None,
    max_image_bytes: o.MaxImageBytesOption = None,
    max_image_pixels: o.MaxImagePixelsOption = None,
    max_body_bytes: o.MaxBodyBytesOption = None,
    max_forward_images: o.MaxForwardImagesOption = None,
    max_waiting_bytes: o.MaxWaitingBytesOption = None,
    max_state_bytes: o.MaxStateBytesOption = None,
    max_streams: o.MaxStreamsOption = None,
    max_decompressed_bytes: o.MaxDecompressedBytesOption = None,
    max_waiting: o.MaxWaitingOption = None,
    max_waiting_per_stream: o.MaxWaitingPerStreamOption = None,
    timeout: o.TimeoutOption = None,
) -> None:
    """Host a model over HTTP: every stream of images that it answers adapts it, each on its own."""
    settings = settings_from(locals())
    check_strategy(settings.strategy)
    try:
        sockets = listen(settings.host, settings.port)
    except OSError as error:
        fail(why_not(error, settings.host, settings.port), status=CANNOT_RUN)
    if not settings.loopback and settings.admin_key is None:
        typer.secho(
            "Admin calls will be refused: the server listens beyond this machine and has no key. "
            "Set RENORM_ADMIN_KEY (at least 8 characters) to allow them.",
            fg="yellow",
            err=True,
        )
    _run(settings, sockets, access_log=access_log)


def _run(settings: Settings, sockets: list[socket.socket], *, access_log: bool) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_host(settings, sockets, access_log=access_log))
    except OSError as error:
        fail(why_not(error, settings.host, settings.port), status=CANNOT_RUN)
    except KeyboardInterrupt:
        typer.echo("Stopped.")
    finally:
        for taken in sockets:
            taken.close()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    # uvloop exists on every system but Windows, where the standard loop serves.
    if importlib.util.find_spec("uvloop") is None:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    return factory


async def _host(settings: Settings, sockets: list[socket.socket], *, access_log: bool) -> None:
    """Open the engine, then the doors: what cannot be hosted is known, and said, before anything listens."""
    import uvicorn

    from app.main import create_app

    engine = await open_engine(settings)

    async def opened(_: Settings) -> Engine:
        return engine

    greeting = welcome(engine.describe(), address(settings.host, sockets[0]))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            typer.echo(greeting)

    config = uvicorn.Config(
        create_app(settings, opened),
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=access_log,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    with _settled():
        await Server(config).serve(sockets)


@contextmanager
def _settled() -> Iterator[None]:
    """Without this, collecting garbage walks through all of PyTorch in the middle of a request: a tenth of a second."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def welcome(info: ModelInfo, url: str) -> str:
    """What a person who has just started the server wants to know."""
    return f"""\
Renorm {__version__} hosts {info.name} ({info.architecture}): {len(info.classes)} classes, \
{len(info.sites)} BatchNorm site{"s" * (len(info.sites) != 1)}, on {info.device} in {info.dtype}. \
Default strategy: {info.default_strategy}.

  Listening on   {url}
  Documentation  {url}/docs
  First request  curl -F files=@image.jpg '{url}/v1/predict?stream=camera-1'
"""

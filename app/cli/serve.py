"""`renorm serve`: one process that hosts one model over HTTP."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from app.cli import options as o
from app.cli.server import host
from app.cli.settings import CANNOT_RUN, access_of, fail, settings_from
from app.cli.sockets import listen, why_not
from app.cli.startup import check_grpc, check_strategy, check_traces
from app.observability.logs import server as server_log
from app.observability.logs import set_up
from app.resources.allocator import keep_freed_memory
from app.resources.governor import limit_spinning

if TYPE_CHECKING:
    from app.settings import Settings

SERVE_EXAMPLES = """\
Examples:

* `renorm serve`

* `renorm serve --strategy unmix_tns --port 9000`

* `renorm serve --model timm:resnet50 --compile`

* `renorm serve --model python:my_package.nets:build --weights net.safetensors --labels classes.txt --size 224`

* `RENORM_ADMIN_KEY=a-long-secret renorm serve --host 0.0.0.0`
"""


@o.with_settings()
def serve(config: o.ConfigOption = None, **options: Any) -> None:
    """Host a model over HTTP: every stream of images that it answers adapts it, each on its own."""
    limit_spinning()
    keep_freed_memory()
    settings = _alone(settings_from({**options, "config": config}, strict=True))
    access = access_of(settings)
    check_strategy(settings.strategy)
    check_traces(settings)
    check_grpc(settings)
    try:
        sockets = listen(settings.host, settings.port)
    except OSError as error:
        fail(why_not(error, settings.host, settings.port), status=CANNOT_RUN)
    set_up(settings)
    if settings.log_format == "json":
        server_log.info(access.summary())
    else:
        typer.echo(access.summary())
    _run(settings, sockets)


def _alone(settings: Settings) -> Settings:
    """The settings with a number of threads, which the forward has to itself.

    OpenMP gives every thread that computes helpers of its own, which go on spinning for a while when there is nothing
    to do: those of the event loop and of the decoders would take the cores from the forward. So all but the model
    thread, which says what it wants, are left without. To be called before torch is loaded, for OpenMP reads it then.
    """
    before = os.environ.get("OMP_NUM_THREADS", "")
    os.environ["OMP_NUM_THREADS"] = "1"
    wanted: int | str = int(before) if before.isdecimal() and int(before) else "auto"
    return settings if settings.threads is not None else settings.model_copy(update={"threads": wanted})


def _run(settings: Settings, sockets: list[socket.socket]) -> None:
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(host(settings, sockets))
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

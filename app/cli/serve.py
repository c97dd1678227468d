"""`renorm serve`: one process that hosts one model over HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import typer

from app.cli import options as o
from app.cli.server import host
from app.cli.settings import CANNOT_RUN, access_of, fail, settings_from
from app.cli.sockets import listen, listen_error
from app.cli.startup import check_grpc, check_strategy, check_traces
from app.observability.logs import server as server_log
from app.observability.logs import set_up
from app.resources.allocator import keep_freed_memory
from app.resources.event_loop import loop_factory
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
    """Serve a model over HTTP; it adapts to every stream of images separately."""
    limit_spinning()
    keep_freed_memory()
    settings = _with_defaults(settings_from({**options, "config": config}, strict=True))
    access = access_of(settings)
    check_strategy(settings.strategy)
    check_traces(settings)
    check_grpc(settings)
    try:
        sockets = listen(settings.host, settings.port)
    except OSError as error:
        fail(listen_error(error, settings.host, settings.port), status=CANNOT_RUN)
    set_up(settings)
    if settings.log_format == "json":
        server_log.info(access.summary())
    else:
        typer.echo(access.summary())
    _run(settings, sockets)


def _with_defaults(settings: Settings) -> Settings:
    """Return the settings with a server's number of processes, and that of threads reserved for the forward.

    OpenMP gives every computing thread its own workers, which spin for a while when idle: those of the event loop and
    of the decoders would take cores from the forward. So only the model thread, which sets its own number, gets any.
    Call it before torch is loaded, because OpenMP reads the variable then.
    """
    environment = os.environ.get("OMP_NUM_THREADS", "")
    os.environ["OMP_NUM_THREADS"] = "1"
    threads: int | str = int(environment) if environment.isdecimal() and int(environment) else "auto"
    defaults: dict[str, int | str] = {"threads": threads, "workers": "auto"}
    missing = {name: value for name, value in defaults.items() if getattr(settings, name) is None}
    return settings.model_copy(update=missing)


def _run(settings: Settings, sockets: list[socket.socket]) -> None:
    from app.engine import Engine

    prefork = Engine.prefork(settings)  # before anything starts a thread
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(host(settings, sockets, prefork))
    except OSError as error:
        fail(listen_error(error, settings.host, settings.port), status=CANNOT_RUN)
    except KeyboardInterrupt:
        typer.echo("Stopped.")
    finally:
        for bound in sockets:
            bound.close()

"""Open the engine for a command, or end the program with a one-line message."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from app.cli.progress import progress
from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail
from app.cli.sockets import listen, listen_error

if TYPE_CHECKING:
    from app.engine import Engine
    from app.observability.meter import Meter
    from app.settings import Settings


def check_strategy(name: str) -> None:
    """Load plugins, and end the program if there is no strategy ``name``."""
    from adapters import AdapterError, load_plugins, strategy

    try:
        load_plugins()
        strategy(name)
    except AdapterError as error:
        fail(str(error), status=BAD_OPTION)


def check_traces(settings: Settings) -> None:
    """End the program if traces are enabled and their extra is not installed."""
    if settings.traces:
        _import_extra("app.observability.traces")


def check_grpc(settings: Settings) -> None:
    """End the program, before the model is loaded, if gRPC is enabled and cannot be served."""
    if settings.grpc_port is None:
        return
    _import_extra("app.rpc.server")
    if settings.grpc_port == settings.port != 0:
        fail(f"--port and --grpc-port are both {settings.port}: choose different ports", status=BAD_OPTION)
    try:
        # Freed again at once: gRPC binds its own sockets, and gives no reason where it cannot.
        for bound in listen(settings.host, settings.grpc_port):
            bound.close()
    except OSError as error:
        fail(listen_error(error, settings.host, settings.grpc_port, "--grpc-port"), status=CANNOT_RUN)


def _import_extra(module: str) -> None:
    from app.errors import MissingPackageError

    try:
        importlib.import_module(module)
    except MissingPackageError as error:
        fail(error.line, status=CANNOT_RUN)


async def open_engine(settings: Settings, metrics: Meter | None = None, prefork: Any = None) -> Engine:
    """Return the warm engine, see `Engine.open`; end the program if the model cannot be hosted."""
    from adapters import AdapterError
    from app.engine import Engine
    from app.errors import ModelError
    from app.temperatures import CalibrationError

    try:
        with progress() as show:
            return await Engine.open(settings, metrics, show, prefork)
    except (ModelError, CalibrationError) as error:
        fail(f"{settings.model} cannot be hosted: {error.line}", status=CANNOT_RUN)
    except AdapterError as error:
        fail(f"{settings.model} cannot be hosted: {error}", status=CANNOT_RUN)


async def open_own_engine(settings: Settings) -> Engine:
    """Return a warm engine in this process, for a command that asks one request after another."""
    return await open_engine(settings.model_copy(update={"workers": 0}))

"""The state of one server, which its doors and commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

from app.auth.access import Access
from app.engine import Engine
from app.errors import EngineClosedError
from app.observability.metrics import Metrics
from app.resources.memory import ledger_of
from app.settings import Settings

if TYPE_CHECKING:
    from app.observability.traces import Tracing


class ServerState:
    """The parts of a server that live as long as its application, and those that its lifespan opens and closes.

    It is made with the application and not by the lifespan: the middlewares, the command that binds the sockets and
    the signal handler need it before the lifespan begins, and calls without a lifespan are answered as well.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.access, self.memory = settings, Access(settings), ledger_of(settings)
        self.metrics = Metrics(settings.metrics_streams, self.memory)
        self.engine: Engine | None = None  # while it is open
        self.tracing: Tracing | None = None
        self.grpc_port: int | None = None  # the bound one
        self.is_draining = False
        self.deadline: float | None = None  # of the shutdown, in the seconds of `time.monotonic`

    def attach(self, app: Starlette) -> None:
        """Make this the state of the application, see `state_of`."""
        app.state.server = self

    def require_engine(self) -> Engine:
        """Return the open engine.

        Raises:
            EngineClosedError: the server is starting or shutting down.
        """
        if self.engine is None:
            raise EngineClosedError("the server is starting or shutting down", hint="try again, or wait for /readyz")
        return self.engine

    def require_serving_engine(self) -> Engine:
        """Return the open engine like `require_engine`, unless the server is shutting down."""
        if self.is_draining:
            raise EngineClosedError("the server is shutting down", hint="send the request to another server")
        return self.require_engine()

    async def require_ready_engine(self, deadline_s: float) -> Engine:
        """Return the engine, once its model thread has answered a ping. Changes no state.

        Raises:
            EngineClosedError: it is not open, is about to close, or did not answer in time; the message says which.
        """
        engine = self.require_serving_engine()
        if engine.outage:
            raise EngineClosedError(engine.outage, hint="restart the server")
        if not await engine.ping(deadline_s):
            raise EngineClosedError(
                f"an engine or the decoders did not answer within {deadline_s:g} s",
                hint="retry, or restart the server",
            )
        return engine


def state_of(app: Starlette) -> ServerState:
    """Return the state of an application: that of a request, or ``scope["app"]``."""
    state: ServerState = app.state.server
    return state

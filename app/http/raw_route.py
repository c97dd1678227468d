"""A route that calls its endpoint with the request and sends the response that comes back, and nothing between."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class Direct(APIRoute):
    """For the one call that has to be quick: described to OpenAPI like any other, but not run like it.

    FastAPI's own handler solves dependencies and validates and encodes what the endpoint returns, which costs more than
    a small answer. The endpoint takes the request as its only argument and returns a response.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself, where FastAPI would wrap it."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint

"""A route that passes the request to its endpoint and sends the returned response, without FastAPI's handler."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class RawRoute(APIRoute):
    """A route for calls that have to be fast: OpenAPI describes it like any other, but its handler is the endpoint.

    FastAPI's own handler solves dependencies and validates and encodes what the endpoint returns, which costs more than
    a small answer. The endpoint takes the request as its only argument and returns a response.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself, which FastAPI would wrap."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint

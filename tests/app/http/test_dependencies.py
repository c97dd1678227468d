"""No request waits for a thread that only hands it an object."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.http.raw_route import RawRoute
from app.http.routes import admin, health, info, predict


def routes() -> list[APIRoute]:
    doors = (admin, health, info, predict)
    return [route for door in doors for route in door.router.routes if isinstance(route, APIRoute)]


def functions(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from functions(inner)


def test_every_endpoint_and_dependency_is_a_coroutine() -> None:
    assert len(routes()) == 10
    for route in routes():
        for call in functions(route.dependant):
            # FastAPI's own security schemes are objects whose call is a coroutine.
            assert inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__), call


def test_the_quick_call_reads_its_request_itself() -> None:
    (route,) = [route for route in routes() if isinstance(route, RawRoute)]
    assert route.path == "/v1/predict"
    assert route.get_route_handler() is predict.predict
    assert route.dependant.dependencies == []

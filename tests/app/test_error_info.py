"""What an exception tells a client, before any door words it."""

from __future__ import annotations

import json

import pytest

from adapters import CombinationError, InputError, ParameterError, UnknownStrategyError, UnsupportedModelError
from app import errors
from app.error_info import LONGEST, ErrorInfo
from app.error_table import INTERNAL, TABLE, describe_error
from app.errors import BusyError, ImageError, RenormError, TooLargeError, attribute_to_image, locate_images

STARTUP = (errors.RenormError, errors.RequestError, errors.ModelError, errors.MissingPackageError)
"""Errors that no request meets."""


def test_every_error_that_a_request_can_meet_is_in_the_table() -> None:
    types = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RenormError)]
    assert set(types) - set(STARTUP) <= set(TABLE)


def test_no_two_types_have_one_code() -> None:
    codes = [row.code for row in TABLE.values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_an_error_has_what_its_type_has_and_its_own_text(kind: type[Exception]) -> None:
    row, info = TABLE[kind], describe_error(kind("the problem"))
    assert (info.status, info.code, info.location) == (row.status, row.code, row.location)
    assert (info.message, info.hint, info.text) == ("the problem", "", "the problem")
    assert describe_error(type("Derived", (kind,), {})("m")).code == row.code


@pytest.mark.parametrize("kind", [kind for kind in TABLE if issubclass(kind, RenormError)], ids=lambda k: k.__name__)
def test_an_error_of_the_server_has_its_own_hint_and_location(kind: type[RenormError]) -> None:
    info = describe_error(kind("the problem", hint="the remedy", location="a part"))
    assert info.members() == {"error": "the problem; the remedy", "code": TABLE[kind].code, "where": "a part"}
    assert json.loads(info.to_json()) == info.members()


@pytest.mark.parametrize(
    "error", [RuntimeError("a secret"), InputError("a secret"), errors.ModelError("a secret", hint="x", location="y")]
)
def test_other_errors_leak_nothing(error: Exception) -> None:
    assert describe_error(error) is INTERNAL
    assert INTERNAL.members() == {"error": "internal error; see the server's log", "code": "internal"}


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (UnknownStrategyError("m"), "strategy"),
        (ParameterError("m"), "params"),
        (CombinationError("m"), "strategy"),
        (UnsupportedModelError("m"), "strategy"),
        (errors.StreamBusyError("m"), "stream"),
        (ImageError("m"), ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_location_follows_from_the_type_where_the_error_has_none(error: Exception, where: str) -> None:
    assert describe_error(error).location == where


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.MissingKeyError("m"), {"WWW-Authenticate": "Bearer"}),
        (errors.EngineClosedError("m"), {"Retry-After": "1"}),
        (BusyError("m", retry_after_s=2.2), {"Retry-After": "3"}),
        (errors.StreamBusyError("m", retry_after_s=0.01), {"Retry-After": "1"}),
        (errors.AccessError("m"), {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_headers_follow_from_the_error(error: Exception, headers: dict[str, str]) -> None:
    assert describe_error(error).headers == headers


def test_texts_are_bounded_and_valid_utf_8() -> None:
    long = ErrorInfo(422, "c", "x" * 10_000, "y", "z" * 10_000)
    assert (len(long.text), len(long.location)) == (LONGEST + 1, LONGEST + 1)
    assert len(ErrorInfo(422, "c", "x" * LONGEST, "y").text) == LONGEST + 1
    halves = ErrorInfo(422, "c", "half a pair: \ud800", location="\udfff")
    assert halves.members() == {"error": "half a pair: \\ud800", "code": "c", "where": "\\udfff"}


@pytest.mark.parametrize(
    ("error", "first", "location"),
    [
        (ImageError("m", image=2), 0, "files[2]"),
        (ImageError("m", image=2), 8, "files[10]"),
        (TooLargeError("m", location=errors.IMAGES), 8, "files"),
        (TooLargeError("m", location="params"), 8, "params"),
        (TooLargeError("m"), 8, ""),
    ],
)
def test_images_are_located_in_the_client_s_request(error: RenormError, first: int, location: str) -> None:
    for _ in range(2):  # a response that two requests share
        with pytest.raises(type(error)), locate_images("files[{}]", first):
            raise error
        assert error.location == location


def test_the_place_of_a_single_image_has_no_index() -> None:
    with pytest.raises(ImageError) as caught, locate_images("body"):
        raise ImageError("m", image=0)
    assert caught.value.location == "body"


def test_an_error_of_the_request_is_attributed_to_its_image() -> None:
    with pytest.raises(ImageError) as caught, attribute_to_image(3):
        raise ImageError("m")
    assert caught.value.image == 3
    with pytest.raises(errors.EngineClosedError) as closed, attribute_to_image(3):
        raise errors.EngineClosedError("m")
    assert closed.value.image is None

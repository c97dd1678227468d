"""Retries of the client: after which replies, and after which pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from app.client.exchange import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_before_retry, retry_after


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_transient_statuses_are_retried(status: int) -> None:
    assert pause_before_retry(httpx.Response(status), 0, repeatable=True) is not None


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 413, 415, 422, 500, 501])
def test_final_statuses_are_not_retried(status: int) -> None:
    assert pause_before_retry(httpx.Response(status, headers={"Retry-After": "1"}), 0, repeatable=True) is None


@pytest.mark.parametrize(
    ("error", "repeatable", "is_retried_unrepeatable"),
    [
        (httpx.ConnectError("refused"), True, True),
        (httpx.ConnectTimeout("late"), True, True),
        (httpx.ReadError("broken"), True, False),
        (httpx.ReadTimeout("late"), True, False),
        (httpx.WriteError("broken"), True, False),
        (httpx.RemoteProtocolError("gone"), True, False),
        (httpx.LocalProtocolError("never sent"), False, False),
        (httpx.UnsupportedProtocol("ftp"), False, False),
        (httpx.DecodingError("junk"), False, False),
    ],
)
def test_connection_errors_are_retried_where_the_call_is_repeatable(
    error: httpx.RequestError, repeatable: bool, is_retried_unrepeatable: bool
) -> None:
    assert (pause_before_retry(error, 0, repeatable=True) is not None) is repeatable
    assert (pause_before_retry(error, 0, repeatable=False) is not None) is is_retried_unrepeatable


@pytest.mark.parametrize(("status", "is_retried"), [(429, True), (503, True), (502, False), (504, False)])
def test_unrepeatable_calls_are_retried_only_where_they_cannot_have_begun(status: int, is_retried: bool) -> None:
    assert (pause_before_retry(httpx.Response(status), 0, repeatable=False) is not None) is is_retried


def test_pauses_double_up_to_a_limit_with_jitter() -> None:
    broken = httpx.ConnectError("refused")
    for attempt, longest in ((0, FIRST_PAUSE_S), (1, 2 * FIRST_PAUSE_S), (3, 8 * FIRST_PAUSE_S), (50, LONGEST_PAUSE_S)):
        pauses = [pause_before_retry(broken, attempt, repeatable=True) for _ in range(50)]
        assert all(pause is not None and longest / 2 <= pause <= longest for pause in pauses)
        assert len(set(pauses)) > 10


def test_retry_after_is_added_to_the_pause() -> None:
    busy = httpx.Response(503, headers={"Retry-After": "7"})
    pause = pause_before_retry(busy, 0, repeatable=True)
    assert pause is not None
    assert 7 < pause <= 7 + FIRST_PAUSE_S


def test_a_retry_after_of_an_hour_is_not_waited_for() -> None:
    assert pause_before_retry(httpx.Response(503, headers={"Retry-After": "3600"}), 0, repeatable=True) is None


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after("12") == 12
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert 28 <= retry_after(format_datetime(soon, usegmt=True)) <= 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0
    assert retry_after("") == retry_after("soon") == retry_after("-5") == 0


@pytest.mark.parametrize("seconds", [61, 524, 600])
def test_a_full_queue_of_a_slow_server_is_waited_for(seconds: int) -> None:
    busy = httpx.Response(503, headers={"Retry-After": str(seconds)})
    pause = pause_before_retry(busy, 0, repeatable=True)
    assert pause is not None
    assert seconds < pause < seconds + 1

"""Whose turn it is: shares of streams and clients, in the long run and at once."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.shares import Flow, Shares


def turns(shares: Shares, waiting: dict[str, list[int]], most: int) -> list[tuple[str, int]]:
    """The first turns of what waits of each stream (images of each request), each one paid for and gone."""
    taken: list[tuple[str, int]] = []
    queues = {
        stream: deque((stream, images) for images in requests) for stream, requests in waiting.items() if requests
    }
    for stream, images in shares.in_turn(queues):
        taken.append((stream, images))
        shares.charge(stream, images)
        if len(taken) == most:
            break
    for stream, images in taken:
        shares.leave(stream)
        waiting[stream].remove(images)
    return taken


def entered(flows: dict[str, str], requests: dict[str, list[int]]) -> Shares:
    """Shares of streams, given with their clients, of which so many requests wait."""
    shares = Shares()
    for stream, client in flows.items():
        for _ in requests[stream]:
            shares.enter(Flow(stream, client))
    return shares


def test_streams_take_turns_whoever_sends_more() -> None:
    requests = {"a": [1] * 5, "b": [1], "c": [1] * 2}
    shares = entered({"a": "", "b": "", "c": ""}, requests)
    assert [stream for stream, _ in turns(shares, requests, 8)] == ["a", "b", "c", "a", "c", "a", "a", "a"]


def test_turns_are_weighed_by_images() -> None:
    requests = {"large": [16] * 4, "small": [1] * 40}
    shares = entered({"large": "", "small": ""}, requests)
    images = Counter[str]()
    for stream, count in turns(shares, requests, 36):
        images[stream] += count
    assert images == {"large": 32, "small": 34} or images == {"large": 48, "small": 33}


def test_clients_share_alike_whatever_their_number_of_streams() -> None:
    flows = {f"many-{i}": "many" for i in range(10)} | {"one": "one"}
    requests = {stream: [1] * 10 for stream in flows}
    shares = entered(flows, requests)
    assert Counter(stream.partition("-")[0] for stream, _ in turns(shares, requests, 20)) == {"many": 10, "one": 10}


def test_late_stream_neither_catches_up_nor_waits() -> None:
    requests = {"early": [1] * 100}
    shares = entered({"early": ""}, requests)
    turns(shares, requests, 50)
    requests["late"] = [1] * 20
    for _ in range(20):
        shares.enter(Flow("late"))
    assert Counter(stream for stream, _ in turns(shares, requests, 20)) == {"early": 10, "late": 10}


def test_stream_that_returns_at_once_still_owes_its_last_turn() -> None:
    requests = {"large": [64], "small": [1] * 200}
    shares = entered({"large": "", "small": ""}, requests)
    assert turns(shares, requests, 2) == [("large", 64), ("small", 1)]
    requests["large"] = [64]
    shares.enter(Flow("large"))
    assert [stream for stream, _ in turns(shares, requests, 30)] == ["small"] * 30


def test_new_names_of_a_client_do_not_keep_its_known_stream_waiting() -> None:
    requests: dict[str, list[int]] = {"known": [1] * 3}
    shares = entered({"known": "a"}, requests)
    served = Counter[str]()
    for i in range(30):
        name = f"new-{i}"
        requests[name] = [1]
        shares.enter(Flow(name, "a"))
        served.update(stream for stream, _ in turns(shares, requests, 1))
    assert served["known"] == 3


def test_a_stream_belongs_to_who_asked_first_while_anything_of_it_waits() -> None:
    shares = Shares()
    for client in ("a", "b"):
        shares.enter(Flow("shared", client))
    shares.charge("shared", 5)
    shares.enter(Flow("own", "b"))
    assert shares.rank("own") < shares.rank("shared")
    for stream in ("shared", "shared", "own"):
        shares.leave(stream)
    shares.enter(Flow("shared", "b"))
    shares.enter(Flow("other", "a"))
    assert shares.rank("shared") == shares.rank("other")


def test_a_queue_that_is_cleared_has_no_further_turn() -> None:
    requests = {"a": [1, 1, 1], "b": [1, 1]}
    shares = entered({"a": "", "b": ""}, requests)
    queues = {stream: deque([stream] * len(counts)) for stream, counts in requests.items()}
    seen = []
    for stream in shares.in_turn(queues):
        seen.append(stream)
        shares.charge(stream, 1)
        if stream == "a":
            queues["a"].clear()
    assert seen == ["a", "b", "b"]


@pytest.mark.parametrize("streams", [1, 1000], ids=["one", "thousand"])
def test_finished_streams_are_not_remembered(streams: int) -> None:
    shares = Shares()
    shares.enter(Flow("stays"))
    for i in range(streams):
        shares.enter(Flow(i))
        shares.charge(i, 1)
        shares.leave(i)
    assert sum(len(level.usage) + len(level._debts) for level in shares._streams.values()) < 100
    shares.leave("stays")
    assert not shares._streams
    assert not shares._clients.usage
    assert not shares._clients._debts


@given(st.lists(st.lists(st.integers(1, 32), min_size=20, max_size=20), min_size=2, max_size=5))
def test_streams_that_always_wait_are_never_more_than_two_requests_apart(sizes: list[list[int]]) -> None:
    requests = {str(i): list(counts) for i, counts in enumerate(sizes)}
    shares = entered(dict.fromkeys(requests, ""), requests)
    images = Counter[str](dict.fromkeys(requests, 0))
    while all(requests.values()):
        images.update(dict(turns(shares, requests, 1)))
        assert max(images.values()) - min(images.values()) <= 2 * 32

"""Taking the server's address."""

from __future__ import annotations

import errno
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.cli.sockets import address, listen, listen_error

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "")


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def test_all_addresses_of_a_name_share_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = [(*V4, ("127.0.0.1", 0)), (*V4, ("127.0.0.2", 0)), (*V4, ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: resolved)
    sockets = listen("both", 0)
    try:
        names = [one.getsockname() for one in sockets]
        assert [name for name, _ in names] == ["127.0.0.1", "127.0.0.2"]
        assert names[0][1] == names[1][1] != 0
    finally:
        close(sockets)


def test_an_address_that_this_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(*V4, ("192.0.2.1", 0)), (*V4, ("127.0.0.1", 0))])
    sockets = listen("half", 0)
    try:
        assert [one.getsockname()[0] for one in sockets] == ["127.0.0.1"]
    finally:
        close(sockets)


def test_no_address_is_kept_if_one_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *a, **k: [(*V4, ("127.0.0.1", port)), (*V4, ("127.0.0.2", port))]
        )
        with pytest.raises(OSError, match="in use") as failure:
            listen("both", port)
        assert failure.value.errno == errno.EADDRINUSE
        # The first address is free again.
        with socket.socket() as again:
            again.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EADDRINUSE, "x"), "in use"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "not an address of this machine"),
        (PermissionError(errno.EACCES, "x"), "above 1023"),
        (socket.gaierror(-2, "x"), "unknown host name"),
        (OSError(errno.ENOBUFS, "no buffers"), "no buffers"),
    ],
)
def test_listen_errors_name_the_address(error: OSError, said: str) -> None:
    message = listen_error(error, "camera.example", 80)
    assert said in message
    assert "camera.example" in message


class Bound:
    def getsockname(self) -> tuple[str, int]:
        return "ignored", 81


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("fe80::1", "http://[fe80::1]:81"),
        ("example.org", "http://example.org:81"),
    ],
)
def test_url_of_a_listening_address(host: str, url: str) -> None:
    bound: Any = Bound()
    assert address(host, bound) == url


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])  # noqa: S104
def test_a_server_for_others_tells_an_address_that_others_can_open(host: str) -> None:
    bound: Any = Bound()
    url = urlsplit(address(host, bound))
    assert url.port == 81
    assert url.hostname not in {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104


def test_second_of_two_servers_on_one_port_fails_at_once() -> None:
    first = listen("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="in use") as caught:
            listen("127.0.0.1", first[0].getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
    finally:
        for taken in first:
            taken.close()

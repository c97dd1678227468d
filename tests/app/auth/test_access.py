"""Who may call: with keys, without, beyond this machine, from web pages."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.auth import keys as key_files
from app.auth.access import Access, presented_keys, required_scope
from app.auth.keys import KeyFileError, KeyScope, new_key, read_keys, write_keys
from app.errors import AccessError, MissingKeyError
from app.settings import Settings

OUTSIDE = "0.0.0.0"  # noqa: S104
FOREIGN = "http://elsewhere.example"


def access(**settings: Any) -> Access:
    return Access(Settings(**settings))


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/", None),
        ("/healthz", None),
        ("/readyz", None),
        ("/v2/health/live", None),
        ("/v2/health/ready", None),
        ("/docs", None),
        ("/docs/oauth2-redirect", None),
        ("/redoc", None),
        ("/openapi.json", None),
        ("/static-offline-docs/swagger-ui.css", None),
        ("/v1/predict", "infer"),
        ("/v1/streams/a/live", "infer"),
        ("/v2/models/m/infer", "infer"),
        ("/v2/models/m/versions/1/infer", "infer"),
        ("/v2/repository/index", "infer"),
        ("/metrics", "infer"),
        ("/v1/model", "infer"),
        ("/a/door/of/tomorrow", "infer"),
        ("/docsx", "infer"),
        ("/healthz2", "infer"),
        ("//", "infer"),
        ("", "infer"),
        ("/v1/admin/reset", "admin"),
        ("/v1/admin", "admin"),
        ("/v2/repository/models/m/load", "admin"),
        ("/v2/repository/models/m/unload", "admin"),
    ],
)
def test_every_path_has_a_scope(path: str, scope: KeyScope | None) -> None:
    assert required_scope(path) == scope


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ([], []),
        ([(b"authorization", b"Bearer  a b ")], [b"a b"]),
        ([(b"authorization", b"bearer a"), (b"x-api-key", b" b ")], [b"a", b"b"]),
        ([(b"authorization", b"Basic a"), (b"authorization", b"Bearer")], []),
        ([(b"x-api-key", b""), (b"authorization", b"Bearer ")], []),
        ([(b"x-api-key", b"a"), (b"x-api-key", b"b")], [b"a"]),
        ([(b"cookie", b"a"), (b"x-api-key", b"\xff")], [b"\xff"]),
    ],
)
def test_keys_are_read_from_two_headers(headers: list[tuple[bytes, bytes]], keys: list[bytes]) -> None:
    assert presented_keys(headers) == keys


def test_without_keys_programs_on_this_machine_may_do_everything() -> None:
    local = access()
    for scope in ("infer", "admin"):
        local.check(scope, [])
        local.check(scope, [b"any"], None, "localhost:8000", websocket=True)
    assert not local.keyed
    assert not local.refusal()
    assert local.summary() == "Access: open to every program on this machine; no keys are set."


@pytest.mark.parametrize(("scope", "websocket"), [("admin", False), ("infer", True)])
@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://127.0.0.1", "127.0.0.1", True),
        ("http://[::1]:9", "[::1]:9", True),
        ("https://lab.example", "localhost:8000", True),
        (FOREIGN, "localhost:8000", False),
        ("http://lab.example", "localhost:8000", False),
        ("http://localhost:3000", "localhost:8000", False),
        ("http://rebound.example:8000", "rebound.example:8000", False),
        ("null", "localhost:8000", False),
        ("", "localhost:8000", False),
        ("", None, False),
        ("http://[", "localhost:8000", False),
    ],
)
def test_without_keys_only_own_and_listed_pages_may_change_things_or_open_sockets(
    scope: KeyScope, websocket: bool, origin: str, host: str | None, may: bool
) -> None:
    local = access(cors_origins="https://lab.example/")
    if may:
        local.check(scope, [], origin, host, websocket=websocket)
    else:
        rebound = host is not None and host.startswith("rebound")
        words, hint = ("is not allowed", "--allowed-hosts") if rebound else ("other origins are", "--cors-origins")
        with pytest.raises(AccessError, match=words) as refused:
            local.check(scope, [], origin, host, websocket=websocket)
        assert hint in refused.value.hint


def test_beyond_this_machine_without_keys_everything_is_closed() -> None:
    closed = access(host=OUTSIDE)
    for scope in ("infer", "admin"):
        with pytest.raises(AccessError, match="open to other machines") as refused:
            closed.check(scope, [b"any"])
        assert "RENORM_ADMIN_KEY" in refused.value.hint
    closed.check(None, [])
    for way in ("renorm key new", "RENORM_ADMIN_KEY", "--insecure"):
        assert way in closed.refusal()


def test_insecure_opens_all_but_admin_calls() -> None:
    open_to_all = access(host=OUTSIDE, insecure=True)
    assert not open_to_all.refusal()
    assert "everyone" in open_to_all.summary()
    open_to_all.check("infer", [])
    open_to_all.check("infer", [], "http://10.0.0.7:8000", "10.0.0.7:8000", websocket=True)
    with pytest.raises(AccessError, match="WebSockets"):
        open_to_all.check("infer", [], FOREIGN, "10.0.0.7:8000", websocket=True)
    with pytest.raises(AccessError, match="admin calls are denied"):
        open_to_all.check("admin", [])


@pytest.mark.parametrize("more", [{}, {"host": OUTSIDE}, {"host": OUTSIDE, "insecure": True}])
def test_with_a_key_every_call_needs_one_of_its_scope(tmp_path: Path, more: dict[str, Any]) -> None:
    reader, read = new_key("reader", ["infer"])
    owner, own = new_key("owner", ["admin"])
    write_keys(tmp_path / "keys.toml", [read, own])
    keyed = access(keys=tmp_path / "keys.toml", admin_key="twelve chärs", **more)
    assert keyed.summary() == "Access: calls need a key; 3 are valid."
    for key in (reader, owner, "twelve chärs"):
        keyed.check("infer", [key.encode()])
    for key in (owner, "twelve chärs"):
        keyed.check("admin", [b"wrong", key.encode()], FOREIGN, "localhost", websocket=True)
    with pytest.raises(AccessError, match="'reader' does not have scope 'admin'"):
        keyed.check("admin", [reader.encode()])
    with pytest.raises(AccessError, match="not valid") as wrong:
        keyed.check("infer", [b"Twelve chars"])
    assert type(wrong.value) is AccessError
    assert "Twelve" not in f"{wrong.value.message} {wrong.value.hint}"
    with pytest.raises(MissingKeyError) as missing:
        keyed.check("infer", [])
    assert "Bearer" in missing.value.hint
    keyed.check(None, [])


def test_an_expired_key_is_refused_by_its_name(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    old, past = new_key("old", ["infer", "admin"], now - timedelta(seconds=1))
    new, future = new_key("new", ["infer"], now + timedelta(hours=1))
    write_keys(tmp_path / "k", [past, future])
    keyed = access(keys=tmp_path / "k")
    assert "1 is valid" in keyed.summary()
    keyed.check("infer", [new.encode()])
    with pytest.raises(AccessError, match="'old' has expired"):
        keyed.check("infer", [old.encode()])
    keyed.check("infer", [old.encode(), new.encode()])


def test_a_file_without_keys_closes_the_server(tmp_path: Path) -> None:
    write_keys(tmp_path / "k", [])
    with pytest.raises(AccessError):
        access(keys=tmp_path / "k").check("infer", [b"any"])
    with pytest.raises(KeyFileError, match="cannot be read"):
        access(keys=tmp_path / "none")


def test_keys_are_rotated_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(key_files, "CHECK_S", 0.0)
    file = tmp_path / "k"
    (old, first), (new, second) = new_key("old", ["infer"]), new_key("new", ["infer"])
    write_keys(file, [first])
    keyed = access(keys=file)
    write_keys(file, [first, second])
    for key in (old, new):
        keyed.check("infer", [key.encode()])
    write_keys(file, [second])
    with pytest.raises(AccessError):
        keyed.check("infer", [old.encode()])
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        file.write_text("[[key")
        keyed.check("infer", [new.encode()])
        keyed.check("infer", [new.encode()])
        file.unlink()
        keyed.check("infer", [new.encode()])
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"], "once for each change"
    assert "not valid TOML" in caplog.messages[0]
    assert "stay valid" in caplog.messages[1]
    write_keys(file, [first])
    keyed.check("infer", [old.encode()])


def test_the_file_is_not_looked_at_for_every_call(tmp_path: Path) -> None:
    key, kept = new_key("one", ["infer"])
    write_keys(tmp_path / "k", [kept])
    keyed = access(keys=tmp_path / "k")
    os.truncate(tmp_path / "k", 0)
    keyed.check("infer", [key.encode()])


# Names of the server, pages, and keys that are bound to streams


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:1", True),
        ("[::1]:8000", True),
        ("gpu-1.lab.example:8000", True),
        (None, True),
        ("rebound.example", False),
        ("127.0.0.1.rebound.example:8000", False),
        ("testserver", False),
        ("[", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("scope", ["infer", "admin"])
def test_without_keys_a_server_of_this_machine_answers_to_its_own_names(
    scope: KeyScope, host: str | None, may: bool
) -> None:
    local = access(allowed_hosts="GPU-1.lab.example, other")
    if may:
        local.check(scope, [], None, host)
        return
    with pytest.raises(AccessError, match="is not allowed") as refused:
        local.check(scope, [], None, host)
    assert "--allowed-hosts" in refused.value.hint


def test_a_page_under_an_allowed_name_is_the_servers_own() -> None:
    access(allowed_hosts="box.lab").check("infer", [], "http://box.lab:8000", "box.lab:8000", changes=True)


@pytest.mark.parametrize(("origin", "may"), [(None, True), ("http://localhost:8000", True), (FOREIGN, False)])
def test_without_keys_foreign_pages_change_no_stream(origin: str | None, may: bool) -> None:
    local = access()
    local.check("infer", [], origin, "localhost:8000")  # browsers keep what is read from the page
    if may:
        local.check("infer", [], origin, "localhost:8000", changes=True)
    else:
        with pytest.raises(AccessError, match="calls that change a stream from pages of other origins"):
            local.check("infer", [], origin, "localhost:8000", changes=True)


def bound(tmp_path: Path) -> tuple[Access, dict[str, bytes]]:
    """A server of three keys, and what each is sent as."""
    made = {
        "all": new_key("all", ["infer"]),
        "a": new_key("a", ["infer"], streams=["tenant-a-*"]),
        "admin": new_key("admin", ["admin"]),
    }
    write_keys(tmp_path / "keys.toml", [key for _, key in made.values()])
    assert read_keys(tmp_path / "keys.toml") == tuple(key for _, key in made.values())
    return access(keys=tmp_path / "keys.toml"), {name: secret.encode() for name, (secret, _) in made.items()}


@pytest.mark.parametrize(
    ("name", "stream", "forgets", "may"),
    [
        ("all", "tenant-b-1", False, True),
        ("all", "tenant-b-1", True, False),
        ("all", None, False, True),
        ("a", "tenant-a-1", False, True),
        ("a", "tenant-a-1", True, True),
        ("a", "tenant-b-1", False, False),
        ("a", "tenant-a", False, False),
        ("a", None, False, False),
        ("admin", "tenant-b-1", True, True),
    ],
)
def test_a_key_touches_the_streams_that_it_is_for(
    name: str, stream: str | None, forgets: bool, may: bool, tmp_path: Path
) -> None:
    rules, sent = bound(tmp_path)
    if may:
        rules.check_stream([sent[name]], stream, forgets=forgets)
        return
    with pytest.raises(AccessError, match="may not reset a stream" if name == "all" else "is not for"):
        rules.check_stream([sent[name]], stream, forgets=forgets)


def test_a_key_that_ended_while_its_call_was_read_touches_nothing(tmp_path: Path) -> None:
    secret, key = new_key("a", ["infer"], datetime.now(UTC) - timedelta(seconds=1), streams=["tenant-a-"])
    write_keys(tmp_path / "keys.toml", [key])
    with pytest.raises(AccessError, match="no longer valid"):
        access(keys=tmp_path / "keys.toml").check_stream([secret.encode()], "tenant-a-1")


@pytest.mark.parametrize("prefixes", [[""], ["*"], ["a", ""], [3], "text", ['a"b'], ["a\nb"]], ids=repr)
def test_a_key_cannot_be_bound_to_nothing(prefixes: Any) -> None:
    with pytest.raises(KeyFileError, match="cannot be bound"):
        new_key("name", ["infer"], streams=prefixes if isinstance(prefixes, list) else [*prefixes, ""])

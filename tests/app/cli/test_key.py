"""`renorm key`: keys are shown once, kept as hashes, listed and removed."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.auth.keys import ApiKey, KeyScope, digest, read_keys, write_keys
from app.cli import cli


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("RENORM_"):
            monkeypatch.delenv(name)


def key(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["key", *arguments])
    assert result.exit_code == status, result.output
    if status:
        assert result.stderr.startswith("renorm: ")
        assert result.stdout == ""
    return result


def test_a_new_key_is_printed_alone_and_kept_as_a_hash() -> None:
    made = key("new", "--name", "ops", "--scopes", "infer, admin", "--expires", "90d")
    secret = made.stdout.removesuffix("\n")
    (kept,) = read_keys(Path("keys.toml"))
    assert kept.digest == digest(secret.encode())
    assert kept.scopes == {"infer", "admin"}
    assert kept.expires is not None
    assert abs(kept.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    assert secret not in made.stderr + Path("keys.toml").read_text()
    assert stat.S_IMODE(Path("keys.toml").stat().st_mode) == 0o600


def test_keys_are_added_and_removed_beside_others() -> None:
    first = key("new", "--name", "a", "--file", "k").stdout
    second = key("new", "--name", "b", "--file", "k").stdout
    assert first != second
    assert [(one.name, *one.scopes) for one in read_keys(Path("k"))] == [("a", "infer"), ("b", "infer")]
    assert "already has a key 'a'" in key("new", "--name", "a", "--file", "k", status=2).stderr
    key("remove", "a", "--file", "k")
    assert [one.name for one in read_keys(Path("k"))] == ["b"]
    assert "has no key 'a'; its keys: b" in key("remove", "a", "--file", "k", status=2).stderr


def test_the_file_of_the_settings_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENORM_KEYS", "mine.toml")
    key("new", "--name", "a")
    assert Path("mine.toml").exists()
    assert "a " in key("list").stdout


def test_the_list_tells_when_keys_end_but_not_the_keys() -> None:
    past, future = datetime(2020, 1, 2, 3, 4, tzinfo=UTC), datetime(2099, 1, 2, tzinfo=UTC)
    scopes = frozenset[KeyScope](["admin", "infer"])
    keys = [ApiKey(name, scopes, bytes(32), past, end) for name, end in (("x", past), ("y", future), ("z", None))]
    write_keys(Path("k"), keys)
    lines = key("list", "--file", "k").stdout.splitlines()
    assert lines[2].split("  ")[-1] == "2020-01-02 03:04 UTC (expired)"
    assert lines[3].split("  ")[-1] == "2099-01-02 00:00 UTC"
    assert lines[4].split("  ")[-1] == "never"
    assert "sha256" not in "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a b"], "cannot be named 'a b'"),
        (["--name", "a", "--scopes", "root"], "--scopes must be"),
        (["--name", "a", "--scopes", ""], "--scopes must be"),
        (["--name", "a", "--expires", "90"], "--expires must be"),
        (["--name", "a", "--expires", "0d"], "--expires must be"),
        (["--name", "a", "--expires", "100000w"], "--expires must be"),
    ],
)
def test_wrong_options_make_nothing(arguments: list[str], said: str) -> None:
    assert said in key("new", *arguments, status=2).stderr
    assert not Path("keys.toml").exists()


def test_files_that_cannot_be_read_or_written() -> None:
    assert "No such file" in key("list", status=1).stderr
    assert "cannot be written" in key("new", "--name", "a", "--file", "no/such/folder/k", status=1).stderr
    Path("keys.toml").write_text("[[key")
    assert "not valid TOML" in key("new", "--name", "a", status=1).stderr
    assert Path("keys.toml").read_text() == "[[key", "a broken file is left to whoever can mend it"


def test_help_shows_examples() -> None:
    assert "renorm key new --name ops" in key("--help").stdout
    assert "--expires" in key("new", "--help").stdout

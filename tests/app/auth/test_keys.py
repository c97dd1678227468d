"""Files of keys: what is written, what is read back, what is refused."""

from __future__ import annotations

import hashlib
import logging
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.auth.keys import PREFIX, ApiKey, KeyFile, KeyFileError, digest, new_key, read_keys, write_keys

HASH = f"sha256:{'0' * 64}"
GOOD = f'[[key]]\nname = "a"\nscopes = ["infer"]\nhash = "{HASH}"\n'


def test_a_key_has_256_random_bits_and_only_its_hash_is_kept() -> None:
    secret, key = new_key("ops", ["infer", "admin"])
    other, _ = new_key("ops", ["infer"])
    assert secret.startswith(PREFIX)
    assert len(secret) == len(PREFIX) + 43, "43 letters of 6 bits hold 256"
    assert secret != other
    assert key.digest == digest(secret.encode()) == hashlib.sha256(secret.encode()).digest()
    assert secret.removeprefix(PREFIX) not in repr(key)


def test_keys_written_to_a_file_are_read_back(tmp_path: Path) -> None:
    expires = datetime(2030, 1, 31, 12, tzinfo=UTC)
    keys = (new_key("a", ["infer"])[1], new_key("b.c-d_E9", ["infer", "admin"], expires)[1])
    write_keys(tmp_path / "k", keys)
    assert read_keys(tmp_path / "k") == keys
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    write_keys(tmp_path / "k", ())
    assert read_keys(tmp_path / "k") == ()
    assert [file.name for file in tmp_path.iterdir()] == ["k"], "nothing temporary stays"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_keys(tmp_path / "k", (new_key("a", ["infer"])[1],))
    before = (tmp_path / "k").read_bytes()
    unwritable = ApiKey("\ud800", frozenset({"infer"}), b"")
    with pytest.raises(UnicodeEncodeError):
        write_keys(tmp_path / "k", (unwritable,))
    assert (tmp_path / "k").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["k"]


def test_admin_includes_infer() -> None:
    now = datetime.now(UTC)
    admin, infer = new_key("a", ["admin"])[1], new_key("i", ["infer"], now)[1]
    assert (admin.allows("infer"), admin.allows("admin")) == (True, True)
    assert (infer.allows("infer"), infer.allows("admin")) == (True, False)
    assert (infer.is_expired(now), infer.is_expired(now - timedelta(seconds=1)), admin.is_expired(now)) == (
        True,
        False,
        False,
    )


def test_times_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(GOOD)
    assert read_keys(tmp_path / "k") == (ApiKey("a", frozenset({"infer"}), bytes(32)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[key", "not valid TOML"),
        ("[key]\nname = 'a'\n", "[[key]] tables"),
        ("key = [1]", "[[key]] tables"),
        ("a = 1", "[[key]] tables"),
        (GOOD.replace("name", "nome"), "unknown field 'nome'"),
        (GOOD.replace('"a"', '"a b"'), "cannot be named 'a b'"),
        (GOOD.replace('"a"', "1"), "cannot be named 1"),
        (GOOD.replace('["infer"]', '["root"]'), "scopes of key 'a'"),
        (GOOD.replace('["infer"]', '[["infer"]]'), "scopes of key 'a'"),
        (GOOD.replace('["infer"]', "[]"), "scopes of key 'a'"),
        (GOOD.replace('["infer"]', '"infer"'), "scopes of key 'a'"),
        (GOOD.replace("sha256:", "md5:"), "hash of key 'a'"),
        (GOOD.replace(HASH, HASH[:-1]), "hash of key 'a'"),
        (f"{GOOD}expires = 2030-01-31\n", "'expires' of key 'a'"),
        (f"{GOOD}created = 2030-01-31T12:00:00\n", "'created' of key 'a'"),
        (GOOD + GOOD, "two keys are named 'a'"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "k").write_text(text)
    with pytest.raises(KeyFileError) as broken:
        read_keys(tmp_path / "k")
    assert said in broken.value.message
    assert str(tmp_path / "k") in broken.value.message


def test_bytes_that_are_no_text_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"\xff")
    with pytest.raises(KeyFileError, match="not valid TOML"):
        read_keys(tmp_path / "k")
    with pytest.raises(KeyFileError, match="No such file") as missing:
        read_keys(tmp_path / "none")
    assert "renorm key new" in missing.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620], ids=oct)
def test_a_file_that_others_can_open_is_named_with_the_command_that_closes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    path = tmp_path / "the keys"
    path.write_text(GOOD)
    path.chmod(mode)
    with caplog.at_level(logging.WARNING, "renorm"):
        KeyFile(path)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"mode {mode:03o}" in caplog.text
    assert f"chmod 600 '{path}'" in caplog.text


def test_a_file_that_renorm_wrote_needs_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_keys(tmp_path / "k", (new_key("a", ["infer"])[1],))
    with caplog.at_level(logging.WARNING, "renorm"):
        KeyFile(tmp_path / "k")
    assert not caplog.records

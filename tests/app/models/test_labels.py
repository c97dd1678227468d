"""Class names: lines or a JSON list, and nothing ambiguous."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ModelError
from app.models.labels import read_labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "cat\nwild dog\nbird"),
        ("labels.txt", "cat\r\n wild dog \r\nbird\r\n\r\n"),
        ("labels.txt", "\ufeffcat\nwild dog\nbird\n"),
        ("labels.json", '["cat", "wild dog", "bird"]'),
        ("labels", '\n [ "cat", "wild dog",\n "bird"]\n'),
    ],
)
def test_names_are_read_in_order(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_labels(path) == ["cat", "wild dog", "bird"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("labels.txt", b"cat\n\ndog\n", "no name in line 2"),
        ("labels.txt", b"", "no name in line 1"),
        ("labels.txt", b"cat\n\xff\xfe\n", "cannot be read"),
        ("labels.json", b'["cat", ', "not valid JSON"),
        ("labels.json", b'{"0": "cat"}', "not a list of names"),
        ("labels.json", b"[1, 2]", "not a list of names"),
        ("labels.json", b"[]", "not a list of names"),
    ],
)
def test_what_is_not_a_list_of_names_is_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told) as caught:
        read_labels(path)
    assert str(path) in caught.value.message
    assert "one class name per line" in caught.value.hint


def test_names_in_brackets_are_not_json(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("[unknown]\ncat\n")
    assert read_labels(tmp_path / "labels.txt") == ["[unknown]", "cat"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.txt cannot be read"):
        read_labels(tmp_path / "nowhere.txt")

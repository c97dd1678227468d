"""Class names: lines or a JSON list, and nothing ambiguous."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import ModelError
from app.models.labels import read_class_names


def read_labels(path: Path) -> list[str]:
    return list(read_class_names(path).names)


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


NAMES = ("cat", "wild dog", "bird")
IDS = ("n02121620", "n02115641", "n01503061")
NUMBERED = {str(i): name for i, name in enumerate(NAMES)}
INDEX = {str(i): [one, name] for i, (one, name) in enumerate(zip(IDS, NAMES, strict=True))}
FORMS: dict[str, tuple[object, tuple[str, ...]]] = {
    "id2label": (NUMBERED, ()),
    "id2label-shuffled": (dict(reversed(NUMBERED.items())), ()),
    "id2label-in-config": ({"architectures": ["Net"], "id2label": NUMBERED, "num_labels": 3}, ()),
    "both-in-config": ({"id2label": NUMBERED, "label2id": {name: i for i, name in enumerate(NAMES)}}, ()),
    "label2id": ({name: i for i, name in reversed(list(enumerate(NAMES)))}, ()),
    "label2id-of-text": ({name: i for i, name in NUMBERED.items()}, ()),
    "label2id-in-config": ({"label2id": {name: i for i, name in enumerate(NAMES)}}, ()),
    "class_to_idx": ({"class_to_idx": {name: i for i, name in enumerate(NAMES)}, "epoch": 3}, ()),
    "class_index": (INDEX, IDS),
    "class_index-within": ({"class_index": INDEX}, IDS),
    "pairs": (list(INDEX.values()), IDS),
    "classes": ({"classes": list(NAMES)}, ()),
    "timm": ({"label_names": list(IDS), "label_descriptions": dict(zip(IDS, NAMES, strict=True))}, IDS),
}


@pytest.mark.parametrize(("content", "ids"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("name", ["labels.json", "labels.txt"])
def test_forms_that_training_code_writes(tmp_path: Path, name: str, content: object, ids: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    assert read_class_names(tmp_path / name) == (NAMES, ids)
    assert read_labels(tmp_path / name) == list(NAMES)


def test_ten_classes_are_in_the_order_of_numbers_and_not_of_text(tmp_path: Path) -> None:
    names = [f"kind {letter}" for letter in "abcdefghijkl"]
    numbered = {str(i): name for i, name in enumerate(names)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(sorted(numbered.items()))}))
    assert read_labels(tmp_path / "config.json") == names


def test_names_that_two_classes_share_are_in_label2id_once(tmp_path: Path) -> None:
    id2label = {"0": "crane", "1": "tench", "2": "crane"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": id2label, "label2id": {"crane": 2, "tench": 1}}))
    assert read_labels(tmp_path / "config.json") == ["crane", "tench", "crane"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("labels.txt", b"cat\n\ndog\n", "empty line 2"),
        ("labels.txt", b"", "empty line 1"),
        ("labels.txt", b"cat\n\xff\xfe\n", "cannot be read"),
        ("labels.json", b'["cat", ', "not valid JSON"),
        ("labels.json", b"[1, 2]", "not a list of names"),
        ("labels.json", b"[]", "not a list of names"),
        ("labels.json", b"{}", "not a list of names"),
        ("labels.json", b'"cat"', "not a list of names"),
        ("labels.json", b'{"0": "cat", "2": "dog"}', "it has 2 entries, and none for class 1"),
        ("labels.json", b'{"1": "cat", "2": "dog"}', "none for class 0"),
        ("labels.json", b'{"id2label": {"1": "cat"}}', "id2label has 1 entries, and none for class 0"),
        ("labels.json", b'{"cat": 0, "dog": 0}', "calls class 0 both 'cat' and 'dog'"),
        ("labels.json", b'{"0": "cat", "0": "dog"}', "'0' appears twice"),
        ("labels.json", b'{"0": null, "1": "dog"}', "not a list of names"),
        ("labels.json", b'{"0": " ", "1": "dog"}', "not a list of names"),
        ("labels.json", b'{"a": "cat", "b": "dog"}', "not a list of names"),
        (
            "labels.json",
            b'{"id2label": {"0": "cat"}, "label2id": {"dog": 0}}',
            "id2label calls class 0 'cat', and whose",
        ),
        ("labels.json", b"[" * 100_000, "not valid JSON"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "content",
)
def test_invalid_labels_are_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
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

"""The JSON forms in which training code writes class names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

_NOT_A_LIST = "JSON, but not a list of names, nor id2label, label2id or class_index"


class NotLabelsError(ValueError):
    """The text does not name each class once; the message continues "the labels are"."""


class ClassNames(NamedTuple):
    """Names by class number, and as many WordNet ids (``n01440764``) if the file has them."""

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()


_NamesByNumber: TypeAlias = dict[int, Any]


def read_json(text: str) -> ClassNames:
    """Read class names from JSON.

    Known are a list of names; ``class_index``, ``{"0": ["n01440764", "tench"], ...}``, as Keras and torchvision have
    it, or a list of such pairs; ``id2label``, ``{"0": "tench", ...}``, and ``label2id``, ``{"tench": 0, ...}``, alone
    or in a `config.json` of Hugging Face; and timm's ``label_names``, with ``label_descriptions``.

    Raises:
        NotLabelsError: the text is no JSON, none of these forms, or lacks a class or has one twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique_members)
    except RecursionError as error:
        raise NotLabelsError("not valid JSON: nested too deeply") from error
    except NotLabelsError:
        raise
    except ValueError as error:
        raise NotLabelsError(f"not valid JSON: {error}") from error
    if isinstance(value, dict):
        return _from_object(value)
    if isinstance(value, list):
        return _from_names(value)
    raise NotLabelsError(_NOT_A_LIST)


def _unique_members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise NotLabelsError(f"JSON in which {key!r} appears twice")
        members[key] = value
    return members


def _from_object(value: Mapping[str, Any]) -> ClassNames:
    """Read an object that is one of the forms, or that holds one under its usual name."""
    forms = [(name, form) for name, form in _FORMS.items() if isinstance(value.get(name), dict | list)]
    if not forms:
        return _from_mapping(value, "it")
    results = [(name, form(value[name], value)) for name, form in forms]
    (first, classes), *remaining = results
    for name, second in remaining:
        _check_same(first, classes, name, second)
    return classes


def _check_same(first: str, classes: ClassNames, name: str, second: ClassNames) -> None:
    """Check that two forms in one file agree; where classes share a name, a map from names has only one of them."""
    for number, label in enumerate(second.names):
        if number >= len(classes.names) or (label and classes.names[number] != label):
            expected = repr(classes.names[number]) if number < len(classes.names) else "nothing"
            raise NotLabelsError(f"JSON whose {first} calls class {number} {expected}, and whose {name} {label!r}")


def _from_mapping(value: Any, subject: str) -> ClassNames:
    """Read a map from numbers to names (or to WordNet id and name), or from names to numbers."""
    if not isinstance(value, dict) or not value:
        raise NotLabelsError(_NOT_A_LIST)
    if all(isinstance(number, int) and not isinstance(number, bool) for number in value.values()):
        return _from_numbers(value, subject)
    if all(_is_number(key) for key in value):
        numbers = [int(key) for key in value]
        return _from_names(_in_order(dict(zip(numbers, value.values(), strict=True)), len(numbers), subject))
    if all(_is_number(number) for number in value.values()):
        return _from_numbers({name: int(number) for name, number in value.items()}, subject)
    raise NotLabelsError(_NOT_A_LIST)


def _from_numbers(numbers: Mapping[str, int], subject: str) -> ClassNames:
    names: _NamesByNumber = {}
    for name, number in numbers.items():
        if number in names:
            raise NotLabelsError(f"JSON in which {subject} calls class {number} both {names[number]!r} and {name!r}")
        names[number] = name
    return _from_names(_in_order(names, len(numbers), subject))


def _in_order(numbered: _NamesByNumber, count: int, subject: str) -> list[Any]:
    missing = next((number for number in range(count) if number not in numbered), None)
    if missing is not None:
        raise NotLabelsError(f"JSON in which {subject} has {count} entries, and none for class {missing}")
    return [numbered[number] for number in range(count)]


def _from_names(values: Sequence[Any]) -> ClassNames:
    """Read a list of names, or of pairs of a WordNet id and a name."""
    pairs = [value for value in values if isinstance(value, list) and len(value) == 2]
    ids: list[Any] = []
    if values and len(pairs) == len(values):
        ids, values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not values or not all(isinstance(name, str) and name.strip() for name in [*values, *ids]):
        raise NotLabelsError(_NOT_A_LIST)
    return ClassNames(tuple(values), tuple(ids))


def _is_number(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdecimal()


def _from_list(value: Any, _: Mapping[str, Any], subject: str = "it") -> ClassNames:
    return _from_names(value) if isinstance(value, list) else _from_mapping(value, subject)


def _from_label2id(value: Any, document: Mapping[str, Any]) -> ClassNames:
    """Read ``label2id``; beside ``id2label``, a name that two classes share occurs once and leaves a gap."""
    if not isinstance(value, dict) or not isinstance(document.get("id2label"), dict | list):
        return _from_mapping(value, "label2id")
    if not all(isinstance(number, int) or _is_number(number) for number in value.values()):
        raise NotLabelsError(_NOT_A_LIST)
    names = {int(number): name for name, number in value.items()}
    return ClassNames(tuple(names.get(number, "") for number in range(max(names, default=-1) + 1)))


def _from_timm(value: Any, document: Mapping[str, Any]) -> ClassNames:
    names = _from_list(value, document)
    described = document.get("label_descriptions")
    if not isinstance(described, dict):
        return names
    return _from_names([[name, described.get(name, name)] for name in names.names])


_FORMS: dict[str, Callable[[Any, Mapping[str, Any]], ClassNames]] = {
    "id2label": partial(_from_list, subject="id2label"),
    "label2id": _from_label2id,
    "label_names": _from_timm,
    "class_index": _from_list,
    "idx_to_class": _from_list,
    "class_to_idx": _from_list,
    "classes": _from_list,
    "class_names": _from_list,
}
"""Names of members that hold class names, and their readers."""

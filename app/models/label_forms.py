"""The JSON forms in which training code writes class names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

_NOT_A_LIST = "JSON, but not a list of names, nor id2label, label2id or class_index"


class NotLabelsError(ValueError):
    """The text does not name each class once; the message goes on after "the labels are"."""


class ClassNames(NamedTuple):
    """Names by class number, and WordNet's ids (``n01440764``) beside them, as many, where the file has them."""

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()


_Numbered: TypeAlias = dict[int, Any]


def read_json(text: str) -> ClassNames:
    """Read class names from JSON.

    Known are a list of names; ``class_index``, ``{"0": ["n01440764", "tench"], ...}``, as Keras and torchvision have
    it, or a list of such pairs; ``id2label``, ``{"0": "tench", ...}``, and ``label2id``, ``{"tench": 0, ...}``, alone
    or in a `config.json` of Hugging Face; and timm's ``label_names``, with ``label_descriptions``.

    Raises:
        NotLabelsError: the text is no JSON, none of these forms, or lacks a class or has one twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise NotLabelsError("not valid JSON: nested too deeply") from error
    except NotLabelsError:
        raise
    except ValueError as error:
        raise NotLabelsError(f"not valid JSON: {error}") from error
    if isinstance(value, dict):
        return _of_object(value)
    if isinstance(value, list):
        return _named(value)
    raise NotLabelsError(_NOT_A_LIST)


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotLabelsError(f"JSON that has {key!r} twice")
        found[key] = value
    return found


def _of_object(value: Mapping[str, Any]) -> ClassNames:
    """Those of an object that is one of the forms, or that holds one under its usual name."""
    forms = [(name, form) for name, form in _FORMS.items() if isinstance(value.get(name), dict | list)]
    if not forms:
        return _of_mapping(value, "it")
    found = [(name, form(value[name], value)) for name, form in forms]
    (first, classes), *others = found
    for name, other in others:
        _check_same(first, classes, name, other)
    return classes


def _check_same(first: str, classes: ClassNames, name: str, other: ClassNames) -> None:
    """Two forms in one file say the same; where two classes share a name, a map from names has only one of them."""
    for number, said in enumerate(other.names):
        if number >= len(classes.names) or (said and classes.names[number] != said):
            there = repr(classes.names[number]) if number < len(classes.names) else "nothing"
            raise NotLabelsError(f"JSON whose {first} calls class {number} {there}, and whose {name} {said!r}")


def _of_mapping(value: Any, what: str) -> ClassNames:
    """Numbers to names (or to WordNet id and name), or names to numbers."""
    if not isinstance(value, dict) or not value:
        raise NotLabelsError(_NOT_A_LIST)
    if all(isinstance(number, int) and not isinstance(number, bool) for number in value.values()):
        return _inverse(value, what)
    if all(_is_number(key) for key in value):
        numbers = [int(key) for key in value]
        return _named(_in_order(dict(zip(numbers, value.values(), strict=True)), len(numbers), what))
    if all(_is_number(number) for number in value.values()):
        return _inverse({name: int(number) for name, number in value.items()}, what)
    raise NotLabelsError(_NOT_A_LIST)


def _inverse(numbers: Mapping[str, int], what: str) -> ClassNames:
    names: _Numbered = {}
    for name, number in numbers.items():
        if number in names:
            raise NotLabelsError(f"JSON in which {what} calls class {number} both {names[number]!r} and {name!r}")
        names[number] = name
    return _named(_in_order(names, len(numbers), what))


def _in_order(numbered: _Numbered, given: int, what: str) -> list[Any]:
    missing = next((number for number in range(given) if number not in numbered), None)
    if missing is not None:
        raise NotLabelsError(f"JSON in which {what} has {given} entries, and none for class {missing}")
    return [numbered[number] for number in range(given)]


def _named(values: Sequence[Any]) -> ClassNames:
    """From names, or from pairs of a WordNet id and a name."""
    pairs = [value for value in values if isinstance(value, list) and len(value) == 2]
    ids: list[Any] = []
    if values and len(pairs) == len(values):
        ids, values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if not values or not all(isinstance(name, str) and name.strip() for name in [*values, *ids]):
        raise NotLabelsError(_NOT_A_LIST)
    return ClassNames(tuple(values), tuple(ids))


def _is_number(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdecimal()


def _of_list(value: Any, _: Mapping[str, Any]) -> ClassNames:
    if isinstance(value, dict):
        return _of_mapping(value, "it")
    return _named(value)


def _of_id2label(value: Any, _: Mapping[str, Any]) -> ClassNames:
    return _named(value) if isinstance(value, list) else _of_mapping(value, "id2label")


def _of_label2id(value: Any, whole: Mapping[str, Any]) -> ClassNames:
    """In a file that has ``id2label`` too, names that two classes share are here once, and leave a gap."""
    if not isinstance(value, dict) or not isinstance(whole.get("id2label"), dict | list):
        return _of_mapping(value, "label2id")
    if not all(isinstance(number, int) or _is_number(number) for number in value.values()):
        raise NotLabelsError(_NOT_A_LIST)
    names = {int(number): name for name, number in value.items()}
    return ClassNames(tuple(names.get(number, "") for number in range(max(names, default=-1) + 1)))


def _of_timm(value: Any, whole: Mapping[str, Any]) -> ClassNames:
    names = _of_list(value, whole)
    described = whole.get("label_descriptions")
    if not isinstance(described, dict):
        return names
    return _named([[name, described.get(name, name)] for name in names.names])


_FORMS: dict[str, Callable[[Any, Mapping[str, Any]], ClassNames]] = {
    "id2label": _of_id2label,
    "label2id": _of_label2id,
    "label_names": _of_timm,
    "class_index": _of_list,
    "idx_to_class": _of_list,
    "class_to_idx": _of_list,
    "classes": _of_list,
    "class_names": _of_list,
}
"""Members that hold class names: their names, and how they are read."""

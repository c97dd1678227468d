"""Class names from a file: lines, or one of the JSON forms that training code writes."""

from __future__ import annotations

import re
from pathlib import Path

from app.errors import ModelError
from app.models.label_forms import ClassNames, NotLabelsError, read_json

__all__ = ["ClassNames", "read_class_names"]

# A name alone may be in brackets: "[unknown]".
_JSON = re.compile(r"\s*(\[\s*[\"\[]|\{)")
_HINT = (
    "write one class name per line, or JSON: a list of names, id2label, label2id or class_index, in the order of the "
    "network's outputs"
)


def read_class_names(path: Path) -> ClassNames:
    """Read class names: one per line, or JSON in one of the forms of `app.models.label_forms.read_json`.

    Raises:
        ModelError: no such file, not UTF-8, an empty line between names, or JSON that does not name each class once.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the labels {path} cannot be read: {error}", hint=_HINT) from error
    if path.suffix == ".json" or _JSON.match(text):
        try:
            return read_json(text)
        except NotLabelsError as error:
            raise ModelError(f"the labels {path} are {error}", hint=_HINT) from error
    names = [line.strip() for line in text.splitlines()]
    if "" in names or not names:
        line = names.index("") + 1 if names else 1
        raise ModelError(f"the labels {path} have an empty line {line}", hint=_HINT)
    return ClassNames(tuple(names))

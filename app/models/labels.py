"""Class names from a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from app.errors import ModelError

# A name alone may be in brackets: "[unknown]".
_JSON = re.compile(r"\s*(\[\s*\"|\{)")
_HINT = "write one class name per line, or a JSON list of strings, in the order of the network's outputs"


def read_labels(path: Path) -> list[str]:
    """Read class names: a JSON list of strings, or one name per line.

    Raises:
        ModelError: no such file, not UTF-8, an empty line between names, or JSON that is not a list of strings.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the labels {path} cannot be read: {error}", hint=_HINT) from error
    if path.suffix == ".json" or _JSON.match(text):
        return _from_json(text, path)
    names = [line.strip() for line in text.splitlines()]
    if "" in names or not names:
        line = names.index("") + 1 if names else 1
        raise ModelError(f"the labels {path} have no name in line {line}", hint=_HINT)
    return names


def _from_json(text: str, path: Path) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError as error:
        raise ModelError(f"the labels {path} are not valid JSON: {error}", hint=_HINT) from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ModelError(f"the labels {path} are JSON, but not a list of names", hint=_HINT)
    return names

"""Temperatures that calibrate a model under each strategy, kept in a file.

The file is JSON, model to strategy to what was fitted:

    {"cifar10-resnet20": {"adabn": {"temperature": 1.7, "images": 1000, "held_out": 1000, "nll_before": 0.41,
                                    "nll_after": 0.35, "ece_before": 6.1, "ece_after": 1.2}}}
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import RenormError
from app.files import replace_file

LOWEST, HIGHEST = 0.01, 100.0
"""The bounds of the search for a temperature."""


class CalibrationError(RenormError):
    """No temperature can be fitted to these answers, or a file of temperatures cannot be read."""


class Calibration(NamedTuple):
    """A temperature, and its effect on the held-out images, or else on those it was fitted on."""

    temperature: float
    images: int  # it was fitted on
    held_out: int  # of which the figures are; 0 where they are of the images that it was fitted on
    nll_before: float  # mean negative log-likelihood of the labels, in nats
    nll_after: float
    ece_before: float  # in percent
    ece_after: float


def default_file() -> Path:
    """Return the default file of temperatures: ``renorm/temperatures.json`` in the user's data folder.

    That is ``XDG_DATA_HOME``, or else ``~/.local/share``.
    """
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification has relative paths ignored.
    folder = data_home if data_home.is_absolute() else _home() / ".local" / "share"
    return folder / "renorm" / "temperatures.json"


@dataclass(frozen=True)
class Temperatures:
    """Fitted temperatures: model to strategy to calibration."""

    entries: Mapping[str, Mapping[str, Calibration]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Temperatures:
        """Read the temperatures of a file; none where there is no file.

        Raises:
            CalibrationError: the file cannot be read, or is not a file of temperatures.
        """
        hint = "fix it, or remove it and fit again"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise CalibrationError(f"the temperatures {path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise CalibrationError(f"the temperatures {path} are not valid JSON: {error}", hint=hint) from error
        try:
            return cls(
                {
                    model: {
                        name: _entry(model, name, entry) for name, entry in _object(strategies, f"'{model}'").items()
                    }
                    for model, strategies in _object(document, "the document").items()
                }
            )
        except CalibrationError as error:
            raise CalibrationError(f"the temperatures {path}: {error.message}", hint=hint) from error

    def get(self, model: str, strategy: str) -> Calibration | None:
        """Return the calibration of a model under a strategy, None where none was fitted."""
        return self.entries.get(model, {}).get(strategy)

    def including(self, model: str, strategy: str, fitted: Calibration) -> Temperatures:
        """Return these temperatures and one more, which replaces an older one."""
        return Temperatures({**self.entries, model: {**self.entries.get(model, {}), strategy: fitted}})

    def save(self, path: Path) -> None:
        """Write a file. Readers see the old file or the new entry, never a part.

        Raises:
            OSError: the folder cannot be written to.
        """
        document = {
            model: {name: entry._asdict() for name, entry in strategies.items()}
            for model, strategies in self.entries.items()
        }
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text, 0o644)  # it holds no secret


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A container may run as a user that nobody has named: its home is then the root, as Docker has it.
        return Path("/")


def _object(value: Any, location: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CalibrationError(f"{location} must be an object, not {json.dumps(value)[:40]}")
    return value


def _entry(model: str, strategy: str, value: Any) -> Calibration:
    location = f"'{strategy}' of '{model}'"
    fields, names = _object(value, location), Calibration._fields
    if set(fields) != set(names):
        raise CalibrationError(f"{location} must have {', '.join(names)}, and nothing else")
    for name, number in fields.items():
        is_count = name in {"images", "held_out"}
        is_number = isinstance(number, int if is_count else (int, float)) and not isinstance(number, bool)
        lowest, highest = (LOWEST, HIGHEST) if name == "temperature" else (0, math.inf)
        if not is_number or not lowest <= number <= highest or number == math.inf:
            raise CalibrationError(f"{name} of {location} is {json.dumps(number)[:40]}, which is out of range")
    return Calibration(**fields)

"""The folder of an evaluation: finished cells, one file each, so that a stopped evaluation can continue."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.evaluation.errors import EvaluationError
from app.evaluation.types import Cell, Result

FORMAT = 1
MANIFEST, CELLS, STREAMS, SPEEDS = "manifest.json", "cells", "streams", "speeds.json"

_ARRAYS = {
    "domain": np.int32,
    "label": np.int64,
    "predicted": np.int64,
    "confidence": np.float32,
    "entropy": np.float32,
    "drift": np.float32,
}

Speeds = dict[str, dict[int, float]]
"""Seconds per image by strategy and by images a request, measured alone: see `app.evaluation.running.speed`."""


class Folder:
    """The folder that stores an evaluation. ``settings`` are all those on which its metrics depend, as text.

    ``anew`` deletes an existing evaluation with other settings, and nothing else in the folder.

    Raises:
        EvaluationError: the folder holds an evaluation with other settings, or cannot be written.
    """

    def __init__(self, path: Path, settings: Mapping[str, str], *, anew: bool = False) -> None:
        self.path = path
        manifest_values = {"format": str(FORMAT), **settings}
        manifest = path / MANIFEST
        try:
            if anew and manifest.exists() and _read_object(manifest) != manifest_values:
                _throw_away(path)
            for below in (CELLS, STREAMS):
                (path / below).mkdir(parents=True, exist_ok=True)
            if not manifest.exists():
                _write(manifest, json.dumps(manifest_values, indent=2).encode())
        except OSError as error:
            raise EvaluationError(
                f"the folder {path} cannot be written: {error.strerror}", hint="choose another --output"
            ) from error
        _check_same(_read_object(manifest), manifest_values, path)

    @property
    def streams(self) -> Path:
        """The folder of the streams, one file each."""
        return self.path / STREAMS

    def file(self, cell: Cell) -> Path:
        """The path of a finished cell."""
        return self.path / CELLS / f"{cell_name(cell)}.npz"

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells that are not finished."""
        return [cell for cell in cells if not self.file(cell).exists()]

    def keep(self, result: Result) -> None:
        """Write a finished cell, atomically."""
        file = self.file(result.cell)
        arrays = {name: getattr(result, name).astype(kind, copy=False) for name, kind in _ARRAYS.items()}
        about = json.dumps([list(result.cell), result.seconds, result.state_bytes])
        partial = _partial_file(file)
        with partial.open("wb") as opened:
            np.savez_compressed(opened, about=np.array(about), **arrays)
        partial.replace(file)

    def load(self, cell: Cell) -> Result:
        """Load a finished cell.

        Raises:
            EvaluationError: its file is broken.
        """
        return _load(self.file(cell))

    def results(self, first: Iterable[Cell]) -> list[Result]:
        """Load all finished cells: those of ``first`` in that order, then those of earlier calls by name.

        Raises:
            EvaluationError: a file is broken.
        """
        files = dict.fromkeys(self.file(cell) for cell in first)
        return [_load(file) for file in [*files, *sorted(self._finished_files() - files.keys())] if file.exists()]

    def speeds(self) -> Speeds:
        """Return the speeds measured so far."""
        file = self.path / SPEEDS
        if not file.exists():
            return {}
        return {name: {int(batch): float(s) for batch, s in row.items()} for name, row in _read_object(file).items()}

    def keep_speeds(self, speeds: Speeds) -> None:
        """Write measured speeds."""
        _write(self.path / SPEEDS, json.dumps(speeds, indent=2).encode())

    def _finished_files(self) -> set[Path]:
        return set((self.path / CELLS).glob("*.npz"))


def cell_name(cell: Cell) -> str:
    """Return a readable file name, unique to the cell."""
    description = f"{cell.strategy} {cell.protocol} {cell.order} b{cell.batch} s{cell.seed}"
    digest = hashlib.sha256(json.dumps(list(cell)).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9.+=-]+', '_', description)[:100]}-{digest}"


def _load(file: Path) -> Result:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            cell, seconds, state_bytes = json.loads(str(archive["about"]))
            arrays = {name: archive[name].astype(kind, copy=False) for name, kind in _ARRAYS.items()}
        return Result(Cell(*cell), **arrays, seconds=float(seconds), state_bytes=int(state_bytes))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationError(
            f"the finished cell {file} cannot be read: {error}", hint="delete the file: the cell will run again"
        ) from error


def _throw_away(path: Path) -> None:
    """Delete an evaluation, the manifest last: a stopped deletion is completed by the next call."""
    for file in (*(path / CELLS).glob("*.npz"), *(path / STREAMS).glob("*.npz"), path / SPEEDS, path / MANIFEST):
        file.unlink(missing_ok=True)


def _check_same(saved: Mapping[str, Any], requested: Mapping[str, str], path: Path) -> None:
    names = [name for name in {**saved, **requested} if saved.get(name) != requested.get(name)]
    if names:
        changes = "; ".join(
            f"{name} was {saved.get(name, 'unset')}, now {requested.get(name, 'unset')}" for name in names
        )
        raise EvaluationError(
            f"{path} holds an evaluation with other settings: {changes}",
            hint="choose another --output, or the same settings as before",
        )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}", hint="choose another --output") from error
    if not isinstance(value, dict):
        raise EvaluationError(f"{file} is not a file of an evaluation", hint="choose another --output")
    return value


def _write(file: Path, content: bytes) -> None:
    partial = _partial_file(file)
    partial.write_bytes(content)
    partial.replace(file)


def _partial_file(file: Path) -> Path:
    """Return the temporary path of a file being written, with a suffix that no search matches."""
    return file.with_name(f"{file.name}.{os.getpid()}.partial")

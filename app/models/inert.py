"""Placeholders for the other objects of a checkpoint: nothing that a file names is imported or run."""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.serialization import safe_globals

_CALLED = frozenset(
    {
        "argparse.Namespace",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "collections.defaultdict",
        "collections.deque",
        "copyreg._reconstructor",
        "decimal.Decimal",
        "numpy.dtype",
        "torch.device",
        "torch.torch_version.TorchVersion",
        "types.SimpleNamespace",
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"pathlib.{flavour}Path" for flavour in ("", "Posix", "Windows", "PurePosix", "PureWindows", "Pure")),
    }
)
"""Data that pickle makes by a call. Their placeholders may be called; a file that calls anything else is refused."""

_BLOCKED = frozenset({"os", "sys", "posix", "nt"})
"""Modules that `torch.load` refuses to hear of, placeholder or not."""

_TENSORS = ("torch._", "torch.storage.", "collections.", *(f"torch.{kind}" for kind in ("Float", "Long", "Int")))
"""Prefixes of the names in every file of tensors."""

_MAPPINGS = ("Dict", "dict", "CfgNode", "Munch", "Box")
"""Suffixes of the names of mapping classes, which the reader requires to be built-in."""


class PickledCodeError(Exception):
    """A file calls a function when it is read; ``name`` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _Placeholder(type):
    """The type of placeholders: made like any class, called only where the call makes plain data."""

    full_name: str

    def __call__(cls, *_: Any, **__: Any) -> Any:
        if cls.full_name not in _CALLED:
            raise PickledCodeError(cls.full_name)
        kind: Any = cls
        return kind.__new__(kind)


class Placeholder(metaclass=_Placeholder):
    """Stands where an object was, of which only the type is known: ``full_name``."""

    full_name: str = ""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Only the type, for any arguments; a built-in mapping for mappings."""
        return OrderedDict() if cls.full_name.endswith(_MAPPINGS) else object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Discard the contents of the object."""


def read_torch(path: Path) -> object:
    """A file of `torch.save`, read with ``weights_only``; its tensors and built-in types are whole.

    Any other object in it becomes an empty placeholder, so that settings and scores beside the tensors do no harm.

    Raises:
        PickledCodeError: a function is called in it that does not make plain data.
        Exception: what `torch.load` raises of a file that is damaged or of another form.
    """
    names = _names(path)
    blocked = [name for name in names if name.partition(".")[0] in _BLOCKED]
    if blocked:
        raise PickledCodeError(blocked[0])
    placeholders = [(_Placeholder(name, (Placeholder,), {"full_name": name}), name) for name in names]
    try:
        with safe_globals(placeholders):  # type: ignore[arg-type] # pairs, as its own description says
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = sorted(name for name in names - _CALLED if not name.startswith(_TENSORS))
        if code:
            raise PickledCodeError(code[0]) from error
        raise
    return loaded


def _names(path: Path) -> set[str]:
    """Every class and function that the pickles of a file name."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            return set(_imports_of(stream))
    with zipfile.ZipFile(path) as archive:
        names = (name for name in archive.namelist() if name.endswith("data.pkl"))
        return {imported_name for name in names for imported_name in _imports_in_archive(archive, name)}


def _imports_in_archive(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    with archive.open(name) as stream:
        yield from _imports_of(stream)  # type: ignore[arg-type] # it reads and reads lines, which is all


def _imports_of(stream: BinaryIO) -> Iterator[str]:
    """The names in a row of pickles: files of older versions of PyTorch hold five, then the tensors' bytes."""
    try:
        for _ in range(5):
            for code, argument, _position in pickletools.genops(stream):
                if code.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    # As PyTorch reads them: pickles of its protocol have the modules of Python 2.
                    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                    yield f"{module}.{name}"
    except (ValueError, pickle.UnpicklingError, EOFError):
        # Not a pickle, or the end of a short one: reading it says so better.
        return

"""``python:PACKAGE.MODULE:FACTORY`` or ``python:FILE.py:FACTORY``: any network of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from app.errors import ModelError
from app.models.assemble import assemble
from app.models.factories import create_network
from app.models.hosted import Hosted, Preprocessing
from app.models.own_code import import_file
from app.models.weights import load_weights
from app.settings import Settings

DEFAULT = Preprocessing(
    size=224, resize=224, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""The default preprocessing: 224 pixels and the channel statistics of ImageNet."""

_OURS = ("app", "adapters", "renorm")


def load_python(target: str, settings: Settings) -> Hosted:
    """Import a module, from the current directory too, or a file, and call its factory without arguments.

    Raises:
        ModelError: module or factory do not exist or fail, or what comes back is not an `nn.Module`.
    """
    place, _, factory = target.rpartition(":")
    has_folder = any(separator in place for separator in ("/", "\\"))
    is_file = place.endswith(".py") or (has_folder and Path(place).expanduser().exists())
    if not factory.isidentifier() or not (is_file or all(part.isidentifier() for part in place.split("."))):
        raise ModelError(
            f"'python:{target}' does not name a factory",
            hint="expected python:PACKAGE.MODULE:FACTORY, as in an import, or python:FILE.py:FACTORY",
        )
    module = _import_from_file(place) if is_file else _import_module(place)
    network = create_network(module, factory, _name_clash_hint(place))
    weights = "" if settings.weights is None else load_weights(network, settings.weights, settings.weights_key)
    return assemble(
        network,
        settings,
        name=f"{module.__name__.partition('.')[2] if is_file else place}.{factory}",
        preprocessing=DEFAULT,
        classes=None,
        architecture=type(network).__name__,
        weights=weights,
    )


def _import_from_file(place: str) -> ModuleType:
    path = Path(place).expanduser()
    if path.is_dir() and not (path / "__init__.py").is_file():
        files = ", ".join(sorted(file.name for file in path.glob("*.py"))[:5])
        raise ModelError(f"{path} is a folder", hint=f"name a file in it: {files or 'none ends in .py'}")
    if not path.exists():
        raise ModelError(
            f"the file {path} does not exist", hint=f"relative paths start in the current directory, {os.getcwd()}"
        )
    if path.is_file() and path.suffix != ".py":
        raise ModelError(
            f"{path} is not a Python file", hint="its name must end in .py; weights are passed with --weights"
        )
    try:
        return import_file(path)
    except Exception as error:
        raise _import_error(f"the file {path}", error) from error


def _import_module(name: str) -> ModuleType:
    directory = os.getcwd()
    # A console script, unlike `python -m`, does not see modules of the directory that it is started in.
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            hint = _name_clash_hint(name) or (
                "install its package, start renorm in the directory that holds it, or name its file: "
                "python:path/to/file.py:FACTORY"
            )
            raise ModelError(f"cannot import the module '{name}': {error}", hint=hint) from error
        raise _import_error(f"the module '{name}'", error) from error


def _import_error(subject: str, error: Exception) -> ModelError:
    """Return the error of a failed import; the hint tells where a package of ours hid a module of the user."""
    missing = error.name if isinstance(error, ImportError) else None
    hint = _name_clash_hint(
        missing or "", advice="the file's own folder, or the current directory, must hold the package"
    )
    return ModelError(f"cannot import {subject}: {type(error).__name__}: {error}", hint=hint)


def _name_clash_hint(name: str, advice: str = "") -> str:
    """Return the hint for a module of the user that a package of ours hides; else an empty text."""
    top, *submodules = name.split(".")
    if top not in _OURS:
        return ""
    local = Path(top, *submodules)
    file = next((path for path in (local.with_suffix(".py"), local / "__init__.py") if path.is_file()), None)
    if file is not None and file.resolve() == Path(getattr(sys.modules.get(name), "__file__", None) or "").resolve():
        return ""
    by_file = f"python:{file or local.with_suffix('.py')}:FACTORY"
    return f"'{top}' is a package of Renorm itself; name yours by its file: {by_file}{advice and f' ({advice})'}"

"""``python:PACKAGE.MODULE:FACTORY`` or ``python:FILE.py:FACTORY``: any network of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from app.errors import ModelError
from app.models.assemble import assemble
from app.models.factories import made
from app.models.hosted import Hosted, Preprocessing
from app.models.own_code import import_file
from app.models.weights import load_weights
from app.settings import Settings

DEFAULT = Preprocessing(
    size=224, resize=224, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What is assumed of a network that says nothing: 224 pixels and the channel statistics of ImageNet."""

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
    module = _from_file(place) if is_file else _imported(place)
    network = made(module, factory, _clash(place))
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


def _from_file(place: str) -> ModuleType:
    path = Path(place).expanduser()
    if path.is_dir() and not (path / "__init__.py").is_file():
        files = ", ".join(sorted(file.name for file in path.glob("*.py"))[:5])
        raise ModelError(f"{path} is a folder", hint=f"name a file in it: {files or 'none ends in .py'}")
    if not path.exists():
        raise ModelError(
            f"there is no file {path}", hint=f"relative paths start in the current directory, {os.getcwd()}"
        )
    if path.is_file() and path.suffix != ".py":
        raise ModelError(f"{path} is no Python file", hint="its name must end in .py; weights go to --weights")
    try:
        return import_file(path)
    except Exception as error:
        raise _failure(f"the file {path}", error) from error


def _imported(name: str) -> ModuleType:
    here = os.getcwd()
    # A console script, unlike `python -m`, does not see modules of the directory that it is started in.
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            hint = _clash(name) or (
                "install its package, start renorm in the directory that holds it, or name its file: "
                "python:path/to/file.py:FACTORY"
            )
            raise ModelError(f"there is no module '{name}': {error}", hint=hint) from error
        raise _failure(f"the module '{name}'", error) from error


def _failure(what: str, error: Exception) -> ModelError:
    """Importing ``what`` failed; where it was looking for a module of the user's in our packages, that is said."""
    asked = error.name if isinstance(error, ImportError) else None
    hint = _clash(asked or "", there="the file's own folder, or the current directory, must hold the package")
    return ModelError(f"importing {what} fails: {type(error).__name__}: {error}", hint=hint)


def _clash(name: str, there: str = "") -> str:
    """The way out where a module that a person names would be in a package of ours; else empty."""
    top, *rest = name.split(".")
    if top not in _OURS:
        return ""
    local = Path(top, *rest)
    file = next((path for path in (local.with_suffix(".py"), local / "__init__.py") if path.is_file()), None)
    if file is not None and file.resolve() == Path(getattr(sys.modules.get(name), "__file__", None) or "").resolve():
        return ""
    by_file = f"python:{file or local.with_suffix('.py')}:FACTORY"
    return f"'{top}' is a package of Renorm itself; yours is found by file: {by_file}{there and f' ({there})'}"

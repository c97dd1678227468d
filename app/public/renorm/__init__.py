"""Renorm by its own name: `AdaptiveModel` and all of the package `adapters`, `Client` and all of `app.client`.

    from renorm import AdaptiveModel, Client

Names are imported when they are asked for: a client loads no torch. ``renorm.adapters`` and ``renorm.client`` are the
packages themselves, also where other packages of the names ``app`` and ``adapters`` come first.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import adapters as adapters
    from adapters import *  # noqa: F403
    from app import __version__ as __version__
    from app import client as client
    from app.client import AsyncClient as AsyncClient
    from app.client import AsyncStream as AsyncStream
    from app.client import Client as Client
    from app.client import ImagePrediction as ImagePrediction
    from app.client import InvalidInput as InvalidInput
    from app.client import Ranked as Ranked
    from app.client import Refused as Refused
    from app.client import RenormClientError as RenormClientError
    from app.client import ServerUnreachable as ServerUnreachable
    from app.client import Stream as Stream
    from app.client import TimingMs as TimingMs
    from app.client import UnexpectedAnswer as UnexpectedAnswer

_CLIENT = (
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ImagePrediction",
    "InvalidInput",
    "Ranked",
    "Refused",
    "RenormClientError",
    "ServerUnreachable",
    "Stream",
    "TimingMs",
    "UnexpectedAnswer",
)
"""The names of `app.client`, except ``Answer``, which `adapters` has too."""

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "app" / "client").is_dir())
"""The folder that holds our packages: beside this one where it is installed, above it in the repository."""


def __getattr__(name: str) -> Any:
    if name == "adapters":
        value: Any = _import_ours("adapters")
    elif name == "client":
        value = _import_ours("app.client")
    elif name == "__version__":
        value = _import_ours("app").__version__
    elif name in _CLIENT:
        value = getattr(_import_ours("app.client"), name)
    elif name.startswith("_"):
        raise AttributeError(f"module 'renorm' has no attribute {name!r}")
    else:
        library = _import_ours("adapters")
        if name not in library.__all__:
            raise AttributeError(f"module 'renorm' has no attribute {name!r}: `dir(renorm)` lists them")
        value = getattr(library, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_import_ours("adapters").__all__, *_CLIENT, "__version__", "adapters", "client"})


def _import_ours(name: str) -> Any:
    """Import our module of that name, in its own namespace where another package has the name."""
    hidden = _hidden_packages()
    return _namespace(tuple(hidden)).import_module(name) if hidden else importlib.import_module(name)


@cache
def _namespace(hidden: tuple[str, ...]) -> Any:
    # By file, because the packages around it are what cannot be imported.
    module = _load_file("renorm_own_code", ROOT / "app" / "models" / "own_code.py")
    return module.Space(f"renorm_{'_'.join(hidden)}", [str(ROOT)], hidden)


def _hidden_packages() -> list[str]:
    """Return those of our packages whose name means another package here."""
    return [package for package in ("app", "adapters") if not _is_ours(package)]


def _is_ours(package: str) -> bool:
    try:
        spec = find_spec(package)
    except ValueError:  # a module that was made by hand
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).parent.resolve() == ROOT / package


def _load_file(name: str, file: Path) -> Any:
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is missing: install renorm again")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

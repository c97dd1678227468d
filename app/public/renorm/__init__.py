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
"""The names of `app.client`, but for ``Answer``, which `adapters` has too."""

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "app" / "client").is_dir())
"""The folder that holds our packages: beside this one where it is installed, above it in the repository."""


def __getattr__(name: str) -> Any:
    if name == "adapters":
        found: Any = _ours("adapters")
    elif name == "client":
        found = _ours("app.client")
    elif name == "__version__":
        found = _ours("app").__version__
    elif name in _CLIENT:
        found = getattr(_ours("app.client"), name)
    elif name.startswith("_"):
        raise AttributeError(f"module 'renorm' has no attribute {name!r}")
    else:
        library = _ours("adapters")
        if name not in library.__all__:
            raise AttributeError(f"module 'renorm' has no attribute {name!r}: `dir(renorm)` lists them")
        found = getattr(library, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*_ours("adapters").__all__, *_CLIENT, "__version__", "adapters", "client"})


def _ours(name: str) -> Any:
    """Our module of that name, in a namespace of its own where a package of somebody else's has it."""
    others = _hidden()
    return _space(tuple(others)).imported(name) if others else importlib.import_module(name)


@cache
def _space(hidden: tuple[str, ...]) -> Any:
    # By file, because the packages around it are what cannot be imported.
    module = _by_file("renorm_own_code", ROOT / "app" / "models" / "own_code.py")
    return module.Space(f"renorm_{'_'.join(hidden)}", [str(ROOT)], hidden)


def _hidden() -> list[str]:
    """Those of our packages whose name means another one here."""
    return [package for package in ("app", "adapters") if not _is_ours(package)]


def _is_ours(package: str) -> bool:
    try:
        spec = find_spec(package)
    except ValueError:  # a module that was made by hand
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).parent.resolve() == ROOT / package


def _by_file(name: str, file: Path) -> Any:
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is missing: install renorm again")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

"""``python:PACKAGE.MODULE:FACTORY``: any network of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

from torch import nn

from app.errors import ModelError
from app.models.assemble import assemble
from app.models.hosted import Hosted, Preprocessing
from app.models.weights import load_weights
from app.settings import Settings

DEFAULT = Preprocessing(
    size=224, resize=224, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What is assumed of a network that says nothing: 224 pixels and the channel statistics of ImageNet."""


def load_python(target: str, settings: Settings) -> Hosted:
    """Import a module, from the current directory too, and call its factory without arguments.

    Raises:
        ModelError: module or factory do not exist or fail, or what comes back is not an `nn.Module`.
    """
    module, _, factory = target.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), factory)):
        raise ModelError(
            f"'python:{target}' does not name a factory", hint="expected python:PACKAGE.MODULE:FACTORY, as in an import"
        )
    network = _made(_imported(module), factory)
    weights = "" if settings.weights is None else load_weights(network, settings.weights, settings.weights_key)
    return assemble(
        network,
        settings,
        name=target.replace(":", "."),
        preprocessing=DEFAULT,
        classes=None,
        architecture=type(network).__name__,
        weights=weights,
    )


def _imported(name: str) -> ModuleType:
    here = os.getcwd()
    # A console script, unlike `python -m`, does not see modules of the directory that it is started in.
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise ModelError(
                f"there is no module '{name}': {error}",
                hint="install its package, or start renorm in the directory that holds it",
            ) from error
        raise ModelError(f"importing the module '{name}' fails: {type(error).__name__}: {error}") from error


def _made(module: ModuleType, name: str) -> nn.Module:
    where = f"'{name}' of the module '{module.__name__}'"
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"there is no {where}", hint=f"callable there: {', '.join(public) or 'nothing'}")
    factory = getattr(module, name)
    # A module is callable too, but calling it is a forward.
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ModelError(
            f"{where} is not a factory but of type {type(factory).__name__}",
            hint="name a function or class that returns the network when called without arguments",
        )
    try:
        network = factory()
    except Exception as error:
        raise ModelError(
            f"calling {where} without arguments fails: {type(error).__name__}: {error}",
            hint="give it defaults, or name a function that needs no arguments",
        ) from error
    if not isinstance(network, nn.Module):
        raise ModelError(
            f"{where} returned {type(network).__name__}, not a network", hint="return a torch.nn.Module from it"
        )
    return network

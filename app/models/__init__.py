"""The sources of models: one dict of bundled names and one of prefixes. A new source is one function and one line."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import ModelError
from app.models.bundled import cifar10_resnet20
from app.models.hosted import Hosted
from app.models.python_source import load_python
from app.models.timm_source import load_timm
from app.settings import Settings

BUNDLED: dict[str, Callable[[Settings], Hosted]] = {"cifar10-resnet20": cifar10_resnet20}
"""Models inside the package, by name."""

SOURCES: dict[str, Callable[[str, Settings], Hosted]] = {"timm": load_timm, "python": load_python}
"""Other sources of models, by the prefix before the first colon; the function gets the rest."""


def load(settings: Settings) -> Hosted:
    """Load the model that ``settings.model`` names: a bundled name, ``timm:NAME`` or ``python:MODULE:FACTORY``.

    Raises:
        ModelError: it does not exist, or its weights, labels or preprocessing do not fit.
    """
    if settings.model in BUNDLED:
        return BUNDLED[settings.model](settings)
    prefix, colon, target = settings.model.partition(":")
    if colon and prefix in SOURCES:
        return SOURCES[prefix](target, settings)
    raise ModelError(
        f"unknown model '{settings.model}'",
        hint=f"use a bundled model ({', '.join(BUNDLED)}), timm:NAME (such as timm:resnet50) or "
        "python:PACKAGE.MODULE:FACTORY",
    )

"""Names to strategies: one dict, extended by `register` and by the entry-point group ``renorm.adapters``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from adapters.adabn import AdaBN
from adapters.alpha_bn import AlphaBN
from adapters.base import AnyAdapter
from adapters.bn import BN
from adapters.errors import DuplicateStrategyError, PluginError, UnknownStrategyError
from adapters.params import build
from adapters.robust_bn import RobustBN
from adapters.source import Source
from adapters.unmix_tns import UnMixTNS

GROUP = "renorm.adapters"
_RULE = "it must be a frozen dataclass with init and step, every field of which has a default"

STRATEGIES: dict[str, type[AnyAdapter]] = {
    "source": Source,
    "bn": BN,
    "alpha_bn": AlphaBN,
    "adabn": AdaBN,
    "robust_bn": RobustBN,
    "unmix_tns": UnMixTNS,
}


def register(name: str, cls: type[AnyAdapter]) -> None:
    """Make a strategy class known by ``name``.

    Raises:
        PluginError: it is not a frozen dataclass whose fields all have defaults, or has no ``init`` or ``step``.
        DuplicateStrategyError: another class has that name.
    """
    _check_class(name, cls)
    if STRATEGIES.setdefault(name, cls) is not cls:
        raise DuplicateStrategyError(
            f"strategy '{name}' is registered twice: {STRATEGIES[name].__qualname__} and {cls.__qualname__}; rename one"
        )


def load_plugins() -> None:
    """Register every class that installed packages offer in the entry-point group ``renorm.adapters``.

    Calling it again changes nothing. Nothing is loaded at import; the server and the command line call it first.

    Raises:
        PluginError: a class cannot be imported; the message names its strategy.
        DuplicateStrategyError: another class has the name.
    """
    for point in entry_points(group=GROUP):
        try:
            cls = point.load()
        except Exception as error:
            raise PluginError(
                f"strategy '{point.name}' cannot be loaded from {point.value}: {type(error).__name__}: {error}; "
                "mend or uninstall the package that offers it"
            ) from error
        register(point.name, cls)


def _check_class(name: str, cls: type[AnyAdapter]) -> None:
    try:
        made: Any = cls()
        hash(made)
        fits = callable(made.init) and callable(made.step) and dataclasses.is_dataclass(made)
    except Exception as error:
        raise PluginError(f"strategy '{name}' ({cls!r}) cannot be made from its defaults: {error}; {_RULE}") from error
    if not fits:
        raise PluginError(f"strategy '{name}' ({cls!r}) is not an adapter; {_RULE}")


def strategy(name: str, params: Mapping[str, Any] | None = None) -> AnyAdapter:
    """The strategy of that name with the given hyperparameters, the others at their defaults.

    Raises:
        UnknownStrategyError: the name is not registered; the message lists those that are.
        ParameterError: a hyperparameter is unknown, of the wrong type or out of range.
    """
    if name not in STRATEGIES:
        raise UnknownStrategyError(f"unknown strategy '{name}': choose one of {', '.join(STRATEGIES)}")
    adapter: AnyAdapter = build(STRATEGIES[name], name, params or {})
    return adapter


def name_of(adapter: AnyAdapter) -> str:
    """The name under which the class of ``adapter`` is registered, or else the name of the class."""
    return next((name for name, cls in STRATEGIES.items() if cls is type(adapter)), type(adapter).__name__)

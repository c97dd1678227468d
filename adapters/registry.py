"""Names to parts of strategies: one dict, extended by `register` and the entry-point group ``renorm.adapters``."""

from __future__ import annotations

import dataclasses
from importlib.metadata import entry_points
from typing import Any, Literal, NamedTuple

from adapters.base import Adapter, Corrector, Learner
from adapters.correctors.cofa import Cofa
from adapters.correctors.lame import Lame
from adapters.correctors.temperature import Temperature
from adapters.errors import DuplicateStrategyError, PluginError
from adapters.learners.core import Core
from adapters.learners.rotta import RoTTA
from adapters.learners.tent import Tent
from adapters.normalization.adabn import AdaBN
from adapters.normalization.alpha_bn import AlphaBN
from adapters.normalization.bn import BN
from adapters.normalization.iabn import IABN
from adapters.normalization.james_stein import JamesStein
from adapters.normalization.robust_bn import RobustBN
from adapters.normalization.shrinkage import Shrinkage
from adapters.normalization.source import Source
from adapters.normalization.tema import Tema
from adapters.normalization.unmix_tns import UnMixTNS

Kind = Literal["adapter", "learner", "corrector"]

GROUP = "renorm.adapters"
AUTO = """Choose online how far a stream's own statistics are trusted, and whether its answers are corrected.

`shrinkage` draws the statistics of every layer to the trained ones by what chance explains of their difference: clean
streams keep the network as it is, severe shifts are adapted to, and how many of a stream's images count as independent
follows from its own answers. `lame` corrects the answers while they repeat far beyond chance. It is made for streams of
which nobody knows the order or the domain; one forward a request, and a bounded state. docs/auto.md has its figures.
"""
KINDS: dict[Kind, type[Any]] = {"adapter": Adapter, "learner": Learner, "corrector": Corrector}
"""The base class of each kind of part."""
_BASES = " or ".join(base.__name__ for base in KINDS.values())
_RULE = f"it must be a frozen dataclass that subclasses {_BASES}, every field of which has a default"

STRATEGIES: dict[str, type[Any]] = {
    "source": Source,
    "bn": BN,
    "alpha_bn": AlphaBN,
    "adabn": AdaBN,
    "robust_bn": RobustBN,
    "unmix_tns": UnMixTNS,
    "iabn": IABN,
    "tema": Tema,
    "james_stein": JamesStein,
    "shrinkage": Shrinkage,
    "tent": Tent,
    "core": Core,
    "rotta": RoTTA,
    "lame": Lame,
    "cofa": Cofa,
    "temperature": Temperature,
}


class Combination(NamedTuple):
    """Parts that have a name together."""

    parts: tuple[str, ...]
    documentation: str


COMBINATIONS: dict[str, Combination] = {"auto": Combination(("shrinkage", "lame"), AUTO)}
"""Names of several parts together, which a name with plus signs may hold like that of a part."""


def kind_of(cls: type[Any]) -> Kind:
    """Return the kind of a class: adapter, learner or corrector.

    >>> kind_of(Lame)
    'corrector'

    Raises:
        PluginError: it is none of these.
    """
    for kind, base in KINDS.items():
        if isinstance(cls, type) and issubclass(cls, base):
            return kind
    raise PluginError(f"{getattr(cls, '__qualname__', cls)} is not an adapter, learner or corrector; {_RULE}")


def names(kind: Kind) -> list[str]:
    """Return the registered names of one kind."""
    return [name for name, cls in STRATEGIES.items() if kind_of(cls) == kind]


def register(name: str, cls: type[Any]) -> None:
    """Register an adapter, a corrector or a learner by ``name``.

    Raises:
        PluginError: it is not a frozen dataclass whose fields all have defaults, or has not the methods of a part; or
            the name holds a character that means something where strategies are named.
        DuplicateStrategyError: another class has that name.
    """
    if not name.isidentifier():
        raise PluginError(f"strategy name '{name}' is not valid: use letters, digits and underscores")
    _check_class(name, cls)
    if name in COMBINATIONS:
        raise DuplicateStrategyError(f"strategy '{name}' is {'+'.join(COMBINATIONS[name].parts)}: choose another name")
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
                "fix or uninstall the package that provides it"
            ) from error
        register(point.name, cls)


def _check_class(name: str, cls: type[Any]) -> None:
    try:
        instance: Any = cls()
        hash(instance)
        kind_of(cls)
    except PluginError as error:
        raise PluginError(f"strategy '{name}': {error}") from None
    except Exception as error:
        raise PluginError(f"strategy '{name}' ({cls!r}) cannot be built with its defaults: {error}; {_RULE}") from error
    if not dataclasses.is_dataclass(instance):
        raise PluginError(f"strategy '{name}' ({cls!r}) is not a dataclass; {_RULE}")

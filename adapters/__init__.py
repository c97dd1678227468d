"""Test-time adaptation of normalization statistics: torch only, usable without the server."""

from adapters.adabn import AdaBN
from adapters.alpha_bn import AlphaBN
from adapters.arena import Arena
from adapters.base import Adapter, AnyAdapter, Moments, Nothing, Site, Statistics, rate
from adapters.bn import BN
from adapters.errors import (
    AdapterError,
    DuplicateStrategyError,
    InputError,
    ParameterError,
    PluginError,
    StateError,
    UnknownStrategyError,
    UnsupportedModelError,
)
from adapters.linear import Linear, Weights
from adapters.memory import Key, Memory
from adapters.model import AdaptiveModel
from adapters.params import check, param, schema
from adapters.registry import STRATEGIES, load_plugins, name_of, register, strategy
from adapters.request import Answer, Outcome, Request
from adapters.robust_bn import RobustBN
from adapters.source import Source
from adapters.unmix_tns import UnMixTNS

__all__ = [
    "BN",
    "STRATEGIES",
    "AdaBN",
    "Adapter",
    "AdapterError",
    "AdaptiveModel",
    "AlphaBN",
    "Answer",
    "AnyAdapter",
    "Arena",
    "DuplicateStrategyError",
    "InputError",
    "Key",
    "Linear",
    "Memory",
    "Moments",
    "Nothing",
    "Outcome",
    "ParameterError",
    "PluginError",
    "Request",
    "RobustBN",
    "Site",
    "Source",
    "StateError",
    "Statistics",
    "UnMixTNS",
    "UnknownStrategyError",
    "UnsupportedModelError",
    "Weights",
    "check",
    "load_plugins",
    "name_of",
    "param",
    "rate",
    "register",
    "schema",
    "strategy",
]

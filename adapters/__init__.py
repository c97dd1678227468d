"""Test-time adaptation of normalization statistics: torch only, usable without the server."""

from adapters.base import (
    Adapter,
    AnyAdapter,
    Corrector,
    Learner,
    Lesson,
    Moments,
    Network,
    Nothing,
    Site,
    Start,
    Statistics,
)
from adapters.composite import Composite, Strategy, as_composite
from adapters.composite import as_composite as whole
from adapters.correctors.cofa import Cofa
from adapters.correctors.lame import Lame
from adapters.correctors.temperature import Temperature
from adapters.engine.drift import Baseline, fit_baseline
from adapters.engine.request import Answer, Outcome, Request
from adapters.errors import (
    AdapterError,
    CombinationError,
    DuplicateStrategyError,
    InputError,
    ParameterError,
    PluginError,
    StateError,
    UnknownStrategyError,
    UnsupportedModelError,
)
from adapters.evidence import Evidence
from adapters.explanation import Averages, ChangeAlarm, CorrectorActivity, Explanation, Leaning
from adapters.joint import JointAdapter, JointSite
from adapters.learners.core import Core
from adapters.learners.descent import Descent
from adapters.learners.rotta import RoTTA
from adapters.learners.tent import Tent
from adapters.model import AdaptiveModel
from adapters.naming import adapter, name_of, params_of, parts_of, schema_of, strategy
from adapters.normalization.adabn import AdaBN
from adapters.normalization.alpha_bn import AlphaBN
from adapters.normalization.bn import BN
from adapters.normalization.iabn import IABN
from adapters.normalization.james_stein import JamesStein
from adapters.normalization.linear import Linear, Weights
from adapters.normalization.robust_bn import RobustBN
from adapters.normalization.shrinkage import Shrinkage
from adapters.normalization.source import Source
from adapters.normalization.tema import Tema
from adapters.normalization.unmix_tns import UnMixTNS
from adapters.number import rate
from adapters.params import check, param, schema
from adapters.registry import COMBINATIONS, STRATEGIES, kind_of, load_plugins, names, register
from adapters.state.arena import Arena
from adapters.state.memory import Memory
from adapters.state.memory import StateKey as Key

__all__ = [
    "BN",
    "COMBINATIONS",
    "IABN",
    "STRATEGIES",
    "AdaBN",
    "Adapter",
    "AdapterError",
    "AdaptiveModel",
    "AlphaBN",
    "Answer",
    "AnyAdapter",
    "Arena",
    "Averages",
    "Baseline",
    "ChangeAlarm",
    "Cofa",
    "CombinationError",
    "Composite",
    "Core",
    "Corrector",
    "CorrectorActivity",
    "Descent",
    "DuplicateStrategyError",
    "Evidence",
    "Explanation",
    "InputError",
    "JamesStein",
    "JointAdapter",
    "JointSite",
    "Key",
    "Lame",
    "Leaning",
    "Learner",
    "Lesson",
    "Linear",
    "Memory",
    "Moments",
    "Network",
    "Nothing",
    "Outcome",
    "ParameterError",
    "PluginError",
    "Request",
    "RoTTA",
    "RobustBN",
    "Shrinkage",
    "Site",
    "Source",
    "Start",
    "StateError",
    "Statistics",
    "Strategy",
    "Tema",
    "Temperature",
    "Tent",
    "UnMixTNS",
    "UnknownStrategyError",
    "UnsupportedModelError",
    "Weights",
    "adapter",
    "as_composite",
    "check",
    "fit_baseline",
    "kind_of",
    "load_plugins",
    "name_of",
    "names",
    "param",
    "params_of",
    "parts_of",
    "rate",
    "register",
    "schema",
    "schema_of",
    "strategy",
    "whole",
]

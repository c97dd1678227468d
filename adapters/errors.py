"""The exceptions of the library, as one tree.

AdapterError
├── UnknownStrategyError      no strategy of that name is registered
├── DuplicateStrategyError    a name is registered twice
├── PluginError               an installed package offers a strategy that cannot be imported
├── ParameterError            a hyperparameter is unknown, of the wrong type or out of range
│   └── CombinationError      parts of a strategy that cannot be combined
├── UnsupportedModelError     the network cannot be adapted: no BatchNorm, or no trained statistics
├── InputError                images of the wrong shape, type or value
└── StateError                a restored state does not belong to this network or strategy
"""

from __future__ import annotations


class AdapterError(ValueError):
    """The root: every message says what was wrong, what was expected and how to fix it."""


class UnknownStrategyError(AdapterError):
    """No strategy of that name is registered."""


class DuplicateStrategyError(AdapterError):
    """A strategy name is registered twice."""


class PluginError(AdapterError):
    """An installed package offers a strategy that cannot be imported."""


class ParameterError(AdapterError):
    """A hyperparameter is unknown, of the wrong type or out of range."""


class CombinationError(ParameterError):
    """Parts of a strategy that cannot be combined."""


class UnsupportedModelError(AdapterError):
    """The network cannot be adapted: it has no BatchNorm, or no trained statistics, or hides them."""


class InputError(AdapterError):
    """Images of the wrong shape, type or value."""


class StateError(AdapterError):
    """A restored state does not belong to this network or strategy."""

"""The features of a network: the input of its final linear layer."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from torch import Tensor, nn

from adapters.base import AnyCorrector
from adapters.engine.outputs import are_same_scores
from adapters.errors import UnsupportedModelError


class _Output(NamedTuple):
    """A layer's output in a first forward. Only referenced, since that forward also shows which tensors are freed."""

    reference: weakref.ref[Any]
    scores: Tensor | None  # a copy, where they may be an answer's


class Head:
    """Reads features in forwards, once a first forward has shown which layer is the last.

    Nothing of the network is changed: layers are watched while a forward that needs it runs, and only then.
    """

    def __init__(self, network: nn.Module) -> None:
        self._linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
        self._inputs: dict[nn.Linear, Tensor] = {}
        self._outputs: dict[nn.Linear, _Output] = {}
        self._is_needed = self._is_known = False
        self.width = 0  # of the features, once they are known; 0 if the network does not end in a linear layer

    def watch(self, *, is_needed: bool) -> AbstractContextManager[None]:
        """Record a forward while it runs: the first one in any case, others only if features are needed."""
        self._is_needed = is_needed
        return self._recording() if is_needed or not self._is_known else nullcontext()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        handles = [layer.register_forward_hook(self._record) for layer in self._linears]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def features(self, logits: Tensor) -> Tensor:
        """Return the features ``[n, d]`` of the forward that gave these logits.

        ``[n, 0]`` if they are not needed, or if the network does not end in a linear layer.
        """
        inputs, self._inputs = self._inputs, {}
        if not self._is_known:
            self._linears = self._last_linear(logits)
            self._is_known, self._outputs = True, {}
            self.width = sum(layer.in_features for layer in self._linears)
        if not self._is_needed:
            return logits.new_empty(logits.shape[0], 0)
        features = next((inputs[layer] for layer in self._linears if layer in inputs), None)
        # Not by len(): a graph for any number of images would hold for the number that it was traced with alone.
        if features is None or features.shape[0] != logits.shape[0]:
            return logits.new_empty(logits.shape[0], 0)
        return features.flatten(1).float()

    def _last_linear(self, logits: Tensor) -> list[nn.Linear]:
        """Return the layer that gives the logits or what they are computed from, as far as numbers show, or []."""
        outputs = self._outputs.items()
        identical = [layer for layer, output in outputs if output.reference() is logits]
        equivalent = (
            layer for layer, output in outputs if output.scores is not None and are_same_scores(output.scores, logits)
        )
        return (identical or list(equivalent))[-1:]

    def _record(self, layer: nn.Linear, inputs: tuple[Any, ...], output: Any) -> None:
        if not self._is_known:
            scores = output.detach().clone() if isinstance(output, Tensor) and output.dim() == 2 else None
            self._outputs[layer] = _Output(weakref.ref(output), scores)
        if self._is_needed:
            self._inputs[layer] = inputs[0]


def features_for(corrector: AnyCorrector, features: Tensor, logits: Tensor) -> Tensor:
    """Return what a corrector reads beside the logits: features ``[n, d]``, the logits in their place, or ``[n, 0]``.

    Raises:
        UnsupportedModelError: the network does not end in a linear layer, and the corrector cannot do without.
    """
    if not corrector.features:
        return features[:, :0]
    if features.shape[1]:
        return features
    if not corrector.scores_suffice:
        raise no_features_error()
    return logits.float()


def no_features_error() -> UnsupportedModelError:
    """Return the error of a strategy that needs features on a network without a final linear layer."""
    return UnsupportedModelError(
        "the strategy needs features, the input of a final linear layer, but this network does not end in a linear "
        "layer: choose another corrector, or end the network in nn.Linear"
    )

"""The features of a network: what goes into the linear layer that it ends in."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from torch import Tensor, nn

from adapters.engine.outputs import are_same_scores
from adapters.errors import UnsupportedModelError


class _Output(NamedTuple):
    """What a layer gave in a first forward. Not kept itself: such a forward also shows which tensors nobody keeps."""

    itself: weakref.ref[Any]
    scores: Tensor | None  # a copy, where they may be an answer's


class Head:
    """Reads features in forwards, once a first forward has shown which layer is the last.

    Nothing of the network is changed: layers are watched while a forward that needs it runs, and only then.
    """

    def __init__(self, network: nn.Module) -> None:
        self._linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
        self._given: dict[nn.Linear, Tensor] = {}
        self._outputs: dict[nn.Linear, _Output] = {}
        self._asked = self._known = False
        self.width = 0  # of the features, once they are known; 0 if the network does not end in a linear layer

    def watched(self, *, asked: bool) -> AbstractContextManager[None]:
        """While a forward runs. The first one is watched in any case; others only if features are ``asked`` for."""
        self._asked = asked
        return self._watching() if asked or not self._known else nullcontext()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        handles = [layer.register_forward_hook(self._see) for layer in self._linears]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def features(self, logits: Tensor) -> Tensor:
        """The features ``[n, d]`` of the forward that gave these logits; ``[n, 0]`` if they were not asked for.

        Raises:
            UnsupportedModelError: asked for, and the network does not end in a linear layer.
        """
        given, self._given = self._given, {}
        if not self._known:
            self._linears = self._ending(logits)
            self._known, self._outputs = True, {}
            self.width = sum(layer.in_features for layer in self._linears)
        if not self._asked:
            return logits.new_empty(len(logits), 0)
        found = next((given[layer] for layer in self._linears if layer in given), None)
        if found is None or len(found) != len(logits):
            raise featureless()
        return found.flatten(1).float()

    def _ending(self, logits: Tensor) -> list[nn.Linear]:
        """The layer whose output the logits are, or else are made of, as far as numbers show; none: an empty list."""
        outputs = self._outputs.items()
        same = [layer for layer, output in outputs if output.itself() is logits]
        made = (
            layer for layer, output in outputs if output.scores is not None and are_same_scores(output.scores, logits)
        )
        return (same or list(made))[-1:]

    def _see(self, layer: nn.Linear, given: tuple[Any, ...], output: Any) -> None:
        if not self._known:
            scores = output.detach().clone() if isinstance(output, Tensor) and output.dim() == 2 else None
            self._outputs[layer] = _Output(weakref.ref(output), scores)
        if self._asked:
            self._given[layer] = given[0]


def featureless() -> UnsupportedModelError:
    """The error of a strategy that reads features where a network shows none."""
    return UnsupportedModelError(
        "the strategy reads features, the input of the linear layer that a network ends in, and this network does not "
        "end in one: choose a strategy without lame, or end the network in nn.Linear"
    )

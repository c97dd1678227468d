"""The correctors of a forward's requests, each request by itself and those of one stream in their order."""

from __future__ import annotations

import torch
from torch import Tensor

from adapters.engine.features import features_for
from adapters.engine.plan import PlannedRequest
from adapters.errors import UnsupportedModelError
from adapters.state.memory import Memories, State, StateKey, initial_state

Parts = tuple[State, ...]


class Corrections:
    """Correct the answers of a forward, and collect the new states of each stream's learner and correctors.

    A request's corrected logits are logarithms of its probabilities, so that code that
    turns logits into probabilities need not know of correctors.
    """

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._parts: dict[StateKey, Parts] = {}

    def of(self, key: StateKey) -> Parts:
        """Return the states of the learner and the correctors of a key's strategy."""
        if key not in self._parts:
            self._parts[key] = self._memories[key].parts if key in self._memories else ()
        return self._parts[key]

    def correct(self, request: PlannedRequest, features: Tensor, logits: Tensor) -> Tensor:
        """Return one request's corrected logits, and keep the new states if the request updates its stream.

        The ``logits`` are finite.
        """
        strategy = request.key.strategy
        if not strategy.correctors:
            return logits
        if logits.dim() != 2:
            if all(corrector.condition for corrector in strategy.correctors):
                return logits  # an output for each pixel predicts no class of the image, which could repeat
            raise UnsupportedModelError(
                f"correctors need logits [n, classes], but this network returns {list(logits.shape)}: choose a "
                "strategy without correctors, or one that corrects only on a condition, such as auto"
            )
        offset = 0 if strategy.learner is None else 1
        states = self.of(request.key) or ((),) * (offset + len(strategy.correctors))
        new_states = list(states[:offset])
        scores = logits = logits.float()
        for corrector, previous in zip(strategy.correctors, states[offset:], strict=True):
            inputs = features_for(corrector, features, scores)
            state = previous or initial_state(corrector, inputs.shape[1], logits.shape[1], logits.device)
            probabilities, new_state = corrector.correct(state, inputs, logits)
            logits = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
            new_states.append(new_state)
        if request.update:
            self._parts[request.key] = tuple(new_states)
        return logits

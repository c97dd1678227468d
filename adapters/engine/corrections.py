"""The correctors of a forward's requests, each request by itself and those of one stream in their order."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.composite import as_composite
from adapters.engine.plan import PlannedRequest
from adapters.errors import UnsupportedModelError
from adapters.state.memory import Memory, State, StateKey, fresh

Parts = tuple[State, ...]


class Corrections:
    """What correctors make of answers, and what each stream's parts remember afterwards.

    A request's corrected logits are logarithms of its probabilities, so that whoever turns logits into probabilities
    need not know of correctors.
    """

    def __init__(self, memories: Mapping[StateKey, Memory]) -> None:
        self._memories = memories
        self._parts: dict[StateKey, Parts] = {}

    def of(self, key: StateKey) -> Parts:
        """What the parts of a key's strategy remember."""
        if key not in self._parts:
            self._parts[key] = self._memories[key].parts if key in self._memories else ()
        return self._parts[key]

    def correct(self, turn: PlannedRequest, features: Tensor, logits: Tensor) -> Tensor:
        """One request's corrected logits; its stream remembers what it should."""
        strategy = as_composite(turn.key.strategy)
        if not strategy.correctors:
            return logits
        if logits.dim() != 2:
            raise UnsupportedModelError(
                f"correctors refine answers [n, classes], and this network gives {list(logits.shape)}: choose a "
                "strategy without them"
            )
        if not bool(logits.isfinite().all()):
            return logits
        ahead = 0 if strategy.learner is None else 1
        held = self.of(turn.key) or ((),) * (ahead + len(strategy.correctors))
        after = list(held[:ahead])
        logits = logits.float()
        for corrector, known in zip(strategy.correctors, held[ahead:], strict=True):
            shown = features if getattr(corrector, "features", False) else features[:, :0]
            state = known or fresh(corrector, shown.shape[1], logits.shape[1], logits.device)
            found, new = corrector.correct(state, shown, logits)
            logits = found.clamp_min(torch.finfo(found.dtype).tiny).log()
            after.append(new)
        if turn.update:
            self._parts[turn.key] = tuple(after)
        return logits

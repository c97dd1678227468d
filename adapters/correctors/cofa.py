"""COFA: each image averaged with the one before it in its stream.

>>> state = Cofa().init(features=0, classes=2)
>>> answers, state = Cofa().correct(state, torch.zeros(2, 0), torch.tensor([[4.0, 0.0], [0.0, 1.0]]))
>>> answers.argmax(-1)
tensor([0, 0])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Corrector


class CofaState(NamedTuple):
    """The last image of a stream."""

    logits: Tensor  # [classes] float32, the network's own; zeros before the first image
    filled: Tensor  # [1] float32, 1 after the first image, else 0


@dataclass(frozen=True)
class Cofa(Corrector[CofaState]):
    """Average each image with its predecessor in the stream, where that makes the answer more confident.

    ``softmax(head((f_n + f_{n-1}) / 2))``, if its largest probability exceeds that of ``softmax(head(f_n))``, else the
    latter; f are the inputs of the network's last, linear layer. As that is linear, the averaged features have the
    averaged logits ``(z_n + z_{n-1}) / 2``, so the logits of one image are all that is remembered. The predecessor
    counts as the network saw it, not as it was answered; the first image of a stream has none. It helps where images
    in a row often show the same class, and costs accuracy where they do not: a confident predecessor wins too often.

    Paper: Du et al. 2024, "UniTTA: Unified Benchmark and Versatile Framework Towards Realistic Test-Time Adaptation"
    (correlated feature adaptation, COFA).
    """

    def init(self, features: int, classes: int) -> CofaState:
        """Return the state of a stream without images."""
        del features
        return CofaState(torch.zeros(classes), torch.zeros(1))

    def is_active(self, state: CofaState) -> bool:
        """Return whether there is an image to average the next one with."""
        return bool(state.filled > 0)

    def correct(self, state: CofaState, features: Tensor, logits: Tensor) -> tuple[Tensor, CofaState]:
        """Return the more confident of both answers for each image, ``[n, classes]``."""
        del features
        predecessor = torch.where(state.filled > 0, state.logits.to(logits.dtype), logits[0])
        predecessors = torch.cat([predecessor[None], logits[:-1]])
        # Halved before they are added: the sum of two finite logits may be too large for a float.
        single, blended = logits.softmax(-1), (0.5 * logits + 0.5 * predecessors).softmax(-1)
        is_surer = blended.amax(-1, keepdim=True) > single.amax(-1, keepdim=True)
        new_state = CofaState(logits[-1].to(state.logits, copy=True), torch.ones_like(state.filled))
        return torch.where(is_surer, blended, single), new_state

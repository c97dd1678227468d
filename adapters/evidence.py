"""Evidence: what the earlier answers of a stream say about it, without labels.

>>> new_evidence().independence
tensor([0.])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """Evidence of a stream's earlier answers, every field ``[..., 1]`` float32, in the order of a state's numbers.

    >>> Evidence(*torch.tensor([[300.0], [0.9], [1.1], [1.0], [0.3], [0.0]])).independence
    tensor([0.9000])

    An adapter with ``reads_evidence`` finds it in the moments that its step is given. It is read anew every
    `adapters.state.evidence.PERIOD` images of the stream, so that requests that wait together meet the same.
    """

    images: Tensor  # images that it was gathered from, at most `adapters.state.evidence.HORIZON`; 0 for a new stream
    independence: Tensor  # share of the images that count as independent of each other, 0 to 1
    persistence: Tensor  # images for one with an independent class, at least 1: about twice the length of class runs
    diversity: Tensor  # Gini diversity of the predicted classes: 0 is one class only, 1 all alike
    entropy: Tensor  # mean entropy of the answers, in units of its largest value
    mixture: Tensor  # 1 while contrast differs by more than content explains, as where domains are mixed, otherwise 0

    def map(self, function: Callable[[Tensor], Tensor]) -> Evidence:
        """Return the evidence with each field as the function returns it."""
        return Evidence(*map(function, self))


def new_evidence(device: torch.device | None = None) -> Evidence:
    """Return the evidence of a new stream: none."""
    zero = torch.zeros(1, device=device)
    return Evidence(zero, zero, torch.ones(1, device=device), zero, zero, zero)

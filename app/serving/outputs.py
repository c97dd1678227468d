"""From the logits of a forward to the outputs of its requests, in a few operations for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Output(NamedTuple):
    """The network's output for the images of one request."""

    probabilities: Tensor  # [n, classes] float32, on the CPU
    classes: list[list[int]]  # [n][top_k], the most probable first
    shares: list[list[float]]  # [n][top_k], their probabilities
    entropy: float  # mean over the images, in nats; not finite where a probability is not


def read_outputs(logits: Sequence[Tensor], top_k: Sequence[int]) -> list[Output]:
    """Convert ``logits``, ``[n, classes]`` of each request, to outputs with ``top_k`` ranked classes for each.

    One call of topk for each distinct k, so that ties are broken as they would be for the request alone.
    """
    joined = (logits[0] if len(logits) == 1 else torch.cat(list(logits))).float().softmax(1)
    entropies = torch.xlogy(joined, joined).sum(1).neg_().tolist()
    ranked = {k: [part.tolist() for part in joined.topk(k)] for k in set(top_k)}
    probabilities = joined.cpu()
    outputs, start = [], 0
    for part, k in zip(logits, top_k, strict=True):
        rows = slice(start, start := start + len(part))
        shares, classes = ranked[k]
        # 0.0 and not -0.0 where all are certain; NaN passes through max.
        entropy = max(sum(entropies[rows]) / len(part), 0.0)
        outputs.append(Output(probabilities[rows], classes[rows], shares[rows], entropy))
    return outputs

"""Which images of a stream are alike, and the assignment of classes on which alike images agree: the inside of LAME."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

LENGTH = 1e-12
"""Length below which a feature vector has no direction."""
ALIKE = 1e-12
"""Squared distance of unit vectors below which they are the same up to the rounding of float32."""
SETTLED = 1e-8
"""Relative change of the energy at which the iteration ends."""
LOOKS = 5
"""Iterations between two looks at the energy: a look costs as much as an iteration, or waits for an accelerator."""
MUCH = 2**13
"""Numbers in an assignment from which on a look costs a processor less than iterations in vain."""


def directions(features: Tensor) -> Tensor:
    """Features ``[N, d]`` as unit vectors in double precision; a row of zeros stays one."""
    wide = features.double()
    lengths: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / lengths.clamp_min(LENGTH)


def knn(units: Tensor, neighbours: int) -> Tensor:
    """``W_nj = 1`` for the nearest ``neighbours`` images j != n of each image n, else 0."""
    apart = _squared_distances(units).fill_diagonal_(torch.inf)
    nearest = apart.topk(min(neighbours, len(units) - 1), largest=False).indices
    return torch.zeros_like(apart).scatter_(1, nearest, 1.0)


def rbf(units: Tensor, neighbours: int) -> Tensor:
    """``W_nj = exp(-d_nj^2 / (2 s^2))``, s the mean distance to the k-th nearest image, each counting itself as first.

    Where images have so many duplicates that s is 0, duplicates have affinity 1 and others 0, the limit of the formula.
    """
    apart = _squared_distances(units)
    reach = apart.sqrt().topk(min(neighbours, len(units)), largest=False).values[:, -1].mean()
    return torch.exp(apart / (-2.0 * reach.square().clamp_min(ALIKE)))


def linear(units: Tensor, neighbours: int) -> Tensor:
    """``W_nj`` is the cosine of the two images; ``neighbours`` plays no part."""
    del neighbours
    return units @ units.mT


AFFINITIES: dict[str, Callable[[Tensor, int], Tensor]] = {"knn": knn, "rbf": rbf, "linear": linear}
"""Each takes unit vectors ``[N, d]`` and a number of neighbours, and gives ``W [N, N]``, row n for image n."""


def assign(scores: Tensor, affinity: Tensor, weight: float, iterations: int) -> Tensor:
    """The assignment ``[N, K]`` that ``Y <- softmax(scores + weight * W Y)`` settles at, from ``softmax(scores)``.

    It ends where the energy ``sum(-scores Y - weight (W Y) Y + Y ln Y)`` changed by at most SETTLED of itself, from the
    third iteration on, or after ``iterations``. ``scores [N, K]`` are log-probabilities, of the dtype of ``W [N, N]``.
    """
    share, energies = scores.softmax(-1), [torch.inf]
    every = 1 if scores.device.type == "cpu" and scores.numel() > MUCH else LOOKS
    exponents = scores.new_empty(every, *scores.shape)
    shares = torch.empty_like(exponents)
    steps = list(zip(exponents.unbind(0), shares.unbind(0), strict=True))
    for start in range(0, iterations, every):
        taken = steps[: iterations - start]
        for exponent, new in taken:
            torch.addmm(scores, affinity, share, alpha=weight, out=exponent)
            share = torch.softmax(exponent, -1, out=new)
        # The energy of a softmax of e is minus the sum of logsumexp(e), which is e - ln Y at any entry: at the largest
        # of each row, whose logarithm exists.
        found = (shares.amax(-1).log() - exponents.amax(-1)).sum(-1)[: len(taken)]
        energies = [energies[-1], *found.tolist()]
        for i, (before, now) in enumerate(pairwise(energies)):
            if start + i > 1 and abs(now - before) <= SETTLED * abs(before):
                return shares[i].clone()
    return share.clone()


def _squared_distances(units: Tensor) -> Tensor:
    lengths = units.square().sum(-1)
    apart = lengths[:, None] + lengths - 2.0 * (units @ units.mT)
    return apart.where(apart > ALIKE, 0.0)

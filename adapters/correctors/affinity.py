"""The affinity of images by their features, and the assignment of classes on which similar images agree, for LAME."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

MIN_LENGTH = 1e-12
"""Length below which a feature vector has no direction."""
MIN_DISTANCE = 1e-12
"""Squared distance of unit vectors below which they are equal up to the rounding of float32."""
TOLERANCE = 1e-8
"""Relative change of the energy at which the iteration ends."""
CHECK_EVERY = 5
"""Iterations between two checks of the energy: a check costs as much as an iteration, or waits for an accelerator."""
LARGE_ASSIGNMENT = 2**13
"""Numbers in an assignment above which on a CPU a check costs less than needless iterations."""


def directions(features: Tensor) -> Tensor:
    """Return features ``[N, d]`` as unit vectors in double precision; a row of zeros stays one."""
    wide = features.double()
    lengths: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return wide / lengths.clamp_min(MIN_LENGTH)


def knn(units: Tensor, neighbours: int) -> Tensor:
    """``W_nj = 1`` for the nearest ``neighbours`` images j != n of each image n, else 0."""
    distances = _squared_distances(units).fill_diagonal_(torch.inf)
    neighbours_of = distances.topk(min(neighbours, len(units) - 1), largest=False).indices
    return torch.zeros_like(distances).scatter_(1, neighbours_of, 1.0)


def rbf(units: Tensor, neighbours: int) -> Tensor:
    """``W_nj = exp(-d_nj^2 / (2 s^2))``, s the mean distance to the k-th nearest image, each counting itself as first.

    Where images have so many duplicates that s is 0, duplicates have affinity 1 and others 0, the limit of the formula.
    """
    distances = _squared_distances(units)
    reach = distances.sqrt().topk(min(neighbours, len(units)), largest=False).values[:, -1].mean()
    return torch.exp(distances / (-2.0 * reach.square().clamp_min(MIN_DISTANCE)))


def linear(units: Tensor, neighbours: int) -> Tensor:
    """``W_nj`` is the cosine of the two images; ``neighbours`` plays no part."""
    del neighbours
    return units @ units.mT


AFFINITIES: dict[str, Callable[[Tensor, int], Tensor]] = {"knn": knn, "rbf": rbf, "linear": linear}
"""Functions of unit vectors ``[N, d]`` and a number of neighbours that return ``W [N, N]``, row n for image n."""


def assign(scores: Tensor, affinity: Tensor, weight: float, iterations: int) -> Tensor:
    """Iterate ``Y <- softmax(scores + weight * W Y)`` from ``softmax(scores)``; return the assignment ``[N, K]``.

    It ends where the energy ``sum(-scores Y - weight (W Y) Y + Y ln Y)`` changes by at most TOLERANCE of itself, from
    the third iteration, or after ``iterations``. ``scores [N, K]`` are log-probabilities, of the dtype of ``W [N, N]``.
    """
    share, energies = scores.softmax(-1), [torch.inf]
    interval = 1 if scores.device.type == "cpu" and scores.numel() > LARGE_ASSIGNMENT else CHECK_EVERY
    exponents = scores.new_empty(interval, *scores.shape)
    shares = torch.empty_like(exponents)
    steps = list(zip(exponents.unbind(0), shares.unbind(0), strict=True))
    for start in range(0, iterations, interval):
        batch = steps[: iterations - start]
        for exponent, buffer in batch:
            torch.addmm(scores, affinity, share, alpha=weight, out=exponent)
            share = torch.softmax(exponent, -1, out=buffer)
        # The energy of a softmax of e is minus the sum of logsumexp(e), which is e - ln Y at any entry: at the largest
        # of each row, whose logarithm exists.
        values = (shares.amax(-1).log() - exponents.amax(-1)).sum(-1)[: len(batch)]
        energies = [energies[-1], *values.tolist()]
        for i, (old, new) in enumerate(pairwise(energies)):
            if start + i > 1 and abs(new - old) <= TOLERANCE * abs(old):
                return shares[i].clone()
    return share.clone()


def _squared_distances(units: Tensor) -> Tensor:
    lengths = units.square().sum(-1)
    distances = lengths[:, None] + lengths - 2.0 * (units @ units.mT)
    return distances.where(distances > MIN_DISTANCE, 0.0)

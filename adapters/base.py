"""The contract: what is seen at a site, what is used, what is remembered, and the rule between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

State = TypeVar("State", bound=tuple[Any, ...])
"""What a strategy remembers of one site: a NamedTuple of float32 tensors, of shapes fixed by the site."""


class Moments(NamedTuple):
    """What one request showed at a site: each image's own mean and variance over its positions.

    Variances are biased (divided by the number of positions) everywhere in Renorm. By the law of total variance
    these moments hold the batch statistics exactly: see `pooled`.
    """

    mean: Tensor  # [n, C] float32
    var: Tensor  # [n, C] float32, biased
    pixels: int  # positions behind each entry: H*W, or 1 for BatchNorm1d on [N, C]

    @property
    def images(self) -> int:
        """How many images the request has: n."""
        return self.mean.shape[-2]

    @property
    def values(self) -> int:
        """How many values stand behind each pooled channel: n * pixels. Fewer than two show no variance."""
        return self.images * self.pixels

    def pooled(self, *, unbiased: bool = False) -> Statistics:
        """Statistics of the request as a whole, ``[C]``: ``mean = E[m_n]``, ``var = E[v_n] + Var[m_n]``.

        ``unbiased`` multiplies the variance by ``values / (values - 1)``, as code built on ``running_var`` does.
        """
        mean = self.mean.mean(-2)
        # The centred form: the difference of squares cancels when the mean is large beside the deviation.
        var = self.var.mean(-2) + (self.mean - mean.unsqueeze(-2)).square().mean(-2)
        return Statistics(mean, var * (self.values / (self.values - 1)) if unbiased else var)


class Statistics(NamedTuple):
    """What is used to normalize, or remembered: one row ``[C]``, or one per image ``[n, C]``."""

    mean: Tensor
    var: Tensor

    def toward(self, other: Statistics, weight: float | Tensor) -> Statistics:
        """The step ``self + weight * (other - self)``: 0 stays here, 1 arrives."""
        return Statistics(self.mean + weight * (other.mean - self.mean), self.var + weight * (other.var - self.var))


@dataclass(frozen=True, eq=False)
class Site:
    """One BatchNorm position of a network with what training left there. Never written to.

    ``name`` is the module's dotted name; a module called more than once in a forward is one site per call, the
    later ones named ``name#2``, ``name#3`` and so on, because each call sees activations of its own.
    """

    name: str
    mean: Tensor  # [C] float32, the trained running mean
    var: Tensor  # [C] float32, the trained running variance
    weight: Tensor  # [C] float32, ones where the layer has no affine
    bias: Tensor  # [C] float32, zeros where the layer has no affine
    eps: float
    row: Tensor = field(init=False, repr=False)  # [1, 2C], the trained mean and variance side by side

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", torch.cat([self.mean, self.var])[None])

    @property
    def channels(self) -> int:
        """How many channels the site normalizes: C."""
        return self.mean.shape[0]

    @property
    def trained(self) -> Statistics:
        """The statistics of the training data, which `source` normalizes with."""
        return Statistics(self.mean, self.var)


class Adapter(Protocol[State]):
    """A normalization method: a frozen dataclass of hyperparameters with two pure functions.

    Both functions may be called from any thread, for any stream, in any order; they neither write to their
    arguments nor keep anything. Branch on shapes and hyperparameters only, never on values of tensors: the engine
    batches the steps of many streams. `adapters.checks` holds all of this as checks for plugin authors.

    There are two ways to make that batching cheap, both optional. A strategy that is linear in mean and variance
    subclasses `adapters.Linear`. Another may set the class attribute ``batched = True`` and promise that ``step`` also
    takes leading axes, ``seen`` ``[..., n, C]`` with state fields ``[..., *shape]``; otherwise `torch.func.vmap` adds
    them. Such a one may also have a method ``queue(site, state, seen)``, the steps of T requests of which each
    continues the one before, ``seen`` ``[T, ..., n, C]``, if it can do that with less than T steps' work.
    """

    def __hash__(self) -> int:
        """Equal hyperparameters hash alike: an adapter is part of the key of a stream's state."""
        ...

    def init(self, site: Site) -> State:
        """What a new stream remembers at ``site``. A reset stream is a new stream."""
        ...

    def step(self, site: Site, state: State, seen: Moments) -> tuple[Statistics, State]:
        """The statistics that normalize this request at ``site``, and what the stream remembers after it.

        ``seen`` holds the n >= 1 images of one request of one stream, and nothing else that shared the forward.
        """
        ...


AnyAdapter = Adapter[Any]


class Nothing(NamedTuple):
    """The state of a strategy that remembers nothing."""


def rate(momentum: float, images: int, reference: int | None) -> float:
    """The weight of a request of n images: ``1 - (1 - momentum) ** (n / reference)``, or ``momentum`` as it is.

    With a ``reference`` the horizon is counted in images, so one request of 64 moves the state about as far as 64
    requests of one (UnMix-TNS, Tomar et al. 2024, batch-size correction, from the request's actual n).
    """
    if reference is None:
        return momentum
    kept: float = (1.0 - momentum) ** (images / reference)
    return 1.0 - kept

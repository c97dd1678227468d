"""Steps at all sites of a network at once, for adapters that know before an image what they normalize it with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapters.base import Adapter, Moments, Site, Statistics
from adapters.evidence import Evidence
from adapters.number import Number, is_zero, numbers

TINY = 1e-12
"""The least number of trained variances that is told apart from none."""

State = TypeVar("State", bound=tuple[Any, ...])


@dataclass(frozen=True, eq=False)
class JointSite:
    """The channels of several sites side by side. Sites of the same width lie next to each other.

    >>> narrow, wide = (Site("bn", *torch.ones(4, width).unbind(0), eps=0.0) for width in (1, 2))
    >>> joint = JointSite.of([narrow, narrow, wide])
    >>> joint.averages(torch.tensor([[1.0, 2.0, 3.0, 5.0]]))
    (tensor([1., 2., 4.]),)
    """

    mean: Tensor  # [C] float32, the trained running means
    var: Tensor  # [C] float32, the trained running variances
    precision: Tensor  # [C], see `Site`
    spread: Tensor  # [S], see `Site`
    contrast_spread: Tensor  # [S], see `Site`
    owner: Tensor  # [C], the site of a channel
    shapes: tuple[tuple[int, int], ...]  # sites and channels of each, width by width

    @classmethod
    def of(cls, sites: Sequence[Site]) -> JointSite:
        """Join sites, at least one, in an order of ascending width."""
        widths = [site.channels for site in sites]
        owner = torch.arange(len(sites)).repeat_interleave(torch.tensor(widths))
        device = sites[0].mean.device
        return cls(
            torch.cat([site.mean for site in sites]),
            torch.cat([site.var for site in sites]),
            torch.cat([site.precision for site in sites]),
            torch.tensor([site.spread for site in sites], device=device),
            torch.tensor([site.contrast_spread for site in sites], device=device),
            owner.to(device),
            tuple((len(list(run)), width) for width, run in groupby(widths)),
        )

    def averages(self, values: Tensor) -> Sequence[Number]:
        """Return averages over the channels of each site, ``[..., S]``, of each of k ``values`` ``[..., k, C]``."""
        return self.average_rows(values).unbind(-2)

    def average_rows(self, values: Tensor) -> Tensor:
        """Return the same as one tensor ``[..., k, S]``."""
        weighted = values * self.precision
        parts = torch.split(weighted, [sites * width for sites, width in self.shapes], -1)
        sums = [p.view(*p.shape[:-1], *shape).sum(-1) for p, shape in zip(parts, self.shapes, strict=True)]
        return torch.cat(sums, -1)


AnySite = Site | JointSite


def averages(site: AnySite, values: Tensor) -> Sequence[Number]:
    """Return averages over the channels, in trained variances, of each of k ``values`` ``[..., k, C]``."""
    return site.averages(values) if isinstance(site, JointSite) else numbers(values @ site.precision)


def average_rows(site: AnySite, values: Tensor) -> Tensor:
    """Return averages over the channels, in trained variances, as one tensor ``[..., k, S]``; at one site S = 1."""
    return site.average_rows(values) if isinstance(site, JointSite) else (values @ site.precision).unsqueeze(-1)


def number(site: AnySite, values: Tensor) -> Number:
    """Return a field of a state with one entry per site, ``[..., 1]`` or ``[..., S]``, as a number."""
    return values if isinstance(site, JointSite) else numbers(values)[0]


def expand(site: AnySite, number: Number) -> Number:
    """Return a number of each site as one that goes with each of its channels."""
    if isinstance(site, JointSite) and isinstance(number, Tensor):
        return number.index_select(-1, site.owner)
    return number


def lerp(site: AnySite, start: Tensor, end: Tensor, weight: Number, *, rows: bool = False) -> Tensor:
    """Return ``start + weight * (end - start)``, with a weight of each stream and site.

    With ``rows`` the tensors ``[..., k, C]`` have one more axis than the streams.
    """
    weight = expand(site, weight)
    return torch.lerp(start, end, weight.unsqueeze(-2) if rows and isinstance(weight, Tensor) else weight)


class JointAdapter(Adapter[State]):
    """Base of adapters that normalize a single image with what the stream learned before it.

    >>> class RunningAverage(JointAdapter):
    ...     batched = True
    ...     def init(self, site): return site.trained
    ...     def foresee(self, site, state, evidence): return state
    ...     def learn(self, site, state, moments): return state.toward(moments.pooled(), 0.1)
    >>> site = Site("bn1", torch.zeros(1), torch.ones(1), torch.ones(1), torch.zeros(1), eps=0.0)
    >>> statistics, state = RunningAverage().step(site, site.trained, Moments(torch.ones(1, 1), torch.ones(1, 1), 64))
    >>> statistics.mean, state.mean
    (tensor([0.]), tensor([0.1000]))

    Then nothing at one site waits for what happens at another, and the engine takes the steps of single images at all
    sites at once: few large operations for many small ones. A subclass gives `foresee` and `learn`, for a site or for
    several side by side. A field of its states ends with one entry per channel or with one per site; what comes before
    is alike at all sites. `step` is the same at one site. An adapter without ``batched = True`` steps site by site.
    """

    def adapts(self, site: Site) -> bool:
        """Return whether the site is adapted; others keep the trained statistics and the state they began with."""
        del site
        return True

    @abstractmethod
    def foresee(self, site: AnySite, state: State, evidence: Evidence | None) -> Statistics:
        """Return the statistics that a stream in this state normalizes images with, ``[..., C]``."""

    def find_mixture(self, site: JointSite, state: State, mixture: Tensor) -> Tensor:
        """Return `Evidence.mixture` ``[..., 1]`` of streams in these states from what it was: here, that."""
        del site, state
        return mixture

    def own_weight(self, evidence: Evidence | None) -> Number:
        """Return how far images are drawn from what was foreseen to what they are themselves, 0 to 1: here, 0."""
        del evidence
        return 0.0

    def refine(self, site: Site, statistics: Statistics, weight: Number, moments: Moments) -> Statistics:
        """Return the statistics of each image ``[..., n, C]`` from those foreseen, where there is own weight."""
        del site, weight, moments
        return statistics

    @abstractmethod
    def learn(self, site: AnySite, state: State, moments: Moments) -> State:
        """Return the state after a request whose images have several positions: ``pixels`` may be any number over 1.

        Sites side by side differ in it, so that a state cannot depend on it.
        """

    def step(self, site: Site, state: State, moments: Moments) -> tuple[Statistics, State]:
        """Return statistics and state: a single image meets what was learned before, several what they teach too."""
        if moments.pixels < 2 or not self.adapts(site):
            return site.trained, state
        new_state = self.learn(site, state, moments)
        reached_state = state if moments.images == 1 else new_state
        statistics = self.foresee(site, reached_state, moments.evidence)
        weight = self.own_weight(moments.evidence)
        return statistics if is_zero(weight) else self.refine(site, statistics, weight, moments), new_state

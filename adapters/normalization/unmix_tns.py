"""UnMix-TNS: the stream as a mixture of K components, each image normalized with its own blend of them.

>>> site = Site("bn1", torch.zeros(1), torch.ones(1), torch.ones(1), torch.zeros(1), eps=1e-5)
>>> UnMixTNS(components=2).init(site).vars  # the other half of the variance lies between the means
tensor([[0.5000],
        [0.5000]])
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from adapters.base import Adapter, Moments, Site, Statistics
from adapters.number import rate
from adapters.params import Checked, param

TINY = 1e-8
"""Length below which a mean has no direction."""
BLENDS_LIMIT = 2**17
"""The most numbers in all blends for which materializing them is faster than the closed form."""


class MixtureState(NamedTuple):
    """The K components at one site."""

    statistics: Tensor  # [..., K, 2C]: their means, then their variances

    @property
    def means(self) -> Tensor:
        """The means, ``[..., K, C]``."""
        return self.statistics.chunk(2, -1)[0]

    @property
    def vars(self) -> Tensor:
        """The variances, ``[..., K, C]``."""
        return self.statistics.chunk(2, -1)[1]


@dataclass(frozen=True)
class UnMixTNS(Checked, Adapter[MixtureState]):
    """Keep K components per site, blend each image into those it resembles, normalize it with their mixture.

    With ``p_nk`` the softmax over k of ``cos(m_n, m_k) / temperature``, ``mu_nk = (1 - p_nk) m_k + p_nk m_n`` and
    ``s_nk = (1 - p_nk) V_k + p_nk v_n``, image n is normalized with ``mu_n = mean_k mu_nk`` and
    ``var_n = mean_k s_nk + mean_k mu_nk^2 - mu_n^2``. Then ``m_k`` moves by ``w mean_n p_nk (m_n - m_k)``, and ``V_k``
    by ``w mean_n p_nk (v_n - V_k)``; ``w = 1 - (1 - momentum) ** (n / reference_images)`` with the request's actual n.
    An image is answered before the update, and other images of its request do not change its answer. A learner's
    gradient takes ``p_nk`` as a constant, and passes through ``m_n`` and ``v_n`` of the mixture only, as published.

    The start spreads the components around the trained statistics: ``m_k = mean_s + std_s sqrt(K / (2 (K - 1))) z_k``,
    ``V_k = var_s / 2``. ``start="centred"`` makes the K draws of z exactly zero-mean with mean square (K - 1) / K, so
    the mixture is the trained statistics; ``"random"`` leaves them as drawn, as the authors do, which shifts a new
    stream by 0.18 standard deviations per channel at K = 16. Draws depend on ``seed`` and the site's name only. One
    value per image has no variance: such sites use the trained statistics.

    Paper: Tomar et al. 2024, "Un-Mixing Test-Time Normalization Statistics: Combatting Label Temporal Correlation"
    (ICLR 2024), section 3.
    """

    batched: ClassVar[bool] = True

    components: int = param(16, "Number of mixture components K.", low=1, high=256)
    temperature: float = param(0.07, "Temperature of the softmax that assigns images to components.", low=1e-3)
    momentum: float = param(0.1, "Weight of one request of reference_images images.", above=0.0, high=1.0)
    reference_images: int | None = param(
        64, "Request size at which the weight is momentum; null: every request weighs momentum.", low=1
    )
    start: str = param("centred", "How components are drawn.", choices=("centred", "random"))
    seed: int = param(0, "Seed of the draw.", low=0, high=2**31 - 1)

    def init(self, site: Site) -> MixtureState:
        """Return K components around the trained statistics, the same at every call."""
        k = self.components
        if k == 1:
            return MixtureState(site.row.clone())
        # Drawn on the CPU from a generator of its own: the same on every device, whatever ran before.
        # Seed and name go into 32 bits, because the generator reads no more of its seed.
        generator = torch.Generator().manual_seed(zlib.crc32(site.name.encode(), self.seed))
        z = torch.randn(k, site.channels, generator=generator).to(site.mean)
        if self.start == "centred":
            z = z - z.mean(0)
            z = z * ((k - 1) / k / z.square().mean(0)).sqrt()
        spread = (site.var * (0.5 * k / (k - 1))).sqrt()
        return MixtureState(torch.cat([site.mean + spread * z, (0.5 * site.var).expand(k, -1)], -1))

    def step(self, site: Site, state: MixtureState, moments: Moments) -> tuple[Statistics, MixtureState]:
        """Return the mixture of each image, and the components after the request."""
        if moments.pixels < 2:
            return site.trained, state
        request = torch.cat([moments.mean, moments.var], -1)
        share = self._assign(state.means.mT, self._direction(moments.mean))
        return self._mixture(state.statistics, request, share), MixtureState(
            self._learn(state.statistics, request, share)
        )

    def queue(self, site: Site, state: MixtureState, moments: Moments) -> tuple[Statistics, MixtureState]:
        """Return the steps of T requests, ``[T, ..., n, C]``: only the updates of the components run one by one."""
        if moments.pixels < 2:
            return site.trained, state
        rows, directions = torch.cat([moments.mean, moments.var], -1), self._direction(moments.mean)
        history = state.statistics.new_empty(len(rows) + 1, *state.statistics.shape)
        history[0] = state.statistics
        shares = []
        # Views are made for all requests at once, because each takes a tenth of a request's time.
        columns, states = MixtureState(history).means.mT.unbind(0), history.unbind(0)
        for t, (request, direction) in enumerate(zip(rows.unbind(0), directions.unbind(0), strict=True)):
            shares.append(self._assign(columns[t], direction))
            self._learn(states[t], request, shares[t], out=states[t + 1])
        return self._mixture(history[:-1], rows, torch.stack(shares)), MixtureState(states[-1])

    def _direction(self, mean: Tensor) -> Tensor:
        """Return each mean's direction over the temperature: times a component's direction, the softmax's input."""
        mean = mean.detach().double()  # shares are constants to a gradient
        length: Tensor = torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
        return mean / (length.clamp_min(TINY) * self.temperature)

    def _assign(self, columns: Tensor, direction: Tensor) -> Tensor:
        """Return the softmax of images over components, ``[..., n, K]``; ``columns``: their means, ``[..., C, K]``."""
        # The cosine needs the raw means: unlike everything below it changes under a shift. In double precision, because
        # cosines of means far above their deviations differ in their last digits only.
        means = columns.double()
        lengths = torch.linalg.vector_norm(means, dim=-2, keepdim=True).clamp_min(TINY)
        share: Tensor = (direction @ means / lengths).softmax(-1).to(columns.dtype)
        return share

    def _mixture(self, components: Tensor, request: Tensor, p: Tensor) -> Statistics:
        """Return the mean and variance of each image's mixture, ``[..., n, C]``."""
        if request.shape[-2] == 1 or (
            not torch.compiler.is_compiling() and request.numel() * self.components <= BLENDS_LIMIT
        ):
            return self._mixture_from_blends(components, request, p)
        # The sums over k in closed form, as one product [2n, K] @ [K, 3C]; no [n, K, C] array is made. Measured from
        # the mean of the components and with q = p - 1/K, or the squares of an image far from them all would cancel.
        means, variances = components.chunk(2, -1)
        mean, var = request.chunk(2, -1)
        k = self.components
        centre = means.mean(-2, keepdim=True)
        x, m, q = mean - centre, means - centre, p - 1 / k
        terms = torch.cat([m, variances, m.square()], -1)
        q2 = q.square()
        first, second = (torch.cat([q, q2], -2) @ terms).chunk(2, -2)
        q_m, q_vars, q_m2 = first.chunk(3, -1)
        q2_m, _, q2_m2 = second.chunk(3, -1)
        _, vars_mean, m2_mean = terms.mean(-2, keepdim=True).chunk(3, -1)
        pull, remainder = q_m / k, 1 - 1 / k
        within = remainder * vars_mean + (var - q_vars) / k
        squares = (x * (x * q2.sum(-1, keepdim=True) - 2 * q2_m) + q2_m2) / k
        shared = remainder**2 * m2_mean + 2 * remainder * (x * pull - q_m2 / k)
        return Statistics(x / k - pull + centre, (within + squares + shared - pull.square()).clamp_min(0.0))

    def _mixture_from_blends(self, components: Tensor, request: Tensor, p: Tensor) -> Statistics:
        """Return the same from the blends themselves: an array ``[..., n, K, 2C]``, but few operations."""
        # Measured from the image: blends themselves would be rounded to the size of their means.
        blends = (components.unsqueeze(-3) - request.unsqueeze(-2)) * (1 - p).unsqueeze(-1)
        middle = blends.mean(-2, keepdim=True)
        mean, within = (request + middle.squeeze(-2)).chunk(2, -1)
        between = (blends - middle).narrow(-1, 0, mean.shape[-1]).square().mean(-2)
        return Statistics(mean, within + between)

    def _learn(self, components: Tensor, request: Tensor, p: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the components after a request."""
        images = request.shape[-2]
        weight = rate(self.momentum, images, self.reference_images)
        if images == 1:
            return torch.lerp(components, request, (weight * p).mT, out=out)
        weighted = (weight / images) * p.mT
        return torch.addcmul(weighted @ request, components, 1 - weighted.sum(-1, keepdim=True), out=out)

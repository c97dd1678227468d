"""UnMix-TNS: the stream as a mixture of K components, each image normalized with its own blend of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adapters.base import Moments, Site, Statistics, rate
from adapters.params import check, param


class Components(NamedTuple):
    """The K components at one site."""

    means: Tensor  # [K, C]
    vars: Tensor  # [K, C]


@dataclass(frozen=True)
class UnMixTNS:
    """Keep K components per site, blend each image into those it resembles, normalize it with their mixture.

    With ``p_nk`` the softmax over k of ``cos(m_n, m_k) / temperature``, ``mu_nk = (1 - p_nk) m_k + p_nk m_n`` and
    ``s_nk = (1 - p_nk) V_k + p_nk v_n``, image n is normalized with ``mu_n = mean_k mu_nk`` and
    ``var_n = mean_k s_nk + mean_k mu_nk^2 - mu_n^2``. Then ``m_k`` moves by ``w mean_n p_nk (m_n - m_k)``, and ``V_k``
    by ``w mean_n p_nk (v_n - V_k)``; ``w = 1 - (1 - momentum) ** (n / reference_images)`` with the request's actual n.
    An image is used before it is learned from, and other images of its request do not touch its answer.

    The start spreads the components around the trained statistics: ``m_k = mean_s + std_s sqrt(K / (2 (K - 1))) z_k``,
    ``V_k = var_s / 2``. ``start="centred"`` makes the K draws of z exactly zero-mean with mean square (K - 1) / K, so
    the mixture is the trained statistics; ``"random"`` leaves them as drawn, as the authors do, which shifts a new
    stream by 0.18 standard deviations per channel at K = 16. Draws depend on ``seed`` and the site's name only. One
    value per image shows no variance: such sites use the trained statistics.

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

    def __post_init__(self) -> None:
        check(self)

    def init(self, site: Site) -> Components:
        """K components around the trained statistics, the same at every call."""
        k = self.components
        if k == 1:
            return Components(site.mean[None].clone(), site.var[None].clone())
        # Drawn on the CPU from a generator of its own: the same on every device, whatever ran before.
        # Seed and name go into 32 bits, because the generator reads no more of its seed.
        generator = torch.Generator().manual_seed(zlib.crc32(site.name.encode(), self.seed))
        z = torch.randn(k, site.channels, generator=generator).to(site.mean)
        if self.start == "centred":
            z = z - z.mean(0)
            z = z * ((k - 1) / k / z.square().mean(0)).sqrt()
        spread = (site.var * (0.5 * k / (k - 1))).sqrt()
        return Components(site.mean + spread * z, (0.5 * site.var).expand(k, -1).clone())

    def step(self, site: Site, state: Components, seen: Moments) -> tuple[Statistics, Components]:
        """Each image's own mixture, and the components after the request."""
        if seen.pixels < 2:
            return site.trained, state
        share = self._assign(state, seen)  # [n, K]
        return self._mixture(state, seen, share), self._learn(state, seen, share)

    def _assign(self, state: Components, seen: Moments) -> Tensor:
        # The cosine needs the raw means: unlike everything below it changes under a shift.
        own, theirs = (F.normalize(mean, dim=-1, eps=1e-8) for mean in (seen.mean, state.means))
        return (own @ theirs.mT / self.temperature).softmax(-1)

    def _mixture(self, state: Components, seen: Moments, p: Tensor) -> Statistics:
        # The sums over k in closed form, as one product [2n, K] @ [K, 3C]; no [n, K, C] array is made. Measured from
        # the mean of the components and with q = p - 1/K, or the squares of an image far from them all would cancel.
        k = self.components
        centre = state.means.mean(-2, keepdim=True)
        x, m, q = seen.mean - centre, state.means - centre, p - 1 / k
        terms = torch.cat([m, state.vars, m.square()], -1)
        q2 = q.square()
        first, second = (torch.cat([q, q2], -2) @ terms).chunk(2, -2)
        q_m, q_vars, q_m2 = first.chunk(3, -1)
        q2_m, _, q2_m2 = second.chunk(3, -1)
        _, vars_mean, m2_mean = terms.mean(-2, keepdim=True).chunk(3, -1)
        pull, rest = q_m / k, 1 - 1 / k
        within = rest * vars_mean + (seen.var - q_vars) / k
        own = (x * (x * q2.sum(-1, keepdim=True) - 2 * q2_m) + q2_m2) / k
        shared = rest**2 * m2_mean + 2 * rest * (x * pull - q_m2 / k)
        var = within + own + shared - pull.square()
        return Statistics(x / k - pull + centre, var.clamp_min(0.0))

    def _learn(self, state: Components, seen: Moments, p: Tensor) -> Components:
        weighted = (rate(self.momentum, seen.images, self.reference_images) / seen.images) * p.mT
        kept = 1 - weighted.sum(-1, keepdim=True)
        means, variances = (weighted @ torch.cat([seen.mean, seen.var], -1)).chunk(2, -1)
        return Components(torch.addcmul(means, state.means, kept), torch.addcmul(variances, state.vars, kept))

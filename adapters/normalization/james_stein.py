"""James-Stein shrinkage: a stream's statistics, drawn to the trained ones as far as chance explains the difference.

>>> site = Site("bn1", torch.zeros(2), torch.ones(2), torch.ones(2), torch.zeros(2), eps=0.0)
>>> images = Moments(torch.tensor([[2.9, 0.0], [3.1, 0.0]]), torch.ones(2, 2), pixels=64)
>>> adapter = JamesStein(prior_images=0)
>>> adapter.step(site, adapter.init(site), images)[0].mean  # images alike, far from training: little is chance
tensor([2.9933, 0.0000])
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.normalization.shrunk_averages import ShrunkAverages


@dataclass(frozen=True)
class JamesStein(ShrunkAverages):
    """Normalize with running averages that are shrunk toward the trained statistics by what chance explains.

    With M the running mean of the images' means, W that of their variances and B the variance of their means, the
    squared shift at a site is ``D = mean_c (M - mean_s)^2 / var_s``, and ``E = mean_c B / var_s / independent_images``
    is the squared shift that so many independent images show by chance. The weight of the trained statistics is
    ``w = min(1, E / D)``, the positive-part estimator of James and Stein; the request is normalized with
    ``mean_s + (1 - w) (M - mean_s)`` and ``var_s + (1 - w) (W + B - var_s)``. Averages are over all images of the
    stream, then over ``horizon`` images. ``prior_images`` images that showed D as their variance are added to B, so
    that a new stream starts from the trained statistics. A request of several images is normalized with averages that
    include it, a single image with those before it: it would move them little, and steps of single images can so be
    taken at all sites at once.

    How many images are independent cannot be known where a camera shows one class for long: the look of that class and
    a shift are one thing to these averages. By default it is 1: what one image of a clean stream could show by chance
    is never adapted to, whatever classes are shown and for how long; severe shifts, many times as large, are.
    Sites beyond ``adapted_depth`` keep the trained statistics, because means differ by class there most of all; so do
    sites with one value per image, which have no variance.

    Papers: James and Stein 1961, "Estimation with Quadratic Loss", section 2, for the estimator; Schneider et al. 2020,
    "Improving robustness against common corruptions by covariate shift adaptation", section 3, shrink by a fixed number
    of images.
    """

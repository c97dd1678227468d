"""All steps of linear strategies in a forward, as one matrix product per site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import Site, Statistics
from adapters.engine.moments import BatchMoments
from adapters.normalization.linear import Linear, Weights

CACHED = 32
"""Forwards look alike for long: a single request, or the same streams one image each."""


class LinearRequest(NamedTuple):
    """A request as far as its weights go: whose state it continues (None: it remembers nothing), and whether it may."""

    adapter: Linear
    images: int
    stream: int | None
    update: bool


class MixingWeights(NamedTuple):
    """What requests use and streams keep, as weights of ``[requests | streams | trained]``, ``[.., R + K + 1]``.

    The first R rows say what each request is normalized with, the last K what each stream's state becomes.
    ``unbiased`` is 1 where a request's variance is to be corrected, ``[R, 1]``, or None if there is none. ``ignored``
    is true where nothing uses what a request showed, so that it may overflow, ``[R, 1]``, or None if all are used.
    """

    weights: Tensor
    unbiased: Tensor | None
    ignored: Tensor | None

    def to(self, device: torch.device) -> MixingWeights:
        """The same, where the activations are."""
        parts = [part if part is None else part.to(device) for part in self]
        return MixingWeights(self.weights.to(device), *parts[1:])


@lru_cache(CACHED)
def mixing_weights(
    parts: tuple[LinearRequest, ...], streams: int, pixels: int, requests: int | None = None, rows: int | None = None
) -> MixingWeights:
    """The weights at sites with that many positions per image, with room for more ``requests`` and ``rows`` of states.

    Requests of one stream are followed in their order: what a later one continues is itself a sum of the earlier ones.
    A stream's state after request i holds request j with weight ``pace_j`` times the product of ``1 - pace_l`` over
    the stream's requests l from j + 1 to i, and its state before the forward with that product over all up to i.
    """
    real, requests, rows = len(parts), requests or len(parts), rows or streams
    steps = [part.adapter.weights_at(part.images, pixels) for part in parts]
    stream = torch.tensor([-1 if part.stream is None else part.stream for part in parts])[:, None]
    moves = [s.momentum if p.update and p.stream is not None else 0.0 for s, p in zip(steps, parts, strict=True)]
    pace, order = torch.tensor(moves), torch.arange(real)
    # Columns: what may be held, every request and every stream's state before. Rows: what each request does to it.
    holder = torch.cat([stream[:, 0], torch.arange(streams)])
    since = torch.cat([order, torch.full((streams,), -1)])
    touches = (stream == holder) & (order[:, None] > since) & (stream >= 0)
    left = torch.where(touches, 1.0 - pace[:, None], 1.0).cumprod(0) * torch.cat([pace, torch.ones(streams)])
    before = torch.cat([left.new_ones(1, real + streams) * torch.cat([pace, torch.ones(streams)]), left[:-1]])
    columns = torch.cat([order, requests + torch.arange(streams)])
    weights = torch.zeros(requests + rows, requests + rows + 1)
    remembered = torch.tensor([step.remembered for step in steps])[:, None]
    weights[:real, columns] = torch.where(touches, remembered * before, 0.0)
    weights[order, order] = torch.tensor([step.own for step in steps])
    weights[:real, -1] = torch.tensor([step.trained for step in steps])
    weights[requests : requests + streams, columns] = torch.where(
        holder == torch.arange(streams)[:, None], left[-1], 0.0
    )
    used = [bool(step.own or pace) for step, pace in zip(steps, moves, strict=True)]
    corrected = [step.unbiased and use for step, use in zip(steps, used, strict=True)]
    return MixingWeights(
        weights,
        _column(corrected, requests).float() if any(corrected) else None,
        None if all(used) else _column([not use for use in used], requests),
    )


def _column(flags: Sequence[bool], length: int) -> Tensor:
    return torch.tensor([*flags, *(False for _ in range(length - len(flags)))])[:, None]


class Pooling(NamedTuple):
    """From images to requests. None of it is needed where every request is a single image."""

    share: Tensor  # [R, N]: the share of each image in the mean of its request
    request: Tensor  # [N]: which request an image belongs to


def pooling(sizes: Sequence[int], device: torch.device, requests: int | None = None) -> Pooling:
    """The pooling of requests of those sizes, in this order, for ``requests`` >= len(sizes) requests."""
    counts = torch.tensor(sizes)
    request = torch.arange(len(sizes)).repeat_interleave(counts)
    member = request == torch.arange(requests or len(sizes))[:, None]
    share = member / member.sum(1, keepdim=True).clamp_min(1)
    return Pooling(share.to(device), request.to(device))


def pool(both: Tensor, how: Pooling) -> Tensor:
    """Moments ``[N, 2C]`` of images to moments ``[R, 2C]`` of requests, by the law of total variance."""
    channels = both.shape[1] // 2
    pooled = how.share @ both
    mean, within = pooled.chunk(2, 1)
    own = mean if mean.shape[0] == 1 else mean.index_select(0, how.request)
    # The centred form: the difference of squares cancels when the mean is large beside the deviation.
    between = how.share @ (both[:, :channels] - own).square()
    return torch.cat([mean, within + between], 1)


def correct(pooled: Tensor, unbiased: Tensor, sizes: Tensor, pixels: int) -> Tensor:
    """``var * values / (values - 1)`` where ``unbiased`` asks for it; its requests show more than one value."""
    mean, var = pooled.chunk(2, 1)
    values = sizes * pixels
    return torch.cat([mean, var * (1.0 + unbiased / (values - 1.0).clamp_min(1.0))], 1)


class LinearInputs(NamedTuple):
    """All that the steps of linear strategies read beside the activations: tensors, so that a compiler can take them.

    There may be more requests and streams than `Part`s, which then weigh nothing.
    """

    several: MixingWeights  # at sites where an image has several positions
    single: MixingWeights  # where it has one
    how: Pooling | None  # None: every request is a single image
    sizes: Tensor  # [R, 1]: images of each request
    rows: Tensor  # [K, size]


def linear_inputs(parts: Sequence[LinearRequest], rows: Tensor) -> LinearInputs:
    """The inputs for these requests and the states of their streams."""
    parts, sizes, streams = tuple(parts), [part.images for part in parts], rows.shape[0]
    several = mixing_weights(parts, streams, pixels=2).to(rows.device)
    # A request of several images has several values at every site.
    single = mixing_weights(parts, streams, pixels=1).to(rows.device) if min(sizes) == 1 else several
    how = None if max(sizes) == 1 else pooling(sizes, rows.device)
    return LinearInputs(several, single, how, torch.tensor(sizes, device=rows.device).float()[:, None], rows)


def padded(parts: Sequence[LinearRequest], rows: Tensor, width: int) -> LinearInputs:
    """The same inputs with all that may be there, and at least two requests and streams, unless all is a single image.

    Compilers treat the number one, and what is missing, as cases of their own: so two graphs fit everything. What is
    added weighs nothing. ``width`` is the size of a row, also where there are none.
    """
    parts, sizes = tuple(parts), [part.images for part in parts]
    least = 1 if sizes == [1] else 2
    requests, streams = max(least, len(parts)), max(least, rows.shape[0])
    mixed = []
    for pixels in (2, 1):
        weights, unbiased, ignored = mixing_weights(parts, rows.shape[0], pixels, requests, streams)
        unbiased = torch.zeros(requests, 1) if unbiased is None else unbiased
        ignored = torch.zeros(requests, 1, dtype=torch.bool) if ignored is None else ignored
        mixed.append(MixingWeights(weights, unbiased, ignored).to(rows.device))
    missing = rows.new_zeros(streams - rows.shape[0], width)
    counts = torch.tensor(sizes + [1] * (requests - len(sizes)), device=rows.device)
    return LinearInputs(
        mixed[0],
        mixed[1],
        pooling(sizes, rows.device, requests) if least > 1 else None,
        counts.float()[:, None],
        torch.cat([rows.view(-1, width), missing]) if missing.numel() else rows,
    )


class LinearSteps:
    """The steps of all requests of linear strategies, and the states of their streams.

    Args:
        parts: the requests, in the order of their images.
        inputs: what follows from them, with a mean and a variance per stream for every known site.
        sites: the known sites.
    """

    def __init__(self, parts: Sequence[LinearRequest], inputs: LinearInputs, sites: Sequence[Site]) -> None:
        self.parts, self.inputs = parts, inputs
        self._requests, self._streams = inputs.sizes.shape[0], inputs.rows.shape[0]
        self._before = list(torch.split(inputs.rows, [2 * site.channels for site in sites], 1)) if self._streams else []
        self._after: dict[int, Tensor] = {}
        self._recipes: dict[bool, _Recipe] = {}

    def step(self, index: int, site: Site, seen: BatchMoments) -> Statistics:
        """Step all requests at a site; one row per image, or a single row for a single request."""
        given, requests = self.inputs, self._requests
        how = given.single if seen.pixels == 1 else given.several
        pooled = seen.both if given.how is None else pool(seen.both, given.how)
        if how.unbiased is not None:
            pooled = correct(pooled, how.unbiased, given.sizes, seen.pixels)
        if how.ignored is not None:
            pooled = pooled.masked_fill(how.ignored, 0.0)
        if len(self.parts) == 1:
            return self._one(self.parts[0], index, site, pooled, seen.pixels)
        known = [self._state(index, site)] if self._streams else []
        mixed = how.weights @ torch.cat([pooled, *known, site.row])
        if self._streams:
            self._after[index] = mixed[requests:]
            mixed = mixed[:requests]
        if given.how is not None and requests > 1:
            mixed = mixed.index_select(0, given.how.request)
        mean, var = mixed.chunk(2, 1)
        return Statistics(mean, var)

    def _one(self, part: LinearRequest, index: int, site: Site, pooled: Tensor, pixels: int) -> Statistics:
        """The step of a single request: the same sums, in fewer operations than a product takes."""
        recipe = self._recipes.get(pixels == 1) or self._recipe(part, pixels)
        state = self._state(index, site) if self._streams else site.row
        used = recipe.used(pooled, state, site.row)
        if recipe.momentum:
            self._after[index] = used if recipe.alike else torch.lerp(state, pooled, recipe.momentum)
        mean, var = used.view(2, -1).unbind(0)
        return Statistics(mean, var)

    def _recipe(self, part: LinearRequest, pixels: int) -> _Recipe:
        step = part.adapter.weights_at(part.images, pixels)
        step = step if self._streams else step._replace(remembered=0.0)
        pace = step.momentum if self._streams and part.update else 0.0
        alike = step.own == step.momentum and step.remembered == 1.0 - step.own and not step.trained
        self._recipes[pixels == 1] = recipe = _Recipe(_summed(step), pace, alike)
        return recipe

    def rows(self) -> Tensor:
        """The states after all sites, ``[streams, size]``; at sites that were not reached they stay."""
        if not self._after:
            return self.inputs.rows
        return torch.cat([self._after.get(index, before) for index, before in enumerate(self._before)], 1)

    def before(self) -> Tensor:
        """The states before all sites, those met in this forward included, ``[streams, size]``."""
        return torch.cat(self._before, 1)

    def _state(self, index: int, site: Site) -> Tensor:
        if index == len(self._before):  # a site that was met in this very forward: every stream is new there
            self._before.append(site.row.expand(self._streams, -1))
        known: Tensor = self._before[index]
        return known


class _Recipe(NamedTuple):
    """How a single request is stepped: what it uses of itself, the state and the source, and how far the state goes."""

    used: Callable[[Tensor, Tensor, Tensor], Tensor]
    momentum: float
    alike: bool  # whether what is used is the new state


def _summed(step: Weights) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The weighted sum of those terms that weigh anything; the others may hold what is not finite."""
    weights = (step.own, step.remembered, step.trained)
    heavy = [(place, weight) for place, weight in enumerate(weights) if weight]
    (first, start), *rest = heavy
    if not rest and start == 1.0:
        return lambda *terms: terms[first]
    if len(rest) == 1 and start + rest[0][1] == 1.0:
        second, share = rest[0]
        return lambda *terms: torch.lerp(terms[first], terms[second], share)
    return lambda *terms: torch.stack([weight * terms[place] for place, weight in heavy]).sum(0)

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
    """A request as mixing sees it: the index of its stream (None: no state), and whether it updates that state."""

    adapter: Linear
    images: int
    stream: int | None
    update: bool


class MixingWeights(NamedTuple):
    """The statistics used and the new states, as weights of ``[requests | streams | trained]``, ``[.., R + K + 1]``.

    The first R rows say what each request is normalized with, the last K what each stream's state becomes.
    ``unbiased`` is 1 where a request's variance is to be corrected, ``[R, 1]``, or None if there is none. ``ignored``
    is true where nothing uses what a request showed, so that it may overflow, ``[R, 1]``, or None if all are used.
    """

    weights: Tensor
    unbiased: Tensor | None
    ignored: Tensor | None

    def to(self, device: torch.device) -> MixingWeights:
        """The same, where the activations are."""
        tensors = [tensor if tensor is None else tensor.to(device) for tensor in self]
        return MixingWeights(self.weights.to(device), *tensors[1:])


@lru_cache(CACHED)
def mixing_weights(
    requests: tuple[LinearRequest, ...], streams: int, pixels: int, slots: int | None = None, rows: int | None = None
) -> MixingWeights:
    """Return the weights at sites with that many positions per image, for ``slots`` requests and ``rows`` of states.

    Requests of one stream are followed in their order: what a later one continues is itself a sum of the earlier ones.
    A stream's state after request i holds request j with weight ``pace_j`` times the product of ``1 - pace_l`` over
    the stream's requests l from j + 1 to i, and its state before the forward with that product over all up to i.
    """
    real, slots, rows = len(requests), slots or len(requests), rows or streams
    steps = [request.adapter.weights_at(request.images, pixels) for request in requests]
    stream = torch.tensor([-1 if request.stream is None else request.stream for request in requests])[:, None]
    paces = [s.momentum if p.update and p.stream is not None else 0.0 for s, p in zip(steps, requests, strict=True)]
    pace, order = torch.tensor(paces), torch.arange(real)
    # Columns: what may be held, every request and every stream's state before. Rows: what each request does to it.
    holder = torch.cat([stream[:, 0], torch.arange(streams)])
    since = torch.cat([order, torch.full((streams,), -1)])
    touches = (stream == holder) & (order[:, None] > since) & (stream >= 0)
    initial = torch.cat([pace, torch.ones(streams)])
    remaining = torch.where(touches, 1.0 - pace[:, None], 1.0).cumprod(0) * initial
    old_shares = torch.cat([remaining.new_ones(1, real + streams) * initial, remaining[:-1]])
    columns = torch.cat([order, slots + torch.arange(streams)])
    weights = torch.zeros(slots + rows, slots + rows + 1)
    remembered = torch.tensor([step.remembered for step in steps])[:, None]
    weights[:real, columns] = torch.where(touches, remembered * old_shares, 0.0)
    weights[order, order] = torch.tensor([step.own for step in steps])
    weights[:real, -1] = torch.tensor([step.trained for step in steps])
    weights[slots : slots + streams, columns] = torch.where(
        holder == torch.arange(streams)[:, None], remaining[-1], 0.0
    )
    is_used = [bool(step.own or pace) for step, pace in zip(steps, paces, strict=True)]
    corrected = [step.unbiased and use for step, use in zip(steps, is_used, strict=True)]
    return MixingWeights(
        weights,
        _column(corrected, slots).float() if any(corrected) else None,
        None if all(is_used) else _column([not use for use in is_used], slots),
    )


def _column(flags: Sequence[bool], length: int) -> Tensor:
    return torch.tensor([*flags, *(False for _ in range(length - len(flags)))])[:, None]


class Pooling(NamedTuple):
    """From images to requests. None of it is needed where every request is a single image."""

    share: Tensor  # [R, N]: the share of each image in the mean of its request
    request: Tensor  # [N]: which request an image belongs to


def request_pooling(sizes: Sequence[int], device: torch.device, requests: int | None = None) -> Pooling:
    """Return the pooling of requests of those sizes, in this order, for ``requests`` >= len(sizes) requests."""
    counts = torch.tensor(sizes)
    request = torch.arange(len(sizes)).repeat_interleave(counts)
    member = request == torch.arange(requests or len(sizes))[:, None]
    share = member / member.sum(1, keepdim=True).clamp_min(1)
    return Pooling(share.to(device), request.to(device))


def pool(moments: Tensor, pooling: Pooling) -> Tensor:
    """Pool moments ``[N, 2C]`` of images to moments ``[R, 2C]`` of requests, by the law of total variance."""
    channels = moments.shape[1] // 2
    pooled = pooling.share @ moments
    mean, within = pooled.chunk(2, 1)
    request_mean = mean if mean.shape[0] == 1 else mean.index_select(0, pooling.request)
    # The centred form: the difference of squares cancels when the mean is large beside the deviation.
    between = pooling.share @ (moments[:, :channels] - request_mean).square()
    return torch.cat([mean, within + between], 1)


def correct(pooled: Tensor, unbiased: Tensor, sizes: Tensor, pixels: int) -> Tensor:
    """Return ``var * values / (values - 1)`` where ``unbiased`` asks for it; its requests show more than one value."""
    mean, var = pooled.chunk(2, 1)
    values = sizes * pixels
    return torch.cat([mean, var * (1.0 + unbiased / (values - 1.0).clamp_min(1.0))], 1)


class LinearInputs(NamedTuple):
    """All that the steps of linear strategies read beside the activations: tensors, so that a compiler can take them.

    There may be more requests and streams than `LinearRequest`s, which then weigh nothing.
    """

    several: MixingWeights  # at sites where an image has several positions
    single: MixingWeights  # where it has one
    pooling: Pooling | None  # None: every request is a single image
    sizes: Tensor  # [R, 1]: images of each request
    rows: Tensor  # [K, size]


def linear_inputs(requests: Sequence[LinearRequest], rows: Tensor) -> LinearInputs:
    """Return the inputs for these requests and the states of their streams."""
    requests, sizes, streams = tuple(requests), [request.images for request in requests], rows.shape[0]
    several = mixing_weights(requests, streams, pixels=2).to(rows.device)
    # A request of several images has several values at every site.
    single = mixing_weights(requests, streams, pixels=1).to(rows.device) if min(sizes) == 1 else several
    pooling = None if max(sizes) == 1 else request_pooling(sizes, rows.device)
    return LinearInputs(several, single, pooling, torch.tensor(sizes, device=rows.device).float()[:, None], rows)


def padded(requests: Sequence[LinearRequest], rows: Tensor, width: int) -> LinearInputs:
    """Return the inputs with all optional parts, and at least two requests and streams, unless all is a single image.

    Compilers treat the number one, and what is missing, as cases of their own: so two graphs fit everything. What is
    added weighs nothing. ``width`` is the size of a row, also where there are none.
    """
    requests, sizes = tuple(requests), [request.images for request in requests]
    minimum = 1 if sizes == [1] else 2
    slots, streams = max(minimum, len(requests)), max(minimum, rows.shape[0])
    mixed = []
    for pixels in (2, 1):
        weights, unbiased, ignored = mixing_weights(requests, rows.shape[0], pixels, slots, streams)
        unbiased = torch.zeros(slots, 1) if unbiased is None else unbiased
        ignored = torch.zeros(slots, 1, dtype=torch.bool) if ignored is None else ignored
        mixed.append(MixingWeights(weights, unbiased, ignored).to(rows.device))
    missing = rows.new_zeros(streams - rows.shape[0], width)
    counts = torch.tensor(sizes + [1] * (slots - len(sizes)), device=rows.device)
    return LinearInputs(
        mixed[0],
        mixed[1],
        request_pooling(sizes, rows.device, slots) if minimum > 1 else None,
        counts.float()[:, None],
        torch.cat([rows.view(-1, width), missing]) if missing.numel() else rows,
    )


class LinearSteps:
    """The steps of all requests of linear strategies, and the states of their streams.

    Args:
        requests: in the order of their images.
        inputs: what follows from them, with a mean and a variance per stream for every known site.
        sites: the known sites.
    """

    def __init__(self, requests: Sequence[LinearRequest], inputs: LinearInputs, sites: Sequence[Site]) -> None:
        self.requests, self.inputs = requests, inputs
        self._requests, self._streams = inputs.sizes.shape[0], inputs.rows.shape[0]
        sizes = [2 * site.channels for site in sites]
        self._old_rows = list(torch.split(inputs.rows, sizes, 1)) if self._streams else []
        self._new_rows: dict[int, Tensor] = {}
        self._recipes: dict[bool, _Recipe] = {}

    def step(self, index: int, site: Site, moments: BatchMoments) -> Statistics:
        """Step all requests at a site; one row per image, or a single row for a single request."""
        inputs, count = self.inputs, self._requests
        mixing = inputs.single if moments.pixels == 1 else inputs.several
        pooled = moments.values if inputs.pooling is None else pool(moments.values, inputs.pooling)
        if mixing.unbiased is not None:
            pooled = correct(pooled, mixing.unbiased, inputs.sizes, moments.pixels)
        if mixing.ignored is not None:
            pooled = pooled.masked_fill(mixing.ignored, 0.0)
        if len(self.requests) == 1:
            return self._step_single(self.requests[0], index, site, pooled, moments.pixels)
        states = [self._state(index, site)] if self._streams else []
        mixed = mixing.weights @ torch.cat([pooled, *states, site.row])
        if self._streams:
            self._new_rows[index] = mixed[count:]
            mixed = mixed[:count]
        if inputs.pooling is not None and count > 1:
            mixed = mixed.index_select(0, inputs.pooling.request)
        mean, var = mixed.chunk(2, 1)
        return Statistics(mean, var)

    def _step_single(self, request: LinearRequest, index: int, site: Site, pooled: Tensor, pixels: int) -> Statistics:
        """Step a single request: the same sums, in fewer operations than a product takes."""
        recipe = self._recipes.get(pixels == 1) or self._recipe(request, pixels)
        state = self._state(index, site) if self._streams else site.row
        mixed = recipe.combine(pooled, state, site.row)
        if recipe.momentum:
            self._new_rows[index] = mixed if recipe.is_output_state else torch.lerp(state, pooled, recipe.momentum)
        mean, var = mixed.view(2, -1).unbind(0)
        return Statistics(mean, var)

    def _recipe(self, request: LinearRequest, pixels: int) -> _Recipe:
        step = request.adapter.weights_at(request.images, pixels)
        step = step if self._streams else step._replace(remembered=0.0)
        pace = step.momentum if self._streams and request.update else 0.0
        is_output_state = step.own == step.momentum and step.remembered == 1.0 - step.own and not step.trained
        self._recipes[pixels == 1] = recipe = _Recipe(_summed(step), pace, is_output_state)
        return recipe

    def rows(self) -> Tensor:
        """Return the states after all sites, ``[streams, size]``; at sites that were not reached they stay."""
        if not self._new_rows:
            return self.inputs.rows
        return torch.cat([self._new_rows.get(index, row) for index, row in enumerate(self._old_rows)], 1)

    def old_rows(self) -> Tensor:
        """Return the states before all sites, those met in this forward included, ``[streams, size]``."""
        return torch.cat(self._old_rows, 1)

    def _state(self, index: int, site: Site) -> Tensor:
        if index == len(self._old_rows):  # a site that was met in this very forward: every stream is new there
            self._old_rows.append(site.row.expand(self._streams, -1))
        state: Tensor = self._old_rows[index]
        return state


class _Recipe(NamedTuple):
    """The step of a single request: how request, state and source are combined, and the momentum of the state."""

    combine: Callable[[Tensor, Tensor, Tensor], Tensor]
    momentum: float
    is_output_state: bool  # whether what is used is the new state


def _summed(step: Weights) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the weighted sum of those terms that weigh anything; the others may hold what is not finite."""
    weights = (step.own, step.remembered, step.trained)
    heavy = [(place, weight) for place, weight in enumerate(weights) if weight]
    (first, start), *remaining = heavy
    if not remaining and start == 1.0:
        return lambda *terms: terms[first]
    if len(remaining) == 1 and start + remaining[0][1] == 1.0:
        second, share = remaining[0]
        return lambda *terms: torch.lerp(terms[first], terms[second], share)
    return lambda *terms: torch.stack([weight * terms[place] for place, weight in heavy]).sum(0)

"""The adapting forward as a module from tensors to tensors, which a compiler can trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapters.base import AnyAdapter
from adapters.engine.calling import GlobalStateGuard
from adapters.engine.drift import first_site
from adapters.engine.features import Head
from adapters.engine.forward import AdaptingForward
from adapters.engine.grouped_steps import Group, GroupedSteps
from adapters.engine.linear_steps import LinearInputs, LinearRequest, LinearSteps, MixingWeights, Pooling, padded
from adapters.engine.network import channels_last
from adapters.engine.outliers import distances
from adapters.engine.outputs import logits_of
from adapters.engine.plan import SingleGroupPlan, Steps
from adapters.normalization.robust_bn import RobustBN
from adapters.sites import Sites
from adapters.state.memory import Layout


@dataclass
class TraceInfo:
    """The first site that a traced forward reached, and the positions of an image there."""

    site: int = 0
    pixels: int = 0


class ExportableForward(nn.Module):
    """Images and inputs of steps to the network's output, and all else that a forward gives.

    That is what the first site showed and used, new states, the distances of images from the trained statistics (see
    `adapters.engine.outliers`), and features (see `adapters.engine.features`). Tracing leaves in ``trace_info`` what
    `adapters.engine.drift.FirstSite` holds beside the numbers.
    """

    def __init__(self, network: nn.Module, sites: Sites, head: Head) -> None:
        super().__init__()
        self.network, self._all, self._head = network, sites, head
        # An object of its own, because tracing restores the module's attributes.
        self.trace_info = TraceInfo()

    def steps(self, images: int, inputs: Sequence[Tensor]) -> Steps:
        """Return the steps that the inputs describe."""
        raise NotImplementedError

    def forward(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run one forward."""
        images, *inputs = tensors
        steps = self.steps(images.shape[0], inputs)
        forward = AdaptingForward(self._all, SingleGroupPlan(steps, images.shape[0], None))
        with self._head.watch(is_needed=True), GlobalStateGuard(), forward:
            logits = logits_of(self.network(images))
        features = self._head.features(logits)
        first = first_site(forward.moments, forward.first_statistics)
        self.trace_info.site, self.trace_info.pixels = first.site, first.pixels
        far = distances(self._all, forward.moments)
        return logits, first.moments, first.statistics, steps.rows(), far, features


class LinearForward(ExportableForward):
    """The forward of any requests of linear strategies."""

    @staticmethod
    def flattened(inputs: LinearInputs) -> list[Tensor]:
        """Return the inputs of `adapters.engine.linear_steps.padded` as a list."""
        mixings = [tensor for mixing in (inputs.several, inputs.single) for tensor in mixing if tensor is not None]
        return [*mixings, inputs.sizes, inputs.rows, *(inputs.pooling or ())]

    def steps(self, images: int, inputs: Sequence[Tensor]) -> Steps:
        """Return the steps of the inputs in the order of `flattened`."""
        del images
        several, single = MixingWeights(*inputs[:3]), MixingWeights(*inputs[3:6])
        pooling = Pooling(*inputs[8:]) if len(inputs) > 8 else None
        return LinearSteps((), LinearInputs(several, single, pooling, inputs[6], inputs[7]), list(self._all))

    def example(self, image: Tensor, sizes: Sequence[int], streams: int) -> list[Tensor]:
        """Return inputs for requests of those sizes, dealt out among the streams."""
        parts = [LinearRequest(RobustBN(), images, index % streams, update=True) for index, images in enumerate(sizes)]
        row = torch.cat([site.row for site in self._all], 1)
        inputs = padded(parts, row.repeat(streams, 1), row.shape[1])
        # Separate tensors, or tracing would merge two inputs.
        return [_varied(image, sum(sizes)), *(tensor.clone() for tensor in self.flattened(inputs))]

    def axes(self, *, single: bool) -> list[list[int]]:
        """Return the axes of the inputs that may have any size."""
        mixing = [[0, 1], [0], [0]]
        return [[] for _ in range(9)] if single else [[0], *mixing, *mixing, [0], [0], [0, 1], [0]]


class GroupedForward(ExportableForward):
    """The forward of one request of each stream, all of the same size, of one strategy."""

    def __init__(self, network: nn.Module, sites: Sites, head: Head, adapter: AnyAdapter, layout: Layout) -> None:
        super().__init__(network, sites, head)
        self._adapter, self._layout = adapter, layout

    def steps(self, images: int, inputs: Sequence[Tensor]) -> Steps:
        """Return the steps of streams whose states are the only input."""
        return GroupedSteps(self._adapter, self._layout, inputs[0], [Group([], None, slice(0, images), update=True)])

    def example(self, image: Tensor, images: int, streams: int) -> list[Tensor]:
        """Return inputs for that many streams with a request of ``images`` each."""
        return [_varied(image, images * streams), self._layout.row.repeat(streams, 1)]


def _varied(image: Tensor, images: int) -> Tensor:
    """Images ``[images, ...]`` like this one, of which no two are alike."""
    noise = torch.randn(images, *image.shape[1:], generator=torch.Generator().manual_seed(images))
    return channels_last((image + noise.to(image)), None)

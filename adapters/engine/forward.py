"""One forward of a network for many requests: the mode that takes over every BatchNorm call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from adapters.base import Statistics
from adapters.engine.moments import Affine, BatchMoments, measure, normalize
from adapters.engine.plan import Plan, SingleGroupPlan
from adapters.errors import InputError, UnsupportedModelError
from adapters.sites import EXACT, Sites


class BatchNormCall(NamedTuple):
    """A call of BatchNorm as the network makes it.

    The affine is taken from here, not from the layer: subclasses may change it on the way, or apply it themselves.
    """

    x: Tensor
    running_mean: Tensor | None
    affine: Affine


class AdaptingForward(TorchFunctionMode):
    """While entered, every call of BatchNorm at a known site is answered by the steps of ``plan``.

    The network's modules are not touched, so activations fused into BatchNorm subclasses stay.

    Args:
        sites: the network's sites.
        plan: the requests that share the forward.
        in_place_layers: sites whose input nothing else reads: their output is written over it.
    """

    def __init__(self, sites: Sites, plan: Plan | SingleGroupPlan, in_place_layers: Set[str] = frozenset()) -> None:
        super().__init__()
        self._sites, self._plan, self._in_place = sites, plan, in_place_layers
        self._calls: Counter[str] = Counter()
        self.moments: dict[int, BatchMoments] = {}
        self.first_statistics: Statistics | None = None  # what normalized the images at the first site
        self.adapt_s = 0.0  # seconds that BatchNorm's calls took, all that adapting does included

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        parse = NORMALIZATIONS.get(func)
        if parse is not None:
            call = parse(*args, **(kwargs or {}))
            layer = self._buffers.get(id(call.running_mean)) or self._sites.current_layer(call.x.shape[1])
            if layer is not None:
                output = self.call(layer, call.x, call.affine)
                # In eval these functions save nothing for a backward pass.
                return (output, output.new_empty(0), output.new_empty(0)) if func in NATIVE else output
        return func(*args, **(kwargs or {}))

    @cached_property
    def _buffers(self) -> Mapping[int, str]:
        # Only where it is needed: layers that are called directly pass their name.
        return self._sites.buffers()

    @property
    def calls(self) -> int:
        """The number of calls of known layers so far."""
        return sum(self._calls.values())

    def call(self, layer: str, x: Tensor, affine: Affine) -> Tensor:
        """Answer a call of the layer of that name."""
        if torch.compiler.is_compiling():
            return self._normalize(layer, x, affine)
        start = time.perf_counter()
        output = self._normalize(layer, x, affine)
        self.adapt_s += time.perf_counter() - start
        return output

    def _normalize(self, layer: str, x: Tensor, affine: Affine) -> Tensor:
        # A network may turn it on in its own forward; in half precision states would lose what small steps add.
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._normalize(layer, x, affine)
        self._calls[layer] += 1
        index = self._sites.position(layer, self._calls[layer])
        site = self._sites[index]
        if x.shape[0] != self._plan.images:
            raise UnsupportedModelError(
                f"layer {site.name} sees {x.shape[0]} rows for {self._plan.images} images: networks that fold other "
                "axes (frames, patches, tokens) into the batch before BatchNorm cannot be adapted per image. A single "
                "image needs a batch axis: images[None]"
            )
        if self._plan.offsets is not None:
            affine = self._plan.offsets.apply(layer, affine)
        moments = measure(x)
        self.moments[index] = moments
        statistics = self._plan.step(index, site, moments)
        if self.first_statistics is None:
            self.first_statistics = statistics
        return normalize(x, statistics, affine, in_place=site.name in self._in_place)


def _parse_functional(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> BatchNormCall:
    """Parse a call of ``F.batch_norm``, however its arguments are passed."""
    del running_var, training, momentum
    return BatchNormCall(input, running_mean, Affine(weight, bias, eps))


def _parse_native(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *args: Any,
    **kwargs: Any,
) -> BatchNormCall:
    """Parse a call of ``torch.batch_norm`` or ``torch.native_batch_norm``, or of their forms in ATen.

    Behind the buffers stand training, which one form lacks, momentum, eps and, in some, whether cuDNN may be used.
    """
    del running_var
    eps = kwargs.get("eps", args[:3][-1] if args else 1e-5)
    return BatchNormCall(input, running_mean, Affine(weight, bias, eps))


_ATEN = torch.ops.aten
NATIVE: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.native_batch_norm,
        *(_ATEN.native_batch_norm, _ATEN.native_batch_norm.default),
        *(_ATEN._native_batch_norm_legit_no_training, _ATEN._native_batch_norm_legit_no_training.default),
    }
)
"""The functions that also return tensors for a backward pass."""

NORMALIZATIONS: Mapping[Callable[..., Any], Callable[..., BatchNormCall]] = {
    F.batch_norm: _parse_functional,
    **dict.fromkeys((torch.batch_norm, _ATEN.batch_norm, _ATEN.batch_norm.default, *NATIVE), _parse_native),
}
"""The functions that are calls of BatchNorm, and how each is read."""

_UNBATCHED: Mapping[type, int] = {nn.BatchNorm2d: 3, nn.BatchNorm3d: 4}
"""Axes of what layers see of a single image without a batch axis; BatchNorm1d takes as many."""


class DirectCalls:
    """Lets layers of torch's own classes call the engine directly, without the mode that sees every operation.

    A mode costs a few microseconds for each operation of the network, which shows where a forward takes milliseconds.
    While ``forward_mode`` is None the layers do what they always did, and count.
    """

    def __init__(self, layers: Mapping[str, _BatchNorm]) -> None:
        self.forward_mode: AdaptingForward | None = None
        self.calls = 0
        for name, layer in layers.items():
            if type(layer) in EXACT:
                affine = Affine(layer.weight, layer.bias, layer.eps)
                layer.forward = partial(self._forward, layer, name, affine, _UNBATCHED.get(type(layer), 0))  # type: ignore[method-assign]

    def _forward(self, layer: _BatchNorm, name: str, affine: Affine, unbatched: int, x: Tensor) -> Tensor:
        if x.dim() == unbatched:
            raise InputError(
                f"layer {name} sees {list(x.shape)}, without a batch axis: images must be [n, ...], so pass a single "
                "image as images[None]"
            )
        if self.forward_mode is None:
            self.calls += 1
            return type(layer).forward(layer, x)
        return self.forward_mode.call(name, x, affine)

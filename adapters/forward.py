"""One forward of a network for many requests: the mode that takes over every BatchNorm call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from adapters.base import AnyAdapter, Moments, Statistics
from adapters.errors import UnsupportedModelError
from adapters.memory import State
from adapters.moments import Affine, measure, normalize, wasserstein
from adapters.sites import Sites


class Job(NamedTuple):
    """One request's part in a forward.

    ``states`` is the state of its stream, site by site, shared by the requests of that stream: each takes it from the
    one before, so several requests of a stream are scanned in order within the forward.
    """

    adapter: AnyAdapter
    rows: slice
    states: list[State]
    update: bool


class Call(NamedTuple):
    """A call of BatchNorm as the network makes it.

    The affine is taken from here, not from the layer: subclasses may change it on the way, or apply it themselves.
    """

    x: Tensor
    running_mean: Tensor | None
    affine: Affine


class Pass(TorchFunctionMode):
    """While entered, every call of BatchNorm at a known site is answered by the adapters of ``jobs``.

    The network's modules are not touched, so activations fused into BatchNorm subclasses stay. Nothing is written but
    the lists ``Job.states`` of the caller.
    """

    def __init__(self, sites: Sites, jobs: list[Job]) -> None:
        super().__init__()
        self._sites, self._jobs = sites, jobs
        self._buffers = sites.buffers()
        self._calls: Counter[str] = Counter()
        self._seen: dict[int, Moments] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        read = _CALLS.get(func)
        if read is not None:
            call = read(*args, **(kwargs or {}))
            layer = self._buffers.get(id(call.running_mean))
            if layer is not None:
                self._calls[layer] += 1
                return self._normalize(call, self._sites.position(layer, self._calls[layer]))
        return func(*args, **(kwargs or {}))

    def _normalize(self, call: Call, index: int) -> Tensor:
        x, site = call.x, self._sites[index]
        images = self._jobs[-1].rows.stop
        if x.shape[0] != images:
            raise UnsupportedModelError(
                f"layer {site.name} sees {x.shape[0]} rows for {images} images: networks that fold other axes "
                "(frames, patches, tokens) into the batch before BatchNorm cannot be adapted per image"
            )
        centred, seen = measure(x)
        self._seen[index] = seen
        return normalize(centred, seen, self._step(index, seen), call.affine).to(x.dtype)

    def _step(self, index: int, seen: Moments) -> Statistics:
        used = []
        for job in self._jobs:
            # A site that a row does not know yet was met in this very forward: the stream is new there.
            while len(job.states) <= index:
                job.states.append(job.adapter.init(self._sites[len(job.states)]))
            own = Moments(seen.mean[job.rows], seen.var[job.rows], seen.pixels)
            statistics, state = job.adapter.step(self._sites[index], job.states[index], own)
            if job.update:
                job.states[index] = state
            used.append(statistics)
        return used[0] if len(used) == 1 else _stack(used, self._jobs)

    def drift(self) -> Tensor:
        """For each job the distance of what it showed from the training data, ``[jobs]``.

        The mean over sites and channels of `wasserstein`, with each job's pooled moments as what was observed. Sites
        where a job shows a single value per channel have no variance to compare and are left out.

        Raises:
            UnsupportedModelError: no site was reached, so nothing was adapted.
        """
        if not self._seen:
            raise UnsupportedModelError(
                "the forward reached none of the network's BatchNorm layers through torch.nn.functional.batch_norm: "
                "scripted and exported networks hide them; host the eager nn.Module instead"
            )
        sites = [self._sites[index] for index in self._seen]
        # In double precision: squares of float32 may leave the range of float32.
        mean = torch.cat([seen.mean for seen in self._seen.values()], 1).double()
        var = torch.cat([seen.var for seen in self._seen.values()], 1).double()
        trained = (torch.cat([site.mean for site in sites]), torch.cat([site.var for site in sites]))
        eps = torch.cat([torch.full_like(site.mean, site.eps) for site in sites])
        pixels = torch.cat([torch.full_like(s.mean, t.pixels) for s, t in zip(sites, self._seen.values(), strict=True)])
        return torch.stack(
            [_drift(Moments(mean[job.rows], var[job.rows], 0), pixels, trained, eps) for job in self._jobs]
        )


def _drift(seen: Moments, pixels: Tensor, trained: tuple[Tensor, Tensor], eps: Tensor) -> Tensor:
    observed = seen.pooled()
    shown = pixels * seen.images > 1
    distance = torch.where(shown, wasserstein(observed, *trained, eps), 0.0)
    total: Tensor = distance.sum() / shown.sum().clamp_min(1)
    return total


def _of_functional(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call:
    """``F.batch_norm``, however its arguments are passed."""
    del running_var, training, momentum
    return Call(input, running_mean, Affine(weight, bias, eps))


def _of_builtin(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Call:
    """``torch.batch_norm``, which some layers call directly."""
    del running_var, training, momentum, cudnn_enabled
    return Call(input, running_mean, Affine(weight, bias, eps))


_CALLS: dict[Callable[..., Any], Callable[..., Call]] = {
    F.batch_norm: _of_functional,
    torch.batch_norm: _of_builtin,
}


def _stack(used: list[Statistics], jobs: list[Job]) -> Statistics:
    """One row per image from each job's statistics, which may be one row for all its images."""
    sizes = [job.rows.stop - job.rows.start for job in jobs]
    columns = used[0].mean.shape[-1]
    mean = torch.cat([s.mean.expand(n, columns) for s, n in zip(used, sizes, strict=True)])
    var = torch.cat([s.var.expand(n, columns) for s, n in zip(used, sizes, strict=True)])
    return Statistics(mean, var)

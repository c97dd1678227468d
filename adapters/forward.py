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
from adapters.moments import measure, normalize, wasserstein
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


class Pass(TorchFunctionMode):
    """While entered, every call of ``F.batch_norm`` at a known site is answered by the adapters of ``jobs``.

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
        if func is F.batch_norm:
            x, running_mean = _arguments(*args, **(kwargs or {}))
            layer = self._buffers.get(id(running_mean))
            if layer is not None:
                self._calls[layer] += 1
                return self._normalize(x, self._sites.position(layer, self._calls[layer]))
        return func(*args, **(kwargs or {}))

    def _normalize(self, x: Tensor, index: int) -> Tensor:
        site = self._sites[index]
        images = self._jobs[-1].rows.stop
        if x.shape[0] != images:
            raise UnsupportedModelError(
                f"layer {site.name} sees {x.shape[0]} rows for {images} images: networks that fold other axes "
                "(frames, patches, tokens) into the batch before BatchNorm cannot be adapted per image"
            )
        centred, seen = measure(x)
        self._seen[index] = seen
        return normalize(centred, seen, self._step(index, seen), site).to(x.dtype)

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
        mean = torch.cat([seen.mean for seen in self._seen.values()], 1)
        var = torch.cat([seen.var for seen in self._seen.values()], 1)
        trained = (torch.cat([site.mean for site in sites]), torch.cat([site.var for site in sites]))
        eps = torch.cat([torch.full_like(site.mean, site.eps) for site in sites])
        pixels = torch.cat([torch.full_like(s.mean, t.pixels) for s, t in zip(sites, self._seen.values(), strict=True)])
        return torch.stack(
            [_drift(Moments(mean[job.rows], var[job.rows], 0), pixels, trained, eps) for job in self._jobs]
        )


def _drift(seen: Moments, pixels: Tensor, trained: tuple[Tensor, Tensor], eps: Tensor) -> Tensor:
    observed = seen.pooled()
    shown = (pixels * seen.images > 1).float()
    total: Tensor = (wasserstein(observed, *trained, eps) * shown).sum() / shown.sum().clamp_min(1)
    return total


def _arguments(input: Tensor, running_mean: Tensor | None, *rest: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
    """What matters of a call of ``F.batch_norm``, however its arguments are passed."""
    del rest, named
    return input, running_mean


def _stack(used: list[Statistics], jobs: list[Job]) -> Statistics:
    """One row per image from each job's statistics, which may be one row for all its images."""
    sizes = [job.rows.stop - job.rows.start for job in jobs]
    columns = used[0].mean.shape[-1]
    mean = torch.cat([s.mean.expand(n, columns) for s, n in zip(used, sizes, strict=True)])
    var = torch.cat([s.var.expand(n, columns) for s, n in zip(used, sizes, strict=True)])
    return Statistics(mean, var)

"""Find the BatchNorm positions of a network, or say why there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapters.base import Site
from adapters.errors import UnsupportedModelError

EXACT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers whose forward is known: it reads its input once, and hands its own buffers to BatchNorm."""


class Sites:
    """The sites of one network, in the order of its modules.

    The first call of every layer is known from the start. A layer called again within one forward is met while the
    network runs: its later calls are appended as sites of their own, so the list only grows, and a state that is
    shorter than the list is completed by the initial state of the new sites.

    Raises:
        UnsupportedModelError: no BatchNorm, or BatchNorm without trained statistics; the message names the layers.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = _layers(network)  # by name
        self._index: dict[tuple[str, int], int] = {}
        self._sites: list[Site] = []
        self._call_stack: list[str] = []
        self.has_spreads = False
        # The data of `adapters.engine.outliers` on the sites that forwards reach.
        self.joined: dict[tuple[Site, ...], Any] = {}
        for name in self.layers:
            self._add(name, 1)
        self._place()

    def __len__(self) -> int:
        return len(self._sites)

    def __iter__(self) -> Iterator[Site]:
        return iter(self._sites)

    def __getitem__(self, index: int) -> Site:
        return self._sites[index]

    def keep(self, indices: Collection[int]) -> tuple[str, ...]:
        """Keep only these sites, for a network whose forward reaches no others, and return the names of the dropped.

        A layer that is called all the same later is met as a new site. To be called before any stream has a state.
        """
        forgotten = tuple(site.name for index, site in enumerate(self._sites) if index not in indices)
        new_indices = {index: new_index for new_index, index in enumerate(sorted(indices))}
        self._index = {call: new_indices[index] for call, index in self._index.items() if index in new_indices}
        self._sites = [site for index, site in enumerate(self._sites) if index in new_indices]
        self._place()
        return forgotten

    def _place(self) -> None:
        """Set the depth of the sites: that of their layer among the layers that have sites."""
        layers = list(dict.fromkeys(_layer_of(site.name) for site in self._sites))
        depths = {layer: index / max(1, len(layers) - 1) for index, layer in enumerate(layers)}
        self._sites = [replace(site, depth=depths[_layer_of(site.name)]) for site in self._sites]

    def set_spreads(self, spreads: Mapping[int, tuple[float, float]]) -> None:
        """Set by site both its spreads; layouts made before hold the sites as they were."""
        new_sites = list(self)
        for index, (spread, contrast_spread) in spreads.items():
            new_sites[index] = replace(new_sites[index], spread=spread, contrast_spread=contrast_spread)
        renewed = dict(zip(self._sites, new_sites, strict=True))
        self.joined = {tuple(renewed[site] for site in sites): data for sites, data in self.joined.items()}
        self._sites, self.has_spreads = new_sites, True

    def track_calls(self) -> None:
        """Track which layer is being called, also where it hands BatchNorm other tensors than its own buffers.

        Only layers that are subclasses of torch's may do that. The network is ours: their ``forward`` is replaced.
        """
        for name, layer in self.layers.items():
            if type(layer) not in EXACT:
                layer.forward = partial(self._call, name, layer.forward)  # type: ignore[method-assign]

    def current_layer(self, channels: int) -> str | None:
        """Return the layer that is being called, if there is one and it has ``channels`` channels."""
        name = self._call_stack[-1] if self._call_stack else None
        return name if name is not None and self.layers[name].num_features == channels else None

    def _call(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._call_stack.append(name)
        try:
            return forward(*args, **kwargs)
        finally:
            self._call_stack.pop()

    def buffers(self) -> Mapping[int, str]:
        """Return the layers' names by the identity of their running means, by which a forward recognises a site."""
        return {id(layer.running_mean): name for name, layer in self.layers.items()}

    def position(self, name: str, call: int) -> int:
        """Return the index of the site of the ``call``-th call of layer ``name`` within a forward."""
        index = self._index.get((name, call))
        return self._add(name, call) if index is None else index

    def kind(self, index: int) -> str:
        """Return the class name of the layer of a site."""
        return type(self.layers[_layer_of(self[index].name)]).__name__

    def _add(self, name: str, call: int) -> int:
        self._index[name, call] = len(self._sites)
        site = _site(name if call == 1 else f"{name}#{call}", self.layers[name])
        depths = (earlier.depth for earlier in self._sites if _layer_of(earlier.name) == name)
        self._sites.append(replace(site, depth=next(depths, 0.0)))
        return len(self._sites) - 1


def _layer_of(site: str) -> str:
    """Return the name of the layer of a site: its later calls are ``name#2`` and so on."""
    return site.split("#", maxsplit=1)[0]


def _layers(network: nn.Module) -> dict[str, _BatchNorm]:
    layers = {name or "(root)": module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    if not layers:
        raise UnsupportedModelError(
            f"{type(network).__name__} has no BatchNorm layer, so there is nothing to adapt{_other_norms(network)}. "
            "Renorm recalibrates BatchNorm1d/2d/3d and SyncBatchNorm: host a network that has them"
        )
    untracked = [name for name, layer in layers.items() if not isinstance(layer.running_mean, Tensor)]
    if untracked:
        raise UnsupportedModelError(
            f"{len(untracked)} of {len(layers)} BatchNorm layers have no trained statistics "
            f"(track_running_stats=False): {', '.join(untracked[:5])}{', ...' if len(untracked) > 5 else ''}. "
            "Build them with track_running_stats=True and load weights that contain running_mean and running_var"
        )
    return layers


def _other_norms(network: nn.Module) -> str:
    counts = Counter(type(m).__name__ for m in network.modules() if "norm" in type(m).__name__.lower())
    listing = ", ".join(f"{count} {name}" for name, count in counts.most_common(5))
    has_frozen = any("frozen" in name.lower() for name in counts)
    hint = "; frozen layers must be converted back to BatchNorm2d first" if has_frozen else ""
    if isinstance(network, (torch.jit.ScriptModule, torch.fx.GraphModule)):
        hint = "; scripted, traced and exported networks hide their layers, so host the eager nn.Module instead"
    return f" (normalization layers found: {listing or 'none'}{hint})"


def _site(name: str, layer: _BatchNorm) -> Site:
    mean, var = layer.running_mean, layer.running_var
    if isinstance(mean, nn.parameter.UninitializedBuffer) or mean is None or var is None:
        raise UnsupportedModelError(f"layer {name} is lazy and has not seen data: run one forward of the network first")
    weight = torch.ones_like(mean) if layer.weight is None else layer.weight
    bias = torch.zeros_like(mean) if layer.bias is None else layer.bias
    parts = [part.detach().float().clone() for part in (mean, var, weight, bias)]
    return Site(name, parts[0], parts[1], parts[2], parts[3], layer.eps)

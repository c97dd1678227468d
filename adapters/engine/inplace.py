"""Find the sites whose input only BatchNorm reads, so that the output may overwrite it (in place)."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as hooks
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from adapters.engine.calling import GlobalStateGuard
from adapters.engine.outputs import ToLogits
from adapters.sites import EXACT

_NEW_TENSOR_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layers that always return a new tensor."""
_NEW_TENSOR_FUNCTIONS: frozenset[Callable[..., Any]] = frozenset(
    (F.conv1d, F.conv2d, F.conv3d, F.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.cat)
)
"""Functions that always return a new tensor, which shares its memory with no other."""
_RUNNING_MEAN: dict[Any, int] = {F.batch_norm: 1, torch.batch_norm: 3}
"""Where in their arguments functions take the running mean."""


def in_place_layers(network: nn.Module) -> frozenset[str]:
    """Return the names of the BatchNorm layers whose input, by the network's code, nothing else reads.

    That holds if the network can be traced by ``torch.fx``, which fails where operations depend on the input, if the
    input was made by an operation that returns a new tensor, if every call of the layer is its only reader, and if
    neither hooks nor attributes that change could make a difference. What tracing cannot see, code that keeps a tensor
    elsewhere or treats tensors otherwise than what stands for them in a trace, a real forward shows: see `ReadWatch`.
    """
    global_hooks = hooks._global_forward_hooks or hooks._global_forward_pre_hooks
    if global_hooks or any(_is_hooked(module) for module in network.modules()):
        return frozenset()
    try:
        skeleton = _skeleton(network)
        snapshot = [_attributes(module) for module in skeleton.modules()]
        with torch.no_grad(), GlobalStateGuard():  # as in every later forward, which a network may query
            graph = _Tracer().trace(skeleton)
        if [_attributes(module) for module in skeleton.modules()] != snapshot:
            return frozenset()  # a network with a state may behave differently the next time
    except Exception:
        # Copying and tracing run the network's own code, which may raise anything.
        return frozenset()
    modules = dict(network.named_modules())
    # A forward recognises a layer by its running mean, so all calls with the same one stand and fall together.
    calls: defaultdict[int, list[bool]] = defaultdict(list)
    for node in graph.nodes:
        mean = _running_mean(node, network, modules)
        if mean is not None:
            calls[id(mean)].append(_is_only_reader(node, modules))
    layers = {id(layer.running_mean): name for name, layer in modules.items() if isinstance(layer, _BatchNorm)}
    return frozenset(name for mean, name in layers.items() if calls[mean] and all(calls[mean]))


class ReadWatch(TorchFunctionMode):
    """While entered, notes which of a forward's BatchNorm inputs are read by anything later.

    Args:
        layers: from the identity of a layer's running mean to its name.
        normalizations: functions that are calls of BatchNorm.
    """

    def __init__(self, layers: Mapping[int, str], normalizations: Iterable[Callable[..., Any]]) -> None:
        super().__init__()
        self._layers, self._normalizations = layers, frozenset(normalizations)
        self._read: dict[int, tuple[StorageWeakRef, str]] = {}
        self._again: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        storages = list(_storages(tensors))
        for storage in storages:
            entry = self._read.get(storage._cdata)
            if entry is not None and not _is_expired(entry[0]):
                self._again.add(entry[1])
        if func in self._normalizations and storages:
            layer = next((self._layers[id(tensor)] for tensor in tensors if id(tensor) in self._layers), None)
            if layer is not None:
                reference = StorageWeakRef(storages[0])  # type: ignore[no-untyped-call]
                self._read[storages[0]._cdata] = reference, layer
        return func(*args, **(kwargs or {}))

    def layers_read_again(self) -> set[str]:
        """Return, after the forward, the layers whose input was read later, or is still kept by something."""
        retained_layers = {layer for storage, layer in self._read.values() if not _is_expired(storage)}
        return self._again | retained_layers


def _storages(tensors: Iterable[Tensor]) -> Iterator[torch.UntypedStorage]:
    """Yield the memory behind tensors, where there is any: those of ``torch.func`` and sparse ones have none."""
    for tensor in tensors:
        try:
            yield tensor.untyped_storage()
        except NotImplementedError:
            continue


def _is_expired(reference: StorageWeakRef) -> bool:
    return bool(reference.expired())  # type: ignore[no-untyped-call]


def _is_hooked(module: nn.Module) -> bool:
    """Return whether hooks, or a ``forward`` of the instance's own, see what passes and may keep it."""
    hooked = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    # Our own hook reads only the network's output.
    return any(not isinstance(hook, ToLogits) for hook in hooked) or "forward" in vars(module)


def _attributes(module: nn.Module) -> list[tuple[str, int, int | None]]:
    """Return a module's attributes, as far as they show: the identities of objects, and their lengths."""

    def length(value: object) -> int | None:
        return len(value) if isinstance(value, Sized) and not isinstance(value, fx.Proxy) else None

    return [(name, id(value), length(value)) for name, value in vars(module).items()]


def _skeleton(network: nn.Module) -> nn.Module:
    """Return a copy without numbers, for tracing to leave its marks in."""
    tensors = [*network.parameters(), *network.buffers()]
    attributes = [v for module in network.modules() for v in vars(module).values() if isinstance(v, Tensor)]
    return copy.deepcopy(network, {id(tensor): tensor.detach().to("meta") for tensor in (*tensors, *attributes)})


def _running_mean(node: fx.Node, network: nn.Module, modules: dict[str, nn.Module]) -> Tensor | None:
    """Return the running mean that the node normalizes with, if it is a call of BatchNorm."""
    if node.op == "call_module" and isinstance(layer := modules[str(node.target)], EXACT):
        return layer.running_mean
    if node.op != "call_function" or node.target not in _RUNNING_MEAN:
        return None
    position = _RUNNING_MEAN[node.target]
    argument = node.args[position] if len(node.args) > position else node.kwargs.get("running_mean")
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    owner, _, name = str(argument.target).rpartition(".")
    tensor = getattr(network.get_submodule(owner), name, None)
    return tensor if isinstance(tensor, Tensor) else None


def _is_only_reader(call: fx.Node, modules: dict[str, nn.Module]) -> bool:
    source = call.args[0] if call.args else None
    if not isinstance(source, fx.Node) or any(user is not call and _reads(user) for user in source.users):
        return False
    if source.op == "call_module":
        return type(modules[str(source.target)]) in _NEW_TENSOR_LAYERS
    return source.op == "call_function" and source.target in _NEW_TENSOR_FUNCTIONS


def _reads(user: fx.Node) -> bool:
    return not (user.op == "call_function" and user.target is getattr and user.args[1] in ("ndim", "shape", "dtype"))


class _Tracer(fx.Tracer):
    """Traces into modules that contain BatchNorm layers only: the inside of others does not matter."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return type(m) in EXACT or not any(isinstance(inner, _BatchNorm) for inner in m.modules())

"""Make a network ready to be run: a copy in the fastest form, on its device, in its type."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapters.errors import UnsupportedModelError


def prepare_network(
    model: nn.Module, device: torch.device | None, dtype: torch.dtype | None, *, copied: bool
) -> nn.Module:
    """Return the network in ``eval()``, without gradients and not compiled, its weights in channels-last memory.

    ``dtype`` is the type of weights and activations; BatchNorm layers keep float32, for their numbers are few and what
    they compute is not.
    """
    model = eager(model)
    network = eager(_copied(model) if copied else model, inside=True).requires_grad_(requires_grad=False)
    hold_in_eval(network)
    if device is not None:
        network.to(device)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if dtype is not None and tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def hold_in_eval(network: nn.Module) -> tuple[str, ...]:
    """Put a network in ``eval()`` for good: its own code cannot put it back. Returns the layers that ignored it.

    Dropout would make answers random, and the trained statistics would move.
    """
    network.eval()
    stubborn = tuple(name or "(root)" for name, module in network.named_modules() if module.training)
    for module in network.modules():
        module.training = False
        module.train = MethodType(_stay, module)  # type: ignore[method-assign]
    return stubborn


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    del mode
    return module


def to_batch(batch: list[Tensor], device: torch.device) -> Tensor:
    """Join requests' images to one batch on the device; from pinned memory and without waiting where that is a GPU."""
    if device.type != "cuda" or batch[0].device == device:
        return (batch[0] if len(batch) == 1 else torch.cat(batch)).to(device)
    images = sum(len(part) for part in batch)
    staged = torch.empty((images, *batch[0].shape[1:]), dtype=batch[0].dtype, pin_memory=True)
    return torch.cat(batch, out=staged).to(device, non_blocking=True)


def channels_last(images: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return the network's input in its type, in channels-last memory where it has two spatial axes."""
    if dtype is not None and images.is_floating_point():
        images = images.to(dtype)
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def eager(model: nn.Module, *, inside: bool = False) -> nn.Module:
    """Unwrap a network from ``torch.compile``, whose code no mode sees, or from data parallelism.

    With ``inside`` its parts too, in place.

    Raises:
        UnsupportedModelError: not a network, such as its class or its weights.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"the network must be an instance of torch.nn.Module, not {model!r:.100}")
    while inner := _wrapped(model):
        model = model.get_submodule(inner)
    if inside:
        for module in list(model.modules()):
            module._compiled_call_impl = None  # what ``module.compile()`` sets
            for name, child in module.named_children():
                if _wrapped(child):
                    setattr(module, name, eager(child, inside=True))
    return model


def _wrapped(module: nn.Module) -> str:
    """Return the name of the network in a wrapper of torch that changes nothing about it, or an empty name."""
    # By its name: importing its class takes as long as importing torch.
    if type(module).__module__.startswith("torch._dynamo") and "_orig_mod" in dict(module.named_children()):
        return "_orig_mod"
    return "module" if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel) else ""


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast that a caller turned on does not reach our arithmetic."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _copied(model: nn.Module) -> nn.Module:
    network = _deep_copy(model)
    if network is model:
        raise UnsupportedModelError(
            f"the network cannot be copied ({type(model).__name__}.__deepcopy__ returns the network itself): pass "
            "copy=False to use it without a copy"
        )
    return network


def _deep_copy(model: nn.Module) -> nn.Module:
    values = [value for module in model.modules() for value in vars(module).values()]
    # Some layers keep a computed tensor (weight_norm, a stored feature map), which torch refuses to copy.
    memo: dict[int, Any] = {id(v): v.detach().clone() for v in values if isinstance(v, Tensor) and not v.is_leaf}
    with torch.no_grad():  # or parameters of scripted parts would come out as results of a computation
        try:
            return copy.deepcopy(model, dict(memo))
        except Exception:
            # Locks, files and handles of other libraries cannot be copied; both networks share them.
            memo |= {id(part): part for part in _uncopied(values)}
        try:
            return copy.deepcopy(model, memo)
        except Exception as error:
            raise UnsupportedModelError(
                f"the network cannot be copied ({type(error).__name__}: {error}): pass copy=False to use it as it is"
            ) from error


def _uncopied(values: Iterable[object]) -> Iterator[object]:
    """Yield the innermost objects that cannot be copied; objects that contain them can be, once they are shared."""
    for value in values:
        if isinstance(value, Tensor | nn.Module):
            continue
        try:
            copy.deepcopy(value)
        except Exception:
            if isinstance(value, dict):
                yield from _uncopied(value.values())
            elif isinstance(value, list | tuple | set | frozenset):
                yield from _uncopied(value)
            else:
                yield value

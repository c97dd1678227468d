"""Call a user's factory, and check that it returns a network that can be adapted."""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType

import torch
from torch import nn

from app.errors import ModelError

_PROGRAM = "a program whose layers cannot be adapted one by one"
_EAGER = "return the network that it was made from, an ordinary torch.nn.Module"
_RUNTIMES = frozenset({"onnxruntime", "onnx", "tensorrt", "openvino", "tensorflow", "keras"})
_INSTEAD: dict[type, str] = {
    dict: "return the network itself; pass a state dict in a file with --weights",
    OrderedDict: "return the network itself; pass a state dict in a file with --weights",
    tuple: "return its network alone",
    list: "return its network alone",
}
"""What to do instead of returning something of that type."""


def create_network(module: ModuleType, name: str, clash: str = "") -> nn.Module:
    """Return the network of the factory ``name`` in ``module``. ``clash`` is the hint where a package of ours hides it.

    Raises:
        ModelError: there is no such factory, it fails, or it returns anything but a network.
    """
    location = f"'{name}' of {_module_title(module)}"
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(f"{location} does not exist", hint=clash or f"callables in it: {', '.join(public) or 'none'}")
    factory = getattr(module, name)
    # A module is callable too, but calling it is a forward.
    if not callable(factory) or isinstance(factory, nn.Module):
        raise ModelError(
            f"{location} is not a factory but of type {type(factory).__name__}",
            hint="name a function or class that returns the network when called without arguments",
        )
    try:
        network = factory()
    except Exception as error:
        raise ModelError(
            f"calling {location} without arguments fails: {type(error).__name__}: {error}",
            hint="give it defaults, or name a function that needs no arguments",
        ) from error
    kind, hint = _rejection_reason(network)
    if kind:
        raise ModelError(f"{location} returned {kind}", hint=hint)
    checked: nn.Module = network
    return checked


def _module_title(module: ModuleType) -> str:
    return f"the module '{module.__name__}'" if not module.__name__.startswith("renorm_") else str(module.__file__)


def _rejection_reason(network: object) -> tuple[str, str]:
    """Return the kind of the object and a hint; both are empty where it is a network that can be adapted."""
    kind = type(network)
    library = kind.__module__.partition(".")[0]
    if isinstance(network, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        return f"a TorchScript program ({kind.__name__}), {_PROGRAM}", _EAGER
    if isinstance(network, torch.export.ExportedProgram) or _holds_exported(network):
        return f"an exported program ({kind.__name__}), {_PROGRAM}", _EAGER
    if library in _RUNTIMES:
        return f"a program of {library} ({kind.__name__}), {_PROGRAM}", _EAGER
    if isinstance(network, type):
        return f"the class {network.__name__}, not a network", "return an instance of it, or name the class itself"
    if not isinstance(network, nn.Module):
        return f"{kind.__name__}, not a network", _INSTEAD.get(kind, "return a torch.nn.Module from it")
    return "", ""


def _holds_exported(network: object) -> bool:
    # Graphs of torch.fx call layers; exported ones call operators, and refuse to be put in a mode.
    modules = network.modules() if isinstance(network, nn.Module) else ()
    graphs = [part for part in modules if isinstance(part, torch.fx.GraphModule)]
    return any(str(node.target).startswith("aten.") for graph in graphs for node in graph.graph.nodes)

"""What a factory returns is a network that can be adapted, or is named as what it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from app.errors import ModelError
from app.models.factories import create_network


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def scripted() -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(net())


def traced() -> Any:
    with warnings.catch_warnings(action="ignore"):
        trace: Any = torch.jit.trace
        return trace(net(), torch.zeros(1, 3, 4, 4))


def exported() -> Any:
    return torch.export.export(net(), (torch.zeros(1, 3, 4, 4),))


class InferenceSession:
    """As ONNX Runtime has it."""

    __module__ = "onnxruntime.capi"


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "scripted": (scripted, "a TorchScript program", "ordinary torch.nn.Module"),
    "traced": (traced, "a TorchScript program", "ordinary torch.nn.Module"),
    "exported": (exported, "an exported program", "ordinary torch.nn.Module"),
    "module of an exported program": (lambda: exported().module(), "an exported program", "ordinary torch.nn.Module"),
    "graph of one": (lambda: exported().graph_module, "an exported program", "ordinary torch.nn.Module"),
    "holds one": (lambda: nn.Sequential(exported().module()), "an exported program", "ordinary torch.nn.Module"),
    "session": (InferenceSession, "a program of onnxruntime", "ordinary torch.nn.Module"),
    "state dict": (lambda: net().state_dict(), "OrderedDict, not a network", "--weights"),
    "pair": (lambda: (net(), 1), "tuple, not a network", "its network alone"),
    "class": (lambda: nn.Identity, "the class Identity, not a network", "an instance"),
    "nothing": (lambda: None, "NoneType, not a network", "torch.nn.Module"),
}


def module(factory: Callable[[], Any]) -> ModuleType:
    holder = ModuleType("shop")
    holder.__dict__["build"] = factory
    return holder


@pytest.mark.parametrize("kind", REFUSED)
def test_programs_that_cannot_be_adapted_are_refused_with_a_hint(kind: str) -> None:
    factory, told, way_out = REFUSED[kind]
    with pytest.raises(ModelError) as caught:
        create_network(module(factory), "build")
    assert f"'build' of the module 'shop' returned {told}" in caught.value.message
    assert way_out in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("network", [net(), torch.fx.symbolic_trace(net())], ids=["ordinary", "graph of torch.fx"])
def test_networks_of_layers_come_through(network: nn.Module) -> None:
    assert create_network(module(lambda: network), "build") is network

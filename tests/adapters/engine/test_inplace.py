"""BatchNorm writes over its input only where nothing else can read it, whatever the network does."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook

from adapters import AdaptiveModel, Request, UnsupportedModelError, names, strategy
from adapters.engine.inplace import in_place_layers
from app.models.resnet20 import ResNet20
from tests.adapters.rereading import KEEPING, OUTSIDE, READ_AGAIN, Base
from tests.nets import Dense, Head1d, PreActivation, Tiny, Twice, Volume, images, seeded


def _timm(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=10)
    return network


PROVEN: dict[str, tuple[Callable[[], nn.Module], int, set[str]]] = {
    "base": (Base, 16, {"bn"}),
    "tiny": (Tiny, 16, {"bn"}),
    "pre_activation": (PreActivation, 16, set()),
    "dense": (Dense, 16, {f"norms.{k}" for k in range(4)}),
    "twice": (Twice, 16, {"bn"}),
    "head1d": (Head1d, 16, {"bn"}),
    "volume": (Volume, 8, {"bn"}),
    "batchnorm": (lambda: nn.BatchNorm2d(3), 8, set()),
    "first": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 8, {"2"}),
    "sync": (
        lambda: nn.SyncBatchNorm.convert_sync_batchnorm(seeded(Tiny)),  # type: ignore[no-untyped-call]
        8,
        set(),
    ),
}


@pytest.fixture(autouse=True)
def _nothing_outside() -> Iterator[None]:
    OUTSIDE.clear()
    yield
    OUTSIDE.clear()


def proven(network: nn.Module, size: int) -> Set[str]:
    """The layers that write over their input, after the first forward."""
    model = AdaptiveModel(network, "source")
    with suppress(UnsupportedModelError):  # it may have answered with a tuple
        model(images(2, size=size))
    return model._execution._in_place


def _answered(model: AdaptiveModel, x: Tensor) -> Tensor:
    """As one forward of many requests: those of one small request are not worth writing in place."""
    return torch.cat([answer.logits for answer in model.predict([Request(image[None], "s") for image in x])])


@pytest.mark.parametrize("name", PROVEN)
def test_layers_that_alone_read_a_new_tensor_are_in_place(name: str) -> None:
    build, size, expected = PROVEN[name]
    assert proven(seeded(build), size) == expected


@pytest.mark.parametrize("name", ["resnet20", "resnet18"])
def test_every_layer_of_a_residual_network_is_in_place(name: str) -> None:
    network = ResNet20() if name == "resnet20" else _timm(name)
    assert proven(network, 32) == {key for key, module in network.named_modules() if isinstance(module, _BatchNorm)}


@pytest.mark.parametrize("name", READ_AGAIN)
def test_layers_whose_input_may_be_read_again_are_not_in_place(name: str) -> None:
    assert proven(seeded(READ_AGAIN[name]), 8) == set()


def test_a_hook_on_all_modules_may_keep_anything() -> None:
    handle = register_module_forward_hook(lambda module, _, made: OUTSIDE.append((module, made)))
    try:
        assert proven(seeded(Base), 8) == set()
    finally:
        handle.remove()


@pytest.mark.parametrize("name", [name for name in READ_AGAIN if name != "Returned"])
def test_networks_that_read_inputs_again_are_answered_correctly(name: str) -> None:
    """Whatever was proven, and whenever: source is the network, at every call."""
    model, twin = AdaptiveModel(seeded(READ_AGAIN[name]), "source"), seeded(READ_AGAIN[name]).eval()
    for seed in range(3):
        with torch.no_grad():
            expected = twin(images(2, seed, 8))
        torch.testing.assert_close(_answered(model, images(2, seed, 8)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KEEPING)
def test_kept_activation_is_the_output_of_the_convolution(name: str) -> None:
    """Features are read from where a network or a hook keeps them: they must not have been normalized."""
    network = seeded(READ_AGAIN[name])
    model = AdaptiveModel(network, "adabn", copy=False)
    given = [images(2, seed, 8) for seed in range(3)]
    with torch.no_grad():
        expected = [seeded(Base).conv(x) for x in given]
    OUTSIDE.clear()
    for x in given:
        _answered(model, x)
    held = [part for part in _held(network) if isinstance(part, Tensor) and part.shape == expected[0].shape]
    assert held
    for part in held:
        assert any(torch.allclose(part, original, atol=1e-5) for original in expected)


@pytest.mark.parametrize("layer", ["conv", "bn", ""])
def test_hooks_see_tensors_and_each_forward_once(layer: str) -> None:
    network = seeded(Base)
    network.get_submodule(layer).register_forward_hook(lambda _, __, made: OUTSIDE.append(made))
    model = AdaptiveModel(network, "adabn")
    for seen in (1, 2):
        model(images(2, size=8))
        assert [type(made) for made in OUTSIDE] == [Tensor] * seen


def _held(network: nn.Module) -> list[Any]:
    """All that the attributes of a network lead to, closures included, and what is in the list beside it."""
    todo: list[Any] = [*map(vars, network.modules()), OUTSIDE]
    seen: dict[int, Any] = {}
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | ModuleType):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, Tensor):
            continue
        if isinstance(thing, FunctionType):  # what it closes over, but not all the globals of its module
            todo += [cell.cell_contents for cell in thing.__closure__ or ()]
        else:
            todo += gc.get_referents(thing)
    return list(seen.values())


def _shape(network: nn.Module) -> dict[str, dict[str, Any]]:
    """Every attribute of every module: the object itself, and how much is in it."""
    return {
        name: {key: (id(value), len(value) if hasattr(value, "__len__") else None) for key, value in vars(part).items()}
        for name, part in network.named_modules()
    }


@pytest.mark.parametrize("name", [*(name for name in READ_AGAIN if name != "IntoGlobal"), *PROVEN])
def test_tracing_leaves_the_network_as_it_was(name: str) -> None:
    build = READ_AGAIN[name] if name in READ_AGAIN else PROVEN[name][0]
    network = seeded(build).eval()
    before, weights = _shape(network), {key: tensor.clone() for key, tensor in network.state_dict().items()}
    in_place_layers(network)
    proxies = [part for part in _held(network) if isinstance(part, fx.Proxy | fx.Node | fx.Graph)]
    assert proxies == []
    assert _shape(network) == before
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[key])
    assert all(parameter.requires_grad for parameter in network.parameters())


def _same_in_place_or_not(network: nn.Module, forwards: list[list[Request]]) -> None:
    model, calm = AdaptiveModel(network), AdaptiveModel(network)
    for asked in [forwards[0], *forwards]:  # what is proven may be known only after a forward
        calm._execution._in_place = frozenset()
        for ours, theirs in zip(model.predict(asked), calm.predict(asked), strict=True):
            assert torch.equal(ours.logits, theirs.logits)
            assert ours.drift == theirs.drift
    for ours, theirs in zip(model.state_dict()["streams"], calm.state_dict()["streams"], strict=True):
        assert torch.equal(ours["row"], theirs["row"])


@pytest.mark.parametrize("build", PROVEN)
def test_in_place_or_not_the_answers_are_the_same_bit_by_bit(build: str) -> None:
    make, size, _ = PROVEN[build]
    alone = [[Request(images(n, n, size), k, strategy(k)) for n in (2, 1)] for k in names("adapter")]
    _same_in_place_or_not(seeded(make).eval(), [*alone, [request for queue in alone for request in queue]])


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_in_place_answers_are_bit_identical_in_deep_networks_and_mixed_strategies(name: str) -> None:
    requests = [Request(images(1 + k % 2, k, 64), "s", strategy(name)) for k, name in enumerate(names("adapter"))]
    _same_in_place_or_not(seeded(partial(_timm, name)).eval(), [requests[3:4], requests])


class Telling(Base):
    """Says where the convolution's output and the normalized one lie."""

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        self.kept = [h.data_ptr()]
        y = self.bn(h)
        self.kept.append(y.data_ptr())
        return y


@pytest.mark.parametrize("over", [True, False])
def test_only_in_place_layers_write_over_their_input(over: bool) -> None:
    model = AdaptiveModel(network := Telling(), copy=False)
    model(images(2))
    model._execution._in_place = frozenset({"bn"} if over else ())
    model.predict([Request(images(2, size=64)), Request(images(3, size=64), "b")])
    assert (network.kept[0] == network.kept[1]) is over


class WritesToItsInput(nn.Module):
    """Its first operation is in place, as that of many published networks."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.relu, self.flat = nn.ReLU(inplace=True), flat
        self.norm: nn.Module = nn.BatchNorm1d(3) if flat else nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.relu(x))
        return out


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "flat": lambda x: x[:, :, 0, 0].contiguous(),
}


@pytest.mark.parametrize("requests", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["first", "in_place"])
def test_the_callers_images_are_never_written_over(kind: str, layout: str, requests: int) -> None:
    """Neither where BatchNorm is the first layer, nor by a network that writes to what it is given."""
    flat = layout == "flat"
    norm = nn.BatchNorm1d(3) if flat else nn.BatchNorm2d(3)
    model = AdaptiveModel(nn.Sequential(norm) if kind == "first" else WritesToItsInput(flat), "adabn")
    given = [LAYOUTS[layout](images(3, k)) for k in range(requests)]
    before = [x.clone() for x in given]
    model.predict([Request(x, str(k)) for k, x in enumerate(given)])
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))

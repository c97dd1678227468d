"""The preparation of a network: a copy in the fastest form, in the requested type, on the requested device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapters import AdaptiveModel, Request, names
from adapters.engine.network import channels_last, prepare_network, to_batch
from app.models.resnet20 import ResNet20
from tests.nets import Dense, Head1d, PreActivation, Tiny, Twice, Volume, images, seeded

NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "tiny": (Tiny, 16),
    "resnet20": (ResNet20, 32),
    "pre_activation": (PreActivation, 16),
    "dense": (Dense, 16),
    "twice": (Twice, 16),
    "head1d": (Head1d, 16),
    "volume": (Volume, 8),
}
CPU = torch.device("cpu")


def _own(model: AdaptiveModel) -> nn.Module:
    network: nn.Module = model._network
    return network


def _rows(model: AdaptiveModel) -> list[Tensor]:
    streams: list[dict[str, Any]] = model.state_dict()["streams"]
    return [entry["row"] for entry in streams]


@pytest.mark.parametrize("name", NETS)
def test_in_bfloat16_all_but_batchnorm_is_bfloat16(name: str) -> None:
    network = seeded(NETS[name][0])
    own = _own(AdaptiveModel(network, dtype=torch.bfloat16))
    for part in own.modules():
        wanted = torch.float32 if isinstance(part, _BatchNorm) else torch.bfloat16
        tensors = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} <= {wanted}
    assert {tensor.dtype for tensor in network.state_dict().values()} <= {torch.float32, torch.int64}
    counters = [key for key in network.state_dict() if key.endswith("num_batches_tracked")]
    assert all(own.state_dict()[key].dtype == torch.int64 for key in counters)


@pytest.mark.parametrize("strategy", names("adapter"))
@pytest.mark.parametrize("name", NETS)
def test_in_bfloat16_the_answers_are_near_and_the_states_float32(name: str, strategy: str) -> None:
    """The weights and every activation are rounded to eight bits: of answers of about 1, some hundredths are left."""
    build, size = NETS[name]
    half, whole = AdaptiveModel(seeded(build), strategy, dtype=torch.bfloat16), AdaptiveModel(seeded(build), strategy)
    for site in half.sites:
        assert {part.dtype for part in (site.mean, site.var, site.weight, site.bias)} == {torch.float32}
    for k, n in enumerate((4, 1, 3)):
        answer = half.predict([Request(images(n, k, size))])[0]
        expected = whole.predict([Request(images(n, k, size))])[0]
        assert answer.logits.dtype == torch.bfloat16
        assert answer.updated
        scale = max(1.0, float(expected.logits.abs().max()))
        torch.testing.assert_close(answer.logits.float(), expected.logits, rtol=0.0, atol=0.06 * scale)
        assert answer.drift == pytest.approx(expected.drift, rel=0.05, abs=1e-3)
    for ours, theirs in zip(_rows(half), _rows(whole), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("strategy", names("adapter"))
def test_bfloat16_answers_are_the_same_joined_and_separate(strategy: str) -> None:
    """As near as bfloat16 is: a unit in the last place at the activations' size."""
    model = AdaptiveModel(seeded(ResNet20), strategy, dtype=torch.bfloat16)
    requests = [Request(images(n, n, 32), stream) for n, stream in ((2, "a"), (1, "b"), (3, "a"))]
    glued = model.run(requests, {})
    memories: dict[Any, Any] = {}
    for request, answer in zip(requests, glued.answers, strict=True):
        outcome = model.run([request], memories)
        memories.update(outcome.memories)
        torch.testing.assert_close(answer.logits, outcome.answers[0].logits, rtol=0.02, atol=0.06)


def test_a_model_in_bfloat16_takes_float32_images_and_states() -> None:
    model = AdaptiveModel(seeded(Tiny), "adabn", dtype=torch.bfloat16)
    whole = AdaptiveModel(seeded(Tiny), "adabn")
    whole(images(4))
    model.load_state_dict(whole.state_dict())
    before = images(2).clone()
    assert model(images(2), update=False).dtype == torch.bfloat16
    assert torch.equal(images(2), before)
    assert torch.equal(_rows(model)[0], _rows(whole)[0])


def test_output_of_prepare_is_converted_to_the_type_of_the_network() -> None:
    raw = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    seen: list[Tensor] = []

    def prepare(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch.float() / 255

    for dtype in (None, torch.bfloat16):
        model = AdaptiveModel(seeded(Tiny), prepare=prepare, dtype=dtype)
        plain = AdaptiveModel(seeded(Tiny), dtype=dtype)
        assert torch.equal(model(raw), plain(raw.float() / 255))
        assert seen[-1].dtype == torch.uint8


@pytest.mark.parametrize("training", [True, False])
def test_without_a_copy_the_network_itself_is_taken_over(training: bool) -> None:
    network = seeded(Tiny).train(training)
    weights = network.conv.weight
    model = AdaptiveModel(network, "adabn", copy=False)
    assert _own(model) is network
    assert network.conv.weight is weights
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    copied = AdaptiveModel(seeded(Tiny), "adabn")
    for n in (1, 3):
        assert torch.equal(model(images(n)), copied(images(n)))
    for key, tensor in seeded(Tiny).state_dict().items():  # nothing that was trained has moved
        assert torch.equal(network.state_dict()[key], tensor)


def test_a_copy_shares_nothing_with_the_callers_network() -> None:
    network = seeded(ResNet20)
    own = _own(AdaptiveModel(network))
    theirs = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    assert not theirs & {tensor.untyped_storage().data_ptr() for tensor in own.state_dict().values()}
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_weights_and_images_are_channels_last(dtype: torch.dtype | None) -> None:
    own = _own(AdaptiveModel(seeded(ResNet20), dtype=dtype))
    kernels = [parameter for parameter in own.parameters() if parameter.dim() == 4]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    made = channels_last(images(2), dtype)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert made.dtype == (dtype or torch.float32)
    assert channels_last(torch.zeros(2, 3, 4), None).is_contiguous()


class Formats(nn.Module):
    """Notes the format of every activation on its way."""

    def __init__(self, within: nn.Sequential) -> None:
        super().__init__()
        self.within, self.channels_last = within, list[bool]()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.within:
            x = layer(x)
            self.channels_last.append(x.is_contiguous(memory_format=torch.channels_last))
        return x


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("strategy", names("adapter"))
def test_activations_stay_channels_last_through_the_network(strategy: str, dtype: torch.dtype | None) -> None:
    within = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3))
    model = AdaptiveModel(network := Formats(within), strategy, dtype=dtype, copy=False)
    # Before the first request of an adapter that reads it, two more forwards measure what images show.
    further = 2 if model.adapter.reads_spread else 0
    for requests, forwards in (([Request(images(1))], 1 + further), ([Request(images(2)), Request(images(1), "b")], 1)):
        network.channels_last.clear()
        model.predict(requests)
        assert network.channels_last == [True] * 5 * forwards


def test_tied_weights_stay_tied_and_integers_stay_integers() -> None:
    first, second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    second.weight = first.weight
    network = nn.Sequential(first, nn.BatchNorm2d(3), second)
    network.register_buffer("table", torch.arange(16).view(1, 1, 4, 4))
    taken = prepare_network(network, None, torch.bfloat16, copied=True)
    assert taken.get_parameter("0.weight") is taken.get_parameter("2.weight")
    assert taken.get_parameter("0.weight").dtype == torch.bfloat16
    assert taken.get_buffer("table").dtype == torch.int64
    assert torch.equal(taken.get_buffer("table"), torch.arange(16).view(1, 1, 4, 4))


def test_to_batch_keeps_the_order_of_requests() -> None:
    parts = [images(2, 1), images(1, 2), images(3, 3)]
    assert torch.equal(to_batch(parts, CPU), torch.cat(parts))
    assert torch.equal(to_batch(parts[:1], CPU), parts[0])
    raw = [(255 * part).to(torch.uint8) for part in parts]
    assert to_batch(raw, CPU).dtype == torch.uint8

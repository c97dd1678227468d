"""Waves: requests whose stream reads its evidence anew are answered as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Request
from adapters.normalization.linear import Linear, Weights
from adapters.state.memory import Memory, StateKey


def network_of_colours() -> nn.Module:
    """Return a network with one class for each colour and its complement, so that answers differ."""
    head = nn.Linear(3, 6)
    with torch.no_grad():
        head.weight.copy_(8.0 * torch.cat([torch.eye(3), -torch.eye(3)]))
        head.bias.zero_()
    return nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()


def coloured_images(requests: int, images: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = 0.5 * torch.randn(requests, images, 3, 4, 4, generator=generator)
    return list((pixels + torch.randn(requests, images, 3, 1, 1, generator=generator) + 0.4).unbind(0))


def test_after_an_outlier_a_queue_reads_evidence_where_single_requests_do() -> None:
    images = coloured_images(requests=12, images=20)
    images[0][0] = 1e4
    together, alone = (AdaptiveModel(network_of_colours(), "shrinkage") for _ in range(2))
    answers = together.predict([Request(part) for part in images])
    assert [answer.outliers for answer in answers[:2]] == [1, 0]
    for part, answer in zip(images, answers, strict=True):
        torch.testing.assert_close(answer.logits, alone(part), rtol=1e-4, atol=1e-4)


@dataclass(frozen=True)
class LinearWithEvidence(Linear):
    """Return a tenth of the request's statistics, and gather evidence."""

    reads_evidence: ClassVar[bool] = True

    def weights(self, images: int) -> Weights:
        """Return the weights of a request."""
        return Weights(own=0.1, remembered=0.0, trained=0.9, momentum=0.1)


def test_a_linear_adapter_can_gather_evidence() -> None:
    model = AdaptiveModel(network_of_colours(), LinearWithEvidence())
    model.predict([Request(part, stream) for part in coloured_images(2, 32) for stream in "ab"])
    explanations = [model.explain(key, memory) for key, memory in model.memories().items()]
    assert [float(e.evidence.images) for e in explanations if e.evidence is not None] == [64.0, 64.0]


class Unlisted(dict[StateKey, Memory]):
    """Memories that may be looked up and not gone through: a model holds those of thousands of streams."""

    def __iter__(self) -> Iterator[StateKey]:
        raise AssertionError("a forward goes through the memories of all streams")

    def keys(self) -> NoReturn:
        raise AssertionError("a forward goes through the memories of all streams")


def test_a_forward_looks_at_the_memories_of_its_own_streams_alone() -> None:
    model, parts = AdaptiveModel(network_of_colours(), "shrinkage"), coloured_images(requests=4, images=20)
    outcome = model.run([Request(parts[0]), Request(parts[0], "other")], {})
    memories = Unlisted(outcome.memories)
    several = model.run([Request(part) for part in parts], memories)
    assert [answer.step for answer in several.answers] == [2, 3, 4, 5]
    parts[1][0] = 1e4
    separate = model.run([Request(parts[1][:3]), Request(parts[2][:3])], memories)
    assert [answer.outliers for answer in separate.answers] == [1, 0]

"""Learners in real networks: as a plain training loop says, alone or many streams at once, and whatever goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Answer, Composite, Descent, InputError, Key, Lesson, Memory, Request, strategy
from adapters.checks.model import SmallNet
from adapters.engine.lessons import group_lessons
from adapters.normalization.bn import BN
from tests.nets import Tiny, images, learning_early, seeded

LEARN = {"tent.lr": 0.01}


def _tent_by_hand(network: nn.Module, requests: Sequence[Tensor], lr: float) -> list[Tensor]:
    """The authors' way: train-mode BatchNorm without running statistics, and an optimizer of its affine parameters."""
    layers = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    network.requires_grad_(requires_grad=False)
    for layer in layers:
        layer.train()
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    learned = [tensor.requires_grad_() for layer in layers for tensor in (layer.weight, layer.bias)]
    optimizer = torch.optim.Adam(learned, lr=lr)
    answers = []
    for batch in requests:
        logits = network(batch)
        optimizer.zero_grad()
        (-(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()).backward()
        optimizer.step()
        answers.append(logits.detach())
    return answers


@pytest.mark.parametrize("make", [SmallNet, Tiny])
def test_tent_is_the_plain_training_loop(make: type[nn.Module]) -> None:
    requests = [images(6, seed) for seed in range(12)]
    model = AdaptiveModel(seeded(make), strategy("tent", LEARN))
    expected = _tent_by_hand(seeded(make).eval(), requests, lr=0.01)
    for batch, theirs in zip(requests, expected, strict=True):
        torch.testing.assert_close(model(batch), theirs, rtol=1e-4, atol=1e-4)
    still = AdaptiveModel(seeded(make), "bn")(requests[-1])
    assert not torch.allclose(still, expected[-1], atol=1e-3), "nothing was learned"


NAMES = ["tent", "core", "adabn+tent", "unmix_tns+tent", "robust_bn+core+cofa"]


def _streams(names: Sequence[str], rounds: int) -> list[list[Request]]:
    return [
        [Request(images(2 + k, 100 * step + k), f"{k}", learning_early(name)) for k, name in enumerate(names)]
        for step in range(rounds)
    ]


def test_streams_that_learn_together_learn_what_they_would_alone() -> None:
    glued, alone = AdaptiveModel(seeded(Tiny), "source"), AdaptiveModel(seeded(Tiny), "source")
    for requests in _streams(NAMES * 2, 6):
        ours: list[Answer] = glued.predict(requests)
        theirs = [alone.predict([request])[0] for request in requests]
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a.logits, b.logits, rtol=1e-4, atol=1e-4)


def test_lessons_that_fit_are_one_group_and_others_go_alone() -> None:
    def keyed_lesson(n: int, name: str, size: int = 8, **params: int) -> tuple[Key, Lesson]:
        shown = torch.zeros(n, 3, size, size)
        lesson = Lesson(shown, torch.zeros(n, 4), torch.empty(0), torch.empty(0))
        return Key(f"{n} {size}", strategy(name, params)), lesson

    asked = [
        keyed_lesson(2, "tent"),
        keyed_lesson(5, "unmix_tns+core", least_images=5),
        keyed_lesson(3, "rotta"),
        keyed_lesson(1, "core"),
        keyed_lesson(4, "tent", 9),
    ]
    found = group_lessons(dict(asked))
    assert sorted(len(group) for group in found) == [1, 1, 1, 2]
    assert [key.stream for key in next(group for group in found if len(group) == 2)] == ["2 8", "5 8"]


@dataclass(frozen=True)
class Fragile(Descent):
    """Not finite where the answers are far apart."""

    adapter: ClassVar[str] = "bn"

    def loss(self, logits: Tensor) -> Tensor:
        return torch.where(logits.abs().amax() > 1e3, torch.nan, 1.0) * logits.square().mean()


def test_a_lesson_that_is_not_finite_harms_no_other() -> None:
    fragile = Composite(BN(), Fragile())
    model = AdaptiveModel(SmallNet(), fragile)
    requests = [Request(images(3, 1), "a"), Request(images(3, 2), "b"), Request(images(3, 3), "c")]
    outcome = model.run(requests, {})
    lessons = dict(outcome.lessons)
    wild = Key("b", fragile)
    # An image that overflows the loss, though the answer to it was fine.
    lessons[wild] = lessons[wild]._replace(images=torch.full((3, 3, 8, 8), 1e30))
    learned = model.learn(lessons, outcome.memories)
    moved = {key.stream: bool(memory.parts[0].affine.any()) for key, memory in learned.items()}  # type: ignore[attr-defined]
    assert moved == {"a": True, "b": False, "c": True}


def test_a_stream_that_was_forgotten_meanwhile_is_not_taught() -> None:
    model = AdaptiveModel(SmallNet(), "tent")
    outcome = model.run([Request(images(3, 1), "a"), Request(images(3, 2), "b")], {})
    left = {key: memory for key, memory in outcome.memories.items() if key.stream == "b"}
    assert [key.stream for key in model.learn(outcome.lessons, left)] == ["b"]


def test_requests_that_would_overtake_a_lesson_are_refused() -> None:
    model = AdaptiveModel(SmallNet(), "tent")
    requests = [Request(images(3, 1), "a"), Request(images(3, 2), "a")]
    with pytest.raises(InputError, match="run the second after the lesson of the first"):
        model.run(requests, {})
    looking = [Request(images(3, 1), "a", update=False), requests[0]]
    assert len(model.run(looking, {}).answers) == 2


def test_a_lesson_without_a_learner_is_refused() -> None:
    model = AdaptiveModel(SmallNet(), "adabn")
    key, nothing = Key("a", strategy("adabn")), torch.empty(0)
    with pytest.raises(InputError, match="strategy of a lesson has no learner"):
        model.learn({key: Lesson(images(1), torch.zeros(1, 4), nothing, nothing)}, {key: Memory(nothing, 1)})


def test_the_hosted_weights_and_other_streams_stay_as_they_are() -> None:
    network = seeded(Tiny)
    model = AdaptiveModel(network, strategy("unmix_tns+tent", {"lr": 0.05}), copy=False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = model.predict([Request(images(4, 1), "quiet")])[0].logits
    for step in range(5):
        model.predict([Request(images(4, step), "loud")])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    model.reset("quiet")
    assert torch.equal(model.predict([Request(images(4, 1), "quiet")])[0].logits, first)

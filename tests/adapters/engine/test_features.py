"""Features: the input of the layer that a network ends in, found by watching, read only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaBN, AdaptiveModel, Composite, Lame, Request, Source, UnsupportedModelError, strategy
from adapters.engine.features import Head
from adapters.engine.outputs import are_same_scores
from tests.nets import Tiny, images, seeded


class TwoHeads(nn.Module):
    """Several linear layers, of which the one that is called last is neither the last nor the first of the modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.answer, self.unused = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.answer(torch.relu(self.first(x)))
        return logits


class Bent(nn.Module):
    """A network whose output is not that of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.linear = nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.bn(x).mean((2, 3))).sinh()
        return logits


class Ending(nn.Module):
    """A network that makes something of the scores of its last linear layer, and asks another one after it."""

    def __init__(self, ending: Callable[[Tensor], Tensor] | None = None, factor: float = 1.0) -> None:
        super().__init__()
        self.bn, self.linear, self.aside = nn.BatchNorm2d(3), nn.Linear(3, 4), nn.Linear(3, 4)
        self.linear.weight.data *= factor
        self.linear.bias.data *= factor
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        features = self.bn(x).mean((2, 3))
        logits: Tensor = self.linear(features)
        if self.ending is None:
            return logits
        logits = self.ending(logits)
        self.aside(features)
        return logits


ENDINGS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "log_softmax": (lambda x: x.log_softmax(1), 1, 1),
    "log_of_tiny_shares": (lambda x: x.softmax(1).clamp_min(1e-30).log(), 200, 200),
    "temperature": (lambda x: x / 3, 1, 1 / 3),
    "another_tensor": (lambda x: x + 0, 1, 1),
    "float64": (lambda x: x.double().float(), 1, 1),
    "shifted": (lambda x: x - x.amax(1, keepdim=True), 1, 1),
}
"""What networks make of their scores, how large those are, and how large the same is without an ending."""


def _run(head: Head, network: nn.Module, x: Tensor, *, asked: bool) -> Tensor:
    with head.watch(is_needed=asked):
        logits = network(x)
    return head.features(logits)


def test_features_are_what_the_last_layer_is_given_whether_asked_for_first_or_later() -> None:
    network, x = seeded(TwoHeads), torch.randn(5, 4)
    expected = torch.relu(network.first(x))
    at_once, later = Head(network), Head(network)
    assert torch.equal(_run(at_once, network, x, asked=True), expected)
    assert _run(later, network, x, asked=False).shape == (5, 0)
    assert later.width == 6
    assert torch.equal(_run(later, network, x, asked=True), expected)


def test_network_is_left_as_it_was() -> None:
    network = seeded(TwoHeads)
    head = Head(network)
    for asked in (False, True, False):
        _run(head, network, torch.randn(2, 4), asked=asked)
        assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(RuntimeError), head.watch(is_needed=True):
        network(torch.randn(2, 5))
    assert not any(module._forward_hooks for module in network.modules())


@dataclass(frozen=True)
class Needy(Lame):
    """LAME that cannot do without features."""

    scores_suffice: ClassVar[bool] = False


def test_logits_are_the_features_of_lame_where_there_is_no_linear_layer() -> None:
    model, lame = AdaptiveModel(Bent(), "source"), Lame(when="always", memory=0)
    logits = model(images(5))
    (answer,) = model.predict([Request(images(5), strategy=Composite(Source(), correctors=(lame,)))])
    expected, _ = lame.correct(lame.init(logits.shape[1], logits.shape[1]), logits, logits)
    torch.testing.assert_close(answer.logits.exp(), expected)
    assert model.state_bytes(strategy("lame")) > 0


def test_a_network_that_does_not_end_in_a_linear_layer_says_so() -> None:
    model = AdaptiveModel(Bent(), "adabn")
    needy = Composite(AdaBN(), correctors=(Needy(),))
    with pytest.raises(UnsupportedModelError, match=r"end the network in nn\.Linear"):
        model.predict([Request(images(2), strategy=needy)])
    assert not model.memories()
    model(images(1))
    with pytest.raises(UnsupportedModelError, match=r"end the network in nn\.Linear"):
        model.check(needy)
    for fine in ("adabn+cofa", "tent", "temperature", "auto"):
        model.check(strategy(fine))
        assert model.predict([Request(images(2), strategy=strategy(fine))])[0].finite


def test_the_default_leaves_outputs_for_each_pixel_as_they_are() -> None:
    network = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6))
    )
    model, plain = AdaptiveModel(network), AdaptiveModel(network, "shrinkage")
    model.check(model.strategy)
    for seed in range(3):
        for update in (True, False):
            found, expected = (one(images(1 + seed, seed), update=update) for one in (model, plain))
            assert found.dim() == 4
            assert torch.equal(found, expected)
    ((key, memory),) = model.memories().items()
    assert model.explain(key, memory).corrections == ()
    assert model.state_bytes() > 0
    other = AdaptiveModel(network)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images(1), update=False), model(images(1), update=False))
    with pytest.raises(UnsupportedModelError, match="or one that corrects only on a condition"):
        AdaptiveModel(network, strategy("auto", {"lame.when": "always"}))(images(2))


def test_correctors_refuse_answers_that_are_not_one_row_an_image() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(UnsupportedModelError, match=r"need logits \[n, classes\], but this network returns \[2, 4"):
        AdaptiveModel(network, "cofa")(images(2))


def test_requests_with_and_without_features_share_a_forward() -> None:
    glued, alone = AdaptiveModel(seeded(Tiny)), AdaptiveModel(seeded(Tiny))
    kinds = ["adabn", "adabn+lame", "unmix_tns", "lame"]
    for step in range(4):
        requests = [Request(images(3, step), name, strategy(name)) for name in kinds]
        for ours, theirs in zip(glued.predict(requests), map(alone.predict, [[r] for r in requests]), strict=True):
            torch.testing.assert_close(ours.logits, theirs[0].logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["adabn+lame", "lame"])
@pytest.mark.parametrize("first", [1, 3], ids=["one_image", "several"])
def test_operations_on_scores_hide_no_features(name: str, ending: str, first: int) -> None:
    made, *factors = ENDINGS[ending]
    ours, bare = (
        AdaptiveModel(seeded(partial(Ending, *args)), name) for args in zip((made, None), factors, strict=True)
    )
    for step, n in enumerate((first, 4, 1)):
        x = images(n, step)
        torch.testing.assert_close(ours(x).softmax(1), bare(x).softmax(1), rtol=1e-5, atol=1e-5)
    assert ours.state_bytes() == bare.state_bytes()


@pytest.mark.parametrize(
    ("scores", "logits", "are_same"),
    [
        pytest.param([[1.0, 2, 4], [0, 1, 1]], [[2.0, 4, 8], [0, 2, 2]], True, id="scaled"),
        pytest.param([[1.0, 2, 4], [0, 1, 1]], [[2.0, 4, 8], [0, 3, 3]], False, id="scaled_by_row"),
        pytest.param([[1.0, 2, 4], [0, 1, 1]], [[-1.0, -2, -4], [0, -1, -1]], False, id="turned_round"),
        pytest.param([[1.0, 2, 4]], [[1.0, 2, 4.1]], False, id="otherwise"),
        pytest.param([[1.0, 2]], [[1.0, 4]], False, id="two_numbers_have_a_scale"),
        pytest.param([[1.0, 2]], [[2.0, 3]], True, id="two_numbers_shifted"),
        pytest.param([[3.0], [-2.0]], [[0.0, 3], [0, -2]], True, id="one_class"),
        pytest.param([[3.0, 1]], [[3.0, 1, 0]], False, id="other_classes"),
        pytest.param([[0.0, 0], [0, 0]], [[1.0, 2], [1, 4]], False, id="nothing_said"),
    ],
)
def test_the_same_scores_are_told_from_others(
    scores: list[list[float]], logits: list[list[float]], are_same: bool
) -> None:
    assert are_same_scores(torch.tensor(scores), torch.tensor(logits)) == are_same

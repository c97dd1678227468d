"""Networks that answer with more than a tensor, and networks that hold what cannot be copied."""

from __future__ import annotations

import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel
from adapters.compilation.aot import trace
from adapters.compilation.exportable import LinearForward
from adapters.engine.features import Head
from adapters.engine.outputs import Form, ToLogits, logits_of
from adapters.errors import UnsupportedModelError
from adapters.sites import Sites

Pair = namedtuple("Pair", ["logits", "aux_logits"])


@dataclass
class Two:
    """Logits beside features of the same form."""

    features: Tensor
    logits: Tensor


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda map_, logits: (map_, logits),
    "list of one": lambda map_, logits: [logits],
    "dict by name": lambda map_, logits: {"aux": logits + 1, "out": logits},
    "dict by form": lambda map_, logits: OrderedDict(maps=map_, classes=logits),
    "dataclass": lambda map_, logits: Two(logits * 2, logits),
    "named tuple": lambda map_, logits: Pair(logits, logits + 1),
    "object": lambda map_, logits: SimpleNamespace(loss=None, logits=logits),
}


class Net(nn.Module):
    """A small classifier that answers in any form."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any] = lambda map_, logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 5)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        """Whatever the form says."""
        maps = self.bn(self.conv(x)).relu()
        return self.form(maps, self.head(maps.mean((2, 3))))


def images(seed: int = 1) -> Tensor:
    return torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strategy", ["adabn", "tent", "rotta", "adabn+lame"])
@pytest.mark.parametrize("form", FORMS)
def test_one_obvious_tensor_is_answered_as_if_it_were_alone(form: str, strategy: str) -> None:
    hosted, plain = AdaptiveModel(Net(FORMS[form]), strategy), AdaptiveModel(Net(), strategy)
    for seed in (1, 2):
        assert torch.allclose(hosted(images(seed)), plain(images(seed)), atol=1e-6)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        pytest.param((torch.zeros(2, 3), torch.zeros(2, 4)), r"tuple with \[0\] \[2, 3\], \[1\]", id="two"),
        pytest.param((torch.zeros(2), torch.zeros(2, 64)), r"\[0\] \[2\], \[1\] \[2, 64\]", id="one_score_or_features"),
        pytest.param({"maps": torch.zeros(2, 3, 4, 4)}, r"maps \[2, 3, 4, 4\]", id="maps"),
        pytest.param({"ids": torch.zeros(2, 3, dtype=torch.int64)}, r"ids \[2, 3\]", id="whole-numbers"),
        pytest.param(None, "NoneType with no tensor", id="nothing"),
    ],
)
def test_ambiguous_outputs_are_listed_in_the_error(output: Any, told: str) -> None:
    with pytest.raises(UnsupportedModelError, match=told):
        logits_of(output)


@pytest.mark.parametrize("form", ["logits", "probabilities", "logit", "probability"])
def test_to_logits_is_part_of_a_compiled_forward(form: Form) -> None:
    network = Net(lambda maps, logits: (maps, logits[:, :1] if form in ("logit", "probability") else logits)).eval()
    network.register_forward_hook(ToLogits(form))
    module = LinearForward(network, Sites(network), Head(network)).eval()
    given = tuple(module.example(images(seed=3)[:1], [1], 1))
    with torch.no_grad():
        expected = module(given)
        found = trace(module, given, module.axes(single=True)).module()(given)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


class Stubborn:
    """A handle that says itself that it cannot be copied."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise TypeError("no copy of this handle")


@pytest.mark.parametrize(
    "kept",
    [
        lambda: threading.Lock(),  # noqa: PLW0108
        lambda: {"locks": [threading.Lock()], "numbers": [1, 2]},
        lambda: (1, [threading.RLock()]),
        lambda: Stubborn(threading.Lock()),
    ],
    ids=["lock", "dict-of-lists", "tuple", "refusing"],
)
def test_a_copy_shares_only_what_cannot_be_copied(kept: Callable[[], Any]) -> None:
    network: Any = Net()
    network.kept = kept()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = AdaptiveModel(network, "tent", lr=0.1)
    assert torch.allclose(model(images()), AdaptiveModel(Net(), "tent", lr=0.1)(images()), atol=1e-6)
    model(images(2))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())

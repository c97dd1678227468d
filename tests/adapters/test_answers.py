"""Networks that answer with more than a tensor."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel
from adapters.answers import logits_of
from adapters.errors import UnsupportedModelError

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
        pytest.param((torch.zeros(2, 3), torch.zeros(2, 4)), r"tuple that holds \[0\] \[2, 3\], \[1\]", id="two"),
        pytest.param({"maps": torch.zeros(2, 3, 4, 4)}, r"maps \[2, 3, 4, 4\]", id="maps"),
        pytest.param({"ids": torch.zeros(2, 3, dtype=torch.int64)}, r"ids \[2, 3\]", id="whole-numbers"),
        pytest.param(None, "NoneType that holds no tensor", id="nothing"),
    ],
)
def test_what_is_not_obvious_is_listed(output: Any, told: str) -> None:
    with pytest.raises(UnsupportedModelError, match=told):
        logits_of(output)

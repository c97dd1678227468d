"""Global settings that a network changes in its forward are restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from adapters import AdaptiveModel
from adapters.engine.calling import SWITCHES, GlobalStateGuard
from tests.nets import Tiny, images, seeded

SWITCHING: dict[str, Callable[[], Any]] = {
    "default_type": lambda: torch.set_default_dtype(torch.float64),
    "gradients_off": lambda: torch.set_grad_enabled(False),
    "gradients_on": lambda: torch.set_grad_enabled(True),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "determinism": lambda: torch.use_deterministic_algorithms(True),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
}


class Leaking(Tiny):
    """Leaves a switch where it put it."""

    def __init__(self, switch: Callable[[], Any]) -> None:
        super().__init__()
        self.switch = switch

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        self.switch()
        return out


def state() -> list[Any]:
    return [switch.read() for switch in SWITCHES]


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", ["source", "adabn", "unmix_tns", "tent", "rotta", "adabn+lame"])
@pytest.mark.parametrize("kind", SWITCHING)
def test_modes_are_restored_and_answers_are_those_of_the_plain_network(kind: str, name: str) -> None:
    with GlobalStateGuard():
        before = state()
        leaking = AdaptiveModel(seeded(lambda: Leaking(SWITCHING[kind])), name)
        leaking.warm_up(images(1))
        assert state() == before
        plain = AdaptiveModel(seeded(Tiny), name)
        for seed in range(3):
            torch.testing.assert_close(leaking(images(4, seed)), plain(images(4, seed)), rtol=1e-5, atol=1e-5)
            assert state() == before


def test_switches_are_put_back_after_an_error_too() -> None:
    def fail() -> None:
        with GlobalStateGuard():
            torch.set_default_dtype(torch.float64)
            raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert state() == before

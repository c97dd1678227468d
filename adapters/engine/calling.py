"""Call a network so that global settings of torch that it changes are restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class _Switch(NamedTuple):
    """A setting of torch that the code of a network may change."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _autocast(device: str) -> _Switch:
    return _Switch(lambda: torch.is_autocast_enabled(device), lambda on: torch.set_autocast_enabled(device, on))


SWITCHES = (
    _Switch(torch.get_default_dtype, torch.set_default_dtype),
    _Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    _autocast("cpu"),
    _autocast("cuda"),
    _Switch(torch.get_num_threads, torch.set_num_threads),
    _Switch(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    _Switch(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
)
"""Settings that change numbers, or how fast or whether operations run, for all later code."""


class GlobalStateGuard:
    """A context that restores every one of `SWITCHES`."""

    def __enter__(self) -> None:
        self._values = [switch.read() for switch in SWITCHES]

    def __exit__(self, *raised: object) -> None:
        del raised
        for switch, value in zip(SWITCHES, self._values, strict=True):
            if switch.read() != value:
                switch.write(value)

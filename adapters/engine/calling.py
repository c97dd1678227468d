"""Call a network so that what it switches for the whole process does not stay switched."""

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
"""Those that change numbers, or how fast or whether operations run, for whoever comes next."""


class SwitchesKept:
    """A context behind which every one of `SWITCHES` is as it was before."""

    def __enter__(self) -> None:
        self._before = [switch.read() for switch in SWITCHES]

    def __exit__(self, *raised: object) -> None:
        del raised
        for switch, before in zip(SWITCHES, self._before, strict=True):
            if switch.read() != before:
                switch.write(before)

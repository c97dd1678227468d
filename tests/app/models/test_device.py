"""Which device a setting means on this machine."""

from __future__ import annotations

import pytest
import torch

from app.errors import ModelError
from app.models.device import device_of


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("wanted", "count", "meant"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_device_is_found(monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, meant: str) -> None:
    gpus(monkeypatch, count)
    assert device_of(wanted) == torch.device(meant)


@pytest.mark.parametrize(
    ("wanted", "count", "told"), [("cuda", 0, "finds 0 GPUs"), ("cuda:1", 1, "finds 1 GPU$"), ("cuda:7", 2, "cuda:7")]
)
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: str, count: int, told: str
) -> None:
    gpus(monkeypatch, count)
    with pytest.raises(ModelError, match=told) as caught:
        device_of(wanted)
    assert "--device cpu" in caught.value.hint

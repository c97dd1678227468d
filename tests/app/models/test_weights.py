"""Weights of every accepted form end up in the network, and anything else is told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from app.errors import ModelError
from app.models.weights import load_weights


def net(outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, outputs))


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in state.items()}


def saved(state: Any, path: Path) -> Path:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def refusal(network: nn.Module, path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_weights(network, path)
    assert str(path) in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.safetensors", dict),
        ("w.pt", dict),
        ("w.PTH", dict),
        ("w.pt", prefixed),
        ("w.safetensors", prefixed),
        ("w.pt", lambda state: {"state_dict": state, "epoch": 3}),
        ("w.pth", lambda state: {"model": prefixed(state), "optimizer": {"lr": 0.1}}),
        ("w.pt", lambda state: {"model": {"state_dict": state}}),
        ("w.pt", lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}),
    ],
)
def test_weights_are_loaded_from_every_form(
    tmp_path: Path, name: str, wrap: Callable[[dict[str, Tensor]], Any]
) -> None:
    trained, network = net(), net()
    trained.get_buffer("1.running_mean").add_(3)
    load_weights(network, saved(wrap(trained.state_dict()), tmp_path / name))
    x = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.eval()(x), trained.eval()(x))


def test_a_networks_own_module_prefix_is_kept(tmp_path: Path) -> None:
    trained, network = nn.DataParallel(net()), nn.DataParallel(net())
    load_weights(network, saved(trained.state_dict(), tmp_path / "w.pt"))
    assert torch.equal(network.get_parameter("module.3.weight"), trained.get_parameter("module.3.weight"))


def test_misfits_are_named(tmp_path: Path) -> None:
    state = net().state_dict()
    del state["0.weight"], state["0.bias"], state["1.running_mean"], state["1.running_var"]
    state["extra"] = torch.zeros(1)
    message = refusal(net(outputs=5), saved(state, tmp_path / "w.pt")).message
    assert "4 missing: 0.weight, 0.bias, 1.running_mean ..." in message
    assert "1 unexpected: extra" in message
    assert "2 of another shape: 3.weight [2, 4] instead of [5, 4], 3.bias [2] instead of [5]" in message


def test_missing_weights_file_is_reported(tmp_path: Path) -> None:
    assert "does not exist" in refusal(net(), tmp_path / "w.pt").message


class Trap:
    """Unpickled carelessly, this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for content in ({"0.weight": Trap(ran)}, net()):
        error = refusal(net(), saved(content, tmp_path / "w.pt"))
        assert "pickled code" in error.message
        assert "state_dict" in error.hint
    assert not ran.exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 half a zip"])
def test_damaged_weights_file_is_reported(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refusal(net(), tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"model": {"name": "x"}}, torch.zeros(2)])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: Any) -> None:
    assert "not a state dict" in refusal(net(), saved(content, tmp_path / "w.pt")).message

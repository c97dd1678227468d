"""Checkpoints as training scripts write them: every wrapper, prefix and container, and which of several weights."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from app.errors import ModelError
from app.models.weights import load_weights

State = dict[str, Tensor]


class Net(nn.Module):
    """A trunk with BatchNorm, and a head."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.bn(self.conv(x)).mean((2, 3)))
        return logits


class Config:
    """A setting object of a user's own."""

    def __init__(self) -> None:
        self.lr = 0.1


class Attributes(dict[str, Any]):
    """A mapping of a user's own, as libraries for configuration have them."""


AttrDict = type("AttrDict", (Attributes,), {"__module__": __name__})


def trained(seed: int = 0) -> State:
    network = Net()
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }


def prefixed(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def outcome(content: Any, path: Path, key: str | None = None, **how: Any) -> tuple[State, str]:
    """The network's tensors after loading, and what is said of it."""
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path, **how)
    network = Net()
    said = load_weights(network, path, key)
    return network.state_dict(), said


def holds(found: State, state: State) -> bool:
    return all(torch.equal(found[key], value) for key, value in state.items() if value.is_floating_point())


WRAPPERS = [
    *((key,) for key in ("state_dict", "model", "net", "network", "model_state_dict", "model_state", "params", "ema")),
    *((key,) for key in ("weights", "model_ema", "state_dict_ema", "params_ema", "generator", "whatever-it-is")),
    (),
    ("checkpoint", "model", "state_dict"),
]
PREFIXES = ["", "module.", "_orig_mod.", "model.", "net.", "backbone.", "module._orig_mod.", "_orig_mod.module."]
PREFIXES += ["module.module.", "model.backbone.", "model._orig_mod.module.", "classifier.net."]
NAMES = [
    "w.pt",
    "w.pth",
    "model_best.pth.tar",
    "last.ckpt",
    "pytorch_model.bin",
    "net.th",
    "net.pkl",
    "weights",
    "w.npz",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wrapper=st.sampled_from(WRAPPERS),
    prefix=st.sampled_from(PREFIXES),
    name=st.sampled_from(NAMES),
    beside=st.sampled_from(["epoch", "args", "best", "optimizer", "nothing"]),
    zipped=st.booleans(),
)
def test_the_network_is_found_in_every_form(
    tmp_path: Path, wrapper: tuple[str, ...], prefix: str, name: str, beside: str, zipped: bool
) -> None:
    state, content = trained(), prefixed(trained(), prefix)
    for key in reversed(wrapper):
        content = {key: content}
        if beside != "nothing":
            content[beside] = BESIDE[beside]
    found, said = outcome(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert holds(found, state)
    assert "left" not in said


BESIDE: dict[str, Any] = {
    "epoch": 3,
    "args": argparse.Namespace(lr=0.1, names=["a"]),
    "best": np.float64(93.2),
    "optimizer": {"state": {0: {"exp_avg": torch.ones(4), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: prefix or "none")
def test_safetensors_are_recognized_by_content(tmp_path: Path, name: str, prefix: str) -> None:
    save_file(prefixed(trained(), prefix), tmp_path / name)
    network = Net()
    load_weights(network, tmp_path / name)
    assert holds(network.state_dict(), trained())


HARMLESS: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, deep=argparse.Namespace(path=pathlib.PurePosixPath("a"))),
    "numpy scalar": np.float32(1.5),
    "numpy array": np.arange(4.0),
    "numpy integer": np.int64(7),
    "random state": np.random.default_rng(0).bit_generator.state,
    "path": pathlib.PurePosixPath("/data/set"),
    "set": {1, 2},
    "default mapping": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abc"),
    "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "type": torch.float16,
    "device": torch.device("cpu"),
    "own object": Config(),
    "own mapping": AttrDict(lr=0.1),
    "own class": Config,
    "function": len,
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", HARMLESS)
def test_objects_beside_the_tensors_are_ignored(tmp_path: Path, kind: str, zipped: bool) -> None:
    content = {"state_dict": trained(), "beside": HARMLESS[kind], "list": [HARMLESS[kind]]}
    found, _ = outcome(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert holds(found, trained())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickled_network_is_refused_but_ignored_beside_weights(tmp_path: Path, zipped: bool) -> None:
    """But in files of older versions of PyTorch, where the code of networks is stored with them."""
    told = f"pickled code, which is not run: .*{__name__}.Net"
    for content in (Net(), {"model": Net(), "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}}}):
        with pytest.raises(ModelError, match=told):
            outcome(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    if zipped:
        assert holds(outcome({"model": Net(), "state_dict": trained()}, tmp_path / "w.pt")[0], trained())


AVERAGED: dict[str, Callable[[State, State], Any]] = {
    "timm": lambda raw, mean: {"state_dict": raw, "state_dict_ema": mean},
    "torchvision": lambda raw, mean: {
        "model": raw,
        "model_ema": {"n_averaged": torch.tensor(3), **prefixed(mean, "module.")},
    },
    "restoration": lambda raw, mean: {"params": raw, "params_ema": mean},
    "lightning": lambda raw, mean: {"state_dict": prefixed(raw, "model.") | prefixed(mean, "ema_model.")},
    "modules": lambda raw, mean: prefixed(raw, "online.") | prefixed(mean, "averaged.module."),
    "beside": lambda raw, mean: {**raw, "ema": mean},
    "before": lambda raw, mean: {"ema": {"shadow": mean}, "net": raw},
    "camel": lambda raw, mean: {"netEma": mean, "net": raw},
    "stochastic": lambda raw, mean: {"callbacks": {"swa": {"model": mean}}, "state_dict": raw},
}


@pytest.mark.parametrize("form", AVERAGED)
def test_averaged_weights_are_taken_and_the_raw_ones_named(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    found, said = outcome(AVERAGED[form](trained(1), trained(2)), tmp_path / "w.pt")
    assert holds(found, trained(2))
    assert "averaged weights at" in said
    assert "not read; choose with --weights-key" in said
    assert said in caplog.text


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ("timm", "state_dict"),
        ("torchvision", "model"),
        ("lightning", "state_dict.model"),
        ("lightning", "model"),
        ("modules", "online"),
        ("beside", "."),
        ("before", "net"),
        ("camel", "net"),
    ],
)
def test_a_key_chooses_the_raw_weights(tmp_path: Path, form: str, key: str) -> None:
    found, said = outcome(AVERAGED[form](trained(1), trained(2)), tmp_path / "w.pt", key)
    assert holds(found, trained(1))
    assert "averaged weights" not in said


def refusal(content: Any, path: Path, key: str | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        outcome(content, path, key)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_a_key_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    error = refusal({"a": trained(1), "b": trained(2)}, tmp_path / "w.pt", "c")
    assert "no tensors under 'c'" in error.message
    assert "'a', 'b'" in error.hint


@pytest.mark.parametrize("names", [("student", "teacher"), ("net1", "net2"), ("ema_1", "ema_2")])
def test_between_equals_a_person_chooses(tmp_path: Path, names: tuple[str, str]) -> None:
    content = {names[0]: trained(1), names[1]: trained(2)}
    error = refusal(content, tmp_path / "w.pt")
    assert all(f"'{name}'" in error.message for name in names)
    assert f"--weights-key {names[0]}" in error.hint
    assert holds(outcome(content, tmp_path / "w.pt", names[1])[0], trained(2))


def test_the_same_weights_twice_are_one(tmp_path: Path) -> None:
    content = {"state_dict": trained(), "model": {key: value.clone() for key, value in trained().items()}}
    assert holds(outcome(content, tmp_path / "w.pt")[0], trained())


def test_an_average_that_lacks_statistics_is_named_and_not_taken(tmp_path: Path) -> None:
    mean = {key: value for key, value in trained(2).items() if "running" not in key}
    found, said = outcome({"model": trained(1), "ema": mean}, tmp_path / "w.pt")
    assert holds(found, trained(1))
    assert "'ema' (incomplete) not read" in said


def test_an_averaged_model_is_the_network_that_it_averages(tmp_path: Path) -> None:
    network = Net()
    network.load_state_dict(trained())
    found, said = outcome(AveragedModel(network).state_dict(), tmp_path / "w.pt")
    assert holds(found, trained())
    assert "left" not in said


def test_wrappers_of_inner_modules_and_of_the_network_itself_are_seen_through(tmp_path: Path) -> None:
    inner = {key.replace("conv.", "conv.module.").replace("fc.", "fc._orig_mod."): v for key, v in trained().items()}
    assert holds(outcome({"state_dict": prefixed(inner, "net.")}, tmp_path / "w.pt")[0], trained())
    wrapped = nn.DataParallel(Net())
    torch.save(trained(), tmp_path / "w.pt")
    load_weights(wrapped, tmp_path / "w.pt")
    assert holds(wrapped.module.state_dict(), trained())


def test_a_network_in_parts_is_put_together(tmp_path: Path) -> None:
    parts: dict[str, State] = {"conv": {}, "bn": {}, "fc": {}}
    for key, value in trained().items():
        parts[key.partition(".")[0]][key.partition(".")[2]] = value
    assert holds(outcome({"epoch": 1, "parts": parts}, tmp_path / "w.pt")[0], trained())


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"criterion.weight": torch.ones(3)}, "criterion (1)"),
        ({"prototypes": torch.ones(3)}, "prototypes (1)"),
        ({"projector.0.weight": torch.ones(3, 4), "projector.0.bias": torch.ones(3)}, "projector (2)"),
    ],
    ids=["criterion", "tensor", "head"],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_unexpected_tensors_are_ignored_and_named(
    tmp_path: Path, extra: State, named: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    found, said = outcome({"state_dict": prefixed(trained(), prefix) | extra}, tmp_path / "w.pt")
    assert holds(found, trained())
    assert f"ignored, as the network has none: {named}" in said
    assert said in caplog.text


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(
    "extra",
    [{"conv.gain": torch.ones(1)}, {"bn2.running_mean": torch.ones(3), "bn2.weight": torch.ones(3)}],
    ids=["inside a module", "another layer that normalizes"],
)
def test_a_larger_network_is_not_taken_for_this_one(tmp_path: Path, extra: State, prefix: str) -> None:
    error = refusal(prefixed(trained() | extra, prefix), tmp_path / "w.pt")
    assert f"{len(extra)} unexpected: {', '.join(extra)}" in error.message


def test_misfit_names_actual_and_expected_keys(tmp_path: Path) -> None:
    content = {"model": {"layer1.weight": torch.ones(2), "layer2.weight": torch.ones(2)}, "epoch": 1}
    message = refusal(content, tmp_path / "w.pt").message
    assert "read at 'model'" in message
    assert "found layer1.weight, layer2.weight, expected conv.weight, conv.bias, bn.weight ..." in message


class Tied(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.bn, self.b = nn.BatchNorm1d(3), self.a


def test_a_layer_under_two_names_is_read_from_safetensors(tmp_path: Path) -> None:
    network, other = Tied(), Tied()
    save_model(network, str(tmp_path / "w.safetensors"))
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other.b.weight, network.a.weight)
    untied = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "bn": nn.BatchNorm1d(3)})
    load_weights(untied, tmp_path / "w.safetensors")
    assert torch.equal(untied.get_parameter("b.weight"), network.a.weight)
    assert torch.equal(untied.get_parameter("a.weight"), network.a.weight)


def test_a_network_with_a_layer_under_two_names_takes_a_file_with_one(tmp_path: Path) -> None:
    network, other = Tied(), Tied()
    save_file({k: v.clone() for k, v in network.state_dict().items() if k[:2] != "b."}, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other.b.weight, network.a.weight)


def test_lazy_layers_take_weights_before_they_are_made(tmp_path: Path) -> None:
    def build() -> nn.Sequential:
        return nn.Sequential(nn.LazyConv2d(4, 1), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2)).eval()

    made, lazy, x = build(), build(), torch.ones(2, 3, 2, 2)
    made(x)
    torch.save({"model": made.state_dict()}, tmp_path / "w.pt")
    load_weights(lazy, tmp_path / "w.pt")
    assert torch.equal(lazy(x), made(x))

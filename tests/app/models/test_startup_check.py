"""The check at start-up: what a network's output is, and what no trained network holds."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typer.testing import CliRunner

from adapters import AdaptiveModel
from app.cli import cli
from app.errors import ModelError
from app.models import load
from app.models.hosted import Hosted, Preprocessing
from app.models.startup_check import Trial, pictures, try_network
from app.settings import Settings

HOW = Preprocessing(16, 16, "bilinear", (0.5,) * 3, (0.25,) * 3)


class Net(nn.Module):
    """A small network whose scores are spread, so that a second softmax would show."""

    def __init__(self, classes: int = 5, ending: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, classes)
        self.head.weight.data *= 8
        for statistic in (self.bn.running_mean, self.bn.running_var):
            assert statistic is not None
            statistic.uniform_(0.5, 1.5)
        self.ending = ending

    def scores(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.bn(self.conv(x)).relu().mean((2, 3)))
        return out

    def forward(self, x: Tensor) -> Any:
        return self.ending(self.scores(x))


def tried(network: nn.Module) -> tuple[Trial, Tensor]:
    """The trial, and the probabilities that the server would answer for its pictures."""
    trial = try_network(network.eval(), HOW)
    with torch.no_grad():
        return trial, trial.network(pictures(HOW)).softmax(1)


def expected(network: Net, ending: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        return ending(network.eval().scores(pictures(HOW)))


def softmax(x: Tensor) -> Tensor:
    return x.softmax(1)


def test_logits_stay_as_they_are() -> None:
    trial, shares = tried(Net())
    assert (trial.classes, trial.notes) == (5, ())
    torch.testing.assert_close(shares, expected(Net(), softmax))


@pytest.mark.parametrize(
    "ending",
    [softmax, lambda x: x.bfloat16().softmax(1), lambda x: x.softmax(1).half()],
    ids=["float", "bfloat", "half"],
)
def test_probabilities_are_answered_as_they_are(ending: Callable[[Tensor], Tensor]) -> None:
    trial, shares = tried(Net(ending=ending))
    assert "softmax" in trial.notes[0]
    torch.testing.assert_close(shares, expected(Net(), softmax), atol=1e-2, rtol=1e-2)


def with_and_without(share: Tensor) -> Tensor:
    return torch.cat([1 - share, share], 1)


@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["spread", "near zero"])
@pytest.mark.parametrize("flat", [False, True], ids=["column", "flat"])
@pytest.mark.parametrize("sigmoid", [False, True], ids=["logit", "probability"])
def test_one_output_is_one_class_or_none(scale: float, flat: bool, sigmoid: bool) -> None:
    def ending(x: Tensor) -> Tensor:
        x = (x * scale + 0.3).sigmoid() if sigmoid else x * scale + 0.3
        return x[:, 0] if flat else x

    trial, shares = tried(Net(1, ending))
    assert trial.classes == 2
    assert ("sigmoid" if sigmoid else "logit") in trial.notes[0]
    truth = expected(Net(1), lambda x: with_and_without((x * scale + 0.3).sigmoid()))
    torch.testing.assert_close(shares, truth, atol=1e-5, rtol=1e-5)


def test_several_labels_an_image_are_refused() -> None:
    with pytest.raises(ModelError, match="ends in a sigmoid") as refused:
        tried(Net(ending=torch.sigmoid))
    assert "before the sigmoid" in refused.value.hint


def test_logits_within_zero_and_one_are_logits() -> None:
    trial, _ = tried(Net(ending=lambda x: x * 1e-4 + 0.5))
    assert trial.notes == ()


@dataclass
class Answer:
    logits: Tensor
    features: Tensor


class Pair(NamedTuple):
    embedding: Tensor
    pred: Tensor


def maps(x: Tensor) -> Tensor:
    return x[:, :, None, None].expand(-1, -1, 2, 2)


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "list": lambda x: [x],
    "tuple": lambda x: (x, maps(x)),
    "second": lambda x: (maps(x), None, x),
    "dict": lambda x: {"out": x, "aux": x[:, :3]},
    "only": lambda x: {"anything": x, "map": maps(x), "loss": None},
    "dataclass": lambda x: Answer(x, x[:, :2]),
    "named tuple": lambda x: Pair(x[:, :2], x),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_obvious_output_is_served(form: str) -> None:
    trial, shares = tried(Net(ending=FORMS[form]))
    assert trial.classes == 5
    torch.testing.assert_close(shares, expected(Net(), softmax))
    model = AdaptiveModel(trial.network, "adabn")
    assert model(pictures(HOW)).shape == (2, 5)


UNCLEAR: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "two": (lambda x: (x, x[:, :3]), r"\[0\] \[2, 5\], \[1\] \[2, 3\]"),
    "maps": (maps, r"\[2, 5, 2, 2\]"),
    "none": (lambda x: {"loss": x.sum()}, r"loss \[\]"),
    "text": (lambda x: "cat", "str"),
    "one row": (lambda x: x[:1], r"\[1, 5\]"),
}


@pytest.mark.parametrize("form", UNCLEAR)
def test_ambiguous_outputs_are_listed(form: str) -> None:
    ending, listed = UNCLEAR[form]
    with pytest.raises(ModelError, match=listed):
        tried(Net(ending=ending))


def spoiled(name: str, value: float) -> Net:
    network = Net()
    network.get_parameter(name).data.view(-1)[0] = value
    return network


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["conv.weight", "head.bias"])
def test_weights_that_are_not_finite_are_refused(name: str, value: float) -> None:
    with pytest.raises(ModelError, match=f"'{name}' contain 1 values that are not finite"):
        tried(spoiled(name, value))


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_statistics_that_no_training_leaves_are_refused(name: str) -> None:
    network = Net()
    network.bn.get_buffer(name)[2] = -0.5 if name == "running_var" else float("nan")
    with pytest.raises(ModelError, match=f"bn.{name}"):
        tried(network)


def test_an_output_that_overflows_is_refused() -> None:
    with pytest.raises(ModelError, match="output is not finite for ordinary pictures"):
        tried(Net(ending=lambda x: x * 1e38 * 1e38))


def test_constant_output_is_noted() -> None:
    assert (
        "same output for two different pictures" in tried(Net(ending=lambda x: x * 0 + torch.arange(5.0)))[0].notes[0]
    )


NONE: dict[str, tuple[int, Callable[[Tensor], Any], str]] = {
    "hard_sigmoid": (5, F.hardsigmoid, "ends in a sigmoid"),
    "sigmoid_by_hand": (5, lambda x: 1 / (1 + (-x).exp()), "ends in a sigmoid"),
    "sigmoid_of_tanh": (5, lambda x: (x.tanh() + 1) / 2, "ends in a sigmoid"),
    "sigmoid_without_gradients": (5, lambda x: x.detach().sigmoid(), "ends in a sigmoid"),
    "log_sigmoid": (5, F.logsigmoid, "ends in a sigmoid"),
    "one_log_sigmoid": (1, F.logsigmoid, "output is that of a logsigmoid"),
    "one_tanh": (1, torch.tanh, "output is that of a tanh"),
    "one_softmax": (1, lambda x: x.softmax(1), "output is that of a softmax"),
    "one_relu": (1, F.relu, "output is that of a relu"),
    "class_numbers": (5, lambda x: x.argmax(1), "int64, which holds no scores"),
    "rounded": (5, lambda x: x.round().long(), "int64, which holds no scores"),
    "booleans": (5, lambda x: x > 0, "bool, which holds no scores"),
    "complex": (5, lambda x: torch.complex(x, x), "complex64, which holds no scores"),
    "sparse": (5, lambda x: x.to_sparse(), "sparse, which holds no scores"),
    "best": (5, lambda x: x.max(1), r"\[0\] \[2\], \[1\] \[2\]"),
    "best_two": (5, lambda x: x.topk(2), r"\[0\] \[2, 2\], \[1\] \[2, 2\]"),
}
"""How many outputs a network has, its ending, and what is said of that: nothing that classes can be told by."""


@pytest.mark.parametrize("ending", NONE)
def test_an_output_that_is_no_score_of_each_class_is_refused(ending: str) -> None:
    classes, made, told = NONE[ending]
    with pytest.raises(ModelError, match=told) as refused:
        tried(Net(classes, made))
    assert "\n" not in str(refused.value)


def test_percentages_are_probabilities() -> None:
    trial, shares = tried(Net(ending=lambda x: 100 * x.softmax(1)))
    assert "sum to 100" in trial.notes[0]
    torch.testing.assert_close(shares, expected(Net(), softmax))


# What the check makes of an output leaves everything else as it is


class TwoScores(Net):
    """What a network of one output means: no score for nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(x)).relu().mean((2, 3)))  # type: ignore[no-any-return]


def of_two_scores() -> nn.Module:
    network, one = TwoScores(2), Net(1)
    for mine, given in zip(network.head.parameters(), one.head.parameters(), strict=True):
        mine.data = torch.cat([torch.zeros_like(given.data), given.data])
    return network


MADE: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "softmax": (lambda: Net(ending=softmax), Net),
    "log_softmax": (lambda: Net(ending=lambda x: x.log_softmax(1)), Net),
    "softmax_in_a_tuple": (lambda: Net(ending=lambda x: (maps(x), x.softmax(1))), Net),
    "probabilities_by_name": (lambda: Net(ending=lambda x: {"features": x * 2, "probs": x.softmax(1)}), Net),
    "logit": (lambda: Net(1), of_two_scores),
    "sigmoid": (lambda: Net(1, torch.sigmoid), of_two_scores),
    "flat_sigmoid": (lambda: Net(1, lambda x: x.sigmoid().view(-1)), of_two_scores),
    "sigmoid_in_a_list": (lambda: Net(1, lambda x: [x.sigmoid()]), of_two_scores),
    "compiled": (lambda: torch.compile(Net(ending=softmax), backend="eager"), Net),  # type: ignore[dict-item,return-value]
    "spread": (lambda: nn.DataParallel(Net(ending=softmax)), Net),
}
"""Networks whose output has to be understood, and the same with plain logits."""


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "taken"])
@pytest.mark.parametrize("name", ["adabn", "adabn+lame", "lame", "tent"])
@pytest.mark.parametrize("form", MADE)
def test_a_network_that_is_understood_is_the_one_that_gives_logits(form: str, name: str, copied: bool) -> None:
    made, plain = MADE[form]
    params: dict[str, Any] = {"lr": 0.01} if name == "tent" else {}
    ours = AdaptiveModel(try_network(made().eval(), HOW).network, name, copy=copied, **params)
    theirs = AdaptiveModel(plain().eval(), name, **params)
    for seed in range(3):
        x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(ours(x).softmax(1), theirs(x).softmax(1), rtol=1e-5, atol=1e-5)
    assert [site.name for site in ours.sites] == [site.name for site in theirs.sites] == ["bn"]
    assert ours.state_bytes() == theirs.state_bytes()
    theirs.load_state_dict(ours.state_dict())
    for mine, yours in zip(ours.memories().values(), theirs.memories().values(), strict=True):
        assert torch.equal(mine.row, yours.row)


# Types and parts that stood in the way of hosting


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        layers = nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(*layers, nn.LazyLinear(5))


def quantized() -> nn.Module:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    network: nn.Module = quantize(Net(), {nn.Linear}, dtype=torch.qint8)
    return network


def locked() -> nn.Module:
    network = Net()
    network.lock = threading.Lock()  # type: ignore[assignment]
    return network


def scripted() -> nn.Module:
    network: Any = Net()
    network.conv = torch.jit.script(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()))
    return network  # type: ignore[no-any-return]


def lambdas() -> nn.Module:
    return Net(ending=lambda x: x + 0)


ODD: dict[str, Callable[[], nn.Module]] = {
    **{kind: lambda kind=kind: getattr(Net(), kind)() for kind in ("half", "bfloat16", "double")},  # type: ignore[misc]
    **{made.__name__: made for made in (Lazy, locked, scripted, lambdas)},
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("copied", [True, False], ids=["copied", "taken"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ODD)
def test_networks_of_other_types_and_parts_are_hosted(kind: str, dtype: torch.dtype | None, copied: bool) -> None:
    if kind == "scripted" and dtype is not None:
        dtype = None  # a scripted part keeps the types that it was written for
    trial = try_network(ODD[kind]().eval(), HOW)
    trial.network.requires_grad_(False)
    model = AdaptiveModel(trial.network, "adabn", copy=copied, dtype=dtype)
    assert model(pictures(HOW)).shape == (2, 5)
    assert next(iter(model.memories().values())).row.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("copied", [True, False], ids=["copied", "taken"])
def test_dynamically_quantized_layers_are_hosted(copied: bool) -> None:
    trial = try_network(quantized().eval(), HOW)
    assert AdaptiveModel(trial.network, "adabn", copy=copied)(pictures(HOW)).shape == (2, 5)


class Casting(Net):
    """Has weights of another type and turns its input into that."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.to(dtype)

    def forward(self, x: Tensor) -> Any:
        return self.scores(x.to(self.dtype))


class CastingOne(Net):
    """The same of its first layer."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.conv.to(dtype)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.bn(self.conv(x.to(self.dtype)).float()).relu().mean((2, 3)))


@pytest.mark.parametrize("name", ["source", "adabn", "tent"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [Casting, CastingOne])
def test_a_network_that_casts_its_input_keeps_its_type(kind: Any, dtype: torch.dtype, name: str) -> None:
    trial = try_network(kind(dtype).eval(), HOW)
    assert str(dtype).removeprefix("torch.") in trial.notes[0]
    ours, theirs = AdaptiveModel(trial.network, name), AdaptiveModel(Net(), name)
    for n in (1, 3):
        x = torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))
        torch.testing.assert_close(ours(x).float().softmax(1), theirs(x).softmax(1), atol=2e-2, rtol=0)
    (memory,) = ours.memories().values()
    assert memory.row.dtype == torch.float32


def test_a_network_that_casts_its_input_runs_in_no_other_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = BINARY.replace("def build():\n    return nn.Sequential(", "def build():\n    return nn.Sequential(Half(), ")
    half = "class Half(nn.Module):\n    def forward(self, x): return x.half()\n"
    body = half + body.replace(".eval()", ".eval().half()")
    assert "its weights stay float16" in hosted(tmp_path, body, monkeypatch).notes[0]
    with pytest.raises(ModelError, match="cannot run in bfloat16") as refused:
        hosted(tmp_path, body, monkeypatch, dtype="bfloat16")
    assert "leave out --dtype" in refused.value.hint


class Needing(Net):
    def forward(self, x: Tensor, targets: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x)


def test_forward_with_further_arguments_is_explained() -> None:
    with pytest.raises(ModelError, match="missing 1 required positional argument") as refused:
        tried(Needing())
    assert "batch of images and nothing else" in refused.value.hint


# What a person should know of the layers and of the answers


class Frozen(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("running_var")[:, None, None]


def beside(layer: nn.Module) -> Net:
    network = Net()
    network.bn = nn.Sequential(network.bn, layer)  # type: ignore[assignment]
    return network


class Learning(Net):
    """Its last BatchNorm takes the statistics of the batch, and remembers them."""

    def scores(self, x: Tensor) -> Tensor:
        mean, var = self.bn.running_mean, self.bn.running_var
        x = F.batch_norm(self.conv(x), mean, var, self.bn.weight, self.bn.bias, True, 0.1)
        out: Tensor = self.head(x.relu().mean((2, 3)))
        return out


def untrained() -> Net:
    network = Net()
    network.bn.reset_running_stats()
    return network


NOTED: dict[str, tuple[Callable[[], Net], str]] = {
    "frozen": (lambda: beside(Frozen(6)), r"1 layers .* not adapted: bn\.1 \(Frozen\)"),
    "instance": (
        lambda: beside(nn.InstanceNorm2d(6, track_running_stats=True)),
        r"not adapted: bn\.1 \(InstanceNorm2d\)",
    ),
    "untrained": (untrained, "those of untrained layers"),
    "chance": (lambda: Net(ending=lambda x: x + torch.rand(())), "changes from call to call"),
    "dropout": (lambda: Net(ending=lambda x: F.dropout(x, 0.3)), "changes from call to call"),
    "writing": (Learning, r"writes to its own tensors \(bn\.running_mean, bn\.running_var\)"),
}


@pytest.mark.parametrize("kind", NOTED)
def test_notes_on_the_network_leave_it_unchanged(kind: str) -> None:
    made, told = NOTED[kind]
    before = {name: tensor.clone() for name, tensor in made().state_dict().items()}
    trial = try_network(made().eval(), HOW)
    (note,) = trial.notes
    assert re.search(told, note)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trial.network.state_dict().items())


def test_a_layer_that_stays_in_training_mode_is_noted() -> None:
    class Stubborn(Net):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.head.train()
            return self

    assert "eval() left head in training mode" in try_network(Stubborn().eval(), HOW).notes[0]


# Through the server's own ways


def hosted(tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Hosted:
    (tmp_path / "nets.py").write_text(f"import torch\nfrom torch import nn\n{body}")
    monkeypatch.chdir(tmp_path)
    return load(Settings(model="python:nets.py:build", size=16, **settings))


BINARY = (
    "def build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1),"
    " nn.Flatten(), nn.Linear(4, 1)).eval()\n"
)


@pytest.mark.parametrize(
    ("labels", "names"), [("crack\n", ["not crack", "crack"]), ("good\nbad\n", ["good", "bad"])], ids=["one", "two"]
)
def test_the_class_of_one_output_has_a_name(
    labels: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.txt").write_text(labels)
    assert hosted(tmp_path, BINARY, monkeypatch, labels=tmp_path / "labels.txt").classes == names


def test_describe_shows_what_the_check_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.bn, self.aux, self.head = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Linear(3, 4)\n"
        "    def forward(self, x): return self.head(self.bn(x).mean((2, 3)).detach()).softmax(1)\n"
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["describe", "--json", "--model", "python:nets.py:Net", "--size", "16"])
    assert result.exit_code == 0, result.output
    info = json.loads(result.stdout)
    softmaxed, untrained, unreached, learning = info["notes"]
    assert "untrained layers" in untrained
    assert "ends in a softmax" in softmaxed
    assert "1 BatchNorm layers are not used in the forward, so they are not adapted: aux" in unreached
    assert "learners cannot train this model" in learning
    assert [site["name"] for site in info["sites"]] == ["bn"]
    refused = CliRunner().invoke(
        cli, ["describe", "--model", "python:nets.py:Net", "--size", "16", "--strategy", "tent"]
    )
    assert refused.exit_code == 1
    assert "cannot change anything" in refused.stderr

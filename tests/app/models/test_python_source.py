"""A user's own network by the name of its factory."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app.errors import ModelError
from app.models import load
from app.models.hosted import Hosted
from app.settings import Settings

SOURCE = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, outputs=3):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.drop, self.head = nn.Dropout(0.9), nn.Linear(4, outputs)

        def forward(self, x):
            return self.head(self.drop(self.bn(self.conv(x)).mean((2, 3))))

    def small():
        torch.manual_seed(0)
        return Net()

    def needs(outputs):
        return Net(outputs)

    def breaks():
        raise OSError("no disk")

    def path():
        return "net.pt"

    net, number = Net(), 7
"""
NUMBERS = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of the directory that renorm is started in, under a name that is used once."""
    package = f"userpackage{next(NUMBERS)}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "nets.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / package / "broken.py").write_text("import surely_not_installed\n")
    (tmp_path / package / "wrong.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield package
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def hosted(target: str, **said: Any) -> Hosted:
    return load(Settings(model=f"python:{target}", **said))


def refused(target: str, **said: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        hosted(target, **said)
    return caught.value


def test_a_factory_of_the_current_directory_is_hosted(module: str) -> None:
    found = hosted(f"{module}.nets:small", size=40)
    assert (found.name, found.source) == (f"{module}.nets.small", f"python:{module}.nets:small")
    assert found.architecture == "Net"
    assert found.classes == ["class 0", "class 1", "class 2"]
    assert (found.preprocessing.size, found.preprocessing.resize) == (40, 40)
    assert found.preprocessing.mean == (0.485, 0.456, 0.406)
    x = torch.ones(2, 3, 40, 40)
    assert torch.equal(found.network(x), found.network(x))


def test_a_class_is_a_factory_and_224_pixels_are_assumed(module: str) -> None:
    assert hosted(f"{module}.nets:Net").preprocessing.size == 224


def test_weights_labels_and_preprocessing_are_the_users(module: str, tmp_path: Path) -> None:
    state = {key: torch.full_like(value, 2) for key, value in hosted(f"{module}.nets:Net").network.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "labels.json").write_text('["a", "b", "c"]')
    found = hosted(
        f"{module}.nets:Net",
        weights=tmp_path / "w.safetensors",
        labels=tmp_path / "labels.json",
        mean=(0, 0, 0),
        std=(1, 1, 1),
        size=8,
    )
    assert all(torch.equal(value, state[key]) for key, value in found.network.state_dict().items())
    assert found.classes == ["a", "b", "c"]
    assert (found.preprocessing.mean, found.preprocessing.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("target", ["", "nets", ":f", "nets:", "nets:f()", "../nets:f", ".nets:f", "nets.py:f:g"])
def test_a_target_of_another_form_is_refused(target: str) -> None:
    assert "python:PACKAGE.MODULE:FACTORY" in refused(target).hint


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("absent:f", "cannot import the module 'absent'"),
        ("MODULE.absent:f", "cannot import the module 'MODULE.absent'"),
        ("MODULE.broken:f", "cannot import .*: ModuleNotFoundError: No module named 'surely_not_installed'"),
        ("MODULE.wrong:f", "cannot import .*: SyntaxError"),
        ("MODULE.nets:absent", "'absent' of the module 'MODULE.nets' does not exist"),
        ("MODULE.nets:number", "not a factory but of type int"),
        ("MODULE.nets:net", "not a factory but of type Net"),
        ("MODULE.nets:needs", "without arguments fails: TypeError: .*'outputs'"),
        ("MODULE.nets:breaks", "without arguments fails: OSError: no disk"),
        ("MODULE.nets:path", "returned str, not a network"),
    ],
)
def test_failing_factories_are_explained(module: str, target: str, told: str) -> None:
    error = refused(target.replace("MODULE", module))
    assert pytest.raises(ModelError, match=told.replace("MODULE", module)).matches(error)


def test_absent_factory_lists_the_callables(module: str) -> None:
    assert "small" in refused(f"{module}.nets:smal").hint

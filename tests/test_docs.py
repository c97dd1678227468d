"""What the documentation shows works as shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import STRATEGIES, AdaptiveModel
from adapters.checks import check_adapter
from app.models.resnet20 import ResNet20

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_strategy_of_the_plugin_page_passes_the_battery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In a module of its own: dataclasses look their annotations up there.
    (tmp_path / "halfway.py").write_text(blocks(ROOT / "docs" / "plugin.md", "python")[0])
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("halfway")
    check_adapter(module.Halfway())
    network = ResNet20()
    bn, half = (AdaptiveModel(network, strategy) for strategy in ("bn", module.Halfway(share=1.0)))
    images = torch.rand(4, 3, 32, 32)
    assert torch.allclose(bn(images), half(images), atol=1e-5)


def test_the_linear_strategy_of_the_plugin_page_passes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page,) = [block for block in blocks(ROOT / "docs" / "plugin.md", "python") if "class Following(Linear)" in block]
    (tmp_path / "following.py").write_text(page)
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("following")
    check_adapter(module.Following(share=0.3))
    assert module.Following().linear


def test_the_python_of_the_models_page_runs() -> None:
    torch.manual_seed(0)
    scope: dict[str, Any] = {"network": ResNet20().eval(), "images": torch.rand(4, 3, 32, 32)}
    exec(blocks(ROOT / "docs" / "models.md", "python")[-1], scope)  # noqa: S102
    assert scope["logits"].shape == (4, 10)
    assert len(scope["model"].state_dict()["streams"]) == 1


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_is_in_the_tables(name: str) -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "strategies.md"):
        assert f"| `{name}` |" in page.read_text(), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []

"""The spread of what images show: measured without data, as photographs have it, once and before the first step."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, Request, Shrinkage, Source
from adapters.engine.execution import Execution
from adapters.probes import spread
from adapters.probes.leaves import draw_leaves
from tests.nets import Dense, Head1d, Tiny, Twice, images, seeded
from tests.sample_streams import hosted
from tests.sample_streams import images as photographs


@cache
def _measured() -> AdaptiveModel:
    model = AdaptiveModel(hosted().network, "shrinkage")
    model(photographs("clean")[:1])
    return model


def _spreads(model: AdaptiveModel, shown: Tensor) -> list[tuple[float, float]]:
    """Of the network as it is hosted, at each site: the share of the variance that lies between images, and the
    variance of the logarithm of that within them.
    """
    found: list[tuple[float, float]] = []
    sites = iter(model.sites)

    def note(_: nn.Module, args: tuple[Tensor]) -> None:
        x = args[0].flatten(2).double()
        between, within = x.mean(2).var(0, correction=0), x.var(2, correction=0)
        contrast = (within @ next(sites).precision.double()).log().var(correction=0)
        found.append((float((between / (between + within.mean(0))).mean()), float(contrast)))

    handles = [
        layer.register_forward_pre_hook(note)
        for layer in hosted().network.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        hosted().network(shown)
    for handle in handles:
        handle.remove()
    return found


def test_dead_leaves_spread_as_photographs_do() -> None:
    model = _measured()
    ratios = [
        site.spread / share
        for site, (share, _) in zip(model.sites, _spreads(model, photographs("clean")), strict=True)
        if site.depth <= Shrinkage().adapted_depth and share > 0.02
    ]
    assert len(ratios) >= 14
    assert sorted(ratios)[len(ratios) // 2] == pytest.approx(1.0, abs=0.3)
    assert min(ratios) > 0.4
    assert max(ratios) < 2.0


MIXTURE = torch.cat([photographs(of)[k::4] for k, of in enumerate(("contrast", "fog", "gaussian_noise", "clean"))])


@pytest.mark.parametrize(
    ("shown", "is_mixed"),
    [(photographs(of), False) for of in ("clean", "contrast", "fog", "gaussian_noise")] + [(MIXTURE, True)],
    ids=["clean", "contrast", "fog", "gaussian_noise", "mixture"],
)
def test_contrast_tells_a_mixture_of_corruptions_from_each_of_them(shown: Tensor, is_mixed: bool) -> None:
    model, adapter = _measured(), Shrinkage()
    ratios = [
        contrast / site.contrast_spread
        for site, (_, contrast) in zip(model.sites, _spreads(model, shown), strict=True)
        if site.depth <= adapter.adapted_depth
    ]
    level = sorted(ratios)[len(ratios) // 2]
    assert level > 1.2 * adapter.mixture if is_mixed else level < 0.8 * adapter.mixture


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 5, 9), (4, 64, 16)])
def test_leaves_are_the_same_at_every_call_and_of_unit_variance(shape: tuple[int, int, int]) -> None:
    leaves = draw_leaves(4, shape)
    torch.manual_seed(5)
    assert torch.equal(leaves, draw_leaves(4, shape))
    assert leaves.shape == (4, *shape)
    assert float(leaves.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(leaves.std()) == pytest.approx(1.0, abs=1e-5)
    assert all(not torch.equal(leaves[0], other) for other in leaves[1:])


def test_spread_is_measured_once_and_only_for_adapters_that_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Size] = []

    def measure(_: object, image: Tensor) -> dict[int, tuple[float, float]]:
        calls.append(image.shape)
        return {0: (0.25, 0.5)}

    monkeypatch.setattr("adapters.model.measure_spread", measure)
    model = AdaptiveModel(seeded(Tiny), "adabn")
    model(images(2))
    assert not calls
    assert all(math.isinf(site.spread) for site in model.sites)
    for k in range(3):
        model.predict([Request(images(2, k), "a", Shrinkage()), Request(images(1, k), "b", Source())])
    assert calls == [torch.Size([1, *images(1).shape[1:]])]
    assert [site.spread for site in model.sites] == [0.25] + [math.inf] * (len(model.sites) - 1)
    assert [site.contrast_spread for site in model.sites] == [0.5] + [math.inf] * (len(model.sites) - 1)


def test_images_that_are_refused_measure_nothing() -> None:
    model = AdaptiveModel(seeded(Tiny), "shrinkage")
    with pytest.raises(ValueError, match="contain NaN"):
        model(images(1) * math.nan)
    assert not model.sites.has_spreads
    assert not model.memories()


@pytest.mark.parametrize("network", [Dense, Head1d, Twice, Tiny])
def test_sites_that_show_one_value_have_no_spread_and_all_calls_of_a_layer_have(network: type[nn.Module]) -> None:
    model = AdaptiveModel(seeded(network), "shrinkage")
    first = model(images(2))
    assert model.sites.has_spreads
    has_images = images(2).dim() == 4
    found = {site.name: site.spread for site in model.sites}
    assert any(0.0 < value < 1.0 for value in found.values()) == has_images
    assert torch.equal(first, AdaptiveModel(seeded(network), "shrinkage")(images(2)))


def test_vectors_have_no_spread() -> None:
    model = AdaptiveModel(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), "shrinkage")
    model(torch.randn(2, 4))
    assert model.sites.has_spreads
    assert math.isinf(model.sites[0].spread)


def test_shortcuts_of_the_forward_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of layers by the trial forward are not taken for those of the first one."""
    models = [AdaptiveModel(seeded(Tiny), name) for name in ("adabn", "shrinkage")]
    for model in models:
        model(images(2))
    taken: list[Execution] = [model._execution for model in models]
    assert [execution._direct is None for execution in taken] == [taken[0]._direct is None] * 2
    assert taken[0]._in_place == taken[1]._in_place


class OneImage(nn.Module):
    """Works for one image at a time only."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.within = nn.BatchNorm2d(3), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.within(self.bn(x).mean((2, 3)).view(1, 3))
        return logits


def test_a_network_for_one_image_at_a_time_is_adapted_without_a_spread(caplog: pytest.LogCaptureFixture) -> None:
    model = AdaptiveModel(OneImage(), "auto")
    for k in range(3):
        assert model(images(1, k)).shape == (1, 3)
    assert all(math.isinf(site.spread) for site in model.sites)
    assert "how far content spreads images apart stays unknown: 32 images at once fail with RuntimeError" in caplog.text


@pytest.mark.parametrize(("side", "count"), [(16, 32), (224, 32), (288, 20), (1000, 8)])
def test_large_images_are_fewer(side: int, count: int) -> None:
    assert spread.count_images(3 * side * side) == count

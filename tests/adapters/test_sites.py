"""Which BatchNorm positions are found, and what is refused with which words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adapters import UnsupportedModelError
from adapters.sites import Sites
from tests.nets import Tiny, Twice, randomized, seeded


def test_sites_hold_what_training_left_by_name_and_in_order() -> None:
    network = seeded(Twice)
    sites = Sites(network)
    assert [site.name for site in sites] == ["bn", "last"]
    assert len(sites) == 2
    for site, layer in zip(sites, (network.bn, network.last), strict=True):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        for ours, theirs in (
            (site.mean, layer.running_mean),
            (site.var, layer.running_var),
            (site.weight, layer.weight),
            (site.bias, layer.bias),
        ):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()
            assert not ours.requires_grad
        assert (site.eps, site.channels) == (layer.eps, 6)
        assert torch.equal(site.trained.mean, site.mean)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_every_kind_of_batchnorm_is_a_site_even_as_the_root(layer: type[nn.BatchNorm2d]) -> None:
    sites = Sites(layer(4))
    assert [(site.name, site.channels) for site in sites] == [("(root)", 4)]
    assert sites.kind(0) == layer.__name__


def test_without_affine_weight_is_one_and_bias_zero() -> None:
    site = Sites(randomized(nn.BatchNorm2d(3, affine=False)))[0]
    assert site.weight.tolist() == [1.0, 1.0, 1.0]
    assert site.bias.tolist() == [0.0, 0.0, 0.0]


def test_sites_of_a_half_precision_network_are_float32() -> None:
    site = Sites(seeded(Tiny).half())[0]
    assert {part.dtype for part in (site.mean, site.var, site.weight, site.bias)} == {torch.float32}


def test_a_module_used_under_two_names_is_one_site() -> None:
    layer = nn.BatchNorm2d(3)
    assert [site.name for site in Sites(nn.Sequential(layer, nn.ReLU(), layer))] == ["0"]


def test_later_calls_of_a_layer_become_sites_of_their_own() -> None:
    sites = Sites(seeded(Twice))
    assert sites.position("last", 1) == 1
    assert sites.position("bn", 2) == 2
    assert sites.position("bn", 2) == 2
    assert [site.name for site in sites] == ["bn", "last", "bn#2"]
    assert torch.equal(sites[2].mean, sites[0].mean)
    assert sites.kind(2) == "BatchNorm2d"


def test_the_buffers_recognise_the_layers() -> None:
    network = seeded(Twice)
    assert Sites(network).buffers() == {id(network.bn.running_mean): "bn", id(network.last.running_mean): "last"}


class Modern(nn.Module):
    """Normalizes, but not by batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.LayerNorm(4), nn.LayerNorm(4), nn.GroupNorm(1, 4)])


class FrozenBatchNorm2d(nn.Module):
    """As detection libraries have it: not a BatchNorm to torch."""


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Modern(), "Modern has no BatchNorm layer.*found: 2 LayerNorm, 1 GroupNorm.*host a network that has them"),
        (nn.Sequential(nn.Linear(2, 2)), "Sequential has no BatchNorm layer.*found: none"),
        (
            nn.Sequential(FrozenBatchNorm2d()),
            "1 FrozenBatchNorm2d; frozen layers must be converted back to BatchNorm2d",
        ),
        (
            nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))),
            r"1 of 2 BatchNorm layers have no trained statistics \(track_running_stats=False\): 1.0. Build them with",
        ),
        (
            nn.Sequential(*(nn.BatchNorm2d(3, track_running_stats=False) for _ in range(7))),
            "7 of 7 BatchNorm layers .*: 0, 1, 2, 3, 4, ...",
        ),
        (nn.Sequential(nn.LazyBatchNorm2d()), "layer 0 is lazy and has not seen data: run one forward"),
    ],
)
def test_networks_without_sites_are_refused_by_name(network: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        Sites(network)

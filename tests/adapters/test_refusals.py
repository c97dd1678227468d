"""Requests and networks that cannot be served are refused, in words that help, and nothing is learned from them."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters import AdaptiveModel, InputError, Request
from adapters import UnsupportedModelError as Unsupported
from tests.nets import Folding, Pair, Tiny, images, seeded

NO_REQUESTS: list[Any] = [
    images(2),
    images(2).numpy(),
    Request(images(2)),
    [images(2)],
    [Request(images(1)), images(1)],
    (Request(images(1)) for _ in range(2)),
    "request",
    None,
]
UNHASHABLE: list[Any] = [["camera-7"], {"camera": 7}]
NO_IMAGES: list[Any] = [images(1).numpy(), [[0.5]], "image.jpg", None]


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "predict needs at least one request"),
        *((wrong, r"must be a list of Request: pass \[Request\(images\)\]") for wrong in NO_REQUESTS),
        *(([Request(wrong)], "must be a tensor, not .*torch.as_tensor") for wrong in NO_IMAGES),
        *(([Request(images(1)), Request(wrong)], "must be a tensor, not") for wrong in NO_IMAGES),
        *(([Request(images(1), wrong)], "stream must be hashable, such as text, not ") for wrong in UNHASHABLE),
        ([Request(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))], "must be a floating-point tensor, .* not torch.uint8"),
        ([Request(torch.zeros(2, 3, 8, 8, dtype=torch.int64))], "must be a floating-point tensor, .* not torch.int64"),
        ([Request(torch.zeros(0, 3, 8, 8))], r"\[n, ...\] with n >= 1, not \[0, 3, 8, 8\]"),
        ([Request(torch.zeros(5))], r"\[n, ...\] with n >= 1, not \[5\]"),
        ([Request(torch.zeros(())), Request(images(1))], r"\[n, ...\] with n >= 1, not \[\]"),
        (
            [Request(images(1)), Request(images(1, size=9))],
            r"one shape .* \[3, 16, 16\] .* \[3, 9, 9\] .*once for each",
        ),
        ([Request(images(1)), Request(images(1).double())], "torch.float32 and .* torch.float64"),
    ],
)
def test_bad_input_is_refused(requests: list[Request], words: str) -> None:
    model = AdaptiveModel(seeded(Tiny))
    for call in (model.predict, partial(model.run, memories={})):
        with pytest.raises(InputError, match=words):
            call(requests)
    assert model.state_dict()["streams"] == []


@pytest.mark.parametrize("wrong", NO_IMAGES, ids=str)
def test_images_that_are_no_tensor_are_refused_by_every_call_that_takes_images(wrong: Any) -> None:
    model = AdaptiveModel(seeded(Tiny))
    for call in (model, model.moments, model.warm_up):
        with pytest.raises(InputError, match="must be a tensor, not"):
            call(wrong)
    assert model.state_dict()["streams"] == []


@pytest.mark.parametrize(
    ("network", "image"),
    [
        (Tiny(), torch.rand(3, 16, 16)),
        (nn.BatchNorm2d(3), torch.rand(3, 3, 16)),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), torch.rand(3, 8, 8)),
        (nn.BatchNorm3d(3), torch.rand(3, 4, 4, 4)),
    ],
    ids=["small network", "layer", "in place", "3d"],
)
def test_a_single_image_without_a_batch_axis_is_refused(network: nn.Module, image: Tensor) -> None:
    model = AdaptiveModel(network)
    for steps in (0, 1):
        with pytest.raises(InputError, match=r"without a batch axis: .* pass a single image as images\[None\]"):
            model(image, stream="refused")
        assert [entry["stream"] for entry in model.state_dict()["streams"]] == ["answered"] * steps
        model(image[None], stream="answered")


@pytest.mark.parametrize("wrong", [nn.BatchNorm2d, "resnet18", nn.BatchNorm2d(3).state_dict(), None], ids=str)
def test_factory_without_a_network_is_refused(wrong: Any) -> None:
    with pytest.raises(Unsupported, match=r"must be an instance of torch\.nn\.Module, not "):
        AdaptiveModel(wrong)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            Folding(),
            r"layer bn sees 6 rows for 2 images: networks that fold other axes \(frames, .*, tokens\).* images\[None\]",
        ),
        (Pair(), r"a tuple with \[0\] \[2, 3, 16, 16\], \[1\] .*wrap the network"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(0)), r"for 2 images it returns \[1536\]"),
    ],
)
def test_networks_that_cannot_be_served_are_refused_at_their_first_forward(network: nn.Module, words: str) -> None:
    model = AdaptiveModel(network)
    with pytest.raises(Unsupported, match=words):
        model(images(2))
    assert model.state_dict()["streams"] == []


class Unused(Tiny):
    """Has a BatchNorm but does not use it."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.conv(x).mean((2, 3)))
        return out


def test_a_network_that_reaches_no_batchnorm_is_refused() -> None:
    with pytest.raises(Unsupported, match="reached none of the network's BatchNorm layers"):
        AdaptiveModel(seeded(Unused))(images(2))


@pytest.mark.parametrize("convert", ["script", "trace", "export"])
def test_scripted_traced_and_exported_networks_are_refused(convert: str) -> None:
    network = seeded(Tiny).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        converted = {
            "script": lambda: torch.jit.script(network),  # type: ignore[no-untyped-call]
            "trace": lambda: torch.jit.trace(network, images(2)),  # type: ignore[no-untyped-call]
            "export": lambda: torch.export.export(network, (images(2),)).module(),
        }[convert]()
    with pytest.raises(Unsupported, match="hide their layers, so host the eager"):
        AdaptiveModel(converted)

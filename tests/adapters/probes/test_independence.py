"""Networks that mix or reorder the images of a batch are refused before streams share a forward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapters import AdaptiveModel, UnsupportedModelError
from tests.nets import Tiny, images, seeded


class Sorted(Tiny):
    """Goes through its images by their brightness; the answers are in the order of the request."""

    def forward(self, x: Tensor) -> Tensor:
        order = x.mean((1, 2, 3)).argsort()
        return super().forward(x[order])[order.argsort()]


class Reversed(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flip(0)).flip(0)


class Centred(Tiny):
    """Takes off the mean of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class Whitened(Tiny):
    """Normalizes by the statistics of the batch without a layer for it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.batch_norm(x, None, None, training=True))


class Ranked(Tiny):
    """Only the answers depend on the others."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(0)


class Noisy(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


class Half(Tiny):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=["floats", "pixels"])
@pytest.mark.parametrize("kind", [Sorted, Reversed, Centred, Whitened, Ranked])
def test_images_that_depend_on_others_are_refused(kind: type[Tiny], dtype: torch.dtype) -> None:
    model = AdaptiveModel(seeded(kind), prepare=lambda x: x / 255 if x.dtype == torch.uint8 else x)
    with pytest.raises(UnsupportedModelError, match="output for an image depends on the other images"):
        model.warm_up(images(1).abs().mul(50).to(dtype))
    assert not model.memories()


@pytest.mark.parametrize("kind", [Tiny, Noisy, Half])
def test_independent_images_are_accepted(kind: type[Tiny]) -> None:
    model = AdaptiveModel(seeded(kind))
    model.warm_up(images(1))
    assert model(images(2)).isfinite().all()

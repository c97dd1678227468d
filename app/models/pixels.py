"""From decoded pixels to the network's input, a whole batch at once on the model's device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from app.models.hosted import Preprocessing


class Pixels(nn.Module):
    """Scale pixels to [0, 1] and normalize them by channel: ``(x / 255 - mean) / std``.

    ``forward`` maps uint8 ``[n, H, W, 3]`` to float32 ``[n, 3, H, W]`` in channels_last memory format. The pixels stay
    where they are: decoders write the channels of a pixel side by side, which is what channels_last means. Numbers that
    are floating already are the network's input, prepared by a client, and pass through.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """The network's input for a batch of ``pixels``."""
        if pixels.is_floating_point():
            return pixels
        batch = pixels.permute(0, 3, 1, 2).to(torch.float32, copy=True)
        # In place, because the copy is ours: another one would cost more than the arithmetic.
        return batch.div_(255).sub_(self.mean).div_(self.std)

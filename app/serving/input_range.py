"""Which numbers a picture can give after a model's normalization: others are refused before a stream learns them."""

from __future__ import annotations

import torch
from torch import Tensor

from app.errors import FieldError
from app.models.hosted import Preprocessing

ROOM = 0.5
"""How far beyond black and white a number may lie, in units of the distance between them.

Bicubic and Lanczos resampling of floats overshoots by up to a fifth, half precision rounds, and another data set's mean
and deviation reach to a seventh beyond. Raw pixels lie hundreds of units out, images that are normalized twice one or
more.
"""


class InputRange:
    """The numbers of each channel that lie between black and white, ``(0 - mean) / std`` and ``(1 - mean) / std``."""

    def __init__(self, how: Preprocessing) -> None:
        self._formula = f"(x / 255 - {tuple(how.mean)}) / {tuple(how.std)}"
        self._mean, self._std = torch.tensor(how.mean), torch.tensor(how.std)
        self._black, self._white = (0.0 - self._mean) / self._std, (1.0 - self._mean) / self._std
        room = ROOM / self._std
        self._low, self._high = self._black - room, self._white + room

    def check(self, images: Tensor) -> None:
        """Refuse images ``[n, 3, size, size]`` that hold what no picture can give. Only finite numbers are compared.

        Raises:
            FieldError: of the first such image, which it names.
        """
        low, high = torch.aminmax(images.flatten(2), dim=2)
        beyond = ((low < self._low) | (high > self._high)).any(1)
        if beyond.any():
            worst = int(beyond.nonzero()[0])
            raise self._refused(images[worst], f"images[{worst}]")

    def _refused(self, image: Tensor, location: str) -> FieldError:
        found = f"{float(image.min()):.4g} to {float(image.max()):.4g}"
        expected = f"{float(self._black.min()):.4g} to {float(self._white.max()):.4g}"
        return FieldError(
            f"the image's numbers reach from {found}, and those of a picture normalized for this model from {expected}",
            hint=f"{self._mistake(image)}; a server with RENORM_INPUT_RANGE=off takes any numbers",
            location=location,
        )

    def _mistake(self, image: Tensor) -> str:
        low, high = float(image.min()), float(image.max())
        formula = self._formula
        if low >= 0 and high <= 255:
            return f"these look like raw pixels, 0 to 255: send them as UINT8, or send {formula}"
        if low >= 0 and high <= 65535 and bool((image == image.round()).all()):
            return f"these look like raw pixels of 16 bits: scale them to 0 to 255 and send UINT8, or send {formula}"
        once = image * self._std[:, None, None] + self._mean[:, None, None]
        per_channel = torch.aminmax(once.flatten(1), dim=1)
        if bool(((per_channel.min >= self._low) & (per_channel.max <= self._high)).all()):
            return f"these look like an image that was normalized twice: send {formula}, once"
        return f"check the preprocessing: send {formula}, or pixels as UINT8"

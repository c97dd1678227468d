"""The range of values that an image can have after the model's normalization: others are refused."""

from __future__ import annotations

import torch
from torch import Tensor

from app.errors import FieldError
from app.models.hosted import Preprocessing

MARGIN = 0.5
"""The distance beyond black and white that is tolerated, in units of the distance between them.

Bicubic and Lanczos resampling of floats overshoots by up to a fifth, half precision rounds, and another data set's mean
and deviation reach a seventh beyond. Raw pixels lie hundreds of units out, images normalized twice one or more.
"""


class InputRange:
    """The values of each channel between black, ``(0 - mean) / std``, and white, ``(1 - mean) / std``."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._formula = f"(x / 255 - {tuple(preprocessing.mean)}) / {tuple(preprocessing.std)}"
        self._mean, self._std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self._black, self._white = (0.0 - self._mean) / self._std, (1.0 - self._mean) / self._std
        margin = MARGIN / self._std
        self._low, self._high = self._black - margin, self._white + margin

    def check(self, images: Tensor) -> None:
        """Check that images ``[n, 3, size, size]``, whose values are finite, lie in the range.

        Raises:
            FieldError: a value lies outside; the error names the first such image.
        """
        low, high = torch.aminmax(images.flatten(2), dim=2)
        beyond = ((low < self._low) | (high > self._high)).any(1)
        if beyond.any():
            worst = int(beyond.nonzero()[0])
            raise self._range_error(images[worst], worst)

    def _range_error(self, image: Tensor, index: int) -> FieldError:
        actual = f"{float(image.min()):.4g} to {float(image.max()):.4g}"
        expected = f"{float(self._black.min()):.4g} to {float(self._white.max()):.4g}"
        return FieldError(
            f"the image's values range from {actual}, and those of an image normalized for this model from {expected}",
            hint=f"{self._cause(image)}; a server with RENORM_INPUT_RANGE=off accepts any finite values",
            image=index,
        )

    def _cause(self, image: Tensor) -> str:
        low, high = float(image.min()), float(image.max())
        formula = self._formula
        if low >= 0 and high <= 255:
            return f"these look like raw pixels, 0 to 255: send them as UINT8, or send {formula}"
        if low >= 0 and high <= 65535 and bool((image == image.round()).all()):
            return f"these look like 16-bit raw pixels: scale them to 0 to 255 and send UINT8, or send {formula}"
        restored = image * self._std[:, None, None] + self._mean[:, None, None]
        per_channel = torch.aminmax(restored.flatten(1), dim=1)
        if bool(((per_channel.min >= self._low) & (per_channel.max <= self._high)).all()):
            return f"these look like an image that was normalized twice: send {formula}, once"
        return f"check the preprocessing: send {formula}, or pixels as UINT8"

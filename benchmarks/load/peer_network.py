"""The network of the comparison as a peer hosts it: `.eval()`, with Renorm's preprocessing, and without adaptation."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from app.images import ImageLimits, decode
from app.models import load
from app.models.pixels import Pixels
from app.settings import Settings


class PeerNetwork:
    """Decodes images and answers them with the bundled network."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        settings = Settings()
        hosted = load(settings)
        self.classes = hosted.classes
        self._how = hosted.preprocessing
        self._network, self._pixels = hosted.network.eval(), Pixels(self._how)
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)

    def decode(self, files: Sequence[bytes | str]) -> Tensor:
        """Pixels uint8 ``[n, size, size, 3]`` of encoded images; a text is base64."""
        plain = [base64.b64decode(file) if isinstance(file, str) else file for file in files]
        decoded = [decode(file, self._how, self._limits) for file in plain]
        return torch.from_numpy(np.stack(decoded))

    def predict(self, pixels: Tensor) -> Tensor:
        """Probabilities ``[n, classes]``."""
        with torch.inference_mode():
            probabilities: Tensor = self._network(self._pixels(pixels)).softmax(1)
        return probabilities

    def best(self, probabilities: Tensor) -> tuple[list[int], list[float]]:
        """The most probable class of each image, and its probability."""
        maxima = probabilities.max(1)
        return maxima.indices.tolist(), maxima.values.tolist()

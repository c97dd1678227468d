"""Temperature scaling: confidences made to match the accuracy.

>>> Temperature(2.0).correct(Nothing(), torch.zeros(1, 0), torch.tensor([[0.0, 2.0]]))[0]
tensor([[0.2689, 0.7311]])
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adapters.base import Corrector, Nothing
from adapters.params import Checked, param


@dataclass(frozen=True)
class Temperature(Checked, Corrector[Nothing]):
    """Divide the logits by a temperature: ``softmax(logits / temperature)``. Above 1 it makes answers less confident.

    The largest class stays the largest. The temperature is fitted offline on labelled data of the training domain, as
    ``renorm calibrate-temperature`` does, for one network and one strategy: it does not calibrate confidences under a
    shift, or after an adaptation that it was not fitted with. Remembers nothing.

    Paper: Guo et al. 2017, "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
    """

    temperature: float = param(1.0, "The divisor of the logits; above 1 lowers the confidence.", above=0.0)

    def init(self, features: int, classes: int) -> Nothing:
        """Return an empty state."""
        del features, classes
        return Nothing()

    def is_active(self, state: Nothing) -> bool:
        """Return whether the temperature changes probabilities."""
        del state
        return self.temperature != 1.0

    def correct(self, state: Nothing, features: Tensor, logits: Tensor) -> tuple[Tensor, Nothing]:
        """Return the softmax of the divided logits, ``[n, classes]``."""
        del features
        # Measured from the largest in double precision, so that no temperature however small divides 0 by 0.
        wide = logits.double()
        scaled = (wide - wide.amax(-1, keepdim=True)) / self.temperature
        return scaled.softmax(-1).to(logits.dtype), state

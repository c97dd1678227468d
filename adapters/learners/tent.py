"""Tent: one gradient step per request on the entropy of the answers.

>>> Tent().loss(torch.zeros(8, 2))
tensor(0.6931)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapters.learners.descent import Descent


@dataclass(frozen=True)
class Tent(Descent):
    """Move the affine parameters toward confident answers: one gradient step per request on their mean entropy.

    The loss is ``-mean_i sum_k p_ik ln p_ik`` with ``p = softmax(logits)``. Made for requests of many images of many
    classes: on single images, or where all images of a request show one class, it collapses all answers into one class,
    so watch the drift or use it with a small ``lr``. Published settings: Adam with 1e-3 and 200 images a request on
    CIFAR-10-C, ``sgd`` with 2.5e-4 and 64 images on ImageNet-C.

    Paper: Wang et al. 2021, "Tent: Fully Test-time Adaptation by Entropy Minimization" (ICLR 2021), section 3.
    """

    adapter: ClassVar[str] = "bn"

    def loss(self, logits: Tensor) -> Tensor:
        """Return the mean entropy of the answers, in nats."""
        logs = logits.log_softmax(1)
        return -(logs.exp() * logs).sum(1).mean()

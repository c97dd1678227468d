"""Alpha-BN: trained and request statistics mixed by a fixed weight, or by the request's size.

>>> AlphaBN(prior=16).weights(images=48)
Weights(own=0.75, remembered=0.0, trained=0.25, momentum=0.0, unbiased=False)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from adapters.errors import ParameterError
from adapters.normalization.linear import Linear, Weights
from adapters.params import check, param

DEFAULT_PRIOR = 16.0


@dataclass(frozen=True)
class AlphaBN(Linear):
    """Mix the trained statistics with those of the request, ``a`` being the weight of the trained ones.

    ``mean = a mean_s + (1 - a) mean_B`` and ``var = a var_s + (1 - a) var_B``, where ``a = source_weight``, or
    ``a = N0 / (N0 + n)`` for a request of n images and ``prior`` N0 (16 where neither is given). Variances are biased;
    ``unbiased`` takes the request's as ``var_B * values / (values - 1)``, as the authors' code does. Published
    configurations often name the weight of the *request*: their 0.1 is ``source_weight=0.9``. Remembers nothing.

    Papers: You, Li and Zhao 2021, "Test-time Batch Statistics Calibration for Covariate Shift" (alpha-BN);
    Schneider et al. 2020, "Improving robustness against common corruptions by covariate shift adaptation" (prior N0).
    """

    remembers: ClassVar[bool] = False

    source_weight: float | None = param(
        None, "Fixed weight of the trained statistics; set this or prior.", low=0.0, high=1.0
    )
    prior: float | None = param(
        None, "Trained statistics count as this many images: weight N0/(N0+n). 16 if neither is given.", low=0.0
    )
    unbiased: bool = param(False, "Use the unbiased variance of the request, as the authors' code does.")

    def __post_init__(self) -> None:
        check(self)
        if self.source_weight is not None and self.prior is not None:
            raise ParameterError("set source_weight or prior, not both: each determines the weight of the source")

    def weights(self, images: int) -> Weights:
        """Return the weights of request and trained statistics."""
        trained = self._source_weight(images)
        return Weights(own=1.0 - trained, remembered=0.0, trained=trained, momentum=0.0, unbiased=self.unbiased)

    def _source_weight(self, images: int) -> float:
        if self.source_weight is not None:
            return self.source_weight
        prior = DEFAULT_PRIOR if self.prior is None else self.prior
        return prior / (prior + images)

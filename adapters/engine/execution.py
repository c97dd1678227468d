"""Runs a network for a plan, the eager way: what its code allows is found out in the first forward."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor, nn

from adapters.engine.calling import SwitchesKept
from adapters.engine.drift import FirstSite, first_site
from adapters.engine.features import Head
from adapters.engine.forward import NORMALIZATIONS, AdaptingForward, Direct
from adapters.engine.inplace import Watch, unread
from adapters.engine.outcome import ForwardOutput
from adapters.engine.outliers import distances
from adapters.engine.outputs import logits_of
from adapters.engine.plan import Plan
from adapters.engine.request import check_output
from adapters.errors import UnsupportedModelError
from adapters.learners.optimizers import outside_inference_mode
from adapters.sites import Sites

log = logging.getLogger("renorm")


class Execution:
    """One network, and where its BatchNorm layers may write over their input or be asked directly.

    Both is what the network's code allows, once a forward has confirmed it.
    """

    def __init__(self, network: nn.Module, sites: Sites) -> None:
        self._network, self._sites = network, sites
        self._first: tuple[frozenset[str], Direct] | None = (unread(network), Direct(sites.layers))
        self._unread: frozenset[str] = frozenset()
        self._direct: Direct | None = None
        self._head = Head(network)
        self.reached: frozenset[int] = frozenset()  # the sites that a forward has met so far
        sites.follow()

    @property
    def features(self) -> int:
        """How many features the last layer reads; 0 where it is not linear, and before the first forward."""
        return self._head.width

    def run(self, plan: Plan, images: Tensor) -> ForwardOutput:
        """One forward.

        What comes out is made ordinary: a network may turn on autocast, gradients or inference mode in its own forward,
        and nothing of that may stay in what streams remember.

        Raises:
            UnsupportedModelError: no site was reached, or the output is not one row per image.
        """
        taken = AdaptingForward(self._sites, plan, self._unread)
        with self._head.watched(asked=plan.reads_features), SwitchesKept():
            logits = logits_of(self._answered(taken, images))
        check_output(logits, plan.images)
        self.reached |= taken.seen.keys()
        features = outside_inference_mode(self._head.features(logits).detach())
        rows = [outside_inference_mode(group.steps.rows().detach()) for group in plan.groups]
        index, *tensors, pixels = first_site(taken.seen, taken.first)
        moments, used = (outside_inference_mode(tensor.detach()) for tensor in tensors)
        first, far = FirstSite(index, moments, used, pixels), distances(self._sites, taken.seen)
        return ForwardOutput(outside_inference_mode(logits.detach()), first, rows, features, far, taken.adapt_s)

    def _answered(self, taken: AdaptingForward, images: Tensor) -> Any:
        if self._first is not None:
            return self._watched(taken, images, *self._first)
        if self._direct is None:
            with taken:
                return self._network(images)
        self._direct.taken = taken
        try:
            return self._network(images)
        finally:
            self._direct.taken = None

    def _watched(self, taken: AdaptingForward, images: Tensor, proven: frozenset[str], direct: Direct) -> Any:
        """The first forward: it shows what the network's code alone cannot."""
        watch = Watch(self._sites.buffers(), NORMALIZATIONS)
        with taken, watch:
            logits = self._network(images)
        self._unread = proven - watch.read_again()
        self._direct = direct if proven and direct.calls == taken.calls else None
        self._first = None
        switched = [name or "(root)" for name, module in self._network.named_modules() if module.training]
        if switched:
            raise UnsupportedModelError(
                f"the network's forward sets training = True ({', '.join(switched[:5])}): dropout would make answers "
                "random; take that out of its forward"
            )
        missed = [site.name for index, site in enumerate(self._sites) if index not in taken.seen]
        if missed and taken.seen:
            log.warning(
                "%d of %d BatchNorm layers are not reached by the network's forward and not adapted: %s",
                *(len(missed), len(self._sites), ", ".join(missed[:5]) + (", ..." if len(missed) > 5 else "")),
            )
        return logits

"""Run a network eagerly for a plan; the first forward finds out which shortcuts its code allows."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor, nn

from adapters.engine.calling import GlobalStateGuard
from adapters.engine.drift import FirstSite, first_site
from adapters.engine.features import Head
from adapters.engine.forward import NORMALIZATIONS, AdaptingForward, DirectCalls
from adapters.engine.inplace import ReadWatch, in_place_layers
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
    """Runs one network, with the shortcuts that its code allows once a forward has confirmed them.

    These are BatchNorm layers that write over their input, and layers that call the engine without a torch mode.
    """

    def __init__(self, network: nn.Module, sites: Sites) -> None:
        self._network, self._sites = network, sites
        self._first: tuple[frozenset[str], DirectCalls] | None = (in_place_layers(network), DirectCalls(sites.layers))
        self._in_place: frozenset[str] = frozenset()
        self._direct: DirectCalls | None = None
        self._head = Head(network)
        self.reached: frozenset[int] = frozenset()  # the sites that a forward has met so far
        sites.track_calls()

    @property
    def head(self) -> Head:
        """The reader of features, which knows where they are after the first forward."""
        return self._head

    def run(self, plan: Plan, images: Tensor) -> ForwardOutput:
        """Run one forward.

        What comes out is made ordinary: a network may turn on autocast, gradients or inference mode in its own forward,
        and nothing of that may stay in what streams remember.

        Raises:
            UnsupportedModelError: no site was reached, or the output is not one row per image.
        """
        forward = AdaptingForward(self._sites, plan, self._in_place)
        with self._head.watch(is_needed=plan.reads_features), GlobalStateGuard():
            logits = logits_of(self._call_network(forward, images))
        check_output(logits, plan.images)
        self.reached |= forward.moments.keys()
        features = outside_inference_mode(self._head.features(logits).detach())
        rows = [outside_inference_mode(group.steps.rows().detach()) for group in plan.groups]
        index, *tensors, pixels = first_site(forward.moments, forward.first_statistics)
        moments, statistics = (outside_inference_mode(tensor.detach()) for tensor in tensors)
        first, image_distances = FirstSite(index, moments, statistics, pixels), distances(self._sites, forward.moments)
        logits = outside_inference_mode(logits.detach())
        return ForwardOutput(logits, first, rows, features, image_distances, forward.adapt_s)

    def _call_network(self, forward: AdaptingForward, images: Tensor) -> Any:
        if self._first is not None:
            return self._first_forward(forward, images, *self._first)
        if self._direct is None:
            with forward:
                return self._network(images)
        self._direct.forward_mode = forward
        try:
            return self._network(images)
        finally:
            self._direct.forward_mode = None

    def _first_forward(
        self, forward: AdaptingForward, images: Tensor, candidates: frozenset[str], direct: DirectCalls
    ) -> Any:
        """Run the first forward, which finds the properties that the network's code does not show."""
        watch = ReadWatch(self._sites.buffers(), NORMALIZATIONS)
        with forward, watch:
            logits = self._network(images)
        self._in_place = candidates - watch.layers_read_again()
        self._direct = direct if candidates and direct.calls == forward.calls else None
        self._first = None
        training = [name or "(root)" for name, module in self._network.named_modules() if module.training]
        if training:
            raise UnsupportedModelError(
                f"the network's forward sets training = True ({', '.join(training[:5])}): dropout would make answers "
                "random; remove that from its forward"
            )
        unreached = [site.name for index, site in enumerate(self._sites) if index not in forward.moments]
        if unreached and forward.moments:
            log.warning(
                "%d of %d BatchNorm layers are not reached by the network's forward and not adapted: %s",
                *(len(unreached), len(self._sites), ", ".join(unreached[:5]) + (", ..." if len(unreached) > 5 else "")),
            )
        return logits

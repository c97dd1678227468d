"""Who shares a forward, in which order, and with which states: made once before it, read at every site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.base import AnyAdapter, Site, Statistics
from adapters.composite import Composite, learner_of
from adapters.engine.affine import Affines, Learned, learned
from adapters.engine.grouped_steps import GroupedSteps, in_turn
from adapters.engine.linear_steps import LinearSteps, Part, linear_inputs
from adapters.engine.moments import Seen
from adapters.normalization.linear import Linear, as_linear
from adapters.sites import Sites
from adapters.state.memory import Key, Layouts, Memory


class Turn(NamedTuple):
    """A request as far as planning goes."""

    key: Key
    images: int
    update: bool
    pixels: Tensor = torch.empty(0)  # its images themselves, for those who learn from them later

    @property
    def corrected(self) -> bool:
        """Whether the strategy has correctors."""
        strategy = self.key.strategy
        return isinstance(strategy, Composite) and bool(strategy.correctors)

    @property
    def learns(self) -> bool:
        """Whether the request is to be learned from, once it is answered."""
        return self.update and learner_of(self.key.strategy) is not None


class Block(NamedTuple):
    """Requests that are stepped together: where their images lie in the forward, and whose states they have."""

    steps: LinearSteps | GroupedSteps
    images: slice
    keys: list[Key]


class Plan:
    """The order of a forward's images, and the steps to take at each site.

    The requests of all linear strategies are one block, those of every other strategy one block each. Images are
    ordered block by block, so that every block finds its own side by side.
    """

    def __init__(
        self,
        sites: Sites,
        turns: Sequence[Turn],
        memories: Mapping[Key, Memory],
        layout_of: Layouts,
        affines: Affines | None = None,
    ) -> None:
        self.sites, self.turns = sites, list(turns)
        self.outliers = [0] * len(self.turns)  # images of each request that nothing is learned from
        self.weights = [1.0] * len(self.turns)  # how much of its usual step each request moves a running average
        self._memories, self._layout_of = memories, layout_of
        self.order: list[int] = []  # the requests, as their images lie in the forward
        self.blocks: list[Block] = []
        self.images = 0
        linear: dict[int, Linear] = {}
        others: dict[AnyAdapter, list[int]] = defaultdict(list)
        for index, turn in enumerate(turns):
            rule = as_linear(turn.key.adapter)
            if rule is None:
                others[turn.key.adapter].append(index)
            else:
                linear[index] = rule
        if linear:
            self._add_linear(linear)
        for adapter, indices in others.items():
            self._add_grouped(adapter, indices)
        self.rows = self._rows()
        # Most forwards have none, and then nothing more is asked about them.
        self.composites = any(isinstance(turn.key.strategy, Composite) for turn in turns)
        self.learned = self._learned(affines) if affines is not None and self.composites else None

    @property
    def reads_features(self) -> bool:
        """Whether a corrector asks for the input of the network's last layer."""
        strategies = (turn.key.strategy for turn in self.turns) if self.composites else ()
        return any(isinstance(strategy, Composite) and strategy.reads_features for strategy in strategies)

    def step(self, index: int, site: Site, seen: Seen) -> Statistics:
        """What normalizes each image of the forward at a site: one row per image, or one row for all."""
        if len(self.blocks) == 1:
            return self.blocks[0].steps.step(index, site, seen)
        used = []
        for block in self.blocks:
            part = block.steps.step(index, site, Seen(seen.both[block.images], seen.pixels))
            images = block.images.stop - block.images.start
            used.append([tensor.expand(images, site.channels) for tensor in part])
        mean, var = zip(*used, strict=True)
        return Statistics(torch.cat(mean), torch.cat(var))

    def hold_back(self, far: Sequence[bool]) -> None:
        """Answer requests with images that are ``far`` from all that training showed, but learn nothing from them.

        ``far`` lies as the plan orders the images. Of a stream with several requests the later ones have met what those
        would have taught: they have to run again, as `adapters.engine.outcome` sees to.
        """
        for index, rows in enumerate(self.rows if any(far) else ()):
            self.outliers[index] = sum(far[rows])
            if self.outliers[index]:
                self.turns[index], self.weights[index] = self.turns[index]._replace(update=False), 0.0

    def faded(self, states: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        """The blocks' ``states`` where images have those ``weights``, which lie as the plan orders the images.

        A request weighs what its lightest image does. Only running averages, the states of linear strategies, can be
        moved a part of the way. Later requests of a stream have to run again, as in `hold_back`.
        """
        after = list(states)
        if min(weights) == 1.0:
            return after
        for place, block in enumerate(self.blocks):
            if not isinstance(block.steps, LinearSteps) or not block.keys:
                continue
            share = dict.fromkeys(block.keys, 1.0)
            for index, (turn, rows) in enumerate(zip(self.turns, self.rows, strict=True)):
                if turn.key in share and turn.update:
                    self.weights[index] = min(weights[rows])
                    share[turn.key] = min(share[turn.key], self.weights[index])
            parts = states[place].new_tensor(list(share.values()))[:, None]
            after[place] = torch.where(parts < 1, torch.lerp(block.steps.before(), states[place], parts), states[place])
        return after

    def _learned(self, affines: Affines) -> Learned | None:
        added = [self._added(self.turns[index].key) for index in self.order]
        return learned(affines.places, added, [self.turns[index].images for index in self.order])

    def _added(self, key: Key) -> Tensor | None:
        """What a stream has learned to add to the affine parameters, or None if it has learned nothing."""
        learner = learner_of(key.strategy)
        if learner is None or key not in self._memories:
            return None
        state = self._memories[key].parts[:1]
        return learner.affine(state[0]) if state and state[0] else None

    def _rows(self) -> list[slice]:
        """Where each request's images lie in the forward, by request."""
        rows = [slice(0)] * len(self.turns)
        start = 0
        for index in self.order:
            rows[index] = slice(start, start + self.turns[index].images)
            start = rows[index].stop
        return rows

    def _add_linear(self, rules: Mapping[int, Linear]) -> None:
        turns = [(self.turns[index], rule) for index, rule in rules.items()]
        keys = list(dict.fromkeys(turn.key for turn, rule in turns if rule.remembers))
        stream = {key: index for index, key in enumerate(keys)}
        parts = [Part(rule, turn.images, stream.get(turn.key), turn.update) for turn, rule in turns]
        steps = LinearSteps(parts, linear_inputs(parts, self._gather(keys)), list(self.sites))
        self._add(steps, list(rules), sum(turn.images for turn, _ in turns), keys)

    def _add_grouped(self, adapter: AnyAdapter, indices: list[int]) -> None:
        keys = list(dict.fromkeys(self.turns[index].key for index in indices))
        stream = {key: index for index, key in enumerate(keys)}
        turns = [(stream[self.turns[i].key], self.turns[i].images, self.turns[i].update) for i in indices]
        rows = self._gather(keys)
        groups = in_turn(turns, len(keys), rows.device)
        steps = GroupedSteps(adapter, self._layout_of(adapter), rows, groups)
        order = [indices[member] for group in groups for member in group.requests]
        self._add(steps, order, sum(images for _, images, _ in turns), keys)

    def before(self, key: Key) -> Tensor:
        """The row of a stream before the forward; a missing one is the row of a new stream."""
        layout = self._layout_of(key.adapter)
        return layout.complete(self._memories[key].row) if key in self._memories else layout.row

    def _gather(self, keys: Sequence[Key]) -> Tensor:
        """The rows of ``keys``."""
        rows = [self.before(key) for key in keys]
        if len(rows) == 1:
            return rows[0][None]
        return torch.stack(rows) if rows else self.sites[0].mean.new_empty(0, 0)

    def _add(self, steps: LinearSteps | GroupedSteps, order: list[int], images: int, keys: list[Key]) -> None:
        self.order += order
        self.blocks.append(Block(steps, slice(self.images, self.images + images), keys))
        self.images += images

"""Streams of a walk: images in an order, blended with weights that move along the path."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.evaluation.errors import EvaluationError
from app.evaluation.streams.streams import StreamPlan, domain_part
from app.evaluation.types import WALK, Blend, StreamOrder
from app.evaluation.walks.calibration import SHARES, Path, Walk

STEPS = 16
"""Steps from one corruption to the next; weights are constant within a step."""


def make_walk(plan: StreamPlan, walk: Walk, step_images: int | None = None) -> StreamOrder:
    """Make the stream of a walk.

    The part of each path shows ``STEPS * step_images`` images: those that `continual` shows of the corruption where the
    path begins, in its order, and again in other orders where they are too few. Without ``step_images`` it shows each
    once, so that a walk is about as long as `continual`. The domain of an image is the corruption with the larger
    weight. There are no resets.

    Raises:
        EvaluationError: ``step_images`` is less than 1.
    """
    if step_images is not None and step_images < 1:
        raise EvaluationError(f"a step needs at least 1 image, not {step_images}", hint="give 1 or more")
    images = [_images(plan, path.start, None if step_images is None else STEPS * step_images) for path in walk.paths]
    blended = [blend_path(path, len(part)) for path, part in zip(walk.paths, images, strict=True)]
    domain = np.concatenate([domain for domain, _ in blended])
    return StreamOrder(
        protocol=WALK,
        order=plan.order.name,
        seed=plan.seed,
        domain=domain,
        image=np.concatenate(images),
        segment=np.zeros(len(domain), np.int32),
        blend=Blend(
            np.concatenate([blend.second for _, blend in blended]),
            np.concatenate([blend.weights for _, blend in blended]),
        ),
    )


def blend_path(path: Path, count: int) -> tuple[NDArray[np.int32], Blend]:
    """Return the domains, ``[count]``, and the blend of ``count`` images along a path, in `STEPS` steps.

    Step j has the weights at the share ``j / STEPS``, linear between the calibrated points; the next path begins with
    the weights at the share 1.
    """
    shares = np.arange(count) * STEPS // count / STEPS
    weights = np.stack([np.interp(shares, SHARES, path.weights[:, i]) for i in (0, 1)], 1)
    is_later = weights[:, 1] > weights[:, 0]
    numbers = np.array([path.start, path.end], np.int32)
    return numbers[is_later.astype(int)], Blend(
        numbers[1 - is_later.astype(int)], np.where(is_later[:, None], weights[:, ::-1], weights).astype(np.float32)
    )


def _images(plan: StreamPlan, number: int, count: int | None) -> NDArray[np.int64]:
    parts = [domain_part(plan, number).image]
    while count is not None and sum(map(len, parts)) < count:
        parts.append(domain_part(plan, number, len(parts)).image)
    return np.concatenate(parts)[:count]

"""The meaning of a network's output: logits, probabilities, or neither."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapters.engine.outputs import Form, named_logits
from app.errors import ModelError

CLOSE = 1e-3
"""Tolerance of a row's sum around one for probabilities: the rounding of half precision."""

BRIGHT = 1e6
"""Factor on pictures that drives unbounded scores out of any range."""

_RESHAPING = ("View", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy", "Clone", "Reshape", "Alias", "Clamp")
"""Names of autograd's nodes that may stand behind a sigmoid and leave its numbers within 0 and 1."""

_NONLINEAR = ("Tanh", "LogSigmoid", "Relu", "LeakyRelu", "Softplus", "Softmax", "Gelu", "Elu", "Silu", "Hardtanh")
"""Nodes that no logit of a single class comes from, because some probabilities would never be answered."""

Network = Callable[[Tensor], object]


def scores_of(output: object, images: int) -> tuple[str, Tensor]:
    """Return name and scores ``[images, classes]`` of a network's output; the name of a bare tensor is empty.

    Raises:
        ModelError: there is no such tensor, several are candidates, or it holds no scores.
    """
    name, logits = named_logits(output)
    description = f"a {type(output).__name__}, its '{name}'" if name else "a tensor"
    if logits.layout != torch.strided or not logits.is_floating_point():
        kind = str(logits.dtype).removeprefix("torch.") if logits.layout == torch.strided else "sparse"
        raise _shape_error(
            images, f"{description} of type {kind}, which holds no scores", "return the scores before that conversion"
        )
    if logits.shape == (images,):
        return name, logits.view(images, 1)
    if logits.dim() == 2 and len(logits) == images and logits.shape[1] > 0:
        return name, logits
    raise _shape_error(
        images,
        f"{description} of shape {list(logits.shape)}",
        "wrap it in a module whose forward returns the logits alone",
    )


def _shape_error(images: int, answer: str, hint: str) -> ModelError:
    return ModelError(
        f"the network returns {answer} for {images} images, expected logits of shape [{images}, classes]", hint=hint
    )


def form_of(network: Network, output: Tensor, images: Tensor) -> tuple[Form, str]:
    """Return the form of the scores ``output`` ``[n, classes]`` of ``images``, and a note for the user.

    Raises:
        ModelError: no class probabilities can be made of them; the hint has the remedy.
    """
    classes, sums = output.shape[1], output.sum(1)
    is_positive, is_within = bool((output >= 0).all()), bool(((output >= 0) & (output <= 1)).all())
    if is_within and classes > 1 and bool(((sums - 1).abs() < CLOSE).all()):
        return "probabilities", "it ends in a softmax: its output is taken as probabilities"
    # Not one, and the same for different pictures: percentages.
    if is_positive and classes > 1 and bool(((sums / sums[0] - 1).abs() < CLOSE).all()) and _rows_differ(output):
        return "probabilities", f"its outputs sum to {float(sums[0]):.4g} for any picture: taken as probabilities"
    last = _last_operation(network, images)
    is_sigmoid = is_within and ("Sigmoid" in last or (_rows_differ(output) and _is_bounded(network, images)))
    if classes > 1 and (is_sigmoid or "LogSigmoid" in last):
        raise ModelError(
            "the network ends in a sigmoid: its outputs lie within 0 and 1, or are their logarithms, and do not sum to "
            "one, as for images of several labels",
            hint="only single-label classifiers are supported: return the scores before the sigmoid",
        )
    if classes > 1:
        return "logits", ""
    if is_sigmoid:
        return "probability", "it has one output and ends in a sigmoid: taken as the probability of its class"
    activation = next((kind for kind in _NONLINEAR if last.startswith(kind)), None)
    if activation is not None:
        raise ModelError(
            f"the network's only output is that of a {activation.lower()}, which is neither a logit nor a probability",
            hint=f"return the score before the {activation.lower()}, whose sigmoid is the probability of the class",
        )
    return "logit", "it has one output: taken as the logit of its class, whose probability is the sigmoid"


def _rows_differ(rows: Tensor) -> bool:
    return bool((rows[0] - rows[1]).abs().max() > CLOSE * rows.abs().max())


def _is_bounded(network: Network, images: Tensor) -> bool:
    """Tell whether outputs stay within 0 and 1 for pictures that drive scores far beyond."""
    try:
        with torch.no_grad():
            rows = torch.cat([named_logits(network(sign * BRIGHT * images))[1].float() for sign in (1, -1)])
    except Exception:
        return False  # errors of the network's own code on invalid images
    return bool(((rows >= 0) & (rows <= 1)).all())


def _last_operation(network: Network, images: Tensor) -> str:
    """Return the name of the last operation that computes anything; empty where gradients are off.

    Scores may lie within 0 and 1 by chance, so autograd is asked what made them.
    """
    try:
        with torch.enable_grad():
            node = named_logits(network(images.clone().requires_grad_()))[1].grad_fn
    except Exception:
        return ""  # a network that leaves torch on its way, for one
    while node is not None and any(word in node.name() for word in _RESHAPING):
        node = next((step for step, _ in node.next_functions if step is not None), None)
    return "" if node is None else node.name()

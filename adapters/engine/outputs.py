"""Find the logits in the output of a network, or convert the output to logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapters.errors import UnsupportedModelError

Form = Literal["logits", "probabilities", "logit", "probability"]
"""The meaning of an output: scores or probabilities of all classes, or of the one class of a binary classifier."""

NAMES = (
    *("logits", "out", "output", "outputs", "pred", "preds", "prediction", "predictions", "scores", "cls"),
    *("y_hat", "probs", "probabilities"),
)
"""Names of the logits in outputs with several tensors, the most specific first."""

SMALLEST = 1e-30
"""The smallest probability, so that its logarithm is finite."""


def logits_of(output: Any) -> Any:
    """Return the one obvious tensor in a tuple, list, mapping, dataclass or object; a tensor as it is.

    That is the tensor with one of `NAMES`, or the only one of shape ``[n]`` or ``[n, classes]``.

    Raises:
        UnsupportedModelError: it is not obvious; the message lists what is there.
    """
    return output if isinstance(output, Tensor) else named_logits(output)[1]


def named_logits(output: Any) -> tuple[str, Tensor]:
    """Return the name or index of the logits in an output, and the logits; no name where they are alone.

    Raises:
        UnsupportedModelError: it is not obvious.
    """
    if isinstance(output, Tensor):
        return "", output
    tensors = {name: part for name, part in _parts(output) if isinstance(part, Tensor)}
    rows = {name: part for name, part in tensors.items() if part.dim() in (1, 2) and part.is_floating_point()}
    names = [name for name in NAMES if name in rows] or list(rows)
    # Integers of the same shape are indices: the tensors next to them are not the scores of all classes.
    is_picked = names and any(
        part.shape == rows[names[0]].shape and not part.is_floating_point() for part in tensors.values()
    )
    if names and (names[0] in NAMES or (len(rows) == 1 and not is_picked)):
        return names[0], rows[names[0]]
    listed = ", ".join(f"{name} {list(part.shape)}" for name, part in tensors.items()) or "no tensor"
    raise UnsupportedModelError(
        f"the network returns a {type(output).__name__} with {listed}, and none of them is clearly the logits "
        f"[n, classes]: named {', '.join(NAMES[:3])} ..., or the only one of such a shape; wrap the network in a "
        "module whose forward returns only the logits"
    )


def _parts(output: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(output, Mapping):
        yield from ((str(name), part) for name, part in output.items())
    elif hasattr(output, "_fields"):
        yield from zip(output._fields, output, strict=True)
    elif isinstance(output, (tuple, list)):
        yield from ((f"[{i}]", part) for i, part in enumerate(output))
    elif is_dataclass(output):
        yield from ((field.name, getattr(output, field.name)) for field in fields(output))
    else:
        yield from getattr(output, "__dict__", {}).items()


@dataclass(frozen=True)
class ToLogits:
    """A forward hook of a whole network that makes logits of its answers: their softmax is what the answers mean.

    A hook and no module around the network, so that its layers keep their names.
    """

    form: Form = "logits"

    def __call__(self, network: nn.Module, inputs: Any, output: Any) -> Tensor:
        """Logits ``[n, classes]``; with one class two, without it and with it."""
        del network, inputs
        logits: Tensor = logits_of(output)
        if self.form == "logits":
            return logits
        logits = logits.float()
        if self.form in ("logit", "probability"):
            logits = logits.view(len(logits), 1)
            without = torch.zeros_like(logits) if self.form == "logit" else 1 - logits
            logits = torch.cat([without, logits], 1)
        return logits if self.form == "logit" else logits.clamp_min(SMALLEST).log()


def are_same_scores(scores: Tensor, logits: Tensor) -> bool:
    """Return whether two outputs of a forward differ only in rounding, a shift of each row, and one scale of all.

    So do scores of a last layer and what a network's end makes of them: softmax and its logarithm, a temperature, a
    float of a half, two classes of one.
    """
    if scores.dim() != 2 or logits.dim() != 2 or len(scores) != len(logits):
        return False
    close = 1e-4 if scores.dtype == logits.dtype == torch.float32 else 5e-2
    first, second = scores.detach().float(), logits.detach().float()
    if first.shape[1] == 1 and second.shape[1] == 2:
        first = torch.cat([torch.zeros_like(first), first], 1)
    if first.shape != second.shape:
        return False
    # The logarithms of probabilities that were rounded to zero carry no information.
    first_logs, second_logs = (part.log_softmax(1).clamp_min(-60) for part in (first, second))
    if torch.allclose(first_logs, second_logs, rtol=close, atol=close):
        return True
    first, second = (part - part.mean(1, keepdim=True) for part in (first, second))
    if first.numel() - len(first) < 2:
        return False  # two numbers always have some scale
    scale = (first * second).sum() / first.square().sum().clamp_min(SMALLEST)
    return bool(scale > 0) and bool((scale * first - second).abs().max() <= close * second.abs().max())

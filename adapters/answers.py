"""Find the logits in what a network answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from adapters.errors import UnsupportedModelError

NAMES = ("logits", "out", "output", "pred", "preds", "prediction", "predictions", "scores", "cls")
"""Names under which networks give their answer beside other tensors, the most telling first."""


def logits_of(output: Any) -> Any:
    """The one obvious tensor in a tuple, list, mapping, dataclass or object; a tensor as it is.

    That is the tensor with one of `NAMES`, or the only one of shape ``[n, classes]``.

    Raises:
        UnsupportedModelError: it is not obvious; the message lists what is there.
    """
    if isinstance(output, Tensor):
        return output
    tensors = {name: part for name, part in _parts(output) if isinstance(part, Tensor)}
    rows = {name: part for name, part in tensors.items() if part.dim() == 2 and part.is_floating_point()}
    name = next((name for name in NAMES if name in rows), None)
    if name is not None:
        return rows[name]
    if len(rows) == 1:
        return next(iter(rows.values()))
    listed = ", ".join(f"{name} {list(part.shape)}" for name, part in tensors.items()) or "no tensor"
    raise UnsupportedModelError(
        f"the network answers with a {type(output).__name__} that holds {listed}: none of them is obviously the logits "
        f"[n, classes], which would be called {', '.join(NAMES[:3])} ... or be the only one of such a shape; wrap the "
        "network in a module whose forward returns the logits alone"
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

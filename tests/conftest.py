"""What every test needs: one thread, and a torchvision that imports."""

from __future__ import annotations

import sys

import torch

# Small tensors gain nothing from threads, and threads that wait for each other on a busy machine lose a lot.
torch.set_num_threads(1)


def _import_torchvision() -> torch.library.Library | None:
    """Import torchvision; timm needs it.

    Its wheels on PyPI are built beside a CUDA torch and fail at import beside a CPU-only one, whose operators they then
    do not find. Declaring the two they ask for is enough for everything but those operators.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        import torchvision

        return library
    except ModuleNotFoundError:
        return None
    del torchvision
    return None


# Kept, because the operators are gone when their library is collected.
LIBRARY = _import_torchvision()

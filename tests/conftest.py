"""What every test needs: one thread, a torchvision that imports, and a process that others left as they found it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest
import torch

pytest_plugins = ["tests.other_day"]

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


@pytest.fixture(scope="session", autouse=True)
def _certificates_read_once() -> Iterator[None]:
    """Let clients share what they make of the certificates of this machine.

    Every client, and every call without one, reads them again, which takes longer than a call to a server that needs
    none of them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="module", autouse=True)
def _small_heap() -> None:
    """Hide what is there before a file of tests from the garbage collector.

    It would go through all that was imported and collected again and again, which takes a second each time that
    benchmarks and servers ask for it. A server that ends shows it all again.
    """
    gc.freeze()


def _of_the_process() -> dict[str, Any]:
    """What a test could change for those that come after it."""
    root = logging.getLogger()
    return {
        "the handler of SIGINT": signal.getsignal(signal.SIGINT),
        "the handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        "the working directory": os.getcwd(),
        "the root logger": (root.level, list(root.handlers)),
        "what is logged at all": logging.root.manager.disable,
        "threads of torch": torch.get_num_threads(),
        "the type of numbers": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
    }


def _variables() -> dict[str, str]:
    """All variables but the one in which pytest itself counts."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(autouse=True)
def _process_left_as_it_was() -> Iterator[None]:
    """No test may depend on which tests ran before it in its process: each leaves that as it found it.

    Variables are put back: commands set some for what they start, in a process that is otherwise theirs.
    """
    before, variables = _of_the_process(), _variables()
    yield
    now = _variables()
    if now != variables:
        for name in now.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)
    after = _of_the_process()
    if before == after:
        return
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), before[f"the handler of {name}"])
    os.chdir(before["the working directory"])
    pytest.fail(
        "the test leaves behind what it changed: " + ", ".join(name for name in before if before[name] != after[name])
    )


@pytest.fixture(params=["here", "linked"])
def core_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let small engines have their core in this process, then at the other end of a link."""
    import tests.app.small

    kind: str = request.param
    monkeypatch.setattr(tests.app.small, "IS_LINKED", kind == "linked")
    return kind

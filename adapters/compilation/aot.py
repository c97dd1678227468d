"""Compile a traced module to machine code, once: the result is kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

Graph = Callable[..., Sequence[Tensor]]

LIBRARY = ".so"
"""The end of the name of machine code for a CPU."""

OPTIONS: Mapping[str, Any] = {"freezing": True}
"""Freezing packs the weights into the layout that the machine's convolutions read fastest."""


def default_cache() -> Path:
    """Return the folder of compiled graphs: ``RENORM_CACHE_DIR``, or ``renorm`` in the user's cache folder."""
    root = os.environ.get("RENORM_CACHE_DIR")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "renorm"


def trace(module: nn.Module, inputs: Sequence[Tensor], dynamic: Sequence[Sequence[int]]) -> ExportedProgram:
    """Trace the operations of ``module`` on inputs like these, whose ``dynamic`` axes may have any size from two on."""
    shapes = tuple(dict.fromkeys(axes, Dim.DYNAMIC) for axes in dynamic)
    with warnings.catch_warnings(), _quiet():
        # The messages of tracing are for developers of torch, and differ from version to version.
        warnings.simplefilter("ignore")
        return torch.export.export(module, (tuple(inputs),), dynamic_shapes=(shapes,), strict=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the logs of torch, which are for its developers."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


def cache_path(program: ExportedProgram, folder: Path) -> Path:
    """Return the path of this program's machine code, whether it exists yet or not.

    Its name tells all that the code depends on: operations, weights, the version of torch, threads and processor.
    """
    digest = hashlib.sha256(str(program.graph).encode())
    for part in (torch.__version__, torch.get_num_threads(), platform.machine(), platform.processor(), sorted(OPTIONS)):
        digest.update(str(part).encode())
    digest.update(torch.backends.cpu.get_cpu_capability().encode())
    for name, tensor in sorted({**program.state_dict, **program.constants}.items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {tensor.device}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    is_cpu = all(tensor.device.type == "cpu" for tensor in program.state_dict.values())
    return folder / f"{digest.hexdigest()[:40]}{LIBRARY if is_cpu else '.pt2'}"


def compile_to(program: ExportedProgram, path: Path) -> None:
    """Compile the program and keep it at ``path``; a concurrent reader finds it complete or not at all.

    The code for a CPU is kept without its package, so that processes that load it share its memory.

    Raises:
        Exception: whatever the compiler ran into, such as a missing C++ compiler.
    """
    # The files are executed: nobody else may write here.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.pt2")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(partial), inductor_configs=dict(OPTIONS))
        if path.suffix == LIBRARY:
            _unpack(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _unpack(package: Path) -> None:
    """Replace a package by the library in it."""
    with zipfile.ZipFile(package) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(LIBRARY))
        library = archive.read(name)
    package.write_bytes(library)


def load_graph(path: Path) -> Graph:
    """Load the graph kept at ``path``, ready to be called with a list of inputs like those that it was traced with."""
    if path.suffix == LIBRARY:
        run: Graph = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1).run
        return run
    graph = torch._inductor.aoti_load_package(str(path))
    return lambda inputs: graph(tuple(inputs))

"""The arrows between layers: an import only points down, and the library imports nothing it does not need."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import adapters

ROOT = Path(__file__).parent.parent
WIDEST, LONGEST_FILE, LONGEST_FUNCTION = 24, 300, 40
"""Files of code in one folder; lines of a file and of a function."""
WEB = ("fastapi", "starlette", "uvicorn")
DOORS = ("app.http", "app.rpc", "app.main", "app.cli", "app.__main__", "app.public")


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(file): file for top in ("adapters", "app") for file in sorted((ROOT / top).rglob("*.py"))}


def _imports(source: str, module: str, *, package: bool) -> Iterator[str]:
    """Every module that a source imports anywhere in it, as dotted names; relative imports are resolved."""
    home = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = home[: len(home) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from app import main` imports app.main, so the names count as well.
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def _imported(module: str) -> frozenset[str]:
    file = MODULES[module]
    return frozenset(_imports(file.read_text(encoding="utf-8"), module, package=file.name == "__init__.py"))


def _within(name: str, layers: tuple[str, ...]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def _layer(*names: str) -> list[str]:
    return [module for module in MODULES if _within(module, names)]


def _importing(modules: Iterable[str], layers: tuple[str, ...]) -> dict[str, list[str]]:
    """Which of the modules import something of these layers, and what."""
    found = {module: sorted(name for name in _imported(module) if _within(name, layers)) for module in modules}
    return {module: names for module, names in found.items() if names}


def test_imports_are_read_in_every_form() -> None:
    source = """
import a.b, c as d
from e import f
from . import g
from .h import i
from ..j import k
def late():
    import l
    if True:
        from m.n import o
"""
    found = {"a.b", "c", "e.f", "app.x.g", "app.x.h.i", "app.j.k", "l", "m.n.o"}
    assert set(_imports(source, "app.x.y", package=False)) == found
    assert "app.x.g" in set(_imports("from . import g", "app.x", package=True))


def test_the_library_imports_torch_and_the_standard_library_alone() -> None:
    known = ("adapters", "torch", *sys.stdlib_module_names)
    foreign = {
        module: {name for name in _imported(module) if not _within(name, known)} for module in _layer("adapters")
    }
    assert {module: names for module, names in foreign.items() if names} == {}, "adapters is usable without the server"


def test_layers_below_the_doors_do_not_import_them() -> None:
    below = [name for name in _layer("app") if not _within(name, DOORS)]
    assert _importing(below, DOORS) == {}, "an import only points down"


BELOW = ("app.serving", "app.resources", "app.observability", "app.images", "app.models", "app.strategies", "app.types")
INNER = (
    "app.engine",
    "app.errors",
    "app.error_info",
    "app.error_table",
    "app.auth",
    "app.oip",
    "app.configuration",
    "app.temperatures",
    "app.baselines",
    *BELOW,
)


def test_only_the_engine_imports_what_serves() -> None:
    others = [name for name in MODULES if not _within(name, ("app.engine", "app.serving"))]
    assert _importing(others, ("app.serving",)) == {}


def test_the_engine_and_what_is_below_it_know_no_http() -> None:
    assert _importing(_layer(*INNER), WEB) == {}, "only doors know HTTP"


def test_layers_below_the_engine_do_not_import_it() -> None:
    assert _importing(_layer(*BELOW), ("app.engine", "app.schemas")) == {}


def test_doors_do_not_know_who_builds_them() -> None:
    assert _importing(_layer("app.http", "app.rpc"), ("app.main", "app.cli")) == {}


def test_an_evaluation_asks_the_engine_or_the_client_and_knows_no_web_framework() -> None:
    assert _importing(_layer("app.evaluation"), WEB) == {}, "an evaluation calls app.engine or app.client"


def test_only_commands_know_evaluations() -> None:
    others = [name for name in MODULES if not _within(name, ("app.evaluation", "app.cli"))]
    assert _importing(others, ("app.evaluation",)) == {}, "serving does without evaluations"


LIBRARY = (
    ("errors", "evidence", "finite", "number"),
    ("explanation",),
    ("base",),
    ("params", "sites", "composite", "joint"),
    ("normalization", "correctors"),
    ("learners",),
    ("registry",),
    ("naming",),
    ("state",),
    ("engine",),
    ("probes",),
    ("compilation",),
    ("model",),
    ("checks",),
    ("checks_corrector", "checks_learner"),  # former names
)
"""The library's rooms from the lowest to the highest; those of one line do not know each other."""
METHODS = ("normalization", "correctors", "learners")
SHARED = {"linear", "frozen", "shrunk_averages", "affinity", "descent", "optimizers", "memory_bank", "augmentations"}
"""Files of those rooms that methods have in common; each of the others is a method."""


def _room(module: str) -> str:
    return module.split(".")[1]


RANK = {room: rank for rank, rooms in enumerate(LIBRARY) for room in rooms}
ROOMS = [name for name in _layer("adapters") if name != "adapters"]


def _known(module: str) -> set[str]:
    return {name for name in _imported(module) if name.startswith("adapters.")}


def _methods(module: str, rooms: Iterable[str]) -> set[str]:
    """The methods in these rooms that a module imports."""
    within = tuple(f"adapters.{room}" for room in rooms)
    return {name for name in _known(module) if _within(name, within) and name.split(".")[2] not in SHARED}


def test_imports_of_the_library_point_down() -> None:
    upward = {
        (module, name)
        for module in ROOMS
        for name in _known(module)
        if RANK.get(_room(name), -1) >= RANK[_room(module)] and _room(name) != _room(module)
    }
    assert upward == set(), "each of these imports what lies above it"


def test_the_engine_knows_no_method() -> None:
    found = {module: _methods(module, METHODS) for module in _layer("adapters.engine", "adapters.state")}
    assert {module: names for module, names in found.items() if names} == {}, "a method is found by its contract"


def test_a_method_knows_the_contract_alone() -> None:
    rooms = _layer(*(f"adapters.{room}" for room in METHODS))
    found = {module: _methods(module, [_room(module)]) for module in rooms}
    assert {module: names for module, names in found.items() if names} == {}, "methods do not know each other"


def test_every_room_of_the_library_has_its_place() -> None:
    assert {_room(name) for name in ROOMS} == set(RANK)


def test_the_rooms_these_rules_are_about_exist() -> None:
    for name in (*DOORS, *INNER):
        assert _layer(name), f"there is no {name}"
    assert _importing(["app.engine"], ("app.serving",)), "the one that may"


def test_no_folder_is_wider_than_a_reader_can_see() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    files = [Path(line) for line in listed.splitlines() if line.endswith(".py")]
    width = Counter(str(file.parent) for file in files)
    assert {folder: count for folder, count in width.items() if count > WIDEST} == {}


SOURCES = [path for top in ("adapters", "app", "benchmarks") for path in sorted((ROOT / top).rglob("*.py"))]


def test_files_and_functions_are_short() -> None:
    texts = {path: path.read_text("utf-8") for path in SOURCES}
    assert [str(path) for path, text in texts.items() if len(text.splitlines()) > LONGEST_FILE] == []
    functions = [
        (path.name, node.name)
        for path, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert functions == []


def _loaded_by(statement: str) -> set[str]:
    command = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in loaded}


def test_importing_the_library_loads_no_server_and_no_plugin() -> None:
    loaded = _loaded_by("import adapters, adapters.checks")
    assert "adapters" in loaded
    assert not loaded & {"app", "fastapi", "starlette", "uvicorn", "pydantic", "PIL", "timm", "torchvision", "rich"}


def test_a_server_without_grpc_does_without_its_packages() -> None:
    assert not _loaded_by("import app.main, app.cli.serve, app.cli.server") & {"grpc", "google", "open_inference"}


def test_public_names_are_sorted_and_complete() -> None:
    # In the order of the linter: constants, then classes, then functions.
    names = adapters.__all__
    constants, classes, functions = (
        sorted(name for name in names if kind(name))
        for kind in (str.isupper, lambda n: not n.isupper() and n[0].isupper(), str.islower)
    )
    assert names == [*constants, *classes, *functions]
    here = vars(importlib.import_module("adapters"))
    public = {name for name, value in here.items() if not name.startswith("_") and not isinstance(value, ModuleType)}
    assert set(names) == public
    assert len(names) == len(set(names))


def test_every_public_name_is_described() -> None:
    for name in {*adapters.__all__} - {"AnyAdapter", "Strategy"}:
        if callable(thing := getattr(adapters, name)):
            assert (thing.__doc__ or "").strip(), name
            # That is what dataclass writes where nobody did.
            assert not thing.__doc__.startswith(f"{name}("), name

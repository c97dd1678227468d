"""Import a user's code by file: its own modules come first there, also under names that are ours or others'."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Collection, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

_NUMBERS = count()


def import_file(path: Path) -> ModuleType:
    """Import the module in the file ``path``, or the package in that folder.

    It and what it imports from beside it live in a namespace of their own, so that a package ``app`` of the user's is
    not this one. Relative imports work where folders hold ``__init__.py``, and absolute ones from the folder around
    the outermost of them, and from the current directory.

    Raises:
        Exception: whatever the file raises.
    """
    path = path.resolve()
    names = [path.stem] if path.is_file() else [path.name]
    folder = path.parent
    if names == ["__init__"]:
        names, folder = [folder.name], folder.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    space = Space(f"renorm_python_{next(_NUMBERS)}", [str(folder), str(Path.cwd())])
    # Last: for lookups of the module by its own name, as by pickle.
    sys.path.append(str(folder))
    return space.import_module(".".join(names))


class Space:
    """A namespace in which the modules of some folders come before all others; it finds them for the import system.

    ``tops`` are the names of those modules, by default all that are there.
    """

    def __init__(self, name: str, folders: list[str], tops: Collection[str] | None = None) -> None:
        self.name, self.folders, self.tops = name, folders, tops
        package = ModuleType(name)
        package.__path__ = folders
        sys.modules[name] = package
        sys.meta_path.insert(0, self)

    def import_module(self, name: str) -> ModuleType:
        """Import the module that the user calls ``name``."""
        return importlib.import_module(f"{self.name}.{name}")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find modules of this namespace for the import system; they see their neighbours first."""
        if not fullname.startswith(f"{self.name}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self)
        return spec

    def import_statement(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Replace `__import__` in the modules of this namespace."""
        top = name.partition(".")[0]
        if level > 0 or not self._holds(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self.import_module(name)
        if not fromlist:
            return sys.modules[f"{self.name}.{top}"]
        return builtins.__import__(module.__name__, globals, locals, fromlist, 0)

    def _holds(self, top: str) -> bool:
        """Tell whether a module of the folders has that name, hides no standard one and is not imported already."""
        if top in sys.stdlib_module_names or (self.tops is not None and top not in self.tops):
            return False
        spec = PathFinder.find_spec(top, self.folders)
        if spec is None:
            return False
        loaded = sys.modules.get(top)
        if spec.loader is None:
            # A folder without __init__.py gives way to any package.
            return loaded is None and find_spec(top) is None
        return loaded is None or getattr(loaded, "__file__", None) != spec.origin


class _Loader(SourceFileLoader):
    """Runs a module whose import statements ask its namespace first."""

    def __init__(self, fullname: str, path: str, space: Space) -> None:
        super().__init__(fullname, path)
        self._space = space

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        scope: dict[str, Any] = {**vars(builtins), "__import__": self._space.import_statement}
        module.__dict__["__builtins__"] = scope
        super().exec_module(module)

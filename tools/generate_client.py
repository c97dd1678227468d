"""Write `app/client/synchronous.py`: the code of `asynchronous.py` without its waiting."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import unasync

COMMAND = "python -m tools.generate_client"
FOLDER = Path(__file__).parent.parent / "app" / "client"
SOURCE, TARGET = FOLDER / "asynchronous.py", FOLDER / "synchronous.py"
REPLACEMENTS = {
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "AsyncStream": "Stream",
    "aclose": "close",
    "asyncio": "time",  # of which only `sleep` is used
    "to_parts_async": "to_parts",
}
"""Words of the code that differ, besides those that every async program has. Docstrings stay as they are."""


def generate() -> str:
    """Return the text of the synchronous client."""
    with TemporaryDirectory() as folder:
        copy = shutil.copy(SOURCE, folder)
        unasync.unasync_files([copy], [unasync.Rule(SOURCE.name, TARGET.name, REPLACEMENTS)])
        code = Path(folder, TARGET.name).read_text("utf-8")
    # Shorter lines may fit where longer ones were broken.
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    text = f"# Generated from {SOURCE.name} by `{COMMAND}`: change that file, not this one.\n{code}"
    return subprocess.run(ruff, input=text, capture_output=True, encoding="utf-8", check=True).stdout


if __name__ == "__main__":
    TARGET.write_text(generate(), "utf-8")

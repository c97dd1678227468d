"""Files of text that are replaced as a whole, and noticed when they change."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str, mode: int) -> None:
    """Write a file with the permissions ``mode``. Readers see the old file or the new one, never a part.

    Raises:
        OSError: the folder cannot be written to.
    """
    # Created with mode 0600, and in the same folder, because only there can it replace the old file atomically.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def file_fingerprint(path: Path) -> tuple[int, int, int] | None:
    """Return values that change when a file is written or replaced; None where it is missing or inaccessible.

    Not its time alone, which may be coarse.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size

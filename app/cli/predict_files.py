"""Predict files, a few per request: a file that fails is reported and skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.client import Answer, Client

Report = Callable[[Path, str], None]
"""Called with each file that cannot be predicted, and the reason."""

FATAL_STATUSES = {401, 403, 404, 405, 409, 429}
"""Statuses that do not depend on a file: all other files would be refused too."""


def answer_files(
    client: Client, groups: Sequence[Sequence[Path]], options: Mapping[str, Any], report: Report
) -> Iterator[tuple[list[Path], Answer | None, int]]:
    """Yield the predicted files of each group, the answer (None where there is none), and the size of the group.

    A group with a file that cannot be read is sent again without it: a refused request has moved no state.

    Raises:
        RenormClientError: an error that does not depend on a file, such as an unreachable server.
    """
    for group in groups:
        files = list(group)
        answer = None
        while files and answer is None:
            try:
                answer = client.predict(files, **options)
            except Exception as error:
                bad = _bad_file(error, files)
                if bad is None:
                    raise
                files.remove(bad)
                report(bad, _reason(error))
        yield files, answer, len(group)


def _bad_file(error: Exception, files: Sequence[Path]) -> Path | None:
    """Return the file that caused an error, None where no file did."""
    from app.client import Refused

    if isinstance(error, Refused):
        if error.status in FATAL_STATUSES or error.status >= 500:
            return None
        name = error.source
    elif isinstance(error, OSError) and error.filename is not None:
        name = str(error.filename)
    else:
        return None
    return next((file for file in files if str(file) == name), None)


def _reason(error: Exception) -> str:
    from app.client import Refused

    if isinstance(error, Refused):
        return f"{error.message} ({error.status} {error.code})"
    return str(error.strerror) if isinstance(error, OSError) else str(error)

"""The end of commands that evaluate: every error is one line, and the exit status says whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.cli.settings import BAD_OPTION, CANNOT_RUN, fail

INTERRUPTED = 130


@contextmanager
def exit_on_errors(when_interrupted: str, status: int = BAD_OPTION) -> Iterator[None]:
    """End the program with a one-line message; ``status`` is the exit status of errors of the evaluation itself."""
    from adapters import AdapterError
    from app.client import InvalidInput, RenormClientError
    from app.errors import RenormError
    from app.evaluation.errors import EvaluationError

    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; {when_interrupted}", status=INTERRUPTED)
    except RenormError as error:
        fail(error.line, status=status if isinstance(error, EvaluationError) else CANNOT_RUN)
    except (AdapterError, InvalidInput) as error:
        fail(str(error), status=BAD_OPTION)
    except RenormClientError as error:
        fail(str(error), status=CANNOT_RUN)

"""Errors before an evaluation starts; siblings of the errors of the server.

EvaluationError           a wrong option, which the user can fix: an unknown order, protocol or number
├── DataError             the data are missing, or their layout is wrong
└── StreamFileError       a saved stream cannot be read, or belongs to other data
"""

from __future__ import annotations

from app.errors import RenormError


class EvaluationError(RenormError):
    """The evaluation cannot run with these options."""


class DataError(EvaluationError):
    """The data are missing, or their layout is wrong."""


class StreamFileError(EvaluationError):
    """A saved stream cannot be read, or belongs to other data."""

"""What can go wrong before an evaluation starts; siblings of what can go wrong in the server.

EvaluationError           the user can mend it: an order, a protocol or a number that does not exist
├── DataError             the data are not there, or not laid out as they must be
└── StreamFileError       a saved stream cannot be read, or belongs to other data
"""

from __future__ import annotations

from app.errors import RenormError


class EvaluationError(RenormError):
    """What was asked for cannot be evaluated."""


class DataError(EvaluationError):
    """The data are not there, or not laid out as they must be."""


class StreamFileError(EvaluationError):
    """A saved stream cannot be read, or belongs to other data."""

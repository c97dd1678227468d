"""Accounting of the bytes that requests hold, from the first received byte to the answer. Knows no HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from torch import Tensor

from app.errors import BusyError, TooLargeError
from app.settings import Settings

UNBOUNDED = 2**62

HINT = "the limit for all requests together is RENORM_MAX_MEMORY_BYTES"


class Parts(NamedTuple):
    """The budget divided by stages, so that no stage of a request can take the memory that a later one needs."""

    received: int  # bodies, frames and messages, until they are answered
    connection: int  # the share of one connection in these
    decoded: int  # images that wait for their forward
    decoding: int  # images in the processes that decode
    lessons: int  # the working memory of a lesson that several streams share


def divide(total: int, decoded: int) -> Parts:
    """Divide a budget of ``total`` bytes, with at most ``decoded`` of them for decoded images."""
    return Parts(total // 2, total // 4, min(decoded, total // 4), total // 8, total // 8)


def parts_of(settings: Settings) -> Parts:
    """Return the parts of the budget in the settings."""
    return divide(settings.max_memory_bytes, settings.max_waiting_bytes)


def ledger_of(settings: Settings) -> Ledger:
    """Create the ledger of all received bytes."""
    parts = parts_of(settings)
    return Ledger(parts.received, parts.connection)


def bytes_of(images: Sequence[bytes] | Tensor) -> int:
    """Return the size of the images of a call as they were received."""
    return images.nbytes if isinstance(images, Tensor) else sum(map(len, images))


class MemoryUse(NamedTuple):
    """The current use of one part of the budget."""

    kind: str
    held: int
    capacity: int


class Ledger:
    """The bytes held in all and by each connection, and their limits ``capacity`` and ``share``.

    Bytes are taken before they are held; `Account.take` raises instead of waiting, so there can be no deadlock.
    Used by the event loop's thread alone.
    """

    def __init__(self, capacity: int, share: int) -> None:
        self.capacity, self.share = capacity, share
        self.held: Counter[str] = Counter()
        self.refused: Counter[str] = Counter({"connection": 0, "total": 0})
        self.by_connection: Counter[str] = Counter()  # by connection, where it makes several calls at a time

    @property
    def total(self) -> int:
        """The bytes held in all."""
        return self.held.total()

    def open(self, kind: str, connection: str = "") -> Account:
        """Open an empty account of a connection, or of a call on the connection named ``connection``."""
        return Account(self, kind, connection)


class Account:
    """The bytes that one connection, or one call on it, holds until it is closed."""

    def __init__(self, ledger: Ledger, kind: str, connection: str = "") -> None:
        self._ledger, self._kind, self._connection, self.held = ledger, kind, connection, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def room(self) -> int:
        """The bytes that the connection may still take, regardless of others."""
        return self._ledger.share - (self._ledger.by_connection[self._connection] if self._connection else self.held)

    def fits(self, amount: int) -> bool:
        """Return whether that much is free."""
        return amount <= self._ledger.capacity - self._ledger.total

    def has_plenty(self, amount: int) -> bool:
        """Return whether it leaves a quarter free, to finish requests under way and for callers that cannot wait."""
        return self.fits(amount + self._ledger.capacity // 4)

    def check(self, amount: int, *, is_counted: bool = True) -> None:
        """Check that that much can be taken now. A refusal is counted, unless the caller polls.

        Raises:
            TooLargeError: the connection would exceed its share.
            BusyError: all connections together would exceed the capacity.
        """
        ledger = self._ledger
        if amount > self.room:
            ledger.refused["connection"] += is_counted
            raise TooLargeError(
                f"the connection's requests need {ledger.share - self.room + amount} bytes of memory once they are "
                f"parsed, and the limit of one connection is {ledger.share}",
                hint=f"send fewer images at once; {HINT}, and a quarter of that for one connection",
                location="body",
            )
        if not self.fits(amount):
            ledger.refused["total"] += is_counted
            raise BusyError(
                f"the memory for requests is full: {ledger.total} of {ledger.capacity} bytes are in use, and this "
                f"request needs {amount} more",
                hint=f"retry a little later, or add a server; {HINT}",
            )

    def take(self, amount: int) -> None:
        """Hold that much more.

        Raises:
            TooLargeError, BusyError: see `check`; the account is unchanged then.
        """
        self.check(amount)
        self._hold(amount)

    def note(self, amount: int) -> None:
        """Hold that much more even beyond the limit, because the bytes exist already."""
        self._hold(amount)

    def give_back(self, amount: int) -> None:
        """Hold that much less."""
        self._hold(-min(amount, self.held))

    def set(self, amount: int) -> None:
        """Hold exactly that much.

        Raises:
            TooLargeError, BusyError: see `check`; the account is unchanged then.
        """
        if amount > self.held:
            self.take(amount - self.held)
        else:
            self._hold(amount - self.held)

    def close(self) -> None:
        """Hold nothing."""
        self._hold(-self.held)

    def _hold(self, amount: int) -> None:
        self.held += amount
        self._ledger.held[self._kind] += amount
        if self._connection:
            self._ledger.by_connection[self._connection] += amount
            if not self._ledger.by_connection[self._connection]:
                del self._ledger.by_connection[self._connection]

"""One account of the bytes that requests hold, from their first byte on the network to their answer. Knows no HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from torch import Tensor

from app.errors import BusyError, TooLargeError
from app.settings import Settings

UNBOUNDED = 2**62

HINT = "RENORM_MAX_MEMORY_BYTES is what all requests may hold"


class Parts(NamedTuple):
    """The budget, divided, so that no stage of a request can take what a later one needs to get it done."""

    received: int  # bodies, frames and messages, until they are answered
    connection: int  # of these what one connection may hold
    decoded: int  # images that wait for their forward
    decoding: int  # images in the processes that decode
    lessons: int  # what a lesson that several streams share works with


def divide(most: int, decoded: int) -> Parts:
    """The parts of a budget of ``most`` bytes, where at most ``decoded`` of them are for decoded images."""
    return Parts(most // 2, most // 4, min(decoded, most // 4), most // 8, most // 8)


def parts_of(settings: Settings) -> Parts:
    """The parts of the budget that the settings give."""
    return divide(settings.max_memory_bytes, settings.max_waiting_bytes)


def ledger_of(settings: Settings) -> Ledger:
    """What accounts for all that is received."""
    parts = parts_of(settings)
    return Ledger(parts.received, parts.connection)


def bytes_of(images: Sequence[bytes] | Tensor) -> int:
    """What the images of a call take, as they were received."""
    return images.nbytes if isinstance(images, Tensor) else sum(map(len, images))


class Part(NamedTuple):
    """A part of the budget as it is now."""

    kind: str
    held: int
    capacity: int


class Ledger:
    """How many bytes are held, in all and by each connection, of at most so many.

    Whoever is about to hold bytes takes them first; nobody waits for others here, so nobody waits for each other.
    Used by the event loop's thread alone.
    """

    def __init__(self, capacity: int, share: int) -> None:
        self.capacity, self.share = capacity, share
        self.held: Counter[str] = Counter()
        self.refused: Counter[str] = Counter({"connection": 0, "total": 0})
        self.of: Counter[str] = Counter()  # of connections that make several calls at a time

    @property
    def total(self) -> int:
        """Bytes held by all."""
        return self.held.total()

    def open(self, kind: str, connection: str = "") -> Account:
        """An account with nothing on it, of a connection or, where ``connection`` names one, of a call on that."""
        return Account(self, kind, connection)


class Account:
    """What one connection, or one call of it, holds; given back when it is closed."""

    def __init__(self, ledger: Ledger, kind: str, connection: str = "") -> None:
        self._ledger, self._kind, self._connection, self.held = ledger, kind, connection, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @property
    def room(self) -> int:
        """Bytes that the connection may take besides, whatever others hold."""
        return self._ledger.share - (self._ledger.of[self._connection] if self._connection else self.held)

    def fits(self, amount: int) -> bool:
        """Whether that much is left."""
        return amount <= self._ledger.capacity - self._ledger.total

    def has_plenty(self, amount: int) -> bool:
        """Whether after that a quarter is left for the ends of what is under way, and for those who cannot wait."""
        return self.fits(amount + self._ledger.capacity // 4)

    def check(self, amount: int, *, is_counted: bool = True) -> None:
        """Whether that much could be taken now. Refusals are counted, unless one asks again and again.

        Raises:
            TooLargeError: the connection would hold more than its share.
            BusyError: all would hold more than there is.
        """
        ledger = self._ledger
        if amount > self.room:
            ledger.refused["connection"] += is_counted
            raise TooLargeError(
                f"the connection would hold {ledger.share - self.room + amount} bytes of memory, with all that is made "
                f"of what it sent, and it may hold {ledger.share}",
                hint=f"send fewer images at once; {HINT}, of which a quarter is one connection's",
                location="body",
            )
        if not self.fits(amount):
            ledger.refused["total"] += is_counted
            raise BusyError(
                f"requests that wait hold {ledger.total} bytes, of at most {ledger.capacity}, and {amount} more are "
                "asked for",
                hint=f"send again a little later, or add a server; {HINT}",
            )

    def take(self, amount: int) -> None:
        """Hold that much more.

        Raises:
            TooLargeError, BusyError: see `check`; nothing is held then but what was before.
        """
        self.check(amount)
        self._hold(amount)

    def note(self, amount: int) -> None:
        """Hold that much more, whether there is room or not: it is there already."""
        self._hold(amount)

    def give_back(self, amount: int) -> None:
        """Hold that much less."""
        self._hold(-min(amount, self.held))

    def set(self, amount: int) -> None:
        """Hold exactly that much.

        Raises:
            TooLargeError, BusyError: see `check`; nothing is held then but what was before.
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
            self._ledger.of[self._connection] += amount
            if not self._ledger.of[self._connection]:
                del self._ledger.of[self._connection]

"""The account of what requests hold: never more than there is, and all of it comes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BusyError, RenormError, TooLargeError
from app.resources.memory import Account, Ledger, bytes_of, divide, parts_of
from app.settings import Settings

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["take", "give_back", "set", "close"]), st.integers(0, 60)),
    max_size=80,
)


def play(account: Account, what: str, amount: int) -> bool:
    """One step; whether it was let pass."""
    try:
        if what == "close":
            account.close()
        else:
            getattr(account, what)(amount)
    except RenormError:
        return False
    return True


@given(STEPS)
def test_never_more_is_held_than_there_is_and_the_sums_agree(steps: list[tuple[int, str, int]]) -> None:
    ledger = Ledger(100, 50)
    accounts = [ledger.open(kind) for kind in ("bodies", "bodies", "frames", "messages")]
    for which, what, amount in steps:
        before = accounts[which].held
        if not play(accounts[which], what, amount):
            assert accounts[which].held == before, "a refusal moves nothing"
        assert ledger.total == sum(account.held for account in accounts) <= 100
        assert all(0 <= account.held <= 50 for account in accounts)
        assert ledger.held["bodies"] == accounts[0].held + accounts[1].held
    for account in accounts:
        account.close()
    assert ledger.total == 0


@given(st.integers(0, 200), st.integers(0, 200))
def test_refused_reservation_would_not_have_fitted(held: int, asked: int) -> None:
    ledger = Ledger(100, 50)
    for _ in range(4):
        play(ledger.open("bodies"), "take", held)
    account = ledger.open("bodies")
    fits = asked <= 50 and ledger.total + asked <= 100
    assert play(account, "take", asked) is fits


def test_a_refusal_says_whose_limit_it_was_and_is_counted() -> None:
    ledger = Ledger(100, 50)
    with pytest.raises(TooLargeError, match=r"need 51 bytes.*limit of one connection is 50"):
        ledger.open("bodies").take(51)
    ledger.open("bodies").take(50)
    ledger.open("bodies").take(40)
    with pytest.raises(BusyError, match="90 of 100 bytes are in use, and this request needs 20 more") as refusal:
        ledger.open("bodies").take(20)
    assert "RENORM_MAX_MEMORY_BYTES" in refusal.value.hint
    assert refusal.value.retry_after_s >= 1
    assert ledger.refused == {"connection": 1, "total": 1}


def test_an_account_is_given_back_whatever_happens() -> None:
    ledger = Ledger(100, 50)

    def ask_for_too_much() -> None:
        with ledger.open("bodies") as account:
            account.set(50)
            account.take(1)

    with pytest.raises(TooLargeError):
        ask_for_too_much()
    assert ledger.total == 0


def test_bytes_already_present_are_counted_and_keep_others_out() -> None:
    ledger = Ledger(100, 50)
    ledger.open("frames").note(120)
    assert ledger.total == 120
    with pytest.raises(BusyError):
        ledger.open("bodies").take(1)


@given(st.integers(8, 10**12), st.integers(1, 10**12))
def test_the_parts_are_within_the_budget(most: int, decoded: int) -> None:
    parts = divide(most, decoded)
    assert parts.received + parts.decoded + parts.decoding + parts.lessons <= most
    assert parts.decoded <= decoded
    assert 1 <= parts.connection <= parts.received


def test_by_default_one_connection_may_send_the_largest_body_twice_over() -> None:
    settings = Settings()
    parts = parts_of(settings)
    assert parts.connection >= 2 * settings.max_body_bytes
    assert parts.decoded == settings.max_waiting_bytes


def test_the_bytes_of_images() -> None:
    assert bytes_of([b"abc", b"", b"x"]) == 4
    assert bytes_of(torch.zeros(2, 3, dtype=torch.float32)) == 24

"""The comparison of two recordings, and what of an answer may be written anew."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.recording.comparison import compare, value_differences
from benchmarks.recording.entries import Entry, RecordedAnswer, Recording, split


def tensor(*values: float) -> str:
    return struct.pack(f"<{len(values)}f", *values).hex()


REFUSAL: dict[str, Any] = {
    "status": 422,
    "headers": {},
    "body": {"error": "(text)", "code": "invalid_field", "where": "top_k"},
}
PREDICTION: dict[str, Any] = {
    "status": 200,
    "body": {"step": 3, "drift": 0.1, "outputs": [{"hex": tensor(0.25, 0.75)}]},
}
RECORDING = Recording(
    {"commit": "abc"},
    [
        Entry("form", "prediction", PREDICTION, digest="d"),
        Entry("top_k=0", "error", REFUSAL, ["top_k must be larger"]),
    ],
)


def with_entry(position: int, **changes: Any) -> Recording:
    entries = list(RECORDING.entries)
    entries[position] = replace(entries[position], **changes)
    return replace(RECORDING, entries=entries)


def test_saved_recording_is_identical_to_itself(tmp_path: Path) -> None:
    RECORDING.save(tmp_path / "recording.json")
    result = compare(RECORDING, Recording.load(tmp_path / "recording.json"))
    assert result.is_identical
    assert result.total == result.identical == {"prediction": 1, "error": 1}
    assert result.reworded.total() == 0


def test_other_wording_is_counted_and_no_difference() -> None:
    result = compare(RECORDING, with_entry(1, wording=["top_k must be at least 1"]))
    assert result.is_identical
    assert result.reworded == {"prediction": 0, "error": 1}


@pytest.mark.parametrize("changed", [{"status": 400}, {"body": {**REFUSAL["body"], "code": "too_large"}}])
def test_other_status_or_code_is_a_difference(changed: dict[str, Any]) -> None:
    result = compare(RECORDING, with_entry(1, exact={**REFUSAL, **changed}))
    assert len(result.differences) == 1
    assert result.identical == {"prediction": 1, "error": 0}


def test_missing_and_added_entries_are_differences() -> None:
    shorter = replace(RECORDING, entries=RECORDING.entries[:1])
    assert compare(RECORDING, shorter).differences == ["top_k=0: is missing in the second"]
    assert compare(shorter, RECORDING).differences == ["top_k=0: is missing in the first"]


def test_other_requests_are_not_compared() -> None:
    assert compare(RECORDING, with_entry(0, digest="e")).differences == ["form: another request was sent"]


def test_tensor_difference_tells_count_and_size() -> None:
    first, second = {"hex": tensor(0.25, 0.5, 1.0)}, {"hex": tensor(0.25, 0.5, 1.0 + 2**-23)}
    assert value_differences(first, second) == ["hex: 1 of 3 values differ, by at most 1.19e-07"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (0.1, 0.1 + 2**-56),
        ([1], [1, 2]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {}),
        ("new", "live"),
        ("live", None),
    ],
)
def test_values_that_are_not_the_same_differ(first: Any, second: Any) -> None:
    assert len(value_differences(first, second)) == 1


def test_messages_and_times_are_taken_out() -> None:
    document = {"error": "too late; wait", "code": "deadline", "timing_ms": {"queue": 1.5, "decode": 2}, "age_s": 3}
    exact = {"error": "(text)", "code": "deadline", "timing_ms": ["decode", "queue"], "age_s": "..."}
    assert split(document) == (exact, ["too late; wait"])
    assert split([{"description": "An average.", "name": "bn"}], prose=True) == (
        [{"description": "(text)", "name": "bn"}],
        ["An average."],
    )


def test_answers_are_errors_by_status_text_or_close() -> None:
    kinds = [
        RecordedAnswer({"status": 200}, []).kind,
        RecordedAnswer({"code": "OK"}, []).kind,
        RecordedAnswer({"status": 405}, []).kind,
        RecordedAnswer({"close": 1009}, []).kind,
        RecordedAnswer({"code": "NOT_FOUND"}, [""]).kind,
    ]
    assert kinds == ["prediction", "prediction", "error", "error", "error"]

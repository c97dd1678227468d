import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import FieldError
from app.http.requests.strict_json import MAX_DEPTH, MAX_DIGITS, load_object

NUMBERS = st.integers(-(10**200), 10**200) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=8
)


@given(st.dictionaries(st.text(), VALUES))
def test_json_written_by_python_is_parsed(value: dict[str, object]) -> None:
    assert load_object(json.dumps(value).encode(), "body") == value


def test_last_of_duplicate_members_counts() -> None:
    assert load_object('{"a": 1, "a": 2}', "body") == {"a": 2}


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def test_nesting() -> None:
    load_object(nested(MAX_DEPTH), "body")
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(FieldError, match="nested too deeply"):
            load_object(nested(levels), "body")


def test_long_numbers() -> None:
    assert load_object(f'{{"a": {"9" * MAX_DIGITS}}}', "body")["a"] < 1e308
    for digits in ("9" * (MAX_DIGITS + 1), "9" * 10_000, "1e999", "-1e999", "NaN", "Infinity", "-Infinity"):
        with pytest.raises(FieldError, match="not valid JSON") as caught:
            load_object(f'{{"a": {digits}}}', "params")
        assert caught.value.location == "params"
        assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[]", "a list"),
        ('""', "a string"),
        ("1", "a number"),
        ("1.5", "a number"),
        ("true", "a boolean"),
        ("null", "null"),
    ],
)
def test_only_objects(text: str, kind: str) -> None:
    with pytest.raises(FieldError, match=f"must be a JSON object, not {kind}"):
        load_object(text, "body")

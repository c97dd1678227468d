import json
import math

import pytest
from pydantic import ValidationError

from app.schemas import ErrorResponse, RankedClass, StreamState, TimingResponse
from tests.app.fakes import STATE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_fields_of_a_stream_are_null_where_not_finite(value: float) -> None:
    state = StreamState.model_validate({**vars(STATE), "drift": value, "entropy": value})
    assert (state.drift, state.entropy) == (None, None)
    assert json.loads(state.model_dump_json())["drift"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_probabilities_are_probabilities(value: float) -> None:
    with pytest.raises(ValidationError):
        RankedClass(label="cat", index=3, probability=value)


def test_times_are_finite() -> None:
    with pytest.raises(ValidationError):
        TimingResponse(decode=math.nan, queue=0.0, forward=0.0, total=0.0)


def test_answers_are_read_from_the_engine_s_own_objects() -> None:
    assert StreamState.model_validate(STATE).model_dump() == vars(STATE)


def test_a_place_may_be_unknown() -> None:
    assert ErrorResponse(error="m", code="c").where is None

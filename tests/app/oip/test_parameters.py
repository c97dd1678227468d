from __future__ import annotations

from typing import Any

import pytest

from adapters import UnknownStrategyError
from app.errors import FieldError
from app.oip.parameters import LARGEST, OURS, InferOptions, read_options


def read(**given: Any) -> InferOptions:
    return read_options(given, "adabn")


def test_no_parameters_are_the_defaults() -> None:
    assert read() == InferOptions()


def test_all_parameters_are_read() -> None:
    assert read(
        sequence_id="camera-7",
        sequence_start=True,
        sequence_end=True,
        priority=3,
        timeout=1_500_000,
        renorm_strategy="unmix_tns",
        renorm_update=False,
        renorm_params='{"momentum": 0.25}',
        renorm_request_id="r",
        colour="red",
        headers={"nested": [1]},
        binary_data_output=True,
    ) == InferOptions("camera-7", "unmix_tns", {"momentum": 0.25}, False, True, True, "r", 1.5)


@pytest.mark.parametrize(
    ("given", "stream"),
    [
        ({"sequence_id": 0}, None),
        ({"sequence_id": ""}, None),
        ({"sequence_id": 5}, "5"),
        ({"sequence_id": LARGEST}, str(LARGEST)),
        ({"sequence_id": "5"}, "5"),
        ({"renorm_stream": "a"}, "a"),
        ({"renorm_stream": "a", "sequence_id": "a"}, "a"),
        ({"renorm_stream": "7", "sequence_id": 7}, "7"),
        ({"renorm_stream": "a", "sequence_id": 0}, "a"),
    ],
)
def test_streams(given: dict[str, Any], stream: str | None) -> None:
    assert read(**given).stream == stream


def test_hyperparameters_have_names_of_their_own() -> None:
    assert read(renorm_momentum=0.5).params == {"momentum": 0.5}
    assert read(renorm_params='{"own": false}', renorm_momentum=0.5).params == {"own": False, "momentum": 0.5}
    assert read(timeout=0).timeout_s is None


def test_hyperparameters_of_combinations_have_long_and_short_names() -> None:
    asked = {"renorm_strategy": "adabn+lame", "renorm_lame.memory": 16, "renorm_momentum": 0.5}
    assert read(**asked).params == {"lame.memory": 16, "momentum": 0.5}
    with pytest.raises(FieldError, match=r"strategy '.*' has .* renorm_adabn\.momentum, .* renorm_lame\.memory"):
        read(renorm_strategy="adabn+lame", renorm_speed=1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"triton_x": 1}, "must not begin with triton_"),
        ({"sequence_id": -1}, "text or an integer from 0"),
        ({"sequence_id": 2**64}, "text or an integer"),
        ({"sequence_id": 1.0}, "text or an integer"),
        ({"sequence_id": True}, "text or an integer"),
        ({"sequence_id": None}, "text or an integer"),
        ({"sequence_start": 1}, "true or false, not '1'"),
        ({"sequence_end": "true"}, "true or false"),
        ({"priority": -1}, "an integer"),
        ({"timeout": "5"}, "an integer"),
        ({"timeout": 1.5}, "an integer"),
        ({"renorm_update": 0}, "true or false"),
        ({"renorm_strategy": 5}, "must be text"),
        ({"renorm_stream": ""}, "must be text"),
        ({"renorm_request_id": "x" * 129}, "must be text"),
        ({"renorm_request_id": "a\nb"}, "must be text"),
        ({"renorm_params": {}}, "a JSON object as text"),
        ({"renorm_params": "[]"}, "a JSON object as text"),
        ({"renorm_params": "{"}, "not valid JSON"),
        ({"renorm_stream": "a", "sequence_id": "b"}, "different streams"),
        ({"renorm_params": '{"momentum": 1}', "renorm_momentum": 1}, "send it once"),
    ],
)
def test_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(FieldError, match=says) as caught:
        read(**given)
    assert caught.value.location.removeprefix("parameters.") in given


def test_unknown_ones_of_ours_are_refused_with_the_known() -> None:
    with pytest.raises(FieldError) as caught:
        read(renorm_momentun=0.5)
    assert all(name in caught.value.message for name in (*OURS, "renorm_momentum", "'adabn'"))
    with pytest.raises(FieldError, match="strategy 'source' has"):
        read(renorm_momentum=0.5, renorm_strategy="source")
    with pytest.raises(UnknownStrategyError, match="unknown strategy 'x'"):
        read(renorm_strategy="x", renorm_momentum=0.5)

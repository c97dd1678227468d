from __future__ import annotations

from typing import Any

import pytest

from app.errors import FieldError, UnsupportedError
from app.oip.infer import InferRequest, check_memory, to_call
from app.oip.inputs import InputLimits
from app.oip.outputs import OutputRequest
from app.oip.tensors import NamedTensor, objects
from app.types import Call

FILES = [NamedTensor("bytes", "BYTES", objects([b"a"], (1,)))]


def call(stream: str | None = None, request_id: str | None = None, wanted: int = 0, **parameters: Any) -> Call:
    infer = InferRequest(FILES, [OutputRequest("probabilities", wanted)], parameters, id="42")
    return to_call(infer, InputLimits((3, 4, 4), 3), "adabn", stream=stream, request_id=request_id)


def test_a_request_that_says_nothing() -> None:
    assert call() == Call([b"a"], top_k=1)


def test_parameters_of_a_request_override_those_of_the_transport() -> None:
    assert call("h", "k") == Call([b"a"], "h", top_k=1, request_id="k")
    said = call("h", "k", sequence_id=7, renorm_request_id="r")
    assert (said.stream, said.request_id) == ("7", "r")


def test_everything_arrives() -> None:
    said: dict[str, Any] = {"sequence_start": True, "sequence_end": True, "timeout": 2_000_000, "renorm_update": False}
    found = call("s", wanted=3, renorm_strategy="unmix_tns", renorm_params='{"momentum": 0.5}', **said)
    assert found == Call(
        [b"a"], "s", "unmix_tns", {"momentum": 0.5}, update=False, top_k=3, start=True, end=True, timeout_s=2.0
    )


@pytest.mark.parametrize("flag", ["sequence_start", "sequence_end"])
def test_a_sequence_begins_and_ends_by_name(flag: str) -> None:
    said: dict[str, Any] = {flag: True}
    with pytest.raises(FieldError, match="need a sequence_id"):
        call(**said)
    assert call("by-header", **said).stream == "by-header"


def test_shared_memory_is_unsupported() -> None:
    check_memory({"binary_data_size": 3}, "inputs[0]")
    with pytest.raises(UnsupportedError, match="shared memory"):
        check_memory({"shared_memory_region": "r"}, "inputs[0]")

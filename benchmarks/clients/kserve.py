"""KServe's REST client against a running server.

`python -m benchmarks.clients` runs it in an environment of its own:

python -m benchmarks.clients.kserve http://127.0.0.1:8000
"""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.protocol.rest import v2_datamodels as types
from numpy.typing import NDArray

from benchmarks.clients.calls import (
    PICTURES,
    RenormServer,
    check_close,
    check_equal,
    check_message,
    new_stream,
    pixels,
    report,
)


class Tensor(NamedTuple):
    """An input as this client takes it: a name, a datatype, numbers."""

    name: str
    datatype: str
    data: NDArray[Any]

    def input(self, binary: bool) -> Any:
        """The client's own object."""
        tensor = InferInput(self.name, list(self.data.shape), self.datatype)
        tensor.set_data_from_numpy(self.data, binary_data=binary)
        return tensor


class KServe:
    """The client, called and waited for."""

    def __init__(self, server: RenormServer, loop: asyncio.Runner) -> None:
        self.server, self.loop = server, loop
        self.client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))

    def ask(self, call: str, **arguments: str) -> bool:
        """One of the calls that answer yes or no."""
        answer: bool = self.loop.run(getattr(self.client, call)(self.server.url, **arguments))
        return answer

    def infer(self, tensor: Tensor, stream: str, *, binary: bool = False, model: str | None = None) -> Any:
        """The client's object of the answer; ``binary`` sends and receives tensors as bytes."""
        request = InferRequest(
            model or self.server.model,
            [tensor.input(binary)],
            request_id="first",
            parameters={"sequence_id": stream},
            request_outputs=[RequestedOutput(name, {"binary_data": binary}) for name in ("probabilities", "label")],
        )
        return self.loop.run(self.client.infer(self.server.url, request, model_name=request.model_name))

    def close(self) -> None:
        """End its connections."""
        self.loop.run(self.client.close())


def check_inference(client: KServe, tensor: Tensor, files: Sequence[bytes], *, binary: bool) -> str:
    """One request for a new stream, answered as the server's own interface answers the same files."""
    answer = client.infer(tensor, new_stream(), binary=binary)
    expected = client.server.predicted(files, new_stream())
    labels = [client.server.classes[best] for best in expected.argmax(1)]
    check_equal([_text(label) for label in answer.get_output_by_name("label").as_numpy()], labels)
    return f"{', '.join(labels)}; {check_close(answer.get_output_by_name('probabilities').as_numpy(), expected)}"


def check_sequence(client: KServe) -> str:
    """Two requests of one stream: the second is its second step, and answered as such."""
    tensors = [Tensor("image", "UINT8", pixels([file])) for file in PICTURES]
    stream, reference = new_stream(), new_stream()
    answers = [client.infer(tensor, stream, binary=True) for tensor in tensors]
    expected = [client.server.predicted([file], reference) for file in PICTURES]
    for answer, numbers in zip(answers, expected, strict=True):
        check_close(answer.get_output_by_name("probabilities").as_numpy(), numbers)
    check_equal([answer.parameters["renorm_step"] for answer in answers], [1, 2])
    return "steps 1 and 2; as POST /v1/predict"


def check_refusal(client: KServe, tensor: Tensor, words: str, model: str | None = None) -> str:
    """A request that the server refuses: the client's error holds the server's words."""
    try:
        client.infer(tensor, new_stream(), model=model)
    except Exception as error:
        return check_message(str(error).partition(" for url ")[0], words)
    return check_equal("answered", "refused")


def questions(client: KServe) -> Mapping[str, Callable[[], str]]:
    """Is it well?"""
    return {
        "is_server_live": lambda: check_equal(client.ask("is_server_live"), True),
        "is_server_ready": lambda: check_equal(client.ask("is_server_ready"), True),
        "is_model_ready": lambda: check_equal(client.ask("is_model_ready", model_name=client.server.model), True),
        "is_model_ready, a model that is not hosted": lambda: check_equal(
            client.ask("is_model_ready", model_name="other"), False
        ),
    }


def inferences(client: KServe) -> Mapping[str, Callable[[], str]]:
    """Requests in every form, and what becomes of impossible ones."""
    files, single = PICTURES, PICTURES[:1]
    numbers = Tensor("input", "FP32", client.server.input(single))
    pair = Tensor("image", "UINT8", pixels(files))
    # JSON has no place for bytes, so there a file is base64.
    text = Tensor("bytes", "BYTES", np.array([base64.b64encode(single[0])], dtype=object))
    file = Tensor("bytes", "BYTES", np.array(single, dtype=object))
    wrong = Tensor("input", "FP32", np.zeros((1, 3, 8, 8), np.float32))
    return {
        "infer, numbers as JSON": partial(check_inference, client, numbers, single, binary=False),
        "infer, numbers as bytes": partial(check_inference, client, numbers, single, binary=True),
        "infer, two images, pixels as bytes": partial(check_inference, client, pair, files, binary=True),
        "infer, a file in JSON": partial(check_inference, client, text, single, binary=False),
        "infer, a file as bytes": partial(check_inference, client, file, single, binary=True),
        "infer, a sequence": partial(check_sequence, client),
        "infer, a wrong shape": partial(check_refusal, client, wrong, "[n, 3, 32, 32]"),
        "infer, a model that is not hosted": partial(
            check_refusal, client, numbers, "model 'other' is not hosted", "other"
        ),
    }


def answers(server: RenormServer) -> Mapping[str, Callable[[], str]]:
    """The protocol's answers, read with this project's own types."""
    at = f"/v2/models/{server.model}"
    body = {"id": "7", **server.request_body(PICTURES)}
    return {
        "type ServerLiveResponse": partial(server.checked, "GET", "/v2/health/live", types.ServerLiveResponse),
        "type ServerReadyResponse": partial(server.checked, "GET", "/v2/health/ready", types.ServerReadyResponse),
        "type ServerMetadataResponse": partial(server.checked, "GET", "/v2", types.ServerMetadataResponse),
        "type ModelMetadataResponse": partial(server.checked, "GET", at, types.ModelMetadataResponse),
        "type ModelReadyResponse": partial(server.checked, "GET", f"{at}/ready", types.ModelReadyResponse),
        "type InferenceResponse": partial(server.checked, "POST", f"{at}/infer", types.InferenceResponse, json=body),
    }


def main(url: str) -> None:
    """Try every call and report it."""
    # It logs whatever it raises as well.
    logging.disable(logging.CRITICAL)
    server = RenormServer(url)
    with asyncio.Runner() as loop:
        client = KServe(server, loop)
        report({**questions(client), **inferences(client), **answers(server)})
        client.close()


def _text(label: object) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""MLServer's batch client and types against a running server.

`python -m benchmarks.clients` runs it in an environment of its own:

python -m benchmarks.clients.mlserver http://127.0.0.1:8000
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mlserver import types

from benchmarks.clients.calls import PICTURES, RenormServer, check_close, check_equal, check_message, new_stream, report

PATIENCE_S = 60


def inferred(server: RenormServer, *options: str, model: str | None = None) -> list[dict[str, Any]]:
    """Return the answers of ``mlserver infer`` to a file with one request for each picture, in the file's order.

    Raises:
        subprocess.CalledProcessError: it ended with an error.
    """
    # Its own program, because it may not be on the path.
    program = str(Path(sys.executable).with_name("mlserver"))
    target = ["--url", server.url.removeprefix("http://"), "--model-name", model or server.model]
    with tempfile.TemporaryDirectory() as folder:
        sent, written = Path(folder) / "requests.jsonl", Path(folder) / "answers.jsonl"
        sent.write_text("".join(json.dumps(server.request_body([file])) + "\n" for file in PICTURES), encoding="utf-8")
        paths = ["--input-data-path", str(sent), "--output-data-path", str(written)]
        # One worker and one try: requests of a stream are sent in order, and an error is told at once.
        command = [program, "infer", *target, *paths, "--workers", "1", "--retries", "1", *options]
        subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        answers = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    return sorted(answers, key=lambda answer: int(answer["parameters"]["batch_index"]))


def check_lines(server: RenormServer, *options: str) -> str:
    """Each line a request, all of one stream: the second is answered as its second step."""
    stream = new_stream()
    expected = [server.predicted([file], stream) for file in PICTURES]
    return check_close(
        _probabilities(inferred(server, "-H", f"X-Stream-Id: {new_stream()}", *options)), np.stack(expected)
    )


def check_batch(server: RenormServer) -> str:
    """Two lines in one request, whose answer the client takes apart."""
    expected = server.predicted(PICTURES, new_stream())[:, np.newaxis]
    answers = inferred(server, "-H", f"X-Stream-Id: {new_stream()}", "--batch-size", str(len(PICTURES)))
    return check_close(_probabilities(answers), expected)


def check_refusal(server: RenormServer) -> str:
    """A model that is not hosted: the client writes the server's words into each line's answer."""
    answers = inferred(server, model="other")
    check_equal(len(answers), len(PICTURES))
    return check_message(answers[0]["error"]["msg"], "model 'other' is not hosted")


def answers(server: RenormServer) -> Mapping[str, Callable[[], str]]:
    """The protocol's answers, read with this project's own types."""
    at = f"/v2/models/{server.model}"
    body = server.request_body(PICTURES)
    return {
        "type MetadataServerResponse": partial(server.checked, "GET", "/v2", types.MetadataServerResponse),
        "type MetadataModelResponse": partial(server.checked, "GET", at, types.MetadataModelResponse),
        "type MetadataModelErrorResponse": partial(
            server.checked, "GET", "/v2/models/other", types.MetadataModelErrorResponse, 404
        ),
        "type InferenceResponse": partial(server.checked, "POST", f"{at}/infer", types.InferenceResponse, json=body),
        "type InferenceErrorResponse": partial(
            server.checked, "POST", f"{at}/infer", types.InferenceErrorResponse, 400, json={"inputs": []}
        ),
        "type RepositoryIndexResponse": partial(
            server.checked, "POST", "/v2/repository/index", types.RepositoryIndexResponse, json={"ready": True}
        ),
    }


def main(url: str) -> None:
    """Try every call and report it."""
    server = RenormServer(url)
    report(
        {
            "mlserver infer": partial(check_lines, server),
            "mlserver infer --binary-data": partial(check_lines, server, "--binary-data"),
            "mlserver infer --batch-size 2": partial(check_batch, server),
            "mlserver infer, a model that is not hosted": partial(check_refusal, server),
            **answers(server),
        }
    )


def _probabilities(answers: list[dict[str, Any]]) -> list[list[list[float]]]:
    outputs = [{output["name"]: output for output in answer["outputs"]} for answer in answers]
    tensors = [output["probabilities"] for output in outputs]
    return [np.reshape(output["data"], output["shape"]).tolist() for output in tensors]


if __name__ == "__main__":
    main(*sys.argv[1:])

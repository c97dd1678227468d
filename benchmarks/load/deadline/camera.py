"""A camera: sends frames over ``WS /v1/streams/{stream}/live`` at their own times, and records the answers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from statistics import median
from typing import NamedTuple
from urllib.parse import urlencode

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from app.evaluation.specs import Spec
from benchmarks.load.deadline.queueing import FrameCounts
from benchmarks.load.servers import HOST, LoadError

ANSWER_S = 30.0
"""Seconds without an answer after which a run fails."""


class FrameAnswer(NamedTuple):
    """The answer to one frame: its number, the predicted class, and when it was read."""

    frame: int
    predicted: int
    at_s: float


class CameraRecording(NamedTuple):
    """The answers of a run, and for each frame when it was due and when it was sent."""

    answers: list[FrameAnswer]
    due_s: list[float]
    sent_s: list[float]

    def correct(self, labels: Sequence[int]) -> list[bool]:
        """Tell for each answer if it is correct; ``labels`` are those of all frames."""
        return [answer.predicted == labels[answer.frame] for answer in self.answers]

    def outcome(self, labels: Sequence[int]) -> FrameCounts:
        """The counts of the run."""
        return FrameCounts(len(labels), len(self.answers), sum(self.correct(labels)))

    @property
    def services_s(self) -> list[float]:
        """The seconds between answers: the time that each frame took, where one always waited."""
        times = [self.sent_s[0], *(answer.at_s for answer in self.answers)]
        return [max(0.0, later - earlier) for earlier, later in pairwise(times)]

    @property
    def latency_s(self) -> float:
        """The median time from when an answered frame was due to its answer."""
        return median(answer.at_s - self.due_s[answer.frame] for answer in self.answers)

    @property
    def late_s(self) -> float:
        """The 95th percentile of how late the camera itself sent, which no server can mend."""
        late = sorted(sent - due for sent, due in zip(self.sent_s, self.due_s, strict=True))
        return late[int(0.95 * (len(late) - 1))]


def live_url(port: int, stream: str, spec: Spec, *, drops: bool) -> str:
    """Return the address of a live connection.

    With ``drops`` one frame waits, and a newer one replaces it; without, every frame is answered.
    """
    queueing = {"policy": "drop_oldest", "queue": 1} if drops else {"policy": "wait"}
    fields = {"strategy": spec.strategy, "params": json.dumps(spec.params), "top_k": 1, **queueing}
    return f"ws://{HOST}:{port}/v1/streams/{stream}/live?{urlencode(fields)}"


def record(url: str, frames: Sequence[bytes], interval_s: float = 0.0) -> CameraRecording:
    """Send the frames, one every ``interval_s`` seconds, and return the answers until that to the last frame.

    Frames are due at fixed times; the camera waits for no answer (but for room, where the policy is to wait).

    Raises:
        LoadError: the server answers with an error or not at all, or the connection ends.
    """
    try:
        # Pings would queue up behind frames that wait.
        with connect(url, ping_interval=None, compression=None, max_size=None) as camera:
            return _exchange(camera, frames, interval_s)
    except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
        raise LoadError(f"the live connection failed: {error or 'no answer in time'}") from error


def _exchange(camera: ClientConnection, frames: Sequence[bytes], interval_s: float) -> CameraRecording:
    with ThreadPoolExecutor(1) as pool:
        begin_s = time.perf_counter() + 0.01
        due_s = [begin_s + number * interval_s for number in range(len(frames))]
        sending = pool.submit(_send, camera, frames, due_s)
        try:
            answers = [_read(camera)]
            while answers[-1].frame < len(frames) - 1:
                answers.append(_read(camera))
        except BaseException:
            # Which ends the thread that sends, too.
            camera.close()
            raise
        return CameraRecording(answers, due_s, sending.result())


def _send(camera: ClientConnection, frames: Sequence[bytes], due_s: Sequence[float]) -> list[float]:
    sent_s = []
    for frame, due in zip(frames, due_s, strict=True):
        pause = due - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        sent_s.append(time.perf_counter())
        camera.send(frame)
    return sent_s


def _read(camera: ClientConnection) -> FrameAnswer:
    message = camera.recv(ANSWER_S)
    at_s = time.perf_counter()
    answer = json.loads(message)
    if "error" in answer:
        raise LoadError(f"the server answers frame {answer['frame']} with {answer['code']}: {answer['error']}")
    return FrameAnswer(answer["frame"], answer["predictions"][0]["index"], at_s)

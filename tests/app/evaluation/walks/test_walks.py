"""Streams of walks: weights in steps, the images of an order, files, and the images that are sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.evaluation.errors import EvaluationError, StreamFileError
from app.evaluation.running.grid import StreamName, streams_digest
from app.evaluation.running.runner import images_of, labels_of
from app.evaluation.streams.orders import parse_order
from app.evaluation.streams.stream_files import load_stream, save_stream
from app.evaluation.streams.streams import StreamPlan, make_stream
from app.evaluation.types import Blend, StreamOrder
from app.evaluation.walks.calibration import SHARES, Path, Walk
from app.evaluation.walks.walks import STEPS, make_walk
from tests.app.evaluation.walks.blendable import LABELS, blendable

DATA = blendable(fog=200, snow=100, frost=120)
SHARE = np.array(SHARES)


def _path(start: int, end: int, first: float, last: float) -> Path:
    weights = np.stack([first * (1 - SHARE), last * SHARE], 1)
    return Path(start, end, weights, np.full(len(SHARES), 0.5))


WALK = Walk([_path(0, 2, 0.4, 0.8), _path(2, 0, 0.8, 0.4)], 0.5, [1])


def _walk(order: str = "iid", seed: int = 0, limit: int | None = 96, step_images: int | None = None) -> StreamOrder:
    return make_walk(StreamPlan(DATA, parse_order(order), seed, limit), WALK, step_images)


def _weights_by_domain(stream: StreamOrder) -> NDArray[np.float64]:
    """Weights of fog and frost, ``[T, 2]``, whichever comes first."""
    assert stream.blend is not None
    swap = (stream.domain == 2)[:, None]
    return np.where(swap, stream.blend.weights[:, ::-1], stream.blend.weights).astype(np.float64)


def test_weights_move_along_the_path_in_equal_steps() -> None:
    stream = _walk()
    assert stream.blend is not None
    assert (stream.protocol, stream.order, stream.seed, len(stream.image)) == ("walk", "iid", 0, 192)
    weights = _weights_by_domain(stream)
    for step in range(STEPS):
        part = weights[6 * step : 6 * step + 6]
        assert part == pytest.approx(np.tile([0.4 * (1 - step / STEPS), 0.8 * step / STEPS], (6, 1)), abs=1e-6)
    assert weights[96] == pytest.approx([0, 0.8], abs=1e-6), "the second path begins where the first one ends"
    changes = np.abs(np.diff(weights, axis=0)).max(1)
    assert changes.max() == pytest.approx(0.8 / STEPS, abs=1e-6)
    assert (stream.blend.weights[:, 0] >= stream.blend.weights[:, 1]).all(), "the domain is the stronger corruption"
    assert {*stream.domain.tolist()} == {0, 2}
    assert (stream.domain != stream.blend.second).all()
    assert not stream.segment.any()


@pytest.mark.parametrize("order", ["iid", "sorted", "dirichlet:0.1", "stretches:12"])
def test_each_path_shows_the_images_of_continual_in_their_order(order: str) -> None:
    continual = make_stream(DATA, "continual", parse_order(order), 3, 48)
    walk = _walk(order, 3, 48)
    assert walk.image[:48].tolist() == continual.image[continual.domain == 0].tolist()
    assert walk.image[48:].tolist() == continual.image[continual.domain == 2].tolist()


@pytest.mark.parametrize(("step_images", "limit"), [(1, 96), (2, 32), (10, 96), (25, None)])
def test_steps_have_the_images_asked_for(step_images: int, limit: int | None) -> None:
    stream = _walk(step_images=step_images, limit=limit)
    assert len(stream.image) == 2 * STEPS * step_images
    weights = _weights_by_domain(stream).reshape(2 * STEPS, step_images, 2)
    assert (weights == weights[:, :1]).all()
    for part in np.split(stream.image, 2):
        counts = np.bincount(part, minlength=100)
        assert counts.max() - counts[counts > 0].min() <= 1, "images come again only after the others"


def test_a_walk_follows_from_the_seed() -> None:
    first, second = _walk(), _walk()
    assert np.array_equal(first.image, second.image)
    assert not np.array_equal(first.image, _walk(seed=1).image)


def test_a_step_without_images_is_refused() -> None:
    with pytest.raises(EvaluationError, match="a step needs at least 1 image, not 0"):
        _walk(step_images=0)


def test_requests_are_sent_as_blends() -> None:
    stream = _walk()
    part = slice(90, 102)
    images = images_of(DATA, stream, part)
    assert isinstance(images, torch.Tensor)
    assert images[:, 0, 0, 0].tolist() == stream.image[part].tolist()
    damage = _weights_by_domain(stream)[part] @ [200, 120]
    assert images[:, 0, 1, 0].numpy() == pytest.approx(damage, abs=0.51)
    assert labels_of(DATA, stream).tolist() == LABELS[stream.image].tolist()


def test_a_saved_walk_is_read_back(tmp_path: FilePath) -> None:
    stream = _walk("ptta")
    save_stream(tmp_path / "w.npz", stream, DATA)
    read = load_stream(tmp_path / "w.npz", DATA)
    assert read.blend is not None
    assert stream.blend is not None
    for name in ("domain", "image", "segment"):
        assert np.array_equal(getattr(read, name), getattr(stream, name))
    assert np.array_equal(read.blend.second, stream.blend.second)
    assert np.array_equal(read.blend.weights, stream.blend.weights)
    key = StreamName("walk", "ptta", 0)
    assert streams_digest({key: read}) == streams_digest({key: stream})
    moved = replace(stream, blend=Blend(stream.blend.second, stream.blend.weights * 0.5))
    assert streams_digest({key: moved}) != streams_digest({key: stream})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weights", np.zeros((192, 3), np.float32), "its weights are float32 .192, 3., not numbers"),
        ("weights", np.zeros((192, 2), np.int64), "its weights are int64"),
        ("weights", np.full((192, 2), 1.5, np.float32), "its weights are not between 0 and 1"),
        ("weights", np.full((192, 2), np.nan, np.float32), "its weights are not between 0 and 1"),
        ("second", np.zeros(5, np.int32), "differ in length"),
        ("second", np.full(192, 7, np.int32), "domain number 7, but there are 4"),
        ("second", np.full(192, 1, np.int32), "names, labels or images differ"),
    ],
)
def test_a_walk_with_wrong_entries_is_refused(
    tmp_path: FilePath, field: str, value: NDArray[np.generic], message: str
) -> None:
    path = tmp_path / "w.npz"
    save_stream(path, _walk(), DATA)
    with np.load(path) as file:
        arrays = {**file, field: value}
    np.savez(path, **arrays)
    with pytest.raises(StreamFileError, match=message):
        load_stream(path, DATA)


def test_a_walk_without_its_weights_or_clean_images_is_refused(tmp_path: FilePath) -> None:
    path = tmp_path / "w.npz"
    save_stream(path, _walk(), DATA)
    with pytest.raises(StreamFileError, match="other data: the data have no clean images to blend"):
        load_stream(path, replace(DATA, domains=DATA.domains[:3]))
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "weights"}
    np.savez(path, **arrays)
    with pytest.raises(StreamFileError, match="is not a saved stream"):
        load_stream(path, DATA)

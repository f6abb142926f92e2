"""Tracking along any axis of a volume: planes, voxels and votes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from factories import make_model
from napari_sam2 import PromptError, segment_along_axes
from napari_sam2.inference.stacks.volume_axes import vote


class Copying:
    """In place of a segmenter: an object is all that is as bright as the voxel that was clicked."""

    def __init__(self, model: object) -> None:
        self._levels: dict[int, int] = {}

    def set_video(self, frames: np.ndarray) -> None:
        self._frames = frames
        self._levels.clear()

    def add_clicks(self, frame: int, clicks: np.ndarray, *, object_id: int) -> None:
        (x, y), *_ = np.rint(clicks).astype(int)
        self._levels[object_id] = self._frames[frame, y, x]

    def track_into(self, labels: np.ndarray) -> Iterator[None]:
        for t, frame in enumerate(self._frames):
            for object_id, level in self._levels.items():
                labels[t][frame == level] = object_id
            yield


@pytest.fixture
def volume() -> np.ndarray:
    """Two bricks in 12 planes of 20 x 30."""
    found = np.zeros((12, 20, 30), np.uint8)
    found[2:5, 3:9, 4:12], found[6:11, 10:18, 15:29] = 100, 200
    return found


CLICKS = {1: [[3, 5, 8]], 7: [[8, 14, 20]]}


@pytest.mark.parametrize("axes", [("Z",), ("Y",), ("X",), ("Z", "Y", "X")])
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 1, 1), (1, 2, 4)])
def test_masks_come_back_on_the_voxels(volume, axes, size, monkeypatch):
    monkeypatch.setattr("napari_sam2.inference.stacks.volume_axes.SAM2VideoSegmenter", Copying)
    found = segment_along_axes(volume, CLICKS, axes=axes, voxel_size=size)
    assert tuple(found.by_axis) == axes
    for object_id, level in ((1, 100), (7, 200)):
        truth = volume == level
        # brightness is interpolated between two voxels, so that a stretched border may lose one
        shared = (truth & (found.labels == object_id)).sum() / (truth | (found.labels == object_id)).sum()
        assert shared == 1 if size == (1, 1, 1) else shared > 0.7
    assert not found.labels[volume == 0].any()


def test_a_network_tracks_along_y(volume):
    found = segment_along_axes(volume, CLICKS, axes=["y"], model=make_model(image_size=64))
    assert found.labels.shape == volume.shape
    assert found.labels.dtype == np.int32
    assert list(found.by_axis) == ["Y"]


def test_votes():
    a, b, c = np.array([[[1, 1, 0, 2, 0]]]), np.array([[[1, 2, 0, 0, 0]]]), np.array([[[1, 2, 1, 1, 2]]])
    assert vote([a, b, c], [1, 2]).tolist() == [[[1, 2, 0, 0, 0]]]
    assert vote([a, b], [1, 2]).tolist() == [[[1, 1, 0, 2, 0]]]  # of two, one vote is half; the lower number wins


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"axes": ("T",)}, "some of Z, Y and X", id="axis"),
        pytest.param({"axes": ("Z", "z")}, "each once", id="twice"),
        pytest.param({"voxel_size": (1, 0, 1)}, "above 0", id="size"),
        pytest.param({"clicks": {1: [[3, 5, 80]]}}, "outside the volume", id="outside"),
        pytest.param({"clicks": {1: [[3, 5]]}}, "rows of z, y, x", id="two-coordinates"),
        pytest.param({"clicks": {}}, "no click", id="none"),
        pytest.param({"volume": np.zeros((3, 4))}, "expected \\(Z, Y, X\\)", id="an-image"),
    ],
)
def test_impossible_arguments_are_refused(volume, change, words):
    arguments = {"volume": volume, "clicks": CLICKS, **change}
    with pytest.raises(PromptError, match=words):
        segment_along_axes(**arguments)

"""A session and a segmenter see the same frames of an array, and give the same labels for the same prompts."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy import ndimage

from napari_sam2 import SAM2VideoSegmenter, Session, load_model, open_frames
from napari_sam2.session.state.settings import SessionSettings
from napari_sam2.training.synthetic import make_demo_stack
from places import SHARED


def innermost(mask: np.ndarray) -> tuple[int, int]:
    """(y, x) of the pixel of a mask that is farthest from its outline."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), mask.shape)
    return int(y), int(x)


def clicks_of(truth: np.ndarray, count: int, plane: int | None = None) -> list[tuple[int, int, int]]:
    """(plane, y, x) inside the largest objects, each on the given plane or where it is largest."""
    areas = {i: (truth == i).sum((1, 2)) for i in np.unique(truth) if i}
    planes = {i: int(area.argmax()) if plane is None else plane for i, area in areas.items()}
    largest = sorted(areas, key=lambda i: -areas[i][planes[i]])[:count]
    return [(planes[i], *innermost(truth[planes[i]] == i)) for i in largest]


def labels_of_both(stack: np.ndarray, clicks: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    model = load_model()
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(stack)
    with Session(stack, model=model) as session:
        for n, (z, y, x) in enumerate(clicks, start=1):
            segmenter.add_clicks(z, [(x, y)], object_id=n)
            session.add_points([[z, y, x]], object_id=n)
        session.propagate()
        return np.array(session.labels), segmenter.track_objects()


@pytest.mark.parametrize("plane", [2, None], ids=["one plane", "planes of their own"])
def test_session_and_segmenter_give_equal_labels(plane: int | None):
    stack, truth = make_demo_stack(0)
    stack, truth = stack[5:9, :96, :96], truth[5:9, :96, :96]
    found, expected = labels_of_both(stack, clicks_of(truth, 3, plane))
    np.testing.assert_array_equal(found, expected)
    assert expected.any()


@pytest.mark.slow
@pytest.mark.parametrize("plane", [12, None], ids=["one plane", "planes of their own"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_labels_of_the_whole_demo_are_equal(kind: str, plane: int | None):
    stack, truth = make_demo_stack(0)
    images = {"uint8": (stack >> 4).astype(np.uint8), "uint16": stack, "float32": stack.astype(np.float32) / 4095 - 0.1}
    found, expected = labels_of_both(images[kind], clicks_of(truth, 4, plane))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data" / "dev").exists(), reason="the labelled data is not next to the clone")
@pytest.mark.parametrize("name", ["fib25_dev", "stardist_3d_synthetic"])
@pytest.mark.parametrize("plane", [8, None], ids=["one plane", "planes of their own"])
def test_labels_of_microscopy_are_equal(name: str, plane: int | None):
    with np.load(SHARED / "data" / "dev" / f"{name}.npz") as data:
        stack, truth = data["image"][10:26], data["labels"][10:26]
    found, expected = labels_of_both(stack, clicks_of(truth, 5, plane))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_one_object_is_tracked_alike_in_each_direction(reverse: bool):
    stack, truth = make_demo_stack(0)
    stack, truth = stack[5:9, :96, :96], truth[5:9, :96, :96]
    ((_, y, x),) = clicks_of(truth, 1, 2)
    start, model = 3 if reverse else 0, load_model()
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(stack)
    segmenter.add_clicks(start, [(x, y)])
    with Session(stack, model=model) as session:
        session.add_points([[start, y, x]])
        session.propagate(direction="backward" if reverse else "forward")
        for result in segmenter.propagate_masklets(reverse=reverse):
            np.testing.assert_array_equal(np.asarray(session.labels[result.frame]) == 1, result.masks[0])


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((40, 50), "uint8"),
        ((40, 50), "uint16"),
        ((40, 50, 3), "uint8"),
        ((5, 40, 50), "uint8"),
        ((5, 40, 50), "uint16"),
        ((5, 40, 50), "int16"),
        ((5, 40, 50), "float32"),
        ((5, 40, 50, 3), "uint8"),
    ],
    ids=str,
)
def test_session_and_segmenter_see_the_same_frames(shape: tuple[int, ...], dtype: str):
    rng = np.random.default_rng(3)
    array = (rng.gamma(2.0, 40.0, shape) % 250).astype(dtype)
    expected = open_frames(array)
    with Session(array) as session:
        frames = session.frames
        assert frames.shape == expected.shape
        for index in range(len(expected)):
            np.testing.assert_array_equal(frames[index], expected[index])


def test_lost_objects_are_given_up_after_as_many_frames():
    for method in (SAM2VideoSegmenter.track_objects, SAM2VideoSegmenter.track_frames):
        assert inspect.signature(method).parameters["lost_after"].default == SessionSettings().lost_after

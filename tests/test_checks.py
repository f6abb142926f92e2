"""Frames, object numbers and arrays to write to are refused before any work begins."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from factories import make_model, make_movie
from napari_sam2 import Prompt, PromptError, SAM2ImagePredictor, SAM2VideoSegmenter, segment_seeds, segment_stack
from napari_sam2._checks import as_numbers, check_frame, check_ids, check_object_id, check_out
from napari_sam2.network.sam2 import SAM2


@pytest.fixture(scope="module")
def model() -> SAM2:
    return make_model()


@pytest.mark.parametrize("frame", [0, 4, np.int64(3), np.uint8(2), 2.0, np.float64(1)])
def test_whole_numbers_are_frames(frame: object) -> None:
    assert check_frame(frame, 5) == frame


@pytest.mark.parametrize("frame", [-1, 5, 1.5, True, np.True_, "1", None, [1, 2], float("nan"), float("inf"), b"1"])
def test_anything_else_is_none(frame: object) -> None:
    with pytest.raises(PromptError, match="frames 0 to 4"):
        check_frame(frame, 5)


@pytest.mark.parametrize("object_id", [0, -3, 2**31, 1.5, "a", None, True])
def test_object_numbers_fit_into_labels(object_id: object) -> None:
    with pytest.raises(PromptError, match="from 1 to 2147483647"):
        check_object_id(object_id)


@pytest.mark.parametrize(("given", "message"), [([], "empty"), (1, "sequence"), ("12", "sequence"), ([0], "from 1 to")])
def test_several_object_numbers(given: object, message: str) -> None:
    assert check_ids((2, np.int32(7))) == [2, 7]
    with pytest.raises(PromptError, match=message):
        check_ids(given)


def test_ragged_rows_and_words_are_no_numbers() -> None:
    for values in ([[1, 2], [3]], [["x", 1]]):
        with pytest.raises(PromptError, match="points is not an array of numbers"):
            as_numbers(values, "points")


def test_only_arrays_are_written_to() -> None:
    check_out(None, (2, 3))
    with pytest.raises(PromptError, match="give an array of shape"):
        check_out(SimpleNamespace(shape=(2, 3)), (2, 3))
    check_out(np.zeros((2, 3), np.uint8), (2, 3), largest=255)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, 48, 64), "int32", r"\(4, 48, 64\); the labels need \(5, 48, 64\)"),
        ((5, 48, 60), "int32", "the labels need"),
        ((5, 48, 64), "uint8", "uint8, which cannot hold label 300"),
        ((5, 48, 64), "float32", "use int32"),
    ],
)
def test_nothing_is_tracked_into_an_array_that_does_not_suit(
    model: SAM2, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    movie, out = make_movie(5), np.zeros(shape, dtype)
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(movie)
    segmenter.add_clicks(1, [(20, 20)], object_id=300)
    with pytest.raises(PromptError, match=message):
        segmenter.track_objects(out=out)
    seeds = np.zeros((48, 64), np.int32)
    seeds[10:20, 10:20] = 300
    with pytest.raises(PromptError, match=message):
        segment_seeds(movie, seeds, frames=1, out=out, segmenter=segmenter)
    with pytest.raises(PromptError, match="out"):
        segment_stack(movie, every=5, out=out, model=model)
    assert not out.any()


def test_small_types_do_where_they_hold_all_numbers(model: SAM2) -> None:
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(make_movie(3))
    segmenter.add_clicks(1, [(20, 20)], object_id=7)
    out = np.zeros((3, 48, 64), np.uint8)
    assert segmenter.track_objects(out=out) is out
    assert np.array_equal(out, segmenter.track_objects())


def test_frames_and_objects_of_the_segmenter(model: SAM2) -> None:
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(make_movie(3))
    for frame, message in ((1.5, "frames 0 to 2"), (True, "integer"), ("1", "integer"), (None, "integer")):
        with pytest.raises(PromptError, match=message):
            segmenter.add_clicks(frame, [(20, 20)])  # type: ignore[arg-type]
    segmenter.add_clicks(1, [(20, 20)])
    with pytest.raises(PromptError, match="expected an integer"):
        segmenter.propagate_masklets(start=1.5)  # type: ignore[arg-type]
    for call in (segmenter.propagate_masklets, segmenter.track_objects):
        with pytest.raises(PromptError, match="object_ids is empty"):
            call(object_ids=[])
        with pytest.raises(PromptError, match="object_ids"):
            call(object_ids=1)  # type: ignore[arg-type]


def test_tracking_ends_with_its_stack_and_its_objects(model: SAM2) -> None:
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(make_movie(5))
    segmenter.add_clicks(0, [(20, 20)])
    results = segmenter.propagate_masklets()
    assert next(results).frame == 0
    segmenter.set_video(make_movie(2))
    assert not list(results)
    segmenter.add_clicks(0, [(20, 20)])
    results = segmenter.propagate_masklets()
    next(results)
    segmenter.reset()
    segmenter.add_clicks(0, [(30, 20)])
    assert not list(results)


def test_prompts_that_are_none(model: SAM2) -> None:
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(make_movie(1)[0])
    with pytest.raises(PromptError, match="expected a Prompt or a sequence"):
        predictor.predict([(20, 20)])  # type: ignore[list-item]
    with pytest.raises(PromptError, match="expected an array of numbers"):
        predictor.predict(point_coords=[[1, 2], [3]])
    with pytest.raises(PromptError, match="NaN"):
        predictor.predict(point_coords=[[20, 20]], mask_input=np.full((1, 16, 16), np.nan))
    with pytest.raises(PromptError, match="holds NaN"):
        Prompt(mask=np.array([[1.0, np.nan]]))
    with pytest.raises(PromptError, match="holds <U1"):
        Prompt(mask=np.array([["a", "b"]]))

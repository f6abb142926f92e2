"""Prompts do not change and keep their masks packed; results of a frame are windows of the image, arrays on demand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._errors import PromptError
from napari_sam2._types import DrawnShape, FrameResult, LogitWindow, Prompt, grew, is_same


def marked(row: int = 3) -> np.ndarray:
    mask = np.zeros((20, 30), bool)
    mask[row : row + 5, 4:9] = True
    return mask


def test_the_mask_of_a_prompt_is_what_was_given():
    given = marked()
    prompt = Prompt(mask=given)
    given[:] = False
    assert np.array_equal(prompt.mask, marked())
    prompt.mask[:] = False
    assert np.array_equal(prompt.mask, marked())
    assert prompt.has_mask
    assert prompt.is_mask_only


@pytest.mark.parametrize("name", ["points", "labels", "box", "mask"])
def test_a_prompt_does_not_change(name):
    with pytest.raises(AttributeError):
        setattr(Prompt([(1, 2)]), name, None)


def test_a_click_on_top_of_a_mask_is_no_mask_alone():
    prompt = Prompt([(1, 2)], mask=marked())
    assert prompt.has_mask
    assert not prompt.is_mask_only
    assert not Prompt([(1, 2)]).has_mask


def test_prompts_are_compared_with_their_masks():
    assert is_same(Prompt(mask=marked()), Prompt(mask=marked()))
    assert not is_same(Prompt(mask=marked()), Prompt(mask=marked(4)))
    assert grew(Prompt([(5, 5)], mask=marked()), Prompt(mask=marked()))
    assert not grew(Prompt([(5, 5)], mask=marked(4)), Prompt(mask=marked()))


def test_how_a_prompt_was_drawn_does_not_make_it_another_one():
    shape = DrawnShape("polygon", [(1, 1), (9, 1), (5, 8)])
    drawn = Prompt(mask=marked(), drawn=[shape])
    assert is_same(drawn, Prompt(mask=marked()))
    assert drawn.drawn == (DrawnShape("polygon", [(1, 1), (9, 1), (5, 8)]),)
    assert drawn.drawn != (DrawnShape("polygon", [(1, 1), (9, 1), (5, 9)]),)
    assert repr(drawn) == "Prompt(mask=<25 of (20, 30) pixels>, drawn=<polygon>)"
    with pytest.raises(PromptError, match="polygon that was drawn leaves the image of 8 x 9"):
        Prompt([(1, 2)], drawn=[shape]).check_inside((9, 8))


@pytest.mark.parametrize(
    ("kind", "vertices", "match"),
    [
        ("star", [(1, 1), (9, 1), (5, 8)], "expected 'rectangle', 'polygon', 'ellipse', 'line' or 'path'"),
        ("polygon", [(1, 1), (9, 1)], "expected at least 3"),
        ("rectangle", [(1, 1), (9, 1), (5, 8)], "of 3 vertices was given; expected 4"),
        ("line", [(1, 1), (9, 1), (5, 8)], "expected 2"),
        ("path", [(1, 1), (9, np.nan)], "vertices hold NaN"),
        ("path", [(1, 1, 1), (9, 1, 1)], r"vertices of shape \(2, 3\)"),
    ],
)
def test_shapes_that_cannot_be_drawn_are_refused(kind, vertices, match):
    with pytest.raises(PromptError, match=match):
        DrawnShape(kind, vertices)


def test_whether_a_scribble_marks_the_object_is_one_truth_value():
    with pytest.raises(PromptError, match=r"is_object=.* expected True or False"):
        DrawnShape("path", [(1, 1), (9, 1)], np.ones((4, 4), bool))


def test_only_shapes_are_taken_as_drawn():
    with pytest.raises(PromptError, match="expected a list of DrawnShape"):
        Prompt([(1, 2)], drawn=["polygon"])


def test_a_prompt_is_shown_without_its_pixels():
    assert repr(Prompt([(1, 2)], [0], mask=marked())) == (
        "Prompt(points=[[1.0, 2.0]], labels=[0], mask=<25 of (20, 30) pixels>)"
    )


def make_result(*, has_logits: bool) -> FrameResult:
    windows = (
        LogitWindow(1, 2, np.array([[3, -1], [0.5, 2]], np.float32)),
        LogitWindow(0, 0, np.zeros((0, 0), np.float32)),
    )
    scores = np.ones(2, np.float32)
    return FrameResult(4, (7, 9), (5, 6), windows, scores, scores, has_logits=has_logits)


def test_masks_and_areas_of_windows():
    result = make_result(has_logits=False)
    assert result.masks.shape == (2, 5, 6)
    assert np.argwhere(result.masks[0]).tolist() == [[1, 2], [2, 2], [2, 3]]
    assert not result.masks[1].any()
    assert result.areas.tolist() == [3, 0]


def test_logits_are_the_background_outside_the_windows():
    assert make_result(has_logits=False).logits is None
    logits = make_result(has_logits=True).logits
    assert logits is not None
    assert logits[0, 1, 3] == -1
    assert logits[0, 0, 0] == logits[1].max() == -32


@pytest.mark.parametrize("origin", [(0, 0), (10, 20)])
def test_a_cropped_window_is_the_bounding_box_of_its_mask(origin):
    logits = np.full((6, 8), -2, np.float32)
    logits[2:4, 3:7] = 1
    logits[3, 4] = -0.5
    cropped = LogitWindow(*origin, logits).cropped()
    assert (cropped.top, cropped.left) == (origin[0] + 2, origin[1] + 3)
    assert cropped.logits.tolist() == [[1, 1, 1, 1], [1, -0.5, 1, 1]]
    assert LogitWindow(*origin, np.full((3, 3), -1, np.float32)).cropped().logits.size == 0

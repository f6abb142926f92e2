"""Contact sheets: which frames, which part of them, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2._errors import FrameError
from napari_sam2._types import Prompt
from napari_sam2.labels.contact_sheet import PreviewTile, choose_frames, draw_contact_sheet, object_colour


def make_tile(hw=(60, 80), box=(20, 30, 40, 60), object_id=1, **over):
    labels = np.zeros(hw, np.int32)
    labels[box[0] : box[2], box[1] : box[3]] = object_id
    return PreviewTile(**{"image": np.full((*hw, 3), 90, np.uint8), "labels": labels, "caption": "z 1", **over})


def count(sheet, colour):
    return int((sheet == np.array(colour)).all(axis=-1).sum())


def test_frames_shown_hold_the_prompted_ones_and_spread_over_the_found_ones():
    chosen = choose_frames(2000, prompted={700}, found=range(100, 1500))
    assert len(chosen) == 12
    assert chosen == sorted(chosen)
    assert {100, 700, 1499} <= set(chosen)
    assert max(np.diff(chosen)) < 300


@pytest.mark.parametrize(
    ("prompted", "found", "expected"),
    [
        pytest.param({2}, {1, 2, 3}, [1, 2, 3], id="few"),
        pytest.param(set(), set(), [0, 1, 2, 3, 4], id="nothing-found"),
        pytest.param({4}, set(), [4], id="prompted-only"),
    ],
)
def test_few_frames_are_all_shown(prompted, found, expected):
    assert choose_frames(5, prompted=prompted, found=found) == expected


def test_many_prompted_frames_leave_room_for_others():
    chosen = choose_frames(100, prompted=range(50), found=range(100))
    assert len(chosen) == 12
    assert sum(frame >= 50 for frame in chosen) >= 3


def test_objects_have_colours_of_their_own():
    colours = [object_colour(i) for i in range(1, 31)]
    assert len(set(colours)) == 30
    assert all(0 <= value <= 255 for colour in colours for value in colour)


def test_outline_has_the_object_s_colour_and_the_inside_only_a_tint():
    sheet = draw_contact_sheet([make_tile()], zoom_in=False)
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    zoom = 6  # the largest
    perimeter = 2 * (20 + 30) * zoom
    assert 1.8 * perimeter < count(sheet, object_colour(1)) < 2.2 * perimeter
    assert count(draw_contact_sheet([make_tile(labels=np.zeros((60, 80), np.int32))]), object_colour(1)) == 0


def test_sheet_shows_only_the_part_with_objects():
    tile = make_tile(hw=(1000, 1000), box=(500, 500, 540, 540))
    near, far = draw_contact_sheet([tile]), draw_contact_sheet([tile], zoom_in=False)
    assert count(near, object_colour(1)) > 3 * count(far, object_colour(1))


def test_objects_at_the_border_and_of_one_pixel_are_drawn():
    tile = make_tile(box=(0, 0, 60, 80))
    tile.labels[59, 79] = 2
    sheet = draw_contact_sheet([tile])
    assert count(sheet, object_colour(1))
    assert count(sheet, object_colour(2))


def test_prompts_are_drawn_clicks_boxes_and_background_apart():
    empty = np.zeros((60, 80), np.int32)
    plain = draw_contact_sheet([make_tile(labels=empty)], zoom_in=False)
    click = Prompt(points=[(40, 30)])
    background = Prompt(points=[(40, 30)], labels=[0])
    box = Prompt(box=(10, 10, 50, 40))
    drawn = [
        draw_contact_sheet([make_tile(labels=empty, prompts=((3, prompt),))], zoom_in=False)
        for prompt in (click, background, box)
    ]
    assert count(drawn[0], object_colour(3)) > 20
    assert count(drawn[1], object_colour(3)) == 0
    assert count(drawn[1], (200, 0, 0)) > 5
    assert count(drawn[2], object_colour(3)) > 2 * (40 + 30) * 6
    assert all((sheet != plain).any() for sheet in drawn)


@pytest.mark.parametrize("num_tiles", [1, 2, 3, 4, 5, 7, 9, 12])
@pytest.mark.parametrize("hw", [(40, 60), (30, 200), (200, 30), (1, 1)])
def test_any_number_and_form_of_tiles_fits_on_a_sheet(num_tiles, hw):
    tiles = [PreviewTile(np.zeros((*hw, 3), np.uint8), np.ones(hw, np.int32), f"z {i}") for i in range(num_tiles)]
    sheet = draw_contact_sheet(tiles, title="a title")
    assert sheet.shape[1] <= 1320
    assert sheet.shape[0] <= 3000


def test_tiles_of_different_sizes_are_an_error():
    with pytest.raises(FrameError, match="same size"):
        draw_contact_sheet([make_tile(), make_tile(hw=(61, 80))])
    with pytest.raises(FrameError, match="0 tiles"):
        draw_contact_sheet([])

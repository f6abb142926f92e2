"""How the view of a click is chosen: by score, by what is cut off, and by agreement with the next view."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2._types import Prompt
from napari_sam2.inference.views.click_search import (
    ViewCandidates,
    answer_prompts,
    average_best,
    nearby_views,
    needs_click_search,
    other_views,
    search_click,
    search_views,
)
from napari_sam2.inference.views.view import View

HW = (400, 400)
CLICK = Prompt(points=[(200, 200)])


def disc_logits(view: View, radius: float, *, shift: float = 0.0, side: int = 64) -> torch.Tensor:
    """(side, side) logits of a disc around the click, in pixels of the image."""
    step = view.width / side
    x = view.x + (np.arange(side) + 0.5) * step
    y = view.y + (np.arange(side) + 0.5) * step
    inside = (x[None] - 200 - shift) ** 2 + (y[:, None] - 200) ** 2 < radius**2
    return torch.from_numpy(np.where(inside, 8.0, -8.0).astype(np.float32))


def looker(masks_of, seen):
    """A ``decode`` that draws what ``masks_of(view)`` gives: a list of (radius, shift, score)."""

    def decode(views, logits):
        assert logits is None or len(views) == 1
        looks = []
        for view in views:
            seen.append(view)
            rows = masks_of(view)
            logits = torch.stack([disc_logits(view, radius, shift=shift) for radius, shift, _ in rows])[None]
            looks.append(ViewCandidates(view, logits, torch.tensor([[score for _, _, score in rows]])))
        return looks

    return decode


def test_only_clicks_without_logits_need_a_search():
    assert needs_click_search(CLICK, 128, has_logits=False)
    assert not needs_click_search(CLICK, None, has_logits=False)
    assert not needs_click_search(CLICK, 128, has_logits=True)
    assert not needs_click_search(Prompt(points=[(1, 1)], box=(0, 0, 5, 5)), 128, has_logits=False)


def test_the_last_views_are_scaled_to_the_object():
    seen = []
    look = search_click(looker(lambda _: [(20, 0, 0.4)], seen), CLICK, HW, 128)
    *first, closer, wide, again = seen
    assert [view.width for view in first] == [96, 192, 384]
    assert look.view == closer == again
    assert wide.width == round(1.4 * closer.width)
    assert abs(40 / look.view.width - 0.24) < 0.03  # diameter against the window


def test_the_widest_window_is_left_out_where_the_others_are_sure_of_the_same_mask():
    seen = []
    search_click(looker(lambda _: [(20, 0, 0.9)], seen), CLICK, HW, 128)
    assert [view.width for view in seen[:2]] == [96, 192]
    assert max(view.width for view in seen) < 384


def test_a_box_is_answered_in_a_wider_and_a_narrower_window_too_if_nothing_else_shapes_the_mask():
    view = View(100, 100, 80, 80, is_native=True)
    box = Prompt(box=(110, 110, 130, 130))
    wide, near = other_views(box, view, HW, has_logits=False)
    assert (wide.x, wide.y, wide.width) == (84, 84, 112)
    assert (near.x, near.y, near.width) == (100, 100, 40)  # around the box, not in the middle of the view
    assert near.is_mirrored
    assert not wide.is_mirrored
    assert other_views(box, view, HW, has_logits=True) == []
    assert other_views(CLICK, view, HW, has_logits=False) == []
    assert other_views(box, View(0, 0, 400, 400, is_native=False), HW, has_logits=False) == []
    large = Prompt(box=(2, 2, 390, 390))
    assert other_views(large, View(0, 0, 400, 400, is_native=True), HW, has_logits=False) == []


def test_the_mask_of_a_box_is_on_the_grid_of_the_narrowest_view_with_the_score_of_its_own():
    view = View(160, 160, 80, 80, is_native=True)
    seen, given = [], []

    def decode(rows, views, logits):
        seen.extend(views)
        given.extend(logits)
        scores = {80: 0.7, 112: 0.8, 40: 0.9}
        return [ViewCandidates(v, disc_logits(v, 8)[None, None], torch.full((1, 1), scores[v.width])) for v in views]

    (found,) = answer_prompts(decode, [Prompt(box=(192, 192, 208, 208))], [view], [None], HW, 128)
    assert [v.width for v in seen] == [80, 112, 40, 80]
    assert [each is not None for each in given] == [False, False, False, True]  # the mean, to be refined
    assert ((given[-1][0, 0] > 0) == (disc_logits(view, 8) > 0)).float().mean() > 0.97
    assert found.view == View(180, 180, 40, 40, is_native=True)
    assert float(found.scores) == pytest.approx(0.7)
    expected = disc_logits(found.view, 8) > 0
    assert ((found.logits[0, 0] > 0) == expected).float().mean() > 0.97


def test_masks_of_several_views_are_averaged_in_image_coordinates():
    near, far = View(160, 160, 80, 80, is_native=True), View(144, 144, 112, 112, is_native=True)
    one, other = (ViewCandidates(v, disc_logits(v, 20)[None, None], torch.ones(1, 1)) for v in (near, far))
    mean = average_best(one, [other])
    assert mean.view == near
    expected = disc_logits(near, 20) > 0
    assert ((mean.logits[0, 0] > 0) == expected).float().mean() > 0.98


def test_a_mask_that_its_window_cuts_off_loses_to_one_that_is_whole():
    # the object has a radius of 70: the narrow window is filled from edge to edge, with a better predicted score
    seen = []
    search_click(looker(lambda view: [(70, 0, 0.80 if view.width < 100 else 0.75)], seen), CLICK, HW, 128)
    assert seen[-1].width > 192


def test_a_mask_found_in_two_views_beats_a_slightly_better_score_in_one():
    def masks(view):
        # a large blob that only the widest window sees; a small disc that the other two agree on
        return [(150, 0, 0.75)] if view.width > 300 else [(20, 0, 0.7)]

    seen = []
    search_click(looker(masks, seen), CLICK, HW, 128)
    assert seen[-1].width < 220


def test_the_result_is_the_mean_of_all_views_with_the_scores_of_the_second_pass():
    given = []

    def decode(views, logits):
        given.append(logits)
        # both closer looks see the disc elsewhere, the last between all
        shift = {2: 6, 3: 3}.get(len(given), 0)
        rows = [[disc_logits(view, 20, shift=shift), disc_logits(view, 60)] for view in views]
        scores = torch.tensor([[0.9, 0.1]])
        return [ViewCandidates(view, torch.stack(row)[None], scores) for view, row in zip(views, rows, strict=True)]

    look = search_click(decode, CLICK, HW, 128)
    assert [earlier is None for earlier in given] == [True, True, False]
    mean = given[2][0, 0]  # what the last look is asked to make better
    assert mean.abs().max() <= 10
    torch.testing.assert_close(look.logits[0, 0], (mean + disc_logits(look.view, 20, shift=3)) / 2)
    assert look.scores.tolist() == [[np.float32(0.9), np.float32(0.1)]]
    assert (look.logits[0, 1].abs() >= 7.9).all()  # the other candidate is left as it is


@pytest.mark.parametrize("shift", [pytest.param(0, id="clicked"), pytest.param(16, id="beside-the-click")])
def test_components_without_a_click_are_dropped(shift):
    def decode(views, _logits):
        near = [disc_logits(view, 10, shift=shift) for view in views]
        far = [disc_logits(view, 6, shift=45) for view in views]
        return [
            ViewCandidates(view, torch.maximum(a, b)[None, None], torch.ones(1, 1))
            for view, a, b in zip(views, near, far, strict=True)
        ]

    look = search_click(decode, CLICK, HW, 128)
    side = look.logits.shape[-1]
    columns = look.view.x + (np.flatnonzero((look.logits[0, 0] > 0).any(0)) + 0.5) * look.view.width / side
    assert columns.min() >= 200 + shift - 12
    assert columns.max() <= 200 + shift + 12


def test_nearby_clicks_share_search_views():
    one, other = (search_views(Prompt(points=[point]), HW, 128) for point in ((200, 200), (203, 198)))
    assert one == other
    for x, y in ((0, 0), (399, 5), (57, 320)):
        for view in search_views(Prompt(points=[(x, y)]), HW, 128):
            assert view.x <= x < view.x + view.width
            assert view.y <= y < view.y + view.height
            assert view.x >= 0
            assert view.x + view.width <= 400


def test_small_images_are_searched_as_a_whole():
    assert {tuple(search_views(Prompt(points=[(x, 20)]), (40, 60), 128)) for x in (0, 30, 59)} == {
        (View(0, -10, 60, 60, is_native=True),)
    }


def test_what_is_near_a_point_begins_with_its_own_windows():
    views = nearby_views((200, 200), HW, 128)
    assert views[:2] == search_views(CLICK, HW, 128)[:2]
    assert len(views) == len(set(views)) > 10
    assert set(search_views(Prompt(points=[(215, 180)]), HW, 128)[:2]) <= set(views)
    assert nearby_views((-50, 999), HW, 128)[:2] == search_views(Prompt(points=[(0, 399)]), HW, 128)[:2]

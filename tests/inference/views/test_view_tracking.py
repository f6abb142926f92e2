"""The window follows the object from frame to frame."""

from __future__ import annotations

import pytest
import torch

from napari_sam2.inference.views.transforms import masks_to_image, resample_logits
from napari_sam2.inference.views.view import View, view_for_extent
from napari_sam2.inference.views.view_tracking import MaskExtent, next_view

HW = (300, 400)


def test_follow_stays_while_the_object_is_well_inside():
    view = View(100, 100, 128, 128, True)
    assert next_view(MaskExtent(165, 160, 40), view, HW) == view
    assert next_view(None, view, HW) == view


def test_follow_recentres_on_an_object_that_moves_away():
    view = View(100, 100, 128, 128, True)
    moved = next_view(MaskExtent(210, 164, 40), view, HW)
    assert moved.width == 128
    assert moved.x + 64 == pytest.approx(210, abs=1)


def test_follow_zooms_on_an_object_that_grows_or_shrinks():
    view = View(100, 100, 128, 128, True)
    assert next_view(MaskExtent(164, 164, 90), view, HW).width > 200
    assert next_view(MaskExtent(164, 164, 5), view, HW).width < 64


def test_logits_seen_from_another_view_stay_in_place():
    source, target = View(100, 100, 128, 128, True), View(130, 120, 64, 64, True)
    logits = torch.full((1, 1, 64, 64), -5.0)
    logits[..., 20:30, 24:40] = 5.0
    full = [masks_to_image(low, view, HW)[0, 0] > 0 for low, view in (
        (logits, source), (resample_logits(logits, source, target), target))]  # fmt: skip
    assert (full[0] & full[1]).sum() / (full[0] | full[1]).sum() > 0.9
    away = resample_logits(logits, source, View(0, 0, 64, 64, True))
    assert (away < 0).all()


def test_view_is_never_larger_than_the_longer_side():
    assert view_for_extent((10, 10), 10_000, HW).width == 400
    assert view_for_extent((10, 10), 1, HW).width == 32

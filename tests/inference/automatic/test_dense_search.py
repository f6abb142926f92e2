"""Facts about the search with dense maps, with a predictor that knows the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam2._errors import PromptError
from napari_sam2.inference.automatic.dense_search import search_densely
from napari_sam2.inference.automatic.dense_settings import DenseSettings
from napari_sam2.inference.automatic.options import DENSE_OPTIONS
from napari_sam2.inference.automatic.proposals import filter_proposals
from napari_sam2.inference.views.click_search import ViewCandidates
from napari_sam2.labels.compose import masks_to_labels
from oracle import dense_maps_of

SIZE = 64


class TruthPredictor:
    """Maps and masks of known labels, seen through views; the maps blur what is smaller than three cells."""

    def __init__(self, labels: np.ndarray, presence: float = 1.0) -> None:
        self.labels = labels
        self.presence = presence
        self.views: list = []
        self.num_clicks = 0
        self.prompts: list = []

    def _seen(self, view) -> np.ndarray:
        """(S/4, S/4) labels at the middle of each cell."""
        cell = view.width // (SIZE // 4)
        h, w = self.labels.shape
        padded = np.zeros((max(h, view.y + view.height), max(w, view.x + view.width)), self.labels.dtype)
        padded[:h, :w] = self.labels
        part = padded[view.y : view.y + view.height, view.x : view.x + view.width]
        return part[cell // 2 :: cell, cell // 2 :: cell]

    def dense_maps(self, views):
        self.views += views
        return np.stack([dense_maps_of(self._seen(view)) for view in views])

    has_dense_maps = True

    def answer_objects(self, prompts, rough_logits, views):
        self.prompts += list(zip(prompts, rough_logits, views, strict=True))
        middles = [each.points[0] if each.box is None else (each.box[:2] + each.box[2:]) / 2 for each in prompts]
        return self._answer(np.array(middles), views)

    def answer_clicks(self, points_xy, views):
        self.num_clicks += len(points_xy)
        return self._answer(points_xy, views)

    def _answer(self, middles_xy, views):
        answers = []
        for middle_xy, view in zip(middles_xy, views, strict=True):
            x, y = middle_xy.round().astype(int)
            seen = self._seen(view)
            number = self.labels[min(y, self.labels.shape[0] - 1), min(x, self.labels.shape[1] - 1)]
            logits = np.where((seen == number) & (number > 0), 6.0, -6.0).astype(np.float32)
            answers.append(
                ViewCandidates(view, torch.from_numpy(logits)[None, None], torch.tensor([[0.9]]), self.presence)
            )
        return answers


def squares(hw: tuple[int, int], side: int, gap: int) -> np.ndarray:
    labels = np.zeros(hw, np.int32)
    number = 0
    for y in range(gap, hw[0] - side, side + gap):
        for x in range(gap, hw[1] - side, side + gap):
            number += 1
            labels[y : y + side, x : x + side] = number
    return labels


def iou_of_each(labels: np.ndarray, found: np.ndarray) -> list[float]:
    ious = []
    for number in range(1, labels.max() + 1):
        truth = labels == number
        best = np.bincount(found[truth]).argmax()
        ious.append(float((truth & (found == best)).sum() / (truth | (found == best)).sum()) if best else 0.0)
    return ious


SETTINGS = DenseSettings()


@pytest.mark.parametrize(
    ("hw", "side", "gap"),
    [
        pytest.param((96, 130), 24, 8, id="one-zoom"),
        pytest.param((150, 150), 10, 10, id="small-objects"),
        pytest.param((300, 260), 110, 16, id="large-objects"),
        pytest.param((40, 40), 20, 8, id="image-smaller-than-a-tile"),
    ],
)
def test_all_objects_are_found_whole(hw, side, gap):
    labels = squares(hw, side, gap)
    proposals = search_densely(TruthPredictor(labels), hw, SETTINGS, DENSE_OPTIONS, size=SIZE)
    found = masks_to_labels(filter_proposals(proposals, DENSE_OPTIONS), hw)
    ious = iou_of_each(labels, found)
    assert min(ious) > 0.6
    assert len(np.unique(found)) - 1 == labels.max()


def test_an_empty_image_gives_no_proposals():
    proposals = search_densely(
        TruthPredictor(np.zeros((70, 90), np.int32)), (70, 90), SETTINGS, DENSE_OPTIONS, size=SIZE
    )
    assert len(proposals) == 0
    assert filter_proposals(proposals, DENSE_OPTIONS) == []


def test_background_is_not_described_at_higher_zooms():
    labels = np.zeros((256, 256), np.int32)
    labels[10:20, 10:20] = 1
    predictor = TruthPredictor(labels)
    search_densely(predictor, labels.shape, SETTINGS, DENSE_OPTIONS, size=SIZE)
    closer = [view for view in predictor.views if view.width == SIZE // 2]
    assert closer
    assert all(view.x < 20 and view.y < 20 for view in closer)


def test_presence_lowers_the_score():
    labels = squares((64, 64), 24, 6)
    sure, unsure = (
        search_densely(TruthPredictor(labels, presence), labels.shape, SETTINGS, DENSE_OPTIONS, size=SIZE)
        for presence in (1.0, 0.25)
    )
    np.testing.assert_allclose(unsure.predicted_iou, sure.predicted_iou / 4, rtol=1e-5)


def test_an_object_whose_box_holds_others_is_prompted_by_itself():
    diagonal = np.tri(96, k=10, dtype=bool) & ~np.tri(96, k=-11, dtype=bool)
    labels = np.zeros((96, 96), np.int32)
    for number, shift in enumerate((-30, 0, 30)):
        rod = np.roll(diagonal, shift, axis=1)
        labels[36:60][rod[36:60]] = number + 1
    predictor = TruthPredictor(labels)
    search_densely(predictor, labels.shape, replace(SETTINGS, crowded=0.1), DENSE_OPTIONS, size=SIZE)
    among_others = [(prompt.points[0], rough, view) for prompt, rough, view in predictor.prompts if prompt.box is None]
    numbers = [labels[round(float(y)), round(float(x))] for (x, y), _, _ in among_others]
    assert 2 in numbers  # the rod in the middle
    for number, (_, rough, view) in zip(numbers, among_others, strict=True):
        seen = predictor._seen(view)
        own = seen == number
        assert ((rough > 0) & own).sum() / ((rough > 0) | own).sum() > 0.5
        assert np.abs(rough).max() <= 10
        assert rough[own].mean() > rough[(seen > 0) & ~own].max(initial=-10)
    predictor = TruthPredictor(squares((96, 96), 24, 8))
    search_densely(predictor, (96, 96), replace(SETTINGS, crowded=0.1), DENSE_OPTIONS, size=SIZE)
    assert all(prompt.box is not None and rough is None for prompt, rough, _ in predictor.prompts)


def test_an_object_that_fills_its_view_has_a_rough_mask_too():
    labels = np.ones((24, 24), np.int32)
    labels[:12, :12] = 2
    predictor = TruthPredictor(labels)
    search_densely(predictor, labels.shape, replace(SETTINGS, crowded=0), DENSE_OPTIONS, size=SIZE)
    rough = [each for _, each, _ in predictor.prompts if each is not None]
    assert all(np.isfinite(each).all() and (each > 0).any() for each in rough)


def test_only_doubtful_masks_get_a_click():
    labels = squares((96, 130), 24, 8)
    clicks = {}
    for unsure in ((0.0, 1.0), (0.0, 0.0)):
        predictor = TruthPredictor(labels)
        found = search_densely(predictor, labels.shape, replace(SETTINGS, unsure=unsure), DENSE_OPTIONS, size=SIZE)
        clicks[unsure] = (predictor.num_clicks, len(found))
    assert clicks[0.0, 1.0][0] == clicks[0.0, 1.0][1] > 0
    assert clicks[0.0, 0.0] == (0, clicks[0.0, 1.0][1])


def test_a_click_that_gives_another_mask_lowers_the_score():
    class ClickFindsAll(TruthPredictor):
        def answer_clicks(self, points_xy, views):
            return [
                ViewCandidates(each.view, torch.full_like(each.logits, 6.0), each.scores, each.presence)
                for each in super().answer_clicks(points_xy, views)
            ]

    labels = squares((64, 64), 24, 6)
    settings = replace(SETTINGS, unsure=(0.0, 1.0))
    supported, doubted = (
        search_densely(kind(labels), labels.shape, settings, DENSE_OPTIONS, size=SIZE).predicted_iou
        for kind in (TruthPredictor, ClickFindsAll)
    )
    assert (doubted < supported - 0.3).all()


@pytest.mark.parametrize("unsure", [(0.2,), [0.2, 0.7], (0.2, 1.5), None])
def test_a_range_of_doubt_that_is_not_allowed_is_refused(unsure):
    with pytest.raises(PromptError, match="unsure"):
        DenseSettings(unsure=unsure)


def test_progress_reaches_the_end():
    labels = squares((96, 96), 20, 8)
    steps: list[tuple[int, int]] = []
    search_densely(
        TruthPredictor(labels), labels.shape, SETTINGS, DENSE_OPTIONS, size=SIZE, progress=lambda *at: steps.append(at)
    )
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert steps[-1][0] == steps[-1][1]
    assert all(step[0] <= step[1] for step in steps)


def test_an_exception_of_the_progress_callback_ends_the_search():
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        search_densely(
            TruthPredictor(squares((64, 64), 20, 8)), (64, 64), SETTINGS, DENSE_OPTIONS, size=SIZE, progress=stop
        )


def test_run_lengths_are_those_of_the_whole_image():
    labels = squares((90, 70), 20, 9)
    options = replace(DENSE_OPTIONS, output_mode="binary_mask")
    proposals = search_densely(TruthPredictor(labels), labels.shape, SETTINGS, options, size=SIZE)
    for record in filter_proposals(proposals, options):
        mask = record["segmentation"]
        assert mask.shape == labels.shape
        ys, xs = np.nonzero(mask)
        x, y, w, h = record["bbox"]
        assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max(), ys.max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zooms": ()}, "zooms="),
        ({"zooms": (1.0, 3.0)}, "expected a tuple of different ones of 0.125"),
        ({"zooms": (1.0, 1.0)}, "zooms="),
        ({"zooms": 1.0}, "zooms="),
        ({"overlap": 1.0}, "overlap"),
        ({"num_pilots": 0}, "num_pilots"),
        ({"same_box": float("nan")}, "same_box"),
    ],
)
def test_settings_that_are_not_allowed_are_refused(changes, message):
    with pytest.raises(PromptError, match=message):
        DenseSettings(**changes)


def test_only_the_first_zoom_is_needed():
    labels = squares((96, 130), 24, 8)
    settings = DenseSettings(zooms=(1.0,))
    proposals = search_densely(TruthPredictor(labels), labels.shape, settings, DENSE_OPTIONS, size=SIZE)
    assert len(proposals) == labels.max()

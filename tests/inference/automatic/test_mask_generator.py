"""Facts about automatic masks, with a predictor whose masks follow a formula."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from factories import make_model
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.inference.automatic import mask_generator
from napari_sam2.inference.automatic.dense_settings import DenseSettings
from napari_sam2.inference.automatic.mask_generator import (
    MICRO_OPTIONS,
    REFERENCE_OPTIONS,
    MaskGeneratorOptions,
    SAM2AutomaticMaskGenerator,
)
from napari_sam2.inference.automatic.point_grids import points_between, points_by_spacing
from napari_sam2.inference.automatic.proposal_files import read_proposals, write_proposals
from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
from napari_sam2.inference.views.click_search import ViewCandidates
from napari_sam2.inference.views.transforms import masks_to_image
from napari_sam2.inference.views.view import View
from napari_sam2.labels.compose import masks_to_labels
from napari_sam2.labels.rle import decode_rle
from napari_sam2.network.config import CONFIGS

HW = (96, 144)
DISKS = {(24, 30): 12, (60, 50): 16, (30, 110): 9, (70, 115): 14}
"""(row, column) of each centre: radius."""


@dataclass
class DiskPredictor:
    """Answers a click with the disk it lies on, a slightly larger one and a speck; elsewhere with nothing."""

    model_name: str = "sam2.1_hiera_tiny"
    debris: bool = False
    calls: list[tuple[int, bool, bool]] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = SimpleNamespace(config=(config := CONFIGS[self.model_name]), image_size=config.image_size)

    def set_image(self, image: np.ndarray) -> None:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        self.images.append(image)

    def predict_points(
        self, points_xy: np.ndarray, *, multimask_output: bool = True, mask_input: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        h, w = self.images[-1].shape[:2]
        num_masks = 3 if multimask_output else 1
        self.calls.append((len(points_xy), multimask_output, mask_input is not None))
        self.points += [(float(x), float(y)) for x, y in points_xy]
        y, x = np.mgrid[:h, :w]
        logits = np.full((len(points_xy), num_masks, h, w), -20, np.float32)
        iou = np.full((len(points_xy), num_masks), 0.3, np.float32)
        for i, (px, py) in enumerate(points_xy):
            for (cy, cx), radius in DISKS.items():
                if np.hypot(px - cx, py - cy) < radius:
                    distance = np.hypot(y - cy, x - cx)
                    for m in range(num_masks):
                        logits[i, m] = 40 * (radius + (0, 1, -8)[m] - distance)
                        iou[i, m] = 0.95 - 0.1 * m + 1e-3 * radius - 1e-5 * np.hypot(px - cx, py - cy)
            if self.debris:
                logits[i, :, 1, 1] = 20
        tensor = torch.from_numpy(logits)
        return tensor, torch.from_numpy(iou), tensor[..., ::4, ::4]


def make_image(dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[: HW[0], : HW[1]]
    image = np.full(HW, 20, dtype)
    for (cy, cx), radius in DISKS.items():
        image[np.hypot(y - cy, x - cx) <= radius] = 200
    return image


def make_generator(predictor: DiskPredictor | None = None, **options: object) -> SAM2AutomaticMaskGenerator:
    options = {"points_per_side": 16, **options}
    return SAM2AutomaticMaskGenerator(predictor or DiskPredictor(), **options)  # type: ignore[arg-type]


def as_bytes(records: list) -> list:
    return [{k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in r.items()} for r in records]


def test_every_disk_is_found_once() -> None:
    records = make_generator().generate_masks(make_image())
    assert len(records) == len(DISKS)
    labels = masks_to_labels(records)
    for (cy, cx), radius in DISKS.items():
        found = labels == labels[cy, cx]
        assert labels[cy, cx] > 0
        assert abs(found.sum() - np.pi * radius**2) < 0.1 * np.pi * radius**2


def test_records_have_the_keys_and_types_of_the_reference() -> None:
    record = make_generator().generate(make_image())[0]
    assert set(record) == {
        "segmentation",
        "area",
        "bbox",
        "predicted_iou",
        "point_coords",
        "stability_score",
        "crop_box",
    }
    mask = record["segmentation"]
    assert mask.dtype == bool
    assert mask.shape == HW
    assert record["area"] == mask.sum()
    ys, xs = np.nonzero(mask)
    assert record["bbox"] == [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)]
    assert record["crop_box"] == [0, 0, HW[1], HW[0]]
    (point,) = record["point_coords"]
    assert mask[round(point[1]), round(point[0])]
    assert type(record["predicted_iou"]) is float
    assert type(record["stability_score"]) is float


@pytest.mark.parametrize("mode", ["uncompressed_rle", "coco_rle"])
@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_run_lengths_hold_the_same_masks(mode: str, crop_n_layers: int) -> None:
    plain = make_generator(crop_n_layers=crop_n_layers).generate_masks(make_image())
    records = make_generator(crop_n_layers=crop_n_layers, output_mode=mode).generate_masks(make_image())
    assert len(records) == len(plain) > 0
    for record, other in zip(records, plain, strict=True):
        assert isinstance(record["segmentation"]["counts"], str if mode == "coco_rle" else list)
        assert np.array_equal(decode_rle(record["segmentation"]), other["segmentation"])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"crop_n_layers": 1}, id="crops"),
        pytest.param({"use_m2m": True}, id="m2m"),
        pytest.param({"min_region_area_px": 30, "box_nms_thresh": 0.9}, id="clean"),
        pytest.param({"pred_iou_thresh": 0, "stability_score_thresh": 0}, id="no-thresholds"),
    ],
)
def test_filtered_proposals_equal_generated_masks(options: dict) -> None:
    generator = make_generator(DiskPredictor(debris=True), **options)
    proposals = generator.propose(make_image())
    assert as_bytes(generator.filter(proposals)) == as_bytes(generator.generate_masks(make_image()))


def test_thresholds_change_without_the_model() -> None:
    predictor = DiskPredictor()
    generator = make_generator(predictor)
    proposals = generator.propose(make_image())
    num_calls = len(predictor.calls)
    counts = [len(generator.filter(proposals, pred_iou_thresh=t, box_nms_thresh=1)) for t in (0, 0.9, 0.96, 0.99)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == 0
    assert len(predictor.calls) == num_calls
    loose = generator.filter(proposals, pred_iou_thresh=0.96, box_nms_thresh=1)
    tight = make_generator(pred_iou_thresh=0.96, box_nms_thresh=1.0).generate_masks(make_image())
    assert as_bytes(loose) == as_bytes(tight)


def test_an_image_without_objects_gives_no_records() -> None:
    generator = make_generator(point_grids=[[[0, 0], [1, 0]]], points_per_side=None, pred_iou_thresh=0)
    assert generator.generate_masks(make_image()) == []
    assert len(generator.propose(make_image())) == 0


def test_debris_is_removed_by_area_in_image_or_low_resolution_pixels() -> None:
    speck = 1, 1
    with_debris = make_generator(DiskPredictor(debris=True)).generate_masks(make_image())
    assert all(record["segmentation"][speck] for record in with_debris)
    cleaned = make_generator(DiskPredictor(debris=True), min_region_area_px=2).generate_masks(make_image())
    assert len(cleaned) == len(DISKS)
    assert not any(record["segmentation"][speck] for record in cleaned)
    assert [r["predicted_iou"] for r in cleaned] == [r["predicted_iou"] for r in with_debris]
    # low-resolution logits are sampled every 4 pixels here, so the speck is not in them, but small islands are
    generator = make_generator(min_mask_region_area=300, pred_iou_thresh=0, stability_score_thresh=0)
    assert len(generator.propose(make_image())) == 0


def test_m2m_gives_every_candidate_back_once() -> None:
    predictor = DiskPredictor()
    make_generator(predictor, use_m2m=True, points_per_batch=100).generate_masks(make_image())
    assert predictor.calls == [(100, True, False), (300, False, True)] * 2 + [(56, True, False), (168, False, True)]


def test_single_masks_are_asked_for_if_wanted() -> None:
    predictor = DiskPredictor()
    assert len(make_generator(predictor, multimask_output=False).generate_masks(make_image())) == len(DISKS)
    assert {call[1] for call in predictor.calls} == {False}


def test_large_images_get_small_batches() -> None:
    predictor = DiskPredictor()
    generator = make_generator(predictor)
    assert generator._batch_size((256, 256)) == 64
    assert generator._batch_size((2048, 2048)) == 10
    assert generator._batch_size((60_000, 60_000)) == 1


def test_progress_counts_points_and_can_stop_the_search() -> None:
    class StoppedError(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 128:
            raise StoppedError

    make_generator().generate_masks(make_image(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(64, 256), (128, 256), (192, 256), (256, 256)]
    with pytest.raises(StoppedError):
        make_generator().generate_masks(make_image(), progress=stop)
    assert seen[-1] == (128, 256)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, bool], ids=["uint16", "float32", "bool"])
def test_other_types_are_stretched_once_for_the_whole_image(dtype: type) -> None:
    predictor = DiskPredictor()
    make_generator(predictor, crop_n_layers=1).generate_masks(make_image(np.uint8).astype(dtype) * dtype(1))
    whole, first = predictor.images[:2]
    assert np.array_equal(whole[: first.shape[0], : first.shape[1]], first)


def test_options_follow_the_model_unless_given() -> None:
    assert (
        SAM2AutomaticMaskGenerator(DiskPredictor()).options.points_per_side == REFERENCE_OPTIONS.points_per_side == 32
    )
    micro = DiskPredictor("sam2_micro")
    assert SAM2AutomaticMaskGenerator(micro).options.point_spacing_px == MICRO_OPTIONS.point_spacing_px
    options = SAM2AutomaticMaskGenerator(micro, points_per_side=5, pred_iou_thresh=0.0).options
    assert (options.points_per_side, options.point_spacing_px, options.pred_iou_thresh) == (5, None, 0.0)
    assert options.box_nms_thresh == MICRO_OPTIONS.box_nms_thresh


class WindowPredictor(DiskPredictor):
    """Looks through windows of 48 pixels and knows where it looks: the first two channels hold row and column."""

    def __post_init__(self) -> None:
        config = replace(CONFIGS["sam2_micro"], native_window=48)
        self.model = SimpleNamespace(config=config, image_size=config.image_size)

    def predict_points(
        self,
        points_xy: np.ndarray,
        *,
        multimask_output: bool = True,
        mask_input: Tensor | None = None,
        window: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        area = self.images[-1]
        assert window == max(area.shape[:2])
        y0, x0 = (int(value) for value in area[0, 0, :2])
        whole = np.zeros((*HW, 3), np.uint8)
        self.images.append(whole)
        logits, iou, low_res = super().predict_points(points_xy + np.array([x0, y0]), multimask_output=multimask_output)
        self.images.pop()
        return logits[..., y0 : y0 + area.shape[0], x0 : x0 + area.shape[1]], iou, low_res


def make_map(hw: tuple[int, int] = HW) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.stack((y % 256, x % 256, 0 * x), axis=-1).astype(np.uint8)


def test_windows_find_small_objects_and_coarser_ones_those_that_are_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = {(24, 24): 8, (70, 90): 22}
    monkeypatch.setitem(globals(), "DISKS", disks)
    predictor = WindowPredictor()
    records = make_generator(predictor, points_per_side=None, point_spacing_px=8).generate_masks(make_map())
    sizes = {tuple(image.shape[:2]) for image in predictor.images}
    assert sizes == {(48, 48), (96, 96), (96, 144)}
    assert len(records) == len(disks)
    labels = masks_to_labels(records)
    for (cy, cx), radius in disks.items():
        found = labels == labels[cy, cx]
        assert abs(found.sum() - np.pi * radius**2) < 0.1 * np.pi * radius**2
    assert {tuple(record["crop_box"]) for record in records} == {(0, 0, HW[1], HW[0])}


@pytest.mark.parametrize(("radius", "is_dense"), [(5, True), (20, False)])
def test_points_are_denser_where_objects_are_small(
    monkeypatch: pytest.MonkeyPatch, radius: int, is_dense: bool
) -> None:
    monkeypatch.setitem(globals(), "DISKS", {(20, 20): radius})
    seen = []
    options = {"points_per_side": None, "point_spacing_px": 8, "refine": False}
    sparse, dense = WindowPredictor(), WindowPredictor()
    make_generator(sparse, **options, denser_for_small=False).propose(make_map())
    generator = make_generator(dense, **options)
    proposals = generator.propose(make_map(), progress=lambda done, total: seen.append((done, total)))
    more = {tuple(point) for point in dense.points} - {tuple(point) for point in sparse.points}
    assert bool(more) == is_dense
    assert seen[-1][0] == seen[-1][1] == len(dense.points)
    assert all(done <= total for done, total in seen)
    if is_dense:  # only in the windows that show the small object
        assert len(dense.points) < 4 * len(sparse.points)
        assert as_bytes(generator.filter(proposals)) == as_bytes(generator.generate_masks(make_map()))


def test_points_between_fill_the_gaps_of_the_grid() -> None:
    grid, between = (f((48, 96), 12) * np.array([96, 48]) for f in (points_by_spacing, points_between))
    assert grid[0].tolist() == [6, 6]
    assert grid[-1].tolist() == [90, 42]
    together = {tuple(point) for point in np.concatenate((grid, between)).tolist()}
    assert together == {(float(x), float(y)) for x in range(6, 96, 6) for y in range(6, 48, 6)}


def test_masks_cut_off_by_a_window_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DISKS", {(70, 90): 22})
    generator = make_generator(WindowPredictor(), points_per_side=None, point_spacing_px=8, multimask_output=False)
    proposals = generator.propose(make_map())
    assert len(proposals) > 0
    assert (proposals.boxes_xyxy == proposals.boxes_xyxy[0]).all()


class BlindPredictor(WindowPredictor):
    """Counts, and finds nothing."""

    def predict_points(self, points_xy: np.ndarray, **options: object) -> tuple[Tensor, Tensor, Tensor]:
        self.points += points_xy.tolist()
        logits = torch.full((len(points_xy), 3, *self.images[-1].shape[:2]), -20.0)
        return logits, torch.full((len(points_xy), 3), 0.1), logits


def test_an_image_of_512_pixels_takes_a_few_dozen_views() -> None:
    predictor = BlindPredictor()
    predictor.model.config = CONFIGS["sam2_micro"]
    make_generator(predictor, points_per_side=32).generate_masks(np.zeros((512, 512), np.uint8))
    assert len(predictor.images) == 49 + 9 + 1
    assert len(predictor.points) == 32**2 + 16**2 + 8**2


class ZoomPredictor(WindowPredictor):
    """Sees the disk under a click again, ``shift`` pixels further right."""

    shift = 0.0
    presence = 1.0
    looks = 0

    def predict_zoomed(self, points_xy: np.ndarray, boxes_xyxy: np.ndarray) -> list[ViewCandidates]:
        self.looks += len(points_xy)
        h, w = self.images[-1].shape[:2]
        found = []
        for x, y in points_xy:
            self.images.append(np.zeros((h, w, 3), np.uint8))
            logits, iou, _ = DiskPredictor.predict_points(self, np.array([[x, y]]))
            self.images.pop()
            moved = torch.roll(logits, int(self.shift), -1)
            found.append(ViewCandidates(View(0, 0, w, h, is_native=True), moved, iou, self.presence))
        return found


def test_what_is_seen_twice_scores_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DISKS", {(24, 24): 8, (70, 90): 22})
    scores = []
    for shift in (0, 4, 30):
        predictor = ZoomPredictor()
        predictor.shift = shift
        proposals = make_generator(predictor, points_per_side=None, point_spacing_px=8).propose(make_map())
        assert predictor.looks >= 2
        scores.append(proposals.predicted_iou.max(initial=0))
    assert scores[0] > 0.9
    assert scores[1] < scores[0]
    assert scores[2] < 0.5
    # every mask is looked at again where it was found
    assert all(0 <= x < HW[1] and 0 <= y < HW[0] for x, y in proposals.points_xy)


def test_what_is_hardly_an_object_scores_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DISKS", {(24, 24): 8, (70, 90): 22})
    scores = []
    for presence in (1.0, 0.25):
        predictor = ZoomPredictor()
        predictor.presence = presence
        proposals = make_generator(predictor, points_per_side=None, point_spacing_px=8).propose(make_map())
        scores.append(proposals.predicted_iou)
    np.testing.assert_allclose(scores[1], scores[0] / 4, rtol=1e-5)


def test_filtered_refined_proposals_equal_generated_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DISKS", {(24, 24): 8, (70, 90): 22})
    generator = make_generator(ZoomPredictor(), points_per_side=None, point_spacing_px=8)
    assert generator.options.refine
    records = generator.generate_masks(make_map())
    assert len(records) == 2
    assert as_bytes(records) == as_bytes(generator.filter(generator.propose(make_map())))


def test_refinement_needs_a_native_window() -> None:
    assert not make_generator().options.refine
    with pytest.raises(PromptError, match="refine=True"):
        make_generator(refine=True)


@pytest.mark.parametrize("num", [0, 3])
def test_candidates_round_trip(tmp_path: Path, num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "DISKS", dict(list(DISKS.items())[:num]))
    proposals = make_generator().propose(make_image())
    write_proposals(tmp_path / "a.npz", proposals, {"image": "x"})
    again, origin = read_proposals(tmp_path / "a.npz")
    assert origin == {"image": "x"}
    assert len(again) == len(proposals)
    assert (len(again) > 0) == (num > 0)
    generator = make_generator()
    assert as_bytes(generator.filter(again)) == as_bytes(generator.filter(proposals))


def test_a_mask_covered_by_better_ones_is_dropped() -> None:
    proposals = make_generator(box_nms_thresh=1.0).propose(make_image())
    generator = make_generator(box_nms_thresh=1.0, pred_iou_thresh=0.5, stability_score_thresh=0)
    alone = generator.filter(proposals, max_overlap=0.0)
    assert len(alone) == len(DISKS)
    covered = sum(record["segmentation"].astype(int) for record in alone)
    assert covered.max() == 1
    assert len(generator.filter(proposals, max_overlap=1.0)) > len(DISKS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"points_per_side": 0}, "points_per_side=0", id="no-points"),
        pytest.param({"points_per_side": 3.5}, "points_per_side=3.5", id="half-a-point"),
        pytest.param({"points_per_side": True}, "points_per_side=True", id="bool"),
        pytest.param({"points_per_side": 8, "point_grids": [[[0.5, 0.5]]]}, "exactly one", id="two-sources"),
        pytest.param({"point_spacing_px": 0.2}, "point_spacing_px=0.2", id="spacing"),
        pytest.param({"point_spacing_px": float("nan")}, "point_spacing_px=nan", id="nan"),
        pytest.param({"point_grids": [[[0.5, 1.5]]]}, "from 0 to 1", id="grid-outside"),
        pytest.param({"point_grids": [[0.5, 0.5]]}, r"\(2,\)", id="grid-shape"),
        pytest.param({"point_grids": [[[0.5, 0.5]]], "crop_n_layers": 1}, "1 point grids", id="grid-missing"),
        pytest.param({"points_per_batch": 0}, "points_per_batch=0", id="batch"),
        pytest.param({"pred_iou_thresh": 1.2}, "pred_iou_thresh=1.2", id="iou"),
        pytest.param({"stability_score_thresh": -0.1}, "from 0 to 1", id="stability"),
        pytest.param({"box_nms_thresh": float("nan")}, "box_nms_thresh=nan", id="nms-nan"),
        pytest.param({"crop_n_layers": -1}, "crop_n_layers=-1", id="layers"),
        pytest.param({"crop_n_points_downscale_factor": 0}, "downscale_factor=0", id="downscale"),
        pytest.param({"min_mask_region_area": -1}, "min_mask_region_area=-1", id="area"),
        pytest.param({"min_region_area_px": float("inf")}, "min_region_area_px=inf", id="area-inf"),
        pytest.param({"mask_threshold": float("inf")}, "mask_threshold=inf", id="threshold"),
        pytest.param({"max_overlap": 1.5}, "max_overlap=1.5", id="max-overlap"),
        pytest.param({"output_mode": "png"}, "coco_rle", id="output"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(options: dict, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        SAM2AutomaticMaskGenerator(DiskPredictor(), **options)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(0, 4), (4, 5, 6, 3), (7,)], ids=str)
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError):
        make_generator().generate_masks(np.zeros(shape, np.uint8))


def test_a_model_with_a_dense_head_needs_no_points():
    generator = SAM2AutomaticMaskGenerator(make_model(native_window=128, has_dense_head=True))
    assert generator.options.dense is not None
    records = generator.generate_masks(np.random.default_rng(0).integers(0, 255, (70, 90), np.uint8))
    assert all(record["segmentation"].shape == (70, 90) for record in records)


@pytest.mark.parametrize(
    "changes", [{"points_per_side": 4}, {"point_spacing_px": 20}, {"refine": False}, {"crop_n_layers": 1}]
)
def test_options_of_points_choose_a_grid(changes):
    generator = SAM2AutomaticMaskGenerator(make_model(native_window=128, has_dense_head=True), **changes)
    assert generator.options.dense is None
    assert generator.options.pred_iou_thresh == MICRO_OPTIONS.pred_iou_thresh


def test_dense_options_need_a_dense_head():
    for model in (make_model(native_window=128, has_dense_head=False), make_model(has_dense_head=False)):
        assert SAM2AutomaticMaskGenerator(model).options.dense is None
        with pytest.raises(PromptError, match="which has no dense head; use sam2_micro"):
            SAM2AutomaticMaskGenerator(model, dense=DenseSettings())


def test_only_options_of_the_filter_can_change_after_the_search() -> None:
    generator = make_generator()
    proposals = generator.propose(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(PromptError, match="points_per_side cannot change after the search"):
        generator.filter(proposals, points_per_side=4)


def test_options_are_taken_as_one_object_or_one_by_one() -> None:
    options = MaskGeneratorOptions(points_per_side=4, max_overlap=0.5)
    generator = make_generator(options=options, points_per_side=None, point_spacing_px=9)
    assert (generator.options.points_per_side, generator.options.point_spacing_px) == (None, 9)
    assert generator.options.max_overlap == 0.5
    assert options.points_per_side == 4


class WholePredictor:
    """A predictor that hands out masks at the size of the image only, as any other than ours may."""

    def __init__(self, predictor: SAM2ImagePredictor) -> None:
        self.model, self.set_image, self.predict_zoomed = predictor.model, predictor.set_image, predictor.predict_zoomed
        self.predict_points = predictor.predict_points


@pytest.mark.parametrize("native_window", [None, 24], ids=["whole-image", "native-window"])
@pytest.mark.parametrize("area", [0, 3], ids=["as-decoded", "cleaned"])
@pytest.mark.parametrize("resized", [1, 2**30], ids=["one-at-a-time", "all-at-once"])
def test_masks_resized_a_few_at_a_time_equal_all_at_once(native_window, area, resized, monkeypatch) -> None:
    monkeypatch.setattr(mask_generator, "_RESIZED_BYTES", resized)
    predictor = SAM2ImagePredictor(make_model(native_window=native_window))
    options = {
        "points_per_side": 4, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.2, "max_overlap": 1.0,
        "min_mask_region_area": area, "refine": False,
    }  # fmt: skip
    image = make_image()[:48, :64]
    whole = SAM2AutomaticMaskGenerator(WholePredictor(predictor), **options).propose(image)
    found = SAM2AutomaticMaskGenerator(predictor, **options)
    assert len(whole) >= 3
    assert all(np.array_equal(a, b) for a, b in zip(found.propose(image).runs, whole.runs, strict=True))
    assert as_bytes(found.generate_masks(image)) == as_bytes(found.filter(whole))


def test_only_masks_that_pass_are_resized(monkeypatch) -> None:
    resized: list[int] = []

    def count(logits, view, hw):
        resized.append(len(logits))
        return masks_to_image(logits, view, hw)

    monkeypatch.setattr(mask_generator, "masks_to_image", count)
    predictor = SAM2ImagePredictor(make_model(native_window=64))
    generator = SAM2AutomaticMaskGenerator(predictor, points_per_side=6, pred_iou_thresh=1.0, refine=False)
    assert generator.generate_masks(make_image()[:48, :64]) == []
    assert sum(resized) == 0


@pytest.mark.parametrize("other", [{"points_per_side": 8}, {"crop_n_layers": 1}, {"refine": True}])
def test_dense_and_points_exclude_each_other(other):
    with pytest.raises(PromptError, match="dense"):
        SAM2AutomaticMaskGenerator(make_model(native_window=128, has_dense_head=True), dense=DenseSettings(), **other)


def test_a_model_with_another_input_size_finds_objects_by_its_dense_maps() -> None:
    network = make_model(native_window=32, image_size=128)
    network.image_size = 64  # as by load_model(..., image_size=64)
    generator = SAM2AutomaticMaskGenerator(network)
    assert generator.options.dense is not None
    records = generator.generate_masks(np.zeros((48, 48), np.uint8))
    assert all(record["segmentation"].shape == (48, 48) for record in records)


@pytest.mark.parametrize("name", ["multimask_output", "denser_for_small", "refine"])
@pytest.mark.parametrize("value", [5, "yes", np.ones(2, bool)], ids=str)
def test_what_is_neither_true_nor_false_is_refused(name, value):
    with pytest.raises(PromptError, match=f"^{name}=.* expected True or False"):
        SAM2AutomaticMaskGenerator(make_model(), points_per_side=2, **{name: value})

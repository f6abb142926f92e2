"""On a CUDA device everything comes out as on the CPU: prompts, tracking, automatic masks, clean-up and training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from devices import used_exactly
from napari_sam2 import (
    DeviceError,
    Prompt,
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoSegmenter,
    fine_tune,
    load_model,
)
from napari_sam2.inference.masks import components as clean_up
from napari_sam2.inference.requests import AnsweredPrompt, PredictRequest, TrackRequest, TrackStep
from napari_sam2.inference.tracking.batches import bytes_per_object
from napari_sam2.inference.tracking.engine import Engine
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.batches import BatchPlan
from napari_sam2.training.dataset import SyntheticSource
from napari_sam2.training.loop import Phase, TrainConfig, Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

ATOL = 2e-3  # of logits of about 10 in float32
HANDFUL = 8  # pixels where a comparison that is close to call made a larger difference
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module", autouse=True)
def cuda() -> Iterator[torch.device]:
    with used_exactly("cuda") as device:
        yield device


@pytest.fixture(scope="module")
def on_cpu() -> SAM2:
    return load_model("sam2_micro", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def on_cuda(cuda: torch.device) -> SAM2:
    return load_model("sam2_micro", device=cuda, dtype="float32")


# ---------------------------------------------------------------------- a scene with a known answer
def centre_xy(disc: int, frame: int = 0, *, cell: int = 40, columns: int = 4) -> tuple[float, float]:
    """Where a disc of the scene is: each drifts through its own cell of a grid."""
    row, column = divmod(disc, columns)
    return (column + 0.4) * cell + frame % 8, (row + 0.5) * cell


def draw(num_frames: int = 1, num_discs: int = 16, *, cell: int = 40, columns: int = 4) -> tuple[np.ndarray, ...]:
    """(T, H, W) uint8 images of bright discs on noise, and int32 labels, numbered from 1."""
    rows = -(-num_discs // columns)
    y, x = np.mgrid[: rows * cell, : columns * cell]
    labels = np.zeros((num_frames, *x.shape), np.int32)
    for t in range(num_frames):
        for disc in range(num_discs):
            cx, cy = centre_xy(disc, t, cell=cell, columns=columns)
            labels[t][(x - cx) ** 2 + (y - cy) ** 2 < (0.22 * cell) ** 2] = disc + 1
    noise = np.random.default_rng(0).normal(0, 6, labels.shape)
    return (40 + 130 * (labels > 0) + noise).clip(0, 255).astype(np.uint8), labels


@dataclass(frozen=True, eq=False)
class Movie:
    """A `FrameSource` of arrays (T, H, W): `open_frames` wants zarr, which a machine with a GPU may lack."""

    planes: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.planes.shape

    @property
    def key(self) -> str:
        return f"movie-{id(self.planes)}"

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, frame: int, /) -> np.ndarray:
        return self.planes[frame][..., None].repeat(3, axis=-1)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(one & other) / max(np.count_nonzero(one | other), 1)


def segmenter_on(model: SAM2, movie: np.ndarray, discs: range | tuple[int, ...], **over) -> SAM2VideoSegmenter:
    """A segmenter in which each of the discs was clicked on frame 0."""
    segmenter = SAM2VideoSegmenter(model, **over)
    segmenter.set_video(Movie(movie))
    for disc in discs:
        segmenter.add_clicks(0, [centre_xy(disc)], object_id=disc + 1)
    return segmenter


def num_apart(one: np.ndarray, other: np.ndarray) -> int:
    """Values that differ by more than rounding explains."""
    assert one.shape == other.shape
    return int((np.abs(one.astype(np.float64) - other) > ATOL).sum())


# ---------------------------------------------------------------------- devices
def test_first_device_is_cuda_and_its_precision_bfloat16():
    model = load_model("sam2_micro")
    assert model.device.type == "cuda"
    assert model.dtype == torch.bfloat16
    with pytest.raises(DeviceError, match=r"cuda:99.*available are auto, cpu, cuda:0 \("):
        load_model("sam2_micro", device="cuda:99")


# ---------------------------------------------------------------------- images
MASK = draw()[1][0] == 7
PROMPTS = {
    "click": [Prompt(points=[centre_xy(5)])],
    "clicks": [Prompt(points=[centre_xy(5), centre_xy(6)], labels=[1, 0])],
    "box": [Prompt(box=(*np.subtract(centre_xy(9), 10), *np.add(centre_xy(9), 10)))],
    "mask": [Prompt(mask=MASK)],
    "several": [
        *(Prompt(points=[centre_xy(disc)]) for disc in range(4)),
        Prompt(box=(0, 0, 160, 160)),
        *(Prompt(box=(*np.subtract(centre_xy(disc), 10), *np.add(centre_xy(disc), 10))) for disc in range(4, 8)),
        Prompt(mask=MASK),
    ],
}


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_are_answered_as_on_the_cpu(on_cpu: SAM2, on_cuda: SAM2, kind: str):
    found = []
    for model in (on_cpu, on_cuda):
        predictor = SAM2ImagePredictor(model)
        predictor.set_image(draw()[0][0])
        first = predictor.predict(PROMPTS[kind])
        best = np.arange(len(first.scores)), first.scores.argmax(axis=1)
        again = predictor.predict(PROMPTS[kind], mask_input=first.logits[best][:, None], multimask_output=False)
        found.append((first, again))
    for expected, ours in zip(*found, strict=True):
        assert (ours.masks != expected.masks).sum() <= HANDFUL
        assert num_apart(ours.logits, expected.logits) <= HANDFUL
        assert num_apart(ours.scores, expected.scores) == 0


def test_image_much_larger_than_the_input_is_shrunk_on_the_device(on_cpu: SAM2, on_cuda: SAM2):
    image, labels = (plane.repeat(25, 1).repeat(25, 2)[0] for plane in draw())
    found = []
    for model in (on_cpu, on_cuda):
        predictor = SAM2ImagePredictor(model)
        predictor.set_image(image)
        found.append(predictor.predict(Prompt(box=(0, 0, 4000, 4000), mask=labels == 7), multimask_output=False))
    assert iou(found[0].masks, found[1].masks) > 0.999
    assert num_apart(found[0].logits, found[1].logits) <= HANDFUL


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_finds_the_same_objects(on_cuda: SAM2, cuda: torch.device, dtype: torch.dtype):
    (image, *_), (labels, *_) = draw()
    half = load_model("sam2_micro", device=cuda, dtype=dtype)
    clicks = [Prompt(points=[centre_xy(disc)]) for disc in range(16)]
    boxes = [Prompt(box=(*np.subtract(centre_xy(disc), 10), *np.add(centre_xy(disc), 10))) for disc in range(16)]
    for prompts in (clicks, boxes):
        best = []
        for model in (half, on_cuda):
            predictor = SAM2ImagePredictor(model)
            predictor.set_image(image)
            found = predictor.predict(prompts)
            best.append(found.masks[np.arange(16), found.scores.argmax(axis=1)])
        agreements = [iou(ours, exact) for ours, exact in zip(*best, strict=True)]
        assert np.mean(agreements) >= 0.97, agreements
        assert np.mean([iou(ours, labels == disc + 1) for disc, ours in enumerate(best[0])]) > 0.8


# ---------------------------------------------------------------------- stacks
def test_two_objects_are_tracked_as_on_the_cpu(on_cpu: SAM2, on_cuda: SAM2):
    movie, truth = draw(8)
    expected, found = (segmenter_on(model, movie, (5, 10)).track_objects() for model in (on_cpu, on_cuda))
    for object_id in (6, 11):
        assert iou(found == object_id, expected == object_id) >= 0.99
        assert iou(found == object_id, truth == object_id) > 0.7


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_tracks_the_same_objects(on_cuda: SAM2, cuda: torch.device, dtype: torch.dtype):
    movie, _ = draw(8)
    half = load_model("sam2_micro", device=cuda, dtype=dtype)
    exact, found = (segmenter_on(model, movie, (5, 10)).track_objects() for model in (on_cuda, half))
    assert min(iou(found == object_id, exact == object_id) for object_id in (6, 11)) >= 0.95


def logits_of(segmenter: SAM2VideoSegmenter) -> dict[int, np.ndarray]:
    """(T, H, W) of each object."""
    results = list(segmenter.propagate_masklets(0, return_logits=True))
    return {i: np.stack([r.logits[r.object_ids.index(i)] for r in results]) for i in segmenter.object_ids}


def test_sixty_objects_together_equal_some_of_them_alone(on_cuda: SAM2):
    movie, _ = draw(5, 60)
    together = logits_of(segmenter_on(on_cuda, movie, range(60)))
    assert len(together) == 60
    for disc in range(0, 60, 12):
        alone = logits_of(segmenter_on(on_cuda, movie, (disc,)))
        assert num_apart(together[disc + 1], alone[disc + 1]) <= HANDFUL


def test_free_memory_of_the_device_decides_how_many_go_together(on_cuda: SAM2, monkeypatch: pytest.MonkeyPatch):
    movie, _ = draw(4)
    whole = segmenter_on(on_cuda, movie, range(8))
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    assert whole._object_frames().objects_per_batch() == pytest.approx(free // 2 // bytes_per_object(on_cuda), rel=0.1)
    split = segmenter_on(on_cuda, movie, range(8))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (6 * bytes_per_object(on_cuda), free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", torch.cuda.memory_allocated)
    assert split._object_frames().objects_per_batch() == 3
    in_parts = logits_of(split)
    monkeypatch.undo()
    for object_id, logits in logits_of(whole).items():
        assert num_apart(in_parts[object_id], logits) <= HANDFUL


def test_correction_on_a_tracked_frame_stays(on_cuda: SAM2):
    segmenter = segmenter_on(on_cuda, draw(8)[0], (5, 6))
    list(segmenter.propagate_masklets())
    corrected = segmenter.add_clicks(4, [centre_xy(5, 4), centre_xy(9, 4)], [1, 0], object_id=6)
    results = {r.frame: r for r in segmenter.propagate_masklets(0)}
    assert corrected.any()
    assert np.array_equal(results[4].masks[0], corrected[0])
    assert results[4].is_prompted == (True, False)
    back = list(segmenter.propagate_masklets(4, reverse=True))
    assert [r.frame for r in back] == [4, 3, 2, 1, 0]


def test_memory_of_the_device_stays_constant_along_a_stack(on_cuda: SAM2):
    movie, _ = draw(8, 4, columns=2)
    segmenter = segmenter_on(on_cuda, np.concatenate([movie, movie[::-1]] * 13), ())
    for disc in range(2):
        segmenter.add_clicks(0, [centre_xy(disc, columns=2)], object_id=disc + 1)
    allocated = {}
    for result in segmenter.propagate_masklets():
        allocated[result.frame + 1] = torch.cuda.memory_allocated()
    assert result.masks.any()
    assert abs(allocated[200] - allocated[20]) < 20e6


def test_running_out_of_memory_once_means_fewer_objects_at_once(on_cuda: SAM2, monkeypatch: pytest.MonkeyPatch):
    engine = Engine(on_cuda, Movie(draw(4)[0]))
    clicks = {disc + 1: Prompt(points=[centre_xy(disc)]) for disc in range(4)}
    prompts = {
        i: {0: AnsweredPrompt(click, engine.predict(PredictRequest(i, 0, click)).answer)} for i, click in clicks.items()
    }
    request = TrackRequest(prompts, [TrackStep(t, False, tuple(clicks), tuple(clicks)) for t in (1, 2, 3)])
    expected = [r.masks for r in engine.track(request)]
    attend, sizes = SAM2.attend_to_memory, []

    def scarce(model, embedding, batch):
        sizes.append(len(batch.features[0]))
        if sizes[-1] > 2:
            torch.empty(2**50, dtype=torch.uint8, device=model.device)
        return attend(model, embedding, batch)

    monkeypatch.setattr(SAM2, "attend_to_memory", scarce)
    found = [r.masks for r in engine.track(request)]
    assert sizes[0] == 4
    assert max(sizes[1:]) == 2
    assert (np.stack(found) != np.stack(expected)).sum() <= HANDFUL


# ---------------------------------------------------------------------- automatic masks and clean-up
def test_automatic_masks_are_those_of_the_cpu(on_cpu: SAM2, on_cuda: SAM2):
    (image, *_), _ = draw(1, 9, columns=3)
    expected, found = (SAM2AutomaticMaskGenerator(model).generate_masks(image) for model in (on_cpu, on_cuda))
    assert len(found) == len(expected) >= 9
    for record in found:
        near = max(expected, key=lambda other: iou(record["segmentation"], other["segmentation"]))
        assert iou(record["segmentation"], near["segmentation"]) > 0.98
        assert record["predicted_iou"] == pytest.approx(near["predicted_iou"], abs=5e-3)
        assert record["stability_score"] == pytest.approx(near["stability_score"], abs=0.02)


def test_automatic_masks_in_bfloat16_find_every_disc(cuda: torch.device):
    (image, *_), (labels, *_) = draw(1, 9, columns=3)
    records = SAM2AutomaticMaskGenerator(load_model("sam2_micro", device=cuda)).generate_masks(image)
    for disc in range(9):
        assert max(iou(record["segmentation"], labels == disc + 1) for record in records) > 0.8


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, *HALVES], ids=str)
def test_holes_and_specks_go_on_the_device_too(cuda: torch.device, dtype: torch.dtype):
    logits = torch.from_numpy(np.random.default_rng(0).integers(-20, 21, (2, 3, 40, 50)))
    masks = (logits > 0) if dtype == torch.bool else logits.to(dtype)
    changes = [
        lambda m: clean_up.fill_holes(m, 6),
        lambda m: clean_up.remove_small_regions(m, 6),
        lambda m: clean_up.mask_to_box(m > 0),
    ]
    if dtype != torch.bool:
        changes += [
            lambda m: clean_up.fill_holes_in_scores(m, 6),
            lambda m: clean_up.clean_low_resolution(m, max_hole_area=6, max_sprinkle_area=4),
            lambda m: clean_up.postprocess_masks(m, (60, 70), max_hole_area=6),
            clean_up.stability_score,
        ]
    for change in changes:
        found = change(masks.to(cuda))
        assert found.device.type == cuda.type
        torch.testing.assert_close(found.cpu(), change(masks), rtol=0, atol=1e-4)


# ---------------------------------------------------------------------- training
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fine_tuning_lowers_the_loss_and_its_weights_load_on_the_cpu(
    tmp_path: Path, cuda: torch.device, precision: str
):
    if precision == "bfloat16" and find_spec("lightning_fabric") is None:
        pytest.skip("bfloat16 needs lightning_fabric, which is not installed")
    images, labels = draw(4)
    losses: list[float] = []
    result = fine_tune(
        list(images), list(labels), tmp_path / "mine.safetensors", part="all", steps=40, validate_every=20,
        validation_objects=4, batch_size=4, crop=96, device=cuda, precision=precision, learning_rate=3e-4,
        on_step=lambda _, loss: losses.append(loss),
    )  # fmt: skip
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert result.after.mean >= result.before.mean
    assert load_model(result.weights, device="cpu").device.type == "cpu"


@pytest.mark.parametrize("products", ["float32", "tf32"])
def test_training_runs_stops_and_resumes(tmp_path: Path, cuda: torch.device, products: str):
    plan = BatchPlan(crop=64, stills=2, objects_per_still=2, clips=1, objects_per_clip=2, num_frames=3, clip_share=0.5)
    config = TrainConfig(start_from="sam2_micro", phases=(Phase(4, plan),), warmup_steps=2, products=products)
    losses = []
    for stop in (2, 4):
        trainer = Trainer(config, [SyntheticSource()], tmp_path, device=cuda, num_workers=0)
        assert trainer.step == stop - 2
        trainer.run(stop=stop, report_every=1, on_report=lambda _, report: losses.append(report["loss"]))
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    trained, start = (load_model(name, device="cpu") for name in (tmp_path / "weights.safetensors", "sam2_micro"))
    assert any(not torch.equal(p, q) for p, q in zip(trained.parameters(), start.parameters(), strict=True))

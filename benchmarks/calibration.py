"""Whether predicted IoUs can be believed: predicted against true IoU, for clicks, boxes and tracked frames.

python benchmarks/calibration.py FOLDER_OF_PACKS
python benchmarks/calibration.py FOLDER_OF_PACKS --model mine.safetensors --json calibration.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from clips import chosen_objects, mask_iou
from numpy.typing import NDArray
from scipy.stats import spearmanr

from napari_sam2 import Prompt, SAM2ImagePredictor, SAM2VideoSegmenter, load_model
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.click_simulation import interior_point, tight_box
from napari_sam2.training.packs import LabelledStack, load_pack

_EDGES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_FRAMES_AROUND = 6  # of a stack, tracked on either side of the prompted frame


@dataclass(frozen=True)
class Bin:
    """Masks whose predicted IoU lies between two edges: how many, and both means."""

    low: float
    high: float
    count: int
    predicted: float
    true: float


@dataclass(frozen=True)
class Calibration:
    """Of one kind of prompt.

    Attributes
    ----------
    count : int
        Masks.
    error : float
        Mean over masks of the difference between the means of their bin (expected calibration error).
    bias : float
        Mean predicted less mean true IoU; above 0 the model praises itself.
    rank : float
        Spearman's rank correlation: whether the doubtful ones can be found.
    bins : tuple of Bin
        Those with masks.
    """

    count: int
    error: float
    bias: float
    rank: float
    bins: tuple[Bin, ...]


def calibrate(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> Calibration:
    """Compare N predicted IoUs with the true ones."""
    place = np.clip(np.searchsorted(_EDGES, predicted, side="right") - 1, 0, len(_EDGES) - 2)
    bins = [
        Bin(_EDGES[k], _EDGES[k + 1], int((place == k).sum()), predicted[place == k].mean(), true[place == k].mean())
        for k in np.unique(place).tolist()
    ]
    error = sum(b.count * abs(b.predicted - b.true) for b in bins) / len(predicted)
    has_ranks = len(predicted) > 2 and np.ptp(predicted) > 0 and np.ptp(true) > 0
    rank = float(spearmanr(predicted, true).statistic) if has_ranks else float("nan")
    return Calibration(len(predicted), error, float(predicted.mean() - true.mean()), rank, tuple(bins))


def still_pairs(model: SAM2, stack: LabelledStack, limit: int) -> Iterator[tuple[str, float, float]]:
    """(kind, predicted, true) of clicks and boxes on the middle frame."""
    frame = len(stack) // 2
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(stack.frames[frame])
    labels = np.asarray(stack.labels[frame])
    for object_id in chosen_objects(labels, limit, stack.trusted_ids):
        truth = labels == object_id
        for kind, prompt in (
            ("click", Prompt(points=[interior_point(truth)])),
            ("box", Prompt(box=tight_box(truth))),
        ):
            found = predictor.predict(prompt, multimask_output=kind == "click")
            best = int(np.argmax(found.scores))
            yield kind, float(found.scores[best]), mask_iou(found.masks[best], truth)


def tracked_pairs(model: SAM2, stack: LabelledStack, limit: int) -> Iterator[tuple[str, float, float]]:
    """("tracked", predicted, true) around the middle frame of a stack, each object prompted by its box."""
    middle = len(stack) // 2
    part = slice(max(middle - _FRAMES_AROUND, 0), middle + _FRAMES_AROUND + 1)
    frames, labels = stack.frames[part], np.asarray(stack.labels[part])
    start = middle - part.start
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(frames)
    for object_id in chosen_objects(labels[start], limit, stack.trusted_ids):
        segmenter.add_clicks(start, [], object_id=object_id, box=tight_box(labels[start] == object_id))
    pairs: list[tuple[str, float, float]] = []
    for reverse in (False, True):
        for result in segmenter.propagate_masklets(reverse=reverse):
            if result.frame == start:
                continue
            for row, object_id in enumerate(result.object_ids):
                truth = labels[result.frame] == object_id
                if truth.any() and result.masks[row].any():
                    pairs.append(("tracked", float(result.iou_scores[row]), mask_iou(result.masks[row], truth)))
    yield from pairs


def measure(model: SAM2, folder: Path, *, limit: int, images: int) -> dict[str, Calibration]:
    """Calibration of each kind of prompt over the packs (.npz) of a folder."""
    pairs: list[tuple[str, float, float]] = []
    for path in sorted(folder.glob("*.npz")):
        stacks = load_pack(path)
        for stack in [stacks[i] for i in np.linspace(0, len(stacks) - 1, min(images, len(stacks))).astype(int)]:
            pairs += still_pairs(model, stack, limit)
            if stack.is_sequence:
                pairs += tracked_pairs(model, stack, limit)
    kinds = dict.fromkeys(kind for kind, _, _ in pairs)
    return {
        kind: calibrate(
            np.array([p for k, p, _ in pairs if k == kind]), np.array([t for k, _, t in pairs if k == kind])
        )
        for kind in kinds
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of packs: image and labels, or image_0000, labels_0000 and so on")
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--objects", type=int, default=20, help="per image at most")
    parser.add_argument("--images", type=int, default=8, help="per pack at most")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(load_model(args.model), args.folder, limit=args.objects, images=args.images)
    for kind, calibration in found.items():
        print(
            f"{kind}: {calibration.count} masks, calibration error {calibration.error:.3f}, "
            f"bias {calibration.bias:+.3f}, rank correlation {calibration.rank:.2f}"
        )
        for b in calibration.bins:
            print(f"  {b.low:.1f}-{b.high:.1f}  {b.count:5d}  predicted {b.predicted:.2f}  true {b.true:.2f}")
    if args.json:
        args.json.write_text(json.dumps({kind: asdict(value) for kind, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()

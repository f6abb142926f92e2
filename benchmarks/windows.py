"""How well the scores choose among windows: the mask with the highest score, and the best one, of single clicks.

python benchmarks/windows.py FOLDER_OF_PACKS
python benchmarks/windows.py FOLDER_OF_PACKS --model mine.safetensors --json windows.json

A click does not tell how large its object is. Each click, in the middle of an object, is answered in windows of several
sizes, three candidates each. Were the scores comparable between windows, the highest would belong to the best mask.
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

from napari_sam2 import SAM2ImagePredictor, load_model
from napari_sam2.inference.views.transforms import masks_to_image
from napari_sam2.inference.views.view import TARGET_EXTENT
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.click_simulation import interior_point
from napari_sam2.training.packs import LabelledStack, load_pack

WINDOWS = (48, 64, 96, 128, 192, 256, 384, 576)
"""Sides of the windows in image pixels."""


@dataclass(frozen=True)
class Choice:
    """Of one set.

    Attributes
    ----------
    count : int
        Clicks.
    chosen : float
        Mean IoU of the candidate with the highest score of all windows.
    best : float
        Mean IoU of the best candidate of all windows.
    window : int
        The one window whose highest scores give the best mean IoU.
    in_window : float
        That mean IoU.
    error : float
        Mean absolute difference of score and IoU over all candidates.
    rank : float
        Spearman's rank correlation of score and IoU over all candidates.
    """

    count: int
    chosen: float
    best: float
    window: int
    in_window: float
    error: float
    rank: float


def candidates(
    model: SAM2, stacks: list[LabelledStack], limit: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(windows, 3) IoUs and scores of each click."""
    predictor = SAM2ImagePredictor(model)
    share = max(1, limit // len(stacks))
    for stack in stacks:
        frame = len(stack) // 2
        labels = np.asarray(stack.labels[frame])
        predictor.set_image(stack.frames[frame])
        for object_id in chosen_objects(labels, share, stack.trusted_ids):
            truth = labels == object_id
            point = np.array(interior_point(truth), np.float32)
            reach = np.array(WINDOWS)[:, None] * TARGET_EXTENT / 2
            boxes = np.concatenate((point - reach, point + reach), 1).astype(np.float32)
            looks = predictor.predict_zoomed(np.repeat(point[None], len(WINDOWS), 0), boxes)
            masks = [(masks_to_image(look.logits, look.view, truth.shape)[0] > 0).cpu().numpy() for look in looks]
            found = np.array([[mask_iou(mask, truth) for mask in each] for each in masks])
            yield found, np.stack([look.scores[0].cpu().numpy() for look in looks]).astype(np.float64)


def summarise(iou: NDArray[np.float64], scores: NDArray[np.float64]) -> Choice:
    """From (N, windows, 3) IoUs and scores."""
    rows = np.arange(len(iou))
    flat, ranks = iou.reshape(len(iou), -1), scores.reshape(len(iou), -1)
    in_each = np.take_along_axis(iou, scores.argmax(2)[..., None], 2)[..., 0].mean(0)
    return Choice(
        len(iou),
        float(flat[rows, ranks.argmax(1)].mean()),
        float(flat.max(1).mean()),
        WINDOWS[int(in_each.argmax())],
        float(in_each.max()),
        float(np.abs(flat - ranks).mean()),
        float(spearmanr(flat.ravel(), ranks.ravel()).statistic),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds .npz packs")
    parser.add_argument("--model", default=None, help="name or file; default: the bundled model")
    parser.add_argument("--only", nargs="*", default=None, help="names of packs")
    parser.add_argument("--clicks", type=int, default=24, help="per pack, about")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    model = load_model(options.model) if options.model else load_model()
    report = {}
    print(f"{'set':28} clicks  chosen   best  window  in it  error  rank")
    for path in sorted(options.folder.glob("*.npz")):
        if options.only and path.stem not in options.only:
            continue
        found = list(candidates(model, load_pack(path), options.clicks))
        if not found:
            continue
        choice = summarise(np.stack([iou for iou, _ in found]), np.stack([scores for _, scores in found]))
        report[path.stem] = asdict(choice)
        print(
            f"{path.stem:28} {choice.count:6d}  {choice.chosen:.3f}  {choice.best:.3f}  {choice.window:6d}  "
            f"{choice.in_window:.3f}  {choice.error:.3f}  {choice.rank:+.2f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

"""How well automatic masks find labelled objects, at one or many thresholds, beside Otsu and a distance watershed.

python benchmarks/automatic_masks.py PACK.npz --images 13
python benchmarks/automatic_masks.py PACK.npz --images 13 --iou 0.4 0.5 0.6 --stability 0.6 0.65 0.7

Each image is searched once; the thresholds are applied to what was found. Thresholds are chosen on images for training.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature, filters, segmentation

from napari_sam2 import SAM2AutomaticMaskGenerator, load_model
from napari_sam2.labels.compose import masks_to_labels


def average_precision(labels: NDArray[np.integer], truth: NDArray[np.integer], iou: float = 0.5) -> float:
    """True positives over true positives, false positives and misses; a match overlaps by more than ``iou``."""
    first, second = (np.unique(image, return_inverse=True) for image in (truth, labels))
    table = np.zeros((len(first[0]), len(second[0])))
    np.add.at(table, (first[1].ravel(), second[1].ravel()), 1)
    union = table.sum(1)[:, None] + table.sum(0) - table
    is_object = (first[0] > 0)[:, None] & (second[0] > 0)
    matches = int(((table > iou * union) & is_object).sum())
    num_others = int((first[0] > 0).sum() + (second[0] > 0).sum()) - matches
    return matches / num_others if num_others else 1.0


def watershed_labels(image: NDArray[np.integer]) -> NDArray[np.int32]:
    """Objects by Otsu's threshold, split where the distance to the background has several peaks."""
    grey = filters.gaussian(image.mean(-1) if image.ndim == 3 else image.astype(float), 1)
    mask = grey > filters.threshold_otsu(grey)
    mask = ndimage.binary_fill_holes(mask if mask.mean() <= 0.5 else ~mask)
    distance = ndimage.distance_transform_edt(mask)
    peaks = feature.peak_local_max(
        filters.gaussian(distance, 1), min_distance=5, labels=mask.astype(int), exclude_border=False
    )
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = segmentation.watershed(-distance, markers, mask=mask).astype(np.int32)
    return labels


def read_pack(path: Path, num_images: int, side: int, seed: int) -> list[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Random images of a list pack with their labels, cut to at most ``side`` pixels."""
    with np.load(path) as pack:
        names = sorted(name for name in pack.files if name.startswith("image_"))
        chosen = np.random.default_rng(seed).permutation(names)[:num_images]
        return [
            (pack[name][:side, :side], pack[name.replace("image_", "labels_")][:side, :side].astype(np.int32))
            for name in chosen
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Search the images, and print the mean precision at each combination of thresholds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--images", type=int, default=13)
    parser.add_argument("--side", type=int, default=384, help="larger images are cut to this side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing", type=float, help="pixels between points; default: the model's")
    parser.add_argument("--iou", type=float, nargs="+", help="predicted IoU; default: the model's")
    parser.add_argument("--stability", type=float, nargs="+", help="default: the model's")
    parser.add_argument("--overlap", type=float, nargs="+", help="share that better masks may cover")
    given = parser.parse_args(arguments)
    generator = SAM2AutomaticMaskGenerator(load_model(given.model), point_spacing_px=given.spacing)
    pairs = read_pack(given.pack, given.images, given.side, given.seed)
    searched = [(generator.propose(image), truth) for image, truth in pairs]
    classical = np.mean([average_precision(watershed_labels(image), truth) for image, truth in pairs])
    print(f"{len(pairs)} images; Otsu and watershed: mean AP at IoU 0.5 {classical:.3f}")
    options = generator.options
    for iou, stability, overlap in itertools.product(
        given.iou or [options.pred_iou_thresh],
        given.stability or [options.stability_score_thresh],
        given.overlap or [options.max_overlap],
    ):
        precisions = []
        for proposals, truth in searched:
            records = generator.filter(
                proposals, pred_iou_thresh=iou, stability_score_thresh=stability, max_overlap=overlap
            )
            precisions.append(average_precision(masks_to_labels(records, truth.shape), truth))
        print(
            f"iou {iou:g}  stability {stability:g}  overlap {overlap:g}: mean AP {np.mean(precisions):.3f}", flush=True
        )


if __name__ == "__main__":
    main()

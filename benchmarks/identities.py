"""How often look-alikes that touch swap their identities, with and without keeping them apart in memory.

python benchmarks/identities.py
python benchmarks/identities.py /data/yeast_phase_movie_dev.npz --crop 200 --seeds 1 2 --json identities.json

Crowds of cells that touch and push past each other are drawn from seeds; files are packs with labels (T, H, W). Every
cell of the first frame is given by its mask. A cell and a label match where their IoU is at least 0.5.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from napari_sam2 import SAM2VideoSegmenter, load_model, open_frames
from napari_sam2._types import Prompt
from napari_sam2.network.sam2 import SAM2


@dataclass(frozen=True)
class Identities:
    """One movie.

    Attributes
    ----------
    count : int
        Cells on frames, those of the first frame left out.
    switches : float
        Changes of the label that matches a cell, per 100 cells on frames.
    idf1 : float
        F1 of cells on frames under the best one-to-one assignment of labels to cells.
    iou : float
        Mean IoU of cells with the labels of their own number.
    """

    movie: str
    keep_apart: bool
    count: int
    switches: float
    idf1: float
    iou: float


def draw_crowd(
    seed: int, speed: float = 2.0, *, num_frames: int = 10, side: int = 96, count: int = 14
) -> tuple[NDArray, NDArray]:
    """Image and labels (T, H, W) of discs of one look that move, and push each other away."""
    rng = np.random.default_rng(seed)
    places, steps = rng.uniform(14, side - 14, (count, 2)), rng.normal(0, speed, (count, 2))
    radii, y, x = rng.uniform(6.5, 8.5, count), *np.mgrid[:side, :side]
    image, labels = np.zeros((num_frames, side, side), np.float32), np.zeros((num_frames, side, side), np.int32)
    for t in range(-20, num_frames):
        places = (places + (steps if t > 0 else 0)).clip(10, side - 10)
        for _ in range(20):
            apart = places[:, None] - places[None]
            distance = np.linalg.norm(apart, axis=-1) + np.eye(count) * 1e9
            push = np.clip(0.97 * (radii[:, None] + radii) - distance, 0, None)
            places = (places + (apart / distance[..., None] * push[..., None] / 2).sum(1)).clip(10, side - 10)
        if t < 0:
            continue
        reach = np.stack([np.hypot(y - cy, x - cx) / r for (cy, cx), r in zip(places, radii, strict=True)])
        labels[t] = np.where(reach.min(0) < 1, reach.argmin(0) + 1, 0)
        plane = np.where(labels[t] > 0, 60 + 80 * np.sqrt((1 - reach.min(0) ** 2).clip(0)), 30)
        image[t] = (ndimage.gaussian_filter(plane, 0.8) + rng.normal(0, 6, (side, side))).clip(0, 255)
    return image, labels


def load_crop(path: Path, side: int) -> tuple[NDArray, NDArray]:
    """The middle of a pack's movie."""
    with np.load(path, allow_pickle=False) as pack:
        image, labels = pack["image"], pack["labels"]
    y, x = ((n - min(side, n)) // 2 for n in labels.shape[1:])
    return image[:, y : y + side, x : x + side], labels[:, y : y + side, x : x + side].astype(np.int32)


def measure(name: str, image: NDArray, labels: NDArray, model: SAM2, *, keep_apart: bool) -> Identities:
    """Track the cells of the first frame and compare identities."""
    segmenter = SAM2VideoSegmenter(model, keep_apart=keep_apart)
    segmenter.set_video(open_frames(image, axes="TYX"))
    ids = [int(i) for i in np.unique(labels[0]) if i and (labels[0] == i).sum() >= 20]
    for i in ids:
        segmenter.add_prompt(0, Prompt(mask=labels[0] == i), object_id=i)
    tracked = segmenter.track_objects()
    index = {i: row for row, i in enumerate(ids)}
    matches, last = np.zeros((len(ids), len(ids))), dict(zip(ids, ids, strict=True))
    count = given = switches = 0
    ious = []
    for truth, found in zip(labels[1:], tracked[1:], strict=True):
        there = [i for i in ids if (truth == i).any()]
        count, given = count + len(there), given + len(np.unique(found[found > 0]))
        for i in there:
            mask = truth == i
            scores = {
                int(j): float((mask & (found == j)).sum() / (mask | (found == j)).sum())
                for j in np.unique(found[mask])
                if j
            }
            ious.append(scores.get(i, 0.0))
            best = max(scores, key=lambda j: scores[j], default=0)
            if best and scores[best] >= 0.5:
                matches[index[i], index[best]] += 1
                switches += best != last[i]
                last[i] = best
    rows, columns = linear_sum_assignment(-matches)
    idf1 = 2 * matches[rows, columns].sum() / max(count + given, 1)
    return Identities(name, keep_apart, count, 100 * switches / max(count, 1), float(idf1), float(np.mean(ious)))


def main() -> None:
    """Measure each movie both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--crop", type=int, default=160, help="side of the part of a file that is used")
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    movies = [(path.stem, *load_crop(path, options.crop)) for path in options.files]
    movies += [(f"crowd {seed}", *draw_crowd(seed)) for seed in options.seeds]
    model, found = load_model(options.model), []
    print("| movie | kept apart | cells on frames | switches per 100 | IDF1 | IoU |\n|---|---|---:|---:|---:|---:|")
    for name, image, labels in movies:
        for keep_apart in (False, True):
            one = measure(name, image, labels, model, keep_apart=keep_apart)
            found.append(one)
            told = "yes" if keep_apart else "no"
            print(
                f"| {name} | {told} | {one.count} | {one.switches:.2f} | {one.idf1:.3f} | {one.iou:.3f} |", flush=True
            )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()

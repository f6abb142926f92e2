"""How often look-alikes that touch or cross swap their identities, with and without what is to tell them apart.

python benchmarks/identities.py
python benchmarks/identities.py /data/yeast_phase_movie_dev.npz --crop 200 --seeds 1 2 --json identities.json

Crowds of cells that touch and push past each other, and pairs of cells of which one passes behind the other, are drawn
from seeds; files are packs with labels (T, H, W). Every
cell of the first frame is given by its mask; the truth is reduced to these cells. A cell and a label match where their
IoU is at least 0.5. TRA and LNK need the extra ``metrics``.
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

from napari_sam2 import (
    LabelledTracks,
    SAM2VideoSegmenter,
    evaluate_tracks,
    load_model,
    open_frames,
    tracks_of_labels,
)
from napari_sam2._types import Prompt
from napari_sam2.inference.tracking.claims import ClaimSettings, DistractorSettings
from napari_sam2.inference.tracking.motion import MotionSettings
from napari_sam2.inference.tracking.sharing import SharingSettings
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
    tra, lnk : float
        Of the Cell Tracking Challenge.
    """

    movie: str
    way: str
    count: int
    switches: float
    idf1: float
    iou: float
    tra: float
    lnk: float


@dataclass(frozen=True)
class Way:
    """What tells look-alikes apart."""

    motion: MotionSettings = MotionSettings()
    claims: ClaimSettings = ClaimSettings()
    keep_apart: bool = False
    distractors: DistractorSettings = DistractorSettings()
    sharing: SharingSettings = SharingSettings()


WAYS = {
    "independent": Way(sharing=SharingSettings(are_shared=False)),
    "sharing": Way(),
    "memory": Way(keep_apart=True),
    "distractors": Way(distractors=DistractorSettings(are_remembered=True)),
    "motion": Way(MotionSettings(is_predicted=True)),
    "motion, claims": Way(MotionSettings(is_predicted=True), ClaimSettings(are_settled=True)),
    "motion, memory": Way(MotionSettings(is_predicted=True), keep_apart=True),
}


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


def draw_crossing(
    seed: int, *, num_frames: int = 24, hw: tuple[int, int] = (128, 192), margin: int = 36
) -> tuple[NDArray, NDArray]:
    """Image and labels (T, H, W) of two textured cells that cross; the second passes behind the first."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[: hw[0], : hw[1]]
    radii, shapes, greys = rng.uniform(11, 16, 2), rng.uniform(0.75, 1.3, 2), rng.uniform(110, 190, 2)
    textures = [ndimage.gaussian_filter(rng.normal(size=(64, 64)), 2) * rng.uniform(1, 3) for _ in range(2)]
    rows = hw[0] / 2 + rng.uniform(-6, 6, 2)
    image, labels = np.zeros((num_frames, *hw), np.float32), np.zeros((num_frames, *hw), np.int32)
    for t in range(num_frames):
        way = t / (num_frames - 1) * (hw[1] - 2 * margin)
        plane = np.full(hw, 30.0)
        for i, column in ((1, hw[1] - margin - way), (0, margin + way)):
            inside = ((y - rows[i]) / radii[i]) ** 2 + ((x - column) / (radii[i] * shapes[i])) ** 2 < 1
            texture = textures[i][(y - rows[i] + 32).astype(int).clip(0, 63), (x - column + 32).astype(int).clip(0, 63)]
            plane[inside], labels[t][inside] = (greys[i] * (1 + 0.25 * texture))[inside], i + 1
        image[t] = (ndimage.gaussian_filter(plane, 1) + rng.normal(0, 5, hw)).clip(0, 255)
    return image, labels


def load_crop(path: Path, options: argparse.Namespace) -> tuple[NDArray, NDArray]:
    """The middle of a pack's movie, or of the first of several."""
    with np.load(path, allow_pickle=False) as pack:
        name = "" if "image" in pack else "_0000"
        image, labels = pack[f"image{name}"][: options.frames], pack[f"labels{name}"][: options.frames]
    y, x = ((n - min(options.crop, n)) // 2 for n in labels.shape[1:])
    part = (slice(None), slice(y, y + options.crop), slice(x, x + options.crop))
    return image[part], labels[part].astype(np.int32)


def measure(name: str, image: NDArray, labels: NDArray, model: SAM2, way: str) -> Identities:
    """Track the cells of the first frame and compare identities."""
    chosen = WAYS[way]
    segmenter = SAM2VideoSegmenter(
        model,
        keep_apart=chosen.keep_apart,
        motion=chosen.motion,
        claims=chosen.claims,
        distractors=chosen.distractors,
        sharing=chosen.sharing,
    )
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
    known = np.where(np.isin(labels, ids), labels, 0).astype(np.int32)
    scores = evaluate_tracks(*(LabelledTracks(each, tracks_of_labels(each, {})) for each in (known, tracked)))
    return Identities(
        name, way, count, 100 * switches / max(count, 1), float(idf1), float(np.mean(ious)), scores.tra, scores.lnk
    )


def main() -> None:
    """Measure each movie both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--crop", type=int, default=160, help="side of the part of a file that is used")
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--frames", type=int, default=10, help="first frames of a file that are used")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument(
        "--speeds", type=float, nargs="*", default=[2.0, 4.0, 6.0], help="pixels per frame, a cell has 15"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--crossings", type=int, nargs="*", default=[1, 2, 3, 4], help="seeds of pairs that cross")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    movies = [(path.stem, *load_crop(path, options)) for path in options.files]
    for speed in options.speeds:
        movies += [(f"crowd {seed}, speed {speed:g}", *draw_crowd(seed, speed)) for seed in options.seeds]
    movies += [(f"crossing {seed}", *draw_crossing(seed)) for seed in options.crossings]
    model, found = load_model(options.model), []
    print("| movie | told apart by | cells on frames | switches per 100 | IDF1 | IoU | TRA | LNK |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, image, labels in movies:
        for way in options.ways:
            one = measure(name, image, labels, model, way)
            found.append(one)
            print(
                f"| {name} | {way} | {one.count} | {one.switches:.2f} | {one.idf1:.3f} | {one.iou:.3f} "
                f"| {one.tra:.3f} | {one.lnk:.3f} |",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()

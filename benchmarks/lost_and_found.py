"""Whether objects that are missing on some frames, or displaced by the stage, are found again; and gone ones are not.

python benchmarks/lost_and_found.py
python benchmarks/lost_and_found.py --seeds 3 4 --model mine.safetensors --picture lost_and_found.png --json found.json

Movies of four cells with exact truth are drawn from seeds, twelve frames each. Each movie is damaged in one way; the
cells are given by their masks on the first frame, or on the last one and tracked backwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from clips import mask_iou
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.segmentation import mark_boundaries

from napari_sam2 import SAM2VideoSegmenter, load_model, open_frames
from napari_sam2._types import Prompt
from napari_sam2.network.sam2 import SAM2

NUM_FRAMES, SIDE = 12, 128
RADIUS = 9.0
SEAM = 5
"""The frame at which the damage begins."""


@dataclass(frozen=True)
class Movie:
    """``image`` (T, H, W) float32 and ``labels`` (T, H, W) int32; ``missing`` are the frames without the cells."""

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    missing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """One movie tracked in one direction.

    Attributes
    ----------
    before, after : float
        Mean IoU of the cells on the frames before and after the damage, in the order of tracking.
    false : float
        Fraction of cells and frames on which a cell is found that is not there; NaN if all are there.
    """

    case: str
    seed: int
    reverse: bool
    before: float
    after: float
    false: float


def draw_movie(seed: int, shift: tuple[float, float] = (0.0, 0.0)) -> Movie:
    """Four cells that move slowly in front of noise; from the seam on they are shifted by (y, x)."""
    rng = np.random.default_rng(seed)
    places = np.array([(36, 34), (34, 92), (92, 36), (94, 90)]) + rng.uniform(-6, 6, (4, 2))
    places -= np.array(shift) / 2
    axes, angles = RADIUS * rng.uniform(0.8, 1.25, (4, 2)), rng.uniform(0, np.pi, 4)
    values, steps = rng.uniform(90, 170, 4), rng.normal(0, 0.7, (4, 2))
    texture = ndimage.gaussian_filter(rng.normal(0, 1, (4, SIDE, SIDE)), (0, 1.5, 1.5)) * 60
    y, x = np.mgrid[:SIDE, :SIDE]
    image, labels = np.empty((NUM_FRAMES, SIDE, SIDE), np.float32), np.zeros((NUM_FRAMES, SIDE, SIDE), np.int32)
    for t in range(NUM_FRAMES):
        plane = np.full((SIDE, SIDE), 30.0)
        for i in range(4):
            at = places[i] + t * steps[i] + rng.normal(0, 0.5, 2) + np.array(shift) * (t >= SEAM)
            dy, dx = y - at[0], x - at[1]
            u, v = dx * np.cos(angles[i]) + dy * np.sin(angles[i]), dy * np.cos(angles[i]) - dx * np.sin(angles[i])
            inside = (u / axes[i, 0]) ** 2 + (v / axes[i, 1]) ** 2 < 1
            moved = np.roll(texture[i], np.round(at).astype(int), (0, 1))
            plane[inside] = (values[i] + moved)[inside]
            labels[t][inside] = i + 1
        image[t] = ndimage.gaussian_filter(plane, 1.0) + rng.normal(0, 8, (SIDE, SIDE))
    return Movie(image.clip(0, 255), labels)


def _without(movie: Movie, frames: range, background: NDArray[np.float32] | float) -> Movie:
    """The movie with some frames replaced by ``background``; nothing is visible on them."""
    image, labels = movie.image.copy(), movie.labels.copy()
    image[frames.start : frames.stop], labels[frames.start : frames.stop] = background, 0
    return Movie(image, labels, tuple(frames))


def _noise(seed: int, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(30, 8, (count, SIDE, SIDE)).clip(0, 255).astype(np.float32)


def _out_of_focus(seed: int) -> Movie:
    movie = draw_movie(seed)
    blurred = ndimage.gaussian_filter(movie.image[SEAM], 12) + _noise(seed, 1)[0] - 30
    return _without(movie, range(SEAM, SEAM + 1), blurred)


def _displaced(seed: int) -> Movie:
    """One frame shows the scene 24 pixels away."""
    movie = draw_movie(seed)
    image, labels = movie.image.copy(), movie.labels.copy()
    image[SEAM], labels[SEAM] = np.roll(image[SEAM], 24, 1), np.roll(labels[SEAM], 24, 1)
    return Movie(image, labels)


CASES: dict[str, Callable[[int], Movie]] = {
    "1 blank": lambda seed: _without(draw_movie(seed), range(SEAM, SEAM + 1), 0),
    "4 blank": lambda seed: _without(draw_movie(seed), range(SEAM, SEAM + 4), 0),
    "2 of NaN": lambda seed: _without(draw_movie(seed), range(SEAM, SEAM + 2), np.nan),
    "1 saturated": lambda seed: _without(draw_movie(seed), range(SEAM, SEAM + 1), 255),
    "1 of noise": lambda seed: _without(draw_movie(seed), range(SEAM, SEAM + 1), _noise(seed, 1)),
    "4 of noise": lambda seed: _without(draw_movie(seed), range(SEAM, SEAM + 4), _noise(seed, 4)),
    "1 out of focus": _out_of_focus,
    "1 displaced": _displaced,
    "gone": lambda seed: _without(draw_movie(seed), range(SEAM, NUM_FRAMES), _noise(seed, NUM_FRAMES - SEAM)),
    "jump of 1 diameter": lambda seed: draw_movie(seed, (4, 18)),
    "jump of 3 diameters": lambda seed: draw_movie(seed, (-10, 53)),
}


def track(model: SAM2, movie: Movie, *, reverse: bool) -> NDArray[np.int32]:
    """(T, H, W) labels of the cells, given on the first frame, or on the last one with ``reverse``."""
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(open_frames(movie.image, axes="TYX", contrast=(0.0, 255.0)))
    start = NUM_FRAMES - 1 if reverse else 0
    for i in np.unique(movie.labels[start])[1:]:
        segmenter.add_prompt(start, Prompt(mask=movie.labels[start] == i), object_id=int(i))
    return segmenter.track_objects()


def measure(case: str, seed: int, movie: Movie, tracked: NDArray[np.int32], *, reverse: bool) -> Found:
    """Compare the tracked labels with the truth, the frame of the prompts left out."""
    start = NUM_FRAMES - 1 if reverse else 0
    ids = np.unique(movie.labels[start])[1:]
    scores = {
        t: float(np.mean([mask_iou(tracked[t] == i, movie.labels[t] == i) for i in ids]))
        for t in range(NUM_FRAMES)
        if t != start and t not in movie.missing
    }
    first, last = [v for t, v in scores.items() if t < SEAM], [v for t, v in scores.items() if t >= SEAM]
    before, after = (last, first) if reverse else (first, last)
    if movie.missing and max(movie.missing) == NUM_FRAMES - 1:
        after = []
    false = np.mean([(tracked[t] == i).any() for t in movie.missing for i in ids]) if movie.missing else np.nan
    return Found(case, seed, reverse, _mean(before), _mean(after), float(false))


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def draw(movie: Movie, tracked: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The frames of a movie in a row, with the outlines of the tracked cells."""
    shown = np.nan_to_num(movie.image).astype(np.uint8)
    planes = [mark_boundaries(plane, labels, color=(1, 0.8, 0)) for plane, labels in zip(shown, tracked, strict=True)]
    return (255 * np.concatenate(planes, axis=1)).round().astype(np.uint8)


def main() -> None:
    """Run all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--only", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--directions", nargs="+", choices=["forwards", "backwards"], default=["forwards", "backwards"])
    parser.add_argument("--picture", type=Path, help="draw the first seed, forwards, a row per case")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, found, rows = load_model(options.model), [], []
    print("| damage | IoU before | IoU after | found though missing |\n|---|---:|---:|---:|")
    for case in options.only:
        for seed in options.seeds:
            movie = CASES[case](seed)
            for direction in options.directions:
                reverse = direction == "backwards"
                if reverse and case == "gone":
                    continue  # nothing is there to be given on the last frame
                tracked = track(model, movie, reverse=reverse)
                found.append(measure(case, seed, movie, tracked, reverse=reverse))
                if not reverse and seed == options.seeds[0]:
                    rows.append(draw(movie, tracked))
        values = [f for f in found if f.case == case]
        means = [np.mean([getattr(f, name) for f in values]) for name in ("before", "after", "false")]
        print(f"| {case} | {' | '.join('' if np.isnan(m) else f'{m:.3f}' for m in means)} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(f) for f in found], indent=1))
    if options.picture is not None and rows:
        Image.fromarray(np.concatenate(rows)).save(options.picture)


if __name__ == "__main__":
    main()

"""How well cells that divide are linked over time: procedural movies of 20 to 60 cells, from masks without numbers.

    python benchmarks/link_dividing_cells.py [PACK.npz ...] [--seeds 0 1 2 3 4]
    python benchmarks/link_dividing_cells.py --seeds 301 302 --from-images

Each cell grows, moves and turns at random, is pushed away by its neighbours, and divides along its long axis once it is
twice as large; the truth knows the parents. With --from-images, images are drawn of these cells, and segmented by
``segment_dividing_cells`` without a prompt. Packs hold labels (T, H, W) of another movie, whose parents are not known.
Needs the extras ``tracks`` and ``metrics``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam2 import (
    LabelledTracks,
    TimeLinkingSettings,
    evaluate_tracks,
    link_frames,
    segment_dividing_cells,
    tracks_of_labels,
)


def dividing_movie(seed: int, num_frames: int = 30, side: int = 320) -> LabelledTracks:
    """Labels (T, H, W) of cells that divide, with their parents."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(14, 30))
    place = rng.uniform(20, side - 20, (count, 2))
    turn, size = rng.uniform(0, np.pi, count), rng.uniform(90, 180, count)
    ids, parents, following = list(range(1, count + 1)), {}, count + 1
    limit = rng.uniform(190, 240, count)
    labels = np.zeros((num_frames, side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    for frame in range(num_frames):
        for _ in range(3):  # neighbours push each other away
            apart = place[:, None] - place[None]
            distance = np.hypot(*apart.transpose(2, 0, 1)) + 1e-6
            reach = (np.sqrt(size)[:, None] + np.sqrt(size)[None]) * 0.62
            push = np.clip(reach - distance, 0, None) * 0.25
            np.fill_diagonal(push, 0)
            place = place + (apart / distance[..., None] * push[..., None]).sum(1)
        place = np.clip(place, 8, side - 9)
        for number, (cy, cx), angle, area in zip(ids, place, turn, size, strict=True):
            long, short = np.sqrt(area / np.pi) * np.array([1.3, 1 / 1.3])
            u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
            v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
            inside = (u / long) ** 2 + (v / short) ** 2 < 1
            labels[frame][inside & (labels[frame] == 0)] = number
        place, turn = place + rng.normal(0, 1.5, place.shape), turn + rng.normal(0, 0.1, len(turn))
        size = size * rng.uniform(1.0, 1.05, len(size))
        for at in np.flatnonzero(size > limit)[::-1]:
            if len(ids) >= 60:
                break
            offset = np.sqrt(size[at] / np.pi) * 0.75 * np.array([np.sin(turn[at]), np.cos(turn[at])])
            daughters = [following, following + 1]
            following += 2
            parents |= dict.fromkeys(daughters, ids[at])
            ids = [i for i in ids if i != ids[at]] + daughters
            place = np.concatenate((np.delete(place, at, 0), [place[at] + offset, place[at] - offset]))
            turn = np.concatenate((np.delete(turn, at), [turn[at]] * 2))
            size = np.concatenate((np.delete(size, at), [size[at] / 2] * 2))
            limit = np.concatenate((np.delete(limit, at), rng.uniform(190, 240, 2)))
    seen = set(np.unique(labels).tolist())
    return LabelledTracks(labels, tracks_of_labels(labels, {d: p for d, p in parents.items() if {d, p} <= seen}))


def drawn_movie(labels: NDArray[np.int32], seed: int) -> NDArray[np.uint8]:
    """Noisy image (T, H, W) of cells that are brightest in their middle, each with its own brightness."""
    rng = np.random.default_rng((seed, 1))
    level = rng.uniform(0.7, 1.3, int(labels.max()) + 1)
    movie = np.zeros(labels.shape, np.float32)
    for t, plane in enumerate(labels):
        depth = np.zeros(plane.shape, np.float32)
        for number, box in enumerate(ndimage.find_objects(plane), 1):
            if box is not None:
                own = plane[box] == number
                inside = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1]
                depth[box][own] = np.sqrt(inside[own] / inside.max()) * level[number]
        light = ndimage.gaussian_filter(25 + 110 * depth, 0.8)
        movie[t] = rng.poisson(light) + rng.normal(0, 3, light.shape)
    return movie.clip(0, 255).astype(np.uint8)


def without_numbers(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same masks, numbered anew on each frame."""
    rng = np.random.default_rng(0)
    orders = (np.concatenate(([0], 1 + rng.permutation(int(labels.max())))) for _ in labels)
    return np.stack([order[frame] for order, frame in zip(orders, labels, strict=True)]).astype(np.int32)


def main() -> None:
    """Print a line for each seed, and the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packs", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--max-distance", type=float, default=TimeLinkingSettings().max_distance)
    parser.add_argument("--max-division-distance", type=float, default=TimeLinkingSettings().max_division_distance)
    parser.add_argument("--from-images", action="store_true", help="segment drawn images instead of linking masks")
    parser.add_argument("--model", default="sam2_micro")
    given = parser.parse_args()
    settings = TimeLinkingSettings(given.max_distance, 1, given.max_division_distance)
    rows = []
    print("| movie | cells | divisions | TRA | LNK | division F1 |\n|---|---:|---:|---:|---:|---:|")
    for name, truth in (*((path.stem, read_pack(path)) for path in given.packs), *drawn(given.seeds)):
        if given.from_images and name.startswith("seed"):
            found = segment_dividing_cells(drawn_movie(truth.labels, int(name.split()[1])), model=given.model)
            linked = LabelledTracks(found.labels, found.tracks)
        else:
            linked = link_frames(without_numbers(truth.labels), settings)
        scores = evaluate_tracks(truth, linked)
        if name.startswith("seed"):
            rows.append((scores.tra, scores.lnk, scores.division_f1))
        first, last = (len(np.unique(frame)) - 1 for frame in truth.labels[[0, -1]])
        f1 = f"{scores.division_f1:.3f}" if scores.num_divisions else ""
        print(
            f"| {name} | {first} to {last} | {scores.num_divisions} | {scores.tra:.4f} | {scores.lnk:.4f} | {f1} |",
            flush=True,
        )
    if rows:
        print("| mean of the seeds | | | {:.4f} | {:.4f} | {:.3f} |".format(*np.mean(rows, axis=0)))


def drawn(seeds: Iterable[int]) -> Iterator[tuple[str, LabelledTracks]]:
    """A name and a movie for each seed."""
    for seed in seeds:
        yield f"seed {seed}", dividing_movie(seed)


def read_pack(path: Path) -> LabelledTracks:
    """The labels of a pack."""
    with np.load(path, allow_pickle=False) as pack:
        labels = pack["labels"].astype(np.int32)
    return LabelledTracks(labels, tracks_of_labels(labels))


if __name__ == "__main__":
    main()

"""How many divisions are proposed after which tracking has lost one daughter, and how many proposals are wrong.

    python benchmarks/lost_daughters.py --seeds 601 602 603 604

Drawn movies of cells that divide (``link_dividing_cells.py``) become sessions whose masks are those of the truth, each
shifted, shrunk or grown at random by a pixel. In one session, every second division goes on as one daughter, and the
other one has no masks; in one, nothing is lost; in one, two of three cells have no masks; in the last one, cells that
do not divide lose half of their mask for good. No model is asked.
"""

from __future__ import annotations

import argparse

import numpy as np
from link_dividing_cells import dividing_movie, drawn_movie
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam2 import LabelledTracks, Session, propose_divisions

NUM_FRAMES, SIDE = 20, 240


def main() -> None:
    """Print a line for each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[601, 602, 603, 604])
    print("| seed | daughters lost | found | wrong | masks without loss | wrong | masks halved | wrong |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for seed in parser.parse_args().seeds:
        truth = dividing_movie(seed, NUM_FRAMES, SIDE)
        image, rng = drawn_movie(truth.labels, seed), np.random.default_rng(seed)
        labels, expected = followed_by_one(truth)
        found = proposed(image, labels, rng)
        hits = sum(expected.get(object_id) == frame for object_id, frame in found.items())
        sparse = np.where(truth.labels % 3 == 0, truth.labels, 0)
        wrong = sum(len(proposed(image, each, rng)) for each in (truth.labels, sparse))
        count = sum(len(np.unique(frame)) - 1 for each in (truth.labels, sparse) for frame in each)
        halves, num_halved = halved(truth, rng)
        false = len(proposed(image, halves, rng))
        print(
            f"| {seed} | {len(expected)} | {hits} | {len(found) - hits} | {count} | {wrong} | {num_halved} | {false} |",
            flush=True,
        )


def followed_by_one(truth: LabelledTracks) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Labels in which every second division goes on as one daughter; object -> the frame of that division."""
    daughters, spans = truth.tracks.daughters(), truth.tracks.spans()
    pairs = {parent: each for parent, each in daughters.items() if len(each) == 2}
    lookup, expected = np.arange(int(truth.labels.max()) + 1), {}
    for parent in sorted(pairs)[::2]:
        if lookup[parent] != parent:  # it is lost itself, or has become another one
            continue
        kept, lost = pairs[parent]
        expected[parent] = spans[kept][0]
        lookup[kept] = parent
        remaining = [lost, *daughters.get(kept, ())]
        while remaining:
            number = remaining.pop()
            lookup[number] = 0
            remaining += daughters.get(number, ())
    return lookup[truth.labels].astype(np.int32), expected


def halved(truth: LabelledTracks, rng: np.random.Generator) -> tuple[NDArray[np.int32], int]:
    """Labels in which cells lose one half of their mask from some frame to their end, and how many do."""
    labels, y, x = truth.labels.copy(), *np.mgrid[:SIDE, :SIDE]
    count = 0
    for object_id, (first, last) in truth.tracks.spans().items():
        if last - first < 4:
            continue
        count += 1
        angle = rng.uniform(0, 2 * np.pi)
        for frame in labels[rng.integers(first + 1, last - 1) : last + 1]:
            rows, columns = np.nonzero(frame == object_id)
            side = (y - rows.mean()) * np.sin(angle) + (x - columns.mean()) * np.cos(angle)
            frame[(frame == object_id) & (side < 0)] = 0
    return labels, count


def proposed(image: NDArray[np.uint8], labels: NDArray[np.int32], rng: np.random.Generator) -> dict[int, int]:
    """Object -> frame on which it seems to have lost a daughter."""
    with Session(image) as session:
        for frame, plane in enumerate(labels):
            session.paint(frame, {int(i): rough(plane == i, rng) for i in np.unique(plane) if i})
        return {each.object_id: each.frame for each in propose_divisions(session) if each.lost_yx is not None}


def rough(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask that is not quite right."""
    change = (ndimage.binary_erosion, ndimage.binary_dilation, np.copy, np.copy)[rng.integers(4)]
    moved = np.roll(change(mask), tuple(rng.integers(-1, 2, 2)), (0, 1))
    return moved if moved.any() else mask


if __name__ == "__main__":
    main()

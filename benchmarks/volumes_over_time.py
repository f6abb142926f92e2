"""One click per object of a series of volumes: how well all its time points are segmented.

python benchmarks/volumes_over_time.py
python benchmarks/volumes_over_time.py --seeds 4 5 --speed 5 --json volumes.json

Bodies of one look that move through z, y and x are drawn from seeds, 8 time points of 12 slices. Each is clicked once,
in its middle at one time point, and propagated through z and time (``Session.propagate_through_time``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam2 import Session


def draw_volumes(
    seed: int, speed: float, *, num_times: int = 8, num_slices: int = 12, side: int = 120, count: int = 6
) -> tuple[NDArray, NDArray]:
    """Image and labels (T, Z, Y, X)."""
    rng = np.random.default_rng(seed)
    low, high = np.array([3, 14, 14]), np.array([num_slices - 3, side - 14, side - 14])
    places, radii = rng.uniform(low, high, (count, 3)), rng.uniform((2.5, 8, 8), (3.5, 12, 12), (count, 3))
    steps = rng.normal(0, (speed / 6, speed, speed), (count, 3))
    for _ in range(200):  # apart from each other at the beginning
        away = (places[:, None] - places[None]) / np.array([0.3, 1, 1])
        distance = np.linalg.norm(away, axis=-1) + np.eye(count) * 1e9
        places += (away / distance[..., None] * np.clip(28 - distance, 0, None)[..., None] * 0.2).sum(1) * (0.1, 1, 1)
        places = places.clip(low, high)
    grid = np.stack(np.mgrid[:num_slices, :side, :side], -1)
    image = np.zeros((num_times, num_slices, side, side), np.uint8)
    labels = np.zeros(image.shape, np.int32)
    for time in range(num_times):
        now = (places + steps * time).clip((2, 10, 10), (num_slices - 2, side - 10, side - 10))
        reach = np.stack([(((grid - place) / radius) ** 2).sum(-1) for place, radius in zip(now, radii, strict=True)])
        labels[time] = np.where(reach.min(0) < 1, reach.argmin(0) + 1, 0)
        shown = ndimage.gaussian_filter((labels[time] > 0) * 120.0 + 30, (0.7, 1.5, 1.5))
        image[time] = (shown + rng.normal(0, 7, shown.shape)).clip(0, 255)
    return image, labels


def measure(seed: int, speed: float, clicked: int) -> list[float]:
    """Mean IoU of the bodies at each time point, as volumes."""
    image, labels = draw_volumes(seed, speed)
    numbers = {}
    with Session(image) as session:
        for body in np.unique(labels[clicked])[1:]:
            inside = np.argwhere(labels[clicked] == body)
            middle = inside[np.abs((inside - inside.mean(0)) * (10, 1, 1)).sum(1).argmin()]
            numbers[int(body)] = session.add_points([[clicked, *middle]])
        session.propagate_through_time()
        found = np.asarray(session.labels)
    means = []
    for time in range(len(image)):
        pairs = [(found[time] == number, labels[time] == body) for body, number in numbers.items()]
        means.append(float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs])))
    return means


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--speed", type=float, default=2.0, help="pixels per time point")
    parser.add_argument("--clicked", type=int, default=3, help="time point of the clicks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {}
    for seed in options.seeds:
        found[seed] = measure(seed, options.speed, options.clicked)
        print(f"seed {seed}: " + " ".join(f"{value:.3f}" for value in found[seed]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()

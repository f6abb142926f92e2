"""Processor time, system time and peak memory of automatic masks on one image, in this version or another one.

python benchmarks/automatic_cost.py --side 1024
PYTHONPATH=/path/to/other/src python benchmarks/automatic_cost.py --side 1024

The image shows bright discs on a noisy background, from a fixed seed. Run two versions in turns on an idle machine.
"""

from __future__ import annotations

import argparse
import hashlib
import resource

import numpy as np
from numpy.typing import NDArray

from napari_sam2 import SAM2AutomaticMaskGenerator, load_model


def make_image(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """(side, side) grey image with a disc of radius 7 to 16 pixels on nearly every cell of a grid of 44 pixels."""
    rng = np.random.default_rng(seed)
    image = rng.normal(40, 8, (side, side))
    y, x = np.mgrid[:side, :side]
    for row in range(22, side - 20, 44):
        for column in range(22, side - 20, 44):
            centre, radius = rng.normal((row, column), 3), rng.uniform(7, 16)
            part = np.s_[row - 22 : row + 23, column - 22 : column + 23]
            inside = (y[part] - centre[0]) ** 2 + (x[part] - centre[1]) ** 2 < radius**2
            image[part] += inside * rng.uniform(60, 150)
    clipped: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return clipped


def main() -> None:
    """Print one line: masks, user and system seconds, peak memory, and a digest of all masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--model", default="sam2_micro")
    args = parser.parse_args()
    generator = SAM2AutomaticMaskGenerator(load_model(args.model))
    image = make_image(args.side)
    generator.generate_masks(image[:128, :128])  # first calls load libraries
    before = resource.getrusage(resource.RUSAGE_SELF)
    records = generator.generate_masks(image)
    after = resource.getrusage(resource.RUSAGE_SELF)
    digest = hashlib.blake2b(b"".join(r["segmentation"].tobytes() for r in records), digest_size=6)  # type: ignore[attr-defined]
    print(
        f"{args.side} x {args.side}: {len(records)} masks {digest.hexdigest()}, "
        f"user {after.ru_utime - before.ru_utime:.1f} s, system {after.ru_stime - before.ru_stime:.1f} s, "
        f"peak {after.ru_maxrss / 1024:.0f} MiB, page faults {after.ru_minflt - before.ru_minflt}"
    )


if __name__ == "__main__":
    main()

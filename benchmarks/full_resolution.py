"""Time and memory of labels at full resolution: an image of 10 GB, prompted on its fifth level.

python benchmarks/full_resolution.py [--side 100000] [--objects 12]

The image is an OME-Zarr of side x side pixels of 8 bits, of which only the chunks with cells are written. Labels of
the coarsest level, one of them 40,000 pixels long, are refined at full resolution inside the image. Prints seconds, the
most memory in use, and how well the masks fit the cells.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter

from napari_sam2 import open_frames
from napari_sam2.inference.prompts.full_resolution import FullResolutionWriter
from napari_sam2.weights.loading import load_model

NUM_LEVELS, CHUNK = 6, 1024


def ellipse(size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.25, 0.42, 2) * size
    yy, xx = np.mgrid[:size, :size] - size / 2
    return (yy / a) ** 2 + (xx / b) ** 2 < 1


def write_image(path: Path, side: int, num_objects: int) -> tuple[np.ndarray, list[tuple[int, int, np.ndarray]]]:
    """The image; the labels of its coarsest level, and place and mask of each small cell."""
    group = zarr.open_group(path, mode="w")
    zoom = 2 ** (NUM_LEVELS - 1)
    coarse = np.zeros((side // zoom, side // zoom), np.int32)
    levels, datasets = [], []
    for level in range(NUM_LEVELS):
        length = side // 2**level
        chunk = min(CHUNK, length)
        levels.append(group.create_array(str(level), shape=(length, length), chunks=(chunk, chunk), dtype="uint8"))
        scale = {"type": "scale", "scale": [0.25 * 2**level] * 2}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    rng, cells, size = np.random.default_rng(0), [], 768
    for number in range(1, num_objects + 1):
        mask = ellipse(size, number)
        y, x = (int(v) // zoom * zoom for v in rng.integers(0, side // 2 - size, 2))
        cell = gaussian_filter(np.where(mask, 180.0, 40.0), 2) + rng.normal(0, 8, mask.shape)
        for level, array in enumerate(levels):
            step = 2**level
            blocks = cell.reshape(size // step, step, size // step, step).mean((1, 3)).clip(0, 255).astype(np.uint8)
            array[y // step : (y + size) // step, x // step : (x + size) // step] = blocks
        small = mask.reshape(size // zoom, zoom, size // zoom, zoom).mean((1, 3)) >= 0.5
        coarse[y // zoom : (y + size) // zoom, x // zoom : (x + size) // zoom][small] = number
        cells.append((y, x, mask))
    long = coarse[coarse.shape[0] * 3 // 4 :][:300, : int(0.4 * coarse.shape[1])]
    long[:] = num_objects + 1
    levels[-1][:] = np.where(coarse == num_objects + 1, 150, levels[-1][:])
    return coarse, cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=12)
    given = parser.parse_args()
    side = given.side // 2 ** (NUM_LEVELS - 1) * 2 ** (NUM_LEVELS - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.ome.zarr"
        coarse, cells = write_image(path, side, given.objects)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        begin, cpu = time.perf_counter(), time.process_time()
        frames = open_frames(path, level=NUM_LEVELS - 1)
        labels = path / "labels" / "cells"
        with FullResolutionWriter(labels, frames, load_model=lambda: load_model("sam2_micro")) as writer:
            writer[0] = coarse
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        found = zarr.open_group(labels, mode="r")
        full = found["0"]
        zoom = 2 ** (NUM_LEVELS - 1)
        ious = {"refined": [], "nearest": []}
        for number, (y, x, mask) in enumerate(cells, 1):
            part = np.s_[y : y + len(mask), x : x + len(mask)]
            rough = coarse[y // zoom : (y + len(mask)) // zoom, x // zoom : (x + len(mask)) // zoom] == number
            for name, seen in (("refined", full[part] == number), ("nearest", rough.repeat(zoom, 0).repeat(zoom, 1))):
                ious[name].append((seen & mask).sum() / (seen | mask).sum())
        print(f"image of {side:,} x {side:,} pixels ({side**2 / 1e9:.1f} GB), labels of level {NUM_LEVELS - 1}")
        print(writer.report)
        print(f"{seconds:.1f} s ({cpu:.1f} s of processor time)")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"most memory in use: {most:,.0f} MB ({before:,.0f} MB before)")
        print("IoU with the cells: " + ", ".join(f"{name} {np.mean(values):.3f}" for name, values in ious.items()))
        print("objects at each level:", [len(np.unique(found[str(n)][::16, ::16])) - 1 for n in (3, 5)])


if __name__ == "__main__":
    main()

"""Which axis of an isotropic volume is best to track along, and whether a vote of all three is better.

python benchmarks/volume_axes.py fib25_dev.npz --objects 8 --json axes.json

The largest trusted objects of a labelled volume are given one click each, at the innermost voxel of their middle plane
along Z, and tracked along Z, Y and X; the three results are fused by vote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam2 import load_model, segment_along_axes
from napari_sam2.inference.stacks.volume_axes import vote


def inner_voxel(body: NDArray[np.bool_]) -> tuple[int, int, int]:
    """z, y, x of the innermost pixel of the body's middle plane."""
    planes = np.flatnonzero(body.any((1, 2)))
    z = int(planes[len(planes) // 2])
    depth = ndimage.distance_transform_edt(np.pad(body[z], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return z, int(y), int(x)


def main() -> None:
    """Track and print a table: one row per object, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path, help="npz with image and labels; trusted_ids if only some count")
    parser.add_argument("--objects", type=int, default=8, help="how many of the largest objects")
    parser.add_argument("--crop", type=int, default=250, help="rows and columns from the origin that are used")
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with np.load(options.pack, allow_pickle=False) as pack:
        image, labels = (pack[name][:, : options.crop, : options.crop] for name in ("image", "labels"))
        known = set(pack["trusted_ids"].tolist()) if "trusted_ids" in pack else set(np.unique(labels).tolist()) - {0}
    ids, sizes = np.unique(labels, return_counts=True)
    chosen = [int(i) for i in ids[np.argsort(-sizes)] if int(i) in known][: options.objects]
    clicks = {row: [inner_voxel(labels == i)] for row, i in enumerate(chosen, 1)}
    by_axis, model = {}, load_model(options.model)
    for axis in "ZYX":
        by_axis[axis] = segment_along_axes(image, clicks, axes=(axis,), model=model).labels
    by_axis["vote"] = vote([by_axis[axis] for axis in "ZYX"], list(clicks))
    rows = []
    print("| object | voxels | Z | Y | X | vote |\n|---|---:|---:|---:|---:|---:|")
    for row, i in enumerate(chosen, 1):
        body = labels == i
        scores = {
            n: float((body & (found == row)).sum() / (body | (found == row)).sum()) for n, found in by_axis.items()
        }
        rows.append(scores)
        print(f"| {i} | {body.sum()} |" + "".join(f" {score:.3f} |" for score in scores.values()), flush=True)
    means = {name: float(np.mean([scores[name] for scores in rows])) for name in by_axis}
    print("| mean | |" + "".join(f" {mean:.3f} |" for mean in means.values()))
    if options.json is not None:
        options.json.write_text(json.dumps({"objects": chosen, "scores": rows, "means": means}, indent=1))


if __name__ == "__main__":
    main()

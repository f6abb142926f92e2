"""OME-Zarr images of each version, as small as can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

KINDS = {"t": "time", "c": "channel"}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def make_image(
    path: Path, version: str, axes: str = "czyx", shape: tuple[int, ...] = (2, 4, 32, 40), depth: int = 1
) -> Path:
    """An image of two levels, with scale and translation; ``depth`` planes along the last axis before Y in a chunk."""
    is_nested = version in ("0.5", "0.6")
    group = zarr.open_group(path, mode="w", zarr_format=3 if is_nested else 2)
    entries = [{"name": a, "type": KINDS.get(a, "space"), **({"unit": UNITS[a]} if a in UNITS else {})} for a in axes]
    datasets = []
    for level in range(2):
        size = (*shape[:-2], shape[-2] >> level, shape[-1] >> level)
        chunks = (*(1,) * (len(axes) - 3), depth, 16, 20)
        array = group.create_array(str(level), shape=size, dtype="uint16", chunks=chunks[-len(axes) :])
        array[:] = np.random.default_rng(0).integers(0, 500, size)
        steps = [
            {"type": "scale", "scale": [0.5 * 2**level if a in "yx" else 2.0 if a == "z" else 1.0 for a in axes]},
            {"type": "translation", "translation": [{"z": 10.0, "y": 70.0}.get(a, 0.0) for a in axes]},
        ]
        if version == "0.6":
            ends = {"input": {"path": str(level)}, "output": {"name": "physical"}}
            steps = [{"type": "sequence", "transformations": steps, **ends}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    image = {"name": "i", "datasets": datasets}
    image |= {"coordinateSystems": [{"name": "physical", "axes": entries}]} if version == "0.6" else {"axes": entries}
    if is_nested:
        group.attrs["ome"] = {"version": version, "multiscales": [image]}
    else:
        group.attrs["multiscales"] = [{"version": version, **image}]
    return path

"""Sample images: real stacks that come with the package, and procedural ones with known truth."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.training.synthetic.demos import make_demo_stack, make_dividing_cells_movie, make_em_stack

__all__ = ["c2c12_movie", "cells_movie", "em_stack", "histology", "mouse_embryo", "nuclei_stack", "tissue_nuclei"]

LayerData = tuple[Any, dict[str, Any], str]


def nuclei_stack() -> list[LayerData]:
    """Confocal-like z-stack of nuclei, 12 bits, with planes three times as far apart as pixels; truth hidden."""
    stack, truth = make_demo_stack()
    place = {"scale": (0.9, 0.3, 0.3), "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")}
    return _with_truth(stack, truth, "nuclei", {**place, "contrast_limits": _limits(stack)}, place)


def cells_movie() -> list[LayerData]:
    """Phase-contrast movie of cells that crawl and divide; truth hidden."""
    movie, truth = make_dividing_cells_movie()
    place = {"axis_labels": ("t", "y", "x")}
    return _with_truth(movie, truth, "dividing cells", place, place)


def em_stack() -> list[LayerData]:
    """Electron-microscopy-like volume of neurites with cubic voxels; truth hidden."""
    stack, truth = make_em_stack()
    place = {"scale": (0.008,) * 3, "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")}
    return _with_truth(stack, truth, "neurites", place, place)


def histology() -> list[LayerData]:
    """Stained tissue (immunohistochemistry of colon), a real image from scikit-image."""
    from skimage.data import immunohistochemistry

    return [(immunohistochemistry(), {"name": "tissue", "rgb": True}, "image")]


def mouse_embryo() -> list[LayerData]:
    """Nuclei of a mouse embryo, confocal stack; image set BBBC050, CC0 (see THIRD_PARTY.md)."""
    return [(_read("mouse_embryo"), {"name": "mouse embryo", "axis_labels": ("z", "y", "x")}, "image")]


def c2c12_movie() -> list[LayerData]:
    """C2C12 cells, phase-contrast movie; CC BY 4.0, doi 10.1038/sdata.2018.237 (see THIRD_PARTY.md)."""
    return [(_read("c2c12_movie"), {"name": "C2C12 cells", "axis_labels": ("t", "y", "x")}, "image")]


def tissue_nuclei() -> list[LayerData]:
    """Nuclei in tissue, fluorescence; 2018 Data Science Bowl, CC0 (see THIRD_PARTY.md)."""
    return [(_read("tissue_nuclei"), {"name": "tissue nuclei", "axis_labels": ("y", "x")}, "image")]


def _read(name: str) -> np.ndarray:
    import tifffile

    return np.asarray(tifffile.imread(Path(str(files("napari_sam2"))) / "bundled" / "samples" / f"{name}.tif"))


def _with_truth(
    stack: np.ndarray, truth: np.ndarray, name: str, image: dict[str, Any], place: dict[str, Any]
) -> list[LayerData]:
    return [
        (truth, {"name": f"{name} (truth)", "visible": False, **place}, "labels"),
        (stack, {"name": name, **image}, "image"),
    ]


def _limits(stack: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(stack, (0.1, 99.9))
    return float(low), float(high)

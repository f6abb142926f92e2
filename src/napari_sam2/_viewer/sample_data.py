"""Sample images: procedural stacks and movies with known truth, and one real image that scikit-image ships."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sam2.training.synthetic.demos import make_demo_stack, make_dividing_cells_movie, make_em_stack

__all__ = ["cells_movie", "em_stack", "histology", "nuclei_stack"]

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

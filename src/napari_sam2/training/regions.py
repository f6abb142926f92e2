"""Regions of pictures without labels, on several scales: they teach outlines of texture, and part and whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import skimage.data
from skimage.io import imread
from skimage.segmentation import felzenszwalb

from napari_sam2.training.crops import CropConfig, Cut, StackSource
from napari_sam2.training.packs import LabelledStack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RegionSource", "picture_regions"]

# photographs and micrographs that come with scikit-image
_PICTURES = (
    "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png", "motorcycle_left.png",
    "retina.jpg", "rocket.jpg",
)  # fmt: skip
_PICTURE_SHARE = 0.5
_SCALES = ((40, 160), (160, 640), (640, 2500))  # of felzenszwalb: three levels, from fine to coarse
_LARGEST = 0.45  # of the crop, that a region may fill
_EXTENTS = (24.0, 100.0)  # crop pixels that a cell of the grid has, or an object of a micrograph
_CELL = 64


@dataclass(frozen=True, eq=False)
class RegionSource:
    """Crops of pictures with the regions that ``felzenszwalb`` finds in them; clips move and deform a still.

    Attributes
    ----------
    name : str
        Name for weights.
    pictures, micrographs : StackSource
        Where crops are taken from; their labels are only used to place them.
    """

    pictures: StackSource
    micrographs: StackSource | None = None
    name: str = "regions"

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One crop and its regions; see ``ClipSource``."""
        source = self.pictures
        if self.micrographs is not None and rng.random() >= _PICTURE_SHARE:
            source = self.micrographs
        wide = replace(crop, extent_core=_EXTENTS, core_share=1.0, wrong_share=0.0, over_border=0.0)
        cut = source.sample(rng, 1, size, wide)
        levels = _hierarchy(rng, cut.frames[0])
        if num_frames > 1:
            frames = np.clip(np.rint(cut.frames), 0, 255).astype(np.uint8)
            still = LabelledStack(frames, levels[1][None], self.name)
            return StackSource(self.name, [still]).sample(rng, num_frames, size, crop)
        hidden = tuple(_touching(level) for level in levels)
        return Cut(
            cut.frames,
            levels[1][None],
            None,
            cut.black,
            (levels[0][None], levels[2][None]),
            (hidden[1], hidden[0], hidden[2]),
        )


def picture_regions(micrographs: Sequence[LabelledStack] = ()) -> RegionSource:
    """Regions of the pictures that scikit-image ships, and of micrographs."""
    folder = Path(skimage.data.__file__).parent
    pictures = []
    for name in _PICTURES:
        if (folder / name).is_file():
            picture = np.asarray(imread(folder / name)).astype(np.uint8)
            picture = picture[..., :3] if picture.ndim == 3 else picture
            h, w = picture.shape[:2]
            cells = 1 + np.arange(h)[:, None] // _CELL * (w // _CELL + 1) + np.arange(w) // _CELL
            pictures.append(LabelledStack(picture[None], cells[None].astype(np.int32), name, name))
    seen = StackSource("micrographs", list(micrographs)) if micrographs else None
    return RegionSource(StackSource("pictures", pictures), seen)


def _hierarchy(rng: np.random.Generator, image: NDArray[np.float32]) -> list[NDArray[np.int32]]:
    """Three label maps from fine to coarse; regions that fill the crop are background."""
    grey = image.mean(-1) if image.ndim == 3 else image
    low, high = np.percentile(grey, (1, 99))
    unit = np.clip((grey - low) / max(high - low, 1), 0, 1)
    sigma = rng.uniform(0.6, 1.6)
    levels = []
    for smallest, scale in zip((24, 60, 150), _SCALES, strict=True):
        found = felzenszwalb(unit, scale=rng.uniform(*scale), sigma=sigma, min_size=smallest) + 1
        areas = np.bincount(found.reshape(-1))
        levels.append(np.where(areas[found] < _LARGEST * found.size, found, 0).astype(np.int32))
    return levels


def _touching(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """By label: NaN for regions that the crop may have cut off, else 0."""
    hidden = np.zeros(int(labels.max()) + 1, np.float32)
    edges = np.concatenate((labels[0], labels[-1], labels[:, 0], labels[:, -1]))
    hidden[np.unique(edges)] = np.nan
    return hidden

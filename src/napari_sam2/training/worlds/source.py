"""Random worlds as a source of training clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam2.training.crops import CropConfig, Cut, StackSource, draw_view, hidden_areas
from napari_sam2.training.packs import LabelledStack
from napari_sam2.training.warp import outside, sample_labels, view_grid
from napari_sam2.training.worlds.looks import FORMED_SHARE, render
from napari_sam2.training.worlds.scenes import Scene, draw_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WorldSource"]

_OTHER_LEVEL_SHARE = 0.15  # of crops that show a part or a clump at the drawn size, not an object
_SMOOTH_ZOOM = 1.2
_STEPPED_ZOOM = 2.5


@dataclass(frozen=True)
class WorldSource:
    """Stills with objects on several levels; clips move and deform a still.

    Attributes
    ----------
    name : str
        Name for weights.
    arrangements : tuple of str
        Of ``scenes.ARRANGEMENTS``; empty for all.
    plain_share : float
        Share of crops with whole objects only, without parts or clumps, as a microscope forms an image of them.
    """

    name: str = "worlds"
    arrangements: tuple[str, ...] = ()
    plain_share: float = 0.0

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One crop of a new world; see ``ClipSource``."""
        names = self.arrangements
        scene = draw_scene(rng, names[int(rng.integers(len(names)))] if names else None)
        is_plain = rng.random() < self.plain_share
        if is_plain:
            scene = Scene(scene.objects if scene.hosts is None else scene.hosts)
        formed_share = 1.0 if is_plain else FORMED_SHARE
        if num_frames > 1:
            image = render(rng, scene.objects, scene.parts, scene.hosts, formed_share)
            frames = np.rint(image)[None].astype(np.uint8)
            return StackSource(self.name, [_stack(frames, scene.objects)]).sample(rng, num_frames, size, crop)
        clumps = () if scene.clumps is None else (scene.clumps,)
        hosts = () if scene.hosts is None else (scene.hosts,)
        levels = (scene.objects, *scene.parts, *clumps, *hosts)
        shown = levels[int(rng.integers(1, len(levels)))] if self._is_other(rng, len(levels)) else scene.objects
        blank = np.zeros((1, *shown.shape), np.uint8)
        # worlds have no border that a microscope's field has, and a crop is never wider than one
        view = draw_view(rng, _stack(blank, shown), 0, size, replace(crop, over_border=0.05))
        ys, xs = view_grid(view, size)
        cut = [_magnified(sample_labels(level, ys, xs, smooth=view.zoom > _SMOOTH_ZOOM), view.zoom) for level in levels]
        hidden = tuple(_hidden(whole, part, view.zoom) for whole, part in zip(levels, cut, strict=True))
        black = outside(ys, xs, (shown.shape[0], shown.shape[1]))
        last = len(cut) - len(hosts)
        image = render(rng, cut[0], cut[1 : 1 + len(scene.parts)], cut[last] if hosts else None, formed_share)
        if black.any():
            image[black] = 0
        return Cut(
            image[None],
            cut[0][None],
            None,
            black[None] if black.any() else None,
            tuple(level[None] for level in cut[1:] if level.any()),
            (hidden[0], *(h for h, level in zip(hidden[1:], cut[1:], strict=True) if level.any())),
        )

    @staticmethod
    def _is_other(rng: np.random.Generator, count: int) -> bool:
        return count > 1 and rng.random() < _OTHER_LEVEL_SHARE


def _magnified(labels: NDArray[np.int32], zoom: float) -> NDArray[np.int32]:
    """Outlines without the steps of the scene's pixels; a median is always one of the labels around."""
    if zoom < _STEPPED_ZOOM:
        return labels
    found: NDArray[np.int32] = ndimage.median_filter(labels, size=2 * round(zoom) + 1)
    return found


def _stack(frames: NDArray[np.uint8], labels: NDArray[np.int32]) -> LabelledStack:
    return LabelledStack(frames, labels[None], "worlds")


def _hidden(whole: NDArray[np.int32], part: NDArray[np.int32], zoom: float) -> NDArray[np.float32]:
    """As ``hidden_areas``; NaN for objects that the scene itself cuts off."""
    areas = np.bincount(whole.reshape(-1))
    ids = np.flatnonzero(areas[1:]) + 1
    hidden = hidden_areas(part, ids, areas[ids] * zoom**2)
    edges = np.concatenate((whole[0], whole[-1], whole[:, 0], whole[:, -1]))
    cut_off = np.unique(edges[edges > 0])
    cut_off = cut_off[cut_off < len(hidden)]
    hidden[cut_off] = np.where(hidden[cut_off] > 0, np.nan, 0)
    return hidden

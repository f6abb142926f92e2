"""Label images on some frames of a stack, read one at a time from arrays or mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sam2._checks import LARGEST_ID, check_count
from napari_sam2._errors import PromptError
from napari_sam2._messages import Message, Option, shown
from napari_sam2.labels.overlaps import label_areas

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_sam2.frames.stack import LazyArray

__all__ = ["SeedPlanes", "Seeds", "read_seeds"]


class SeedPlanes(Protocol):
    """Label images by frame, read on access."""

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]: ...


@dataclass(frozen=True, eq=False)
class Seeds:
    """Label images on some frames of a stack.

    Attributes
    ----------
    planes : SeedPlanes
        The label image of each seed frame.
    frames_of : dict of int to list of int
        Objects and their labelled frames, ascending; in the order in which objects first appear.
    """

    planes: SeedPlanes
    frames_of: dict[int, list[int]]


def read_seeds(
    labels: ArrayLike | LazyArray | Mapping[int, ArrayLike],
    frames: int | Sequence[int] | None,
    shape: tuple[int, int, int],
    *,
    min_area_px: int = 1,
) -> Seeds:
    """Objects and frames of label images; parameters as `segment_seeds`, ``shape`` is (T, H, W) of the stack.

    Raises
    ------
    PromptError
        If shapes, frames or labels do not fit, or there is no label.
    """
    min_area_px = check_count("min_area_px", min_area_px, 1)
    planes = _Planes(labels, frames, shape)
    frames_of: dict[int, list[int]] = {}
    for frame in planes.frames:
        for object_id, area in label_areas(planes[frame]).tolist():
            if area >= min_area_px:
                frames_of.setdefault(object_id, []).append(frame)
    if not frames_of:
        raise PromptError(
            f"there is no label of at least {min_area_px} pixel(s) on the frames {_few(planes.frames)}; "
            "give a label image with objects numbered from 1"
        )
    return Seeds(planes, frames_of)


class _Planes:
    """Reads seed planes one at a time."""

    def __init__(
        self,
        labels: ArrayLike | LazyArray | Mapping[int, ArrayLike],
        frames: int | Sequence[int] | None,
        shape: tuple[int, int, int],
    ) -> None:
        self._hw = shape[1:]
        self._source: LazyArray | Mapping[int, ArrayLike] = (
            labels if isinstance(labels, Mapping) or _is_lazy(labels) else np.asarray(labels)  # type: ignore[assignment]
        )
        self._place = self._places(frames, shape)
        for frame in self._place:
            if not 0 <= frame < shape[0]:
                raise PromptError(f"labels were given for frame {frame}; the stack has frames 0 to {shape[0] - 1}")

    @property
    def frames(self) -> tuple[int, ...]:
        """Seed frames, ascending."""
        return tuple(sorted(self._place))

    def __getitem__(self, frame: int, /) -> NDArray[np.int32]:
        place = self._place[frame]
        plane = np.asarray(self._source if place is None else self._source[place])
        if plane.shape != self._hw:
            raise PromptError(
                f"the labels of frame {frame} have shape {plane.shape}; the frames of the stack have {self._hw}"
            )
        if plane.dtype.kind not in "biu":
            raise PromptError(f"the labels of frame {frame} are {plane.dtype}; expected integers")
        if plane.size and (int(plane.min()) < 0 or int(plane.max()) > LARGEST_ID):
            raise PromptError(
                f"the labels of frame {frame} range from {plane.min()} to {plane.max()}; expected 0 to {LARGEST_ID}"
            )
        return plane.astype(np.int32, copy=False)

    def _places(self, frames: int | Sequence[int] | None, shape: tuple[int, int, int]) -> dict[int, int | None]:
        """Frame of the stack -> index of the label image; None for a single label image."""
        source = self._source
        if isinstance(source, Mapping):
            if frames is not None:
                raise PromptError("labels were given by frame and frames= as well; give the frames once")
            return {int(frame): int(frame) for frame in source}
        wanted = None if frames is None else [int(f) for f in np.atleast_1d(np.asarray(frames))]
        if wanted is not None and len(set(wanted)) != len(wanted):
            raise PromptError(f"frames={wanted} were given; each frame is allowed once")
        ndim = len(source.shape)
        if ndim == 2:
            if wanted is None and shape[0] == 1:
                wanted = [0]
            if wanted is None or len(wanted) != 1:
                raise PromptError(
                    Message(
                        f"one label image was given for frames={shown(frames)}; give the index of its frame with ",
                        Option("frames", "frames=", "--frame"),
                    )
                )
            return {wanted[0]: None}
        if ndim != 3:
            raise PromptError(f"labels of shape {source.shape} were given; expected (H, W) or (N, H, W)")
        num_planes = int(source.shape[0])
        if num_planes == shape[0]:
            return {frame: frame for frame in (range(num_planes) if wanted is None else wanted)}
        if wanted is None or len(wanted) != num_planes:
            given = "no frames" if wanted is None else f"{len(wanted)} frames"
            raise PromptError(
                f"{num_planes} label images were given with {given} for a stack of {shape[0]} frames; "
                "give the frame of each, or a label image for every frame"
            )
        return {frame: index for index, frame in enumerate(wanted)}


def _is_lazy(labels: object) -> bool:
    return all(hasattr(labels, name) for name in ("shape", "dtype", "__getitem__"))


def _few(frames: Sequence[int]) -> str:
    shown = ", ".join(str(frame) for frame in frames[:5])
    return shown + (f", ... ({len(frames)} in total)" if len(frames) > 5 else "")

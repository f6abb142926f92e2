"""Where a prompt lies: data coordinates of an image of any number of axes, and the planes that the model sees."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._checks import as_numbers, check_frame
from napari_sam2._errors import PromptError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["StackGeometry", "as_position"]


def as_position(index: int, length: int, what: str) -> int:
    """Index into ``length`` planes or frames, called ``what``; negative ones count from the end.

    Raises
    ------
    IndexError
        If there is none such; iterating over a source of frames ends by it.
    """
    position = operator.index(index)
    if not -length <= position < length:
        raise IndexError(f"{what} {position} was requested; there are {length}, 0 to {length - 1}")
    return position % length


@dataclass(frozen=True)
class StackGeometry:
    """Axes of a stack, without channels: two of the image and any number before them.

    A *plane* is one (H, W) image, numbered so that the planes of one clip follow each other: the frame axis runs
    fastest, the other axes choose the clip.

    Attributes
    ----------
    shape : tuple of int
        (..., H, W).
    frame_axis : int or None
        Which axis the clips run along; None for a single image.
    """

    shape: tuple[int, ...]
    frame_axis: int | None

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or min(self.shape, default=0) < 1:
            raise PromptError(f"an image of shape {self.shape} was given; it needs a height and a width, none empty")
        if (self.frame_axis is None) != (self.ndim == 2):
            raise PromptError(f"the frame axis {self.frame_axis} does not suit an image of shape {self.shape}")
        if self.frame_axis is not None and not 0 <= self.frame_axis < self.ndim - 2:
            raise PromptError(
                f"frame axis {self.frame_axis} was given; the image of shape {self.shape} has the axes "
                f"0 to {self.ndim - 3} to go along"
            )

    @classmethod
    def choose(cls, shape: tuple[int, ...], frame_axis: int | None = None) -> StackGeometry:
        """The geometry of an image; without a choice the frames run along the last axis before H and W that is longer
        than 1.
        """
        leading = len(shape) - 2
        if leading <= 0:
            return cls(tuple(shape), None)
        if frame_axis is None:
            frame_axis = max((a for a in range(leading) if shape[a] > 1), default=leading - 1)
        elif -len(shape) <= frame_axis < 0:
            frame_axis += len(shape)
        return cls(tuple(shape), frame_axis)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def hw(self) -> tuple[int, int]:
        """(H, W)."""
        return self.shape[-2], self.shape[-1]

    @property
    def num_frames(self) -> int:
        """Length of a clip."""
        return 1 if self.frame_axis is None else self.shape[self.frame_axis]

    @property
    def fixed_axes(self) -> tuple[int, ...]:
        """The axes that choose a clip."""
        return tuple(a for a in range(self.ndim - 2) if a != self.frame_axis)

    @property
    def num_clips(self) -> int:
        """How many clips there are."""
        return math.prod(self.shape[a] for a in self.fixed_axes)

    @property
    def num_planes(self) -> int:
        """All planes of all clips."""
        return self.num_clips * self.num_frames

    def index(self, plane: int) -> tuple[int, ...]:
        """Index of a plane into the image: one number for each axis before H and W."""
        clip, frame = divmod(plane, self.num_frames)
        sizes = tuple(self.shape[a] for a in self.fixed_axes)
        at = dict(zip(self.fixed_axes, (int(i) for i in np.unravel_index(clip, sizes)) if sizes else (), strict=True))
        return tuple(frame if a == self.frame_axis else at[a] for a in range(self.ndim - 2))

    def plane(self, index: tuple[int, ...]) -> int:
        """The plane at an index (one number for each axis before H and W).

        Raises
        ------
        PromptError
            If it lies outside the image.
        """
        for axis, (i, size) in enumerate(zip(index, self.shape, strict=False)):
            if not 0 <= i < size:
                raise PromptError(f"position {i} on axis {axis} is outside the image, which has 0 to {size - 1} there")
        if self.frame_axis is None:
            return 0
        sizes = tuple(self.shape[a] for a in self.fixed_axes)
        clip = int(np.ravel_multi_index(tuple(index[a] for a in self.fixed_axes), sizes)) if sizes else 0
        return clip * self.num_frames + index[self.frame_axis]

    def check_plane(self, plane: int) -> int:
        """A plane that the stack has.

        Raises
        ------
        PromptError
            If it has no such plane.
        """
        return check_frame(plane, self.num_planes)

    def clip_range(self, plane: int) -> range:
        """The planes of the clip that a plane belongs to."""
        first = plane // self.num_frames * self.num_frames
        return range(first, first + self.num_frames)

    def frame(self, plane: int) -> int:
        """Position of a plane on the frame axis."""
        return plane % self.num_frames

    def locate(self, points: ArrayLike) -> tuple[int, NDArray[np.float32]]:
        """Points of one plane.

        Parameters
        ----------
        points : (N, ndim) array-like
            Data coordinates in axis order, such as z, y, x; (ndim,) for one point.

        Returns
        -------
        plane : int
            Where they lie; positions on the axes before H and W are rounded.
        points_xy : numpy.ndarray
            (N, 2) float32 x, y.

        Raises
        ------
        PromptError
            If a point has another number of coordinates, lies outside the image, or on another plane than the first.
        """
        rows = np.atleast_2d(as_numbers(points, "points"))
        if rows.ndim != 2 or rows.shape[1] != self.ndim or not len(rows):
            raise PromptError(
                f"points of shape {np.shape(points)} were given; an image of shape {self.shape} needs rows of "
                f"{self.ndim} coordinates, in the order of its axes"
            )
        if not np.isfinite(rows).all():
            raise PromptError("a point has a coordinate that is NaN or infinite; give finite numbers")
        whole = np.rint(rows[:, :-2]).astype(int)
        if (whole != whole[0]).any():
            first, second = sorted({tuple(int(i) for i in place) for place in whole})[:2]
            places = [place[0] if len(place) == 1 else place for place in (first, second)]
            raise PromptError(
                f"the points lie on several frames, such as {places[0]} and {places[1]}; give the points of one frame "
                "at a time"
            )
        plane = self.plane(tuple(int(i) for i in whole[0]))
        y, x = rows[:, -2], rows[:, -1]
        h, w = self.hw
        outside = (y < -0.5) | (y > h - 0.5) | (x < -0.5) | (x > w - 0.5)
        if outside.any():
            first = rows[np.flatnonzero(outside)[0]]
            raise PromptError(
                f"the point {tuple(round(float(v), 2) for v in first)} lies outside the image of shape {self.shape}"
            )
        return plane, np.stack((x, y), axis=1).astype(np.float32)

    def rows(self, plane: int, points_xy: ArrayLike) -> NDArray[np.float64]:
        """Data coordinates (N, ndim) of points (N, 2) x, y on a plane; the inverse of ``locate``."""
        xy = np.asarray(points_xy, float).reshape(-1, 2)
        at = np.tile(np.array(self.index(plane), float), (len(xy), 1)).reshape(len(xy), self.ndim - 2)
        return np.concatenate((at, xy[:, ::-1]), axis=1)

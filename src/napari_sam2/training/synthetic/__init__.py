"""Procedural microscopy with exact labels: named kinds of scenes as clips, and ready-made stacks for demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import TrainingError
from napari_sam2._messages import shown
from napari_sam2.training.synthetic.demos import make_demo_stack, make_dividing_cells_movie, make_em_stack
from napari_sam2.training.synthetic.scenes import SCENES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "KINDS",
    "SyntheticClip",
    "make_clip",
    "make_demo_stack",
    "make_dividing_cells_movie",
    "make_em_stack",
]

KINDS: tuple[str, ...] = tuple(SCENES)
"""Names of the kinds of scenes that ``make_clip`` knows."""


@dataclass(frozen=True, eq=False)
class SyntheticClip:
    """A procedural clip with exact labels.

    Attributes
    ----------
    frames : numpy.ndarray
        (T, S, S) greyscale or (T, S, S, 3) RGB, uint8.
    labels : numpy.ndarray
        (T, S, S) int32, 0 background; ids persist through the frames.
    kind : str
        One of ``KINDS``.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.int32]
    kind: str


def make_clip(
    rng: np.random.Generator, *, num_frames: int = 1, size: int = 256, kind: str | None = None
) -> SyntheticClip:
    """Draw a procedural microscopy clip.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness: the same state gives the same clip.
    num_frames : int, default 1
        T; time points or planes.
    size : int, default 256
        Side of the frames in pixels; shapes grow with it.
    kind : str, optional
        One of ``KINDS``; a random one if not given.

    Returns
    -------
    SyntheticClip
        Frames and labels.

    Raises
    ------
    TrainingError
        If the kind is unknown, the size is below 32 or there is no frame.
    """
    if kind is None:
        kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind not in SCENES:
        raise TrainingError(f"the kind {shown(kind)} was given; expected {', '.join(KINDS)}")
    if size < 32 or num_frames < 1:
        raise TrainingError(f"{num_frames} frames of {size} pixels were requested; give at least 1 frame of 32 pixels")
    images, labels = SCENES[kind](rng, size, num_frames)
    frames = np.rint(np.stack(images)).astype(np.uint8)
    return SyntheticClip(frames, np.stack(labels).astype(np.int32, copy=False), kind)

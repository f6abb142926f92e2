"""One frame of a file, for the commands that work on a single image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.frames import Frames
    from napari_sam2.labels.files import LabelWriter

__all__ = ["FrameOption", "Picture", "choose_frame", "open_writer"]

FrameOption = Annotated[
    int | None, typer.Option("--frame", metavar="N", help="Slice or time point, if the file is a stack.")
]


class Picture(NamedTuple):
    """One frame of a file."""

    frames: Frames
    frame: int

    @property
    def hw(self) -> tuple[int, int]:
        """(H, W)."""
        return self.frames.shape[1:]

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) as shown to the model."""
        return self.frames[self.frame]


def choose_frame(frames: Frames, frame: int | None, path: Path) -> Picture:
    """The requested frame.

    Raises
    ------
    FrameError
        If there is no such frame, or several and none was chosen.
    """
    last = len(frames) - 1
    if frame is None and last:
        raise FrameError(
            f"{path} has {len(frames)} frames; choose one with --frame 0 to {last}, or use 'napari-sam2 track'"
        )
    if frame is not None and not 0 <= frame <= last:
        raise FrameError(f"--frame {frame} was given; {path} has the frames 0 to {last}")
    return Picture(frames, frame or 0)


def open_writer(output: Path, picture: Picture, *, overwrite: bool) -> LabelWriter:
    """A writer for labels of the frame, with its pixel size."""
    from napari_sam2.labels.files import LabelWriter

    return LabelWriter.for_frames(output, picture.frames, frame=picture.frame, overwrite=overwrite)

"""Objects of a z-stack tracked along other axes than Z, for ``track --along``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2.cli._terminal import say
from napari_sam2.frames.spacing import convert

if TYPE_CHECKING:
    from napari_sam2.cli._option_groups import ModelOptions
    from napari_sam2.frames.sources import Frames
    from napari_sam2.inference.prompts.prompt_text import ObjectPrompt

__all__ = ["write_along_axes"]


def write_along_axes(
    output: Path, frames: Frames, prompts: Sequence[ObjectPrompt], axes: str, network: ModelOptions, *, overwrite: bool
) -> Path | None:
    """Track objects along axes of a volume, which is read as a whole, and write the labels.

    Parameters
    ----------
    output : Path
        Label file.
    frames : Frames
        Planes of the volume.
    prompts : sequence of ObjectPrompt
        Clicks on objects; nothing else is allowed.
    axes : str
        Some of Z, Y and X.
    network : ModelOptions
        The model.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    PromptError
        If the axes are unknown, the stack is a movie, or a prompt is something else than clicks on an object.
    """
    if frames.frame_axis != "Z":
        raise PromptError(f"--along {axes} was given for frames along {frames.frame_axis}; a z-stack is required")
    clicks: dict[int, list[list[float]]] = {}
    for given in prompts:
        prompt = given.prompt
        if prompt.box is not None or prompt.has_mask or not prompt.labels.all():
            raise PromptError(
                f"--along {axes} takes clicks on objects only: give --point, no --box, --mask or --negative"
            )
        clicks.setdefault(given.object_id, []).extend([given.frame, float(y), float(x)] for x, y in prompt.points)
    from napari_sam2.inference.stacks.volume_axes import segment_along_axes
    from napari_sam2.labels.files import LabelWriter

    with LabelWriter.for_frames(output, frames, overwrite=overwrite) as writer:
        volume = np.stack([frames[plane] for plane in range(len(frames))])
        found = segment_along_axes(
            volume,
            clicks,
            axes=tuple(axes.upper()),
            voxel_size=_voxel_size(frames),
            model=network.load(),
        )
        for plane, labels in enumerate(found.labels):
            writer.write(plane, labels)
        return writer.close(complete=True)


def _voxel_size(frames: Frames) -> tuple[float, float, float]:
    """Sides of a voxel in one unit; equal ones, with a line that says so, where the file does not give all of them."""
    known = frames.voxel_size or {}
    unit = known["X"][1] if "X" in known else ""
    sizes = [convert(known[axis], unit) if axis in known else None for axis in "ZYX"]
    z, y, x = sizes
    if z is None or y is None or x is None:
        unknown = ", ".join(axis for axis, size in zip("ZYX", sizes, strict=True) if size is None)
        say(f"the voxel size along {unknown} is not known; cubic voxels are assumed", err=True)
        return 1.0, 1.0, 1.0
    return z, y, x

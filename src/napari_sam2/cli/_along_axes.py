"""Objects of a z-stack tracked along other axes than Z, for ``track --along``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import PromptError

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
        raise PromptError(f"--along {axes} was given for frames along {frames.frame_axis}; it needs a z-stack")
    clicks: dict[int, list[list[float]]] = {}
    for given in prompts:
        prompt = given.prompt
        if prompt.box is not None or prompt.mask is not None or prompt.labels is None or not prompt.labels.all():
            raise PromptError(
                f"--along {axes} takes clicks on objects only: give --point, no --box, --mask or --negative"
            )
        clicks.setdefault(given.object_id, []).extend([given.frame, float(y), float(x)] for x, y in prompt.points)
    from napari_sam2.inference.stacks.volume_axes import segment_along_axes
    from napari_sam2.labels.files import LabelWriter

    with LabelWriter.for_frames(output, frames, overwrite=overwrite) as writer:
        volume = np.stack([frames[plane] for plane in range(len(frames))])
        known = frames.voxel_size or {}
        sizes = [known[axis][0] if axis in known else None for axis in "ZYX"]
        found = segment_along_axes(
            volume,
            clicks,
            axes=tuple(axes.upper()),
            voxel_size=(1.0, 1.0, 1.0) if None in sizes else sizes,  # type: ignore[arg-type]
            model=network.load(),
        )
        for plane, labels in enumerate(found.labels):
            writer.write(plane, labels)
        return writer.close(complete=True)

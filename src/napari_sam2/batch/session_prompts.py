"""The prompts of a session for many files: the same places in each, written as the list of a batch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import NapariSAM2Error, PlanesLeftOutWarning, PromptError
from napari_sam2._files import write_whole
from napari_sam2.batch.inputs import find_sources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import Prompt

__all__ = ["PROMPTS_NAME", "Prompts", "list_with_prompts", "usable_prompts"]

PROMPTS_NAME = "prompts.toml"
"""The list of files with the prompts of a session, in the folder of the results."""

_MASKS = "prompt_masks"
_IS_IMAGE = 2  # axes

Prompts = Mapping[tuple[int, int], "Prompt"]


def usable_prompts(prompts: Prompts, ndim: int) -> Prompts:
    """The prompts of a session that can be used on other files.

    Parameters
    ----------
    prompts : mapping of (int, int) to Prompt
        By object and frame.
    ndim : int
        Axes of the image of the session.

    Raises
    ------
    PromptError
        If there are none, or the session has more axes than one before height and width.
    """
    if ndim > _IS_IMAGE + 1:
        raise PromptError(
            f"the session has {ndim} axes; its prompts can be used on other images and stacks only if it is of an "
            "image or of one stack"
        )
    if not prompts:
        raise PromptError("the session has no prompts; click on objects first, or segment everything in each file")
    return dict(prompts)


def list_with_prompts(prompts: Prompts, inputs: Sequence[str | Path], pattern: str | None, folder: Path) -> Path:
    """Write a list of a batch that gives each file the same prompts, at the same places.

    Parameters
    ----------
    prompts : mapping of (int, int) to Prompt
        By object and frame, as of ``usable_prompts``.
    inputs : sequence of str or Path
        Folders, files and patterns.
    pattern : str or None
        As for ``find_sources``.
    folder : Path
        Of the results: the list, and label images of mask prompts, are written into it.

    Returns
    -------
    Path
        The list, for ``run_batch`` with a ``TrackJob``.
    """
    files = [source.path for source in find_sources(inputs, pattern)]
    folder.mkdir(parents=True, exist_ok=True)
    masks = _write_masks(prompts, folder / _MASKS)
    lines: list[str] = []
    for path in files:
        lines += ["[[files]]", f"file = {json.dumps(str(path))}"]
        if masks:
            lines.append(f"mask = {json.dumps(masks)}")
        for object_id in sorted({number for number, _ in prompts}):
            texts = _texts({frame: prompt for (number, frame), prompt in prompts.items() if number == object_id}, path)
            if texts:
                lines += ["[[files.objects]]", f"object = {object_id}"]
                lines += [f"{name} = {json.dumps(values)}" for name, values in texts.items()]
        lines.append("")
    place = folder / PROMPTS_NAME

    def write(part: Path) -> None:
        part.write_text("\n".join(lines), encoding="utf-8")

    write_whole(place, write)
    return place


def _texts(of_frames: Mapping[int, Prompt], path: Path) -> dict[str, list[str]]:
    """Points and boxes of one object as options of ``napari-sam2 track``: in the order of the axes of the file."""
    found: dict[str, list[str]] = {"point": [], "negative": [], "box": []}
    has_frames = _num_frames(path) > 1
    for frame, prompt in sorted(of_frames.items()):
        start = f"{frame}," if has_frames else ""
        for (x, y), kind in zip(prompt.points.tolist(), prompt.labels.tolist(), strict=True):
            found["point" if kind == 1 else "negative"].append(f"{start}{y:g},{x:g}")
        if prompt.box is not None:
            x0, y0, x1, y1 = (float(value) for value in prompt.box)
            found["box"].append(f"{start}{y0:g},{x0:g},{y1:g},{x1:g}")
    return {name: values for name, values in found.items() if values}


def _num_frames(path: Path) -> int:
    from napari_sam2.frames import open_frames

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PlanesLeftOutWarning)
            return len(open_frames(path))
    except NapariSAM2Error:
        return 1  # the batch reports why it cannot be read


def _write_masks(prompts: Prompts, folder: Path) -> list[str]:
    """Mask prompts as label images, one for each frame: ``FRAME:FILE``."""
    import tifffile

    frames: dict[int, NDArray[np.int32]] = {}
    for (object_id, frame), prompt in prompts.items():
        if prompt.mask is not None:
            image = frames.setdefault(frame, np.zeros(prompt.mask.shape, np.int32))
            image[np.asarray(prompt.mask, bool)] = object_id
    if frames:
        folder.mkdir(exist_ok=True)
    texts = []
    for frame, image in sorted(frames.items()):
        place = folder / f"frame_{frame}.tif"
        tifffile.imwrite(place, image, compression="zlib")
        texts.append(f"{frame}:{place}")
    return texts

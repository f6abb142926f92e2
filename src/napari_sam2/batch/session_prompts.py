"""The prompts of a session for many files: the same places in each, written as the list of a batch."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._errors import FrameError, NapariSAM2Error, PlanesLeftOutWarning, PromptError
from napari_sam2._files import make_folder, write_whole
from napari_sam2._messages import shown
from napari_sam2.batch.inputs import find_sources, with_positions
from napari_sam2.batch.journal import PROMPT_MASKS, reserved_folder, without_results

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import Prompt
    from napari_sam2.batch.pieces import Source

__all__ = ["PROMPTS_NAME", "Prompts", "list_with_prompts", "usable_prompts"]

PROMPTS_NAME = "prompts.toml"
"""The list of files with the prompts of a session, in the folder of the results."""

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
    """Write a list of a batch that gives each file, and each position in it, the same prompts, at the same places.

    Parameters
    ----------
    prompts : mapping of (int, int) to Prompt
        By object and frame, as of ``usable_prompts``.
    inputs : sequence of str or Path
        Folders, files and patterns; results of an earlier batch in ``folder`` are left out.
    pattern : str or None
        As for ``find_sources``.
    folder : Path
        Of the results: the list, and label images of mask prompts, are written into it.

    Returns
    -------
    Path
        The list, for ``run_batch`` with a ``TrackJob``.

    Raises
    ------
    FrameError
        If there are no files, or one has a name that is not UTF-8, which a list cannot hold.
    OutputError
        If the list cannot be written, or another batch is writing to the folder.
    """
    files = with_positions(without_results(find_sources(inputs, pattern), folder))
    make_folder(folder)
    with reserved_folder(folder):  # a batch that is running reads the masks of its own list
        masks = _write_masks(prompts, folder / PROMPT_MASKS)
        return write_whole(folder / PROMPTS_NAME, partial(_write_list, files, prompts, masks))


def _write_list(files: Sequence[Source], prompts: Prompts, masks: Sequence[str], part: Path) -> None:
    lines: list[str] = []
    for source in files:
        path = source.path
        lines += ["[[files]]", f"file = {_toml_text(str(path))}"]
        if source.position is not None:
            lines.append(f"position = {source.position}")
        if masks:
            lines.append(f"mask = [{', '.join(map(_toml_text, masks))}]")
        for object_id in sorted({number for number, _ in prompts}):
            texts = _texts({frame: prompt for (number, frame), prompt in prompts.items() if number == object_id}, path)
            if texts:
                lines += ["[[files.objects]]", f"object = {object_id}"]
                lines += [f"{name} = {json.dumps(values)}" for name, values in texts.items()]
        lines.append("")
    part.write_text("\n".join(lines), encoding="utf-8")


def _toml_text(text: str) -> str:
    """A string of TOML; raises FrameError if the text cannot be one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FrameError(
            f"the name {shown(text)} is not UTF-8 and cannot be written to a list of files; rename the file, or "
            "leave it out with --pattern"
        ) from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


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
    """Mask prompts as label images, one for each frame: ``FRAME:FILE``.

    A file that is equal already is kept as it is: results made from it need not be computed again.
    """
    import tifffile

    frames: dict[int, NDArray[np.int32]] = {}
    for (object_id, frame), prompt in prompts.items():
        if prompt.mask is not None:
            image = frames.setdefault(frame, np.zeros(prompt.mask.shape, np.int32))
            image[np.asarray(prompt.mask, bool)] = object_id
    if frames:
        make_folder(folder)
    texts = []
    for frame, image in sorted(frames.items()):
        place = folder / f"frame_{frame}.tif"
        content = io.BytesIO()
        tifffile.imwrite(content, image, compression="zlib")
        _write_if_other(place, content.getvalue())
        texts.append(f"{frame}:{place}")
    return texts


def _write_if_other(path: Path, content: bytes) -> None:
    try:
        is_same = path.read_bytes() == content
    except OSError:
        is_same = False
    if not is_same:
        write_whole(path, lambda part: part.write_bytes(content))

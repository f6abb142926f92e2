"""Many files from the viewer: what the tab *Many files* does, the prompts of a session for other files, and results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import NapariSAM2Error, PlanesLeftOutWarning, PromptError
from napari_sam2._files import expand, write_whole
from napari_sam2.batch.inputs import find_sources
from napari_sam2.batch.jobs import AutoJob, KeepOptions, TrackJob
from napari_sam2.batch.running import BatchProgress, run_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._types import Prompt
    from napari_sam2.batch.pieces import PieceRecord
    from napari_sam2.batch.report import BatchReport
    from napari_sam2.session.session import Session

__all__ = ["PROMPTS_NAME", "Suffix", "What", "picture_of", "prompts_of", "result_layers", "segment_files"]

What = Literal["automatic", "session"]
Suffix = Literal[".tif", ".ome.tif", ".ome.zarr"]
PROMPTS_NAME = "prompts.toml"
"""The list of files with the prompts of a session, in the folder of the results."""

_MASKS = "prompt_masks"
_IS_IMAGE = 2  # axes

Prompts = Mapping[tuple[int, int], "Prompt"]


def prompts_of(session: Session) -> Prompts:
    """The prompts of a session, by object and frame.

    Raises
    ------
    PromptError
        If there are none, or the session has more axes than one before height and width.
    """
    if session.geometry.ndim > _IS_IMAGE + 1:
        raise PromptError(
            f"the session has {session.geometry.ndim} axes; its prompts can be used on other images and stacks only if "
            "it is of an image or of one stack"
        )
    found = {key: entry.prompt for key, entry in session.store.prompts.items()}
    if not found:
        raise PromptError("the session has no prompts; click on objects first, or choose 'everything'")
    return found


@checked(PromptError)
def segment_files(
    inputs: Path,
    output: Path,
    *,
    what: What = "automatic",
    prompts: Prompts | None = None,
    pattern: str = "",
    suffix: Suffix = ".tif",
    model: str = "sam2_micro",
    min_area: float = 0.0,
    exclude_border: bool = False,
    workers: int | None = None,
    restart: bool = False,
    on_progress: Callable[[BatchProgress], object] | None = None,
    on_piece: Callable[[PieceRecord], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BatchReport:
    """Segment many files; the dock's tab *Many files* has the same parameters.

    Parameters
    ----------
    inputs : Path
        A folder of images, or a pattern such as ``data/*.tif``.
    output : Path
        Folder of the results.
    what : {"automatic", "session"}
        Everything in each file; or the objects of the session, with the same prompts at the same places of each file.
    prompts : mapping of (int, int) to Prompt, optional
        Object and frame -> prompt, as of ``prompts_of``; for ``what="session"``.
    pattern : str, default ""
        Which entries of the folder are taken, such as ``**/*_ch0.tif``. Empty: all images directly inside.
    suffix : {".tif", ".ome.tif", ".ome.zarr"}
        Format of the results.
    model : str, default "sam2_micro"
        Name of a model, or path of weights.
    min_area : float, default 0
        Exclude smaller objects, in pixels; not of prompted ones.
    exclude_border : bool, default False
        Exclude objects that touch the border of the image; not prompted ones.
    workers : int, optional
        Files that are processed at the same time. Automatic: one for each core or GPU, as far as memory allows.
    restart : bool, default False
        Process all files again, also those that an earlier run finished.
    on_progress, on_piece, should_stop : callable, optional
        As for ``run_batch``.

    Returns
    -------
    BatchReport
        State of all files.

    Raises
    ------
    FrameError, OutputError, CheckpointError, DeviceError
        As for ``run_batch``.
    PromptError
        If prompts are missing.
    """
    given: Path = inputs
    smallest = f"{min_area:.12g}" if min_area else None
    job: AutoJob | TrackJob = AutoJob(shapes=KeepOptions(smallest, None, exclude_border))
    if what == "session":
        if not prompts:
            raise PromptError("no prompts were given; start a session and click on objects first")
        given, job = _list_with(prompts, inputs, pattern or None, expand(output)), TrackJob()
        pattern = ""
    return run_batch(
        job,
        given,
        output,
        model=model,
        pattern=pattern or None,
        suffix=suffix,
        workers=workers,
        restart=restart,
        on_progress=on_progress,
        on_piece=on_piece,
        should_stop=should_stop,
    )


def _list_with(prompts: Prompts, inputs: Path, pattern: str | None, folder: Path) -> Path:
    """Write a list that gives each file the same prompts."""
    files = [source.path for source in find_sources([inputs], pattern)]
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


def picture_of(source: Path, result: Path) -> NDArray[np.uint8]:
    """Outlines of a result on the slice that shows most of its objects, as an (H, W, 3) picture.

    Raises
    ------
    FrameError
        If one of the files cannot be read.
    """
    from napari_sam2.frames import open_frames
    from napari_sam2.labels.contact_sheet import PreviewTile, draw_contact_sheet
    from napari_sam2.labels.reading import read_labels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanesLeftOutWarning)  # of volumes over time the first one is shown
        frames = open_frames(source)
    labels = read_labels(result, shape=frames.shape)
    planes = labels.reshape(-1, *labels.shape[-2:])[: len(frames)]
    best = int(np.argmax([np.count_nonzero(plane) for plane in planes]))
    count = len(np.unique(labels[labels > 0]))
    where = f", slice {best}" if len(frames) > 1 else ""
    tile = PreviewTile(frames[best], planes[best], f"{count} objects{where}")
    return draw_contact_sheet([tile], zoom_in=False)


def result_layers(source: Path, result: Path) -> list[tuple[Any, dict[str, Any], str]]:
    """An input and its result as layers: data, options, type.

    Raises
    ------
    FrameError
        If one of the files cannot be read.
    """
    from napari_sam2._viewer.readers import read_image
    from napari_sam2.labels.reading import read_labels

    images: Sequence[tuple[Any, dict[str, Any], str]] = read_image(source)
    options = {name: value for name, value in images[0][1].items() if name in ("scale", "units", "axis_labels")}
    labels = read_labels(result)
    ndim = len(np.shape(images[0][0])) - bool(images[0][1].get("rgb"))
    if labels.ndim != ndim:  # axes of length one were dropped
        labels = labels.reshape(np.shape(images[0][0])[:ndim])
    return [*images, (labels, {"name": f"{result.name.split('.')[0]} objects", **options}, "labels")]

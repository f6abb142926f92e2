"""Many files from the viewer: what the tab *Many files* does, and its results as pictures and layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import PlanesLeftOutWarning, PromptError
from napari_sam2._files import expand
from napari_sam2.batch.jobs import AutoJob, TrackJob
from napari_sam2.batch.options import KeepOptions, ReadOptions
from napari_sam2.batch.report import BatchProgress
from napari_sam2.batch.running import run_batch
from napari_sam2.batch.session_prompts import Prompts, list_with_prompts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.batch.pieces import Piece, PieceRecord, Source
    from napari_sam2.batch.report import BatchReport

__all__ = ["Suffix", "What", "picture_of", "result_layers", "segment_files"]

What = Literal["automatic", "session"]
Suffix = Literal[".tif", ".ome.tif", ".ome.zarr"]


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
    on_plan: Callable[[Sequence[Piece]], object] | None = None,
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
        Object and frame -> prompt, as of ``usable_prompts``; for ``what="session"``.
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
    on_progress, on_plan, on_piece, should_stop : callable, optional
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
        given, job = list_with_prompts(prompts, [inputs], pattern or None, expand(output)), TrackJob()
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
        on_plan=on_plan,
        on_piece=on_piece,
        should_stop=should_stop,
    )


def picture_of(source: Source, result: Path) -> NDArray[np.uint8]:
    """Outlines of a result on the slice that shows most of its objects, as an (H, W, 3) picture.

    Raises
    ------
    FrameError
        If one of the files cannot be read.
    """
    from napari_sam2.labels.contact_sheet import PreviewTile, draw_contact_sheet
    from napari_sam2.labels.reading import read_labels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlanesLeftOutWarning)  # of volumes over time the first one is shown
        frames = ReadOptions().open(source)
    labels = read_labels(result, shape=frames.shape, fixed=frames.fixed)
    planes = labels.reshape(-1, *labels.shape[-2:])[: len(frames)]
    best = int(np.argmax([np.count_nonzero(plane) for plane in planes]))
    count = len(np.unique(labels[labels > 0]))
    where = f", slice {best}" if len(frames) > 1 else ""
    tile = PreviewTile(frames[best], planes[best], f"{count} objects{where}")
    return draw_contact_sheet([tile], zoom_in=False)


def result_layers(source: Source, result: Path) -> list[tuple[Any, dict[str, Any], str]]:
    """An input and its result as layers: data, options, type.

    Raises
    ------
    FrameError
        If one of the files cannot be read.
    """
    from napari_sam2._viewer.readers import read_image
    from napari_sam2.labels.reading import read_labels

    images: Sequence[tuple[Any, dict[str, Any], str]] = read_image(source.path, position=source.position)
    options = {name: value for name, value in images[0][1].items() if name in ("scale", "units", "axis_labels")}
    labels = read_labels(result)
    ndim = len(np.shape(images[0][0])) - bool(images[0][1].get("rgb"))
    if labels.ndim != ndim:  # axes of length one were dropped
        labels = labels.reshape(np.shape(images[0][0])[:ndim])
    return [*images, (labels, {"name": f"{result.name.split('.')[0]} result", **options}, "labels")]

"""One large image in tiles that are segmented by workers, stitched over their seams at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, OutputError
from napari_sam2._files import write_whole
from napari_sam2._messages import AGAIN, Message, one_line
from napari_sam2.batch.jobs import AutoJob
from napari_sam2.batch.lists import input_path
from napari_sam2.batch.options import FindOptions, ReadOptions
from napari_sam2.batch.pieces import Outcome, Piece, Source
from napari_sam2.batch.report import BatchProgress, BatchReport
from napari_sam2.batch.running import LabelTarget, Stage, checked_execution, output_path, run_divided
from napari_sam2.frames.regions import FrameRegions, Tile, tile_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.network.sam2 import SAM2

__all__ = ["StitchJob", "TileJob", "TileSource", "segment_tiles"]


@dataclass(frozen=True)
class TileSource(Source):
    """A tile of an image, or all of them.

    Attributes
    ----------
    tile : int
        Its number, row by row.
    folder : Path
        Where the labels of tiles are.
    """

    tile: int = 0
    folder: Path = Path()

    def labels_path(self, tile: int) -> Path:
        """The labels of a tile."""
        return self.folder / f"{tile:07}.npz"


@dataclass(frozen=True)
class TileJob:
    """Every object of one tile of a large image, before it is compared with its neighbours.

    Attributes
    ----------
    finding, reading
        See these classes; the contrast is that of the whole image.
    tile, overlap : int
        As for `segment_tiled`.
    """

    finding: FindOptions = field(default_factory=FindOptions)
    reading: ReadOptions = field(default_factory=ReadOptions)
    tile: int = 768
    overlap: int = 128
    command: ClassVar[str] = "tiles"

    def check(self, sources: Sequence[Source]) -> None:
        """Do nothing: tiles are planned, not given by users."""

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Segment one tile."""
        from napari_sam2.inference.automatic.automatic_labels import automatic_labels

        assert isinstance(source, TileSource)
        regions = FrameRegions(self.reading.open(source))
        part = tile_grid(regions.hw, self.tile, self.overlap)[source.tile]
        found = automatic_labels(self.finding.generator(model), regions.read(part.rows, part.columns))
        assert found is not None, "nobody stops it"

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez_compressed(file, labels=found)

        write_whole(output, write)
        return Outcome(int(found.max(initial=0)), 1)


@dataclass(frozen=True)
class StitchJob:
    """All tiles in one label image, objects across seams with one number.

    Attributes
    ----------
    auto : AutoJob
        How the tiles were segmented, and which objects are kept.
    """

    auto: AutoJob
    command: ClassVar[str] = "stitch"

    def check(self, sources: Sequence[Source]) -> None:
        """Do nothing: it is planned, not given by users."""

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:  # noqa: ARG002 - as all jobs
        """Read one tile after the other, and write the labels."""
        from napari_sam2.inference.automatic.tiling import TileSeams
        from napari_sam2.labels.files import LabelWriter

        assert isinstance(source, TileSource)
        frames = self.auto.reading.open(source)
        hw = frames.shape[1:]
        tiles = tile_grid(hw, self.auto.tile, self.auto.overlap)
        limits = self.auto.shapes.limits(frames)
        with LabelWriter.for_frames(output, frames, overwrite=True) as writer:
            parts = writer.parts()
            whole = np.zeros(hw if parts is None else (0, 0), np.int32)
            seams = TileSeams(whole if parts is None else parts, hw)
            for number, part in enumerate(tiles):
                seams.add(part, _read(source.labels_path(number), part))
            seams.renumber(tiles, (limits.min_area, limits.max_area), exclude_border=limits.exclude_border)
            if parts is not None:
                return Outcome(int(parts.finish()), 1)
            writer.write(0, whole)
            return Outcome(int(whole.max(initial=0)), 1)


@checked(FrameError)
def segment_tiles(
    job: AutoJob,
    image: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = "sam2_micro",
    device: str = "auto",
    dtype: str = "auto",
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | os.PathLike[str] | None = None,
    retries: int = 1,
    restart: bool = False,
    on_progress: Callable[[BatchProgress], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> BatchReport:
    """Segment one large image in tiles, on the cores of this computer or a Dask cluster.

    The labels are those of `segment_tiled`. Tiles are kept in a folder beside the output, ``NAME.tiles``, until the
    labels are written; the same call again resumes there. A last piece stitches them, one tile after the other. In
    scripts the call must be inside ``if __name__ == "__main__":``, as worker processes import the script.

    Parameters
    ----------
    job : AutoJob
        How objects are found, and which are kept.
    image : path-like
        A single image. Of a TIFF file each worker reads whole planes, of OME-Zarr its tile.
    output : path-like
        Labels to write: a new file, or a zarr, which is written part by part.
    model, device, dtype, workers, scheduler, cluster, retries, restart, on_progress, should_stop
        As for `run_batch`.

    Returns
    -------
    BatchReport
        State of all tiles, and last of the labels. If a tile failed, or it was stopped, no labels are written.

    Raises
    ------
    FrameError
        If the image cannot be read, or an argument is not of its type.
    PromptError
        If an option is impossible.
    OutputError
        If the output exists or cannot be written, or parts of other settings are there.
    CheckpointError, DownloadError, DeviceError
        As for `run_batch`.
    """
    execution = checked_execution(
        model=model,
        device=device,
        dtype=dtype,
        workers=workers,
        scheduler=scheduler,
        cluster=cluster,
        retries=retries,
        restart=restart,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    job.check([])
    source = Source(input_path(image))
    frames = job.reading.open(source)
    if len(frames) != 1:
        raise FrameError(f"{image} has {len(frames)} frames; give a single image, or use 'batch auto' for stacks")
    target = output_path(output)
    auto = replace(job, reading=replace(job.reading, contrast=frames.contrast))
    job.shapes.limits(frames)  # reports mistakes
    folder = target.with_name(f"{target.name}.tiles")
    whole = TileSource(source.path, folder=folder)
    numbers = range(len(tile_grid(frames.shape[1:], job.tile, job.overlap)))
    tiles = [
        Piece(path.name, replace(whole, tile=number), path)
        for number, path in zip(numbers, map(whole.labels_path, numbers), strict=True)
    ]
    tile_job = TileJob(job.finding, auto.reading, job.tile, job.overlap)
    stages = [Stage(tile_job, lambda: tiles), Stage(StitchJob(auto), lambda: [Piece(target.name, whole, target)])]
    return run_divided(job, stages, folder, LabelTarget(target, source.path, frames), execution)


def _read(path: Path, part: Tile) -> NDArray[np.int32]:
    try:
        with np.load(path) as file:
            found: NDArray[np.int32] = file["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(
            Message(f"the tile {path} cannot be read ({one_line(error)}); remove it and ", AGAIN)
        ) from error
    if found.shape != part.hw:
        raise OutputError(Message(f"the tile {path} has the shape {found.shape}, not {part.hw}; remove it and ", AGAIN))
    return found

"""How batches scale: speed-up from one to two workers, overhead of a piece, and memory for very many pieces.

python benchmarks/scaling.py [--pieces 24] [--seconds 1.0] [--many 100000] [--side 2048] [--kinds files tiles stitch]

``files`` are pieces that use the processor for a given time; ``tiles`` are those of a large image, segmented by
``sam2_micro``, with one core for each worker; ``many`` are pieces of one millisecond, for the memory of this process,
which holds client and scheduler, and the time that each piece costs beside its own work, all of it and that of the
processor of this process.
Times run from the first piece that is begun to the last that is done, so that the start of processes does not count.
``stitch`` is the last piece of a large image alone, in this process: labels of its tiles, 144 discs each, are joined
into a zarr; the overhead is that for each tile.
``resume`` is the same batch of ``many`` again, in which nothing is missing: reading the journal and looking up all
inputs and results.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import psutil

from napari_sam2.batch.jobs import AutoJob
from napari_sam2.batch.journal import JOURNAL_NAME
from napari_sam2.batch.pieces import DONE, RUNNING, Outcome, Piece, PieceRecord, Source
from napari_sam2.batch.running import Stage, checked_execution, run_stages
from napari_sam2.batch.tiles import StitchJob, TileSource, segment_tiles
from napari_sam2.frames.regions import tile_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.batch.report import BatchReport
    from napari_sam2.network.sam2 import SAM2

MEGABYTE = 1e6


@dataclass(frozen=True)
class BusyJob:
    """Uses the processor for some seconds, and writes an empty file."""

    seconds: float
    command: ClassVar[str] = "busy"

    def check(self, sources: Sequence[Source]) -> None:
        """Allow everything."""

    def run(self, source: Source, output: Path, model: SAM2) -> Outcome:
        """Compute for the given processor time."""
        del source, model
        end = time.process_time() + self.seconds
        while time.process_time() < end:
            pass
        output.touch()
        return Outcome(1, 1)


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes
    ----------
    kind : str
        Of pieces.
    workers, pieces : int
        How many.
    seconds : float
        From the first piece begun to the last one done.
    overhead_ms : float
        Of a worker, per piece, beside the piece's own work.
    memory_mb : float
        By which this process, with client and scheduler, grew at most.
    processor_ms : float
        Processor time of this process per piece.
    journal_mb : float
        Size of the journal.
    """

    kind: str
    workers: int
    pieces: int
    seconds: float
    overhead_ms: float
    memory_mb: float
    processor_ms: float = 0.0
    journal_mb: float = 0.0


class Watch:
    """Takes the time of pieces, and the memory of this process."""

    def __init__(self) -> None:
        self.begin = self.end = 0.0
        self.used = 0.0  # s, processor time from the first piece that was begun
        self._used_before = 0.0
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self.most = 0

    def on_piece(self, record: PieceRecord) -> None:
        """A piece is begun or done."""
        if record.state == RUNNING and not self.begin:
            self.begin, self._used_before = time.perf_counter(), time.process_time()
        if record.state == DONE:
            self.end, self.used = time.perf_counter(), time.process_time() - self._used_before

    def on_progress(self, _progress: object) -> None:
        """Look at the memory; and, where pieces are not reported, at the time."""
        self.most = max(self.most, self._process.memory_info().rss - self._before)

    def measured(self, kind: str, workers: int, report: BatchReport) -> Measured:
        """What a run took."""
        if not report.is_complete:
            raise RuntimeError(f"{kind} on {workers} workers: {report.failed or 'not all pieces were run'}")
        own = sum(record.outcome.seconds for record in report.records if record.outcome is not None)
        count, seconds = len(report.pieces), self.end - self.begin
        overhead = 1000 * (seconds * workers - own) / count
        return Measured(kind, workers, count, seconds, overhead, self.most / MEGABYTE)


def run_busy(kind: str, job: BusyJob, count: int, workers: int, folder: Path) -> Measured:
    """Pieces that use the processor; those that an earlier call has done are not done again."""
    source = folder / "source.tif"
    if not source.exists():
        source.touch()
    out = folder / f"busy_{job.seconds:g}_{workers}"
    out.mkdir(exist_ok=True)
    watch, begin, used = Watch(), time.perf_counter(), time.process_time()
    pieces = [Piece(f"{at:07}", Source(source), out / f"{at:07}") for at in range(count)]
    execution = checked_execution(
        model="sam2_micro", device="cpu", dtype="float32", workers=workers, scheduler=None, cluster=None, retries=0,
        restart=False, on_progress=watch.on_progress, on_piece=watch.on_piece, should_stop=None,
    )  # fmt: skip
    report = run_stages(job, [Stage(job, lambda: pieces)], out, execution)
    journal = (out / JOURNAL_NAME).stat().st_size / MEGABYTE
    if report.num_before == count:
        seconds = time.perf_counter() - begin
        used = 1000 * (time.process_time() - used) / count
        return Measured(kind, 0, count, seconds, 1000 * seconds / count, watch.most / MEGABYTE, used, journal)
    used = 1000 * watch.used / count
    return replace(watch.measured(kind, workers, report), processor_ms=used, journal_mb=journal)


@contextmanager
def one_core_each(workers: int) -> Iterator[None]:
    """Leave as many cores as workers to this process and those that it starts: one worker would take all for itself."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:workers])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def picture_of_discs(side: int, folder: Path) -> Path:
    """A zarr of noise with a disc in each square of 64 pixels."""
    import zarr

    source = folder / "discs.zarr"
    if not source.exists():
        rng = np.random.default_rng(0)
        picture = rng.normal(30, 5, (side, side)) + 100.0 * is_disc(side)
        stored = zarr.create_array(str(source), shape=(side, side), chunks=(512, 512), dtype="uint8")
        stored[:] = picture.clip(0, 255).astype(np.uint8)
    return source


def is_disc(side: int) -> NDArray[np.bool_]:
    """(side, side): where the discs are."""
    y, x = np.mgrid[:64, :64]
    disc = (y - 32) ** 2 + (x - 32) ** 2 < 300
    tiled: NDArray[np.bool_] = np.tile(disc, (side // 64 + 1,) * 2)[:side, :side]
    return tiled


def run_stitch(side: int, folder: Path) -> Measured:
    """Tiles whose labels are there, joined in this process."""
    import torch
    from skimage.measure import label

    whole = TileSource(picture_of_discs(side, folder), folder=folder / "labelled")
    whole.folder.mkdir()
    discs = is_disc(side)
    tiles = tile_grid((side, side), AutoJob().tile, AutoJob().overlap)
    for number, tile in enumerate(tiles):
        np.savez_compressed(whole.labels_path(number), labels=label(discs[tile.rows, tile.columns]).astype(np.int32))
    watch, begin, used = Watch(), time.perf_counter(), time.process_time()
    found = StitchJob(AutoJob()).run(whole, folder / "stitched.zarr", cast("SAM2", torch.nn.Identity()))
    if found.objects != (side // 64) ** 2:
        raise RuntimeError(f"{found.objects} objects were found; expected {(side // 64) ** 2}")
    watch.on_progress(None)
    seconds, used = time.perf_counter() - begin, time.process_time() - used
    each = 1000 / len(tiles)
    return Measured("stitch", 0, len(tiles), seconds, each * seconds, watch.most / MEGABYTE, each * used)


def run_tiles(side: int, workers: int, folder: Path) -> tuple[Measured, Path]:
    """Tiles of a picture of discs, stitched."""
    source = picture_of_discs(side, folder)
    target, watch = folder / f"tiles_{workers}.zarr", Watch()

    def on_progress(progress: object) -> None:
        watch.on_progress(progress)
        now, done = time.perf_counter(), getattr(progress, "done", 0)
        if getattr(progress, "workers", 0) and not watch.begin:
            watch.begin = now
        if done:
            watch.end = now

    with one_core_each(workers):
        report = segment_tiles(AutoJob(), source, target, workers=workers, device="cpu", on_progress=on_progress)
    return watch.measured("tiles", workers, report), target


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["files", "tiles", "stitch", "many", "resume"]
    parser.add_argument("--pieces", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=1.0, help="processor time of each")
    parser.add_argument("--many", type=int, default=100_000, help="pieces of one millisecond")
    parser.add_argument("--side", type=int, default=2048, help="of the image that is cut into tiles, in pixels")
    parser.add_argument("--kinds", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        runs: dict[str, Callable[[int], Measured]] = {
            "files": lambda workers: run_busy("files", BusyJob(args.seconds), args.pieces, workers, folder),
            "tiles": lambda workers: run_tiles(args.side, workers, folder)[0],
            "stitch": lambda _: run_stitch(args.side, folder),
            "many": lambda workers: run_busy("many", BusyJob(0.001), args.many, workers, folder),
            "resume": lambda workers: run_busy("resume", BusyJob(0.001), args.many, workers, folder),
        }
        print(
            f"{'':8} workers  pieces   time (s)  overhead (ms)  memory (MB)  processor (ms)  journal (MB)  speed-up",
            flush=True,
        )
        for kind in args.kinds:
            first = 0.0
            for workers in (1, 2) if kind in ("files", "tiles") else (2,):
                each = runs[kind](workers)
                found.append(each)
                first = first or each.seconds
                speed_up = f"{first / each.seconds:8.2f}" if kind in ("files", "tiles") and workers > 1 else ""
                print(
                    f"{kind:8} {each.workers:7} {each.pieces:7} {each.seconds:10.1f} {each.overhead_ms:14.1f} "
                    f"{each.memory_mb:12.1f} {each.processor_ms:15.2f} {each.journal_mb:13.2f}  {speed_up}",
                    flush=True,
                )
    if args.json is not None:
        args.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    main()

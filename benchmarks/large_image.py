"""A picture of 10,000 x 10,000 pixels is segmented within 2 GB of memory, from a lazy array into zarr.

    python benchmarks/large_image.py --json large.json          # hours on a CPU, minutes on a GPU
    python benchmarks/large_image.py --side 2000 --spacing 64   # the same path in minutes

Exit code 0 if resident memory stays below 2 GB, 1 otherwise. Run it in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import zarr
from measuring import MIB, describe_machine, peak_memory
from micro_network import add_model_arguments, open_model
from numpy.typing import NDArray

from napari_sam2 import SAM2AutomaticMaskGenerator, segment_tiled
from napari_sam2.network.sam2 import SAM2

_LIMIT_MIB = 2e9 / MIB
_PITCH = 40  # pixels from nucleus to nucleus


class DrawnNuclei:
    """(side, side) uint16 picture of nuclei that are drawn where it is read: the picture itself takes no memory."""

    def __init__(self, side: int) -> None:
        self.shape = (side, side)
        self.dtype = np.dtype(np.uint16)

    def __getitem__(self, part: tuple[slice, slice]) -> NDArray[np.uint16]:
        rows, columns = (np.arange(n)[index] for n, index in zip(self.shape, part, strict=True))
        y, x = rows[:, None], columns[None, :]
        cell = (y // _PITCH) * 7919 + (x // _PITCH) * 104729  # decides place, size and brightness of its nucleus
        centre_y = y // _PITCH * _PITCH + _PITCH / 2 + cell % 7 - 3
        centre_x = x // _PITCH * _PITCH + _PITCH / 2 + cell % 11 - 5
        radius = 9 + cell % 5
        is_inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        noise = (y * 1103515245 + x * 12345 + y * x * 69069) % 251
        return (400 + noise + is_inside * (900 + 40 * (cell % 13))).astype(np.uint16)


@dataclass(frozen=True)
class LargeImageRun:
    """What a run found.

    Attributes
    ----------
    side, tile, overlap : int
        Pixels.
    num_objects : int
        Labels written.
    before_mib, peak_mib : float
        Resident memory with the model loaded, and at most.
    seconds : float
        For the whole picture.
    """

    side: int
    tile: int
    overlap: int
    num_objects: int
    before_mib: float
    peak_mib: float
    seconds: float

    @property
    def passes(self) -> bool:
        """Whether all memory, the model included, stayed within 2 GB."""
        return self.peak_mib <= _LIMIT_MIB


def segment(model: SAM2, *, side: int, tile: int, overlap: int, spacing: float | None) -> LargeImageRun:
    """Segment a drawn picture into a temporary zarr array."""
    finder = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle", point_spacing_px=spacing)
    with tempfile.TemporaryDirectory() as folder:
        out = zarr.create_array(f"{folder}/labels.zarr", shape=(side, side), chunks=(512, 512), dtype="int32")
        begin = time.perf_counter()
        with peak_memory() as memory:
            segment_tiled(DrawnNuclei(side), finder=finder, tile=tile, overlap=overlap, out=out, on_progress=_say)
        seconds = time.perf_counter() - begin
        num_objects = max(int(np.asarray(out[row : row + 512]).max()) for row in range(0, side, 512))
    return LargeImageRun(side, tile, overlap, num_objects, memory.before, memory.peak, seconds)


def _say(stage: str, done: int, total: int) -> None:
    if done == total:
        print(stage, file=sys.stderr, flush=True)


def format_run(run: LargeImageRun) -> str:
    """The result as text."""
    return (
        f"{run.side} x {run.side} in tiles of {run.tile}, overlap {run.overlap}: {run.num_objects} objects in "
        f"{run.seconds:.0f} s\n{'PASS' if run.passes else 'FAIL'}: {run.peak_mib:.0f} MiB at most "
        f"({run.before_mib:.0f} with the model loaded), allowed {_LIMIT_MIB:.0f} MiB (2 GB)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--side", type=int, default=10_000, help="of the picture, in pixels")
    parser.add_argument("--tile", type=int, default=768)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--spacing", type=float, help="distance of the points tried; default: what suits the model")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the result")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    run = segment(
        open_model(options),
        side=options.side,
        tile=options.tile,
        overlap=options.overlap,
        spacing=options.spacing,
    )
    print(format_run(run))
    if options.json is not None:
        machine = describe_machine(torch.device("cpu")).as_dict()
        content = {"kind": "large_image", "machine": machine, "run": asdict(run)}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if run.passes else 1


if __name__ == "__main__":
    sys.exit(main())

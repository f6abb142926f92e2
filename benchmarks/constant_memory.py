"""Tracking a long stack must not use more memory than tracking a short one.

    python benchmarks/constant_memory.py --frames 2000 --objects 3

Exit code 0 if memory at the end is at most 100 MB above that after 20 frames, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from clips import MovingDiscs, mask_iou
from measuring import MIB, describe_machine, resident_mib
from micro_network import add_model_arguments, open_model

from napari_sam2 import SAM2VideoSegmenter
from napari_sam2.network.sam2 import SAM2

_REFERENCE_FRAME = 20
_LIMIT_MIB = 100e6 / MIB


@dataclass(frozen=True)
class MemoryRun:
    """What a run found.

    Attributes
    ----------
    num_frames, num_objects, side : int
        Of the stack.
    after_20_mib, peak_mib, end_mib : float
        Resident memory after 20 frames, at most from then on (sampled after each frame), and at the end.
    own_mib : float
        What the segmenter says it holds: memories and cached embeddings.
    frames_per_s : float
        All objects together.
    mean_iou : float
        Of all objects and frames with the truth.
    """

    num_frames: int
    num_objects: int
    side: int
    after_20_mib: float
    peak_mib: float
    end_mib: float
    own_mib: float
    frames_per_s: float
    mean_iou: float

    @property
    def growth_mib(self) -> float:
        """Highest memory above that after 20 frames."""
        return self.peak_mib - self.after_20_mib

    @property
    def passes(self) -> bool:
        """Whether the growth is within 100 MB."""
        return self.growth_mib <= _LIMIT_MIB


def track(model: SAM2, frames: MovingDiscs) -> MemoryRun:
    """Track every disc through all frames, keeping nothing of the results."""
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(frames)
    for disc in range(frames.num_discs):
        segmenter.add_clicks(0, [frames.centre_xy(0, disc)], object_id=disc + 1)
    after_20 = peak = 0.0
    ious: list[float] = []
    begin = time.perf_counter()
    for count, result in enumerate(segmenter.propagate_masklets(0), start=1):
        ious += [mask_iou(mask, frames.mask(result.frame, disc)) for disc, mask in enumerate(result.masks)]
        now = resident_mib()
        if count <= min(_REFERENCE_FRAME, len(frames)):
            after_20 = now
        peak = max(peak, now) if count >= _REFERENCE_FRAME else now
    seconds = time.perf_counter() - begin
    return MemoryRun(
        num_frames=len(frames),
        num_objects=frames.num_discs,
        side=frames.side,
        after_20_mib=after_20,
        peak_mib=peak,
        end_mib=resident_mib(),
        own_mib=segmenter.nbytes / MIB,
        frames_per_s=len(frames) / seconds,
        mean_iou=sum(ious) / len(ious),
    )


def format_run(run: MemoryRun) -> str:
    """The result as text."""
    verdict = "PASS" if run.passes else "FAIL"
    return (
        f"{run.num_frames} frames of {run.side} x {run.side}, {run.num_objects} objects: "
        f"{run.after_20_mib:.0f} MiB after {_REFERENCE_FRAME} frames, {run.peak_mib:.0f} MiB at most, "
        f"{run.end_mib:.0f} MiB at the end (the segmenter's own: {run.own_mib:.1f} MiB)\n"
        f"{verdict}: growth {run.growth_mib:.1f} MiB, allowed {_LIMIT_MIB:.1f} MiB (100 MB); "
        f"{run.frames_per_s:.1f} frames/s; mean IoU with the truth {run.mean_iou:.3f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--objects", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="side of the frames in pixels")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the result")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    run = track(open_model(options), MovingDiscs(options.frames, options.size, options.objects))
    print(format_run(run))
    if options.json is not None:
        results = {"kind": "constant_memory", "machine": describe_machine(torch.device("cpu")).as_dict()}
        results |= {"run": asdict(run) | {"growth_mib": run.growth_mib, "passes": run.passes}}
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if run.passes else 1


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of tracking many small objects on small and large frames.

python benchmarks/frame_size.py
python benchmarks/frame_size.py --objects 300 --sides 4096 --json frame_size.json

Discs that move are given by their masks on the first frame and tracked with the bundled model. The processor time per
object and frame and the largest memory should not depend on the size of the frame, but for reading it. Each size is run
in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam2 import Prompt, SAM2VideoSegmenter

_RADIUS, _PITCH = 10, 40


@dataclass(frozen=True)
class Cost:
    """Of one run.

    Attributes
    ----------
    side : int
        Of the frames, in pixels.
    ms : float
        Processor time per object and tracked frame.
    peak_mib, before_mib : float
        Largest memory of the process, and that before tracking, with the movie and the prompts.
    """

    side: int
    objects: int
    ms: float
    peak_mib: float
    before_mib: float


def draw_discs(side: int, count: int, num_frames: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Movie (T, H, W) of discs on noise, and labels (H, W) of its first frame."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
    disc = y**2 + x**2 <= (_RADIUS - 1) ** 2
    per_row = (side - _PITCH) // _PITCH
    movie, labels = np.zeros((num_frames, side, side), np.uint8), np.zeros((side, side), np.int32)
    for t in range(num_frames):
        movie[t] = rng.integers(26, 35, (side, side))
        for index in range(count):
            top, left = index // per_row * _PITCH + t, index % per_row * _PITCH + t
            window = (slice(top, top + len(disc)), slice(left, left + len(disc)))
            movie[t][window][disc] += 140
            if t == 0:
                labels[window][disc] = index + 1
    return movie, labels


def measure(side: int, count: int, num_frames: int) -> Cost:
    """Track in this process."""
    torch.set_num_threads(1)
    movie, labels = draw_discs(side, count, num_frames)
    segmenter = SAM2VideoSegmenter()
    segmenter.set_video(movie)
    for object_id in range(1, count + 1):
        segmenter.add_prompt(0, Prompt(mask=labels == object_id), object_id=object_id)
    before = _peak_mib()
    start = time.process_time()
    segmenter.track_objects()
    seconds = time.process_time() - start
    return Cost(side, count, 1000 * seconds / (count * (num_frames - 1)), _peak_mib(), before)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 2048, 4096])
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(asdict(measure(options.sides[0], options.objects, options.frames))))
        return
    found = []
    for side in options.sides:
        command = [sys.executable, __file__, "--here", "--sides", str(side), "--objects", str(options.objects)]
        done = subprocess.run([*command, "--frames", str(options.frames)], check=True, capture_output=True, text=True)
        cost = Cost(**json.loads(done.stdout.splitlines()[-1]))
        found.append(asdict(cost))
        ratio = cost.ms / found[0]["ms"]
        print(
            f"{side:6d} px  {cost.objects} objects  {cost.ms:6.1f} ms per object and frame ({ratio:.2f})  "
            f"{cost.peak_mib:6.0f} MiB ({cost.before_mib:.0f} before)",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""``napari-sam2 batch tiles`` and ``batch stack`` as a process, with `BrightParts` in place of a network's masks.

python batch_client.py {tiles,stack} IMAGE OUTPUT WEIGHTS SECONDS_OF_A_PIECE [OPTION ...]
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from batch_tools import FindBrightParts
from napari_sam2.batch.jobs import AutoJob
from napari_sam2.batch.options import ReadOptions
from napari_sam2.cli import main


def job_of(seconds: float) -> AutoJob:
    """Everything bright, in tiles of 64 pixels or from every third frame."""
    reading = ReadOptions(contrast="dtype")
    return AutoJob(FindBrightParts(seconds=seconds), reading=reading, every=3, split_stacked=False, tile=64, overlap=16)


def run(arguments: list[str]) -> None:
    """The command with these arguments."""
    kind, image, output, weights, seconds, *options = arguments
    with patch("napari_sam2.cli.batch.auto_job", lambda *_: job_of(float(seconds))):
        main(["batch", kind, image, "-o", output, "--model", weights, "--device", "cpu", *options])


if __name__ == "__main__":
    run(sys.argv[1:])

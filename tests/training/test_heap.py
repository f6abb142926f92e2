"""The heap is kept for the time of the training only."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from napari_sam2.training.heap import heap_kept

# In a process of its own: what lies on the heap of this one depends on the tests before. The least of several rounds: a
# busy system may take pages back in between, but where the heap is not kept, each round asks for all of them.
COUNT_FAULTS = """
import resource
import torch
from napari_sam2.training.heap import heap_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(64 * 2**20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def least():
    faults()
    return min(faults() for _ in range(6))

outside = least()
with heap_kept() as is_kept:
    assert is_kept
    print(outside, least())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_large_arrays_reuse_their_pages():
    run = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    outside, inside = (int(word) for word in run.stdout.split())
    # glibc by itself keeps no array above 32 MiB; how many pages there are depends on their size
    assert inside < outside / 4


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    with heap_kept() as is_kept:
        assert not is_kept

"""The heap is kept for the time of the training only."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from napari_sam2.training.heap import heap_kept

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")


def page_faults_of_large_arrays() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(16 * 2**20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_large_arrays_reuse_their_pages_inside_and_give_them_back_outside():
    with heap_kept() as is_kept:
        assert is_kept
        page_faults_of_large_arrays()
        kept = page_faults_of_large_arrays()
    assert kept < 4096  # pages of one array; ten arrays were written


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    with heap_kept() as is_kept:
        assert not is_kept

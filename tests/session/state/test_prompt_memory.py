"""Hundreds of mask prompts on a large plane take little memory, wherever a session keeps them."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
from tests.effort import traced_memory

from napari_sam2._types import Prompt
from napari_sam2.network.sam2 import SAM2
from napari_sam2.session.session import Session

SIDE = 2048
NUM_PROMPTS = 300
LARGEST = 32 * 2**20  # bytes; a single mask as an array has 4 MiB


def disc(i: int) -> np.ndarray:
    """A disc of 100 pixels across, elsewhere for each number."""
    mask = np.zeros((SIDE, SIDE), bool)
    y, x = np.mgrid[-50:50, -50:50]
    top, left = 100 * (i // 20), 100 * (i % 20)
    mask[top : top + 100, left : left + 100] = y**2 + x**2 < 2500
    return mask


def test_mask_prompts_on_large_planes_are_kept_packed(model: SAM2):
    with Session(np.zeros((SIDE, SIDE), np.uint8), model=model) as session:
        with traced_memory():
            prompts = {(i + 1, 0): Prompt(mask=disc(i)) for i in range(NUM_PROMPTS)}
            session.set_prompts(prompts)
            session.paint(0, {1: disc(NUM_PROMPTS)})
            session.undo()
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0]
        assert kept < LARGEST
        assert len(session.operations) == NUM_PROMPTS
        assert np.array_equal(session.prompt(7, 0).mask, disc(6))
        assert np.array_equal(session.operations[6].arguments["prompt"].mask, disc(6))
        assert np.array_equal(session.labels == 7, disc(6))

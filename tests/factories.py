"""Small things that tests are made of: random networks, moving discs, prompts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from napari_sam2._types import Prompt
from napari_sam2.network.config import CONFIGS, SAM2Config
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.growth import deepen
from napari_sam2.training.initialise import initialise

_ENCODER = replace(CONFIGS["sam2_micro"].trunk, stages=(1, 3, 12, 1), global_blocks=(5, 7, 9, 11, 13, 15))


def make_config(**over) -> SAM2Config:
    """The micro configuration, with the whole image in view unless told otherwise."""
    return replace(CONFIGS["sam2_micro"], **({"native_window": None, "image_size": 64} | over))


def make_model(seed: int = 0, **over) -> SAM2:
    """A small network with random weights whose objects count as present.

    It has the blocks of the bundled model, so that it can be saved as one, but computes what the first twelve of the
    third stage make: its masks stay the same when the bundled model is made deeper.
    """
    model = SAM2(make_config(**over))
    if model.config.trunk == CONFIGS["sam2_micro"].trunk:
        shallow = SAM2(replace(model.config, trunk=_ENCODER))
        initialise(shallow, seed)
        initialise(model, seed)
        model.load_state_dict(deepen(model, shallow.state_dict()))
    else:
        initialise(model, seed)
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    return model.eval()


def make_movie(num_frames: int = 8, hw: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """(T, H, W) uint8: two discs that move over noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: hw[0], : hw[1]]
    frames = rng.integers(0, 40, (num_frames, *hw))
    for t in range(num_frames):
        frames[t][(x - 15 - 2 * t) ** 2 + (y - 20) ** 2 < 64] += 150
        frames[t][(x - 50 + t) ** 2 + (y - 30) ** 2 < 36] += 100
    return frames.astype(np.uint8)


def make_prompt(**over) -> Prompt:
    """One click, unless something else is given."""
    return Prompt(**({"points": [[15, 20]]} | over))

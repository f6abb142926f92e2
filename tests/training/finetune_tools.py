"""Images with labelled discs, and small random weights to fine-tune."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from safetensors.torch import save_file

from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.initialise import initialise


def make_discs(num_images: int = 4, side: int = 96, *, step: int = 24, seed: int = 0) -> tuple[list, list]:
    """Images with discs on a grid, each with its own label: 16 on an image of 96 pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images, labels = [], []
    for _ in range(num_images):
        mask = np.zeros((side, side), np.int32)
        centres = np.arange(step // 2, side, step)
        for number, (cy, cx) in enumerate((cy, cx) for cy in centres for cx in centres):
            radius = rng.uniform(5, 9)
            mask[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = number + 1
        images.append((40 + 120 * (mask > 0) + rng.normal(0, 10, mask.shape)).clip(0, 255).astype(np.uint8))
        labels.append(mask)
    return images, labels


def save_discs(folder: Path, num_images: int = 4) -> tuple[Path, Path]:
    """The same as two folders of TIFF files."""
    images, labels = make_discs(num_images)
    for name, arrays in (("images", images), ("labels", labels)):
        (folder / name).mkdir()
        for number, array in enumerate(arrays):
            tifffile.imwrite(folder / name / f"{number}.tif", array)
    return folder / "images", folder / "labels"


def save_start(path: Path, model: str = "sam2_micro", image_size: int = 64) -> Path:
    """Random weights, present objects, for small inputs."""
    network = SAM2(CONFIGS[model])
    initialise(network, 0)
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(5.0)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, path, metadata={"model": model, "image_size": str(image_size)})
    return path

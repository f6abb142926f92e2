"""Run commands in this process, on a small random model and stacks made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import save_file

from napari_sam2.cli import main
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 0


def save_random_model(path: Path, image_size: int = 64) -> Path:
    """Weights of the bundled model's architecture that know nothing, for inputs small enough to be quick."""
    torch.manual_seed(0)
    model = SAM2(CONFIGS["sam2_micro"])
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata={"model": "sam2_micro", "image_size": str(image_size)})
    return path


def make_disks(num_frames: int = 4, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Two disks that drift apart: uint16 stack and labels."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((num_frames, side, side), np.int32)
    for t in range(num_frames):
        labels[t][(y - 14) ** 2 + (x - 14 - t) ** 2 < 60] = 1
        labels[t][(y - 34) ** 2 + (x - 34 + t) ** 2 < 40] = 2
    rng = np.random.default_rng(0)
    return (300 + 900 * (labels > 0) + rng.normal(0, 20, labels.shape)).astype(np.uint16), labels


def save_stack(path: Path, stack: np.ndarray, axes: str = "ZYX") -> Path:
    sizes = {f"PhysicalSize{axis}": size for axis, size in (("X", 0.25), ("Y", 0.25), ("Z", 0.5))}
    units = {f"{name}Unit": "µm" for name in sizes}
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": axes, **sizes, **units}, photometric="minisblack")
    return path

"""Names and files become networks: which weights, which device, which precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_sam2._errors import CheckpointError, DeviceError
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BUNDLED_MODEL", "ensure_model", "load_model"]

BUNDLED_MODEL = "sam2_micro"
_BUNDLED_FILE = Path(__file__).parent / "bundled" / "sam2_micro.safetensors"


def load_model(
    name_or_path: str | Path = BUNDLED_MODEL,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    image_size: int | None = None,
) -> SAM2:
    """Load a network by name or file, in evaluation mode."""
    path = _BUNDLED_FILE if str(name_or_path) == BUNDLED_MODEL else Path(name_or_path)
    if not path.is_file():
        if path == _BUNDLED_FILE:
            raise CheckpointError(f"the bundled file {path.name} is missing from this installation; reinstall it")
        raise CheckpointError(f"there is no checkpoint {str(name_or_path)!r}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, Tensor] = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("model", state)  # type: ignore[assignment]
    for config in CONFIGS.values():
        with torch.device("meta"):
            model = SAM2(config)
        if {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in state.items()}:
            break
    else:
        raise CheckpointError(f"{path} fits no known configuration")
    model = SAM2(replace(config))
    model.load_state_dict(state)
    if image_size is not None:
        if image_size < 32 or image_size % 32:
            raise CheckpointError(f"image_size={image_size} was given; allowed are multiples of 32")
        model.image_size = image_size
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    if not isinstance(dtype, torch.dtype):
        raise DeviceError(f"dtype={dtype!r} was given")
    return model.to(device=device, dtype=dtype).eval()


def ensure_model(model: SAM2 | str | Path | None) -> SAM2:
    """A network from what a caller gives: itself, a name or file, or None for the bundled model."""
    if isinstance(model, SAM2):
        return model.eval()
    return load_model(BUNDLED_MODEL if model is None else model)

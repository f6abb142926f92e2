"""Where tests that can use a GPU compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

__all__ = ["CUDA", "used_exactly"]

CUDA = pytest.param("cuda", marks=pytest.mark.gpu, id="cuda")


@contextmanager
def used_exactly(name: str) -> Iterator[torch.device]:
    """A device with full float32: cuDNN rounds what it convolves to TF32 by default. Skips where it is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield torch.device(name)
    finally:
        torch.backends.cudnn.allow_tf32 = before

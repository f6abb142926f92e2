"""Settings of a session and the state of its model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_sam2.session.state.store import OverlapRule

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2

__all__ = ["ModelState", "SessionSettings", "threads_beside_a_window"]


@dataclass(frozen=True)
class SessionSettings:
    """How a session works.

    Attributes
    ----------
    overlap : {"keep", "overwrite", "highest score"}
        What a new mask does where it meets another object.
    lost_after : int or None
        An object that is absent on so many frames in a row is not sought further in this direction; None: always.
    keep_apart : bool
        Where objects overlap, only the one with the highest logit enters its memory with the pixel.
    device, dtype : str
        As for ``load_model``.
    image_size : int or None
        As for ``load_model``.
    threads : int or None
        CPU threads of torch. None: as torch chooses in scripts, one less than the cores in a viewer with a window:
        threads of torch wait for each other without pause, so that one that has to share its core holds up all.
    cache_mb : int
        Budget of image embeddings, in MiB.
    """

    overlap: OverlapRule = "keep"
    lost_after: int | None = 5
    keep_apart: bool = False
    device: str = "auto"
    dtype: str = "auto"
    image_size: int | None = None
    threads: int | None = None
    cache_mb: int = 256


def threads_beside_a_window() -> int:
    """CPU threads of torch that leave a core to the window, where there is more than one."""
    return max(1, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True)
class ModelState:
    """Where the model is: waiting to be asked for, loading, ready, or failed with a message."""

    stage: Literal["waiting", "loading", "ready", "failed"]
    name: str = ""
    device: str = ""
    dtype: str = ""
    image_size: int = 0
    message: str = ""

    @classmethod
    def of(cls, model: SAM2) -> ModelState:
        """The state of a loaded network."""
        precision = str(model.precision).removeprefix("torch.")
        return cls("ready", model.config.name, str(model.device), precision, model.image_size)

"""Settings of a session and the state of its model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from napari_sam2._checks import LARGEST_THREADS, check_choice, check_count
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._types import Zoom

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2

__all__ = ["ModelState", "OverlapRule", "SessionSettings", "threads_beside_a_window"]

OverlapRule = Literal["keep", "overwrite", "highest score"]


@dataclass(frozen=True)
class SessionSettings:
    """How a session works.

    Attributes
    ----------
    overlap : {"keep", "overwrite", "highest score"}
        What a new mask does where it overlaps another object.
    lost_after : int or None
        Stop tracking an object in a direction after this many consecutive frames without it; None: never.
    keep_apart : bool
        Write each pixel only to the memory of the object with the highest logit there.
    device, dtype : str
        As for ``load_model``.
    image_size : int or None
        As for ``load_model``.
    zoom : {"off", "auto"}
        As for ``load_model``.
    threads : int or None
        CPU threads of torch. None: as torch chooses in scripts, one less than the cores in a viewer with a window, as
        torch's threads wait for each other busily: one that shares its core slows down all of them.
    cache_mb : int
        Memory for image embeddings, in MiB.

    Raises
    ------
    PromptError
        If a value is of the wrong type or out of range.
    """

    overlap: OverlapRule = "keep"
    lost_after: int | None = 5
    keep_apart: bool = False
    device: str = "auto"
    dtype: str = "auto"
    image_size: int | None = None
    zoom: Zoom = "off"
    threads: int | None = None
    cache_mb: int = 256

    def __post_init__(self) -> None:
        check_choice("overlap", self.overlap, get_args(OverlapRule))
        check_choice("zoom", self.zoom, get_args(Zoom))
        for name, high in (("lost_after", None), ("image_size", None), ("threads", LARGEST_THREADS)):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1, high)
        check_count("cache_mb", self.cache_mb, 0)
        for name, kind in (("keep_apart", bool), ("device", str), ("dtype", str)):
            if not isinstance(getattr(self, name), kind):
                raise PromptError(f"{name}={shown(getattr(self, name))} was given; expected a {kind.__name__}")


def threads_beside_a_window() -> int:
    """Number of CPU threads for torch that leaves a core to the window, where there is more than one."""
    return max(1, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True)
class ModelState:
    """State of the model: waiting for its first use, loading, ready, or failed with a message.

    Attributes
    ----------
    stage : {"waiting", "loading", "ready", "failed"}
        Where it is.
    name, device, dtype, image_size
        Of the network, once it is ready.
    message : str
        Why it failed, or what keeps a server from answering.
    server : str
        Address of the server that computes; empty: this process.
    """

    stage: Literal["waiting", "loading", "ready", "failed"]
    name: str = ""
    device: str = ""
    dtype: str = ""
    image_size: int = 0
    message: str = ""
    server: str = ""

    @property
    def place(self) -> str:
        """Device, and the server if there is one."""
        return f"{self.device} of {self.server}" if self.server else self.device

    @classmethod
    def of(cls, model: SAM2) -> ModelState:
        """The state of a loaded network."""
        precision = str(model.precision).removeprefix("torch.")
        return cls("ready", model.config.name, str(model.device), precision, model.image_size)

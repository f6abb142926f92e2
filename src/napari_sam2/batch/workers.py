"""What runs in a worker process: the model, loaded once, and one piece at a time."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Worker, WorkerPlugin, get_worker

from napari_sam2._dask import pause_never
from napari_sam2._errors import CheckpointError, DeviceError, DiskFullError
from napari_sam2._files import write_error
from napari_sam2.batch.jobs import Job
from napari_sam2.batch.pieces import Outcome, Piece

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2

__all__ = ["ModelPlugin", "WorkerModel", "run_piece", "weights_hash"]


@dataclass(frozen=True)
class WorkerModel:
    """Which model the workers load.

    Attributes
    ----------
    name : str
        Name or absolute path.
    weights_hash : str
        SHA-256 that the weights must have on every worker.
    device, dtype : str
        As for `load_model`.
    """

    name: str
    weights_hash: str
    device: str = "auto"
    dtype: str = "auto"


class ModelPlugin(WorkerPlugin):  # type: ignore[misc]  # types of distributed are not read
    """Gives each worker process the model when its first piece needs it; pieces take turns, with all of its threads.

    Parameters
    ----------
    name : str
        Unique for each run.
    model : WorkerModel
        What is loaded.
    is_local : bool
        The workers are processes of this run, which Ctrl-C in the terminal reaches too: they leave it to the run.
    """

    idempotent = True

    def __init__(self, name: str, model: WorkerModel, *, is_local: bool) -> None:
        self.name = name
        self._is_local = is_local
        self._wanted = model
        self._version = version("napari-sam2")
        self._loaded: SAM2 | None = None
        self._turn: threading.Lock | None = None
        self._pause_at: float | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": None, "_turn": None}

    async def setup(self, worker: Worker) -> None:
        """Check the version; a coroutine, as these run on the main thread, where signals can be set."""
        installed = version("napari-sam2")
        if self._version != installed:
            raise DeviceError(
                f"the worker {worker.address} has napari-sam2 {installed}, this computer has {self._version}; "
                "install the same version on both"
            )
        if self._is_local and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._turn = threading.Lock()
        self._pause_at = pause_never(worker)

    async def teardown(self, worker: Worker) -> None:
        """Leave the worker to others as it was."""
        if self._pause_at is not None:
            worker.memory_manager.memory_pause_fraction = self._pause_at

    def run(self, job: Job, piece: Piece, worker: Worker) -> Outcome:
        """Do a piece; raises NapariSAM2Error and what else can go wrong."""
        import torch

        assert self._turn is not None, "set up before"
        with self._turn, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            begin = time.perf_counter()
            torch.set_num_threads(worker.state.nthreads)
            if self._loaded is None:
                self._loaded = self._load(worker)
            try:
                piece.output.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(piece.output.parent, error, kept="") from error
            outcome = job.run(piece.source, piece.output, self._loaded)
        messages = tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))
        return replace(outcome, seconds=time.perf_counter() - begin, worker=worker.address, warnings=messages)

    def _load(self, worker: Worker) -> SAM2:
        from napari_sam2.weights.loading import find_weights, load_model

        path = find_weights(self._wanted.name)
        found = weights_hash(path)
        if found != self._wanted.weights_hash:
            raise CheckpointError(
                f"{path} on the worker {worker.address} holds different weights ({found[:12]}) from those on this "
                "computer "
                f"({self._wanted.weights_hash[:12]}); copy the same file there"
            )
        return load_model(self._wanted.name, device=self._device(worker), dtype=self._wanted.dtype)

    def _device(self, worker: Worker) -> str:
        """On a computer with several GPUs, local workers share them out by their number."""
        import torch

        number = str(worker.name)
        if self._wanted.device in ("auto", "cuda") and torch.cuda.is_available() and number.isdecimal():
            return f"cuda:{int(number) % torch.cuda.device_count()}"
        return self._wanted.device


def weights_hash(path: Path) -> str:
    """SHA-256 of a weights file, or of the weights in a folder as saved by transformers; raises CheckpointError."""
    from napari_sam2.weights.loading import model_hash

    return model_hash(path / "model.safetensors" if path.is_dir() else path)


def run_piece(piece: Piece, *, job: Job, plugin: str) -> Outcome | DiskFullError:
    """Do a piece in the worker process that calls this; a full disk is returned, as Dask would try again at once."""
    worker = get_worker()
    found = worker.plugins[plugin]
    assert isinstance(found, ModelPlugin)
    try:
        return found.run(job, piece, worker)
    except DiskFullError as error:
        return error

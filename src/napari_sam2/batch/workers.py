"""What runs in a worker process: the model, loaded once, and one piece at a time."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Worker, WorkerPlugin, get_worker

from napari_sam2._dask import pause_never
from napari_sam2._errors import (
    CheckpointError,
    DeviceError,
    DiskFullError,
    FrameError,
    NapariSAM2Error,
    OutputError,
)
from napari_sam2._files import write_error
from napari_sam2._messages import in_all_words
from napari_sam2.batch.jobs import Job
from napari_sam2.batch.pieces import Outcome, Piece

if TYPE_CHECKING:
    from napari_sam2.network.sam2 import SAM2

__all__ = ["ModelPlugin", "UnfitWorker", "WorkerModel", "run_piece", "weights_hash"]


_APPEARS_WITHIN_S = 5.0


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


@dataclass(frozen=True)
class UnfitWorker:
    """What a worker returns in place of a result if it can do no piece, or none of this folder, as others can.

    Attributes
    ----------
    address : str
        Of the worker.
    error : NapariSAM2Error
        Why.
    absent : Path or None
        The file of the piece that is not there; the piece is to blame if it is nowhere.
    """

    address: str
    error: NapariSAM2Error
    absent: Path | None = None


class ModelPlugin(WorkerPlugin):  # type: ignore[misc]  # types of distributed are not read
    """Gives each worker process the model when its first piece needs it; pieces take turns, with all of its threads.

    Parameters
    ----------
    name : str
        Unique for each run.
    model : WorkerModel
        What is loaded.
    marker : Path
        A file of this run in the folder of the results, which each worker must see.
    is_local : bool
        The workers are processes of this run, which Ctrl-C in the terminal reaches too: they leave it to the run.
    """

    idempotent = True

    def __init__(self, name: str, model: WorkerModel, marker: Path, *, is_local: bool) -> None:
        self.name = name
        self._marker = marker
        self._is_local = is_local
        self._wanted = model
        self._version = version("napari-sam2")
        self._loaded: SAM2 | None = None
        self._turn = threading.Lock()
        self._unfit: NapariSAM2Error | None = None
        self._pause_at: float | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": None, "_turn": None}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        self.__dict__.update(state)
        self._turn = threading.Lock()

    async def setup(self, worker: Worker) -> None:
        """Check the version and the folder; a coroutine, as these run on the main thread, where signals can be set.

        What it raises reaches the run if the worker was there when it began. Of one that joins later, the first piece
        is told.
        """
        try:
            await self._check(worker)
        except NapariSAM2Error as error:
            self._unfit = error
            raise
        if self._is_local:
            # it logs every odd tag on the terminal of the run; what keeps a file from being read is reported
            logging.getLogger("tifffile").setLevel(logging.CRITICAL)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._pause_at = pause_never(worker)

    async def _check(self, worker: Worker) -> None:
        """Raise DeviceError or OutputError if no piece can be done here."""
        installed = version("napari-sam2")
        if self._version != installed:
            raise DeviceError(
                f"the worker {worker.address} has napari-sam2 {installed}, this computer has {self._version}; "
                "install the same version on both"
            )
        if not await self._sees_folder():
            raise OutputError(
                f"the worker {worker.address} does not see the folder of this run, {self._marker.parent}; write the "
                "results to a file system that all computers see under the same path"
            )

    async def _sees_folder(self) -> bool:
        """Whether the file of this run is there; where drives are shared it may take a moment to appear."""
        end = time.monotonic() + _APPEARS_WITHIN_S
        while not self._marker.exists():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(_APPEARS_WITHIN_S / 10)
        return True

    async def teardown(self, worker: Worker) -> None:
        """Leave the worker to others as it was."""
        if self._pause_at is not None:
            worker.memory_manager.memory_pause_fraction = self._pause_at

    def run(self, job: Job, piece: Piece, worker: Worker) -> Outcome | UnfitWorker:
        """Do a piece; raises NapariSAM2Error and what else can go wrong."""
        if self._unfit is not None:
            return UnfitWorker(worker.address, self._unfit)
        try:
            return self._do(job, piece, worker)
        except _ModelError as error:
            return UnfitWorker(worker.address, error.reason)
        except FrameError as error:
            absent = None if self._is_local else piece.source.absent
            if absent is None:
                raise
            return UnfitWorker(worker.address, error, absent)

    def _do(self, job: Job, piece: Piece, worker: Worker) -> Outcome:
        import torch

        with self._turn, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            begin = time.perf_counter()
            torch.set_num_threads(worker.state.nthreads)
            if self._loaded is None:
                try:
                    self._loaded = self._load(worker)
                except NapariSAM2Error as error:
                    raise _ModelError(error) from error
            if not self._marker.parent.is_dir():  # which would be made again below
                raise OutputError(f"the folder {self._marker.parent} was removed or renamed while the batch ran")
            try:
                piece.output.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(piece.output.parent, error, kept="") from error
            outcome = job.run(piece.source, piece.output, self._loaded)
        messages = tuple(dict.fromkeys(_line_of(warning.message) for warning in caught))
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


def _line_of(message: Warning | str) -> str:
    """A warning on one line, for files that users of Python and of the shell read."""
    text = in_all_words(message) if isinstance(message, Warning) else message
    return " ".join(text.split())


class _ModelError(Exception):
    """The model cannot be loaded on this worker."""

    def __init__(self, reason: NapariSAM2Error) -> None:
        super().__init__(str(reason))
        self.reason = reason


def weights_hash(path: Path) -> str:
    """SHA-256 of a weights file, or of the weights in a folder as saved by transformers; raises CheckpointError."""
    from napari_sam2.weights.loading import model_hash

    return model_hash(path / "model.safetensors" if path.is_dir() else path)


def run_piece(piece: Piece, *, job: Job, plugin: str) -> Outcome | DiskFullError | UnfitWorker:
    """Do a piece in the worker process that calls this.

    A full disk, and what keeps this worker from any piece, is returned, as Dask would try again at once, and here.
    """
    worker = get_worker()
    found = worker.plugins[plugin]
    assert isinstance(found, ModelPlugin)
    try:
        return found.run(job, piece, worker)
    except DiskFullError as error:
        return error

"""What runs in a worker process of a server: the model, loaded once, and the engine of one session as an actor."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Worker, WorkerPlugin, get_worker

from napari_sam2._dask import pause_never
from napari_sam2._errors import CheckpointError, DeviceError, NapariSAM2Error
from napari_sam2.session.engines.frame_transfer import FrameOffer, PackedFrame, ReceivedFrames, reopen
from napari_sam2.session.engines.messages import (
    EngineInfo,
    EngineSetup,
    PredictedMask,
    Prediction,
    Preparation,
    Reply,
    Tracking,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from napari_sam2._types import FrameSource
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.engines.local_engine import LocalEngine
    from napari_sam2.session.state.settings import SessionSettings

__all__ = ["PLUGIN", "EngineActor", "ServerPlugin", "ServerSettings"]

logger = logging.getLogger(__name__)

PLUGIN = "napari-sam2-server"


@dataclass(frozen=True)
class ServerSettings:
    """How the workers of a server compute.

    Attributes
    ----------
    model : str
        Loaded when the server starts; sessions may ask for another one.
    device : str
        As for `load_model`; "auto" shares out several GPUs by the number of the worker.
    frame_cache_bytes : int
        Compressed frames that are kept for each session.
    idle_s : float
        A session that asks for nothing for so long gives its worker to others.
    reply_within_s : float
        How long a reply waits for news.
    frames_ahead : int
        Tracked frames that are computed before the session requests them.
    frame_timeout_s : float
        How long to wait for a frame that the session has to send.
    """

    model: str = "sam2_micro"
    device: str = "auto"
    frame_cache_bytes: int = 2**30
    idle_s: float = 600.0
    reply_within_s: float = 5.0
    frames_ahead: int = 16
    frame_timeout_s: float = 60.0


class ServerPlugin(WorkerPlugin):  # type: ignore[misc]  # types of distributed are not read
    """Owns the network of a worker process, and the one thread on which torch runs.

    Parameters
    ----------
    settings : ServerSettings
        How to compute.
    is_local : bool
        The worker is a process of the server, which Ctrl-C in the terminal reaches too: it leaves it to the server.
    """

    idempotent = True
    name = PLUGIN

    def __init__(self, settings: ServerSettings, *, is_local: bool) -> None:
        self.settings = settings
        self._is_local = is_local
        self._executor: ThreadPoolExecutor | None = None
        self._pause_at: float | None = None
        self._loaded: tuple[tuple[str, str, int | None, str], SAM2] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_executor": None, "_loaded": None}

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The thread on which torch runs."""
        assert self._executor is not None, "set up before"
        return self._executor

    async def setup(self, worker: Worker) -> None:
        """Start the thread and load the model on it; a coroutine, as these run where signals can be set."""
        if self._is_local and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._pause_at = pause_never(worker)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sam2-worker")
        self._executor.submit(self._load_first, worker)

    async def teardown(self, worker: Worker) -> None:
        """End the thread when the worker ends, or serves sessions no more."""
        if self._pause_at is not None:
            worker.memory_manager.memory_pause_fraction = self._pause_at
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _load_first(self, worker: Worker) -> None:
        from napari_sam2.session.state.settings import SessionSettings

        with contextlib.suppress(NapariSAM2Error):  # the first session is told
            self.network(self.settings.model, None, SessionSettings(), worker)

    def network(self, model: str | Path, weights_hash: str | None, settings: SessionSettings, worker: Worker) -> SAM2:
        """The network of this name, loaded unless it is the one at hand. Called on the thread of torch."""
        import torch

        from napari_sam2.weights.loading import find_weights, load_model, model_hash

        torch.set_num_threads(max(1, worker.state.nthreads))
        wanted = (os.fspath(model), settings.dtype, settings.image_size, settings.zoom)
        if self._loaded is None or self._loaded[0] != wanted:
            if weights_hash is not None:
                path = find_weights(os.fspath(model))
                found = model_hash(path / "model.safetensors" if path.is_dir() else path)
                if found != weights_hash:
                    raise CheckpointError(
                        f"{path} on the server holds different weights ({found[:12]}) from those on this computer "
                        f"({weights_hash[:12]}); copy the same file there"
                    )
            self._loaded = None
            network = load_model(
                model,
                device=self._device(worker),
                dtype=settings.dtype,
                image_size=settings.image_size,
                zoom=settings.zoom,
            )
            self._loaded = wanted, network
        return self._loaded[1]

    def _device(self, worker: Worker) -> str:
        import torch

        number = str(worker.name).rpartition("-")[2]
        if self.settings.device in ("auto", "cuda") and torch.cuda.is_available() and number.isdecimal():
            return f"cuda:{int(number) % torch.cuda.device_count()}"
        return self.settings.device


class _Work:
    """One request: its results until they are fetched, on the worker's event loop."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.results: deque[bytes] = deque()
        self.error: Exception | None = None
        self.is_done = False
        self.is_stopped = False
        self.has_news = asyncio.Event()
        self.was_fetched = asyncio.Event()

    def stop(self) -> None:
        """End it at the next opportunity."""
        self.is_stopped = True
        self.was_fetched.set()

    def end(self, error: Exception | None) -> None:
        """Note the end."""
        self.error = error
        self.is_done = True
        self.has_news.set()


class EngineActor:
    """The engine of one session. Its methods run on the worker's event loop, torch on the thread of the plugin.

    Requests are computed one after the other; between two tracked frames others get their turn.

    Parameters
    ----------
    setup : EngineSetup
        Model and settings.

    Raises
    ------
    DeviceError
        If the worker was not started by ``napari-sam2 serve``.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._worker: Worker = get_worker()
        plugin = self._worker.plugins.get(PLUGIN)
        if not isinstance(plugin, ServerPlugin):
            raise DeviceError(
                f"the worker {self._worker.address} does not serve napari-sam2; run 'napari-sam2 serve --join ADDRESS' "
                "with the address of its scheduler"
            )
        self._plugin = plugin
        self._setup = setup
        self._tokens = itertools.count()
        self._works: dict[int, _Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking_ahead: asyncio.Task[None] | None = None
        self._received: ReceivedFrames | None = None
        self._engine: LocalEngine | None = None

    async def open(self, packed: bytes) -> EngineInfo:
        """Make the engine for a stack, or give it other frames; raises CheckpointError and others of the model."""
        offer = unpack(packed)
        assert isinstance(offer, FrameOffer)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._plugin.executor, self._open, offer, loop)

    def _open(self, offer: FrameOffer, loop: asyncio.AbstractEventLoop) -> EngineInfo:
        from napari_sam2.session.engines.local_engine import LocalEngine

        settings = self._plugin.settings
        opened = reopen(offer)
        frames: FrameSource | None = opened.frames
        has_file = frames is not None
        if self._received is not None:
            self._received.close()
            self._received = None
        if frames is None:
            frames = self._received = ReceivedFrames(
                offer,
                cache_bytes=settings.frame_cache_bytes,
                on_wanted=lambda: loop.call_soon_threadsafe(self._tell_all),
                timeout_s=settings.frame_timeout_s,
            )
        if self._engine is None:
            wanted = replace(self._setup.settings, threads=None)
            network = self._plugin.network(self._setup.model, self._setup.weights_hash, wanted, self._worker)
            self._engine = LocalEngine(network, frames, wanted)
        else:
            self._engine.replace_frames(frames)
        return EngineInfo(self._engine.model_state, has_file, settings.idle_s, opened.note)

    def _tell_all(self) -> None:
        for work in self._works.values():
            work.has_news.set()

    async def ask(self, packed: bytes, frames: Mapping[int, PackedFrame]) -> Reply:
        """Start work on a `Prediction` or `Tracking`; ``frames`` are those that it needs and that are new.

        Returns
        -------
        Reply
            What is known within a few seconds; ``fetch`` gives more.
        """
        self._keep(frames)
        work = _Work(next(self._tokens))
        self._works[work.token] = work
        self._start(self._compute(unpack(packed), work))
        return await self._news(work)

    async def prepare(self, packed: bytes, frames: Mapping[int, PackedFrame]) -> None:
        """Start a `Preparation` in place of an earlier one, and do not wait for it."""
        self._keep(frames)
        request = unpack(packed)
        assert isinstance(request, Preparation)
        if self._looking_ahead is not None:
            self._looking_ahead.cancel()
        self._looking_ahead = self._start(self._prepare(request))

    async def fetch(self, token: int, frames: Mapping[int, PackedFrame]) -> Reply:
        """What has come since the last reply; ``frames`` are those that were wanted."""
        self._keep(frames)
        work = self._works.get(token)
        if work is None:
            return Reply(token, is_lost=True)
        return await self._news(work)

    async def give(self, frames: Mapping[int, PackedFrame]) -> None:
        """Keep frames that will be needed."""
        self._keep(frames)

    async def stop(self, token: int) -> None:
        """End work that is no longer wanted."""
        work = self._works.pop(token, None)
        if work is not None:
            work.stop()

    async def close(self) -> None:
        """End all work and free the engine."""
        for work in self._works.values():
            work.stop()
        for task in self._tasks:
            task.cancel()
        if self._received is not None:
            self._received.close()
        self._works.clear()
        self._engine = None

    def _keep(self, frames: Mapping[int, PackedFrame]) -> None:
        if self._received is not None and frames:
            self._received.add(frames)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _news(self, work: _Work) -> Reply:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(work.has_news.wait(), self._plugin.settings.reply_within_s)
        work.has_news.clear()
        results = tuple(work.results)
        work.results.clear()
        work.was_fetched.set()
        if work.is_done:
            self._works.pop(work.token, None)
        wanted = None if self._received is None else self._received.wanted
        return Reply(work.token, results, wanted, work.is_done, work.error)

    async def _run(self, call: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._plugin.executor, call, *arguments)

    async def _compute(self, request: object, work: _Work) -> None:
        try:
            if isinstance(request, Tracking):
                await self._track(request, work)
            else:
                assert isinstance(request, Prediction)
                assert self._engine is not None
                result = await self._run(self._engine.predict, request.request)
                work.results.append(pack(PredictedMask.of(result)))
        except Exception as error:  # noqa: BLE001 passed on to the session
            work.end(_portable(error))
        else:
            work.end(None)

    async def _track(self, tracking: Tracking, work: _Work) -> None:
        assert self._engine is not None
        planes = self._engine.track(tracking.request, lambda: work.is_stopped)
        try:
            for number in itertools.count():
                packed = await self._run(_next_packed, planes, number >= tracking.skip)
                if packed is None:
                    return
                if packed:
                    work.results.append(packed)
                    work.has_news.set()
                while len(work.results) >= self._plugin.settings.frames_ahead and not work.is_stopped:
                    work.was_fetched.clear()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(work.was_fetched.wait(), self._plugin.settings.reply_within_s)
                    if self not in self._worker.state.actors.values():  # the session is gone
                        work.stop()
                if work.is_stopped:
                    return
        finally:
            await self._run(planes.close)

    async def _prepare(self, request: Preparation) -> None:
        try:
            assert self._engine is not None
            if request.point_xy is None:
                await self._run(self._engine.prepare, request.frame)
            else:
                steps = await self._run(self._engine.look_ahead, request.frame, request.point_xy)
                while await self._run(_advance, steps):
                    pass
        except NapariSAM2Error as error:  # a click there reports it
            logger.debug("looking ahead on frame %d failed: %s", request.frame, error)


def _next_packed(planes: Iterator[object], is_wanted: bool) -> bytes | None:
    """The next tracked plane, packed; empty if it is not wanted, None at the end."""
    plane = next(planes, None)
    if plane is None:
        return None
    return pack(plane) if is_wanted else b""


def _advance(steps: Iterator[None]) -> bool:
    return next(steps, _END) is not _END


_END = object()


def _portable(error: Exception) -> Exception:
    """The error itself if it is one of this package, which the other side has too."""
    if isinstance(error, NapariSAM2Error):
        return error
    return DeviceError(f"the server could not compute this ({type(error).__name__}: {error})")

"""Pieces on their way through Dask's workers: sent, counted, entered in the journal, sent again after a loss."""

from __future__ import annotations

import math
import os
import queue
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2._errors import DeviceError, DiskFullError, FrameError, NapariSAM2Error
from napari_sam2._files import is_there
from napari_sam2._messages import AGAIN, Message, in_all_words, message_of, one_line
from napari_sam2.batch.clusters import Place, connected, dashboard_address
from napari_sam2.batch.jobs import Job
from napari_sam2.batch.journal import Journal
from napari_sam2.batch.pieces import DONE, FAILED, NOT_RUN, RUNNING, InputStates, Outcome, Piece, PieceRecord
from napari_sam2.batch.report import BatchProgress, BatchReport

if TYPE_CHECKING:
    from distributed import Client, Future

    from napari_sam2.batch.workers import UnfitWorker, WorkerModel

__all__ = ["Dispatch", "DispatchSettings", "Execution", "Workers"]


@dataclass(frozen=True)
class Execution:
    """Model, workers and callbacks of a run; the attributes are parameters of `run_batch`."""

    place: Place
    model: str | os.PathLike[str]
    device: str
    dtype: str
    retries: int
    restart: bool
    on_progress: Callable[[BatchProgress], object] | None
    on_piece: Callable[[PieceRecord], object] | None
    should_stop: Callable[[], bool] | None


@dataclass(frozen=True)
class DispatchSettings:
    """How pieces are sent to workers.

    Attributes
    ----------
    poll_s : float
        How often progress is reported while nothing ends.
    count_workers_s : float
        How often workers are counted.
    ahead_s : float
        Short pieces are sent before a worker is free: so much work for each.
    max_ahead : int
        Most pieces that wait at each worker.
    num_timed : int
        How many of the last pieces tell how long the next ones take.
    patience_s, retry_s : float
        How long, and how often, a scheduler that was lost is tried again.
    """

    poll_s: float = 0.2
    count_workers_s: float = 1.0
    ahead_s: float = 0.5
    max_ahead: int = 32
    num_timed: int = 9
    patience_s: float = 600.0
    retry_s: float = 1.0


class _SchedulerLostError(Exception):
    """The scheduler, or the connection to it, is gone."""


class Workers:
    """The workers of a run, with its model; connected when they are first needed.

    Parameters
    ----------
    execution : Execution
        Where they are.
    model : WorkerModel
        What they load.
    marker : Path
        A file that they must see; see `Journal`.

    Attributes
    ----------
    dashboard : str
        Address of Dask's dashboard; empty before the connection, or if there is none.
    """

    def __init__(self, execution: Execution, model: WorkerModel, marker: Path) -> None:
        self._place, self._device, self._model, self._marker = execution.place, execution.device, model, marker
        self._unfit: dict[str, NapariSAM2Error] = {}
        self._opened = ExitStack()
        self._client: Client | None = None
        self._plugin = ""
        self.dashboard = ""

    @property
    def client(self) -> Client:
        """The connection."""
        assert self._client is not None, "opened before"
        return self._client

    @property
    def may_come_back(self) -> bool:
        """Whether a scheduler that was lost may be started again by others."""
        return self._place.scheduler is not None

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return self._place.scheduler or "of this computer"

    def open(self, num_pieces: int) -> None:
        """Connect, unless that was done; local workers are started for so many pieces. Raises DeviceError."""
        if self._client is not None:
            return
        with ExitStack() as opened:
            client = opened.enter_context(connected(self._place, num_pieces, device=self._device))
            self._plugin = opened.enter_context(_model_on_workers(client, self._model, self._marker, self._place))
            self._opened = opened.pop_all()
        self._client = client
        self.dashboard = dashboard_address(client)

    def close(self) -> None:
        """End the connection, and workers that were started for it."""
        self._client = None
        self._opened.close()

    def count(self) -> int:
        """How many there are, but those that are left out; raises _SchedulerLostError."""
        return len(self._fit())

    def _fit(self) -> list[str]:
        try:
            return [address for address in self.client.nthreads() if address not in self._unfit]
        except (OSError, TimeoutError, AttributeError, ValueError) as error:  # whatever a client without one raises
            raise _SchedulerLostError from error

    def leave_out(self, address: str, error: NapariSAM2Error) -> None:
        """Send no more pieces to a worker."""
        self._unfit[address] = error

    def is_left_out(self, address: str) -> bool:
        """Whether no more pieces are sent to a worker."""
        return address in self._unfit

    @property
    def why_left_out(self) -> NapariSAM2Error | None:
        """Why the first of the workers to which nothing is sent is left out; None if there is none."""
        return next(iter(self._unfit.values()), None)

    def send(self, job: Job, pieces: Sequence[Piece], retries: int) -> list[Future]:
        """Have pieces computed; raises _SchedulerLostError."""
        from napari_sam2.batch.workers import run_piece

        keys = [f"{job.command}-{uuid.uuid4().hex}" for _ in pieces]
        # to others too, where these are gone meanwhile: a piece must not wait for an address that never comes back
        only = {"workers": self._fit(), "allow_other_workers": True} if self._unfit else {}
        try:
            futures: list[Future] = self.client.map(
                run_piece, pieces, job=job, plugin=self._plugin, key=keys, retries=retries, pure=False, **only
            )
        except (OSError, ValueError) as error:
            raise _SchedulerLostError from error
        return futures


class Dispatch:
    """The pieces of one run on their way through the workers.

    Parameters
    ----------
    journal : Journal
        Record of finished pieces, which is updated.
    execution : Execution
        Retries and callbacks.
    settings : DispatchSettings
        How pieces are sent.
    """

    def __init__(self, journal: Journal, execution: Execution, settings: DispatchSettings) -> None:
        self._journal = journal
        self._settings = settings
        self._retries = execution.retries
        self._on_progress = execution.on_progress or (lambda _: None)
        self._tell = execution.on_piece or (lambda _: None)
        self._should_stop = execution.should_stop or (lambda: False)
        self._progress = BatchProgress(0, 0, 0, 0)
        self._pieces: list[Piece] = []
        self._fingerprints: dict[str, str] = {}
        self._ended: set[str] = set()  # pieces that are done, or failed in this run
        self._is_stopping = False
        self._disk_full: DiskFullError | None = None

    def add(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Take pieces into the run; returns those that are missing."""
        read = InputStates()
        self._fingerprints |= {piece.name: piece.source.fingerprint(read) for piece in pieces}
        missing = []
        for piece in pieces:
            if self._is_done_before(piece):
                self._ended.add(piece.name)
            else:
                missing.append(piece)
        self._pieces += pieces
        before = len(pieces) - len(missing)
        progress = self._progress
        self._progress = replace(
            progress,
            done=progress.done + before,
            before=progress.before + before,
            total=progress.total + len(pieces),
        )
        self._on_progress(self._progress)
        for piece in pieces:
            self._tell(self._state(piece))
        return missing

    def _is_done_before(self, piece: Piece) -> bool:
        if not self._journal.is_done(piece.name):
            return False
        is_same = self._journal.records[piece.name].fingerprint == self._fingerprints[piece.name]
        return is_same and piece.output.exists()

    def check_inputs(self) -> None:
        """Raise FrameError if an input changed since its pieces were added: their results do not belong together."""
        read = InputStates()
        # parts of one image are alike: each image is looked up once
        pieces = {(piece.source.path, self._fingerprints[piece.name]): piece for piece in self._pieces}
        for (_, before), piece in pieces.items():
            if piece.source.fingerprint(read) != before:
                raise FrameError(
                    Message(
                        f"{piece.source.path} changed while it was being segmented, and finished parts are of the file "
                        "as it was before; when it is complete, ",
                        AGAIN,
                    )
                )

    @property
    def is_complete(self) -> bool:
        """Whether all pieces so far are done."""
        return self._progress.done == self._progress.total

    def report(self, seconds: float, folder: Path | None = None) -> BatchReport:
        """State of all pieces so far; and of a folder of results, which of them are of other inputs."""
        states = [self._state(piece) for piece in self._pieces]
        others: tuple[str, ...] = ()
        if folder is not None:
            states = [self._as_in_folder(piece, state) for piece, state in zip(self._pieces, states, strict=True)]
            names = self._journal.written.difference(piece.name for piece in self._pieces)
            others = tuple(name for name in sorted(names) if is_there(folder / name))
        return BatchReport(tuple(self._pieces), tuple(states), self._progress.before, seconds, others)

    def _as_in_folder(self, piece: Piece, state: PieceRecord) -> PieceRecord:
        """What is said of a result that is gone, or of one that an earlier run has left of a piece that is not done."""
        if state.state == DONE and not is_there(piece.output):
            why = f"the result {piece.output} was removed while the batch ran"
            return replace(state, state=FAILED, outcome=None, reason=why, kind="OutputError")
        if state.state == DONE or piece.name not in self._journal.written or not is_there(piece.output):
            return state
        left = f"{piece.output} is the result of an earlier run, of other settings or of the input as it was then"
        return replace(state, reason="; ".join(filter(None, (state.reason, left))))

    def _state(self, piece: Piece) -> PieceRecord:
        """The record of a piece for the report; failures of earlier runs do not count."""
        if piece.name in self._ended:
            return self._journal.records[piece.name]
        return PieceRecord(piece.name, NOT_RUN, self._fingerprints[piece.name])

    def compute(self, workers: Workers, job: Job, pieces: Sequence[Piece]) -> None:
        """Compute pieces; raises DeviceError if the scheduler is lost and does not come back.

        If the disk is full, no more pieces are begun, and those under way are finished before DiskFullError is raised.

        As many are under way as there are workers, so that a worker that is killed takes one with it; more where pieces
        are so short that workers would wait for the next one.
        """
        missing = list(pieces)
        while missing:
            self._progress = replace(self._progress, dashboard=workers.dashboard)
            try:
                _Pass(self, workers, job, missing).run()
            except _SchedulerLostError as lost:
                self._wait_for_scheduler(workers, lost)
            missing = [] if self._is_stopping else [piece for piece in missing if piece.name not in self._ended]
        self._on_progress(self._progress)
        if self._disk_full is not None:
            done, total = self._progress.done, self._progress.total
            raise DiskFullError(
                Message(f"{self._disk_full} Finished files are kept ({done} of {total}); to resume, ", AGAIN)
            ) from self._disk_full

    def _wait_for_scheduler(self, workers: Workers, lost: _SchedulerLostError) -> None:
        if not workers.may_come_back:
            raise DeviceError(
                Message("the Dask scheduler ended unexpectedly; finished files are kept: to resume, ", AGAIN)
            ) from lost
        self._progress = replace(
            self._progress,
            workers=0,
            notice=f"the Dask scheduler at {workers.address} was lost; finished files are kept, trying again",
        )
        workers.close()
        end = time.monotonic() + self._settings.patience_s
        while not self.is_stopping():
            self._on_progress(self._progress)
            try:
                workers.open(1)
            except DeviceError as error:
                if time.monotonic() > end:
                    raise DeviceError(
                        Message(
                            message_of(error),
                            f". It was tried again for {self._settings.patience_s:g} s; finished files are kept: start "
                            "the scheduler and its workers, and ",
                            AGAIN,
                        )
                    ) from error
                time.sleep(self._settings.retry_s)
            else:
                self._progress = replace(self._progress, notice="")
                return

    def is_stopping(self) -> bool:
        """Whether no more pieces are begun."""
        self._is_stopping = self._is_stopping or self._disk_full is not None or bool(self._should_stop())
        return self._is_stopping

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Tell that pieces are under way."""
        for piece in pieces:
            self._tell(PieceRecord(piece.name, RUNNING, self._fingerprints[piece.name]))

    def end(self, ended: Sequence[tuple[Piece, Outcome | Exception]]) -> None:
        """Enter pieces that are done, or failed, in the journal; for a full disk no piece is to blame."""
        records = []
        for piece, found in ended:
            fingerprint = self._fingerprints[piece.name]
            if isinstance(found, DiskFullError):
                self._disk_full = self._disk_full or found
            elif isinstance(found, Outcome):
                records.append(PieceRecord(piece.name, DONE, fingerprint, found))
            else:
                kind = type(found).__name__
                records.append(PieceRecord(piece.name, FAILED, fingerprint, None, _reason(found), kind))
        try:
            self._journal.add(*records)
        except DiskFullError as error:
            self._disk_full = self._disk_full or error
            return
        num_done = sum(record.state == DONE for record in records)
        progress = self._progress
        self._progress = replace(
            progress, done=progress.done + num_done, failed=progress.failed + len(records) - num_done
        )
        for record in records:
            self._ended.add(record.name)
            self._tell(record)

    def report_progress(self, num_workers: int) -> None:
        """Tell how far it is."""
        self._progress = replace(self._progress, workers=num_workers)
        self._on_progress(self._progress)

    def notify(self, notice: str) -> None:
        """Tell the user a sentence, once."""
        self._progress = replace(self._progress, notice=notice)
        self._on_progress(self._progress)

    @property
    def settings(self) -> DispatchSettings:
        """How pieces are sent."""
        return self._settings

    @property
    def retries(self) -> int:
        """How often a piece that failed is tried again."""
        return self._retries


class _Pass:
    """Pieces of one job, as long as the scheduler is there.

    Pieces whose workers were killed several times are computed again at the end, one at a time: others that waited
    there or used memory at the same time may have been to blame, or somebody who killed workers.
    """

    def __init__(self, run: Dispatch, workers: Workers, job: Job, pieces: Sequence[Piece]) -> None:
        self._run, self._workers, self._job = run, workers, job
        self._settings = run.settings
        self._waiting = deque(pieces)
        self._suspects: deque[Piece] = deque()
        self._running: dict[Future, tuple[Piece, bool]] = {}  # and whether it is computed alone, at the end
        self._arrived: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._seconds: deque[float] = deque(maxlen=self._settings.num_timed)
        self._num_workers = 0
        self._alone_since = math.inf

    def run(self) -> None:
        """Compute them; raises _SchedulerLostError."""
        counted_at = -self._settings.count_workers_s
        while True:
            if time.monotonic() - counted_at >= self._settings.count_workers_s:
                self._num_workers = self._workers.count()
                counted_at = time.monotonic()
            is_stopping = self._run.is_stopping()
            if not is_stopping and self._has_workers():
                self._send()
            if not self._running and (is_stopping or not (self._waiting or self._suspects)):
                return
            if is_stopping and not self._num_workers:
                return
            self._run.report_progress(self._num_workers)
            self._end(self._next_arrived())

    def _send(self) -> None:
        """Send as many pieces as can be computed soon."""
        ahead = self._num_ahead()
        limit = max(1, self._num_workers) * (1 + ahead)
        if len(self._running) > limit // 2 and ahead:  # pieces that are sent together cost less
            return
        batch = [self._waiting.popleft() for _ in range(min(limit - len(self._running), len(self._waiting)))]
        is_alone = not batch and not self._running and bool(self._suspects)
        if is_alone:
            batch = [self._suspects.popleft()]
        if not batch:
            return
        self._run.begin(batch)
        for piece, future in zip(batch, self._workers.send(self._job, batch, self._run.retries), strict=True):
            self._running[future] = piece, is_alone
            future.add_done_callback(self._arrived.put)

    def _num_ahead(self) -> int:
        """How many pieces wait at each worker, beside the one that is computed."""
        if len(self._seconds) < self._settings.num_timed:
            return 0
        typical = statistics.median(self._seconds)
        return int(min(self._settings.max_ahead, self._settings.ahead_s / max(typical, 1e-9)))

    def _next_arrived(self) -> list[Future]:
        """All that ended, after waiting for one for a moment."""
        found = []
        try:
            found.append(self._arrived.get(timeout=self._settings.poll_s))
            while True:
                found.append(self._arrived.get_nowait())
        except queue.Empty:
            return found

    def _end(self, futures: Sequence[Future]) -> None:
        """Enter pieces in the journal, but those that are tried again."""
        from distributed import KilledWorker

        from napari_sam2.batch.workers import UnfitWorker

        ended: list[tuple[Piece, Outcome | Exception]] = []
        unfit: list[UnfitWorker] = []
        for future, found in zip(futures, _results(self._workers.client, futures), strict=True):
            piece, was_alone = self._running.pop(future)
            if isinstance(found, KilledWorker) and not was_alone:
                self._suspects.append(piece)
            elif isinstance(found, UnfitWorker) and (found.absent is None or found.absent.exists()):
                self._waiting.appendleft(piece)
                unfit.append(found)
            elif isinstance(found, UnfitWorker):
                ended.append((piece, found.error))
            else:
                if isinstance(found, Outcome):
                    self._seconds.append(found.seconds)
                ended.append((piece, found))
        if ended:
            self._run.end(ended)
        for worker in unfit:
            self._leave_out(worker)

    def _has_workers(self) -> bool:
        """Whether not all workers are left out; raises why, if others do not come for a long time."""
        error = self._workers.why_left_out
        if error is None or self._num_workers:
            self._alone_since = math.inf
            return True
        self._alone_since = min(self._alone_since, time.monotonic())
        if time.monotonic() - self._alone_since > self._settings.patience_s:
            raise error
        return False

    def _leave_out(self, worker: UnfitWorker) -> None:
        """Go on without a worker; raises its error if there is no other one, and nothing was computed so far."""
        if self._workers.is_left_out(worker.address):  # several pieces waited there
            return
        error = worker.error
        if worker.absent is not None:
            error = FrameError(
                f"the worker {worker.address} does not see {worker.absent}; the inputs must lie on a file system that "
                "all computers see under the same path"
            )
        self._workers.leave_out(worker.address, error)
        self._num_workers = self._workers.count()
        if not self._num_workers and not self._seconds:
            raise error
        self._run.notify(f"going on without the worker {worker.address}: {error}")


def _results(client: Client, futures: Sequence[Future]) -> list[Outcome | UnfitWorker | Exception]:
    """What pieces gave, or why they failed; raises _SchedulerLostError."""
    finished = [future for future in futures if future.status == "finished"]
    gathered: dict[Future, Outcome | UnfitWorker | DiskFullError] = {}
    if len(finished) > 1:
        with suppress(Exception):  # each by itself tells what is wrong
            gathered = dict(zip(finished, client.gather(finished), strict=True))
    return [gathered[future] if future in gathered else _result(future) for future in futures]


def _result(future: Future) -> Outcome | UnfitWorker | Exception:
    from distributed.client import FutureCancelledError

    from napari_sam2.batch.workers import UnfitWorker

    try:
        found = future.result()
    except (CancelledError, FutureCancelledError) as error:
        raise _SchedulerLostError from error
    except Exception as error:
        if future.status != "error":  # it was computed, and cannot be fetched
            raise _SchedulerLostError from error
        return error  # whatever a file can cause is reported with the file
    assert isinstance(found, Outcome | UnfitWorker | DiskFullError)
    return found


def _reason(error: BaseException) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return (
            f"{2 * (error.allowed_failures + 1)} workers were killed while they computed it, also with no other file "
            "beside it; it may need more memory than a worker has: use fewer workers, or give each of them more memory"
        )
    if isinstance(error, NapariSAM2Error):
        return " ".join(in_all_words(error).split())[:1000]
    text = one_line(error)
    kind = type(error).__name__
    return text if text == kind or text.startswith(f"{kind}: ") else f"{kind}: {text}"


@contextmanager
def _model_on_workers(client: Client, model: WorkerModel, marker: Path, place: Place) -> Iterator[str]:
    """Within it, all workers, also those that come later, have the plugin of this name."""
    from napari_sam2.batch.workers import ModelPlugin

    plugin = ModelPlugin(f"napari-sam2-{uuid.uuid4().hex}", model, marker, is_local=place.is_local)
    try:
        client.register_plugin(plugin)
    except NapariSAM2Error:  # of a worker; some kinds are OSErrors too
        raise
    except (ImportError, AttributeError, TypeError) as error:  # the plugin cannot be unpacked there
        raise DeviceError(
            f"workers lack a package, or have another version of it ({error}); install the same version of napari-sam2 "
            "there"
        ) from error
    except (OSError, TimeoutError) as error:
        raise DeviceError(f"the Dask scheduler no longer answers ({error}); check that it runs") from error
    try:
        yield plugin.name
    finally:
        if client.status == "running":
            with suppress(OSError, TimeoutError):  # the scheduler ended at this moment
                client.unregister_worker_plugin(plugin.name)

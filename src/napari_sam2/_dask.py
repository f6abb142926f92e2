"""Dask as batches and servers use it: whether it is installed, the cores of this computer, settings of workers."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_sam2._errors import DeviceError
from napari_sam2._messages import Message, given, shown

if TYPE_CHECKING:
    from distributed import Security, Worker

__all__ = [
    "WORKER_CONFIG",
    "check_local_workers",
    "check_may_be_plain",
    "check_scheduler_address",
    "loop_without_interrupts",
    "num_cores",
    "pause_never",
    "require_dask",
]

WORKER_CONFIG = MappingProxyType(
    {
        # Where a worker that was killed takes longer to come back, Dask would go on without it.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # Dask has workers return freed memory to the system at once: torch would get it back page by page.
        "distributed.nanny.pre-spawn-environ": {},
        # What feeds plots of the dashboard many times a second takes processor time from the work.
        "distributed.worker.profile.enabled": False,
        "distributed.worker.memory.monitor-interval": "500ms",
        "distributed.admin.system-monitor.interval": "5s",
        "distributed.admin.system-monitor.disk": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.admin.tick.interval": "500ms",
    }
)

_LEAST_MEMORY = 190 * 2**20  # bytes of its own, of a worker process with the bundled model; measured on Linux


def require_dask(what: str) -> None:
    """Check that dask.distributed is installed.

    Parameters
    ----------
    what : str
        What needs it, for the message.

    Raises
    ------
    DeviceError
        If it is not installed.
    """
    try:
        importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"{what} needs the extra 'cluster'; install it with: pip install 'napari-sam2[cluster]'"
        ) from error


def check_local_workers(workers: int) -> None:
    """Check how many worker processes are wanted on this computer.

    Parameters
    ----------
    workers : int
        Their number.

    Raises
    ------
    DeviceError
        If it is below 1, or even idle ones with the smallest model would not fit in memory.
    """
    import psutil

    if workers < 1:
        raise DeviceError(Message(given("workers", workers), " was given; expected integers from 1"))
    total: int = psutil.virtual_memory().total
    most = max(1, total // _LEAST_MEMORY)
    if workers > most:
        raise DeviceError(
            f"{workers} worker processes need at least {workers * _LEAST_MEMORY / 2**30:,.0f} GiB of memory, and this "
            f"computer has {total / 2**30:,.0f} GiB; give a number up to {most}, or none"
        )


def check_scheduler_address(address: str, remedy: str, security: Security | None = None) -> None:
    """Check an address before a client of Dask is made, which would wait and print a traceback where it is wrong.

    Parameters
    ----------
    address : str
        Of a scheduler.
    remedy : str
        How certificates are given, for the message.
    security : Security, optional
        The certificates. Default: those that Dask's configuration names.

    Raises
    ------
    DeviceError
        If it has no port, the protocol is unknown, it is encrypted and there are no certificates, or it is not and
        Dask's configuration requires that.
    """
    from distributed import Security
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    try:
        protocol, location = parse_address(address)
        get_backend(protocol)
        if protocol in ("tcp", "tls"):
            parse_host_port(location)
    except ValueError as error:
        raise DeviceError(
            f"{shown(address)} was given as the address of a Dask scheduler ({error}); expected tcp://HOST:PORT or "
            "tls://HOST:PORT"
        ) from error
    if protocol != "tls":
        check_may_be_plain(address, "give one that begins with tls://")
        return
    try:
        context = (security or Security()).get_connection_args("client").get("ssl_context")
    except (OSError, ValueError) as error:
        raise DeviceError(f"the certificates for {address} cannot be read ({error}); {remedy}") from error
    if context is None:
        raise DeviceError(f"{address} is encrypted and needs certificates; {remedy}")


def check_may_be_plain(address: str, remedy: str) -> None:
    """Raise DeviceError if Dask's configuration requires encryption, which an address does not have."""
    import dask
    import distributed  # noqa: F401 - has the settings

    if dask.config.get("distributed.comm.require-encryption", None):
        raise DeviceError(
            f"{address} is not encrypted, which Dask's configuration requires (distributed.comm.require-encryption); "
            f"{remedy}, or change this setting"
        )


def pause_never(worker: Worker) -> float | None:
    """Have a worker take work also when little of its memory is left.

    What the model needs is no data of Dask, which could be written to disk: a worker that pauses would never go on, and
    nobody be told. If it needs too much, it is killed and replaced, and its work reported.

    Parameters
    ----------
    worker : Worker
        In its own process.

    Returns
    -------
    float or None
        The part of its memory at which it paused so far; None if it did not.
    """
    from distributed import Status

    before: float | bool = worker.memory_manager.memory_pause_fraction
    worker.memory_manager.memory_pause_fraction = False
    if worker.status == Status.paused:
        worker.status = Status.running
    return before or None


@contextmanager
def loop_without_interrupts() -> Iterator[object]:
    """An event loop for a cluster of this computer, whose worker processes do not receive Ctrl-C and SIGHUP.

    A terminal sends Ctrl-C, or SIGHUP when it is closed, to all processes of a command: workers would end in the middle
    of their work, or with a traceback while they start. The process that started them ends them.

    Yields
    ------
    object
        A loop of tornado, for ``LocalCluster(loop=...)``; runs on a thread of its own until the end of the block.
    """
    from distributed.utils import LoopRunner

    runner = LoopRunner()
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            resource_tracker.ensure_running()  # on its start it would unblock Ctrl-C
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            runner.start()  # the thread, and the processes that it starts, inherit what is blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

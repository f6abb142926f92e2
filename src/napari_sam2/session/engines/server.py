"""A server for sessions on other computers: a Dask scheduler and workers with the model, or workers that join one."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from napari_sam2._dask import (
    WORKER_CONFIG,
    check_local_workers,
    check_may_be_plain,
    check_scheduler_address,
    loop_without_interrupts,
    num_cores,
    require_dask,
)
from napari_sam2._errors import DeviceError
from napari_sam2.session.engines.certificates import server_security
from napari_sam2.session.engines.compute_address import DEFAULT_PORT, is_loopback

if TYPE_CHECKING:
    from distributed import Client, Security

    from napari_sam2.session.engines.engine_actor import ServerSettings

__all__ = ["RunningServer", "ServerPlace", "serving"]

_CONNECT_TIMEOUT_S = 15.0
_START_TIMEOUT_S = 600.0
_END_TIMEOUT_S = 10.0
_JOIN_POLL_S = 0.2
_CONFIG = MappingProxyType({**WORKER_CONFIG, "distributed.scheduler.allowed-failures": 0})


@dataclass(frozen=True)
class ServerPlace:
    """Where a server listens, and with how many workers.

    Attributes
    ----------
    host : str
        Address to listen on; ``0.0.0.0``: all networks of this computer.
    port : int
        Of the scheduler; 0: any free one.
    workers : int or None
        Worker processes, each for one session at a time. Default: one for each GPU, else one.
    certificates : Path or None
        Folder made by `make_certificates`; None: no encryption, on loopback only.
    is_insecure : bool
        Allow other computers without encryption.
    join : str or None
        Address of a running scheduler, to which the workers are added.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int | None = None
    certificates: Path | None = None
    is_insecure: bool = False
    join: str | None = None

    def check(self) -> None:
        """Raise DeviceError if other computers could connect without certificates, or a number is not possible."""
        if self.workers is not None:
            check_local_workers(self.workers)
        if not 0 <= self.port < 2**16:
            raise DeviceError(f"port {self.port} was given; expected 0 to {2**16 - 1}")
        if self.certificates is not None or self.is_insecure:
            return
        if self.join is not None:
            host = urlsplit(self.join).hostname or ""
            if self.join.startswith("tcp://") and not is_loopback(host):
                raise DeviceError(
                    f"{self.join} is another computer and tcp is not encrypted: anyone on the network could run code "
                    "here; give tls://HOST:PORT and --certificates FOLDER, or allow it with --insecure on a network "
                    "that you trust"
                )
        elif not is_loopback(self.host):
            raise DeviceError(
                f"other computers can connect to {self.host}, and anyone who connects can run code here; make "
                "certificates with --new-certificates FOLDER, or allow it with --insecure on a network that you trust"
            )


@dataclass(frozen=True)
class RunningServer:
    """A server that was started.

    Attributes
    ----------
    address : str
        What sessions connect to.
    workers : Popen or None
        The processes that joined another scheduler.
    """

    address: str
    workers: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Raise DeviceError if the workers have ended: those of Dask's command end with their scheduler."""
        if self.workers is not None and self.workers.poll() is not None:
            raise DeviceError(
                f"the workers at {self.address} have ended; the scheduler there may have ended, or refuse them: run "
                "this command again when it runs"
            )


@contextmanager
def serving(place: ServerPlace, settings: ServerSettings) -> Iterator[RunningServer]:
    """Within it, the server runs.

    Parameters
    ----------
    place : ServerPlace
        Where.
    settings : ServerSettings
        How the workers compute.

    Raises
    ------
    DeviceError
        If Dask is not installed, the port is in use, the scheduler to join does not answer, or the certificates cannot
        be read.
    """
    require_dask("a server")
    place.check()
    security = None if place.certificates is None else server_security(place.certificates.expanduser())
    _silence_dask()
    start = _started if place.join is None else _joined
    with start(place, security, settings) as running:
        yield running


def _silence_dask() -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # A session that lost its server may hold on to its place for a moment when the next one has started.
    logging.getLogger("distributed.semaphore").setLevel(logging.CRITICAL + 1)


@contextmanager
def _started(place: ServerPlace, security: Security | None, settings: ServerSettings) -> Iterator[RunningServer]:
    """A scheduler with its workers, which are started again when they are killed."""
    import dask
    from distributed import LocalCluster

    workers = place.workers or _default_workers()
    if security is None:
        check_may_be_plain(f"a server at {place.host}:{place.port}", "give --certificates FOLDER")
    with dask.config.set(_CONFIG), loop_without_interrupts() as loop:
        try:
            cluster = LocalCluster(
                loop=loop,
                n_workers=0,  # they come when the scheduler knows what to load: a session may be waiting for them
                threads_per_worker=max(1, num_cores() // workers),
                processes=True,
                host=place.host,
                scheduler_port=place.port,
                protocol="tcp://" if security is None else "tls://",
                security=security,
                # web pages, which are not encrypted, for this computer only
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                memory_limit=0,  # a worker that Dask pauses for its memory would never go on
                silence_logs=logging.CRITICAL,
            )
        except (OSError, RuntimeError, ValueError) as error:
            is_in_use = getattr(_root_cause(error), "errno", None) == errno.EADDRINUSE
            remedy = "check --host and --port"
            if is_in_use:
                remedy = "the port is in use: choose another --port, or end the program that uses it"
            raise DeviceError(
                f"no server can be started at {place.host}:{place.port} ({_reason(error)}); {remedy}"
            ) from error
        with cluster:
            address: str = cluster.scheduler_address
            _register(address, security, settings, is_local=True)
            cluster.scale(workers)
            with _connected(address, security) as client:
                try:
                    client.wait_for_workers(workers, timeout=_START_TIMEOUT_S)
                except TimeoutError as error:
                    raise DeviceError(
                        f"{workers} worker processes were not ready after {_START_TIMEOUT_S:g} s ({_reason(error)}); "
                        "the computer may be busy or lack memory: give fewer --workers"
                    ) from error
            yield RunningServer(address)


@contextmanager
def _joined(place: ServerPlace, security: Security | None, settings: ServerSettings) -> Iterator[RunningServer]:
    """Workers of a scheduler that runs already, in processes of Dask's own command."""
    assert place.join is not None
    check_scheduler_address(place.join, "give --certificates FOLDER", security)
    workers = place.workers or _default_workers()
    name = f"napari-sam2-{uuid.uuid4().hex[:8]}"
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_worker", place.join, "--no-dashboard", "--memory-limit", "0"),
        *("--nworkers", str(workers), "--nthreads", str(max(1, num_cores() // workers))),
        *("--name", name),
    ]
    if security is not None:
        files = security.get_tls_config_for_role("worker")
        command += ["--tls-ca-file", files["ca_file"], "--tls-cert", files["cert"], "--tls-key", files["key"]]
    _register(place.join, security, settings, is_local=False)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    running = RunningServer(place.join, process)
    try:
        _wait_for(running, name, workers, security)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(running: RunningServer, name: str, number: int, security: Security | None) -> None:
    """Wait until so many workers whose names begin with ``name`` have joined; raises DeviceError."""
    end = time.monotonic() + _START_TIMEOUT_S
    with _connected(running.address, security) as client:
        while True:
            running.check()
            joined = client.sync(client.scheduler.identity)["workers"].values()
            if sum(str(worker["name"]).startswith(name) for worker in joined) >= number:
                return
            if time.monotonic() > end:
                raise DeviceError(
                    f"{number} worker processes had not joined {running.address} after {_START_TIMEOUT_S:g} s; the "
                    "computer may be busy or lack memory: give fewer --workers"
                )
            time.sleep(_JOIN_POLL_S)


@contextmanager
def _connected(address: str, security: Security | None) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, security=security, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"no Dask scheduler answers at {address} ({_reason(error)}); check the address and the certificates"
        ) from error
    with client:
        yield client


def _register(address: str, security: Security | None, settings: ServerSettings, *, is_local: bool) -> None:
    """Have every worker, also those that come later, load the model."""
    from napari_sam2.session.engines.engine_actor import ServerPlugin

    with _connected(address, security) as client:
        try:
            client.register_plugin(ServerPlugin(settings, is_local=is_local))
        except (ImportError, AttributeError, TypeError) as error:  # the plugin cannot be unpacked there
            raise DeviceError(
                f"workers of {address} lack a package, or have another version of it ({error}); install the same "
                "version of napari-sam2 there"
            ) from error


def _default_workers() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    error = _root_cause(error)
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]

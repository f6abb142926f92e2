"""The connection of a session to a server: a worker of its own while it has something to compute."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from napari_sam2._dask import check_may_be_plain
from napari_sam2._errors import DeviceError, NapariSAM2Error
from napari_sam2._messages import first_line
from napari_sam2.session.engines.compute_address import ComputeAddress

if TYPE_CHECKING:
    from distributed import Client, Future
    from distributed.actor import Actor, BaseActorFuture

    from napari_sam2.session.engines.lease import Lease
    from napari_sam2.session.engines.messages import EngineSetup

__all__ = ["Connection", "ConnectionLostError", "ConnectionSettings", "StoppedError"]


@dataclass(frozen=True)
class ConnectionSettings:
    """How long a session waits for its server.

    Attributes
    ----------
    connect_s : float
        For the first answer of a server.
    reply_s : float
        For a reply that is due; then the connection counts as lost.
    load_s : float
        For an engine, whose model may have to be downloaded first.
    poll_s : float
        How often the connection is checked while waiting.
    search_s : float
        How often a free worker is looked for.
    lease_s : float
        How long a session whose computer is unreachable keeps its worker.
    close_s : float
        For giving the worker back.
    """

    connect_s: float = 15.0
    reply_s: float = 45.0
    load_s: float = 900.0
    poll_s: float = 0.25
    search_s: float = 1.0
    lease_s: float = 15.0
    close_s: float = 3.0


class ConnectionLostError(Exception):
    """The server or its worker no longer answers."""


class StoppedError(Exception):
    """The session was closed, or no longer wants the result, while it waited."""


class Connection:
    """One worker of a server, held by a lease that other sessions respect.

    Parameters
    ----------
    address : ComputeAddress
        The server.
    setup : EngineSetup
        For the engine on the worker.
    settings : ConnectionSettings
        Time limits.
    should_stop : callable
        Checked while waiting.
    notify : callable
        Called with a sentence for the user where it takes longer.

    Raises
    ------
    ConnectionLostError
        If no server answers.
    DeviceError
        If the server refuses, does not serve napari-sam2, or has another version of it.
    StoppedError
        If ``should_stop`` came true.
    """

    def __init__(
        self,
        address: ComputeAddress,
        setup: EngineSetup,
        settings: ConnectionSettings,
        should_stop: Callable[[], bool],
        notify: Callable[[str], None],
    ) -> None:
        self._address = address
        self._settings = settings
        self._lease: Lease | None = None
        self._future: Future | None = None
        self._actor: Actor | None = None
        self._client = self._connect()
        try:
            worker = self._acquire(should_stop, notify)
            self._check_version(worker, setup.version)
            self._start_engine(worker, setup, should_stop)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Client:
        from distributed import Client

        from napari_sam2.session.engines.lease import quieten_reconnection

        quieten_reconnection()
        security = self._address.security()
        if not self._address.is_encrypted:
            check_may_be_plain(self._address.address, "give one that begins with tls://")
        _check_reachable(self._address, security, self._settings.connect_s)
        try:
            return Client(
                self._address.address,
                security=security,
                timeout=self._settings.connect_s,
                set_as_default=False,
                direct_to_workers=False,  # so that one port is enough
            )
        except (OSError, TimeoutError, ValueError) as error:
            where = self._address.address
            if self._address.is_encrypted:
                raise ConnectionLostError(f"no server answers at {where} ({first_line(error)})") from error
            encrypted = where.replace("tcp://", "tls://")
            raise ConnectionLostError(
                f"no server answers at {where} without encryption; to connect with certificates, give {encrypted}"
            ) from error

    def _acquire(self, should_stop: Callable[[], bool], notify: Callable[[str], None]) -> str:
        """The address of a worker that no other session uses; waits for one."""
        is_told = False
        while True:
            workers: list[str] = sorted(self._guarded(self._client.nthreads))
            for worker in workers:
                if self._try_lease(worker):
                    return worker
            if not is_told:
                is_told = True
                notify(self._why_waiting(len(workers)))
            self._pause(should_stop)

    def _why_waiting(self, num_workers: int) -> str:
        where = self._address.address
        if num_workers == 0:
            return f"{where} has no worker at the moment; waiting for one"
        if num_workers == 1:
            return f"{where} serves one session at a time and is busy with another one; waiting for it"
        return f"all {num_workers} workers of {where} are busy with other sessions; waiting for one"

    def _try_lease(self, worker: str) -> bool:
        import dask

        from napari_sam2.session.engines.lease import Lease

        with dask.config.set({"distributed.scheduler.locks.lease-timeout": f"{self._settings.lease_s}s"}):
            lease = Lease(
                max_leases=1,
                name=f"napari-sam2 {worker}",
                scheduler_rpc=self._client.scheduler,
                loop=self._client.loop,
            )
            self._guarded(lease.register)
        if not self._guarded(lambda: lease.acquire(timeout=0.05)):
            lease.refresh_callback.stop()
            return False
        self._lease = lease
        return True

    def _check_version(self, worker: str, expected: str) -> None:
        """Before anything of this package is sent, which another version might not be able to read."""
        limit = self._settings.reply_s
        answer = self._client.submit(version, "napari-sam2", workers=[worker], allow_other_workers=False, pure=False)
        installed = self._guarded(lambda: answer.result(timeout=limit))
        if installed != expected:
            raise DeviceError(
                f"the server has napari-sam2 {installed}, this computer has {expected}; install the same version "
                "on both"
            )

    def _start_engine(self, worker: str, setup: EngineSetup, should_stop: Callable[[], bool]) -> None:
        from napari_sam2.session.engines.engine_actor import EngineActor

        self._future = self._client.submit(
            EngineActor, setup, actor=True, workers=[worker], allow_other_workers=False, pure=False
        )
        end = time.monotonic() + self._settings.reply_s
        while not self._future.done():
            if time.monotonic() > end or self._client.status != "running":
                raise ConnectionLostError(f"the worker {worker} does not answer")
            if should_stop():
                raise StoppedError
            time.sleep(0.02)
        self._actor = self._guarded(self._future.result)

    def _pause(self, should_stop: Callable[[], bool]) -> None:
        end = time.monotonic() + self._settings.search_s
        while time.monotonic() < end:
            if should_stop():
                raise StoppedError
            time.sleep(0.05)

    def call(
        self,
        method: str,
        *arguments: object,
        limit_s: float | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Any:
        """Call a method of the engine on the worker and wait for the result.

        Raises
        ------
        ConnectionLostError
            If it does not come within ``limit_s`` seconds.
        NapariSAM2Error
            As raised there.
        StoppedError
            If ``should_stop`` came true.
        """
        limit = self._settings.reply_s if limit_s is None else limit_s
        answer = self._guarded(lambda: self._asked(method, arguments))
        end = time.monotonic() + limit
        while True:
            try:
                return self._guarded(lambda: self._result_of(answer))
            except _NotYetError:
                if should_stop is not None and should_stop():
                    raise StoppedError from None
                self._check_alive()
                if time.monotonic() > end:
                    raise ConnectionLostError(f"{self._address.address} has not answered for {limit:g} s") from None

    def _asked(self, method: str, arguments: Sequence[object]) -> BaseActorFuture[Any]:
        with _current(self._client):  # which the actor looks for
            return getattr(self._actor, method)(*arguments)

    def _result_of(self, answer: BaseActorFuture[Any]) -> Any:
        try:
            return answer.result(timeout=self._settings.poll_s)
        except TimeoutError as error:  # also where the answer comes at this very moment: it is there the next time
            raise _NotYetError from error

    def _check_alive(self) -> None:
        """Raise ConnectionLostError if the scheduler or the engine is known to be gone."""
        future = self._future
        if self._client.status != "running" or future is None or future.status != "finished":
            raise ConnectionLostError(f"the connection to {self._address.address} was lost")

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """The result of a call of Dask; any error of Dask means that the connection is lost."""
        try:
            return call()
        except (NapariSAM2Error, _NotYetError):
            raise
        except ModuleNotFoundError as error:
            raise DeviceError(
                f"the server lacks a package ({error}); install the same version of napari-sam2 there"
            ) from error
        except Exception as error:
            # Dask raises OSError, RuntimeError, KilledWorker, FutureCancelledError, CommClosedError and others
            raise ConnectionLostError(
                f"the connection to {self._address.address} was lost ({first_line(error)})"
            ) from error

    def close(self) -> None:
        """Give the worker back and end the connection, within a few seconds; a lost one is left to a thread."""
        thread = threading.Thread(target=self._end, name="napari-sam2-disconnect", daemon=True)
        thread.start()
        thread.join(self._settings.close_s)

    def _end(self) -> None:
        client, actor, future, lease = self._client, self._actor, self._future, self._lease
        if lease is not None:
            lease.refresh_callback.stop()
        if client.status == "running":
            # what fails here is gone already; the server frees it when the lease ends
            if actor is not None:
                with contextlib.suppress(Exception), _current(client):
                    actor.close().result(timeout=self._settings.close_s)
            if lease is not None:
                with contextlib.suppress(Exception):
                    lease.release()
        with contextlib.suppress(Exception):
            if future is not None:
                future.release()
            client.close(timeout=self._settings.close_s)


@contextlib.contextmanager
def _current(client: Client) -> Iterator[None]:
    """Make a client the current one of this thread.

    ``Client.as_current`` also makes the cluster the default of all threads of the process, so that a Dask image
    in the viewer could not be shown meanwhile; where two threads did it at the same time, never again.
    """
    from distributed.client import _current_client

    token = _current_client.set(client)
    try:
        yield
    finally:
        _current_client.reset(token)


class _NotYetError(Exception):
    """A reply has not come yet."""


def _check_reachable(address: ComputeAddress, security: object, timeout: float) -> None:
    """Connect once without Dask, whose messages do not tell what is wrong.

    Raises
    ------
    ConnectionLostError
        If there is no answer.
    DeviceError
        If the address is unknown, or certificates do not fit.
    """
    host, port = address.host_and_port
    try:
        with socket.create_connection((host, port), timeout=timeout) as plain:
            if address.is_encrypted:
                _check_certificates(address, security, plain, timeout)
    except ssl.SSLError as error:
        raise _certificate_error(address, error) from error
    except socket.gaierror as error:
        raise DeviceError(f"the host {host} was not found ({error.strerror}); check the address") from error
    except OSError as error:
        reason = "connection refused" if error.errno == errno.ECONNREFUSED else first_line(error)
        raise ConnectionLostError(f"no server answers at {address.address} ({reason})") from error


def _check_certificates(address: ComputeAddress, security: Any, plain: socket.socket, timeout: float) -> None:
    context: ssl.SSLContext = security.get_connection_args("client")["ssl_context"]
    with context.wrap_socket(plain) as encrypted:
        encrypted.settimeout(timeout)
        try:
            greeting = encrypted.recv(1)  # a server that refuses the certificate says so now
        except TimeoutError:
            return
        if not greeting:
            raise DeviceError(f"{address.address} closed the connection; it may expect other certificates")


def _certificate_error(address: ComputeAddress, error: ssl.SSLError) -> DeviceError:
    if "WRONG_VERSION_NUMBER" in str(error) or "UNEXPECTED_EOF" in str(error) or "RECORD" in str(error):
        return DeviceError(f"the server at {address.address} does not encrypt; it was started with --insecure (tcp://)")
    if "expired" in str(error) or "not yet valid" in str(error):
        return DeviceError(
            f"the certificates of the server at {address.address} are not valid today ({first_line(error)}); check "
            "the clocks of both computers, or make new ones there with --new-certificates FOLDER"
        )
    return DeviceError(
        f"the certificates do not belong to the server at {address.address} ({first_line(error)}); copy the folder "
        "'client' that was made together with the server's certificates"
    )

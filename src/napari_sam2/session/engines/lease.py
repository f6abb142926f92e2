"""The lease of a worker of a server, and quiet about the loss of the server, which the session reports itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from distributed import Semaphore

__all__ = ["Lease", "quieten_reconnection"]


class Lease(Semaphore):  # type: ignore[misc]  # types of distributed are not read
    """As Dask's, but renewing it is left when the server is gone, without a traceback on the terminal."""

    async def _refresh_leases(self) -> None:
        with contextlib.suppress(OSError):
            await super()._refresh_leases()


class _ReconnectionFilter(logging.Filter):
    """Drops what a client says when it is closed while it looks for its scheduler."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, asyncio.CancelledError)


_FILTER = _ReconnectionFilter()


def quieten_reconnection() -> None:
    """Have Dask's clients of this process print no traceback when they are closed while they reconnect."""
    logging.getLogger("distributed.client").addFilter(_FILTER)

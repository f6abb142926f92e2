"""What Dask prints when a server is lost."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("distributed")

from distributed.comm.core import CommClosedError

from napari_sam2.session.engines.lease import Lease, quieten_reconnection


@pytest.mark.parametrize("error", [CommClosedError("closed"), ConnectionRefusedError(), TimeoutError()], ids=repr)
def test_a_lease_of_a_lost_server_is_not_renewed_and_nothing_is_raised(error: OSError, monkeypatch):
    asked = []

    async def refresh(**options: object) -> None:
        asked.append(options)
        raise error

    lease = Lease.__new__(Lease)
    lease.refresh_leases, lease._leases, lease.id, lease.name = True, ["1"], "id", "name"
    monkeypatch.setattr(Lease, "scheduler", SimpleNamespace(semaphore_refresh_leases=refresh))
    asyncio.run(lease._refresh_leases())
    assert asked == [{"lease_ids": ["1"], "name": "name"}]


def test_only_cancelled_reconnections_are_dropped_from_the_log():
    quieten_reconnection()
    logger = logging.getLogger("distributed.client")  # its level does not matter: others may have raised it

    def is_kept(error: BaseException | None) -> bool:
        raised = None if error is None else (type(error), error, None)
        return bool(logger.filter(logging.LogRecord(logger.name, logging.ERROR, "", 0, "a message", None, raised)))

    assert not is_kept(asyncio.CancelledError())
    assert is_kept(ValueError("odd"))
    assert is_kept(None)

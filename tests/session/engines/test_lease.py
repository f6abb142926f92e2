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


def test_only_cancelled_reconnections_are_dropped_from_the_log(caplog: pytest.LogCaptureFixture):
    quieten_reconnection()
    logger = logging.getLogger("distributed.client")
    caplog.handler.addFilter(lambda record: record.name == logger.name)
    logger.addHandler(caplog.handler)
    try:
        for error in asyncio.CancelledError(), ValueError("odd"):
            try:
                raise error
            except (asyncio.CancelledError, ValueError) as raised:
                logger.exception(raised)  # noqa: TRY401 - as Dask does
        logger.error("a message")
    finally:
        logger.removeHandler(caplog.handler)
    assert list(dict.fromkeys(record.message for record in caplog.records)) == ["odd", "a message"]

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


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def test_only_cancelled_reconnections_are_dropped_from_the_log():
    quieten_reconnection()
    logger, records = logging.getLogger("distributed.client"), _Records()
    logger.addHandler(records)
    try:
        for error in asyncio.CancelledError(), ValueError("odd"):
            try:
                raise error
            except (asyncio.CancelledError, ValueError) as raised:
                logger.exception(raised)  # noqa: TRY401 - as Dask does
        logger.error("a message")
    finally:
        logger.removeHandler(records)
    assert records.messages == ["odd", "a message"]

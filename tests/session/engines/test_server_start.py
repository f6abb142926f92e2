"""The start of a server: what it prints, and workers that do not come."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from napari_sam2 import DeviceError
from napari_sam2.session.engines import server
from napari_sam2.session.engines.server import ServerPlace, serving

distributed = pytest.importorskip("distributed")

from napari_sam2.session.engines.engine_actor import ServerSettings  # noqa: E402

LOGGERS = ("distributed", "distributed.semaphore")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_workers_that_do_not_come_are_an_error_and_messages_of_dask_are_not_printed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "_START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(distributed.LocalCluster, "scale", lambda *_, **__: None)
    with (
        pytest.raises(DeviceError, match=r"3 worker processes were not ready after 0\.5 s .*give fewer --workers"),
        serving(ServerPlace(port=0, workers=3), ServerSettings(device="cpu")),
    ):
        pass
    # A session of the server before this one may refresh its lease, of which Dask's scheduler then warns.
    assert not logging.getLogger("distributed.semaphore").isEnabledFor(logging.CRITICAL)

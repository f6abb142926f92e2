"""The start of a server: what it prints, workers that do not come, and workers that join another scheduler."""

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


@pytest.mark.parametrize("options", [{}, {"host": "0.0.0.0"}], ids=["loopback", "all"])
def test_other_computers_are_joined_without_encryption_only_if_that_is_allowed(options: dict[str, str]):
    join = "tcp://node1:8786"
    with pytest.raises(DeviceError, match=r"tcp://node1:8786 is another computer .*--certificates .*--insecure"):
        ServerPlace(join=join, **options).check()
    ServerPlace(join=join, is_insecure=True, **options).check()
    ServerPlace(join="tls://node1:8786", **options).check()
    ServerPlace(join="tcp://localhost:8786", **options).check()


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a scheduler without workers."""
    options = {"processes": False, "dashboard_address": "127.0.0.1:0", "protocol": "tcp", "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=0, **options) as cluster:
        yield cluster.scheduler_address


def test_workers_that_end_before_they_have_joined_are_an_error(scheduler: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    with (
        pytest.raises(DeviceError, match=r"the workers at tcp://127.0.0.1:\d+ have ended; the scheduler there may"),
        serving(ServerPlace(join=scheduler, workers=1), ServerSettings(device="cpu")),
    ):
        pass


@pytest.mark.slow
def test_workers_join_a_scheduler_and_their_end_is_noticed(scheduler: str):
    with serving(ServerPlace(join=scheduler, workers=2), ServerSettings(device="cpu")) as running:
        assert running.address == scheduler
        with distributed.Client(scheduler, set_as_default=False) as client:
            assert len(client.nthreads()) == 2
        running.check()
        running.workers.terminate()
        running.workers.wait(60)
        with pytest.raises(DeviceError, match="have ended"):
            running.check()

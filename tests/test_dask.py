"""What batches and servers share of Dask."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import dask
import numpy as np
import pytest

from napari_sam2._dask import check_scheduler_address, loop_without_interrupts
from napari_sam2._errors import DeviceError
from napari_sam2.session.engines.engine_actor import ServerSettings
from napari_sam2.session.engines.server import ServerPlace, serving
from napari_sam2.session.session import Session

pytest.importorskip("distributed")

PRINT_BLOCKED = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
def test_processes_started_on_the_loop_of_a_cluster_do_not_receive_ctrl_c_and_this_one_does() -> None:
    async def child() -> str:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # as multiprocessing does; its start unblocks the signal
        return subprocess.run([sys.executable, "-c", PRINT_BLOCKED], capture_output=True, text=True, check=True).stdout

    with loop_without_interrupts() as loop:
        answer = asyncio.run_coroutine_threadsafe(child(), loop.asyncio_loop).result(30)
        assert answer.strip() == "True"
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _click() -> None:
    with Session(np.zeros((32, 32), np.uint8), compute="tcp://127.0.0.1:9") as session:
        session.add_points([[16, 16]])


def _serve() -> None:
    with serving(ServerPlace(host="127.0.0.1", port=0), ServerSettings()):
        pass


@pytest.mark.parametrize(
    ("connect", "remedy"),
    [
        pytest.param(lambda: check_scheduler_address("tcp://127.0.0.1:9", ""), "tls://", id="batch"),
        pytest.param(_serve, "--certificates FOLDER", id="serve"),
        pytest.param(_click, "tls://", id="session"),
    ],
)
def test_an_address_without_encryption_is_refused_where_dask_requires_it(connect, remedy):
    words = f"is not encrypted, which Dask's configuration requires .*{remedy}.*change this setting"
    with dask.config.set({"distributed.comm.require-encryption": True}), pytest.raises(DeviceError, match=words):
        connect()

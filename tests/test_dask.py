"""What batches and servers share of Dask."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from napari_sam2._dask import loop_without_interrupts

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

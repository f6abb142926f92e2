"""A scheduler with TLS that is killed and started again in the middle of a batch: the batch continues."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile

from batch_tools import SumJob, attempts
from cli_tools import save_random_model
from napari_sam2.batch.journal import JOURNAL_NAME
from napari_sam2.batch.report import BatchProgress
from napari_sam2.batch.running import run_batch
from napari_sam2.session.engines.certificates import make_certificates

pytest.importorskip("distributed")
pytest.importorskip("cryptography")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NUM_FILES = 12


class Cluster:
    """``dask scheduler`` and two ``dask worker`` with certificates, in processes of their own."""

    def __init__(self, certificates: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"tls://127.0.0.1:{self._port}"
        files = {"ca": "ca.pem", "cert": "server.pem", "key": "server-key.pem"}
        self._tls = {part: str(certificates / name) for part, name in files.items()}
        self._processes: list[subprocess.Popen[bytes]] = []

    def configuration(self) -> dict[str, object]:
        """Dask's, of the client."""
        client = {"cert": self._tls["cert"], "key": self._tls["key"]}
        return {"distributed.comm.tls.ca-file": self._tls["ca"], "distributed.comm.tls.client": client}

    def start(self) -> None:
        tls = ["--tls-ca-file", self._tls["ca"], "--tls-cert", self._tls["cert"], "--tls-key", self._tls["key"]]
        tls += ["--no-dashboard"]
        self._run("scheduler", "--host", self.address.rpartition(":")[0], "--port", str(self._port), *tls)
        for _ in range(2):
            self._run("worker", self.address, "--nthreads", "1", *tls)

    def _run(self, command: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def end(self, number: int = signal.SIGTERM) -> None:
        for process in self._processes:
            process.send_signal(number)
        for process in self._processes:
            process.wait(timeout=300)
        self._processes.clear()

    def kill_scheduler(self) -> None:
        """Its workers end with it, as they do by themselves."""
        self._processes[0].kill()
        self.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    make_certificates(tmp_path / "certificates")
    made = Cluster(tmp_path / "certificates" / "server")
    made.start()
    with dask.config.set(made.configuration()):
        yield made
    made.end(signal.SIGKILL)


def test_a_batch_continues_when_its_scheduler_is_started_again(cluster: Cluster, tmp_path: Path):
    inputs, log = tmp_path / "in", tmp_path / "log"
    inputs.mkdir()
    log.mkdir()
    for number in range(NUM_FILES):
        tifffile.imwrite(inputs / f"i{number:02}.tif", np.full((4, 4), number, np.uint8))
    weights = save_random_model(tmp_path / "random.safetensors")
    seen: list[BatchProgress] = []
    restarting: list[threading.Thread] = []
    done_before: dict[str, int] = {}

    def restart() -> None:
        cluster.kill_scheduler()
        cluster.start()

    def on_progress(progress: BatchProgress) -> None:
        seen.append(progress)
        if progress.done >= 4 and not restarting:
            done_before.update({path.name: path.stat().st_ino for path in (tmp_path / "out").glob("*.tif")})
            restarting.append(threading.Thread(target=restart))
            restarting[0].start()

    job = SumJob(str(log), seconds=0.5)
    report = run_batch(
        job,
        inputs,
        tmp_path / "out",
        model=weights,
        device="cpu",
        scheduler=cluster.address,
        on_progress=on_progress,
    )
    restarting[0].join()
    assert report.is_complete, report.failed
    assert report.num_done == NUM_FILES
    notices = [now.notice for before, now in pairwise(seen) if now.notice and not before.notice]
    assert len(notices) == 1
    assert notices[0].startswith(f"the Dask scheduler at {cluster.address} was lost; finished files are kept")
    assert seen[-1].notice == ""
    for name, inode in done_before.items():
        assert (tmp_path / "out" / name).stat().st_ino == inode, f"{name} was written again"
    results = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.tif")}
    assert results == {f"i{number:02}.tif": str(48 * number) for number in range(NUM_FILES)}
    assert len((tmp_path / "out" / JOURNAL_NAME).read_text().splitlines()) == 1 + NUM_FILES
    repeated = [name for name, count in attempts(log).items() if count > 1]
    assert len(repeated) <= 2  # those that were being computed

"""A server whose scheduler and worker are threads of the process of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

distributed = pytest.importorskip("distributed")

from napari_sam2.session.engines.engine_actor import ServerPlugin, ServerSettings  # noqa: E402

SETTINGS = ServerSettings(device="cpu", reply_within_s=0.5)


@contextmanager
def serving(weights: str | Path, port: int = 0) -> Iterator[distributed.LocalCluster]:
    """A scheduler with one worker, all in this process."""
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(protocol="tcp", host="127.0.0.1", scheduler_port=port, **options) as cluster:
        with distributed.Client(cluster, set_as_default=False) as client:
            client.register_plugin(ServerPlugin(replace(SETTINGS, model=str(weights)), is_local=False))
        yield cluster

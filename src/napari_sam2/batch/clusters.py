"""Where pieces are computed: worker processes of this computer, a running Dask scheduler, or a cluster from a file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_sam2._dask import (
    WORKER_CONFIG,
    check_local_workers,
    check_scheduler_address,
    loop_without_interrupts,
    num_cores,
)
from napari_sam2._errors import DeviceError
from napari_sam2._messages import Message, Option, first_line

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy import Cluster

__all__ = ["LOCAL_CONFIG", "Place", "connected", "dashboard_address"]

_MEMORY_PER_WORKER = 2 * 2**30  # bytes: the bundled model, a large image and its labels
_STARTS = 3  # attempts to start local workers
_CONNECT_TIMEOUT_S = 15.0
_DASHBOARD_TIMEOUT_S = 2.0
_NO_BOKEH = "needs bokeh"  # says the page of a scheduler that cannot show a dashboard
LOCAL_CONFIG = MappingProxyType(
    {
        **WORKER_CONFIG,
        "distributed.scheduler.allowed-failures": 5,  # workers that may be killed while they compute one piece
        # Pieces leave nothing in Dask's memory that could be written to disk: a worker that pauses would never go on.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
    }
)
_FILE_KEYS = ("class", "options", "workers", "adapt")


@dataclass(frozen=True)
class Place:
    """Where pieces are computed; at most one of the three is given.

    Attributes
    ----------
    workers : int or None
        Worker processes on this computer. Default: one for each core, or for each GPU, as far as memory allows.
    scheduler : str or None
        Address of a Dask scheduler, such as ``tcp://node1:8786``.
    cluster : Path or None
        YAML file that describes a cluster to start; see the docs page "On a cluster".
    """

    workers: int | None = None
    scheduler: str | None = None
    cluster: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes of this computer, started for the run."""
        return self.scheduler is None and self.cluster is None

    def check(self) -> None:
        """Raise DeviceError if more than one is given, or a number of workers or an address that is not possible."""
        ways = [Option(name, name, f"--{name}") for name in ("workers", "scheduler", "cluster")]
        given = [way for way in ways if getattr(self, way.name) is not None]
        if len(given) > 1:
            workers, scheduler, cluster = ways
            both = (part for way in given for part in (" and ", way))
            raise DeviceError(
                Message(*list(both)[1:], " were given; give one of ", workers, ", ", scheduler, " and ", cluster)
            )
        if self.workers is not None:
            check_local_workers(self.workers)
        if self.scheduler is not None:
            check_scheduler_address(
                self.scheduler, "name them in Dask's configuration (distributed.comm.tls, see 'On a cluster')"
            )


@contextmanager
def connected(place: Place, num_pieces: int, *, device: str) -> Iterator[Client]:
    """A client of the workers; what was started for it is closed at the end.

    Parameters
    ----------
    place : Place
        Where.
    num_pieces : int
        How many pieces there are; no more local workers are started.
    device : str
        As for `load_model`; decides the number of local workers.

    Raises
    ------
    DeviceError
        If the scheduler cannot be reached, or the cluster cannot be started.
    """
    from distributed import Client

    if place.scheduler is not None:
        try:
            client = Client(place.scheduler, timeout=_CONNECT_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            certificates = (
                ", and the certificates that Dask's configuration names (distributed.comm.tls)"
                if place.scheduler.startswith("tls://")
                else "; the address of one that encrypts begins with tls://"
            )
            raise DeviceError(
                f"no Dask scheduler answers at {place.scheduler} ({first_line(error)}); check the address, that "
                f"'dask scheduler' runs there{certificates}"
            ) from error
        with client:
            yield client
        return
    cluster = _local(place.workers, num_pieces, device) if place.cluster is None else _from_file(place.cluster)
    with cluster as running, Client(running, set_as_default=False) as client:
        yield client


def dashboard_address(client: Client) -> str:
    """Address of Dask's dashboard; empty if the scheduler was started without one.

    A scheduler without a dashboard names the same address, and answers there that there is no such page, or that bokeh
    is missing. An address that cannot be reached from here is given: it may be reached through a tunnel.
    """
    import requests

    link: str = client.dashboard_link or ""
    if not link.startswith("http://"):
        return link
    with requests.Session() as session:
        session.trust_env = False  # no proxy
        try:
            answer = session.get(link, timeout=_DASHBOARD_TIMEOUT_S)
        except requests.RequestException:
            return link
    return "" if answer.status_code == HTTPStatus.NOT_FOUND or _NO_BOKEH in answer.text else link


@contextmanager
def _local(workers: int | None, num_pieces: int, device: str) -> Iterator[Cluster]:
    import dask

    cores = num_cores()
    workers = min(_default_workers(cores, device) if workers is None else workers, max(1, num_pieces))
    with dask.config.set(LOCAL_CONFIG), loop_without_interrupts() as loop:
        cluster = _started(loop, workers, cores)
        with cluster:
            yield cluster


def _started(loop: object, workers: int, cores: int) -> Cluster:
    """Worker processes; Dask replaces those that end later, but gives up if one is killed while it starts."""
    import logging

    from distributed import LocalCluster

    for _ in range(_STARTS):
        try:
            return LocalCluster(
                loop=loop,
                n_workers=workers,
                threads_per_worker=max(1, cores // workers),
                processes=True,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
        except (OSError, RuntimeError) as error:
            reason = error
    raise DeviceError(
        f"{workers} worker processes cannot be started ({first_line(reason)}); a script that does this needs "
        "if __name__ == '__main__': around it"
    ) from reason


def _default_workers(cores: int, device: str) -> int:
    import psutil
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.device_count()
    if device not in ("auto", "cpu"):
        return 1
    available: int = psutil.virtual_memory().available
    return max(1, min(cores, available // _MEMORY_PER_WORKER))


def _from_file(path: Path) -> AbstractContextManager[Cluster]:
    """Start the cluster that a YAML file describes."""
    import yaml
    from distributed.deploy import Cluster

    try:
        described = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, yaml.YAMLError) as error:  # also dates that do not exist, and depth
        raise DeviceError(f"{path} cannot be read ({first_line(error)}); expected YAML") from error
    if (
        not isinstance(described, dict)
        or not isinstance(described.get("class"), str)
        or not set(described) <= set(_FILE_KEYS)
    ):
        raise DeviceError(
            f"{path} does not describe a cluster; expected 'class: dask_jobqueue.SLURMCluster' or another class, and "
            "options, workers or adapt"
        )
    options, workers, adapt = described.get("options") or {}, described.get("workers"), described.get("adapt")
    if not isinstance(options, dict) or not isinstance(adapt, dict | None) or not isinstance(workers, int | None):
        raise DeviceError(f"{path}: options and adapt are tables, workers is an integer")
    if workers is not None and workers < 1:
        raise DeviceError(f"{path}: workers is {workers}; expected integers from 1")
    module, _, name = described["class"].rpartition(".")
    try:
        make = getattr(importlib.import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise DeviceError(
            f"{path}: {described['class']} is not installed ({first_line(error)}); install its package, {package}"
        ) from error
    except (ValueError, AttributeError) as error:
        raise DeviceError(
            f"{path}: there is no class {described['class']} ({first_line(error)}); expected one such as "
            "dask_jobqueue.SLURMCluster"
        ) from error
    try:
        cluster = make(**options)
    except Exception as error:  # whatever the class, which may be of any package, raises
        raise DeviceError(f"the cluster of {path} cannot be started ({first_line(error)})") from error
    if not isinstance(cluster, Cluster):
        raise DeviceError(
            f"{path}: {described['class']} is not a cluster of Dask; give one, such as dask_jobqueue.SLURMCluster"
        )
    try:
        if adapt is not None:
            cluster.adapt(**adapt)
        elif workers is not None:
            cluster.scale(workers)
    except Exception as error:  # as above
        cluster.close()
        raise DeviceError(f"the cluster of {path} cannot be scaled ({first_line(error)})") from error
    started: AbstractContextManager[Cluster] = cluster
    return started

"""Dask as batches and servers use it: whether it is installed, the cores of this computer, settings of workers."""

from __future__ import annotations

import importlib
import os
from types import MappingProxyType

from napari_sam2._errors import DeviceError

__all__ = ["WORKER_CONFIG", "num_cores", "require_dask"]

WORKER_CONFIG = MappingProxyType(
    {
        # Where a worker that was killed takes longer to come back, Dask would go on without it.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # Dask has workers return freed memory to the system at once: torch would get it back page by page.
        "distributed.nanny.pre-spawn-environ": {},
        # What feeds plots of the dashboard many times a second takes processor time from the work.
        "distributed.worker.profile.enabled": False,
        "distributed.worker.memory.monitor-interval": "500ms",
        "distributed.admin.system-monitor.interval": "5s",
        "distributed.admin.system-monitor.disk": False,
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.admin.tick.interval": "500ms",
    }
)


def require_dask(what: str) -> None:
    """Check that dask.distributed is installed.

    Parameters
    ----------
    what : str
        What needs it, for the message.

    Raises
    ------
    DeviceError
        If it is not installed.
    """
    try:
        importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"{what} needs the extra 'cluster'; install it with: pip install 'napari-sam2[cluster]'"
        ) from error


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""How torch's threads wait for each other on a computer that other programs use too."""

from __future__ import annotations

import os

__all__ = ["limit_spinning"]

_SPINS = "1000"  # a few microseconds


def limit_spinning() -> None:
    """Let OpenMP threads sleep after a short spin while they wait; without effect once torch has been imported.

    By default a waiting thread of GCC's OpenMP, which torch has on Linux, spins for milliseconds before it sleeps. If
    another program uses its core, spinning uses up the time that the system gives to the thread. It is then not
    running when there is work, and all others wait for it: on two cores, one of them busy, ``napari-sam2 demo`` took
    128 s, and takes 13 s with a short spin; on an idle computer it takes 7 s with both. ``GOMP_SPINCOUNT`` and
    ``OMP_WAIT_POLICY`` in the environment take precedence.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)

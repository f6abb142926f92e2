"""How torch's threads wait for each other on a computer that other programs use too."""

from __future__ import annotations

import os

__all__ = ["limit_spinning"]

_SPINS = "1000"  # some microseconds, in place of milliseconds


def limit_spinning() -> None:
    """Let threads of OpenMP sleep soon while they wait for others; without effect once torch has been imported.

    By default they run in circles for milliseconds. Where another program uses a core, this uses up the time that the
    system gives to a thread, which then is not there when it has work to do, and all others wait for it: on two cores,
    one of them busy, ``napari-sam2 demo`` took 128 s, with this 13 s, and on an idle computer 7 s with and without.
    ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY`` in the environment take precedence. For the OpenMP of GCC, which torch has
    on Linux.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)

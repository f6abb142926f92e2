"""Import torch while other threads run: loading its libraries and collecting garbage would hold all of them up."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["importing_torch"]

_LIBRARIES = ("libc10", "libtorch_cpu", "libtorch", "libtorch_python")


@contextmanager
def importing_torch() -> Iterator[None]:
    """Import torch inside the ``with`` block on any thread, with short pauses for the others.

    The import makes some hundred thousand objects that stay. Python goes through all new ones time and again, and
    through those of the whole process when their number has grown by a quarter: beside a viewer three times 0.15 to
    0.2 s, in which nothing moves. The collector is paused until the block ends; existing objects are then moved to the
    oldest generation.
    """
    _preload()
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_collecting:
            # what is unfrozen counts as old: looked through with all else some day, and not next of all
            gc.freeze()
            gc.unfreeze()
            gc.enable()


def _preload() -> None:
    """Have the system load torch's large libraries, so that ``import torch`` finds them there.

    Python holds its lock while it loads a library, but not while it calls a C function: so it is ``dlopen`` that is
    called. Only on Linux and macOS; whatever is not found is left to the import.
    """
    spec = importlib.util.find_spec("torch")
    if "torch" in sys.modules or spec is None or spec.origin is None or not hasattr(os, "RTLD_LAZY"):
        return
    folder = Path(spec.origin).parent / "lib"
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    for name in _LIBRARIES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_GLOBAL)

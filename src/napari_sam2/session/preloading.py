"""Libraries of torch, loaded while other threads run: Python's import would hold all of them up meanwhile."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["preload_torch"]

_LIBRARIES = ("libc10", "libtorch_cpu", "libtorch", "libtorch_python")


def preload_torch() -> None:
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

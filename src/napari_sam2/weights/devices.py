"""Choose the device and precision of a network."""

from __future__ import annotations

import platform

import numpy as np
import torch

from napari_sam2._errors import DeviceError, warn_caller
from napari_sam2._messages import Message, given

__all__ = ["check_device_name", "cpu_computes", "resolve_device", "resolve_dtype", "reuse_freed_memory"]

_LARGEST_REUSED = 2**25 - 2**16  # bytes; glibc reuses nothing of 32 MiB and more

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Resolve the name of a device.

    Parameters
    ----------
    device : str or torch.device, default "auto"
        "auto" is the first available of CUDA, MPS and CPU; or "cpu", "cuda", "cuda:1", "mps".

    Returns
    -------
    torch.device

    Raises
    ------
    DeviceError
        If the device is unknown or not available.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if _num_cuda() else "mps" if torch.backends.mps.is_available() else "cpu")
    chosen = check_device_name(device)
    if chosen.type == "cuda":
        is_there = (chosen.index or 0) < _num_cuda()
    elif chosen.type == "mps":
        is_there = torch.backends.mps.is_available()
    else:
        is_there = chosen.type == "cpu"
    if not is_there:
        raise DeviceError(
            Message(
                given("device", str(device)),
                f" was given, but is not available; available are {_available()} (torch {torch.__version__})",
            )
        )
    return chosen


def check_device_name(device: str | torch.device) -> torch.device:
    """The device of a name, available on this computer or not; "auto" is the CPU.

    Raises
    ------
    DeviceError
        If there is no such device.
    """
    try:
        return torch.device("cpu" if isinstance(device, str) and device == "auto" else device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(Message(given("device", device), f" was given; available are {_available()}")) from error


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Resolve the name of a precision.

    Parameters
    ----------
    dtype : str or torch.dtype
        "auto": bfloat16 on CUDA devices that compute it natively, float32 elsewhere: on MPS and on older CUDA
        devices, whose float16 may overflow. Or "float32", "bfloat16", "float16" or a floating-point torch dtype.
    device : torch.device
        Where the network will be.

    Returns
    -------
    torch.dtype

    Raises
    ------
    DeviceError
        If the precision is unknown or the device cannot compute it.

    Warns
    -----
    UserWarning
        If a CPU has no instructions for the precision, and computes in float32 instead.
    """
    if isinstance(dtype, str) and dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" and _cuda_has_bfloat16(device) else torch.float32
    chosen = _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point or chosen.itemsize < 2:
        raise DeviceError(
            Message(given("dtype", dtype), f" was given; expected auto, {', '.join(_DTYPES)}, or one as a torch dtype")
        )
    if device.type == "mps" and chosen == torch.float64:
        raise DeviceError("dtype=float64 was given, which MPS cannot compute; use float32, or device='cpu'")
    if device.type == "cpu" and chosen in (torch.bfloat16, torch.float16) and not cpu_computes(chosen):
        warn_caller(
            f"this CPU has no instructions for {str(chosen).removeprefix('torch.')}: it computes in float32 instead",
        )
    return chosen


def reuse_freed_memory() -> None:
    """Have the C library keep freed memory for the next arrays of a network on the CPU.

    glibc returns large freed arrays to the system, which has to zero their pages when they are allocated again. The
    size from which it does so grows to that of the largest array freed so far, up to 32 MiB, so one such array, never
    touched, sets it from the start. On two cores, encoding 256 x 256 pixels with the bundled model then zeroes 12 pages
    instead of 1,600 and takes a fifth less time. With other C libraries this has no effect.
    """
    np.empty(_LARGEST_REUSED, np.uint8)


def _num_cuda() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _available() -> str:
    names = ["auto", "cpu"]
    names += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(_num_cuda())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return ", ".join(names)


def _cuda_has_bfloat16(device: torch.device) -> bool:
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def cpu_computes(dtype: torch.dtype) -> bool:
    """Whether the CPU has matrix products of this precision."""
    if platform.machine().lower() in ("x86_64", "amd64", "i686", "x86"):
        names = ["_is_avx512_bf16_supported", "_is_amx_tile_supported"]
        if dtype == torch.float16:
            names = ["_is_amx_fp16_supported"]
        return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))
    name = "_is_mkldnn_bf16_supported" if dtype == torch.bfloat16 else "_is_mkldnn_fp16_supported"
    return bool(getattr(torch.ops.mkldnn, name)())

"""How the benchmarks measure: interleaved times, floating-point operations, peak memory, and the machine's ceiling."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = [
    "CLOCKS",
    "Clock",
    "Machine",
    "PeakMemory",
    "Workload",
    "computes_bfloat16",
    "count_flop",
    "describe_machine",
    "gemm_rate",
    "interleaved",
    "peak_memory",
    "release_free_memory",
    "resident_mib",
    "time_medians_ms",
]

MIB = 2**20
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}
"""Processor time leaves out what other programs take; with several threads it counts their waiting too."""
_LONG_S = 10.0  # a warm-up call that takes longer than this is counted: the caches it warms do not matter
_SAMPLING_S = 0.001


@dataclass(frozen=True)
class Workload:
    """Something to time.

    Attributes
    ----------
    run : callable
        The timed call.
    prepare : callable or None
        Called before each ``run``, untimed: puts state back to where it was.
    """

    run: Callable[[], object]
    prepare: Callable[[], None] | None = None

    def restore(self) -> None:
        """Call ``prepare``, if there is one."""
        if self.prepare is not None:
            self.prepare()

    def seconds(self, clock: Clock = time.perf_counter) -> float:
        """Time of one call."""
        self.restore()
        _synchronize()
        begin = clock()
        self.run()
        _synchronize()
        return clock() - begin


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(
    workloads: Mapping[str, Workload], repeats: int, *, budget_s: float = 600.0, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Times in seconds, measured in turns (A B A B ...), so that a busy moment of the machine hits all.

    Parameters
    ----------
    workloads : mapping of str to Workload
        What to time, by name.
    repeats : int
        Rounds.
    budget_s : float, default 600
        No further round is begun once this is spent; one round is always complete.
    clock : callable
        Of ``CLOCKS``.

    Returns
    -------
    dict of str to list of float
        As many times for each name. The first call of each is a warm-up and not counted, unless it takes so long
        that warming up does not show.
    """
    begin = time.perf_counter()
    first = {name: workload.seconds(clock) for name, workload in workloads.items()}
    is_long = max(first.values()) > _LONG_S
    samples = {name: [seconds] if is_long else [] for name, seconds in first.items()}
    for _ in range(repeats - is_long):
        if time.perf_counter() - begin > budget_s and all(samples.values()):
            break
        for name, workload in workloads.items():
            samples[name].append(workload.seconds(clock))
    return samples


def time_medians_ms(
    workloads: Mapping[str, Workload], repeats: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median time of each workload in milliseconds, measured in turns."""
    samples = interleaved(workloads, repeats, clock=clock)
    return {name: 1e3 * statistics.median(times) for name, times in samples.items()}


# ---------------------------------------------------------------------- operations
def _attention_flop(query: object, key: object, value: object, *_: object, **__: object) -> int:
    """Operations of torch's fused attention on a CPU, which the counter does not know: q k^T and its product with v."""
    (batch, heads, num_queries, width), num_keys, value_width = query, key[-2], value[-1]  # type: ignore[misc, index]
    return 2 * batch * heads * num_queries * num_keys * (width + value_width)


def _linear_flop(x: object, weight: object, *_: object, **__: object) -> int:
    """Operations of a linear layer that goes to oneDNN; arguments are shapes."""
    (*leading, width), num_out = x, weight[0]  # type: ignore[misc, index]
    return 2 * math.prod(leading) * width * num_out


def count_flop(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions of one call."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
    onednn = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
    counter = FlopCounterMode(display=False, custom_mapping={fused: _attention_flop, onednn: _linear_flop})
    with counter:
        call()
    return counter.get_total_flops()


# ---------------------------------------------------------------------- memory
def resident_mib() -> float:
    """Resident memory of this process in MiB."""
    return psutil.Process().memory_info().rss / MIB


def release_free_memory() -> None:
    """Give memory that is free inside the process back to the system, so that it is not used again unnoticed."""
    gc.collect()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass
class PeakMemory:
    """Resident memory while a block runs, in MiB; filled when the block ends."""

    before: float = 0.0
    peak: float = 0.0

    @property
    def growth(self) -> float:
        """By how much the block raised it at most."""
        return max(self.peak - self.before, 0.0)


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Sample resident memory once a millisecond; on a GPU, its allocator's peak is taken instead."""
    memory = PeakMemory()
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        torch.cuda.reset_peak_memory_stats()
        memory.before = torch.cuda.memory_allocated() / MIB
        yield memory
        memory.peak = torch.cuda.max_memory_allocated() / MIB
        return
    done = threading.Event()
    memory.before = memory.peak = resident_mib()

    def watch() -> None:
        while not done.wait(_SAMPLING_S):
            memory.peak = max(memory.peak, resident_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()


# ---------------------------------------------------------------------- machine
def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices itself; a CPU that does not is about a hundred times slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def gemm_rate(
    dtype: torch.dtype,
    device: torch.device,
    *,
    side: int = 1536,
    repeats: int = 5,
    clock: Clock = time.perf_counter,
) -> float:
    """GFLOP/s of a square matrix product: what nothing on this machine exceeds."""
    if device.type == "cuda":
        side, repeats = 8192, 20
    a = torch.randn(side, side, device=device).to(dtype)
    workload = Workload(lambda: a @ a)
    workload.seconds(clock)
    return 2 * side**3 / min(workload.seconds(clock) for _ in range(repeats)) / 1e9


@dataclass(frozen=True)
class Machine:
    """What the numbers were measured on."""

    processor: str
    num_threads: int
    capability: str
    device: str
    torch: str
    python: str
    load_before: float
    gemm_gflops: dict[str, float] = field(default_factory=dict)
    clock: str = "wall"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def describe_machine(
    device: torch.device, dtypes: tuple[torch.dtype, ...] = (torch.float32,), *, clock: str = "wall"
) -> Machine:
    """The machine, and its matrix product rate in each precision it computes itself."""
    rates = {
        str(dtype).removeprefix("torch."): gemm_rate(dtype, device, clock=CLOCKS[clock])
        for dtype in dtypes
        if dtype != torch.bfloat16 or computes_bfloat16(device)
    }
    return Machine(
        processor=_processor_name(),
        num_threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        torch=torch.__version__,
        python=platform.python_version(),
        load_before=os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
        gemm_gflops=rates,
        clock=clock,
    )


def _processor_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()

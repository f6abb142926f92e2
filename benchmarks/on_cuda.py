"""What models cost on a CUDA device, in one run of two minutes: time, GPU memory, and which attention kernel is fast.

python benchmarks/on_cuda.py --json cuda.json
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from against_transformers import Row, format_report, list_cases, measure_size, parse
from clips import MovingDiscs, mask_iou
from measuring import MIB, Workload, describe_machine, time_medians_ms
from micro_speed import click_latency
from numpy.typing import NDArray
from pairs import OURS
from torch.nn.attention import SDPBackend, sdpa_kernel

from napari_sam2 import SAM2VideoSegmenter
from napari_sam2.inference.tracking.batches import bytes_per_object
from napari_sam2.network.attention import attend
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights.loading import load_model

T = TypeVar("T")

_MODELS = ("sam2.1_hiera_tiny", "sam2.1_hiera_large")
_DTYPES = ("float32", "bfloat16")
_SIDE = 256  # of the stack that the small model tracks
_MIN_FRAMES = 3


@dataclass(frozen=True)
class ManyObjects:
    """The small model on a stack with many objects, everything from the frame to the masks counted.

    Attributes
    ----------
    dtype, num_objects
        Of the model, and tracked together.
    frames_per_s : float
        From the median time.
    num_frames : int
        Counted, after the warm-up.
    prompt_ms : float
        Median time of one mask prompt.
    peak_mib : float
        Allocated on the GPU at most, the weights included.
    busy : float or None
        Share of the time that the GPU computes; the rest it waits for the CPU.
    mean_iou : float
        With the truth, on the last frame.
    """

    dtype: str
    num_objects: int
    frames_per_s: float
    num_frames: int
    prompt_ms: float
    peak_mib: float
    busy: float | None
    mean_iou: float


class _DrawnBefore:
    """A `FrameSource` whose frames are drawn by ``draw``, so that drawing is not timed."""

    def __init__(self, discs: MovingDiscs) -> None:
        self.discs = discs
        self.shape, self.key = discs.shape, discs.key
        self._drawn: dict[int, NDArray[np.uint8]] = {}

    def draw(self, frame: int) -> None:
        """Have one frame ready, and forget the others."""
        self._drawn = {frame: self.discs[frame]}

    def __len__(self) -> int:
        return len(self.discs)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        return self._drawn[frame]


def track_many(
    model: SAM2, num_objects: int, *, warm_up: int = 20, num_frames: int = 30, budget_s: float = 5.0
) -> ManyObjects:
    """Track discs from masks; where time runs out, the second half of the frames counts."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    frames = _DrawnBefore(MovingDiscs(warm_up + num_frames + 1, _SIDE, num_objects))
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(frames)
    frames.draw(0)
    truth = [frames.discs.mask(0, disc) for disc in range(num_objects)]
    prompts = [
        Workload(lambda i=disc: segmenter.add_clicks(0, [], mask=truth[i], object_id=i + 1)).seconds()
        for disc in range(num_objects)
    ]
    results = segmenter.propagate_masklets(0)
    times: list[float] = []
    while len(times) < warm_up + num_frames and (sum(times) < budget_s or len(times) < 2 * _MIN_FRAMES):
        frames.draw(len(times))
        times.append(Workload(lambda: next(results)).seconds())
    counted = times[min(warm_up, len(times) // 2) :]
    frames.draw(len(times))
    result, busy = _busy_share(lambda: next(results)) if num_objects <= 16 else (next(results), None)
    last = [mask_iou(mask, frames.discs.mask(len(times), disc)) for disc, mask in enumerate(result.masks)]
    return ManyObjects(
        dtype=str(model.dtype).removeprefix("torch."),
        num_objects=num_objects,
        frames_per_s=1 / statistics.median(counted),
        num_frames=len(counted),
        prompt_ms=1e3 * statistics.median(prompts),
        peak_mib=torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0,
        busy=busy,
        mean_iou=statistics.mean(last),
    )


def _busy_share(call: Callable[[], T]) -> tuple[T, float | None]:
    """What a call gives, and the share of its kernels' time in its own; None without a GPU."""
    if not torch.cuda.is_available():
        return call(), None
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    begin = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        result = call()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
    return result, sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / seconds


@torch.inference_mode()
def attention_kernels(device: torch.device, *, side: int = 1024, num_objects: int = 4) -> list[dict[str, object]]:
    """Median time of one memory attention with full memory, by torch's kernels; ours has narrow values."""
    queries, keys = (side // 16) ** 2, 7 * (side // 16) ** 2 + 64
    found: list[dict[str, object]] = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (
            torch.randn(num_objects, n, c, device=device).to(dtype)
            for n, c in ((queries, 256), (keys, 256), (keys, 64))
        )
        for name, backend in (("chosen by torch", None), *SDPBackend.__members__.items()):
            if name in ("ERROR", "OVERRIDEABLE", "MATH"):
                continue
            for values in (v, F.pad(v, (0, 192))):
                with nullcontext() if backend is None else sdpa_kernel(backend), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # why a kernel does not take them
                    try:
                        ms = time_medians_ms({"": Workload(lambda v=values, q=q, k=k: attend(q, k, v))}, 5)[""]
                    except RuntimeError:  # of a kernel that does not take these shapes or this precision
                        ms = None
                found.append({"dtype": str(dtype)[6:], "kernel": name, "width": values.shape[-1], "ms": ms})
    return found


# ---------------------------------------------------------------------- the run
def compare(
    model: str, device: torch.device, objects: Sequence[int], image_size: int, budget_s: float
) -> Iterator[Row]:
    """One released model against transformers."""
    options = parse(["--model", model, "--device", str(device), "--no-memory", "--budget", str(budget_s)])
    with tempfile.TemporaryDirectory() as folder:
        yield from measure_size(Path(folder), image_size, list_cases(objects), options, _DTYPES)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def format_many(found: ManyObjects) -> str:
    """One line."""
    busy = "" if found.busy is None else f", GPU busy {found.busy:.0%}"
    return (
        f"sam2_micro {found.dtype}, {found.num_objects} objects: {found.frames_per_s:.2f} frames/s over "
        f"{found.num_frames} frames, {found.prompt_ms:.1f} ms per mask prompt, {found.peak_mib:.0f} MiB at most{busy}, "
        f"IoU with the truth {found.mean_iou:.3f}"
    )


def format_budget(model: str, rows: Sequence[Row]) -> str:
    """What each further object of a video frame takes of the GPU's memory."""
    lines = []
    for dtype in _DTYPES:
        peaks = {row.num_objects: row.cost(OURS, dtype) for row in rows if row.case == "video frame"}
        measured = {n: cost.peak_mib for n, cost in peaks.items() if cost is not None and cost.peak_mib is not None}
        if len(measured) > 1:
            few, many = min(measured), max(measured)
            each = (measured[many] - measured[few]) / (many - few)
            lines.append(f"{model} {dtype}: {each:.0f} MiB more at most per further object")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and write what is known so far after each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="*", default=list(_MODELS))
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--micro-objects", type=int, nargs="*", default=[1, 16, 100, 400])
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for each thing that is timed")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args(arguments)
    device, begin = torch.device(options.device), time.perf_counter()
    machine = describe_machine(device, tuple(getattr(torch, dtype) for dtype in _DTYPES))
    results: dict[str, object] = {"kind": "on_cuda", "machine": machine.as_dict()}

    def note(name: str, value: object) -> None:
        results[name] = value
        results["seconds"] = time.perf_counter() - begin
        if options.json is not None:
            options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    many: list[ManyObjects] = []
    for dtype in reversed(_DTYPES):
        model = load_model("sam2_micro", device=device, dtype=dtype)
        planned = bytes_per_object(model) / MIB
        clicks = click_latency(model, _SIDE, 10)
        print(f"sam2_micro {dtype}: {clicks}; a batch is planned with {planned:.1f} MiB per object", flush=True)
        note(f"clicks {dtype}", clicks)
        for num in options.micro_objects:
            many.append(track_many(model, num, budget_s=options.budget))
            print(format_many(many[-1]), flush=True)
            note("micro", [asdict(found) for found in many])
    kernels = attention_kernels(device, side=options.image_size)
    note("attention", kernels)
    for each in kernels:
        print("attention to memories, 4 objects: " + ", ".join(f"{k} {v}" for k, v in each.items()), flush=True)
    for name in options.models:
        rows: list[Row] = []
        for row in compare(name, device, options.objects, options.image_size, options.budget):
            rows.append(row)
            note(name, [asdict(each) for each in rows])
        print(f"\n{name}\n{format_report(rows, machine)}\n{format_budget(name, rows)}", flush=True)
    print(f"{time.perf_counter() - begin:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())

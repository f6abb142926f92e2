"""How fast the bundled model is: frames per second through the public path, its stages, a click, and its size.

python benchmarks/micro_speed.py --json micro.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from clips import MovingDiscs
from measuring import CLOCKS, Clock, Workload, describe_machine, time_medians_ms
from micro_network import add_model_arguments, open_model
from safetensors.torch import save

from napari_sam2 import SAM2ImagePredictor, SAM2VideoSegmenter
from napari_sam2.network.features import MemoryBatch, ModelPrompt
from napari_sam2.network.sam2 import SAM2

_TARGETS = {256: 15.0, 512: 5.0}  # frames/s for one object on two cores


@dataclass(frozen=True)
class Tracking:
    """Speed of the whole public path: read, encode, attend, decode, remember, and mask at the size of the frame."""

    side: int
    num_objects: int
    num_frames: int
    frames_per_s: float
    median_ms: float


@dataclass(frozen=True)
class MicroSpeed:
    """What a run found; times are medians in milliseconds.

    Attributes
    ----------
    parameters : int
        Of the network.
    fp16_mb : float
        Its weights as a float16 safetensors file, in units of 10^6 bytes.
    tracking : list of Tracking
        One per size of frame.
    stages_ms : dict of str to float
        The parts of one tracked frame of one object in steady state.
    click_ms : dict of str to float
        Per side of the image: the first click, which encodes the window around it, and a click into a known window.
    """

    parameters: int
    fp16_mb: float
    tracking: list[Tracking]
    stages_ms: dict[str, float]
    click_ms: dict[str, dict[str, float]]


def track(
    model: SAM2,
    side: int,
    *,
    num_frames: int,
    num_objects: int = 1,
    warm_up: int = 20,
    clock: Clock = time.perf_counter,
) -> Tracking:
    """Track moving discs; the first frames, while memory fills, are not counted."""
    frames = MovingDiscs(num_frames + warm_up, side, num_objects)
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(frames)
    for disc in range(num_objects):
        segmenter.add_clicks(0, [frames.centre_xy(0, disc)], object_id=disc + 1)
    results = segmenter.propagate_masklets(0)
    for _ in range(warm_up):
        next(results)
    times = []
    for _ in range(num_frames):
        begin = clock()
        next(results)
        times.append(clock() - begin)
    return Tracking(side, num_objects, num_frames, num_frames / sum(times), 1e3 * statistics.median(times))


@torch.inference_mode()
def stage_workloads(model: SAM2) -> dict[str, Workload]:
    """The network's parts on one frame and one object, with full memory."""
    config, side = model.config, model.image_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, side, side, generator=generator)
    embedding = model.encode_image(pixels)
    features = model.without_memory(embedding)
    grid = side // 16
    memory = MemoryBatch(
        tuple(torch.randn(1, config.memory_dim, grid, grid, generator=generator) for _ in range(config.num_memories)),
        (config.num_memories - 1, *range(config.num_memories - 2, -1, -1)),
        torch.randn(1, config.max_pointers, config.hidden_dim, generator=generator),
        tuple(float(offset) for offset in range(config.max_pointers)),
    )
    click = ModelPrompt(torch.full((1, 1, 2), side / 2), torch.ones(1, 1, dtype=torch.int32))
    found = model.segment_frame(features, embedding.high_res, None, multimask=True)
    parts = {
        "encode image": lambda: model.encode_image(pixels),
        "attend to memory": lambda: model.attend_to_memory(embedding, memory),
        "decode tracked frame": lambda: model.segment_frame(features, embedding.high_res, None, multimask=True),
        "encode memory": lambda: model.encode_memory(embedding, found.logits, found.object_score, binarise=False),
        "decode click": lambda: model.decode_masks(features, embedding.high_res, click, multimask=True),
    }
    return {name: Workload(torch.inference_mode()(run)) for name, run in parts.items()}


def click_latency(model: SAM2, side: int, repeats: int, clock: Clock = time.perf_counter) -> dict[str, float]:
    """``predict`` after ``set_image``: into a window seen for the first time, and into a known one."""
    frames = MovingDiscs(1, side)
    image = frames[0]
    predictor = SAM2ImagePredictor(model)
    centre = [frames.centre_xy(0, 0)]

    def forget() -> None:
        predictor.cache.clear()
        predictor.set_image(image)

    def click() -> object:
        return predictor.predict(point_coords=centre, point_labels=[1])

    forget()
    return {
        "first click": time_medians_ms({"": Workload(click, forget)}, repeats, clock)[""],
        "next click": time_medians_ms({"": Workload(click)}, repeats, clock)[""],
    }


def measure(model: SAM2, *, num_frames: int, repeats: int, clock: Clock = time.perf_counter) -> MicroSpeed:
    """Everything."""
    half = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    return MicroSpeed(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        fp16_mb=len(save(half)) / 1e6,
        tracking=[track(model, side, num_frames=num_frames, clock=clock) for side in _TARGETS],
        stages_ms=time_medians_ms(stage_workloads(model), repeats, clock),
        click_ms={str(side): click_latency(model, side, repeats, clock) for side in _TARGETS},
    )


def format_speed(speed: MicroSpeed) -> str:
    """The result as text."""
    lines = [f"{speed.parameters:,} parameters, {speed.fp16_mb:.1f} MB as float16"]
    for tracking in speed.tracking:
        target = _TARGETS.get(tracking.side)
        aim = "" if target is None else f" (aim {target:.0f}: {'met' if tracking.frames_per_s >= target else 'MISSED'})"
        lines.append(
            f"{tracking.side} x {tracking.side}, {tracking.num_objects} object(s): {tracking.frames_per_s:.1f} "
            f"frames/s{aim}, median {tracking.median_ms:.1f} ms"
        )
    lines += [f"  {name}: {ms:.1f} ms" for name, ms in speed.stages_ms.items()]
    lines += [
        f"{side} x {side}: {name} {ms:.1f} ms" for side, clicks in speed.click_ms.items() for name, ms in clicks.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=60, help="counted frames, after 20 to warm up")
    parser.add_argument("--repeats", type=int, default=15, help="of stages and clicks")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: on a shared machine, one thread")
    parser.add_argument("--json", type=Path, help="where to write the result")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    clock = CLOCKS[options.clock]
    speed = measure(open_model(options), num_frames=options.frames, repeats=options.repeats, clock=clock)
    print(format_speed(speed))
    if options.json is not None:
        machine = describe_machine(torch.device("cpu"), clock=options.clock)
        results: dict[str, object] = {"kind": "micro_speed", "machine": machine.as_dict()}
        results |= {"speed": asdict(speed)}
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

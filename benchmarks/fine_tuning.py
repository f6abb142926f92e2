"""What fine-tuning on a few images of a data pack does to clicks and boxes on its other images.

    python benchmarks/fine_tuning.py PACK.npz --start sam2_micro --images 10 --steps 150

The pack must not have been in the training data of the start weights for the numbers to say what a user can expect.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from napari_sam2 import fine_tune, load_model
from napari_sam2.training.packs import LabelledStack, load_pack
from napari_sam2.training.validation import HeldOutObjects, ValidationScore


def split_pack(
    stacks: list[LabelledStack], num_images: int, seed: int
) -> tuple[list[LabelledStack], list[LabelledStack]]:
    """Images to tune on, drawn at random, and the rest."""
    order = np.random.default_rng(seed).permutation(len(stacks)).tolist()
    return [stacks[i] for i in order[:num_images]], [stacks[i] for i in order[num_images:]]


def scores_before_and_after(arguments: argparse.Namespace) -> tuple[ValidationScore, ValidationScore, int]:
    """Fine-tune, and measure both weights on objects of images that the fine-tuning never saw."""
    tuning, rest = split_pack(load_pack(arguments.pack), arguments.images, arguments.seed)
    objects = HeldOutObjects(rest, limit=arguments.objects, seed=arguments.seed)
    before = objects.score(load_model(arguments.start, device=arguments.device, dtype="float32"))
    print(f"before: click {before.click:.3f}, box {before.box:.3f}", flush=True)
    result = fine_tune(
        [stack.frames if len(stack) > 1 else stack.frames[0] for stack in tuning],
        [stack.labels if len(stack) > 1 else stack.labels[0] for stack in tuning],
        arguments.output,
        start_from=arguments.start,
        part=arguments.part,
        steps=arguments.steps,
        device=arguments.device,
        seed=arguments.seed,
        overwrite=True,
        on_report=lambda r: print(
            f"{r.step}  loss {r.loss or 0:.3f}  click {r.click:.3f}  box {r.box:.3f}  {r.seconds:.0f} s", flush=True
        ),
    )
    print(result.summary())
    after = objects.score(load_model(result.weights, device=arguments.device, dtype="float32"))
    return before, after, objects.num_objects


def main() -> None:
    """Read the command line, tune, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path, help="data pack (.npz) with image_0000, labels_0000 and so on")
    parser.add_argument("--start", default="sam2_micro", help="name or file of the start weights")
    parser.add_argument("--images", type=int, default=10, help="number of images to tune on")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--part", default="decoder", choices=("decoder", "adapters", "all"))
    parser.add_argument("--objects", type=int, default=100, help="objects of the other images to measure on")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("fine_tuned.safetensors"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    before, after, num_objects = scores_before_and_after(arguments)
    print(f"mean IoU on {num_objects} objects of the other images  click  box")
    print(f"before {before.click:.3f} {before.box:.3f}")
    print(f"after  {after.click:.3f} {after.box:.3f}")
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()

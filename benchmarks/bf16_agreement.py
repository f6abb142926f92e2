"""How far bfloat16 masks are from float32 masks: IoU of every object on every frame of a clip.

    python benchmarks/bf16_agreement.py                 # the reference's clip if it lies beside the checkout
    python benchmarks/bf16_agreement.py --everything    # all weights and all products rounded, as on a GPU

Without ``--everything`` the precision is that of ``load_model(dtype="bfloat16")``. With it, where the processor has
no bfloat16 instructions, every result is computed in float32 and rounded to bfloat16 at once. That rounds more often
than real bfloat16 arithmetic, which keeps some steps in float32: the IoU found is a lower one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from clips import MovingDiscs, mask_iou
from measuring import computes_bfloat16, describe_machine
from numpy.typing import NDArray
from pairs import make_weights
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from napari_sam2 import FrameSource, Prompt, SAM2VideoSegmenter, load_model
from napari_sam2.frames import open_frames
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2

_REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
_AIM = 0.99


@dataclass(frozen=True)
class Clip:
    """Frames and the prompts of its objects, as (frame, object_id, prompt)."""

    name: str
    frames: FrameSource
    prompts: list[tuple[int, int, Prompt]]


@dataclass(frozen=True)
class Agreement:
    """IoU of the masks of one object on one frame, and its pixels in float32."""

    frame: int
    object_id: int
    iou: float
    num_pixels: int


class RoundToBfloat16(TorchDispatchMode):
    """Every floating-point result of torch is rounded to the nearest bfloat16 and kept in float32."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Run one operation and round what it returns; views and in-place results are left to their makers."""
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        return tree_map_only(torch.Tensor, _rounded, result)


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.bfloat16).to(tensor.dtype) if tensor.dtype == torch.float32 else tensor


def golden_clip() -> Clip:
    """The clip and prompts of the reference's stored outputs."""
    paths = sorted((_REFERENCE / "golden" / "video_frames").glob("*.png"))
    frames = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    click = Prompt(points=np.array([[150, 100]], np.float32), labels=np.array([1], np.int32))
    box = Prompt(box=np.array([60, 40, 200, 160], np.float32))
    return Clip("reference", open_frames(frames), [(0, 1, click), (2, 2, box)])


def synthetic_clip(num_frames: int = 8, side: int = 192) -> Clip:
    """Two moving discs, one click each."""
    discs = MovingDiscs(num_frames, side, 2)
    prompts = [(0, disc + 1, Prompt(points=np.array([discs.centre_xy(0, disc)], np.float32))) for disc in range(2)]
    return Clip("synthetic", discs, prompts)


def reference_model() -> SAM2:
    """``sam2.1_hiera_tiny`` with the seeded weights of the stored outputs."""
    spec = importlib.util.spec_from_file_location("seeded_weights", _REFERENCE / "seeded_weights.py")
    assert spec is not None
    assert spec.loader is not None
    seeded: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    keys = json.loads((_REFERENCE / "keys" / "sam2.1_hiera_tiny.json").read_text(encoding="utf-8"))
    model = SAM2(CONFIGS["sam2.1_hiera_tiny"])
    model.load_state_dict(
        {name: torch.from_numpy(value) for name, value in seeded.make_state_dict(keys, seed=0).items()}
    )
    return model.eval()


def segment(model: SAM2, clip: Clip) -> dict[tuple[int, int], NDArray[np.bool_]]:
    """Masks by (frame, object_id), tracked forwards from frame 0."""
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(clip.frames)
    for frame, object_id, prompt in clip.prompts:
        segmenter.add_prompt(frame, prompt, object_id=object_id)
    return {
        (result.frame, object_id): mask
        for result in segmenter.propagate_masklets(0)
        for object_id, mask in zip(result.object_ids, result.masks, strict=True)
    }


def compare(
    exact: dict[tuple[int, int], NDArray[np.bool_]], rounded: dict[tuple[int, int], NDArray[np.bool_]]
) -> list[Agreement]:
    """IoU of each mask with its counterpart."""
    return [Agreement(*key, mask_iou(mask, rounded[key]), int(mask.sum())) for key, mask in exact.items()]


def _described(*, is_everything: bool, is_emulated: bool) -> str:
    if not is_everything:
        return "of load_model"
    return "of everything, emulated by rounding" if is_emulated else "of everything, computed by the device"


def format_agreement(agreements: Iterable[Agreement], clip: str, how: str) -> str:
    """The result as text; masks that are empty in float32 say nothing and are counted apart."""
    everything = list(agreements)
    found = [agreement for agreement in everything if agreement.num_pixels]
    if not found:
        return f"{clip} clip: all {len(everything)} masks are empty in float32; nothing can be said"
    lowest = min(found, key=lambda agreement: agreement.iou)
    mean = sum(agreement.iou for agreement in found) / len(found)
    return (
        f"{clip} clip, bfloat16 {how}: mean IoU with float32 {mean:.4f} over {len(found)} masks, lowest "
        f"{lowest.iou:.4f} (frame {lowest.frame}, object {lowest.object_id}); {len(everything) - len(found)} empty\n"
        f"aim {_AIM}: {'met' if mean >= _AIM else 'MISSED'} by the mean, "
        f"{'met' if lowest.iou >= _AIM else 'MISSED'} by the lowest"
    )


def _open_model(options: argparse.Namespace, *, is_golden: bool) -> SAM2:
    """The model asked for; without one, seeded weights."""
    if options.model is not None:
        model = load_model(options.model, device="cpu", dtype="float32")
    elif is_golden:
        model = reference_model()
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_weights(Path(folder), options.image_size or 256)
            model = load_model(folder, device="cpu", dtype="float32")
    if options.image_size is not None:
        model.image_size = options.image_size
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clip", choices=("auto", "reference", "synthetic"), default="auto")
    parser.add_argument("--model", help="name or path for load_model; default: seeded weights of sam2.1_hiera_tiny")
    parser.add_argument("--image-size", type=int, help="side of the model's input (default: the model's)")
    parser.add_argument("--everything", action="store_true", help="round all weights and products, also on a CPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    is_golden = options.clip == "reference" or (options.clip == "auto" and _REFERENCE.is_dir())
    clip = golden_clip() if is_golden else synthetic_clip()
    model = _open_model(options, is_golden=is_golden).to(device)
    exact = segment(model, clip)
    is_emulated = options.everything and not computes_bfloat16(device)
    model = model.to(torch.bfloat16) if options.everything else model.compute_in(torch.bfloat16)
    if is_emulated:
        model = model.to(torch.float32)
    how = _described(is_everything=options.everything, is_emulated=is_emulated)
    with RoundToBfloat16() if is_emulated else nullcontext():
        rounded = segment(model, clip)
    agreements = compare(exact, rounded)
    print(format_agreement(agreements, clip.name, how))
    if options.json is not None:
        results = {"kind": "bf16_agreement", "machine": describe_machine(device).as_dict(), "clip": clip.name}
        results |= {"image_size": model.image_size, "arithmetic": how}
        results |= {"agreements": [asdict(agreement) for agreement in agreements]}
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

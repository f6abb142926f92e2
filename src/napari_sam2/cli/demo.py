"""``napari-sam2 demo``: track objects of a synthetic stack and compare with the ground truth, offline."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from napari_sam2._errors import OutputError
from napari_sam2._files import write_whole
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._options import DeviceOption, DtypeOption, ModelOption, QuietOption
from napari_sam2.cli._outputs import save_picture
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import print_table, say
from napari_sam2.inference.prompts.prompt_text import ObjectPrompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2.cli._tracking import Tracked

__all__ = ["demo"]

_NUM_OBJECTS = 8
_FEWEST_SLICES = 5
_VOXEL_SIZE = {"Z": (0.5, "micrometer"), "Y": (0.25, "micrometer"), "X": (0.25, "micrometer")}
_STACK, _TRUTH, _LABELS, _SHEET = "stack.ome.tif", "truth.ome.tif", "labels.ome.tif", "contact_sheet.png"


def demo(
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the files; created if it does not exist."),
    ] = Path("napari-sam2-demo"),
    model: ModelOption = "sam2_micro",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random stack.")] = 0,
    quiet: QuietOption = False,
) -> None:
    """Make a z-stack of nuclei, click once on eight of them, and track each through its slices.

    Works offline. Writes the stack, its ground truth, the labels and a contact sheet into FOLDER, replacing files of an
    earlier demo, and prints the IoU of each object with the ground truth, the speed, and the command and the lines of
    Python that do the same.

    \b
    Examples:
      napari-sam2 demo
      napari-sam2 demo --seed 3 --model sam2.1_hiera_tiny -o other-folder
    """
    folder = output.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {output} cannot be created ({error.strerror}); choose another with -o"
        ) from error
    from napari_sam2.weights.loading import load_model

    network = load_model(model, device=device, dtype=dtype)
    from napari_sam2.cli._tracking import draw_tracked, track_into
    from napari_sam2.frames import open_frames
    from napari_sam2.inference.tracking.video_segmenter import SAM2VideoSegmenter
    from napari_sam2.labels.files import LabelWriter
    from napari_sam2.labels.reading import read_labels
    from napari_sam2.training.synthetic import make_demo_stack

    stack, truth = make_demo_stack(seed)
    _save_stack(folder / _STACK, stack)
    with LabelWriter(folder / _TRUTH, truth.shape, voxel_size=_VOXEL_SIZE, overwrite=True) as writer:
        for frame, labels in enumerate(truth):
            writer.write(frame, labels)
    clicks = _choose_clicks(truth)
    prompts = [click.as_prompt() for click in clicks]
    frames = open_frames(folder / _STACK)
    segmenter = SAM2VideoSegmenter(network)
    segmenter.set_video(frames)
    with LabelWriter.for_frames(folder / _LABELS, frames, overwrite=True) as writer:
        with StopRequest() as stop:
            tracked = track_into(writer, segmenter, prompts, range(len(frames)), stop=stop, show_progress=not quiet)
        if not tracked.is_complete:
            writer.close(complete=False)
            say("interrupted", err=True)
            raise typer.Exit(INTERRUPTED)
        title = f"napari-sam2 demo: {len(clicks)} nuclei, one click each"
        sheet = draw_tracked(frames, writer, prompts, tracked.frames_found, title=title, caption=lambda z: f"z {z}")
    save_picture(folder / _SHEET, sheet)
    _print_agreement(clicks, truth, read_labels(folder / _LABELS), tracked)
    where = network.device.type
    say(
        f"\n{len(frames)} slices, {len(clicks)} objects in {tracked.seconds:.1f} s: "
        f"{tracked.num_steps / tracked.seconds:.1f} frames/s on {where}"
    )
    say(f"wrote {_STACK}, {_TRUTH}, {_LABELS} and {_SHEET} in {output}")
    _print_recipe(output, model, clicks)


class _Click(NamedTuple):
    """One click in the middle of an object, on its largest slice."""

    object_id: int
    true_id: int
    z: int
    y: int
    x: int
    num_slices: int

    def as_prompt(self) -> ObjectPrompt:
        from napari_sam2._types import Prompt

        return ObjectPrompt(self.object_id, self.z, Prompt(points=[(self.x, self.y)]))


def _save_stack(path: Path, stack: NDArray[np.uint16]) -> None:
    import tifffile

    metadata: dict[str, object] = {"axes": "ZYX"}
    for axis, (value, _) in _VOXEL_SIZE.items():
        metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": "µm"}
    write_whole(
        path,
        lambda part: tifffile.imwrite(
            part, stack, ome=True, metadata=metadata, photometric="minisblack", compression="zlib"
        ),
    )


def _choose_clicks(truth: NDArray[np.int32]) -> list[_Click]:
    """Clicks on the largest objects of at least five slices, each on the pixel farthest from the object's outline."""
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    areas = np.stack([np.bincount(plane.ravel(), minlength=int(truth.max()) + 1) for plane in truth])  # (T, ids)
    areas[:, 0] = 0
    num_slices = (areas > 0).sum(axis=0)
    volumes = np.where(num_slices >= _FEWEST_SLICES, areas.sum(axis=0), 0)
    chosen = [int(i) for i in np.argsort(-volumes, kind="stable")[:_NUM_OBJECTS] if volumes[i]]
    clicks = []
    for number, true_id in enumerate(chosen, start=1):
        z = int(areas[:, true_id].argmax())
        depth = distance_transform_edt(np.pad(truth[z] == true_id, 1))[1:-1, 1:-1]
        y, x = (int(i) for i in np.unravel_index(int(depth.argmax()), depth.shape))
        clicks.append(_Click(number, true_id, z, y, x, int(num_slices[true_id])))
    return clicks


def _print_agreement(
    clicks: Sequence[_Click], truth: NDArray[np.int32], labels: NDArray[np.int32], tracked: Tracked
) -> None:
    rows, agreements = [], []
    for click in clicks:
        true, found = truth == click.true_id, labels == click.object_id
        iou = float((true & found).sum() / (true | found).sum())
        scores = [s.predicted_iou for s in tracked.scores if s.object_id == click.object_id and s.area]
        agreements.append(iou)
        rows.append(
            (
                str(click.object_id),
                f"{click.z},{click.y},{click.x}",
                f"{int(found.any(axis=(1, 2)).sum())}",
                f"{click.num_slices}",
                f"{sum(scores) / len(scores):.3f}" if scores else "-",
                f"{iou:.3f}",
            )
        )
    print_table(("object", "click z,y,x", "slices found", "true slices", "mean score", "IoU with truth"), rows)
    say(f"mean IoU over {len(clicks)} objects, each as a volume: {sum(agreements) / len(agreements):.3f}")


def _print_recipe(output: Path, model: str, clicks: Sequence[_Click]) -> None:
    options = " ".join(f"--point {click.z},{click.y},{click.x}" for click in clicks)
    files = [shlex.quote(str(output / name)) for name in (_STACK, "again.ome.tif", "again.png")]
    chosen = "" if model == "sam2_micro" else f" --model {shlex.quote(model)}"
    say("\nThe same in the shell:")
    say(f"  napari-sam2 track {files[0]} {options}{chosen} -o {files[1]} --preview {files[2]}")
    say("\nand in Python:")
    pairs = ", ".join(f"({click.z}, {click.x}, {click.y})" for click in clicks)
    say("  from napari_sam2 import SAM2VideoSegmenter")
    say(f"  segmenter = SAM2VideoSegmenter({'' if model == 'sam2_micro' else repr(model)})")
    say(f"  segmenter.set_video({str(output / _STACK)!r})")
    say(f"  for number, (z, x, y) in enumerate([{pairs}], start=1):")
    say("      segmenter.add_clicks(z, [(x, y)], object_id=number)")
    say("  labels = segmenter.track_objects()  # (24, 192, 192)")

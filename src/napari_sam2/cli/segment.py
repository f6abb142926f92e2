"""``napari-sam2 segment``: objects of one image from clicks, boxes and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import typer

from napari_sam2._errors import DeviceError
from napari_sam2.cli._option_groups import ComputeOptions, InputOptions, PromptedModelOptions, with_option_groups
from napari_sam2.cli._options import FullResolutionOption, LabelsOption, OverwriteOption, PreviewOption
from napari_sam2.cli._outputs import check_outputs, choose_labels, open_labels, save_picture, say_refined
from napari_sam2.cli._picture import FrameOption, Picture, choose_frame
from napari_sam2.cli._prompts import PromptCommand, ordered_prompts
from napari_sam2.cli._terminal import print_table, say
from napari_sam2.inference.prompts.prompt_text import ObjectPrompt, resolve_prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2._types import Zoom
    from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor
    from napari_sam2.session.engines.compute_address import ComputeAddress

__all__ = ["COMMAND_CLASS", "segment"]

COMMAND_CLASS = PromptCommand

_AT_ONCE = 8  # prompts decoded together, which limits the memory of their full-size logits


@dataclass(frozen=True)
class _Prompts:
    """Prompts; their order on the command line matters, see `ordered_prompts`."""

    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="Y,X", help="A click on an object. Repeatable.")
    ] = None
    box: Annotated[
        list[str] | None, typer.Option("--box", metavar="Y0,X0,Y1,X1", help="A box around an object. Repeatable.")
    ] = None
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", metavar="Y,X", help="A click on background: not part of the object before it."),
    ] = None
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="FILE", help="Label image of approximate objects; each label is refined."),
    ] = None
    object_id: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="ID", help="The prompts after it belong to object ID, up to the next one."),
    ] = None


@with_option_groups
def segment(
    ctx: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, OME-Zarr; or a stack and --frame.")],
    output: LabelsOption = None,
    *,
    prompting: _Prompts,
    candidates: Annotated[
        bool,
        typer.Option(
            "--candidates",
            help="Show the three candidate masks of each object, best first, in the table and the preview.",
        ),
    ] = False,
    frame: FrameOption = None,
    network: PromptedModelOptions,
    elsewhere: ComputeOptions,
    reading: InputOptions,
    full_resolution: FullResolutionOption = None,
    overwrite: OverwriteOption = False,
    preview: PreviewOption = None,
) -> None:
    """Segment objects of an image from clicks, boxes or masks.

    Coordinates are Y,X in pixels counted from 0. Without --object, each --point and each --box starts a new object,
    numbered 1, 2, ... in this order; a --negative belongs to the object before it. Where objects overlap, each pixel
    goes to the one with the higher logit. For a single click, the model makes three masks, and the best one is kept.

    \b
    Two cells, the second without the bright spot beside it, and a preview:
      napari-sam2 segment cells.png --point 84,120 --point 40,51 --negative 44,70 -o mask.tif --preview mask.png
    \b
    Boxes; the labels have the pixel size of the input:
      napari-sam2 segment cells.ome.tif --box 20,31,66,80 --box 90,15,120,61 -o labels.ome.tif
    """
    del prompting  # read in its order by ordered_prompts
    frames = reading.open(image)
    picture = choose_frame(frames, frame, image)
    prompts = resolve_prompts(ordered_prompts(ctx), (1, *picture.hw), "YX")
    labels_path = choose_labels(output, frames.path)
    compute = elsewhere.address(network.device)
    if compute is not None and candidates:
        raise DeviceError("--candidates cannot be combined with --compute; leave one of them out")
    check_outputs([image], labels_path, [(preview, ".png")], image=frames.path, overwrite=overwrite)
    with open_labels(
        labels_path, frames, network, full_resolution=full_resolution, frame=picture.frame, overwrite=overwrite
    ) as writer:
        if compute is not None:
            shown, rows = _segment_elsewhere(compute, network, picture, prompts)
        else:
            from napari_sam2.inference.prompts.image_predictor import SAM2ImagePredictor

            predictor = SAM2ImagePredictor(network.load())
            predictor.set_frame(picture.frames, picture.frame)
            shown, rows = _segment(predictor, prompts, picture.hw, num_candidates=3 if candidates else 1)
        writer.write(0, shown[0])
        writer.close()
        say_refined(writer)
    print_table(("object", "mask", "score", "area (px)"), rows)
    if preview is not None:
        _save_preview(preview, picture, prompts, shown, image.name)
        say(f"wrote {preview}")
    say(f"wrote {labels_path}")


def _segment_elsewhere(
    compute: ComputeAddress, network: PromptedModelOptions, picture: Picture, prompts: Sequence[ObjectPrompt]
) -> tuple[list[NDArray[np.int32]], list[tuple[str, ...]]]:
    """As ``_segment``, on a server: a pixel goes to the object with the higher score, and not the higher logit."""
    from napari_sam2.cli._server_notices import notices_shown
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.settings import SessionSettings

    settings = SessionSettings(dtype=network.dtype, zoom=cast("Zoom", network.zoom), overlap="highest score")
    with (
        Session(picture.frames, model=network.model, settings=settings, compute=compute) as session,
        notices_shown(session),
    ):
        for given in prompts:
            session.set_prompt(picture.frame, given.prompt, object_id=given.object_id)
        labels = session.store.plane_labels(picture.frame).copy()
        masks = session.store.masks_on(picture.frame)
    shown: list[tuple[str, ...]] = [
        (str(i), "1", f"{masks[i].iou:.3f}", str(masks[i].area)) for i in (given.object_id for given in prompts)
    ]
    return [labels], shown


class _Candidate(NamedTuple):
    """A mask of an object; rank 0 is the one with the best score."""

    object_id: int
    rank: int
    score: float
    logits: NDArray[np.float32]


def _segment(
    predictor: SAM2ImagePredictor, prompts: Sequence[ObjectPrompt], hw: tuple[int, int], *, num_candidates: int
) -> tuple[list[NDArray[np.int32]], list[tuple[str, ...]]]:
    """A label image per rank, and the rows of the table in the order of the prompts."""
    import numpy as np

    labels = [np.zeros(hw, np.int32) for _ in range(num_candidates)]
    winning = [np.zeros(hw, np.float32) for _ in range(num_candidates)]  # highest logit of each pixel, 0 is background
    rows: dict[tuple[int, int], tuple[str, ...]] = {}
    for found in _candidates(predictor, prompts, num_candidates):
        wins = found.logits > winning[found.rank]
        labels[found.rank][wins] = found.object_id
        winning[found.rank][wins] = found.logits[wins]
        area = int((found.logits > 0).sum())
        rows[found.object_id, found.rank] = (str(found.object_id), str(found.rank + 1), f"{found.score:.3f}", str(area))
    wanted = [(given.object_id, rank) for given in prompts for rank in range(num_candidates)]
    return labels, [rows[key] for key in wanted if key in rows]


def _candidates(
    predictor: SAM2ImagePredictor, prompts: Sequence[ObjectPrompt], num_candidates: int
) -> Iterator[_Candidate]:
    """Objects with a single click have three candidates; the others only if more than one is requested."""
    import numpy as np

    for is_ambiguous in (True, False):
        alike = [given for given in prompts if _is_ambiguous(given) == is_ambiguous]
        for start in range(0, len(alike), _AT_ONCE):
            part = alike[start : start + _AT_ONCE]
            masks, scores, _ = predictor.predict(
                [given.prompt for given in part],
                multimask_output=is_ambiguous or num_candidates > 1,
                return_logits=True,
            )
            for given, logits, values in zip(part, masks, scores, strict=True):
                for rank, i in enumerate(np.argsort(-values, kind="stable")[:num_candidates]):
                    yield _Candidate(given.object_id, rank, float(values[i]), np.asarray(logits[i], np.float32))


def _is_ambiguous(given: ObjectPrompt) -> bool:
    return len(given.prompt.points) == 1 and given.prompt.box is None and not given.prompt.has_mask


def _save_preview(
    path: Path, picture: Picture, prompts: Sequence[ObjectPrompt], shown: Sequence[NDArray[np.int32]], name: str
) -> None:
    from napari_sam2.labels.contact_sheet import PreviewTile, draw_contact_sheet

    rgb = picture.rgb()
    shown_prompts = tuple((given.object_id, given.prompt) for given in prompts)
    captions = ["prompts and masks"] if len(shown) == 1 else ["best masks", "second candidates", "third candidates"]
    tiles = [PreviewTile(rgb, labels, caption, shown_prompts) for labels, caption in zip(shown, captions, strict=True)]
    save_picture(path, draw_contact_sheet(tiles, title=name))

"""``napari-sam2 generate``: every object of one image, without a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import typer

from napari_sam2._errors import OutputError
from napari_sam2._files import write_whole
from napari_sam2.cli._objects import BorderOption, MaxAreaOption, MinAreaOption, parse_area
from napari_sam2.cli._option_groups import InputOptions, ModelOptions, with_option_groups
from napari_sam2.cli._options import OverwriteOption, PreviewOption, QuietOption
from napari_sam2.cli._outputs import check_outputs, save_picture, save_table
from napari_sam2.cli._picture import FrameOption, choose_frame, open_writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2._types import MaskRecord
    from napari_sam2.inference.automatic.mask_generator import MaskGeneratorOptions, SAM2AutomaticMaskGenerator
    from napari_sam2.network.sam2 import SAM2

__all__ = ["generate"]

T = TypeVar("T")

_COLUMNS = ("label", "area", "y0", "x0", "height", "width", "predicted_iou", "stability_score", "point_y", "point_x")


@dataclass(frozen=True)
class _Search:
    """How objects are searched, and which are kept; what is not given suits the model."""

    points_per_side: Annotated[
        int | None, typer.Option("--points-per-side", metavar="N", help="Tries a grid of N x N points.")
    ] = None
    spacing: Annotated[
        float | None,
        typer.Option("--spacing", metavar="PIXELS", help="Instead: a point every so many pixels."),
    ] = None
    iou: Annotated[
        float | None, typer.Option("--iou", metavar="0..1", help="Lowest predicted IoU of a mask that is kept.")
    ] = None
    stability: Annotated[
        float | None, typer.Option("--stability", metavar="0..1", help="Lowest stability of a mask that is kept.")
    ] = None
    overlap: Annotated[
        float | None,
        typer.Option("--overlap", metavar="0..1", help="Of two boxes that overlap more than this, the better stays."),
    ] = None
    crop_layers: Annotated[
        int | None, typer.Option("--crop-layers", metavar="N", help="Search zoomed-in crops too, in N layers.")
    ] = None

    def where(self) -> str:
        """What decides which candidates are found, and not which of them are kept."""
        return f"points {self.points_per_side}, spacing {self.spacing}, crop layers {self.crop_layers}"

    def thresholds(self, family: MaskGeneratorOptions) -> MaskGeneratorOptions:
        """The options of a kind of model with the thresholds that were given."""
        given = {
            "pred_iou_thresh": self.iou,
            "stability_score_thresh": self.stability,
            "box_nms_thresh": self.overlap,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        return replace(family, output_mode="coco_rle", **chosen)  # type: ignore[arg-type]  # all are float

    def generator(self, model: SAM2) -> SAM2AutomaticMaskGenerator:
        """What searches like this."""
        from napari_sam2.inference.automatic.mask_generator import SAM2AutomaticMaskGenerator

        return SAM2AutomaticMaskGenerator(
            model,
            points_per_side=self.points_per_side,
            point_spacing_px=self.spacing,
            pred_iou_thresh=self.iou,
            stability_score_thresh=self.stability,
            box_nms_thresh=self.overlap,
            crop_n_layers=self.crop_layers,
            output_mode="coco_rle",  # a few bytes a mask, however large the image
        )


@with_option_groups
def generate(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, OME-Zarr; or a stack and --frame.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="LABELS", help="Labels to write: .tif, .ome.tif or .zarr.")
    ],
    *,
    search: _Search,
    min_area: MinAreaOption = None,
    max_area: MaxAreaOption = None,
    exclude_border: BorderOption = False,
    candidates: Annotated[
        Path | None,
        typer.Option(
            "--candidates",
            metavar="NPZ",
            help="Keeps what is found in this file; once it is there, thresholds choose again and nothing is searched.",
        ),
    ] = None,
    frame: FrameOption = None,
    network: ModelOptions,
    reading: InputOptions,
    overwrite: OverwriteOption = False,
    preview: PreviewOption = None,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="CSV", help="Write area, box and scores of each object.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Segment everything in an image: a grid of points is tried, and the good and different masks are kept.

    What is not given suits the model. Small objects lie on top of large ones; objects are numbered 1, 2, ...

    \b
    Examples:
      napari-sam2 generate cells.png -o labels.tif --preview labels.png
      napari-sam2 generate cells.ome.tif --spacing 12 --min-area 20um2 --iou 0.6 -o labels.ome.tif --csv objects.csv

    \b
    Searched once, chosen as often as you like; the second line takes no time:
      napari-sam2 generate cells.png -o labels.tif --candidates found.npz
      napari-sam2 generate cells.png -o strict.tif --candidates found.npz --iou 0.7 --exclude-border
    """
    frames = reading.open(image)
    picture = choose_frame(frames, frame, image)
    smallest, largest = (parse_area(f"--{n}-area", a, frames) for n, a in (("min", min_area), ("max", max_area)))
    check_outputs([image], output, [(preview, ".png"), (table, ".csv")], overwrite=overwrite)
    _check_candidates(candidates, output)
    with open_writer(output, picture, overwrite=overwrite) as writer:
        from napari_sam2.inference.automatic.record_filters import filter_records
        from napari_sam2.labels.compose import masks_to_labels

        rgb = picture.rgb()
        records: Sequence[MaskRecord]
        if candidates is None:
            records = _search(search.generator(network.load()).generate_masks, rgb, show_progress=not quiet)
        else:
            kept = _Kept(candidates.expanduser(), search, network, overwrite=overwrite, show_progress=not quiet)
            records = kept.records(rgb)
        records = filter_records(
            records,
            min_area=smallest or 0.0,
            max_area=math.inf if largest is None else largest,
            exclude_border=exclude_border,
        )
        labels = masks_to_labels(records, picture.hw)
        writer.write(0, labels)
    written = [output]
    if table is not None:
        save_table(table, _COLUMNS, _rows(records))
        written.append(table)
    if preview is not None:
        from napari_sam2.labels.contact_sheet import PreviewTile, draw_contact_sheet

        tile = PreviewTile(picture.rgb(), labels, f"{len(records)} objects")
        save_picture(preview, draw_contact_sheet([tile], title=image.name, zoom_in=False))
        written.append(preview)
    typer.echo(f"{len(records)} objects found" + ("" if records else "; lower --iou or --stability, or try --spacing"))
    for path in written:
        typer.echo(f"wrote {path}")


def _search(find: Callable[..., T], rgb: NDArray[np.uint8], *, show_progress: bool) -> T:
    from tqdm import tqdm

    with tqdm(desc="points", unit="point", disable=None if show_progress else True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return find(rgb, progress=show)


def _check_candidates(path: Path | None, output: Path) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".npz":
        raise OutputError(f"--candidates {path} was given; its name must end in .npz")
    if not path.expanduser().parent.is_dir():
        raise OutputError(f"the folder {path.expanduser().parent} does not exist; make it first, or write elsewhere")
    if path.expanduser().resolve() == output.expanduser().resolve():
        raise OutputError("two outputs were given the same name; give each its own")


@dataclass(frozen=True)
class _Kept:
    """Candidates in a file: read if they are there, else searched and written."""

    path: Path
    search: _Search
    network: ModelOptions
    overwrite: bool
    show_progress: bool

    def records(self, rgb: NDArray[np.uint8]) -> Sequence[MaskRecord]:
        """What passes the thresholds.

        Raises
        ------
        OutputError
            If the file holds candidates of something else and is not to be overwritten, or cannot be written.
        """
        from napari_sam2.inference.automatic.options import MICRO_OPTIONS, REFERENCE_OPTIONS
        from napari_sam2.inference.automatic.proposal_files import image_digest, read_proposals, write_proposals
        from napari_sam2.inference.automatic.proposals import filter_proposals
        from napari_sam2.inference.automatic.refinement import candidate_thresholds

        origin = {"image": image_digest(rgb), "model": self._model(), "search": self.search.where()}
        if self.path.exists():
            proposals, of = read_proposals(self.path)
            differing = [name for name, value in origin.items() if of.get(name) != value]
            family = MICRO_OPTIONS if of.get("is_windowed") == "True" else REFERENCE_OPTIONS
            options = self.search.thresholds(family)
            needed, held = candidate_thresholds(options), (float(of.get("iou", 1)), float(of.get("stability", 1)))
            if any(low < lowest for low, lowest in zip(needed, held, strict=True)):
                differing.append(f"range of thresholds (IoU from {held[0]:g}, stability from {held[1]:g})")
            if not differing:
                return filter_proposals(proposals, options)
            if not self.overwrite:
                raise OutputError(
                    f"{self.path} holds candidates of another {' and '.join(differing)}; "
                    "give another file, or --overwrite to search again"
                )
        generator = self.search.generator(self.network.load())
        proposals = _search(generator.propose, rgb, show_progress=self.show_progress)
        is_windowed = generator.predictor.model.config.native_window is not None
        iou, stability = candidate_thresholds(generator.options)
        about = {**origin, "is_windowed": str(is_windowed), "iou": str(iou), "stability": str(stability)}
        write_whole(self.path, lambda part: write_proposals(part, proposals, about))
        return generator.filter(proposals)

    def _model(self) -> str:
        """Name, or path with size and time, so that another file under the same name is another model."""
        path = Path(self.network.model).expanduser()
        if not path.is_file():
            return f"{self.network.model} {self.network.dtype}"
        state = path.stat()
        return f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {self.network.dtype}"


def _rows(records: Sequence[MaskRecord]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for label, record in enumerate(records, start=1):
        x0, y0, width, height = cast("list[int]", record["bbox"])
        point_x, point_y = cast("list[list[float]]", record["point_coords"])[0]
        iou, stability = f"{record['predicted_iou']:.4f}", f"{record['stability_score']:.4f}"
        rows.append((label, record["area"], y0, x0, height, width, iou, stability, f"{point_y:g}", f"{point_x:g}"))
    return rows

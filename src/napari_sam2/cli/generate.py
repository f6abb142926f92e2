"""``napari-sam2 generate``: every object of one image, without a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from napari_sam2.cli._option_groups import InputOptions, ModelOptions, with_option_groups
from napari_sam2.cli._options import OverwriteOption, PreviewOption, QuietOption
from napari_sam2.cli._outputs import check_outputs, save_picture, save_table
from napari_sam2.cli._picture import FrameOption, choose_frame, open_writer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2._types import MaskRecord
    from napari_sam2.inference.mask_generator import SAM2AutomaticMaskGenerator
    from napari_sam2.network.sam2 import SAM2

__all__ = ["generate"]

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
    min_area: Annotated[
        float | None, typer.Option("--min-area", metavar="PIXELS", help="Smaller masks are left out.")
    ] = None
    crop_layers: Annotated[
        int | None, typer.Option("--crop-layers", metavar="N", help="Search zoomed-in crops too, in N layers.")
    ] = None

    def generator(self, model: SAM2) -> SAM2AutomaticMaskGenerator:
        """What searches like this."""
        from napari_sam2.inference.mask_generator import SAM2AutomaticMaskGenerator

        return SAM2AutomaticMaskGenerator(
            model,
            points_per_side=self.points_per_side,
            point_spacing_px=self.spacing,
            pred_iou_thresh=self.iou,
            stability_score_thresh=self.stability,
            box_nms_thresh=self.overlap,
            min_region_area_px=self.min_area,
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
      napari-sam2 generate cells.ome.tif --spacing 12 --min-area 60 --iou 0.7 -o labels.ome.tif --csv objects.csv
    """
    frames = reading.open(image)
    picture = choose_frame(frames, frame, image)
    check_outputs(image, output, [(preview, ".png"), (table, ".csv")], overwrite=overwrite)
    with open_writer(output, picture, overwrite=overwrite) as writer:
        from napari_sam2.inference.label_image import masks_to_labels

        generator = search.generator(network.load())
        records = _search(generator, picture.rgb(), show_progress=not quiet)
        labels = masks_to_labels(records, picture.hw)
        writer.write(0, labels)
    written = [output]
    if table is not None:
        save_table(table, _COLUMNS, _rows(records))
        written.append(table)
    if preview is not None:
        from napari_sam2.inference.preview import PreviewTile, draw_contact_sheet

        tile = PreviewTile(picture.rgb(), labels, f"{len(records)} objects")
        save_picture(preview, draw_contact_sheet([tile], title=image.name, zoom_in=False))
        written.append(preview)
    typer.echo(f"{len(records)} objects found" + ("" if records else "; lower --iou or --stability, or try --spacing"))
    for path in written:
        typer.echo(f"wrote {path}")


def _search(
    generator: SAM2AutomaticMaskGenerator, rgb: NDArray[np.uint8], *, show_progress: bool
) -> Sequence[MaskRecord]:
    from tqdm import tqdm

    with tqdm(desc="points", unit="point", disable=None if show_progress else True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return generator.generate_masks(rgb, progress=show)


def _rows(records: Sequence[MaskRecord]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for label, record in enumerate(records, start=1):
        x0, y0, width, height = cast("list[int]", record["bbox"])
        point_x, point_y = cast("list[list[float]]", record["point_coords"])[0]
        iou, stability = f"{record['predicted_iou']:.4f}", f"{record['stability_score']:.4f}"
        rows.append((label, record["area"], y0, x0, height, width, iou, stability, f"{point_y:g}", f"{point_x:g}"))
    return rows

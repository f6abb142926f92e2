"""``napari-sam2 generate``: every object of one image, without a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import typer

from napari_sam2._errors import OutputError
from napari_sam2._files import check_folder, check_writable, write_whole
from napari_sam2._messages import counted
from napari_sam2.cli._objects import FinderOptions, ShapeOptions
from napari_sam2.cli._option_groups import InputOptions, ModelOptions, with_option_groups
from napari_sam2.cli._options import LabelsOption, OverwriteOption, PreviewOption, QuietOption
from napari_sam2.cli._outputs import check_outputs, choose_labels, save_picture, save_table
from napari_sam2.cli._picture import FrameOption, choose_frame, open_writer
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sam2._types import MaskRecord
    from napari_sam2.inference.automatic.mask_generator import MaskGeneratorOptions

__all__ = ["Search", "generate"]

T = TypeVar("T")

_COLUMNS = ("label", "area", "y0", "x0", "height", "width", "predicted_iou", "stability_score", "point_y", "point_x")


@dataclass(frozen=True)
class Search(FinderOptions):
    """Options of the mask generator that only make sense for a single image, besides the common ones."""

    points_per_side: Annotated[
        int | None, typer.Option("--points-per-side", metavar="N", help="Use a grid of N x N points.")
    ] = None
    box_nms_thresh: Annotated[
        float | None,
        typer.Option(
            "--overlap", metavar="0..1", help="Of two masks whose boxes overlap more than this, keep the better one."
        ),
    ] = None
    crop_n_layers: Annotated[
        int | None, typer.Option("--crop-layers", metavar="N", help="Search enlarged crops too, in N layers.")
    ] = None

    def where(self) -> str:
        """The options that decide which candidates are found, not which of them are kept."""
        return f"points {self.points_per_side}, spacing {self.point_spacing_px}, crop layers {self.crop_n_layers}"

    def thresholds(self, family: MaskGeneratorOptions) -> MaskGeneratorOptions:
        """The options of a kind of model with the thresholds that were given."""
        names = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh")
        chosen = {name: value for name, value in self.given().items() if name in names}
        return replace(family, output_mode="coco_rle", **chosen)  # type: ignore[arg-type]  # all are float


@with_option_groups
def generate(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, OME-Zarr; or a stack and --frame.")],
    output: LabelsOption = None,
    *,
    search: Search,
    shapes: ShapeOptions,
    candidates: Annotated[
        Path | None,
        typer.Option(
            "--candidates",
            metavar="NPZ",
            help="Save all candidates in this file; if it exists, apply the thresholds to it without searching again.",
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
    """Segment everything in an image, and keep good masks that differ from each other.

    sam2_micro finds all objects in one pass; the released models try a grid of points, as every model does with
    --points-per-side or --spacing. Thresholds that are not given suit the model. Small objects are drawn over large
    ones; objects are numbered 1, 2, ...

    \b
    Examples:
      napari-sam2 generate cells.png -o labels.tif --preview labels.png
      napari-sam2 generate cells.ome.tif --spacing 12 --min-area 20um2 --iou 0.6 -o labels.ome.tif --csv objects.csv

    \b
    Search once, then try other thresholds; the second command does not search again:
      napari-sam2 generate cells.png -o labels.tif --candidates found.npz
      napari-sam2 generate cells.png -o strict.tif --candidates found.npz --iou 0.7 --exclude-border
    """
    frames = reading.open(image)
    picture = choose_frame(frames, frame, image)
    limits = shapes.as_keep_options().limits(frames)
    labels_path = choose_labels(output, frames.path)
    check_outputs([image], labels_path, [(preview, ".png"), (table, ".csv")], image=frames.path, overwrite=overwrite)
    _check_candidates(candidates, labels_path, overwrite=overwrite)
    with open_writer(labels_path, picture, overwrite=overwrite) as writer:
        from napari_sam2.labels.compose import masks_to_labels

        rgb = picture.rgb()
        records: Sequence[MaskRecord]
        if candidates is None:
            records = _search(
                search.as_find_options().generator(network.load()).generate_masks, rgb, show_progress=not quiet
            )
        else:
            kept = _Kept(candidates.expanduser(), search, network, overwrite=overwrite, show_progress=not quiet)
            records = kept.records(rgb)
        records = limits.keep(records)
        labels = masks_to_labels(records, picture.hw)
        writer.write(0, labels)
    written = [labels_path]
    if table is not None:
        save_table(table, _COLUMNS, _rows(records))
        written.append(table)
    if preview is not None:
        from napari_sam2.labels.contact_sheet import PreviewTile, draw_contact_sheet

        tile = PreviewTile(picture.rgb(), labels, counted(len(records), "object"))
        save_picture(preview, draw_contact_sheet([tile], title=image.name, zoom_in=False))
        written.append(preview)
    advice = "" if records else "; lower --iou or --stability, or try --spacing"
    say(f"{counted(len(records), 'object')} found{advice}")
    for path in written:
        say(f"wrote {path}")


def _search(find: Callable[..., T], rgb: NDArray[np.uint8], *, show_progress: bool) -> T:
    from tqdm import tqdm

    with tqdm(desc="points", unit="point", disable=None if show_progress else True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return find(rgb, progress=show)


def _check_candidates(path: Path | None, output: Path, *, overwrite: bool) -> None:
    if path is None:
        return
    if path.suffix.lower() != ".npz":
        raise OutputError(f"--candidates {path} was given; its name must end in .npz")
    check_folder(path.expanduser())
    if path.expanduser().resolve() == output.expanduser().resolve():
        raise OutputError("two outputs were given the same name; give each its own")
    if overwrite or not path.expanduser().exists():
        check_writable(path.expanduser())


@dataclass(frozen=True)
class _Kept:
    """Candidates in a file: read if it exists, else searched and written."""

    path: Path
    search: Search
    network: ModelOptions
    overwrite: bool
    show_progress: bool

    def records(self, rgb: NDArray[np.uint8]) -> Sequence[MaskRecord]:
        """The masks that pass the thresholds.

        Raises
        ------
        OutputError
            If the file contains candidates of another search and is not to be overwritten, or cannot be written.
        """
        from napari_sam2.inference.automatic.options import DENSE_OPTIONS, MICRO_OPTIONS, REFERENCE_OPTIONS
        from napari_sam2.inference.automatic.proposal_files import image_digest, read_proposals, write_proposals
        from napari_sam2.inference.automatic.proposals import filter_proposals
        from napari_sam2.inference.automatic.refinement import candidate_thresholds

        origin = {"image": image_digest(rgb), "model": self._model(), "search": self.search.where()}
        if self.path.exists():
            proposals, of = read_proposals(self.path)
            differing = [name for name, value in origin.items() if of.get(name) != value]
            families = {"dense": DENSE_OPTIONS, "windows": MICRO_OPTIONS}
            options = self.search.thresholds(families.get(of.get("family", ""), REFERENCE_OPTIONS))
            needed, held = candidate_thresholds(options), (float(of.get("iou", 1)), float(of.get("stability", 1)))
            if any(low < lowest for low, lowest in zip(needed, held, strict=True)):
                differing.append(f"range of thresholds (IoU from {held[0]:g}, stability from {held[1]:g})")
            if not differing:
                return filter_proposals(proposals, options)
            if not self.overwrite:
                raise OutputError(
                    f"{self.path} contains candidates of another {' and '.join(differing)}; "
                    "give another file, or --overwrite to search again"
                )
        generator = self.search.as_find_options().generator(self.network.load())
        proposals = _search(generator.propose, rgb, show_progress=self.show_progress)
        is_windowed = generator.predictor.model.config.native_window is not None
        family = "dense" if generator.options.dense is not None else "windows" if is_windowed else "whole images"
        iou, stability = candidate_thresholds(generator.options)
        about = {**origin, "family": family, "iou": str(iou), "stability": str(stability)}
        write_whole(self.path, lambda part: write_proposals(part, proposals, about))
        return generator.filter(proposals)

    def _model(self) -> str:
        """Name, or path with size and time, so that a replaced file counts as another model."""
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

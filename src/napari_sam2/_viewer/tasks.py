"""What the tabs of the dock do, as functions of layers: their parameters make the forms, and scripts call them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam2._arguments import checked
from napari_sam2._errors import FrameError, PromptError
from napari_sam2.labels.measurements import measure_stack
from napari_sam2.labels.storage import allocate_labels

if TYPE_CHECKING:
    from pathlib import Path

    import napari
    import pandas as pd
    from numpy.typing import NDArray

    from napari_sam2._viewer.automatic_work import Filters, Found, Searcher, StackSearch, TaskControl, Tracked
    from napari_sam2._viewer.layer_frames import ShownImage
    from napari_sam2._viewer.region import Region
    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.labels.tracks import Tracks
    from napari_sam2.training.finetune import FineTuneResult
    from napari_sam2.training.tuning_settings import FineTuneReport

__all__ = [
    "fine_tune_layers",
    "in_whole_image",
    "in_whole_plane",
    "measure_layer",
    "parents_table",
    "run_segmentation",
    "segment_layer",
    "track_layer",
]

Scope = Literal["plane", "stack", "volumes", "divisions"]
Split = Literal["automatic", "split", "keep"]


@dataclass(frozen=True, eq=False)
class _Callbacks:
    """Callbacks of a script as a `TaskControl`."""

    on_progress: Callable[[str, int, int], object] | None = None
    stops: Callable[[], bool] | None = None

    def report(self, value: Any) -> None:
        if self.on_progress is not None:
            self.on_progress(*value)

    def should_stop(self) -> bool:
        return self.stops is not None and self.stops()


@checked(PromptError)
def segment_layer(
    image: napari.layers.Image,
    *,
    model: str = "sam2_micro",
    scope: Scope = "plane",
    plane: int = 0,
    every: int | None = None,
    split_stacked: Split = "automatic",
    min_iou: float | None = None,
    min_stability: float | None = None,
    min_area: float = 0.0,
    max_area: float | None = None,
    exclude_border: bool = False,
    region: napari.layers.Shapes | None = None,
    on_progress: Callable[[str, int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> napari.layers.Labels:
    """Segment everything in an Image layer, without a prompt; the dock's tab *Everything* has the same parameters.

    Parameters
    ----------
    image : napari.layers.Image
        The image to segment, as displayed.
    model : str, default "sam2_micro"
        Name of a model, or path of weights.
    scope : {"plane", "stack", "volumes", "divisions"}
        One slice; the whole stack, with objects tracked through it; the stack of each time point, with objects linked
        in time; or a movie of cells that divide, each image searched by itself and cells linked with their lineage.
    plane : int, default 0
        The slice, and of several stacks the one that holds it; counted over all axes before height and width.
    every : int, optional
        Detect objects on every N-th slice and track them between. An object that is on none of these slices is missed.
        Automatic: chosen from the typical depth of the objects, 3 to 10.
    split_stacked : {"automatic", "split", "keep"}
        Split objects stacked in z at intensity minima, and trim out-of-focus light. Automatic: for bright objects on a
        dark background, unless the axis is named t or time.
    min_iou : float, optional
        Exclude masks with a lower predicted IoU, 0 to 1. Automatic: the default of the model.
    min_stability : float, optional
        Exclude masks whose outline depends more on the threshold, 0 to 1. Automatic: the default of the model.
    min_area : float, default 0
        Exclude smaller objects; in the unit of the layer squared.
    max_area : float, optional
        Exclude larger objects; in the unit of the layer squared.
    exclude_border : bool, default False
        Exclude objects that touch the border of the image, or of the region.
    region : napari.layers.Shapes, optional
        Rectangles, polygons or ellipses: only what is inside is searched, on all slices. Default: the whole image.
    on_progress : callable, optional
        Called with the name of the stage, how much of it is finished, and how much there is.
    should_stop : callable, optional
        Asked between steps; True ends the work, and finished slices are kept.

    Returns
    -------
    napari.layers.Labels
        Lies exactly on the image; not yet in a viewer. Of cells that divide, its ``features`` have the parents of the
        objects (0: none).

    Raises
    ------
    FrameError
        If the layer holds no image, or has no such plane, or the region encloses nothing of it; or if cells that divide
        were asked for, and the library that links them is missing.
    PromptError
        If an argument is not of its type, or a threshold is impossible.
    """
    from napari_sam2._viewer.automatic_work import Found, Searcher, Tracked
    from napari_sam2._viewer.layer_frames import open_image
    from napari_sam2._viewer.region import region_of

    shown = open_image(image)
    control = _Callbacks(on_progress, should_stop)
    limits = None if region is None else region_of(region, shown)
    result = run_segmentation(
        Searcher(),
        shown if limits is None else open_image(limits.crop(image)),
        control,
        model=model,
        scope=scope,
        plane=plane,
        every=every,
        split_stacked=split_stacked,
        min_iou=min_iou,
        min_stability=min_stability,
        min_area=min_area,
        max_area=max_area,
        exclude_border=exclude_border,
        region=limits,
    )
    if isinstance(result, Found):
        labels = allocate_labels(shown.geometry.shape)
        labels[shown.geometry.index(plane)] = in_whole_plane(result.labels, limits, shown.geometry.hw)
    elif result is None:
        labels = allocate_labels(shown.geometry.shape)
    else:
        labels = in_whole_image(result, limits, shown.geometry)
    layer = _labels_on(image, shown, labels, "everything")
    if isinstance(result, Tracked) and result.tracks is not None:
        layer.features = parents_table(result.tracks)
    return layer


def in_whole_plane(labels: NDArray[Any], region: Region | None, hw: tuple[int, int]) -> NDArray[Any]:
    """(H, W) labels of a plane, from those of the window of a region."""
    if region is None:
        return labels
    plane = np.zeros(hw, np.int32)
    plane[region.window] = region.inside(labels)
    return plane


def in_whole_image(found: Tracked, region: Region | None, geometry: StackGeometry) -> Any:
    """Labels of the whole image, from those of the window of a region."""
    if region is None:
        return found.as_image(geometry)
    image = allocate_labels(geometry.shape)
    for frame, plane in enumerate(found.clip):
        labels = found.labels[geometry.index(plane)] if found.labels.ndim == geometry.ndim else found.labels[frame]
        image[geometry.index(plane)] = in_whole_plane(np.asarray(labels), region, geometry.hw)
    return image


def _inside_region(found: Tracked, region: Region) -> Tracks:
    """Tracks in pixels of the image, from those of the window of a region, without what lies outside the region."""
    from napari_sam2.labels.tracks import tracks_of_labels

    assert found.tracks is not None
    planes = [region.inside(np.asarray(plane)) for plane in found.labels]
    alone = tracks_of_labels(planes).spans()
    both = {each: of for each, of in found.tracks.parents.items() if each in alone and of in alone}
    tracks = tracks_of_labels(planes, both)
    return replace(tracks, centres=tracks.centres + np.array([region.top, region.left]))


def parents_table(tracks: Tracks) -> pd.DataFrame:
    """Features of a Labels layer: the parent of each object, 0 where it has none."""
    import pandas as pd

    ids = sorted(tracks.spans())
    return pd.DataFrame({"index": ids, "parent": [tracks.parents.get(each, 0) for each in ids]})


def run_segmentation(
    searcher: Searcher,
    shown: ShownImage,
    control: TaskControl,
    *,
    model: str,
    scope: Scope,
    plane: int,
    every: int | None,
    split_stacked: Split,
    min_iou: float | None,
    min_stability: float | None,
    min_area: float,
    max_area: float | None,
    exclude_border: bool,
    region: Region | None = None,
) -> Found | Tracked | None:
    """As ``segment_layer``, of an open image and with a searcher that keeps its model; None if it was stopped.

    With ``region``, the image is the window of the region; labels are of this window, and tracks of the whole image.
    """
    from napari_sam2._viewer.automatic_work import StackSearch

    plane = shown.geometry.check_plane(plane)
    filters = filters_of(shown, min_iou, min_stability, min_area, max_area, exclude_border)
    if scope == "plane" or shown.geometry.ndim == 2:
        return searcher.search_plane(model, shown.planes, plane, filters, control)
    if scope == "divisions":
        found = searcher.search_divisions(model, shown.planes, shown.geometry.clip_range(plane), filters, control)
        return found if region is None else replace(found, tracks=_inside_region(found, region))
    splits = {"automatic": False if shown.frames_are_times else None, "split": True, "keep": False}[split_stacked]
    search: StackSearch = StackSearch(every, splits)
    if scope == "volumes":
        return searcher.search_volumes(model, shown.planes, search, filters, control)
    return searcher.search_stack(model, shown.planes, shown.geometry.clip_range(plane), search, filters, control)


def filters_of(
    shown: ShownImage,
    min_iou: float | None,
    min_stability: float | None,
    min_area: float,
    max_area: float | None,
    exclude_border: bool,
) -> Filters:
    """Which masks are kept, with areas in the unit of the image."""
    from napari_sam2._viewer.automatic_work import Filters

    return Filters(
        min_iou=min_iou,
        min_stability=min_stability,
        min_area=min_area,
        max_area=float("inf") if max_area is None else max(min_area, max_area),
        pixel_size=(shown.pixel_size.height, shown.pixel_size.width),
        exclude_border=exclude_border,
    )


@checked(PromptError)
def track_layer(
    image: napari.layers.Image,
    labels: napari.layers.Labels,
    *,
    model: str = "sam2_micro",
    plane: int = 0,
    all_planes: bool = False,
    on_progress: Callable[[str, int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> napari.layers.Labels:
    """Track the labels of one slice, or of several, through the stack.

    Parameters
    ----------
    image : napari.layers.Image
        The image to track in, as displayed.
    labels : napari.layers.Labels
        Labels to track, such as those of Cellpose; numbers are kept.
    model : str, default "sam2_micro"
        Name of a model, or path of weights.
    plane : int, default 0
        The slice with the labels; counted over all axes before height and width.
    all_planes : bool, default False
        Use the labels of all slices of the stack; the same number is the same object. Between two labelled slices,
        each half is tracked from the nearer one.
    on_progress, should_stop : callable, optional
        As for ``segment_layer``.

    Returns
    -------
    napari.layers.Labels
        Lies exactly on the image; not yet in a viewer.

    Raises
    ------
    FrameError
        If the layer holds no image, or has no such plane.
    PromptError
        If nothing is labelled there, or a label is no number of an object.
    """
    from napari.components import ViewerModel

    from napari_sam2._viewer.automatic_work import Searcher
    from napari_sam2._viewer.layer_frames import open_image, seed_labels

    shown = open_image(image)
    plane = shown.geometry.check_plane(plane)
    # of a viewer model only the sliders count, and these only for axes that the labels lack
    seeds = seed_labels(
        labels, shown.geometry, plane, image=shown.pixels_layer(), viewer=ViewerModel(), whole_clip=all_planes
    )
    clip = shown.geometry.clip_range(plane)
    found = Searcher().track(model, shown.planes, clip, seeds, _Callbacks(on_progress, should_stop))
    return _labels_on(image, shown, found.as_image(shown.geometry), "tracked")


def _labels_on(image: Any, shown: ShownImage, labels: Any, suffix: str) -> napari.layers.Labels:
    from napari.layers import Labels

    return Labels(labels, name=f"{image.name} {suffix}", **shown.placement.arguments())


@checked(PromptError)
def measure_layer(
    labels: napari.layers.Labels,
    image: napari.layers.Image | None = None,
    *,
    by: Literal["object", "plane"] = "object",
    on_progress: Callable[[str, int, int], object] | None = None,
) -> pd.DataFrame:
    """Measure the objects of a Labels layer, one slice at a time, in the unit of the layer.

    Parameters
    ----------
    labels : napari.layers.Labels
        The objects.
    image : napari.layers.Image, optional
        Of the same shape, for the intensities. Default: sizes, shapes and places only.
    by : {"object", "plane"}
        One row for each object, or for each object on each slice.
    on_progress : callable, optional
        Called with "measuring", how many slices were read, and how many there are.

    Returns
    -------
    pandas.DataFrame
        As of ``Session.measurements``, without names, classes and IoU.

    Raises
    ------
    FrameError
        If the image has another shape than the labels.
    PromptError
        If an argument is not of its type.
    """
    from napari_sam2._viewer.layer_frames import is_time_axis, label_calibration, open_image
    from napari_sam2.frames.geometry import StackGeometry

    array = labels.data[0] if labels.multiscale else labels.data
    geometry = StackGeometry.choose(tuple(int(size) for size in array.shape))
    shown = None if image is None else open_image(image)
    if shown is not None and shown.geometry.shape != geometry.shape:
        raise FrameError(
            f"{labels.name} has shape {geometry.shape} and the image {shown.geometry.shape}; choose labels of the image"
        )
    scale = label_calibration(labels).scale or (1.0,) * geometry.ndim
    axis = geometry.frame_axis
    is_time = axis is not None and is_time_axis(str(labels.axis_labels[axis]))

    def channels_of(plane: int) -> list[NDArray[Any]]:
        assert shown is not None
        found: list[NDArray[Any]] = []
        for values in shown.planes.raw(plane):
            found += [values] if values.ndim == 2 else [values[..., i] for i in range(min(values.shape[-1], 3))]
        return found

    return measure_stack(
        range(geometry.num_planes),
        lambda plane: np.asarray(array[geometry.index(plane)]),
        None if shown is None else channels_of,
        by=by,
        scale=(1.0 if axis is None else scale[axis], scale[-2], scale[-1]),
        is_volume=geometry.num_frames > 1 and not is_time,
        planes_per_clip=geometry.num_frames,
        on_plane=None if on_progress is None else (lambda number, count: on_progress("measuring", number, count)),
    )


@checked(PromptError)
def fine_tune_layers(
    image: napari.layers.Image,
    labels: napari.layers.Labels,
    output: str | Path,
    *,
    start_from: str = "sam2_micro",
    part: Literal["decoder", "adapters", "all"] = "decoder",
    minutes: float = 10.0,
    overwrite: bool = False,
    linked: bool = True,
    all_labelled: bool = False,
    on_report: Callable[[FineTuneReport], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FineTuneResult:
    """Fine-tune a model on an Image layer and its labels; the dock's tab *Train* has the same parameters.

    Parameters
    ----------
    image : napari.layers.Image
        The image that the labels belong to.
    labels : napari.layers.Labels
        Labels to train on: at least ten objects, preferably more. Pixels without a label count as unknown.
    output : str or Path
        Where the best weights are kept; ends in ``.safetensors``.
    start_from : str, default "sam2_micro"
        Name of a model, or path of weights.
    part : {"decoder", "adapters", "all"}
        What is changed. The more is changed, the more labels are needed.
    minutes : float, default 10
        The longest time that it may take; it ends earlier when the result no longer improves.
    overwrite : bool, default False
        Start a new run although the file, or an unfinished run for it, exists. Otherwise that run is resumed.
    linked : bool, default True
        A number means the same object on all frames, so that tracking is learned too.
    all_labelled : bool, default False
        What has no label is background, which then teaches what is no object: automatic masks need that. Leave it off
        if objects may have been left out.
    on_report, on_step, should_stop : callable, optional
        As for ``fine_tune``.

    Returns
    -------
    FineTuneResult
        The weights, and IoU on held-out objects before and after.

    Raises
    ------
    FrameError
        If the layers differ in shape, or nothing is labelled.
    TrainingError
        As for ``fine_tune``.
    PromptError
        If an argument is not of its type.
    """
    from napari_sam2._viewer.layer_frames import training_frames
    from napari_sam2.training import finetune

    images, drawn = training_frames(image, labels)
    return finetune.fine_tune(
        images,
        drawn,
        output,
        start_from=start_from,
        part=part,
        minutes=minutes,
        overwrite=overwrite,
        linked=linked,
        all_labelled=all_labelled,
        on_report=on_report,
        on_step=on_step,
        should_stop=should_stop,
    )

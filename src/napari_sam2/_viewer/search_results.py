"""Labels layers that automatic searches add, and which of them a new search replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap, label_colormap

from napari_sam2._viewer.labels_layer import is_used, object_colour
from napari_sam2._viewer.tasks import in_whole_image, in_whole_plane, parents_table
from napari_sam2.labels.storage import allocate_labels

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from napari.layers import Tracks as TracksLayer
    from numpy.typing import NDArray

    from napari_sam2._viewer.automatic_work import Tracked
    from napari_sam2._viewer.layer_frames import ShownImage
    from napari_sam2._viewer.region import Region
    from napari_sam2.labels.tracks import Tracks

__all__ = ["SearchResults"]

_SUFFIX = "everything"
_UNKNOWN = (0.7, 0.7, 0.7, 1.0)  # colour of labels that are no track


class _Result:
    """A layer that a search has added.

    Attributes
    ----------
    layer : napari.layers.Labels
        The layer.
    image : napari.layers.Image
        The image that was searched.
    region : Region or None
        The part that was searched.
    planes : set of int
        The planes with results.
    is_stack, is_complete : bool
        Whether the numbers hold for whole stacks, and whether the search reached its end.
    """

    def __init__(self, layer: Labels, image: Any, region: Region | None, *, is_stack: bool) -> None:
        self.layer, self.image, self.region, self.is_stack = layer, image, region, is_stack
        self.planes: set[int] = set()
        self.is_complete = True
        self._is_edited = False
        self._data: Any = layer.data
        for event in (layer.events.paint, layer.events.labels_update, layer.events.name):
            event.connect(self._on_edit)

    def _on_edit(self, _event: object = None) -> None:
        self._is_edited = True

    def is_of(self, image: Any, region: Region | None) -> bool:
        """Whether the same part of the same image was searched."""
        is_same = self.region is None if region is None else region.is_same_as(self.region)
        return is_same and self.image is image

    def is_untouched_in(self, viewer: ViewerModel) -> bool:
        """Whether the user has neither removed, renamed or edited the layer, nor started objects from it."""
        is_own = not self._is_edited and self.layer.data is self._data and not is_used(self.layer)
        return is_own and self.layer in viewer.layers

    def replace(self, labels: Any, planes: set[int], *, is_stack: bool, is_complete: bool) -> None:
        """Show other labels in the layer."""
        if labels is not self._data:
            self.layer.data = self._data = labels
        self.planes, self.is_stack, self.is_complete = planes, is_stack, is_complete


class SearchResults:
    """The layers that searches of one window have added.

    A search of the same part of an image shows its result in the layer of the one before, unless the user has edited,
    renamed or removed that layer, or started objects from it.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where layers are added.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._results: list[_Result] = []
        self._lineages: list[tuple[TracksLayer, Labels]] = []  # Tracks layers, and the Labels layers that they are of
        viewer.layers.events.removed.connect(self._on_removed)

    def _on_removed(self, _event: object = None) -> None:
        """Keep no data of layers that are gone."""
        layers = self._viewer.layers
        self._results = [each for each in self._results if each.layer in layers]
        self._lineages = [each for each in self._lineages if each[1] in layers]

    def _latest(self, image: Any, region: Region | None) -> list[_Result]:
        """Results that a search of this part may replace, the latest first."""
        return [
            each for each in reversed(self._results) if each.is_of(image, region) and each.is_untouched_in(self._viewer)
        ]

    def show_plane(
        self, image: Any, shown: ShownImage, plane: int, labels: NDArray[Any], region: Region | None
    ) -> Labels:
        """Show what was found on one plane.

        Parameters
        ----------
        image : napari.layers.Image
            The image that was searched.
        shown : ShownImage
            The same, opened.
        plane : int
            The plane; labels that were found on it before are replaced, those of other planes stay.
        labels : numpy.ndarray
            (H, W), or of the window of the region.
        region : Region or None
            The part that was searched; None is all of it.

        Returns
        -------
        napari.layers.Labels
            The layer.
        """
        geometry = shown.geometry
        found = next((each for each in self._latest(image, region) if not each.is_stack), None)
        if found is None or tuple(found.layer.data.shape) != geometry.shape:
            found = self._add(image, shown, allocate_labels(geometry.shape), region, is_stack=False)
        found.layer.data[geometry.index(plane)] = in_whole_plane(labels, region, geometry.hw)
        found.planes.add(plane)
        found.layer.refresh()
        return found.layer

    def show_stack(self, image: Any, shown: ShownImage, result: Tracked, region: Region | None) -> Labels:
        """Show what was found in a stack; a search that was stopped replaces no complete one.

        Parameters
        ----------
        image : napari.layers.Image
            The image that was searched.
        shown : ShownImage
            The same, opened.
        result : Tracked
            What was found.
        region : Region or None
            The part that was searched; None is all of it.

        Returns
        -------
        napari.layers.Labels
            The layer.
        """
        labels, planes = in_whole_image(result, region, shown.geometry), set(result.clip)
        for each in self._latest(image, region):
            is_partial = each.is_complete and not result.is_complete
            if each.planes <= planes and not is_partial:
                self._forget_lineage(each.layer)
                each.replace(labels, planes, is_stack=True, is_complete=result.is_complete)
                return each.layer
        found = self._add(image, shown, labels, region, is_stack=True)
        found.replace(labels, planes, is_stack=True, is_complete=result.is_complete)
        return found.layer

    def show_lineage(self, image: Any, shown: ShownImage, result: Tracked, tracks: Tracks, layer: Labels) -> None:
        """Show the lineage of a result in its Labels layer, and as a Tracks layer.

        Parameters
        ----------
        image : napari.layers.Image
            The image that was searched.
        shown : ShownImage
            The same, opened.
        result : Tracked
            The result.
        tracks : Tracks
            In pixels of the image; their frames are those of the result.
        layer : napari.layers.Labels
            The layer of the result. Its colours become those of the objects in the lineage, and its features have the
            parents.
        """
        geometry = shown.geometry
        self._forget_lineage(layer)
        colours: dict[int | None, Any] = {None: np.array(_UNKNOWN), 0: np.zeros(4)}
        layer.colormap = DirectLabelColormap(
            color_dict=colours | {object_id: object_colour(object_id) for object_id in tracks.spans()}
        )
        layer.features = parents_table(tracks)
        if len(tracks):
            planes = np.array([geometry.index(result.clip[frame]) for frame in tracks.frames])
            table = np.column_stack((tracks.ids, planes, tracks.centres))
            name = f"{image.name} lineage"
            added = self._viewer.add_tracks(table, graph=tracks.graph(), name=name, **shown.placement.arguments())
            self._lineages.append((added, layer))

    def _forget_lineage(self, layer: Labels) -> None:
        """Remove the Tracks layer of a result, and give its labels napari's colours again."""
        tracks = [of_lineage for of_lineage, of_labels in self._lineages if of_labels is layer]
        self._lineages = [each for each in self._lineages if each[1] is not layer]
        for each in tracks:
            if each in self._viewer.layers:
                self._viewer.layers.remove(each)
        if tracks:
            layer.colormap = label_colormap()
            layer.features = None

    def _add(self, image: Any, shown: ShownImage, labels: Any, region: Region | None, *, is_stack: bool) -> _Result:
        layer = self._viewer.add_labels(labels, name=f"{image.name} {_SUFFIX}", **shown.placement.arguments())
        found = _Result(layer, image, region, is_stack=is_stack)
        self._results.append(found)
        return found

"""A session in a viewer: three layers that follow it, and that it follows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import FrameError, NapariSAM2Error, PromptError
from napari_sam2._viewer.binding_prompts import BindingPrompts
from napari_sam2._viewer.image_source import describe_contrast, open_layers, placement_of
from napari_sam2._viewer.labels_layer import (
    mark_as_used,
)
from napari_sam2._viewer.layer_frames import LabelSeeds
from napari_sam2._viewer.layer_places import LayerMap
from napari_sam2._viewer.prompt_layers import read_prompt_layer
from napari_sam2.session.session import Session

if TYPE_CHECKING:
    from napari.layers import Labels, Points, Shapes

    from napari_sam2.session.calls.prompts import LabelPrompts

__all__ = ["LayerLabels", "ViewerBinding"]

# without units: napari 0.9.2 draws points nowhere after theirs were changed
_PLACEMENT = ("scale", "translate", "rotate", "shear", "affine", "axis_labels")


@dataclass(frozen=True, eq=False)
class LayerLabels:
    """The labels that a layer shows on one plane, before objects are started from them.

    Attributes
    ----------
    seeds : LabelSeeds
        The labels.
    label : int or None
        The only one that is wanted.
    plane : int
        Of the session.
    session : Session
        Where the objects will be.
    """

    seeds: LabelSeeds
    label: int | None
    plane: int
    session: Session

    def read(self) -> LabelPrompts:
        """The objects; changes nothing, and may run on any thread. Raises PromptError as ``start_from``."""
        found = self.seeds.read()[self.plane]
        if self.label is not None:
            if not (found == self.label).any():
                there = sorted(set(found[found > 0].tolist()))
                raise PromptError(f"{self.seeds.name} has no label {self.label} on this frame; it has {there}")
            found = np.where(found == self.label, found, 0)
        return self.session.label_prompts(found, frame=self.plane)


class ViewerBinding(BindingPrompts):
    """Keeps the layers of a viewer and a session in step.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Where the layers are.
    images : sequence of napari.layers.Image
        The image, and further channels.
    model, frame_axis
        As for ``Session``.
    deliver : callable, optional
        As for ``Session``.
    session : Session, optional
        One that exists already, such as a restored one.

    Attributes
    ----------
    current_changed : psygnal.Signal
        Emitted with the number of the current object, or None.
    tool_changed : psygnal.Signal
        Emitted with the tool that the viewer's active layer and its mode amount to, or None.
    notice : psygnal.Signal
        Emitted with a line for the user: a text and whether it is an error.
    """

    def _attach(self) -> None:
        self._add_layers()
        self._known_prompts = self.prompts.read(lambda _: None)
        self._connect()
        self._select_latest()
        self.restyle()

    def _select_latest(self) -> None:
        """Of a session that has objects already: go on with the one that was prompted last, where it was prompted."""
        prompts = self.session.store.prompts
        if prompts:
            object_id, plane = max(prompts, key=lambda key: prompts[key].stamp)
            self.select(object_id)
            self.go_to(plane)
        elif self.session.objects:
            self.select(self.session.objects[-1].object_id)

    def _connect(self) -> None:
        for layer in (self.points, self.shapes):
            self._on(layer.events.data, self._on_prompts)
            self._on(layer.events.features, self._on_features)
        for layer in self.layers:
            self._on(layer.events.mode, self._on_tool)
        self._on(self.viewer.layers.selection.events.active, self._on_tool)
        dims = self.viewer.dims.events
        for event in (dims.current_step, dims.ndisplay, dims.order, self.points.events.data):
            self._on(event, self._limit_sizes)
        self.shapes.mouse_move_callbacks.append(self._on_move)
        self._on(self.labels.events.paint, self._on_paint)
        self._on(self.labels.events.labels_update, self._on_labels_update)
        self._on(self.labels.events.selected_label, self._on_selected_label)
        self._on(self.viewer.layers.events.removed, self._on_layer_removed)
        for image in self.images:
            self._on(image.events.data, self._on_image_data)
        for name in _PLACEMENT:
            self._on(getattr(self.images[0].events, name), self._on_image_moved)
        self.session.changed.connect(self._on_session_changed)

    def _on(self, event: Any, slot: Callable[..., Any]) -> None:
        event.connect(slot)
        self._connections.append((event, slot))

    def close(self) -> None:
        """Let go of the viewer; layers and session stay."""
        for event, slot in self._connections:
            with contextlib.suppress(ValueError, RuntimeError):
                event.disconnect(slot)
        if self._connections:
            self.shapes.mouse_move_callbacks.remove(self._on_move)
        self._connections.clear()
        with contextlib.suppress(ValueError):
            self.session.changed.disconnect(self._on_session_changed)

    def other_layers(self) -> list[Any]:
        """Labels, Points and Shapes layers of the viewer other than the session's own: objects start from them."""
        kinds = ("Labels", "Points", "Shapes")
        return [layer for layer in self.viewer.layers if type(layer).__name__ in kinds and layer not in self.layers]

    def start_from(self, layer: Labels | Points | Shapes, *, label: int | None = None) -> list[int]:
        """Start objects from another layer, such as one that was read from a file; one ``undo`` takes all back.

        Parameters
        ----------
        layer : napari.layers.Labels, Points or Shapes
            Read through its transform and units: what is shown on a cell starts that cell. Of labels the plane shown
            counts, and numbers are kept. Points and shapes: rows with the same ``object_id`` in their features are one
            object, and without that feature each row is one. ``kind`` "negative" in the features is background.
        label : int, optional
            Of labels only this one. Default: all on the plane.

        Returns
        -------
        list of int
            The objects, ascending.

        Raises
        ------
        PromptError
            If nothing is in the layer, a label is above 2**31 - 1, a row lies outside the image or has no number for
            its object, or an object is locked there; then nothing changes.
        """
        if type(layer).__name__ == "Labels":
            found = self.layer_labels(layer, label).read()
            for _ in self.session.adding_labels(found, seconds=math.inf):
                pass
            ids = found.object_ids
        else:
            first = max((o.object_id for o in self.session.objects), default=0) + 1
            to_image = LayerMap.between(layer, self.labels, self.viewer)
            found_prompts = read_prompt_layer(layer, self.geometry, first_id=first, to_image=to_image)
            self.session.set_prompts(found_prompts)
            ids = sorted({object_id for object_id, _ in found_prompts})
        self.select(ids[0])
        return ids

    def layer_labels(self, layer: Labels, label: int | None = None) -> LayerLabels:
        """The labels of a layer on the plane shown, or one of them; to be read on any thread."""
        plane = self.current_plane
        mark_as_used(layer)
        seeds = LabelSeeds.of(layer, self.geometry, plane, image=self.labels, viewer=self.viewer)
        return LayerLabels(seeds, label, plane, self.session)

    def _on_image_data(self, _event: Any = None) -> None:
        self.use_current_contrast(because="the image's data was replaced")

    def _on_image_moved(self, _event: Any = None) -> None:
        """The layers of the session stay on their image."""
        placement = placement_of(self.images[0], self.level).arguments()
        with self._syncing():
            for layer in self.layers:
                for name in _PLACEMENT:
                    setattr(layer, name, placement[name])
        self._limit_sizes()

    def use_current_contrast(self, *, because: str = "contrast as displayed now") -> bool:
        """Show the model the image as it is displayed now; whether that was possible."""
        try:
            planes, level = open_layers(self.images, frame_axis=self.geometry.frame_axis, level=self.level)
            if planes.geometry != self.geometry:
                raise FrameError(
                    f"{because}, and its shape {planes.geometry.shape} is not the session's {self.geometry.shape}; "
                    "start a new session on it; the labels made so far stay"
                )
            self.session.cancel()
            self.session.set_frames(planes)
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            return False
        self.level = level
        self.contrast = describe_contrast(planes)
        self.notice.emit(f"{because}: the model sees {self.contrast}", False)
        return True

    @property
    def full_hw(self) -> tuple[int, int] | None:
        """Height and width of the finest level, where the session is on a coarser one; else None."""
        if not self.level:
            return None
        height, width = self.images[0].data[0].shape[self.geometry.ndim - 2 : self.geometry.ndim]
        return int(height), int(width)

    def _on_layer_removed(self, event: Any) -> None:
        removed = event.value
        if not self._connections:  # closed, by whoever heard of it first
            return
        if removed == self.labels:
            self.session.cancel()
            self.notice.emit(
                "the labels layer was removed; its labels stay in the session (Show the layers again)", True
            )
        elif any(removed == image for image in self.images):
            self.notice.emit(f"{removed.name} was removed; the session keeps its data until it is closed", True)
        elif removed in (self.points, self.shapes):
            self.notice.emit(
                f"{removed.name} was removed; its prompts stay in the session (Show the layers again)", True
            )

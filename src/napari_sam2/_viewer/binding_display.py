"""Show a session in the layers of a viewer: labels, prompts and their colours."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._types import Prompt, is_same
from napari_sam2._viewer.binding_base import BindingBase
from napari_sam2._viewer.image_source import placement_of
from napari_sam2._viewer.labels_layer import (
    label_colours,
    label_levels,
    object_colour,
)
from napari_sam2._viewer.point_sizes import limit_sizes
from napari_sam2._viewer.prompt_layers import NEGATIVE, POSITIVE, PromptKey, PromptLayers
from napari_sam2._viewer.writers import LIVE_SESSION_KEY
from napari_sam2.session.state.store import StoreDelta

if TYPE_CHECKING:
    from napari.layers import Labels


__all__ = ["BindingDisplay"]

_BACKGROUND_SYMBOL = "x"  # napari's "cross" is a plus
_OUTLINE_PX = 2


class BindingDisplay(BindingBase):
    """The part of a ``ViewerBinding`` that writes to the layers."""

    def _add_layers(self) -> None:
        image = self.images[0]
        placement = placement_of(image, self.level).arguments()
        placement["metadata"] = {LIVE_SESSION_KEY: weakref.ref(self.session)}
        ndim = self.geometry.ndim
        self._colours = self._colours_shown()
        levels = label_levels(self.session.labels)
        self._pyramid = levels if len(levels) > 1 else None
        self.labels: Labels = self.viewer.add_labels(
            levels[0] if self._pyramid is None else levels,
            multiscale=self._pyramid is not None,
            name=f"{image.name} objects",
            opacity=0.8,
            # not later: another colormap has napari read the plane again, which takes long where that is large
            colormap=label_colours(self.session.objects, self._current, by_class=False),
            **placement,
        )
        features = {"object_id": np.zeros(0, int), "kind": np.zeros(0, object)}
        common = {"features": features, "feature_defaults": {"object_id": 1, "kind": POSITIVE}, **placement}
        self.shapes = self.viewer.add_shapes(
            None, ndim=ndim, name=f"{image.name} shapes", face_color="transparent", edge_width=1, **common
        )
        self.points = self.viewer.add_points(
            np.zeros((0, ndim)), ndim=ndim, name=f"{image.name} points", size=6, border_color="white", **common
        )
        self.prompts = PromptLayers(self.points, self.shapes, self.geometry)
        with self._syncing():
            self.prompts.add({key: entry.prompt for key, entry in self.session.store.prompts.items()})
        self._limit_sizes()

    def _limit_sizes(self, _event: Any = None) -> None:
        position = self.points.world_to_data(self._in_layer_units(self.viewer.dims.point))
        limit_sizes(self.viewer, self.points, position)

    @property
    def current(self) -> int | None:
        """The object that new prompts are about; None before the first."""
        return self._current

    def select(self, object_id: int | None) -> None:
        """Make an object the current one."""
        if object_id == self._current:
            return
        self._current = object_id
        with self._syncing():
            if object_id is not None:
                self.labels.selected_label = object_id
        self.restyle()
        self.current_changed.emit(object_id)

    @property
    def is_positive(self) -> bool:
        """Whether the next prompt is object, and not background."""
        return self._is_positive

    @property
    def is_coloured_by_class(self) -> bool:
        """Whether objects have the colours of their classes."""
        return self._is_coloured_by_class

    def colour_by_class(self, is_on: bool) -> None:
        """Show objects in the colours of their classes, or in their own."""
        self._is_coloured_by_class = is_on
        self.restyle()

    @property
    def shows_outlines(self) -> bool:
        """Whether masks are shown as outlines."""
        return bool(self.labels.contour)

    def show_outlines(self, is_on: bool) -> None:
        """Show masks as outlines, or filled."""
        self.labels.contour = _OUTLINE_PX if is_on else 0

    def _on_session_changed(self, delta: StoreDelta) -> None:
        colours = self._colours
        edits = [e for e in delta.edits if e.table == "prompts"]
        # Not where an answer came: without a window that is the compute thread, and the layers may hold a click
        # whose event has not been handled yet.
        keys: set[Any] = set()
        if not self._is_syncing:
            keys = {e.key for e in edits if _prompt_of(e.before) is not _prompt_of(e.after)}
        has_objects = any(e.table == "objects" for e in delta.edits)
        if keys or has_objects:
            with self._restyling_once():
                self._show_prompts(keys)
                if has_objects:
                    self._follow_objects()
        if self.current_plane in delta.boxes and colours == self._colours:  # new colours draw the layer already
            self._refresh()

    def _show_prompts(self, keys: set[PromptKey]) -> None:
        if not keys:
            return
        shown = self.prompts.read(lambda _: None)
        changed: dict[PromptKey, Prompt | None] = {}
        for key in keys:
            entry = self.session.store.prompts.get(key)
            wanted = None if entry is None else entry.prompt
            there = shown.get(key)
            if wanted is not None and there is not None and is_same(wanted, there) and wanted.drawn == there.drawn:
                continue
            if entry is not None and entry.is_mask_only and there is None and not entry.prompt.drawn:
                continue  # painted, or from a label: nothing is drawn
            changed[key] = wanted
        if changed:
            with self._syncing():
                self.prompts.write(changed)
        self._known_prompts = self.prompts.read(lambda _: None)

    def _follow_objects(self) -> None:
        ids = [o.object_id for o in self.session.objects]
        if self._current is not None and self._current not in ids:
            self.select(ids[-1] if ids else None)

    def _refresh(self) -> None:
        with self._syncing():
            if self._pyramid is not None and not isinstance(self._pyramid[-1], np.ndarray):
                self.labels.data = self._pyramid  # else napari shows the copy that it keeps of the coarsest level
            else:
                self.labels.refresh()

    def restyle(self) -> None:
        """Colours of objects and prompts, and the label of the next click; only what differs is set, as each change has
        napari draw the layer again.
        """
        if self._is_restyling_later:
            return
        target = self._current or 1
        kind = POSITIVE if self._is_positive else NEGATIVE
        colours = self._colours_shown()
        with self._syncing():
            if colours != self._colours:
                self._colours = colours
                self.labels.colormap = label_colours(
                    self.session.objects, self._current, by_class=self._is_coloured_by_class
                )
            defaults = {"object_id": target, "kind": kind}
            is_new = (target, kind) != self._next_style
            self._next_style = (target, kind)
            for layer in (self.points, self.shapes):
                if is_new or dict(layer.feature_defaults.iloc[0]) != defaults:
                    layer.feature_defaults = defaults
            if is_new:
                self._drop_stale_selection()
                # before the rows: napari styles the selected rows with these too
                self.points.current_face_color = object_colour(target)
                self.points.current_symbol = "disc" if self._is_positive else _BACKGROUND_SYMBOL
                self.shapes.current_edge_color = object_colour(target)
            self._restyle_rows()

    @contextlib.contextmanager
    def _restyling_once(self) -> Iterator[None]:
        """Several changes with one `restyle` at the end: each has napari colour all labels of the plane again."""
        try:
            with self.restyling_later():
                yield
        finally:
            self.restyle()

    @contextlib.contextmanager
    def restyling_later(self) -> Iterator[None]:
        """Changes whose colours are shown by ``restyle``, such as with the next event of a window."""
        before, self._is_restyling_later = self._is_restyling_later, True
        try:
            yield
        finally:
            self._is_restyling_later = before

    def _drop_stale_selection(self) -> None:
        """Where the data of the points was replaced by fewer, napari keeps rows selected that are gone, and fails."""
        selected = {int(row) for row in self.points.selected_data}
        if any(row >= len(self.points.data) for row in selected):
            self.points.selected_data = {row for row in selected if row < len(self.points.data)}

    def _colours_shown(self) -> tuple[object, ...]:
        """What the colours of the labels depend on."""
        shown = tuple((o.object_id, o.is_visible, o.class_name) for o in self.session.objects)
        return self._current, self._is_coloured_by_class, shown

    def _restyle_rows(self) -> None:
        """Colours and symbols of the prompts; those of hidden objects are hidden."""
        hidden = {each.object_id for each in self.session.objects if not each.is_visible}
        if len(self.points.data):
            features = self.points.features
            is_shown = ~features["object_id"].isin(hidden).to_numpy(bool)
            if not np.array_equal(self.points.shown, is_shown):
                self.points.shown = is_shown
            faces = np.stack([object_colour(int(i)) for i in features["object_id"]])
            symbols = ["disc" if k == POSITIVE else _BACKGROUND_SYMBOL for k in features["kind"]]
            if not _is_equal(self.points.face_color, faces):
                self.points.face_color = faces
            if [str(s) for s in self.points.symbol] != symbols:
                self.points.symbol = symbols
        if len(self.shapes.data):
            ids = self.shapes.features["object_id"]
            edges = np.stack([object_colour(int(i)) for i in ids])
            edges[ids.isin(hidden).to_numpy(bool), -1] = 0
            if not _is_equal(self.shapes.edge_color, edges):
                self.shapes.edge_color = edges


def _prompt_of(entry: object) -> object:
    return getattr(entry, "prompt", None)


def _is_equal(shown: Any, wanted: Any) -> bool:
    return np.shape(shown) == np.shape(wanted) and bool(np.allclose(shown, wanted, atol=1e-3))

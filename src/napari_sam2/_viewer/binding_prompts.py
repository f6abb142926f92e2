"""Take what is drawn and painted in the layers of a viewer as prompts of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._errors import NapariSAM2Error, PromptError
from napari_sam2._types import Prompt, is_same
from napari_sam2._viewer.binding_tools import BindingTools
from napari_sam2._viewer.labels_layer import (
    painted_planes,
)
from napari_sam2._viewer.prompt_layers import PromptKey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._packed_mask import PackedImage

__all__ = ["BindingPrompts"]

_COVERED = 0.5  # share of a box or lasso from which on it lies on another object


class BindingPrompts(BindingTools):
    """The part of a ``ViewerBinding`` that reads the layers."""

    def _on_prompts(self, event: Any) -> None:
        action = str(getattr(getattr(event, "action", None), "value", getattr(event, "action", "")))
        is_dropped = False
        if event.source == self.shapes and action in ("added", "removed", "changed"):
            is_dropped = action == "added" and not self.prompts.strokes.is_drawing
            with self._syncing():
                self.prompts.strokes.settle()
        if self._is_syncing or action not in ("added", "removed", "changed"):
            return
        if is_dropped:  # napari tells of a line that was too short as if it were there: the last row is another one
            if self._is_splitting:
                self._end_splitting()
                self.notice.emit("no line was drawn, so nothing was split", False)
            return
        if action == "added":
            if self.viewer.dims.ndisplay == 3 or not self.fits_image():
                self._refuse_rows(event)
                return
            if self._is_splitting and event.source == self.shapes:
                self._split()
                return
            if (
                self._drop_slips(event)
                or self._drop_rows_outside(event)
                or (event.source == self.shapes and self._draw_areas(event))
            ):
                return
        self._take_prompts()

    def _on_features(self, _event: Any = None) -> None:
        if not self._is_syncing:
            self._take_prompts()

    def _refuse_rows(self, event: Any) -> None:
        """Take away what was drawn in the 3D display, where a click has no slice, or on data of another shape."""
        layer = self.points if event.source == self.points else self.shapes
        with self._syncing():
            self.prompts.remove_rows(layer, {int(row) % len(layer.data) for row in event.data_indices})
        if self.viewer.dims.ndisplay == 3:
            self._refuse_in_3d()
            return
        self.notice.emit(
            f"the data of {self.images[0].name} was replaced by data of another shape; start a new session to continue",
            True,
        )

    def _draw_areas(self, event: Any) -> bool:
        """An outline stands for the whole mask of its slice, and an area of background is taken away from the mask.

        Returns whether nothing else was drawn.
        """
        count = len(self.shapes.data)
        rows = sorted({int(row) % count for row in event.data_indices}) if count else []
        outlined: set[PromptKey] = set()
        background: dict[int, tuple[PromptKey, PackedImage]] = {}
        for row in rows:
            found = self.prompts.area_of(row)
            if found is not None and self.prompts.is_background(row):
                background[row] = found
            elif found is not None and found[1].mask.area and str(self.shapes.shape_type[row]) != "rectangle":
                outlined.add(found[0])
        with self._syncing():
            self.prompts.remove_rows(self.shapes, background)
            replaced = {key: self.prompts.remove_others(key) for key in outlined}
        if outlined:
            self._take_prompts()
        for (object_id, _), number in replaced.items():
            each = self.session.store.objects.get(object_id)
            if number and each is not None:
                what = f"the {number} other prompts" if number > 1 else "the other prompt"
                self.notice.emit(f"the outline replaces {what} of {each.name} on this {self.plane_word}", False)
        for key, area in background.values():
            self._take_away(key, area)
        return len(background) == len(rows)

    def _take_away(self, key: PromptKey, area: PackedImage) -> None:
        """Erase the inside of what was drawn as background from an object, as the brush does."""
        object_id, plane = key
        each = self.session.store.objects.get(object_id)
        before = self.session.labels[self.geometry.index(plane)] == object_id
        inside = area.to_array()
        if each is None or not (before & inside).any():
            name = "the object" if each is None else each.name
            self.notice.emit(
                f"the area does not touch {name}; to draw the object, switch to object (N) and draw again", False
            )
            return
        try:
            self.session.paint(plane, {object_id: before & ~inside})
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            return
        if plane not in each.locked:  # else the session says so
            self.notice.emit(f"the area was taken away from {each.name} on this {self.plane_word}", False)

    def _drop_rows_outside(self, event: Any) -> bool:
        """Take away what was drawn outside the image, or on a slice that it does not have; whether anything was."""
        layer = self.points if event.source == self.points else self.shapes
        wrong: dict[int, PromptError] = {}
        for row in {int(row) % len(layer.data) for row in event.data_indices} if len(layer.data) else ():
            try:
                self.prompts.locate(layer.data[row])
            except PromptError as error:
                wrong[row] = error
        if not wrong:
            return False
        first = next(iter(wrong))
        beyond = self._axis_beyond(layer.data[first])
        with self._syncing():
            self.prompts.remove_rows(layer, wrong)
        self.notice.emit(beyond or self.in_words(wrong[first]), True)
        if len(wrong) < len(event.data_indices):
            self._take_prompts()
        return True

    def _axis_beyond(self, points: NDArray[np.float64]) -> str:
        """Where a prompt lies beyond the slices of the image, in words; empty if it does not."""
        for axis, place in enumerate(np.rint(np.atleast_2d(points)[0][: self.geometry.ndim - 2]).astype(int)):
            last = self.geometry.shape[axis] - 1
            if not 0 <= place <= last:
                name = str(self.images[0].axis_labels[axis])
                name = f"axis {axis}" if name.lstrip("-").isdigit() else name
                if axis == self.geometry.frame_axis:
                    name = self.plane_word
                allowed = f"{self.images[0].name} has {name} 0 to {last}"
                return f"{allowed}, but {place} is shown; move the slider into this range first"
        return ""

    def _drop_slips(self, event: Any) -> bool:
        """Take away rectangles that are too small to be meant as boxes; whether there were any.

        The rows of the event then name other shapes.
        """
        if event.source != self.shapes:
            return False
        rows = {
            row
            for row, (corners, kind) in enumerate(zip(self.shapes.data, self.shapes.shape_type, strict=True))
            if kind == "rectangle" and np.ptp(np.asarray(corners)[:, -2:], axis=0).min() < 2
        }
        if rows:
            with self._syncing():
                self.prompts.remove_rows(self.shapes, rows)
            self.notice.emit("that box was smaller than 2 pixels and is ignored; drag to draw one", False)
            self._take_prompts()
        return bool(rows)

    def _take_prompts(self) -> None:
        """Give the session what changed in the layers since the last call."""
        problems: list[PromptError] = []
        now = self.prompts.read(problems.append)
        # an invalid row may stay in its layer: it is reported once, and not with every later prompt
        reported, self._reported = self._reported, {self.in_words(problem) for problem in problems}
        for text in sorted(self._reported - reported)[:1]:
            self.notice.emit(text, True)
        before, self._known_prompts = self._known_prompts, now
        for key in {*before, *now}:
            old, new = before.get(key), now.get(key)
            if old is not None and new is not None and is_same(old, new) and old.drawn == new.drawn:
                continue
            self._update_session(key, old, new)
        self.restyle()

    def _update_session(self, key: PromptKey, old: Prompt | None, new: Prompt | None) -> None:
        object_id, plane = key
        other = None if new is None else self._object_under(key, old, new)
        try:
            if new is not None or (object_id, plane) in self.session.store.prompts:
                with self._restyling_once():
                    with self._syncing():
                        self.session.set_prompt(plane, new, object_id=object_id, block=False)
                    if new is not None:
                        self.select(object_id)
                if other is not None:
                    names = [self.session.store.objects[i].name for i in (other, object_id)]
                    self.notice.emit(
                        f"this prompt lies on {names[0]} and was added to {names[1]}; to correct {names[0]}, undo "
                        "(Ctrl-Z) and select it first",
                        False,
                    )
                self._explain_background(key, new)
        except NapariSAM2Error as error:
            self.notice.emit(self.in_words(error), True)
            with self._syncing():
                self.prompts.write({key: old})
            self._known_prompts = self.prompts.read(lambda _: None)

    def _explain_background(self, key: PromptKey, prompt: Prompt | None) -> None:
        """Say that clicks on background alone do not show where an object is."""
        if prompt is None or prompt.box is not None or prompt.has_mask or (prompt.labels == 1).any():
            return
        mask = self.session.store.masks.get(key)
        if mask is None or not mask.area:
            name = self.session.store.objects[key[0]].name
            text = f"background alone does not show where {name} is: switch to object (N) and click on it"
            self.notice.emit(text, False)

    def _object_under(self, key: PromptKey, old: Prompt | None, new: Prompt) -> int | None:
        """Another object that the part of a prompt that is new lies on."""
        object_id, plane = key
        found = np.asarray(self.session.labels[self.geometry.index(plane)])
        h, w = found.shape
        before = set() if old is None else {tuple(xy) for xy in old.points.tolist()}
        values: list[int] = [
            int(found[min(max(round(y), 0), h - 1), min(max(round(x), 0), w - 1)])
            for (x, y), kind in zip(new.points.tolist(), new.labels, strict=True)
            if kind == 1 and (x, y) not in before
        ]
        drawn = None
        if new.packed_mask is not None and (old is None or old.packed_mask != new.packed_mask):
            drawn = found[new.packed_mask.to_array()]
        elif new.box is not None and (old is None or old.box is None or not np.array_equal(old.box, new.box)):
            x0, y0, x1, y1 = (max(0, round(float(v))) for v in new.box)
            drawn = found[y0 : y1 + 1, x0 : x1 + 1].ravel()
        if drawn is not None and drawn.size:
            counts = np.bincount(drawn[drawn > 0], minlength=1)
            if counts.max() > _COVERED * drawn.size:
                values.append(int(counts.argmax()))
        return next((i for i in values if i not in (0, object_id) and i in self.session.store.objects), None)

    def _on_paint(self, event: Any) -> None:
        if self._is_syncing:
            return
        # napari emits `paint` after a stroke is written, but just before `data_setitem` writes: see `_on_labels_update`
        self._painted |= painted_planes(event, self.geometry, self.current_plane)
        self._adopt_painting()

    def _on_labels_update(self, _event: Any = None) -> None:
        if self._painted and not self._is_syncing:
            self._adopt_painting()

    def _adopt_painting(self) -> None:
        painted = sorted(self._painted)
        try:
            touched = self.session.adopt_painting(painted)
        except NapariSAM2Error as error:
            # forgotten, or each later update of the layer would report it again
            self._painted.clear()
            self.notice.emit(self.in_words(error), True)
            return
        if touched:
            self._painted.clear()
            self.notice.emit(f"the painting is a correction of object {touched[0]}", False)

    def _on_selected_label(self, _event: Any = None) -> None:
        number = int(self.labels.selected_label)
        if not self._is_syncing and number in self.session.store.objects:
            self.select(number)

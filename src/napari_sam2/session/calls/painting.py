"""The calls of a session that set pixels: painted masks become prompts, and locked objects are restored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import as_mask, check_object_id
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._packed_mask import PackedImage
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.prompt_edits import painting_edits
from napari_sam2.session.state.store import StoreDelta

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PaintingCalls"]


@checked_calls(PromptError)
class PaintingCalls(SessionBase):
    """The calls of a session that set pixels of its labels."""

    def adopt_painting(self, frames: Iterable[int]) -> list[int]:
        """Take pixels painted into ``labels`` as corrections: each object that changed gets a mask prompt.

        Parameters
        ----------
        frames : iterable of int
            Planes that were painted on.

        Returns
        -------
        list of int
            The objects that changed.

        Raises
        ------
        PromptError
            If there is no such plane.
        """
        touched: list[int] = []
        if not isinstance(frames, Iterable):
            raise PromptError(f"frames={shown(frames)} was given; expected a list of frames, such as [3]")
        for plane in [self.geometry.check_plane(frame) for frame in frames]:
            self._prompt_queue.wait_for_plane(plane)
            painted, known = self._painted(plane)
            differs = painted != known
            if not differs.any():
                continue
            ids = {int(i) for i in np.unique(np.concatenate((painted[differs], known[differs]))) if i > 0}
            with self._changing():
                edits: list[Edit] = []
                masks = {i: PackedImage.pack(painted == i) for i in sorted(ids)}
                for i, mask in masks.items():
                    edits += painting_edits(self.store, i, plane, mask, stamp=self._state.next_stamp())
                arguments: dict[str, object] = {"frame": plane, "masks": masks}
                self._state.push("paint", "paint", arguments, edits)
            touched += sorted(ids)
        return touched

    def paint(self, frame: int, masks: Mapping[int, ArrayLike]) -> None:
        """Set the pixels of objects on a plane as painting does, overwriting other objects.

        Parameters
        ----------
        frame : int
            Plane.
        masks : mapping of int to (H, W) array-like
            Object -> its pixels, perhaps none. Numbers that are not in use create objects.

        Raises
        ------
        PromptError
            If a mask has another shape than the plane, or a number is no object number.
        """
        plane = self.geometry.check_plane(frame)
        if not isinstance(masks, Mapping):
            raise PromptError(f"{type(masks).__name__} was given; expected a dictionary of masks by object")
        checked = {check_object_id(i): as_mask(mask, f"the mask of object {i}") for i, mask in masks.items()}
        for i, mask in checked.items():
            if mask.shape != self.geometry.hw:
                raise PromptError(
                    f"a mask of shape {mask.shape} was given for object {i}; expected masks of shape {self.geometry.hw}"
                )
        self._prompt_queue.wait_for_plane(plane)
        image = self.store.composed(plane)
        image[np.isin(image, list(checked))] = 0
        for i, mask in checked.items():
            image[mask] = i
        self.store.labels[self.geometry.index(plane)] = image
        self.adopt_painting([plane])

    def _painted(self, plane: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(H, W) labels as painted and as known; pixels painted over locked objects are restored."""
        painted, known = self.store.plane_labels(plane), self.store.composed(plane)
        locked = [i for i, o in self.store.objects.items() if plane in o.locked]
        wrong = (painted != known) & (np.isin(painted, locked) | np.isin(known, locked))
        if wrong.any():
            allowed = np.where(wrong, known, painted)
            self.store.labels[self.geometry.index(plane)] = allowed
            rows, columns = np.flatnonzero(wrong.any(1)), np.flatnonzero(wrong.any(0))
            box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
            self.changed.emit(StoreDelta((), {plane: box}))
            names = ", ".join(self.store.objects[i].name for i in locked)
            self.failed.emit(PromptError(f"{names} is locked on frame {plane}; unlock it there to paint on it"))
            painted = allowed
        return painted, known

"""What can be said about objects as such: that there is one, its name, whether it shows, and where it is verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.state.history import Edit

__all__ = ["ObjectCalls"]


class ObjectCalls(SessionBase):
    """The calls of a session that make, change and remove objects."""

    def new_object(self, name: str | None = None, *, object_id: int | None = None) -> int:
        """Make an object without any prompt yet.

        Parameters
        ----------
        name : str, optional
            Default: "object" and its number.
        object_id : int, optional
            Its value in the labels, at least 1. Default: the lowest above all others.

        Returns
        -------
        int
            The object.

        Raises
        ------
        PromptError
            If the number is taken or below 1.
        """
        with self._changing():
            made = self.store.make_object(name, object_id)
            arguments: dict[str, object] = {"name": name, "object_id": made.object_id}
            edits = [Edit("objects", made.object_id, None, made)]
            self._state.push(f"new {made.name}", "new_object", arguments, edits)
            return made.object_id

    def remove_object(self, object_id: int) -> None:
        """Take an object away with its prompts and masks; ``undo`` brings it back."""
        with self._changing():
            found = self.store.object(object_id)
            edits = [
                *(Edit("masks", (object_id, p), self.store.masks[object_id, p], None)
                  for p in self.store.planes_of(object_id)),
                *(Edit("prompts", (object_id, p), e, None) for p, e in self.store.prompts_of(object_id).items()),
                Edit("objects", object_id, found, None, position=list(self.store.objects).index(object_id)),
            ]  # fmt: skip
            self._state.push(f"remove {found.name}", "remove_object", {"object_id": object_id}, edits)

    def rename(self, object_id: int, name: str) -> None:
        """Give an object another name."""
        self._change_object(object_id, "rename", {"name": str(name)}, name=str(name))

    def set_visible(self, object_id: int, is_visible: bool) -> None:
        """Show or hide an object in viewers; its labels stay."""
        self._change_object(object_id, "set_visible", {"is_visible": bool(is_visible)}, is_visible=bool(is_visible))

    def lock(self, object_id: int, frames: int | Iterable[int] | None = None) -> None:
        """Verify an object on some planes: nothing changes there any more until ``unlock``.

        Parameters
        ----------
        object_id : int
            Which.
        frames : int or iterable of int, optional
            Planes; default: all where it has a mask.
        """
        planes = self._planes(object_id, frames)
        if self._propagator.is_ahead(object_id, planes):
            self._propagator.stop()
        locked = self.store.object(object_id).locked | planes
        self._change_object(object_id, "lock", {"frames": sorted(planes)}, locked=locked)

    def unlock(self, object_id: int, frames: int | Iterable[int] | None = None) -> None:
        """Allow changes again; default: on all planes."""
        found = self.store.object(object_id)
        planes = found.locked if frames is None else self._planes(object_id, frames)
        self._change_object(object_id, "unlock", {"frames": sorted(planes)}, locked=found.locked - planes)

    def _planes(self, object_id: int, frames: int | Iterable[int] | None) -> frozenset[int]:
        self.store.object(object_id)
        if frames is None:
            return frozenset(self.store.planes_of(object_id))
        planes = frozenset({int(frames)} if isinstance(frames, (int, np.integer)) else (int(f) for f in frames))
        for plane in planes:
            self.geometry.check_plane(plane)
        return planes

    def _change_object(self, object_id: int, method: str, arguments: dict[str, object], **fields: Any) -> None:
        with self._state.lock:
            found = self.store.object(object_id)
            after = replace(found, **fields)
            if after != found:
                edits = [Edit("objects", object_id, found, after)]
                self._state.push(f"{method} {found.name}", method, {"object_id": object_id, **arguments}, edits)

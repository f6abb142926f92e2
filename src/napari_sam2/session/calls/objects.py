"""The calls of a session that create, rename, classify, show, lock and remove objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import check_name
from napari_sam2._errors import PromptError
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.state.history import Edit

__all__ = ["ObjectCalls"]

_TITLES = {"set_class": "class of", "set_visible": "show or hide"}  # of changes; those of others are their names


@checked_calls(PromptError)
class ObjectCalls(SessionBase):
    """The calls of a session that create, rename, show, lock and remove objects."""

    def new_object(self, name: str | None = None, *, object_id: int | None = None) -> int:
        """Create an object without a prompt.

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
        self._check_open()
        with self._state.lock:  # a propagation goes on: it has no part in it
            made = self.store.make_object(name, object_id)
            arguments: dict[str, object] = {"name": name, "object_id": made.object_id}
            edits = [Edit("objects", made.object_id, None, made)]
            self._state.push(f"new {made.name}", "new_object", arguments, edits)
            return made.object_id

    def remove_object(self, object_id: int) -> None:
        """Remove an object with its prompts and masks, its daughters losing their parent; ``undo`` restores it.

        Raises
        ------
        PromptError
            If there is no such object.
        """
        with self._changing():
            found = self.store.object(object_id)
            edits = [
                *(Edit("masks", (object_id, p), self.store.masks[object_id, p], None)
                  for p in self.store.planes_of(object_id)),
                *(Edit("prompts", (object_id, p), e, None) for p, e in self.store.prompts_of(object_id).items()),
                *(Edit("objects", i, d, replace(d, parent=None, born=None))
                  for i, d in self.store.objects.items() if d.parent == object_id),
                Edit("objects", object_id, found, None, position=list(self.store.objects).index(object_id)),
            ]  # fmt: skip
            self._state.push(f"remove {found.name}", "remove_object", {"object_id": object_id}, edits)

    def rename(self, object_id: int, name: str) -> None:
        """Rename an object.

        Raises
        ------
        PromptError
            If there is no such object, or the name holds a character that cannot be saved.
        """
        checked = check_name(name)
        self._change_object(object_id, "rename", {"name": checked}, name=checked)

    def set_class(self, object_id: int, class_name: str) -> None:
        """Put an object into a class, such as "cell" or "debris"; an empty text takes it out again.

        Parameters
        ----------
        object_id : int
            Which object.
        class_name : str
            Of any length; exported with the objects.

        Raises
        ------
        PromptError
            If there is no such object, or the class holds a character that cannot be saved.
        """
        checked = check_name(class_name).strip()
        self._change_object(object_id, "set_class", {"class_name": checked}, class_name=checked)

    def set_visible(self, object_id: int, is_visible: bool) -> None:
        """Show or hide an object in viewers; its labels are kept.

        Raises
        ------
        PromptError
            If there is no such object.
        """
        self._change_object(object_id, "set_visible", {"is_visible": is_visible}, is_visible=is_visible)

    def show_only(self, object_id: int | None) -> None:
        """Hide all objects but one in viewers, as one step that can be undone; labels are kept.

        Parameters
        ----------
        object_id : int or None
            The object that is shown; None shows all.

        Raises
        ------
        PromptError
            If there is no such object.
        """
        self._check_open()
        with self._state.lock:
            name = "all objects" if object_id is None else f"only {self.store.object(object_id).name}"
            changes = [
                (each, replace(each, is_visible=object_id in (None, each.object_id)))
                for each in self.store.objects.values()
            ]
            edits = [Edit("objects", before.object_id, before, after) for before, after in changes if before != after]
            if edits:
                self._state.push(f"show {name}", "show_only", {"object_id": object_id}, edits)

    def lock(self, object_id: int, frames: int | Iterable[int] | None = None) -> None:
        """Lock an object on some planes, as verified: nothing changes there until ``unlock``.

        Parameters
        ----------
        object_id : int
            Which.
        frames : int or iterable of int, optional
            Planes; default: all where it has a mask.

        Raises
        ------
        PromptError
            If there is no such object or plane.
        """
        planes = self._planes(object_id, frames)
        if self._propagator.is_ahead(object_id, planes):
            self._propagator.stop()
        locked = self.store.object(object_id).locked | planes
        self._change_object(object_id, "lock", {"frames": sorted(planes)}, locked=locked)

    def unlock(self, object_id: int, frames: int | Iterable[int] | None = None) -> None:
        """Allow changes again; default: on all planes.

        Raises
        ------
        PromptError
            If there is no such object or plane.
        """
        found = self.store.object(object_id)
        planes = found.locked if frames is None else self._planes(object_id, frames)
        self._change_object(object_id, "unlock", {"frames": sorted(planes)}, locked=found.locked - planes)

    def _planes(self, object_id: int, frames: int | Iterable[int] | None) -> frozenset[int]:
        self.store.object(object_id)
        if frames is None:
            return frozenset(self.store.planes_of(object_id))
        given = frames if isinstance(frames, Iterable) else [frames]
        return frozenset(self.geometry.check_plane(plane) for plane in given)

    def _change_object(self, object_id: int, method: str, arguments: dict[str, object], **fields: Any) -> None:
        self._check_open()
        with self._state.lock:
            found = self.store.object(object_id)
            after = replace(found, **fields)
            if after != found:
                edits = [Edit("objects", object_id, found, after)]
                title = f"{_TITLES.get(method, method)} {found.name}"
                self._state.push(title, method, {"object_id": object_id, **arguments}, edits)

"""The calls of a session that say which object descends from which, and that cut, join and exchange tracks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import as_mask, check_ids, check_object_id
from napari_sam2._errors import PromptError
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.state.lineage_edits import Draft, two_pieces
from napari_sam2.session.state.prompt_edits import painting_edits

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LineageCalls"]


@checked_calls(PromptError)
class LineageCalls(SessionBase):
    """The calls of a session that correct tracks and their lineage.

    A frame is a plane of the stack; of a stack with more axes, only the clip of that plane is changed.
    """

    # ------------------------------------------------------------------ reading
    @property
    def lineage(self) -> pd.DataFrame:
        """One row per object: object, name, parent (0: none), born (plane of the division, -1: none), first and last
        plane that show it (-1: none), generation (0 for one without a parent) and daughters, a tuple of objects.
        """
        from napari_sam2.session.state.tables import lineage_table

        return lineage_table(self.store)

    def daughters(self, object_id: int) -> list[int]:
        """The objects that an object divided into, ascending.

        Raises
        ------
        PromptError
            If there is no such object.
        """
        self.store.object(object_id)
        return self.store.daughters(object_id)

    # ------------------------------------------------------------------ divisions
    def divide(self, object_id: int, frame: int, daughters: Sequence[int] | None = None) -> list[int]:
        """Let an object divide: it ends before a frame, on which its two daughters begin.

        Without ``daughters`` two objects are created. If the mask of the object on this frame has two pieces, each
        daughter gets one of them as a mask prompt, as of later painted masks in two pieces, and later tracked masks are
        removed: propagate to track both. If it has one piece, the first daughter gets it, and all later masks and
        prompts of the object; prompt the second one.

        Parameters
        ----------
        object_id : int
            The object that divides.
        frame : int
            The first plane on which the daughters are seen.
        daughters : sequence of int, optional
            One or two existing objects that begin at or after this frame. If one is given, the other is created from
            the later masks of ``object_id``; if two are given, those masks are removed.

        Returns
        -------
        list of int
            The two daughters.

        Raises
        ------
        PromptError
            If an object or plane does not exist, the object is not seen before this frame, has divided already, or is
            locked on it, or a daughter is seen before it or has another parent.
        """
        plane = self.geometry.check_plane(frame)
        given = [] if daughters is None else check_ids(daughters)
        self.wait_for_answers()
        with self._changing():
            mother = self.store.object(object_id)
            clip = self.geometry.clip_range(plane)
            after = range(plane, clip.stop)
            self._check_division(object_id, plane, given)
            draft = Draft(self.store)
            if len(given) == 2:
                draft.erase(object_id, after)
                found = given
            else:
                heir = draft.new_object().object_id
                draft.move(after, {object_id: heir})
                found = [heir, *given] if given else [heir, draft.new_object().object_id]
                self._begin(draft, heir, None if given else found[1], after)
            for number in found:
                draft.change(number, parent=object_id, born=plane)
            arguments: dict[str, object] = {"object_id": object_id, "frame": plane}
            if given:
                arguments["daughters"] = given
            self._state.push(f"divide {mother.name}", "divide", arguments, draft.edits())
        return found

    def _begin(self, draft: Draft, heir: int, sister: int | None, after: range) -> None:
        """Make the first masks of daughters prompts: two pieces go to one each, a single one to the heir."""
        mask = draft.mask(heir, after.start)
        if mask is None or not mask.area:
            return
        whole = mask.to_image(self.geometry.hw)
        pieces = [whole] if sister is None else two_pieces(whole)
        if len(pieces) == 2 and sister is not None:
            locked = draft.object(heir).locked
            kinds = {p: m.kind for p in after if p not in locked and (m := draft.mask(heir, p)) is not None}
            draft.erase(heir, [p for p, kind in kinds.items() if kind in ("tracked", "lost")])
            painted = [p for p, kind in kinds.items() if kind == "painted" and p > after.start]
            for plane in (after.start, *painted):
                mask = draft.mask(heir, plane)
                parts = two_pieces(mask.to_image(self.geometry.hw)) if plane > after.start and mask else pieces
                if len(parts) == 2:
                    pieces = parts if _keeps_order(pieces, parts) else parts[::-1]
                    draft.set_mask(heir, plane, pieces[0], stamp=self._state.next_stamp())
                    draft.set_mask(sister, plane, pieces[1], stamp=self._state.next_stamp())
        elif draft.prompt(heir, after.start) is None:
            draft.set_mask(heir, after.start, whole, stamp=self._state.next_stamp())

    def _check_division(self, object_id: int, plane: int, daughters: Sequence[int]) -> None:
        store, mother = self.store, self.store.object(object_id)
        if len(daughters) > 2 or len(set(daughters)) < len(daughters) or object_id in daughters:
            raise PromptError(
                f"daughters={list(daughters)} of object {object_id} were given; expected one or two other objects"
            )
        if store.daughters(object_id):
            raise PromptError(
                f"{mother.name} has divided already, into {store.daughters(object_id)}; remove that division first, "
                "with set_parent(daughter, None)"
            )
        if plane in mother.locked:
            raise PromptError(f"{mother.name} is locked on frame {plane}; unlock it there to change it")
        if not any(p < plane for p in self._seen(object_id, plane)):
            raise PromptError(
                f"{mother.name} has no mask before frame {plane}; an object can only divide after a frame that "
                "shows it: give a later frame, or propagate it backwards first"
            )
        for number in daughters:
            self._check_daughter(number, object_id, plane)

    def set_parent(self, object_id: int, parent: int | None, frame: int | None = None) -> None:
        """Say which object an object descends from, without changing any mask.

        Parameters
        ----------
        object_id : int
            The daughter.
        parent : int or None
            The object that divided; None: unknown.
        frame : int, optional
            First plane of the daughter. Default: the first one that shows it.

        Raises
        ------
        PromptError
            If an object does not exist, descends from itself, or the two are seen at the same time.
        """
        number = check_object_id(object_id)
        with self._changing():
            item, plane = self.store.object(number), None
            if parent is not None:
                above = check_object_id(parent)
                plane = self._birth(number, frame)
                self._check_daughter(number, above, plane)
                late = [p for p in self._seen(above, plane) if p >= plane]
                if late:
                    raise PromptError(
                        f"{self.store.object(above).name} still has a mask on frame {late[0]}, after its daughter "
                        f"begins on frame {plane}; use divide({above}, {plane}), or cut({above}, {plane}) first"
                    )
            if (item.parent, item.born) == (parent, plane):
                return
            draft = Draft(self.store)
            draft.change(number, parent=parent, born=plane)
            arguments: dict[str, object] = {"object_id": number, "parent": parent}
            if plane is not None:
                arguments["frame"] = plane
            self._state.push(f"parent of {item.name}", "set_parent", arguments, draft.edits())

    def _birth(self, object_id: int, frame: int | None) -> int:
        if frame is not None:
            return self.geometry.check_plane(frame)
        seen = [p for p in self.store.planes_of(object_id) if self.store.masks[object_id, p].area]
        if not seen:
            raise PromptError(f"{self.store.object(object_id).name} has no mask yet; give its first frame")
        return seen[0]

    def _check_daughter(self, object_id: int, parent: int, plane: int) -> None:
        """Raise PromptError unless an object can descend from another one and begin on a plane."""
        item, above = self.store.object(object_id), self.store.object(parent)
        early = [p for p in self._seen(object_id, plane) if p < plane]
        if early:
            raise PromptError(
                f"{item.name} has a mask on frame {early[0]}, before frame {plane}; "
                f"cut({object_id}, {plane}) first, or give another frame"
            )
        if item.parent not in (None, parent):
            raise PromptError(
                f"{item.name} descends from object {item.parent}; remove that first, with set_parent({object_id}, None)"
            )
        while above.object_id != object_id:
            if above.parent is None:
                return
            above = self.store.object(above.parent)
        raise PromptError(f"object {object_id} would descend from itself through object {parent}")

    def _seen(self, object_id: int, plane: int) -> list[int]:
        """Planes of a clip on which an object is seen, ascending."""
        clip = self.geometry.clip_range(plane)
        return [p for p in self.store.planes_of(object_id) if p in clip and self.store.masks[object_id, p].area]

    # ------------------------------------------------------------------ tracks
    def cut(self, object_id: int, frame: int) -> int:
        """Cut a track in two: from a frame on it is a new object.

        Masks, prompts, locks and daughters from this frame on belong to the new object, which has no parent.

        Parameters
        ----------
        object_id : int
            The object to cut.
        frame : int
            First plane of the new object.

        Returns
        -------
        int
            The new object.

        Raises
        ------
        PromptError
            If the object or plane does not exist, or one of the two parts would be empty.
        """
        plane = self.geometry.check_plane(frame)
        self.wait_for_answers()
        with self._changing():
            item = self.store.object(object_id)
            seen = self._seen(object_id, plane)
            if not seen or not seen[0] < plane <= seen[-1]:
                where = "it has no mask yet"
                if len(seen) == 1:
                    where = f"it has a mask on frame {seen[0]} only"
                elif seen:
                    where = f"it has masks on frames {seen[0]} to {seen[-1]}; give one after the first"
                raise PromptError(f"{item.name} cannot be cut at frame {plane}: {where}")
            draft = Draft(self.store)
            made = draft.new_object().object_id
            after = range(plane, self.geometry.clip_range(plane).stop)
            draft.move(after, {object_id: made})
            draft.hand_down(object_id, made, range(plane, after.stop + 1))
            self._state.push(f"cut {item.name}", "cut", {"object_id": object_id, "frame": plane}, draft.edits())
        return made

    def join(self, first: int, second: int) -> None:
        """Join two tracks to one: the second object continues the first, and loses its number.

        Parameters
        ----------
        first, second : int
            No plane may show both.

        Raises
        ------
        PromptError
            If an object does not exist, a plane shows both, or the first one has divided before the second begins.
        """
        self._unite(first, second, "join")

    def merge(self, first: int, second: int) -> None:
        """Make two objects one on all planes, such as two parts of one cell; the second one loses its number.

        Where a plane shows both, the mask of the first one becomes that of both, as a mask prompt.

        Parameters
        ----------
        first, second : int
            Objects.

        Raises
        ------
        PromptError
            If an object does not exist, or is locked on a plane that shows both.
        """
        self._unite(first, second, "merge")

    def _unite(self, first: int, second: int, method: str) -> None:
        self.wait_for_answers()
        with self._changing():
            store = self.store
            kept, gone = store.object(first), store.object(second)
            if first == second:
                raise PromptError(f"object {first} was given twice; expected two objects")
            both = self._shared(first, second)
            if method == "join" and both:
                raise PromptError(
                    f"{kept.name} and {gone.name} both have a mask on frame {both[0]}; use merge to unite their masks"
                )
            locked = [p for p in both if p in kept.locked or p in gone.locked]
            if locked:
                raise PromptError(f"{kept.name} or {gone.name} is locked on frame {locked[0]}; unlock it there first")
            draft = Draft(store)
            unions = {
                p: store.masks[first, p].to_image(self.geometry.hw) | store.masks[second, p].to_image(self.geometry.hw)
                for p in both
            }
            planes = [p for p in range(self.geometry.num_planes) if self._holds(second, p) and p not in unions]
            draft.move(planes, {second: first})
            draft.erase(second, list(unions))
            for plane, union in unions.items():
                draft.set_mask(first, plane, union, stamp=self._state.next_stamp())
            draft.hand_down(second, first, range(self.geometry.num_planes))
            seen = [
                min((p for p in store.planes_of(i) if store.masks[i, p].area), default=None) for i in (first, second)
            ]
            if seen[1] is not None and (seen[0] is None or seen[1] < seen[0]):  # the earlier one has the parent
                draft.change(first, parent=gone.parent, born=gone.born)
            if draft.object(first).parent in (first, second):
                draft.change(first, parent=None, born=None)
            draft.remove(second)
            self._state.push(f"{method} {kept.name}", method, {"first": first, "second": second}, draft.edits())

    def _holds(self, object_id: int, plane: int) -> bool:
        key = (object_id, plane)
        return key in self.store.masks or key in self.store.prompts or plane in self.store.object(object_id).locked

    def _shared(self, first: int, second: int) -> list[int]:
        """Planes that show two objects, ascending."""
        masks = self.store.masks
        planes = sorted({*self.store.planes_of(first)} & {*self.store.planes_of(second)})
        return [p for p in planes if masks[first, p].area and masks[second, p].area]

    def split(self, object_id: int, frame: int, mask: ArrayLike | None = None) -> int:
        """Make a part of an object on one plane a new object; both parts become mask prompts, to be propagated.

        Parameters
        ----------
        object_id : int
            The object that is two.
        frame : int
            Plane.
        mask : (H, W) array-like, optional
            Non-zero on the pixels of the new object; those outside ``object_id`` are ignored. Default: the smaller one
            of its two pieces.

        Returns
        -------
        int
            The new object.

        Raises
        ------
        PromptError
            If one of the parts is empty, the mask has another shape, or the object is locked there.
        """
        plane = self.geometry.check_plane(frame)
        part = None if mask is None else as_mask(mask, "mask")
        self.wait_for_answers()
        with self._changing():
            item, found = self.store.object(object_id), self.store.masks.get((object_id, plane))
            whole = np.zeros(self.geometry.hw, bool) if found is None else found.to_image(self.geometry.hw)
            if part is not None and part.shape != whole.shape:
                raise PromptError(f"a mask of shape {part.shape} was given; expected one of shape {whole.shape}")
            if plane in item.locked:
                raise PromptError(f"{item.name} is locked on frame {plane}; unlock it there to change it")
            pieces = two_pieces(whole)
            taken = whole & part if part is not None else pieces[1] if len(pieces) == 2 else np.zeros_like(whole)
            if not taken.any() or not (whole & ~taken).any():
                raise PromptError(
                    f"{item.name} cannot be split on frame {plane}: "
                    + ("it is in one piece there; give the mask of the part" if part is None
                       else "the mask covers all of it or nothing")
                )  # fmt: skip
            made = self.store.make_object(None, None)
            edits = [
                *painting_edits(self.store, object_id, plane, whole & ~taken, stamp=self._state.next_stamp()),
                *painting_edits(self.store, made.object_id, plane, taken, stamp=self._state.next_stamp()),
            ]
            arguments: dict[str, object] = {"object_id": object_id, "frame": plane, "mask": taken}
            self._state.push(f"split {item.name}", "split", arguments, edits)
        return made.object_id

    def swap(self, first: int, second: int, frame: int) -> None:
        """Exchange two objects from a frame on, where tracking has taken one for the other.

        Masks, prompts, locks and daughters from this frame on are exchanged.

        Parameters
        ----------
        first, second : int
            Objects.
        frame : int
            First plane on which they are exchanged.

        Raises
        ------
        PromptError
            If an object or the plane does not exist, or one of them begins at a division after this frame.
        """
        plane = self.geometry.check_plane(frame)
        self.wait_for_answers()
        with self._changing():
            items = [self.store.object(first), self.store.object(second)]
            if first == second:
                raise PromptError(f"object {first} was given twice; expected two objects")
            after = range(plane, self.geometry.clip_range(plane).stop)
            for item in items:
                if item.born is not None and item.born in after[1:]:
                    raise PromptError(
                        f"{item.name} begins with the division on frame {item.born}; give that frame or a later one"
                    )
            draft = Draft(self.store)
            draft.move(after, {first: second, second: first})
            daughters = {i: [d for d in self.store.daughters(i) if self._born(d) in after] for i in (first, second)}
            for old, new in ((first, second), (second, first)):
                for number in daughters[old]:
                    draft.change(number, parent=new)
            if all(item.born == plane for item in items):  # two newborns: with their masks they exchange their parents
                draft.change(first, parent=items[1].parent)
                draft.change(second, parent=items[0].parent)
            arguments: dict[str, object] = {"first": first, "second": second, "frame": plane}
            self._state.push(f"swap {items[0].name}", "swap", arguments, draft.edits())

    def _born(self, object_id: int) -> int:
        born = self.store.object(object_id).born
        assert born is not None
        return born


def _keeps_order(before: Sequence[NDArray[np.bool_]], after: Sequence[NDArray[np.bool_]]) -> bool:
    """Whether two pieces of a frame are nearer to those of the frame before in this order than in the other."""
    old, new = ([np.argwhere(piece).mean(0) for piece in pieces] for pieces in (before, after))
    straight, crossed = (np.hypot(*(old[0] - new[a])) + np.hypot(*(old[1] - new[b])) for a, b in ((0, 1), (1, 0)))
    return bool(straight <= crossed)

"""The calls of a session that give, change and remove prompts."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy import ndimage

from napari_sam2._arguments import as_array, checked_calls
from napari_sam2._checks import as_numbers, check_count, check_object_id
from napari_sam2._errors import FrameError, PromptError, warn_caller
from napari_sam2._packed_mask import PackedImage, PackedMask
from napari_sam2._types import Prompt, is_same
from napari_sam2.frames.sources import Frames
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.prompt_edits import prompt_edits, removal_edits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from napari_sam2.session.state.records import PromptEntry
    from napari_sam2.session.state.store import StoreDelta

__all__ = ["LabelPrompts", "PromptCalls"]

MIN_BOX_SIDE_PX = 2  # a box with a shorter side was drawn by accident


@dataclass(frozen=True, eq=False)
class LabelPrompts:
    """Objects of labels, before they are in a session.

    Attributes
    ----------
    masks : dict of (int, int) to PackedMask
        By object and plane, ascending.
    """

    masks: dict[tuple[int, int], PackedMask]

    @property
    def object_ids(self) -> list[int]:
        """The objects, ascending."""
        return sorted({object_id for object_id, _ in self.masks})


@checked_calls(PromptError)
class PromptCalls(SessionBase):
    """The calls of a session that give, change and remove prompts."""

    def prompt(self, object_id: int, plane: int) -> Prompt | None:
        """The prompt of an object on a plane, or None.

        Raises
        ------
        PromptError
            If there can be no such object or there is no such plane.
        """
        entry = self.store.prompts.get(self._key(object_id, plane))
        return None if entry is None else entry.prompt

    def add_points(
        self, points: ArrayLike, labels: ArrayLike | None = None, *, object_id: int | None = None, block: bool = True
    ) -> int:
        """Add clicks on one plane to the prompt there.

        Parameters
        ----------
        points : (N, ndim) array-like
            Data coordinates in axis order.
        labels : (N,) array-like, optional
            1 object, 0 background; default all 1.
        object_id : int, optional
            Default: a new object.
        block : bool, default True
            Wait for the mask.

        Returns
        -------
        int
            The object.

        Raises
        ------
        PromptError
            If a point lies outside the image or on another plane, or the object does not exist or is locked there.
        """
        plane, xy = self.geometry.locate(points)
        prompt = Prompt(points=xy, labels=labels)
        old = None if object_id is None else self.prompt(object_id, plane)
        if old is not None:
            all_points = np.concatenate((old.points, prompt.points))
            prompt = Prompt(all_points, np.concatenate((old.labels, prompt.labels)), old.box, old.mask, old.drawn)
        return self.set_prompt(plane, prompt, object_id=object_id, block=block)

    def add_box(self, corners: ArrayLike, *, object_id: int | None = None, block: bool = True) -> int:
        """Prompt an object with a box; it replaces an earlier box on the plane, clicks are kept.

        Parameters
        ----------
        corners : (2, ndim) or (4, ndim) array-like
            Two opposite corners or all four, data coordinates in axis order.
        object_id, block
            As for ``add_points``.

        Returns
        -------
        int
            The object.

        Raises
        ------
        PromptError
            If the box has no area, lies outside or on several planes.
        """
        rows = as_numbers(corners, "corners")
        if rows.ndim != 2 or len(rows) not in (2, 4):
            raise PromptError(f"corners of shape {rows.shape} were given; expected two or four rows")
        h, w = self.geometry.hw
        inside = rows.copy()
        if rows.shape[1] == self.geometry.ndim:
            top, below = rows[:, -2:].min(0), rows[:, -2:].max(0)
            if ((below <= -0.5) | (top >= (h - 0.5, w - 0.5))).any():
                raise PromptError(
                    f"the box from y={top[0]:g}, x={top[1]:g} to y={below[0]:g}, x={below[1]:g} lies outside the image "
                    f"of {w} x {h} pixels"
                )
            inside[:, -2:] = np.clip(rows[:, -2:], (-0.5, -0.5), (h - 0.5, w - 0.5))
        plane, xy = self.geometry.locate(inside)
        low, high = xy.min(0), xy.max(0)
        old = None if object_id is None else self.prompt(object_id, plane)
        box = np.concatenate((low, high))
        prompt = Prompt(box=box)
        if old is not None:
            scribbles = [shape for shape in old.drawn if shape.is_scribble]
            prompt = Prompt(points=old.points, labels=old.labels, box=box, drawn=scribbles)
        return self.set_prompt(plane, prompt, object_id=object_id, block=block)

    def add_mask(
        self, mask: ArrayLike, *, frame: int | None = None, object_id: int | None = None, block: bool = True
    ) -> int:
        """Set the mask of an object on one plane; it is kept exactly as given and tracked from there.

        Parameters
        ----------
        mask : (H, W) array-like
            Non-zero where the object is.
        frame : int, optional
            Plane; may be left out for a single image.
        object_id, block
            As for ``add_points``.

        Returns
        -------
        int
            The object.

        Raises
        ------
        PromptError
            If the mask is empty or of another shape, or the plane does not exist.
        """
        plane = self._plane_of_mask(frame)
        return self.set_prompt(plane, Prompt(mask=cast("Any", mask)), object_id=object_id, block=block)

    def add_labels(self, labels: ArrayLike | str | Path, *, frame: int | None = None) -> list[int]:
        """Create objects from labels, such as those of Cellpose; numbers are kept.

        Parameters
        ----------
        labels : array-like, str or Path
            (H, W) of one plane, or of the image's shape, where objects start on every plane that has labels; 0 is
            background. Bools, integers of any type, or floats that are whole numbers. Or a file that ``read_labels``
            reads: TIFF, OME-Zarr, pictures (with a palette: its indices), ``_seg.npy``, ImageJ ROIs, GeoJSON, COCO.
        frame : int, optional
            Plane; may be left out for a single image, and for labels of the image's shape.

        Returns
        -------
        list of int
            The objects, ascending. One ``undo`` removes all of them.

        Raises
        ------
        PromptError
            If the labels are empty, of another shape or not whole numbers, the plane does not exist, or an object is
            locked on it.
        FrameError
            If the file cannot be read, or does not hold labels.

        Warns
        -----
        UserWarning
            If labels above 2**31 - 1 were renumbered, or a mask of 0 and 255 was split into its components.
        """
        found = self.label_prompts(labels, frame=frame)
        for _ in self.adding_labels(found, seconds=math.inf):
            pass
        return found.object_ids

    def label_prompts(self, labels: ArrayLike | str | Path, *, frame: int | None = None) -> LabelPrompts:
        """Read the objects of labels, for ``adding_labels``; changes nothing, and may run on any thread.

        Parameters
        ----------
        labels, frame
            As for ``add_labels``.

        Returns
        -------
        LabelPrompts
            The objects.

        Raises
        ------
        PromptError, FrameError
            As `add_labels`.
        """
        image, name = self._as_labels(labels)
        plane = None if frame is None else self.geometry.check_plane(frame)
        planes = range(self.geometry.num_planes) if plane is None else [plane]
        if image.shape == self.geometry.hw:
            drawn = {self._plane_of_mask(plane): image}
        elif image.shape == self.geometry.shape:
            drawn = {p: image[self.geometry.index(p)] for p in planes}
        elif image.shape == (self.geometry.num_planes, *self.geometry.hw):
            drawn = {p: image[p] for p in planes}
        else:
            raise PromptError(
                f"{name} of shape {image.shape} were given; expected {self.geometry.hw}, or the shape of the image, "
                f"{self.geometry.shape}"
            )
        masks = {(check_object_id(i), p): mask for p, each in drawn.items() for i, mask in _parts(each).items()}
        if not masks:
            raise PromptError(f"{name} without any object were given; mark at least one pixel with a number above 0")
        return LabelPrompts(dict(sorted(masks.items())))

    def adding_labels(self, found: LabelPrompts, *, seconds: float = 0.02) -> Iterator[int]:
        """Start the objects of labels a part at a time, so that a window can answer in between.

        Parameters
        ----------
        found : LabelPrompts
            From ``label_prompts``.
        seconds : float, default 0.02
            Processor time of a part. The changes are announced together, at the end.

        Yields
        ------
        int
            How many masks are set so far. One ``undo`` removes all of them.

        Raises
        ------
        PromptError
            If an object is locked on a plane; before the first part, nothing has changed then.
        """
        if not isinstance(found, LabelPrompts):
            raise PromptError(f"{type(found).__name__} was given; expected what label_prompts returns")
        keys = list(found.masks)
        self._check_unlocked(keys)
        step: int | None = None
        start = 0
        held: list[StoreDelta] = []
        try:
            while start < len(keys):
                end = time.thread_time() + seconds
                with self._state.as_one_step(step, held=held) as step:
                    for object_id, plane in keys[start:]:
                        mask = PackedImage(self.geometry.hw, found.masks[object_id, plane])
                        self._put(plane, Prompt(mask=mask), object_id)
                        start += 1
                        if time.thread_time() > end:
                            break
                yield start
        finally:
            self._state.announce(held)

    def _as_labels(self, labels: ArrayLike | str | Path) -> tuple[NDArray[np.int32], str]:
        """Labels of any number type, or of a file, as int32; and what messages call them."""
        from napari_sam2.labels.conversion import convert_labels

        if isinstance(labels, str | Path):
            from napari_sam2.labels.reading import read_label_file

            fixed = self.frames.fixed if isinstance(self.frames, Frames) else None
            found = read_label_file(labels, shape=self.geometry.shape, fixed=fixed)
            found.warn(str(labels))
            is_plane = max(found.labels.shape[:-2], default=1) == 1
            image = found.labels.reshape(found.labels.shape[-2:]) if is_plane else found.labels
            return image, f"the labels of {labels}"
        try:
            found = convert_labels(as_array(labels, "labels", PromptError), "the label image")
        except FrameError as error:
            raise PromptError(str(error)) from error
        found.warn("the label image")
        return found.labels, "labels"

    def set_prompts(self, prompts: Mapping[tuple[int, int], Prompt]) -> None:
        """Set the prompts of many objects and planes, as one step of ``undo`` and without waiting for masks.

        Parameters
        ----------
        prompts : mapping of (int, int) to Prompt
            By object and plane; as for ``set_prompt``.

        Raises
        ------
        PromptError
            If a prompt lies outside the image, or an object is locked on the plane; then nothing changes.
        """
        keys = sorted(self._key(*key) for key in _keys_of(prompts))
        for prompt in prompts.values():
            self._check_prompt(prompt)
        self._check_unlocked(keys)
        with self._state.as_one_step():
            for object_id, plane in keys:
                self.set_prompt(plane, prompts[object_id, plane], object_id=object_id, block=False)

    def _check_unlocked(self, keys: Sequence[tuple[int, int]]) -> None:
        """Raise PromptError if an object is locked on a plane."""
        objects = self.store.objects
        locked = [f"{objects[i].name} on frame {p}" for i, p in keys if i in objects and p in objects[i].locked]
        if locked:
            raise PromptError(f"locked: {', '.join(locked)}; unlock there to change it")

    def _plane_of_mask(self, frame: int | None) -> int:
        if frame is None and self.geometry.num_planes > 1:
            raise PromptError(f"a mask was given without its frame; give frame=0 to {self.geometry.num_planes - 1}")
        return self.geometry.check_plane(0 if frame is None else frame)

    def _key(self, object_id: int, plane: int) -> tuple[int, int]:
        """The key of a prompt or mask in the tables."""
        return check_object_id(object_id), self.geometry.check_plane(plane)

    def _check_prompt(self, prompt: Prompt) -> None:
        if not isinstance(prompt, Prompt):
            raise PromptError(f"{type(prompt).__name__} was given as a prompt; expected Prompt(...)")
        prompt.check_inside(self.geometry.hw)

    def set_prompt(
        self,
        frame: int,
        prompt: Prompt | None = None,
        *,
        object_id: int | None = None,
        candidate: int | None = None,
        block: bool = True,
    ) -> int:
        """Set the prompt of an object on a plane, replacing an earlier one there.

        Parameters
        ----------
        frame : int
            Plane.
        prompt : Prompt or None
            In pixels (x, y) of the plane; None removes the prompt.
        object_id : int, optional
            Default: a new object. A number that is not in use creates an object of that number.
        candidate : int, optional
            Which of the three candidate masks of an ambiguous click to take, 0 for the best.
        block : bool, default True
            Wait for the mask.

        Returns
        -------
        int
            The object.

        Raises
        ------
        PromptError
            If the prompt lies outside the image, or the object is locked on the plane.
        """
        plane = self.geometry.check_plane(frame)
        object_id = None if object_id is None else check_object_id(object_id)
        if candidate is not None:
            candidate = check_count("candidate", candidate, 0)
            if candidate > 2:
                raise PromptError(f"candidate={candidate} was given; expected 0, 1 or 2")
        if prompt is not None:
            self._check_prompt(prompt)
            _warn_of_thin_box(prompt)
        number = self._put(plane, prompt, object_id, candidate)
        if block:
            self.wait_for_answers()
        return number

    def _put(self, plane: int, prompt: Prompt | None, object_id: int | None, candidate: int | None = None) -> int:
        """Set or remove a prompt whose values were checked; returns the object."""
        if prompt is not None and prompt.has_mask:
            self._prompt_queue.wait_for_plane(plane)
        with self._changing():
            edits: list[Edit] = []
            number = object_id
            if number is None or number not in self.store.objects:
                if prompt is None:
                    raise PromptError(f"object {object_id} does not exist; there is no prompt to remove")
                made = self.store.make_object(None, number)
                edits.append(Edit("objects", made.object_id, None, made))
                number = made.object_id
            elif plane in self.store.object(number).locked:
                raise PromptError(
                    f"{self.store.object(number).name} is locked on frame {plane}; unlock it there to change it"
                )
            old = self.store.prompts.get((number, plane))
            redrawn: PromptEntry | None = None  # the same for the model
            if old is not None and prompt is not None and is_same(prompt, old.prompt) and candidate == old.candidate:
                if prompt.drawn == old.prompt.drawn:
                    self._prompt_queue.retry(number, plane)
                    return number
                redrawn = replace(old, prompt=prompt)
            if redrawn is not None:
                title = "drawing"
                edits.append(Edit("prompts", (number, plane), old, redrawn))
            elif prompt is None:
                title = "remove prompt"
                edits += removal_edits(self.store, number, plane)
            else:
                title = "prompt"
                stamp, overlap = self._state.next_stamp(), self.settings.overlap
                edits += prompt_edits(
                    self.store, number, plane, prompt, candidate=candidate, stamp=stamp, overlap=overlap
                )
            arguments: dict[str, object] = {"frame": plane, "prompt": prompt, "object_id": number}
            if candidate is not None:
                arguments["candidate"] = candidate
            change = self._state.push(title, "set_prompt", arguments, edits)
            entry = self.store.prompts.get((number, plane))
            if entry is not None and not entry.is_mask_only and (redrawn is None or redrawn.answer is None):
                change.stamp = entry.stamp
            self._prompt_queue.add(number, plane)
        return number

    def remove_prompt(self, object_id: int, frame: int) -> None:
        """Remove the prompt of an object on a plane.

        Raises
        ------
        PromptError
            If there is no such object or plane, or the object has no prompt there.
        """
        if self._key(object_id, frame) not in self.store.prompts:
            prompted = list(self.store.prompts_of(object_id)) or "none"
            raise PromptError(f"object {object_id} has no prompt on frame {frame}; prompted frames: {prompted}")
        self.set_prompt(frame, None, object_id=object_id)

    def next_candidate(self, object_id: int, frame: int, *, block: bool = True) -> int:
        """Take the next of the three candidate masks of a single click; returns its number, 0 for the best.

        Raises
        ------
        PromptError
            If the prompt is not one click.
        """
        entry = self.store.prompts.get(self._key(object_id, frame))
        if entry is None or len(entry.prompt.points) != 1 or entry.prompt.box is not None:
            raise PromptError(
                "only a single click has several candidates; there is no prompt here, or one of another kind"
            )
        number = ((entry.candidate or 0) + 1) % 3
        self.set_prompt(frame, entry.prompt, object_id=object_id, candidate=number, block=block)
        return number


def _parts(labels: NDArray[np.int32]) -> dict[int, PackedMask]:
    """The objects of one plane, ascending."""
    ids, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(labels.shape)
    first = int(np.searchsorted(ids, 1))  # 0 is background
    windows = ndimage.find_objects(numbers + 1 - first)
    return {
        int(ids[first + i]): PackedMask.pack(numbers[window] == first + i, origin_yx=(window[0].start, window[1].start))
        for i, window in enumerate(windows)
    }


def _warn_of_thin_box(prompt: Prompt) -> None:
    if prompt.box is not None:
        x0, y0, x1, y1 = cast("tuple[float, ...]", tuple(prompt.box))
        if min(x1 - x0, y1 - y0) < MIN_BOX_SIDE_PX:
            warn_caller(
                f"the box is {x1 - x0:g} x {y1 - y0:g} pixels, too small for an object; draw it around the object"
            )


def _keys_of(prompts: object) -> list[tuple[Any, Any]]:
    if not isinstance(prompts, Mapping) or not all(isinstance(key, tuple) and len(key) == 2 for key in prompts):
        raise PromptError(f"{type(prompts).__name__} was given; expected a dictionary of prompts by (object, plane)")
    return list(prompts)

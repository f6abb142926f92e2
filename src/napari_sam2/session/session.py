"""What the user said about a stack and what came of it: the one engine behind the viewer, scripts and the shell."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

import numpy as np
from psygnal import Signal

from napari_sam2._errors import FrameError, PromptError
from napari_sam2._types import Direction, FrameSource, Prompt
from napari_sam2.inference.answers import PredictResult, TrackRequest
from napari_sam2.inference.prompt_changes import grew, is_same
from napari_sam2.session.answering import Answerer, Asked, as_seen
from napari_sam2.session.compute import ComputeThread, Job, Steps
from napari_sam2.session.display import contrast_arguments, looks_of, make_looks, with_looks
from napari_sam2.session.history import Change, Edit, History, Operation, TableName
from napari_sam2.session.model_names import model_name
from napari_sam2.session.opening import open_stack
from napari_sam2.session.operations import replayable
from napari_sam2.session.planes import ArrayPlanes
from napari_sam2.session.planning import anchors_of, neighbours
from napari_sam2.session.propagation import PropagationHandle, TrackedPlane, pack_result
from napari_sam2.session.records import ObjectMask, PromptEntry, SessionObject
from napari_sam2.session.settings import ModelState, SessionSettings
from napari_sam2.session.snapshot import SessionSnapshot
from napari_sam2.session.store import OverlapRule, SessionStore, StoreDelta
from napari_sam2.session.tracking_scope import known_prompts, objects_to_track, steps_to_track

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from napari_sam2.network.sam2 import SAM2

__all__ = ["Session"]

_TABLES: tuple[TableName, ...] = ("masks", "prompts", "objects", "settings")
PROMPT_AREA = 2  # pixels: a box with a side below this was a slip of the mouse


class Session:
    """Prompts, objects and labels of one stack, with undo, propagation and files.

    Coordinates are those of the image's data: one row per point, in the order of its axes, such as z, y, x.

    Parameters
    ----------
    stack : array, path or FrameSource
        numpy, dask or zarr array (..., H, W); with three or four uint8 values at the end (..., H, W, 3). A path of
        anything ``open_frames`` reads.
    model : str, Path, SAM2 or None, default "sam2_micro"
        As for ``load_model``; loaded on first use.
    frame_axis : int, optional
        The axis that objects are followed along. Default: the last one before H and W that is longer than 1.
    is_rgb : bool, optional
        Whether the last axis holds colours. Default: if it has three or four values of uint8 and there are at least
        three axes.
    labels : array, optional
        int32 zeros of the image's shape to write to. Default: in memory, above 1 GiB a temporary zarr array.
    settings : SessionSettings, optional
        Overlap rule and the like.
    deliver : callable, optional
        Runs a function on the thread that owns the session, such as a GUI's. Without one, results of calls that do
        not block are written by the compute thread.

    Attributes
    ----------
    changed : psygnal.Signal
        Emitted with a ``StoreDelta`` after every change.
    propagation_changed : psygnal.Signal
        Emitted with a ``PropagationHandle`` when one starts, goes on or ends.
    model_changed : psygnal.Signal
        Emitted with a ``ModelState``.
    failed : psygnal.Signal
        Emitted with the exception of work in the background.
    """

    changed = Signal(object)
    propagation_changed = Signal(object)
    model_changed = Signal(object)
    failed = Signal(object)

    def __init__(
        self,
        stack: Any,
        *,
        model: SAM2 | str | Path | None = "sam2_micro",
        frame_axis: int | None = None,
        is_rgb: bool | None = None,
        labels: Any = None,
        settings: SessionSettings | None = None,
        deliver: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.frames, self.geometry = open_stack(stack, frame_axis, is_rgb)
        self.has_automatic_contrast = self.frames is not stack
        self.stack_path = str(stack) if isinstance(stack, str) or hasattr(stack, "__fspath__") else None
        self.model = "sam2_micro" if model is None else model
        self.settings = settings or SessionSettings()
        self.model_state = ModelState("waiting")
        self.store = SessionStore(self.geometry, self._allocate(labels))
        self.history = History()
        self._step: int | None = None  # while one call makes several changes, which are undone together
        self.first_model = self.model
        self.first_settings = self.settings
        self.first_frames = self.frames
        self._deliver = deliver
        self._lock = threading.RLock()
        self._compute = ComputeThread()
        self._answerer = Answerer(self._set_model_state)
        self._stamp = 0
        self._waiting: dict[tuple[int, int], int] = {}
        self._errors: dict[tuple[int, int], Exception] = {}
        self._handle: PropagationHandle | None = None
        self._running_change: Change | None = None
        self._running_steps: Steps | None = None
        self._running_request: TrackRequest | None = None
        self._autosave: Any = None
        self.binding: Any = None

    def _allocate(self, labels: Any) -> Any:
        shape = self.geometry.shape
        if labels is not None:
            if tuple(labels.shape) != shape or np.dtype(labels.dtype) != np.int32:
                raise PromptError(
                    f"labels of shape {tuple(labels.shape)} and type {labels.dtype} were given; "
                    f"allowed is int32 of shape {shape}"
                )
            return labels
        from napari_sam2.session.label_storage import allocate_labels

        return allocate_labels(shape)

    # ------------------------------------------------------------------ reading
    @property
    def labels(self) -> Any:
        """Labels, int32 of the image's shape: 0 background, else object numbers; written in place as results come."""
        return self.store.labels

    @property
    def objects(self) -> list[SessionObject]:
        """In the order of their creation."""
        return list(self.store.objects.values())

    @property
    def scores(self) -> pd.DataFrame:
        """One row per object and frame: object, name, frame (index of the plane where there are several axes), iou,
        object_score, area (pixels), kind, locked, stale.
        """
        from napari_sam2.session.export import score_table

        return score_table(self.store)

    @property
    def is_busy(self) -> bool:
        """Whether an answer or a propagation is under way."""
        return bool(self._waiting) or (self._handle is not None and self._handle.is_running)

    @property
    def is_answering(self) -> bool:
        """Whether a prompt waits for its mask."""
        return bool(self._waiting)

    @property
    def handle(self) -> PropagationHandle | None:
        """The propagation that runs, or ran last."""
        return self._handle

    @property
    def autosave_path(self) -> Path | None:
        """Where the session is saved by itself; None if it is not."""
        return None if self._autosave is None else self._autosave.path

    @autosave_path.setter
    def autosave_path(self, path: str | Path | None) -> None:
        from napari_sam2.session.autosave import Autosave

        if self._autosave is not None:
            self._autosave.close()
            self._autosave = None
        if path is not None:
            with self._lock:  # no change is made between the first state that is saved and the first that is noted
                self._autosave = Autosave(self, path)

    def flush_autosave(self, timeout: float | None = None) -> bool:
        """Wait until everything is in the autosave's file; whether it is."""
        return self._autosave is not None and bool(self._autosave.flush(timeout))

    def prompt(self, object_id: int, plane: int) -> Prompt | None:
        """What is said about an object on a plane."""
        entry = self.store.prompts.get((object_id, plane))
        return None if entry is None else entry.prompt

    # ------------------------------------------------------------------ objects
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
            made = self._make_object(name, object_id)
            self._push(f"new {made.name}", "new_object", {"name": name, "object_id": made.object_id},
                       [Edit("objects", made.object_id, None, made)])  # fmt: skip
            return made.object_id

    def _make_object(self, name: str | None, object_id: int | None) -> SessionObject:
        taken = self.store.objects
        number = max(taken, default=0) + 1 if object_id is None else int(object_id)
        if number < 1 or number in taken or number > np.iinfo(np.int32).max:
            raise PromptError(f"object {number} was asked for; give a number above 0 that is not in {sorted(taken)}")
        return SessionObject(number, name or f"object {number}")

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
            self._push(f"remove {found.name}", "remove_object", {"object_id": object_id}, edits)

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
        if self._is_ahead(object_id, planes):
            self._stop_propagation()
        locked = self.store.object(object_id).locked | planes
        self._change_object(object_id, "lock", {"frames": sorted(planes)}, locked=locked)

    def unlock(self, object_id: int, frames: int | Iterable[int] | None = None) -> None:
        """Allow changes again; default: on all planes."""
        found = self.store.object(object_id)
        planes = found.locked if frames is None else self._planes(object_id, frames)
        self._change_object(object_id, "unlock", {"frames": sorted(planes)}, locked=found.locked - planes)

    def _is_ahead(self, object_id: int, planes: frozenset[int]) -> bool:
        """Whether the propagation that runs has yet to come to any of the planes."""
        handle, request = self._handle, self._running_request
        if handle is None or request is None or not handle.is_running:
            return False
        return any(s.frame in planes and object_id in s.reported_ids for s in request.steps[handle.num_done :])

    def _planes(self, object_id: int, frames: int | Iterable[int] | None) -> frozenset[int]:
        self.store.object(object_id)
        if frames is None:
            return frozenset(self.store.planes_of(object_id))
        planes = frozenset({int(frames)} if isinstance(frames, (int, np.integer)) else (int(f) for f in frames))
        for plane in planes:
            self._check_plane(plane)
        return planes

    def _check_plane(self, plane: int) -> int:
        if not 0 <= plane < self.geometry.num_planes:
            raise PromptError(f"frame {plane} was given; the stack has frames 0 to {self.geometry.num_planes - 1}")
        return int(plane)

    def _change_object(self, object_id: int, method: str, arguments: dict[str, object], **fields: Any) -> None:
        with self._changing(stops=False):
            found = self.store.object(object_id)
            after = replace(found, **fields)
            if after != found:
                edits = [Edit("objects", object_id, found, after)]
                self._push(f"{method} {found.name}", method, {"object_id": object_id, **arguments}, edits)

    # ------------------------------------------------------------------ prompts
    def add_points(
        self, points: ArrayLike, labels: ArrayLike | None = None, *, object_id: int | None = None, block: bool = True
    ) -> int:
        """Add clicks on one plane to what was said there.

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
        said = Prompt(points=xy, labels=None if labels is None else np.asarray(labels))
        old = None if object_id is None else self.prompt(object_id, plane)
        if old is not None and said.labels is not None and old.labels is not None:
            said = Prompt(
                np.concatenate((old.points, said.points)), np.concatenate((old.labels, said.labels)), old.box, old.mask
            )
        return self.set_prompt(plane, said, object_id=object_id, block=block)

    def add_box(self, corners: ArrayLike, *, object_id: int | None = None, block: bool = True) -> int:
        """Say that an object fills a box; replaces an earlier box of the plane, its clicks stay.

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
        rows = np.asarray(corners, float)
        if rows.ndim != 2 or len(rows) not in (2, 4):
            raise PromptError(f"corners of shape {rows.shape} were given; allowed are two or four rows")
        h, w = self.geometry.hw
        inside = rows.copy()
        if rows.shape[1] == self.geometry.ndim:
            inside[:, -2:] = np.clip(rows[:, -2:], (-0.5, -0.5), (h - 0.5, w - 0.5))
        plane, xy = self.geometry.locate(inside)
        low, high = xy.min(0), xy.max(0)
        old = None if object_id is None else self.prompt(object_id, plane)
        points, labels = (None, None) if old is None else (old.points, old.labels)
        box = np.concatenate((low, high))
        said = Prompt(box=box) if points is None else Prompt(points=points, labels=labels, box=box)
        return self.set_prompt(plane, said, object_id=object_id, block=block)

    def add_mask(
        self, mask: ArrayLike, *, frame: int | None = None, object_id: int | None = None, block: bool = True
    ) -> int:
        """Give the pixels of an object on one plane; they are kept as they are and tracked from there.

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
        if frame is None and self.geometry.num_planes > 1:
            raise PromptError(f"a mask was given without its frame; give frame=0 to {self.geometry.num_planes - 1}")
        return self.set_prompt(int(frame or 0), Prompt(mask=np.asarray(mask)), object_id=object_id, block=block)

    def add_labels(self, labels: ArrayLike, *, frame: int | None = None) -> list[int]:
        """Start objects from a label image of one plane, as from Cellpose or painted; numbers are kept.

        Parameters
        ----------
        labels : (H, W) array-like of int
            0 background.
        frame : int, optional
            Plane.

        Returns
        -------
        list of int
            The objects, ascending. One ``undo`` takes all of them back.

        Raises
        ------
        PromptError
            If the labels are empty, of another shape or no whole numbers, the plane does not exist, or an object is
            locked on it.
        """
        image = np.asarray(labels)
        if image.shape != self.geometry.hw or image.dtype.kind not in "iub":
            raise PromptError(
                f"labels of shape {image.shape} and type {image.dtype} were given; "
                f"allowed are whole numbers of shape {self.geometry.hw}"
            )
        ids = [int(i) for i in np.unique(image) if i > 0]
        if not ids:
            raise PromptError("labels without any object were given; mark at least one pixel with a number above 0")
        locked = [o.name for o in self.store.objects.values() if o.object_id in ids and (frame or 0) in o.locked]
        if locked:
            raise PromptError(f"{', '.join(locked)} are locked on frame {frame or 0}; unlock them there to change them")
        with self.as_one_step():
            for i in ids:
                self.add_mask(image == i, frame=frame, object_id=i, block=False)
        return ids

    @contextmanager
    def as_one_step(self) -> Iterator[None]:
        """Within it, all changes are one step of ``undo``."""
        self._step = len(self.history.done)
        try:
            yield
        finally:
            self._step = None

    def set_prompt(
        self,
        frame: int,
        prompt: Prompt | None = None,
        *,
        object_id: int | None = None,
        candidate: int | None = None,
        block: bool = True,
    ) -> int:
        """Say all there is to say about an object on a plane; what was said there before is replaced.

        Parameters
        ----------
        frame : int
            Plane.
        prompt : Prompt or None
            In pixels (x, y) of the plane; None takes the prompt back.
        object_id : int, optional
            Default: a new object. A number that is not in use makes an object of that number.
        candidate : int, optional
            Which of the three candidates of an ambiguous click is meant, 0 for the best.
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
        plane = self._check_plane(frame)
        if prompt is not None:
            prompt.check_inside(self.geometry.hw)
            _check_box(prompt)
            if prompt.mask is not None:
                self._wait_for_plane(plane)
        with self._changing():
            edits: list[Edit] = []
            number = object_id
            if number is None or number not in self.store.objects:
                if prompt is None:
                    raise PromptError(f"object {object_id} does not exist; there is no prompt to take back")
                made = self._make_object(None, number)
                edits.append(Edit("objects", made.object_id, None, made))
                number = made.object_id
            elif plane in self.store.object(number).locked:
                raise PromptError(
                    f"{self.store.object(number).name} is locked on frame {plane}; unlock it there to change it"
                )
            old = self.store.prompts.get((number, plane))
            if old is not None and prompt is not None and is_same(prompt, old.prompt) and candidate == old.candidate:
                self._ask_failed(number, plane)
                return number
            edits += self._prompt_edits(number, plane, old, prompt, candidate)
            arguments: dict[str, object] = {"frame": plane, "prompt": prompt, "object_id": number}
            if candidate is not None:
                arguments["candidate"] = candidate
            change = self._push("prompt" if prompt is not None else "remove prompt", "set_prompt", arguments, edits)
            entry = self.store.prompts.get((number, plane))
            if entry is not None and not entry.is_mask_only:
                change.stamp = entry.stamp
            self._errors.pop((number, plane), None)
            self._ask(number, plane)
        if block:
            self.wait_for_answers()
        return number

    def remove_prompt(self, object_id: int, frame: int) -> None:
        """Take back all that was said about an object on a plane."""
        if (object_id, frame) not in self.store.prompts:
            said = list(self.store.prompts_of(object_id)) or "none"
            raise PromptError(f"object {object_id} has no prompt on frame {frame}; it has on {said}")
        self.set_prompt(frame, None, object_id=object_id)

    def next_candidate(self, object_id: int, frame: int, *, block: bool = True) -> int:
        """Take the next of the three candidates of a single click; returns its number, 0 for the best.

        Raises
        ------
        PromptError
            If the prompt is not one click.
        """
        entry = self.store.prompts.get((object_id, frame))
        if entry is None or len(entry.prompt.points) != 1 or entry.prompt.box is not None:
            raise PromptError("only a single click has several candidates; this prompt says more, or there is none")
        number = ((entry.candidate or 0) + 1) % 3
        self.set_prompt(frame, entry.prompt, object_id=object_id, candidate=number, block=block)
        return number

    def _prompt_edits(
        self, object_id: int, plane: int, old: PromptEntry | None, prompt: Prompt | None, candidate: int | None
    ) -> list[Edit]:
        key = (object_id, plane)
        mask = self.store.masks.get(key)
        edits: list[Edit] = []
        if prompt is None:
            edits.append(Edit("prompts", key, old, None))
            base = None if old is None else old.base
            after = None if base is None else replace(ObjectMask.pack(base, "tracked"), is_stale=True)
            edits.append(Edit("masks", key, mask, after))
        else:
            self._stamp += 1
            if old is not None:
                base = old.base
            else:
                base = mask.to_image(self.geometry.hw) if mask is not None and mask.kind == "tracked" else None
            smaller = None
            if old is not None and old.answer is not None and grew(prompt, old.prompt):
                smaller = (old.prompt, old.answer)
            entry = PromptEntry(prompt, self._stamp, base, candidate, smaller)
            edits.append(Edit("prompts", key, old, entry))
            if entry.is_mask_only:
                assert prompt.mask is not None
                packed = ObjectMask.pack(prompt.mask, "painted")
                edits += self.store.mask_edits(plane, {object_id: packed}, self.settings.overlap)
        edits += self._stale_edits(object_id, plane)
        return edits

    def _stale_edits(self, object_id: int, plane: int) -> list[Edit]:
        """Tracked masks up to the next anchors are not up to date any more."""
        clip = self.geometry.clip_range(plane)
        found = self.store.objects.get(object_id)
        locked = found.locked if found is not None else frozenset()
        anchors = [a for a in anchors_of(self.store.prompts_of(object_id, clip), locked, clip) if a != plane]
        reach = neighbours(plane, anchors, clip)
        edits = []
        for p in self.store.planes_of(object_id):
            mask = self.store.masks[object_id, p]
            if p in reach and p != plane and mask.kind in ("tracked", "lost") and not mask.is_stale:
                edits.append(Edit("masks", (object_id, p), mask, replace(mask, is_stale=True)))
        return edits

    # ------------------------------------------------------------------ answers
    def _ask(self, object_id: int, plane: int) -> None:
        """Have the model answer a prompt; a newer one for the same object and plane takes its place."""
        entry = self.store.prompts.get((object_id, plane))
        if entry is None or entry.answer is not None or entry.is_mask_only:
            self._waiting.pop((object_id, plane), None)
            return
        clip = self.geometry.clip_range(plane)
        others = {p: e for p, e in self.store.prompts_of(object_id, clip).items() if p != plane}
        asked = Asked(object_id, plane, entry, others, self.model, self.frames, self.settings.overlap)
        self._waiting[object_id, plane] = entry.stamp

        def done(outcome: tuple[PredictResult, ObjectMask] | Exception) -> None:
            self._hand_over(lambda: self._take_answer(asked, outcome))

        self._compute.submit(Job(lambda: self._answerer.answer(asked, self.settings), done, key=(object_id, plane)))

    def _take_answer(self, asked: Asked, outcome: tuple[PredictResult, ObjectMask] | Exception) -> None:
        object_id, plane, stamp = asked.object_id, asked.plane, asked.entry.stamp
        with self._lock:
            key = (object_id, plane)
            entry = self.store.prompts.get(key)
            if entry is None or entry.stamp != stamp or entry.answer is not None:
                if self._waiting.get(key) == stamp:
                    del self._waiting[key]
                return
            if isinstance(outcome, Exception):
                self._waiting.pop(key, None)
                self._errors[key] = outcome
                self.failed.emit(outcome)
                return
            result, packed = outcome
            answered = replace(entry, answer=result.answer)
            mask_edits = self.store.mask_edits(plane, {object_id: packed}, asked.overlap)
            if asked.model is not self.model and (kept := mask_edits[0].after) is not None:
                answered = as_seen(answered, cast("ObjectMask", kept), self.geometry.hw)
            change = self.history.change_of(stamp)
            if change is not None:
                change.is_answered = True
            self._amend([Edit("prompts", key, entry, answered), *mask_edits], change)
            self._waiting.pop(key, None)  # last: whoever waits for answers finds all of it

    def wait_for_answers(self, timeout: float | None = None) -> None:
        """Block until every prompt has its mask.

        Raises
        ------
        NapariSAM2Error
            What went wrong with one of them.
        TimeoutError
            If it takes longer than ``timeout`` seconds.
        """
        self._wait(lambda: not self._waiting, timeout)
        if self._errors:
            _, error = self._errors.popitem()
            raise error

    def _wait_for_plane(self, plane: int) -> None:
        """What is given pixel for pixel comes after the answers of its plane, whenever those arrive."""
        if self._deliver is None or hasattr(self._deliver, "process"):
            self._wait(lambda: not any(p == plane for _, p in self._waiting), None)

    def _ask_failed(self, object_id: int, plane: int) -> None:
        """Ask once more where the model failed before."""
        self._errors.pop((object_id, plane), None)
        if (object_id, plane) not in self._waiting:
            self._ask(object_id, plane)

    def _set_model_state(self, state: ModelState) -> None:
        def apply() -> None:
            self.model_state = state
            self.model_changed.emit(state)

        self._hand_over(apply)

    def prepare(self, plane: int | None = None) -> None:
        """Load the model in the background, and encode a plane, so that the first click is answered at once."""

        def compute() -> None:
            engine = self._answerer.engine(self.model, self.frames, self.settings)
            if plane is not None:
                engine.prepare(plane)

        def done(outcome: object) -> None:
            if isinstance(outcome, Exception):
                self._hand_over(lambda: self.failed.emit(outcome))

        self._compute.submit(Job(compute, done, key="prepare"))

    def set_model(self, model: SAM2 | str | Path, *, prepare: bool = True) -> None:
        """Answer later prompts with another model; masks that are there stay.

        Prompts keep their answers' masks, but tracking remembers them anew with the new model.
        """
        with self._changing():
            edits = [Edit("settings", "model", self.model, model)]
            for key, entry in self.store.prompts.items():
                if entry.answer is not None:
                    seen = as_seen(entry, self.store.masks.get(key), self.geometry.hw)
                    edits.append(Edit("prompts", key, entry, seen))
            self._push("change model", "set_model", {"model": model_name(model)}, edits)
            self._ask_again()
        if prepare:
            self.prepare()

    # ------------------------------------------------------------------ painting
    def adopt_painting(self, frames: Iterable[int]) -> list[int]:
        """Take what was painted into ``labels`` as corrections: a mask prompt for each object that changed.

        Parameters
        ----------
        frames : iterable of int
            Planes that were painted on.

        Returns
        -------
        list of int
            The objects that changed.
        """
        touched: list[int] = []
        for plane in frames:
            self._check_plane(plane)
            self._wait_for_plane(plane)
            painted, known = self._painted(plane)
            differs = painted != known
            if not differs.any():
                continue
            ids = {int(i) for i in np.unique(np.concatenate((painted[differs], known[differs]))) if i > 0}
            with self._changing():
                edits: list[Edit] = []
                for i in sorted(ids):
                    edits += self._painting_edits(i, plane, painted == i)
                arguments: dict[str, object] = {
                    "frame": plane,
                    "masks": {i: painted == i for i in sorted(ids)},
                }
                self._push("paint", "paint", arguments, edits)
            touched += sorted(ids)
        return touched

    def _painted(self, plane: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(H, W) labels as painted and as known; what was painted over locked objects is taken back."""
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

    def paint(self, frame: int, masks: Mapping[int, ArrayLike]) -> None:
        """Set the pixels of objects on a plane as painting does; other objects give way.

        Parameters
        ----------
        frame : int
            Plane.
        masks : mapping of int to (H, W) array-like
            Object -> its pixels, perhaps none. Numbers that are not in use make objects.
        """
        plane = self._check_plane(frame)
        for i, mask in masks.items():
            if np.shape(mask) != self.geometry.hw or int(i) < 1:
                raise PromptError(
                    f"a mask of shape {np.shape(mask)} was given for object {i}; allowed are numbers above 0 and "
                    f"masks of shape {self.geometry.hw}"
                )
        self._wait_for_plane(plane)
        image = self.store.composed(plane)
        for i in masks:
            image[image == i] = 0
        for i, mask in masks.items():
            image[np.asarray(mask, bool)] = i
        self.store.labels[self.geometry.index(plane)] = image
        self.adopt_painting([plane])

    def _painting_edits(self, object_id: int, plane: int, mask: NDArray[np.bool_]) -> list[Edit]:
        key = (object_id, plane)
        edits: list[Edit] = []
        if object_id not in self.store.objects:
            edits.append(Edit("objects", object_id, None, self._make_object(None, object_id)))
        old_mask, old = self.store.masks.get(key), self.store.prompts.get(key)
        self._stamp += 1
        base = old.base if old is not None else None
        entry = PromptEntry(Prompt(mask=mask), self._stamp, base) if mask.any() else None
        if old is not None or entry is not None:
            edits.append(Edit("prompts", key, old, entry))
        edits.append(Edit("masks", key, old_mask, ObjectMask.pack(mask, "painted")))
        return edits + self._stale_edits(object_id, plane)

    # ------------------------------------------------------------------ propagation
    def propagate(
        self,
        direction: Direction = "both",
        *,
        start: int | None = None,
        stop: int | None = None,
        object_ids: Sequence[int] | None = None,
        max_frames: int | None = None,
        block: bool = True,
    ) -> PropagationHandle:
        """Track objects to the planes that have no mask yet or whose mask is out of date.

        A corrected object is tracked again only up to the next prompted or locked plane on each side. Locked planes
        are never touched.

        Parameters
        ----------
        direction : {"both", "forward", "backward"}
            From each prompted plane.
        start, stop : int, optional
            Planes to fill, as in ``range(start, stop)``; default: all of the clips that hold prompts.
        object_ids : sequence of int, optional
            Default: all that have a prompt.
        max_frames : int, optional
            End after so many frames, as a cancel does.
        block : bool, default True
            Wait for the end. Otherwise the handle tells of progress, and can cancel and wait.

        Returns
        -------
        PropagationHandle
            Ended, unless ``block`` is False.

        Raises
        ------
        PromptError
            If nothing was prompted, or an object or plane does not exist.
        """
        if direction not in ("both", "forward", "backward"):
            raise PromptError(f"direction {direction!r} was given; allowed are 'both', 'forward' and 'backward'")
        self.wait_for_answers()
        limits = range(
            0 if start is None else self._check_plane(start),
            self.geometry.num_planes if stop is None else min(int(stop), self.geometry.num_planes),
        )
        with self._changing():
            chosen = objects_to_track(self.store, object_ids)
            steps = steps_to_track(self.store, chosen, direction, limits)
            if max_frames is not None:
                steps = steps[:max_frames]
            handle = PropagationHandle(len(steps), tuple(chosen))
            handle.on_request = self._follow_handle
            handle.wait_for = self._wait
            self._handle = handle
            if not steps:
                handle.finish()
                self.propagation_changed.emit(handle)
                return handle
            arguments: dict[str, object] = {"direction": direction}
            given = {"start": start, "stop": stop, "object_ids": object_ids, "max_frames": max_frames}
            arguments |= {k: v for k, v in given.items() if v is not None}
            if object_ids is not None:
                arguments["object_ids"] = [int(i) for i in object_ids]
            self._running_change = self._push("propagate", "propagate", arguments, [])
            request = TrackRequest(known_prompts(self.store, chosen), steps, self.settings.lost_after)
            self._running_request = request
            self._run(handle, request)
        self.propagation_changed.emit(handle)
        if block:
            handle.wait()
        return handle

    def _follow_handle(self, handle: PropagationHandle) -> None:
        """A handle was asked to pause, to go on or to stop, by whoever holds it."""

        def follow() -> None:
            if handle is not self._handle or not handle.is_running:
                return
            if handle.is_cancelled:
                self._stop_propagation()
                return
            if self._running_steps is not None:
                self._running_steps.is_paused = handle.is_paused
            self._compute.wake()
            self.propagation_changed.emit(handle)

        self._hand_over(follow)

    def _run(self, handle: PropagationHandle, request: TrackRequest) -> None:

        model, frames = self.model, self.frames

        def start() -> Iterator[TrackedPlane]:
            engine = self._answerer.engine(model, frames, self.settings)
            found = engine.track(request, lambda: handle.is_cancelled)
            for step in request.steps:
                engine.use_threads(self.settings.threads)
                result = next(found, None)
                if result is None:
                    return
                yield pack_result(result, step)

        def on_step(tracked: TrackedPlane) -> bool:
            if not handle.is_cancelled:
                self._hand_over(lambda: self._take_tracked(handle, tracked))
            if self._running_steps is not None:
                self._running_steps.is_paused = handle.is_paused
            return not handle.is_cancelled

        def on_end(error: BaseException | None) -> None:
            problem = error if isinstance(error, Exception) else None
            self._hand_over(lambda: self._end(handle, problem))

        self._running_steps = Steps(start, on_step, on_end)
        self._compute.submit_steps(self._running_steps)

    def _take_tracked(self, handle: PropagationHandle, tracked: TrackedPlane) -> None:
        with self._lock:
            if handle is not self._handle or not handle.is_running or handle.is_cancelled:
                return
            plane = tracked.step.frame
            new = {
                i: m
                for i, m in tracked.masks.items()
                if i in self.store.objects
                and plane not in self.store.objects[i].locked
                and (i, plane) not in self.store.prompts
            }
            handle.num_done += 1
            handle.plane = plane
            self._amend(self.store.mask_edits(plane, new, self.settings.overlap), self._running_change)
        self.propagation_changed.emit(handle)

    def _end(self, handle: PropagationHandle, error: Exception | None) -> None:
        with self._lock:
            if not handle.is_running:
                return
            self._close_change(handle)
            handle.finish(error)
        if error is not None:
            self.failed.emit(error)
        self.propagation_changed.emit(handle)

    def _close_change(self, handle: PropagationHandle) -> None:
        """Note how far a propagation came, for scripts."""
        change = self._running_change
        if change is not None and change.operation is not None and handle is self._handle:
            change.operation = _cut(change.operation, handle)
            self._running_change = None
            self._running_steps = None
            self._running_request = None

    def cancel(self) -> None:
        """End the propagation that runs; finished frames stay."""
        self._stop_propagation()

    def pause(self) -> None:
        """Let the propagation wait after the frame that is being computed."""
        if self._handle is not None:
            self._handle.pause()

    def resume(self) -> None:
        """Go on after ``pause``."""
        if self._handle is not None:
            self._handle.resume()

    def _stop_propagation(self) -> None:
        handle, steps = self._handle, self._running_steps
        if handle is None or not handle.is_running:
            return
        with self._lock:
            handle.mark_cancelled()
            if steps is not None:
                steps.is_stopped = True
            self._close_change(handle)
            handle.finish()
        self._compute.wake()
        self.propagation_changed.emit(handle)

    # ------------------------------------------------------------------ undo
    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return self.history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is something to do again."""
        return self.history.can_redo

    def undo(self) -> bool:
        """Take the latest change back, exactly; whether there was one."""
        self._stop_propagation()
        with self._lock:
            if not self.history.can_undo:
                return False
            self._apply(self.history.undo())
            self._ask_again()
        return True

    def redo(self) -> bool:
        """Do what was undone last; whether there was something."""
        self._stop_propagation()
        with self._lock:
            if not self.history.can_redo:
                return False
            self._apply(self.history.redo())
            self._ask_again()
        return True

    def _ask_again(self) -> None:
        """Prompts whose answer was undone with a later change are asked once more."""
        for (object_id, plane), entry in list(self.store.prompts.items()):
            if entry.answer is None and not entry.is_mask_only:
                self._ask(object_id, plane)

    # ------------------------------------------------------------------ settings
    def set_overlap(self, overlap: Literal["keep", "overwrite", "highest score"]) -> None:
        """What later masks may do where they meet others: keep off, overwrite them, or win by score."""
        if overlap not in get_args(OverlapRule):
            raise PromptError(
                f"overlap {overlap!r} was given; allowed are {', '.join(map(repr, get_args(OverlapRule)))}"
            )
        if overlap == self.settings.overlap:
            return
        with self._changing():
            edits = [Edit("settings", "overlap", self.settings.overlap, overlap)]
            self._push(f"overlap: {overlap}", "set_overlap", {"overlap": overlap}, edits)

    def set_hardware(self, *, device: str | None = None, dtype: str | None = None, threads: int | None = None) -> None:
        """Compute on another device, in another precision or with another number of CPU threads from now on.

        Parameters
        ----------
        device, dtype : str, optional
            As for ``load_model``; default: as before.
        threads : int, optional
            CPU threads of torch; default: as before.
        """
        given = {"device": device, "dtype": dtype, "threads": threads}
        settings = replace(self.settings, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        if settings == self.settings:
            return
        self._stop_propagation()
        self.settings = settings

        def forget() -> None:
            self._answerer.forget_engine()

        self._compute.submit(Job(forget, lambda _: None))
        self.prepare()

    def set_lost_after(self, num_frames: int | None) -> None:
        """After how many frames without it an object is no longer sought; None: it is always sought."""
        if num_frames is not None and num_frames < 1:
            raise PromptError(f"lost_after={num_frames} was given; allowed are numbers from 1, or None")
        if num_frames == self.settings.lost_after:
            return
        with self._changing():
            edits = [Edit("settings", "lost_after", self.settings.lost_after, num_frames)]
            self._push("stop when lost", "set_lost_after", {"num_frames": num_frames}, edits)

    def set_frames(self, frames: FrameSource) -> None:
        """Show the model other pixels of the same stack from now on, such as after a change of contrast."""
        if frames.shape != self.frames.shape:
            raise FrameError(f"frames of shape {frames.shape} were given; the stack has {self.frames.shape}")
        looks = looks_of(frames)
        is_shown_alike = looks is not None and looks == looks_of(self.frames)
        if is_shown_alike or not (self.store.prompts or self.operations):
            if not self.operations:
                self.first_frames = frames
                self.has_automatic_contrast &= is_shown_alike
            self.frames = frames
            return
        with self._changing():
            edits = [Edit("settings", "frames", self.frames, frames)]
            if looks is None:
                self._push("change image", None, {}, edits)
            else:
                self._push("change contrast", "set_contrast", contrast_arguments(looks), edits)

    def set_contrast(
        self,
        limits: Sequence[Sequence[float]],
        *,
        gamma: Sequence[float] | None = None,
        colours: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Show the model the stack with another contrast from now on; masks that are there stay.

        Parameters
        ----------
        limits : sequence of (float, float)
            For each channel the value shown black and the value shown in full.
        gamma : sequence of float, optional
            For each channel the exponent between the limits; default 1.
        colours : sequence of (float, float, float), optional
            For each channel the RGB of the full value, 0 to 1; default white.

        Raises
        ------
        FrameError
            If the number of channels differs, or the stack chooses its contrast itself.
        """
        if not isinstance(self.frames, ArrayPlanes):
            raise FrameError("this stack chooses its contrast itself; give the contrast when opening it")
        self.set_frames(with_looks(self.frames, make_looks(limits, gamma, colours)))

    # ------------------------------------------------------------------ changing
    def _changing(self, *, stops: bool = True) -> threading.RLock:
        """To be entered for a change: a propagation that runs ends first, with all its frames kept."""
        if stops:
            self._stop_propagation()
        return self._lock

    def _push(self, title: str, method: str | None, arguments: dict[str, object], edits: list[Edit]) -> Change:
        change = Change(title, None if method is None else Operation(method, arguments), edits, step=self._step)
        self.history.push(change)
        self._apply(edits)
        return change

    def _amend(self, edits: list[Edit], change: Change | None = None) -> None:
        """Add what came of a change to it."""
        target = self.history.top if change is None else change
        if target is not None:
            target.edits.extend(edits)
        self._apply(edits)

    def _apply(self, edits: Sequence[Edit]) -> None:
        delta: StoreDelta = self.store.commit(edits)
        for edit in edits:
            if edit.table == "settings":
                self._follow_setting(str(edit.key), edit.after)
        if self._autosave is not None:
            self._autosave.note(delta)
        self.changed.emit(delta)

    def _follow_setting(self, name: str, value: Any) -> None:
        if name == "overlap":
            self.settings = replace(self.settings, overlap=value)
        elif name == "lost_after":
            self.settings = replace(self.settings, lost_after=value)
        elif name == "model":
            self.model = value
        else:
            self.frames = value

    def report_failure(self, error: Exception) -> None:
        """Tell of an error of work in the background, on the thread that owns the session."""
        self._hand_over(lambda: self.failed.emit(error))

    @property
    def operations(self) -> list[Operation]:
        """The calls that lead to the state, oldest first: what never had an effect is left out."""
        with self._lock:
            found = replayable(self.history.done, {e.stamp for e in self.store.prompts.values()})
            if self._running_change is not None and self._handle is not None:
                running = self._running_change.operation
                found = [_cut(o, self._handle) if o is running else o for o in found]
            return [*self.history.earlier, *found]

    def snapshot(self) -> SessionSnapshot:
        """The state at one moment, for files; its values never change."""
        with self._lock:
            return SessionSnapshot(
                objects=tuple(self.store.objects.values()),
                prompts=dict(self.store.prompts),
                masks=dict(self.store.masks),
                operations=tuple(self.operations),
                settings=self.settings,
                model=self.model,
                frames=self.frames,
            )

    def restore(self, snapshot: SessionSnapshot) -> None:
        """Take over a state, such as from a file; what was there before is forgotten, and cannot be brought back.

        The snapshot's model and frames are not taken: they are those that the session was made with.
        """
        with self._changing():
            tables = self.store.tables
            edits = [Edit(t, key, value, None) for t in _TABLES for key, value in tables[t].items()]
            edits += [Edit("objects", o.object_id, None, o) for o in snapshot.objects]
            edits += [Edit("prompts", key, None, entry) for key, entry in snapshot.prompts.items()]
            edits += [Edit("masks", key, None, mask) for key, mask in snapshot.masks.items()]
            self._stamp = max((e.stamp for e in snapshot.prompts.values()), default=self._stamp)
            self.history = History(snapshot.operations)
            self.settings = snapshot.settings
            self._apply(edits)
            self._ask_again()

    def _hand_over(self, function: Callable[[], None]) -> None:
        """Run on the thread that owns the session; without one, at once."""
        if self._deliver is not None:
            self._deliver(function)
        else:
            function()

    def _wait(self, is_done: Callable[[], bool], timeout: float | None) -> None:
        from napari_sam2.session.waiting import wait_until

        wait_until(is_done, timeout, self._deliver)

    # ------------------------------------------------------------------ files
    def save(self, path: str | Path) -> Path:
        """Write everything to one file, atomically: prompts, objects, masks, settings, model and image reference."""
        from napari_sam2.session.document import save_session

        return save_session(self, path)

    @classmethod
    def load(cls, path: str | Path, stack: Any = None, **options: Any) -> Session:
        """Open a saved session.

        Parameters
        ----------
        path : str or Path
            As written by ``save`` or the autosave.
        stack : array, path or FrameSource, optional
            The image. Default: the file that the session names.
        **options
            As for ``Session``.

        Raises
        ------
        OutputError
            If the file is missing, damaged or no session.
        FrameError
            If the image cannot be found or has another shape.
        """
        from napari_sam2.session.document import load_session

        return load_session(cls, path, stack, options)

    def to_python(self) -> str:
        """A script that does it all again, without a viewer, and comes to the same labels."""
        from napari_sam2.session.script import to_python

        self.wait_for_answers()
        return to_python(self)

    def to_command_line(self, path: str | Path = "session.sam2", output: str | Path = "labels.tif") -> str:
        """A shell command that replays the session from its saved file and comes to the same labels."""
        from napari_sam2.session.script import to_command_line

        return to_command_line(self, path, output)

    def close(self, *, keep_autosave: bool = True) -> None:
        """End the thread and the autosave; the session can still be read.

        Parameters
        ----------
        keep_autosave : bool, default True
            False removes the file that was saved by itself.
        """
        self._stop_propagation()
        self._compute.close()
        if self._autosave is not None:
            self._autosave.close(keep=keep_autosave)
            self._autosave = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut(operation: Operation, handle: PropagationHandle) -> Operation:
    """A propagation as far as it came."""
    if handle.num_done >= handle.num_steps:
        return operation
    return Operation(operation.method, {**operation.arguments, "max_frames": handle.num_done})


def _check_box(prompt: Prompt) -> None:
    if prompt.box is not None:
        x0, y0, x1, y1 = cast("tuple[float, ...]", tuple(prompt.box))
        if min(x1 - x0, y1 - y0) < PROMPT_AREA:
            warnings.warn(
                f"the box is {x1 - x0:g} x {y1 - y0:g} pixels, which is hardly an object; draw it around the object",
                stacklevel=3,
            )

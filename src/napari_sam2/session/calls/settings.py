"""The calls of a session that choose and prepare its model, its contrast and its settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import as_numbers, check_choice, check_count, check_number
from napari_sam2._errors import FrameError, PromptError
from napari_sam2._messages import shown
from napari_sam2._types import FrameSource
from napari_sam2.frames.display import contrast_arguments, displays_of, make_displays, with_displays
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.engines.compute_address import ComputeAddress, as_compute_address
from napari_sam2.session.files.model_names import model_name
from napari_sam2.session.state.history import Edit
from napari_sam2.session.state.settings import OverlapRule
from napari_sam2.session.worker.compute_thread import Job, Steps
from napari_sam2.session.worker.engine_keeper import as_seen

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from napari_sam2.network.sam2 import SAM2

__all__ = ["SettingCalls"]

logger = logging.getLogger(__name__)


@checked_calls(PromptError)
class SettingCalls(SessionBase):
    """The calls of a session that choose and prepare its model, its contrast and its settings."""

    def prepare(self, plane: int | None = None) -> None:
        """Load the model in the background and encode a plane, so that the first click is answered at once.

        Parameters
        ----------
        plane : int, optional
            Which plane; default none.

        Raises
        ------
        PromptError
            If there is no such plane.
        """
        if plane is not None:
            self.geometry.check_plane(plane)

        def compute() -> None:
            engine = self._engine_keeper.engine(self.model, self.frames, self.settings)
            if plane is not None:
                engine.prepare(plane)

        def done(outcome: object) -> None:
            if isinstance(outcome, Exception):
                self.report_failure(outcome)

        self._compute.submit(Job(compute, done, key="prepare"))

    @property
    def model_is_outdated(self) -> bool:
        """Whether the file of the model was replaced since it was loaded; ``set_model`` loads it again."""
        return self._engine_keeper.is_outdated(self.model)

    def look_ahead(self, plane: int, point_yx: tuple[float, float]) -> None:
        """Encode during idle time what a click near a point would need.

        Results do not depend on it. Encoding for an earlier point is abandoned.

        Parameters
        ----------
        plane : int
            As for ``prepare``.
        point_yx : tuple of float
            (y, x) in pixels of the plane.

        Raises
        ------
        PromptError
            If there is no such plane, or a coordinate is not finite.
        """
        self.geometry.check_plane(plane)
        for number in point_yx:
            check_number("point_yx", number)

        def encode() -> Iterator[None]:
            engine = self._engine_keeper.engine_at_hand(self.model, self.frames, self.settings)
            return iter(()) if engine is None else engine.look_ahead(plane, (point_yx[1], point_yx[0]))

        def ended(error: BaseException | None) -> None:
            if error is not None:  # a click there reports it
                logger.debug("looking ahead on plane %d failed: %s", plane, error)

        self._compute.submit_idle(Steps(encode, lambda _: True, ended))

    def set_model(self, model: SAM2 | str | Path, *, prepare: bool = True) -> None:
        """Use another model for later prompts; existing masks are kept.

        Existing prompts keep their masks, which the new model encodes again for tracking. A file that was replaced
        since it was loaded, such as by a further fine-tuning, is read again.

        Parameters
        ----------
        model : SAM2, str or Path
            As for ``load_model``.
        prepare : bool, default True
            Load it in the background now, rather than on first use.

        Raises
        ------
        CheckpointError
            If it is neither a network nor a name or path. A model that cannot be read is reported by ``failed``.
        PromptError
            If ``prepare`` is neither True nor False.
        """
        if self._engine_keeper.is_outdated(model):
            self._propagator.stop()
            self._compute.submit(Job(self._engine_keeper.forget_engine, lambda _: None))
        with self._changing():
            edits = [Edit("settings", "model", self.model, model)]
            for key, entry in self.store.prompts.items():
                if entry.answer is not None:
                    seen = as_seen(entry, self.store.masks.get(key), self.geometry.hw)
                    edits.append(Edit("prompts", key, entry, seen))
            self._state.push("change model", "set_model", {"model": model_name(model)}, edits)
            self._prompt_queue.add_missing()
        if prepare:
            self.prepare()

    def set_overlap(self, overlap: Literal["keep", "overwrite", "highest score"]) -> None:
        """Choose what later masks do where they overlap others: give way, overwrite them, or win by score.

        Raises
        ------
        PromptError
            If it is none of the three.
        """
        check_choice("overlap", overlap, get_args(OverlapRule))
        if overlap == self.settings.overlap:
            return
        with self._changing():
            edits = [Edit("settings", "overlap", self.settings.overlap, overlap)]
            self._state.push(f"overlap: {overlap}", "set_overlap", {"overlap": overlap}, edits)

    def set_hardware(self, *, device: str | None = None, dtype: str | None = None, threads: int | None = None) -> None:
        """Change device, precision or number of CPU threads for later computations.

        Parameters
        ----------
        device, dtype : str, optional
            As for ``load_model``; default: as before.
        threads : int, optional
            CPU threads of torch; default: as before.

        Raises
        ------
        PromptError
            If a value is of the wrong type or out of range. An unknown device or precision shows when the model is
            loaded.
        """
        given = {"device": device, "dtype": dtype, "threads": threads}
        settings = replace(self.settings, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        if settings == self.settings:
            return
        self._propagator.stop()
        self._state.settings = settings
        self._compute.submit(Job(self._engine_keeper.forget_engine, lambda _: None))
        self.prepare()

    def set_compute(self, compute: str | ComputeAddress | None) -> None:
        """Compute on a server from now on, or with None in this process; masks are kept.

        Parameters
        ----------
        compute : str, ComputeAddress or None
            As for ``Session``.

        Raises
        ------
        DeviceError
            If the address cannot be understood. Whether a server answers shows with ``model_changed``.
        PromptError
            If it is not an address.
        """
        address = as_compute_address(compute)
        if address == self.compute:
            return
        self._check_open()
        self._propagator.stop()
        self._engine_keeper.compute = address
        self.prepare()

    def set_lost_after(self, num_frames: int | None) -> None:
        """Stop tracking an object after this many consecutive frames without it; None: never.

        Raises
        ------
        PromptError
            If it is not an integer from 1.
        """
        if num_frames is not None:
            num_frames = check_count("num_frames", num_frames, 1)
        if num_frames == self.settings.lost_after:
            return
        with self._changing():
            edits = [Edit("settings", "lost_after", self.settings.lost_after, num_frames)]
            self._state.push("stop when lost", "set_lost_after", {"num_frames": num_frames}, edits)

    def set_keep_apart(self, keep_apart: bool) -> None:
        """Keep objects apart in memory: later tracking writes each pixel only to the object with the highest logit.

        Raises
        ------
        PromptError
            If it is neither True nor False.
        """
        if keep_apart == self.settings.keep_apart:
            return
        with self._changing():
            edits = [Edit("settings", "keep_apart", self.settings.keep_apart, keep_apart)]
            self._state.push("keep apart", "set_keep_apart", {"keep_apart": keep_apart}, edits)

    def set_frames(self, frames: FrameSource) -> None:
        """Show the model other pixels of the same stack from now on, such as after a change of contrast.

        Raises
        ------
        FrameError
            If they are not frames, or of another shape.
        PromptError
            If the session is closed.
        """
        if not isinstance(frames, FrameSource):
            raise FrameError(f"{type(frames).__name__} was given; expected the result of open_frames or show_planes")
        if frames.shape != self.frames.shape:
            raise FrameError(f"frames of shape {frames.shape} were given; the stack has {self.frames.shape}")
        looks = displays_of(frames)
        is_shown_alike = looks is not None and looks == displays_of(self.frames)
        if is_shown_alike or not (self.store.prompts or self.operations):
            if not self.operations:
                is_automatic = self.origin.has_automatic_contrast and is_shown_alike
                self.origin = replace(self.origin, frames=frames, has_automatic_contrast=is_automatic)
            self._state.frames = frames
            return
        with self._changing():
            edits = [Edit("settings", "frames", self.frames, frames)]
            edits += [Edit("conditions", plane, found, None) for plane, found in self.store.conditions.items()]
            if looks is None:
                self._state.push("change image", None, {}, edits)
            else:
                self._state.push("change contrast", "set_contrast", contrast_arguments(looks), edits)

    def set_contrast(
        self,
        limits: Sequence[Sequence[float]],
        *,
        gamma: Sequence[float] | None = None,
        colours: Sequence[Sequence[float]] | None = None,
        usual: Sequence[float | None] | None = None,
    ) -> None:
        """Show the stack to the model with another contrast from now on; existing masks are kept.

        Parameters
        ----------
        limits : sequence of (float, float)
            For each channel the value shown black and the value shown in full.
        gamma : sequence of float, optional
            For each channel the exponent between the limits; default 1.
        colours : sequence of (float, float, float), optional
            For each channel the RGB of the full value, 0 to 1; default white.
        usual : sequence of float or None, optional
            For each channel the upper quartile of a usual plane: see ``show_planes``. Default: all planes are shown by
            the limits.

        Raises
        ------
        FrameError
            If the number of channels differs, or the stack chooses its contrast itself.
        PromptError
            If a value is not a number.
        """
        if not isinstance(self.frames, ArrayPlanes):
            raise FrameError(
                "the contrast of this stack was set when it was opened; open it again with another contrast"
            )
        displays = make_displays(
            _rows(limits, "limits", 2),
            None if gamma is None else [row[0] for row in _rows(gamma, "gamma", 1)],
            None if colours is None else _rows(colours, "colours", 3),
            usual=None if usual is None else [_number_or_none(value) for value in usual],
        )
        self.set_frames(with_displays(self.frames, displays))


def _number_or_none(value: float | None) -> float | None:
    return None if value is None else _rows([value], "usual", 1)[0][0]


def _rows(values: ArrayLike, name: str, width: int) -> list[list[float]]:
    """Finite numbers, ``width`` for each channel.

    Raises
    ------
    FrameError
        If they are something else.
    """
    try:
        array = as_numbers(values, name)
    except PromptError as error:
        raise FrameError(str(error)) from error
    if width == 1 and array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != width or not np.isfinite(array).all():
        raise FrameError(f"{name}={shown(values)} was given; expected {width} finite numbers for each channel")
    return [[float(number) for number in row] for row in array]

"""Tracking as the user asks for it: what to fill, and to pause, go on or end."""

from __future__ import annotations

from collections.abc import Sequence

from napari_sam2._checks import check_ids
from napari_sam2._errors import PromptError
from napari_sam2._types import Direction
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["PropagationCalls"]


class PropagationCalls(SessionBase):
    """The calls of a session that track its objects."""

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
        self._check_open()
        chosen = None if object_ids is None else check_ids(object_ids)
        self.wait_for_answers()
        limits = range(
            0 if start is None else self.geometry.check_plane(start),
            self.geometry.num_planes if stop is None else min(int(stop), self.geometry.num_planes),
        )
        given = {"start": start, "stop": stop, "object_ids": chosen, "max_frames": max_frames}
        arguments: dict[str, object] = {"direction": direction}
        arguments |= {name: value for name, value in given.items() if value is not None}
        handle = self._propagator.start(
            direction, limits, object_ids=chosen, max_frames=max_frames, arguments=arguments
        )
        if block:
            handle.wait()
        return handle

    def cancel(self) -> None:
        """End the propagation that runs; finished frames stay."""
        self._propagator.stop()

    def pause(self) -> None:
        """Let the propagation wait after the frame that is being computed."""
        if self.handle is not None:
            self.handle.pause()

    def resume(self) -> None:
        """Go on after ``pause``."""
        if self.handle is not None:
            self.handle.resume()

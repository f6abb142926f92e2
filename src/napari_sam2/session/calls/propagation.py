"""The calls of a session that start, pause, resume and cancel propagation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from napari_sam2._arguments import checked_calls
from napari_sam2._checks import as_numbers, check_choice, check_count, check_ids, check_stop
from napari_sam2._errors import PromptError
from napari_sam2._messages import shown
from napari_sam2._types import Direction
from napari_sam2.session.calls.base import SessionBase
from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["PropagationCalls"]


@checked_calls(PromptError)
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
        """Track objects to the planes that have no mask or an outdated one.

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
            Stop after so many frames, as ``cancel`` does.
        block : bool, default True
            Wait for the end. Otherwise the handle reports progress, and can cancel and wait.

        Returns
        -------
        PropagationHandle
            Has ended, unless ``block`` is False.

        Raises
        ------
        PromptError
            If there is no prompt, or an object or plane does not exist.
        """
        check_choice("direction", direction, get_args(Direction))
        if max_frames is not None:
            max_frames = check_count("max_frames", max_frames, 0)
        self._check_open()
        chosen = None if object_ids is None else check_ids(object_ids)
        self.wait_for_answers()
        limits = range(
            0 if start is None else self.geometry.check_plane(start),
            check_stop(stop, self.geometry.num_planes),
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

    def track_along(
        self,
        axes: str,
        *,
        voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
        object_ids: Sequence[int] | None = None,
        block: bool = True,
    ) -> PropagationHandle:
        """Track objects of a volume along any of its axes, or along several whose results are combined by vote.

        Points on an object are its positive clicks; where it was prompted by a box or a mask, the innermost pixel of
        its mask. Along each axis it is prompted on the planes of these points. Prompted and locked planes are kept,
        other masks of these objects are replaced. Of several axes, a voxel belongs to the object that most of them
        found there, if at least half of them did; the ``iou`` of a mask is then the mean IoU of the axes with it.

        Parameters
        ----------
        axes : str
            Some of Z (the frame axis), Y and X, such as "Y" or "ZYX".
        voxel_size : sequence of float, default (1, 1, 1)
            Distance of two voxels along z, y and x, in any unit. Planes with pixels of unequal sides are resampled to
            square ones for the model.
        object_ids : sequence of int, optional
            Default: all that have a prompt.
        block : bool, default True
            Wait for the end. Otherwise the handle reports progress, and can cancel and wait.

        Returns
        -------
        PropagationHandle
            Has ended, unless ``block`` is False. Masks are written once all axes were tracked.

        Raises
        ------
        PromptError
            If there is no volume or no prompt, an object does not exist, or an axis or a size is not allowed.
        DeviceError
            If a server computes for the session.
        """
        names = tuple(str(axes).upper())
        if not names or len(set(names)) < len(names) or not set(names) <= set("ZYX"):
            raise PromptError(f"axes={shown(axes)} was given; expected some of Z, Y and X, each once, such as 'ZYX'")
        sizes = as_numbers(voxel_size, "voxel_size")
        if sizes.shape != (3,) or not (np.isfinite(sizes) & (sizes > 0)).all():
            raise PromptError(
                f"voxel_size={shown(voxel_size)} was given; expected three distances above 0, along z, y, x"
            )
        z, y, x = (float(size) for size in sizes)
        self._check_open()
        chosen = None if object_ids is None else check_ids(object_ids)
        self.wait_for_answers()
        arguments: dict[str, object] = {"axes": "".join(names)}
        if (z, y, x) != (1.0, 1.0, 1.0):
            arguments["voxel_size"] = [z, y, x]
        if chosen is not None:
            arguments["object_ids"] = chosen
        handle = self._propagator.start_axes(names, (z, y, x), object_ids=chosen, arguments=arguments)
        if block:
            handle.wait()
        return handle

    def propagate_through_time(
        self, *, object_ids: Sequence[int] | None = None, max_frames: int | None = None, block: bool = True
    ) -> PropagationHandle:
        """Track objects of a series of volumes, such as TZYX, through z and from each time point to the next.

        The volumes that hold prompts are filled as by ``propagate``. From there, forwards and backwards in time, each
        object is found on the plane through its middle and tracked through z again. Between two time points with
        prompts each half comes from the nearer one. Prompted and locked planes are kept; after a correction at any time
        and plane, a further call tracks the object again up to the next time point that holds a prompt.

        Parameters
        ----------
        object_ids : sequence of int, optional
            Default: all that have a prompt.
        max_frames : int, optional
            Stop after so many steps of the handle, as ``cancel`` does.
        block : bool, default True
            Wait for the end. Otherwise the handle reports progress, and can cancel and wait.

        Returns
        -------
        PropagationHandle
            Has ended, unless ``block`` is False.

        Raises
        ------
        PromptError
            If the image has no series of volumes, there is no prompt, or an object does not exist.
        DeviceError
            If a server computes for the session.
        """
        if max_frames is not None:
            max_frames = check_count("max_frames", max_frames, 0)
        self._check_open()
        chosen = None if object_ids is None else check_ids(object_ids)
        self.wait_for_answers()
        given = {"object_ids": chosen, "max_frames": max_frames}
        arguments: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        handle = self._propagator.start_through_time(object_ids=chosen, max_frames=max_frames, arguments=arguments)
        if block:
            handle.wait()
        return handle

    def cancel(self) -> None:
        """Stop the running propagation; finished frames are kept."""
        self._propagator.stop()

    def pause(self) -> None:
        """Pause the propagation after the frame that is being computed."""
        if self.handle is not None:
            self.handle.pause()

    def resume(self) -> None:
        """Continue after ``pause``."""
        if self.handle is not None:
            self.handle.resume()

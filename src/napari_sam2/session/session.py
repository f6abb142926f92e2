"""A session: prompts, objects and labels of one stack, as used by the viewer, scripts and the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from napari_sam2._arguments import checked_calls
from napari_sam2._errors import OutputError, PromptError
from napari_sam2._files import expand
from napari_sam2.session.calls.objects import ObjectCalls
from napari_sam2.session.calls.painting import PaintingCalls
from napari_sam2.session.calls.prompts import PromptCalls
from napari_sam2.session.calls.propagation import PropagationCalls
from napari_sam2.session.calls.settings import SettingCalls
from napari_sam2.session.calls.shapes import ShapeCalls

__all__ = ["Session"]


@checked_calls(PromptError)
class Session(PromptCalls, ObjectCalls, ShapeCalls, PaintingCalls, PropagationCalls, SettingCalls):
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
        The axis that objects are tracked along. Default: the last one before H and W that is longer than 1.
    is_rgb : bool, optional
        Whether the last axis holds colours. Default: if it has three or four values of uint8 and there are at least
        three axes.
    labels : array, optional
        int32 zeros of the image's shape to write to. Default: in memory, above 1 GiB a temporary zarr array.
    settings : SessionSettings, optional
        Overlap rule and other settings.
    deliver : callable, optional
        Runs a function on the thread that owns the session, such as a GUI's. Without one, results of calls that do
        not block are written by the compute thread.
    compute : str or ComputeAddress, optional
        A server that computes the masks, such as ``"tls://box:8786"``, started with ``napari-sam2 serve``. Default:
        this process.

    Attributes
    ----------
    changed : psygnal.Signal
        Emitted with a ``StoreDelta`` after every change.
    propagation_changed : psygnal.Signal
        Emitted with a ``PropagationHandle`` when one starts, advances or ends.
    model_changed : psygnal.Signal
        Emitted with a ``ModelState``.
    failed : psygnal.Signal
        Emitted with the exception of work in the background.

    Raises
    ------
    CheckpointError
        If ``model`` is neither a network nor a name or path.
    DeviceError
        If ``compute`` is not an address.
    FrameError
        If the image cannot be read.
    PromptError
        If another argument is not of its type, or ``labels`` has another shape than the image.
    """

    def save(self, path: str | Path) -> Path:
        """Save the session to one file: prompts, objects, masks, settings, and references to the model and the image.

        Parameters
        ----------
        path : str or Path
            By convention it ends in ``.sam2``. An existing session file is replaced.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        OutputError
            If the file cannot be written, or is something else than a session; an existing file is left as it was.
        PromptError
            If an argument is not of its type.
        """
        from napari_sam2.session.files.document import save_session

        place = expand(path)
        if self.autosave_path is None or place.resolve() != self.autosave_path.resolve():
            return save_session(place, self.snapshot())
        if not self.flush_autosave():
            raise OutputError(f"{place} cannot be written at the moment; free space, or save to another place")
        return place

    @classmethod
    def load(cls, path: str | Path, stack: Any = None, **options: Any) -> Self:
        """Open a saved session.

        Parameters
        ----------
        path : str or Path
            As written by ``save`` or by autosave.
        stack : array, path or FrameSource, optional
            The image. Default: the file that the session refers to.
        **options
            As for ``Session``.

        Returns
        -------
        Session

        Raises
        ------
        SessionFileError
            If the file does not exist, is damaged or is not a session.
        FrameError
            If the image cannot be found or has another shape.
        PromptError
            If an argument is not of its type.
        """
        from napari_sam2.session.files.document import open_document

        document = open_document(path, stack, options)
        settings = options.pop("settings", None) or document.header.settings
        if "model" not in options:
            options["model"] = document.model()
        session = cls(document.stack, settings=settings, **options)
        try:
            document.check_image(session.geometry, session.frames)
            session.restore(replace(document.read(session.geometry), settings=settings))
            session.origin = document.origin(session.model, session.frames)
        except BaseException:
            session.close()
            raise
        return session

    def to_python(self) -> str:
        """Return a script without a viewer that repeats all calls and gives the same labels."""
        from napari_sam2.session.files.script import to_python

        self.wait_for_answers()
        return to_python(self.snapshot())

    def to_command_line(self, path: str | Path = "session.sam2", output: str | Path = "labels.tif") -> str:
        """Return a shell command that replays the session from its saved file and gives the same labels.

        Parameters
        ----------
        path : str or Path
            Where the session is saved.
        output : str or Path
            Labels to write.

        Raises
        ------
        PromptError
            If a path is not one.
        """
        from napari_sam2.session.files.script import to_command_line

        return to_command_line(self.setup, path, output)

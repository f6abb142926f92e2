"""Objects started from a layer with many labels, a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.background import BackgroundTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_sam2._viewer.binding import LayerLabels, ViewerBinding
    from napari_sam2.session.calls.prompts import LabelPrompts

__all__ = ["GradualStart", "say_started"]

_BETWEEN_PARTS_MS = 5


class GradualStart:
    """Objects from a layer of a large image: read on a thread, and started a few at a time between the window's events.

    Parameters
    ----------
    parent : QObject
        Owns the thread and the timer.
    notify : callable
        Called with a sentence for the user where something goes wrong.
    """

    def __init__(self, parent: QObject, notify: Callable[[str], object]) -> None:
        self._notify = notify
        self._task = BackgroundTask(parent, "sam2-labels-of-a-layer")
        self._task.succeeded.connect(self._begin)
        self._task.failed.connect(self._fail)
        self._timer = QTimer(parent)
        self._timer.setInterval(_BETWEEN_PARTS_MS)
        self._timer.timeout.connect(self._go_on)
        self._binding: ViewerBinding | None = None
        self._name = ""
        self._found: LabelPrompts | None = None
        self._parts: Iterator[int] | None = None

    @property
    def is_running(self) -> bool:
        """Whether objects are still to be started."""
        return self._task.is_running or self._timer.isActive()

    def start(self, binding: ViewerBinding, labels: LayerLabels) -> None:
        """Start the objects of labels, unless others are being started."""
        if self.is_running:
            self._notify("objects of another layer are being started; wait until this has finished")
            return
        self._binding, self._name = binding, labels.seeds.name
        binding.notice.emit(f"reading the labels of '{self._name}'", False)
        self._task.start(lambda _context: labels.read())

    def stop(self) -> None:
        """Start no more."""
        self._task.close()
        self._timer.stop()
        self._binding = self._found = None

    def _begin(self, found: LabelPrompts) -> None:
        if self._binding is None:
            return
        self._found, self._parts = found, self._binding.session.adding_labels(found)
        self._timer.start()

    def _go_on(self) -> None:
        binding, found = self._binding, self._found
        if binding is None or found is None:
            self._timer.stop()
            return
        if self._parts is None:  # all are there
            self.stop()
            binding.restyle()
            say_started(binding, found.object_ids, self._name)
            return
        try:
            with binding.restyling_later():  # the last part announces all objects; napari colours them afterwards
                num_done = next(self._parts, None)
        except NapariSAM2Error as error:
            self._fail(error)
            return
        if num_done is None:
            self._parts = None
        else:
            binding.select(found.object_ids[0])  # before there are many: each change of it colours all objects

    def _fail(self, error: Exception) -> None:
        binding = self._binding
        self.stop()
        if binding is not None:
            binding.restyle()
        self._notify(str(error) if binding is None else binding.in_words(error))


def say_started(binding: ViewerBinding, ids: Sequence[int], name: str) -> None:
    """Say which objects were started from a layer."""
    many = f"{len(ids)} objects" if len(ids) > 1 else f"object {ids[0]}"
    then = "; G propagates" if binding.geometry.num_frames > 1 else ""
    binding.notice.emit(f"{many} started from the layer '{name}'{then}", False)

"""What keys call in the dock: one method for each, which its sections carry out."""

from __future__ import annotations

from qtpy.QtWidgets import QTabWidget, QWidget

from napari_sam2._qt.automatic_widget import AutomaticWidget
from napari_sam2._qt.objects_section import ObjectsSection
from napari_sam2._qt.propagate_section import PropagateSection
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.status_line import StatusLine
from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["KeyCommands"]


class KeyCommands(QWidget):
    """The methods of the dock that `keys.SHORTCUTS` names; subclasses create the sections."""

    objects: ObjectsSection
    propagation: PropagateSection
    review: ReviewSection
    status: StatusLine
    tabs: QTabWidget
    _tasks: dict[str, QWidget]

    @property
    def binding(self) -> ViewerBinding | None:
        """The session in use and its layers."""
        raise NotImplementedError

    def show_tab(self, name: str) -> QWidget:
        """Show a tab by its name."""
        raise NotImplementedError

    def new_object(self) -> None:
        """Begin a new object with the next prompts."""
        self.objects.new_object()

    def toggle_positive(self) -> None:
        """The next prompt is background instead of object, or the other way round."""
        self.objects.toggle_positive()

    def use_points(self) -> None:
        """Prompt with points."""
        self.objects.use_tool("point")

    def use_box(self) -> None:
        """Prompt with boxes."""
        self.objects.use_tool("box")

    def use_lasso(self) -> None:
        """Draw around objects."""
        self.objects.use_tool("lasso")

    def use_scribble(self) -> None:
        """Draw lines along objects."""
        self.objects.use_tool("scribble")

    def use_brush(self) -> None:
        """Paint on masks."""
        self.objects.use_tool("paint")

    def next_tool(self) -> None:
        """Go through the tools."""
        self.objects.next_tool()

    def next_candidate(self) -> None:
        """Another candidate of an ambiguous click."""
        self.objects.next_candidate()

    def next_object(self) -> None:
        """Select the next object."""
        self.objects.next_object()

    def previous_object(self) -> None:
        """Select the object before."""
        self.objects.previous_object()

    def delete_object(self) -> None:
        """Delete the current object."""
        self.objects.delete_object()

    def show_only_current(self) -> None:
        """Hide the other objects, or show all again."""
        self.objects.show_only_current()

    def divide_here(self) -> None:
        """The current object has divided: its daughters begin on this frame."""
        if self._is_series("divide"):
            self.objects.divide_here()

    def cut_here(self) -> None:
        """From this frame on the current object is a new one."""
        if self._is_series("cut"):
            self.objects.cut_here()

    def rename_object(self) -> None:
        """Rename the current object, in the table of the first tab."""
        if self.binding is not None and self.binding.current is not None:
            self.show_tab(self.tabs.tabText(0))
        self.objects.rename_object()

    def propagate_both(self) -> None:
        """Propagate in both directions."""
        if self._is_series("propagate"):
            self.propagation.propagate("both")

    def propagate_forward(self) -> None:
        """Propagate to the frames after."""
        if self._is_series("propagate"):
            self.propagation.propagate("forward")

    def propagate_backward(self) -> None:
        """Propagate to the frames before."""
        if self._is_series("propagate"):
            self.propagation.propagate("backward")

    def pause_or_resume(self) -> None:
        """Pause or resume the propagation."""
        self.propagation.pause_or_resume()

    def find_alike(self) -> None:
        """Offer the next object like the current one."""
        self.objects.alike.find_next()

    def accept_alike(self) -> None:
        """Accept the object that is offered."""
        self.objects.alike.accept()

    def cancel(self) -> None:
        """Stop the propagation, or the search of the tab that is shown, and offer no more objects."""
        self.propagation.cancel()
        self.objects.alike.end()
        shown = self._tasks.get(self.tabs.tabText(self.tabs.currentIndex()))
        if isinstance(shown, AutomaticWidget):
            shown.cancel()

    def accept(self) -> None:
        """Lock the object on this frame and go to the next one to check."""
        self.review.accept()

    def next_doubtful(self) -> None:
        """Go to the next frame to check."""
        self.review.next_doubtful()

    def previous_doubtful(self) -> None:
        """Go to the frame to check before."""
        self.review.previous_doubtful()

    def undo(self) -> None:
        """Undo the latest change."""
        if self.binding is not None and not self.binding.session.undo():
            self.status.say("nothing to undo")

    def redo(self) -> None:
        """Redo what was undone."""
        if self.binding is not None and not self.binding.session.redo():
            self.status.say("nothing to redo")

    def _is_series(self, what: str) -> bool:
        """Whether there are slices or frames; of a single image it is said that there is nothing to do."""
        if self.binding is None or self.binding.geometry.num_frames > 1:
            return True
        self.status.say(f"there is nothing to {what}: {self.binding.images[0].name} is a single image")
        return False

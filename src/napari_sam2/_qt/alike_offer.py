"""One object after the other that is like the current one, to be accepted or refused by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QSizePolicy, QWidget
from superqt import QElidingLabel

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.icons import IconButton
from napari_sam2._qt.layout import named, row
from napari_sam2._viewer.alike import Candidate, Likeness, OutlineLayer, rank_alike
from napari_sam2._viewer.automatic_work import Searcher

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["AlikeOffer"]


class AlikeOffer(QWidget):
    """A row that is shown while objects are offered.

    Parameters
    ----------
    model : callable
        Gives the name of the model that searches.

    Attributes
    ----------
    notice : Signal
        Emitted with a line for the user.
    """

    notice = Signal(str)

    def __init__(self, model: Callable[[], str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_alike")
        self._model = model
        self._binding: ViewerBinding | None = None
        self._searcher = Searcher()
        self._outline: OutlineLayer | None = None
        self._example = self._plane = -1
        self._waiting: list[Candidate] = []
        self._offered: Candidate | None = None
        self._accepted: list[Candidate] = []
        self._task = BackgroundTask(self, "napari-sam2 like this")
        self._task.succeeded.connect(self._take)
        self._task.failed.connect(self._fail)
        self.text = named(QElidingLabel(""), "sam2_alike_text", "The suggested object has a yellow outline.")
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.accept_button = IconButton(
            "check", "sam2_alike_accept", "Accept the outlined object as a new object. Key: Shift-W"
        )
        self.next_button = IconButton("next", "sam2_alike_next", "Reject it and suggest the next one. Key: .")
        self.end_button = IconButton("stop", "sam2_alike_end", "End the search. Key: Esc")
        self.accept_button.clicked.connect(lambda _checked=False: self.accept())
        self.next_button.clicked.connect(lambda _checked=False: self.find_next())
        self.end_button.clicked.connect(lambda _checked=False: self.end())
        layout = row(self.text, self.accept_button, self.next_button, self.end_button)
        layout.setStretch(0, 1)
        self.setLayout(layout)
        self.hide()

    @property
    def is_searching(self) -> bool:
        """Whether candidates are searched."""
        return self._task.is_running

    @property
    def offered(self) -> Candidate | None:
        """What is outlined now."""
        return self._offered

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow another session, or none."""
        self.end()
        self._binding = binding
        self._outline = None if binding is None else OutlineLayer(binding)

    # ------------------------------------------------------------------ what keys call
    def find_next(self) -> None:
        """Search for objects like the current one on this slice; or refuse the one that is offered."""
        binding = self._binding
        if binding is None or self._task.is_running:
            return
        if self._offered is None or binding.current_plane != self._plane:
            self._search(binding)
            return
        self._offer_next()

    def accept(self) -> None:
        """Make the candidate that is offered a new object, of the class of the example."""
        binding, offered = self._binding, self._offered
        if binding is None or offered is None:
            self.notice.emit("no object is suggested; select an object and press the full stop key")
            return
        if binding.current_plane != self._plane:
            binding.go_to(self._plane)
            self.notice.emit(f"moved to the {binding.plane_word} of the suggested object; accept it again")
            return
        session = binding.session
        try:
            made = session.add_mask(offered.in_image(binding.geometry.hw), frame=self._plane, block=False)
            example = session.store.objects.get(self._example)
            if example is not None and example.class_name:
                session.set_class(made, example.class_name)
        except NapariSAM2Error as error:
            self.notice.emit(binding.in_words(error))
            return
        self._accepted.append(offered)
        binding.select(self._example if self._example in session.store.objects else made)
        self._offer_next()

    def end(self) -> None:
        """Offer nothing any more."""
        self._task.stop()
        self._waiting, self._accepted, self._offered = [], [], None
        if self._outline is not None:
            self._outline.hide()
        self.hide()

    # ------------------------------------------------------------------ searching
    def _search(self, binding: ViewerBinding) -> None:
        plane, current = binding.current_plane, binding.current
        mask = None if current is None else binding.session.store.masks.get((current, plane))
        if current is None or mask is None or not mask.area:
            self.notice.emit(
                f"select an object that has a mask on this {binding.plane_word}, then search for objects like it"
            )
            return
        self.end()
        self._example, self._plane = current, plane
        example = Candidate.of(mask.to_image(binding.geometry.hw))
        name, frames, searcher = self._model(), binding.session.frames, self._searcher

        def work(context: TaskContext) -> list[Candidate]:
            image = np.asarray(frames[plane])
            return rank_alike(image, example, searcher.candidates(name, image, example, context))

        self._task.start(work)
        self.text.setText(f"searching for objects like {binding.session.store.objects[current].name}...")
        self._show_buttons()
        self.show()

    def _take(self, found: list[Candidate]) -> None:
        self._waiting = found
        self._offer_next()

    def _fail(self, error: Exception) -> None:
        self.end()
        self.notice.emit(str(error) or type(error).__name__)

    def _offer_next(self) -> None:
        binding = self._binding
        if binding is None or self._outline is None:
            return
        labels = np.array(binding.session.labels[binding.geometry.index(self._plane)])
        for accepted in self._accepted:  # those that are not in the labels yet
            labels[accepted.place][accepted.mask] = 1
        limit = Likeness().covered
        self._offered = None
        while self._waiting and self._offered is None:
            candidate = self._waiting.pop(0)
            if candidate.covered(labels) < limit:
                self._offered = candidate
        if self._offered is None:
            count = len(self._accepted)
            self.end()
            binding.notice.emit(f"no more objects like this on this {binding.plane_word}; {count} accepted", False)
            return
        objects = binding.session.store.objects
        name = objects[self._example].name if self._example in objects else "this"
        self.text.setText(f"like {name}? {len(self._waiting)} more")
        self._outline.show(self._offered, self._plane)
        self._show_buttons()
        self.show()

    def _show_buttons(self) -> None:
        for each in (self.accept_button, self.next_button):
            each.setEnabled(self._offered is not None)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Leave nothing running."""
        self.end()
        self._task.close()
        super().closeEvent(event)

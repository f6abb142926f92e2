"""An offer to restore an earlier session of the same image."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_sam2._qt.layout import button
from napari_sam2.session.files.autosave_folder import RecoverableSession, recoverable_sessions

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["RestoreOffer"]


class RestoreOffer(QWidget):
    """Hidden until there is something to restore; emits ``accepted`` with its path."""

    accepted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found: RecoverableSession | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.text = QLabel("")
        self.text.setWordWrap(True)
        layout.addWidget(self.text)
        row = QHBoxLayout()
        self.restore_button = button("Restore", "sam2_restore", "Restore its objects, prompts and labels", self._accept)
        self.dismiss_button = button(
            "Not now",
            "sam2_dismiss",
            "Start a new session; the earlier one is kept and offered again next time",
            self.hide,
        )
        row.addWidget(self.restore_button)
        row.addWidget(self.dismiss_button)
        layout.addLayout(row)
        self.hide()

    @property
    def path(self) -> str | None:
        """File of the session that is offered."""
        return None if self._found is None else str(self._found.path)

    def look_for(self, binding: ViewerBinding) -> None:
        """Offer the newest session that was made on the same image."""
        image = binding.session
        self._found = next(
            (
                each
                for each in recoverable_sessions()
                if tuple(each.image.shape) == image.geometry.shape
                and (each.image.path == image.stack_path if image.stack_path else _same_name(each, binding))
            ),
            None,
        )
        self.setVisible(self._found is not None)
        if self._found is not None:
            when = time.strftime("%d %b %H:%M", time.localtime(self._found.saved_at))
            count = self._found.num_objects
            self.text.setText(f"Earlier session, {when}: {count} object{'s' * (count != 1)}")

    def _accept(self) -> None:
        self.hide()
        if self._found is not None:
            self.accepted.emit(str(self._found.path))


def _same_name(each: RecoverableSession, binding: ViewerBinding) -> bool:
    """Images that are not files are recognised by the layer's name, with which the session file's begins."""
    stem = "".join(c if c.isalnum() or c in "_-" else "_" for c in binding.images[0].name.partition(".")[0])
    return each.image.path is None and each.path.name.startswith(stem[:40] or "image")

"""The model of a session: which one, and in words where it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QWidget

from napari_sam2._qt.advanced_section import AdvancedSection
from napari_sam2._qt.connections import Connections
from napari_sam2._qt.layout import column, line
from napari_sam2._qt.model_chooser import ModelChooser
from napari_sam2.session.files.model_names import model_name
from napari_sam2.session.state.settings import ModelState

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import ViewerBinding
    from napari_sam2.session.state.store import StoreDelta

__all__ = ["AdvancedSection", "ModelSection", "describe_state"]

_DEVICES = {"cpu": "CPU", "mps": "Apple GPU", "cuda": "GPU"}


def describe_state(state: ModelState) -> str:
    """One line for the user."""
    if state.stage == "waiting":
        return "waiting: the model is loaded with the first prompt"
    if state.stage == "loading":
        return state.message or "loading the model..."
    if state.stage == "failed":
        return f"the model could not be loaded: {state.message}"
    place = f" of {state.server}" if state.server else ""
    return f"ready on {_device_name(state)}{place}, {state.dtype}"


def _device_name(state: ModelState) -> str:
    kind, _, number = state.device.partition(":")
    return _DEVICES.get(kind, kind) + (f" {number}" if number not in ("", "0") else "")


class ModelSection(QWidget):
    """Chooses the session's model and says whether it is ready.

    Attributes
    ----------
    model_chosen : Signal
        Emitted with a name or path, with and without a session.
    """

    model_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_model_section")
        self._binding: ViewerBinding | None = None
        self._connections = Connections(self)
        self.chooser = ModelChooser()
        self.state = line("sam2_model_state", "State of the model: waiting, loading, ready or failed.")
        layout = column(self)
        layout.addWidget(self.chooser)
        layout.addWidget(self.state)
        self.chooser.model_chosen.connect(self._take_model)
        self._show_state(ModelState("waiting"))

    @property
    def chosen_model(self) -> str:
        """Name or path of the model in use."""
        return self.chooser.chosen

    def describe(self) -> str:
        """Model and device in a few words."""
        name = (
            Path(self.chosen_model).stem
            if self.chosen_model.endswith((".pt", ".pth", ".safetensors"))
            else (self.chosen_model)
        )
        state = ModelState("waiting") if self._binding is None else self._binding.session.model_state
        if state.stage == "ready":
            return f"{name}, {_device_name(state)}"
        return f"{name}, {state.stage}" if state.stage in ("loading", "failed") else name

    def choose(self, name_or_path: str) -> None:
        """Use a model, as if the user had picked it."""
        self.chooser.choose(name_or_path)

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow a session, or none."""
        self._connections.clear()
        self._binding = binding
        if binding is None:
            self._show_state(ModelState("waiting"))
            return
        self._connections.connect(binding.session.model_changed, self._show_state)
        self._connections.connect(binding.session.changed, self._on_session_changed)
        self._show_model()
        self._show_state(binding.session.model_state)

    def _take_model(self, name_or_path: str) -> None:
        if self._binding is not None:
            session = self._binding.session
            if model_name(session.model) == name_or_path and not session.model_is_outdated:
                session.prepare(self._binding.current_plane)
            else:
                session.set_model(name_or_path)
        self.model_chosen.emit(name_or_path)

    def _on_session_changed(self, delta: StoreDelta) -> None:
        if any(edit.table == "settings" and edit.key == "model" for edit in delta.edits):
            self._show_model()

    def _show_model(self) -> None:
        if self._binding is not None:
            self.chooser.show_chosen(model_name(self._binding.session.model))

    def _show_state(self, state: ModelState) -> None:
        self.state.setText(describe_state(state))

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Let go of the session and of a download."""
        self.set_binding(None)
        self.chooser.close_tasks()
        super().closeEvent(event)

"""Settings that most people never need: server, device, precision, contrast, channels, overlap, when tracking stops."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_args

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLabel, QLineEdit, QSpinBox, QToolButton, QWidget

from napari_sam2._errors import NapariSAM2Error
from napari_sam2._qt.connections import Connections
from napari_sam2._qt.layout import button, column, combo, labels_of, line, name_planes, named, row, show_error
from napari_sam2._viewer.image_source import matching_channels
from napari_sam2.session.engines.compute_address import ComputeAddress
from napari_sam2.session.engines.configuration import remember_server, remembered_server
from napari_sam2.session.state.settings import OverlapRule, SessionSettings, threads_beside_a_window

if TYPE_CHECKING:
    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["AdvancedSection"]

_DEVICES = ("auto", "cpu", "cuda", "mps")
_PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_OVERLAPS = {
    "keep": "older mask wins",
    "overwrite": "newer mask wins",
    "highest score": "higher score wins",
}
assert tuple(_OVERLAPS) == get_args(OverlapRule)


class AdvancedSection(QWidget):
    """Settings of the session that is followed, or of the next one.

    Attributes
    ----------
    channels_changed : Signal
        Emitted with whether visible channels are to be mixed; that takes a new session.
    """

    channels_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sam2_advanced_section")
        self._binding: ViewerBinding | None = None
        self._connections = Connections(self)
        self._is_filling = False
        self._server = remembered_server()
        self._make_controls()
        form = self._form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, control in (
            ("Compute on", self.server),
            ("Device", self.device),
            ("Precision", self.precision),
            ("Overlap", self.overlap),
            ("Stop after", self.lost_after),
            ("CPU threads", self.threads),
        ):
            form.addRow(text, control)
        form.addRow(self.keep_apart)
        layout = column(self)
        layout.addLayout(row(self.contrast))
        layout.addWidget(self.contrast_button)
        layout.addWidget(self.mix_channels)
        layout.addLayout(form)
        layout.addWidget(self.message)
        self.message.hide()
        self._show_settings(SessionSettings())
        self._show_contrast()

    def _make_controls(self) -> None:
        self.contrast = line(
            "sam2_contrast",
            "Values that the model sees as black and white. They do not follow the contrast sliders during a "
            "session, so that results do not change.",
        )
        self.contrast_button = button(
            "Use current contrast",
            "sam2_use_contrast",
            "Use the current contrast of the layer for the model. Existing masks are kept.",
            self.use_current_contrast,
        )
        self.mix_channels = named(
            QCheckBox("Mix visible channels"),
            "sam2_mix_channels",
            "Show the model all visible images of this shape, mixed in their colours. Starts a new session.",
        )
        self.mix_channels.toggled.connect(self.channels_changed)
        self.server = named(
            QLineEdit(self._server or ""),
            "sam2_server",
            "Address of a server that computes the masks, such as tls://box:8786, started with 'napari-sam2 serve'. "
            "Empty: this computer.",
        )
        self.server.setPlaceholderText("this computer")
        self.server.setClearButtonEnabled(True)
        for clear in self.server.findChildren(QToolButton):
            named(clear, "sam2_server_clear", "Compute on this computer: clears the address.")
        self.server.editingFinished.connect(self._on_server)
        self.device = combo("sam2_device", "Where the model runs. auto: a GPU if there is one.")
        self.precision = combo("sam2_precision", "Precision of the model's arithmetic. auto: chosen for the device.")
        self.overlap = combo("sam2_overlap", "Which object keeps the pixels where two masks overlap.")
        for box, values in ((self.device, _DEVICES), (self.precision, _PRECISIONS)):
            for value in values:
                box.addItem(value, value)
        for value, text in _OVERLAPS.items():
            self.overlap.addItem(text, value)
        self.lost_after = named(
            QSpinBox(),
            "sam2_lost_after",
            "Stop tracking an object in a direction after this many consecutive empty frames. 0: never.",
        )
        self.lost_after.setRange(0, 9999)
        self.lost_after.setSpecialValueText("never")
        self.keep_apart = named(
            QCheckBox("Keep objects apart"),
            "sam2_keep_apart",
            "While tracking, where masks of two objects overlap, the model remembers the pixel for the better one "
            "only. Helps if tracks of touching objects merge.",
        )
        self.threads = named(
            QSpinBox(), "sam2_threads", "CPU threads of the model. auto leaves one core to the window."
        )
        self.threads.setRange(0, os.cpu_count() or 1)
        self.threads.setSpecialValueText("auto")
        for spin in (self.lost_after, self.threads):
            spin.setKeyboardTracking(False)
        self.message = line("sam2_advanced_message", "Error of a setting.")
        self.device.activated.connect(self._on_hardware)
        self.precision.activated.connect(self._on_hardware)
        self.threads.valueChanged.connect(self._on_hardware)
        self.overlap.activated.connect(self._on_overlap)
        self.lost_after.valueChanged.connect(self._on_lost_after)
        self.keep_apart.toggled.connect(self._on_keep_apart)

    # ------------------------------------------------------------------ values
    @property
    def labels(self) -> list[QLabel]:
        """In front of the controls."""
        return labels_of(self._form)

    @property
    def mixes_channels(self) -> bool:
        """Whether visible channels are shown to the model together."""
        return self.mix_channels.isChecked()

    def settings(self) -> SessionSettings:
        """For the next session."""
        return SessionSettings(
            overlap=self.overlap.currentData(),
            lost_after=self.lost_after.value() or None,
            keep_apart=self.keep_apart.isChecked(),
            device=self.device.currentData(),
            dtype=self.precision.currentData(),
            threads=self.threads.value() or None,
        )

    def set_device(self, device: str) -> None:
        """Begin with another device, such as that of napari's preferences."""
        _choose(self.device, device)
        self._on_hardware()

    def set_binding(self, binding: ViewerBinding | None) -> None:
        """Follow a session, or none."""
        self._connections.clear()
        self._binding = binding
        self.message.hide()
        if binding is not None:
            self._connections.connect(binding.session.changed, self._on_session_changed)
            self._connections.connect(binding.notice, self._on_notice)
            self._try(binding.session.set_compute, self._server)
            self._show_settings(binding.session.settings)
            self._show_mixing(binding)
        word = "slice" if binding is None else binding.plane_word
        name_planes(self, word)
        self.lost_after.setSuffix(f" {word}s")
        self._show_tracking(binding is None or binding.geometry.num_frames > 1)
        self._show_contrast()

    def _show_mixing(self, binding: ViewerBinding) -> None:
        """Whether the session sees several channels; where there is one image only, the choice for others stays."""
        image, count = binding.images[0], len(binding.images)
        if count > 1 or len(matching_channels(image, list(binding.viewer.layers))) > 1:
            with QSignalBlocker(self.mix_channels):
                self.mix_channels.setChecked(count > 1)

    def _show_tracking(self, is_shown: bool) -> None:
        """Show the settings of tracking, which a single image has no use for."""
        title = self._form.labelForField(self.lost_after)
        for each in (title, self.lost_after, self.keep_apart):
            if each is not None:
                each.setVisible(is_shown)

    # ------------------------------------------------------------------ user -> session
    def use_current_contrast(self) -> None:
        """Show the model the image as it is displayed now."""
        if self._binding is not None:
            self._binding.use_current_contrast()
            self._show_contrast()

    def _on_server(self) -> None:
        address = self.server.text().strip() or None
        if address == self._server:
            return
        self._try(self._move, address)

    def _move(self, address: str | None) -> None:
        checked = None if address is None else ComputeAddress(address)
        remember_server(address)
        self._server = address
        if self._binding is not None:
            self._binding.session.set_compute(checked)

    def _on_hardware(self, _value: Any = None) -> None:
        if self._binding is not None and not self._is_filling:
            given = self.settings()
            threads = given.threads or threads_beside_a_window()
            self._binding.session.set_hardware(device=given.device, dtype=given.dtype, threads=threads)

    def _on_overlap(self, _index: int) -> None:
        if self._binding is not None and not self._is_filling:
            self._try(self._binding.session.set_overlap, self.overlap.currentData())

    def _on_lost_after(self, value: int) -> None:
        if self._binding is not None and not self._is_filling:
            self._try(self._binding.session.set_lost_after, value or None)

    def _on_keep_apart(self, is_on: bool) -> None:
        if self._binding is not None and not self._is_filling:
            self._try(self._binding.session.set_keep_apart, is_on)

    def _try(self, call: Any, value: Any) -> None:
        self.message.hide()
        try:
            call(value)
        except NapariSAM2Error as error:
            show_error(self.message, error)

    # ------------------------------------------------------------------ session -> user
    def _on_session_changed(self, delta: Any) -> None:
        if self._binding is not None and any(edit.table == "settings" for edit in delta.edits):
            self._show_settings(self._binding.session.settings)
            self._show_contrast()

    def _on_notice(self, _text: str, _is_error: bool) -> None:
        self._show_contrast()

    def _show_settings(self, settings: SessionSettings) -> None:
        self._is_filling = True
        _choose(self.device, settings.device)
        _choose(self.precision, settings.dtype)
        _choose(self.overlap, settings.overlap)
        self.lost_after.setValue(settings.lost_after or 0)
        self.keep_apart.setChecked(settings.keep_apart)
        automatic = settings.threads in (None, threads_beside_a_window())
        self.threads.setValue(0 if automatic else settings.threads or 0)
        self._is_filling = False

    def _show_contrast(self) -> None:
        has = self._binding is not None
        self.contrast.setText(f"contrast {self._binding.contrast}" if self._binding is not None else "contrast: none")
        self.contrast_button.setEnabled(has)

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Let go of the session."""
        self.set_binding(None)
        super().closeEvent(event)


def _choose(box: QComboBox, value: str) -> None:
    index = box.findData(value)
    if index < 0:
        box.addItem(value, value)
        index = box.count() - 1
    box.setCurrentIndex(index)

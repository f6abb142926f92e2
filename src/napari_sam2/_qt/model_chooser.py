"""Which model: the bundled one, the released ones with a download, or a checkpoint file of one's own."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QFileDialog, QProgressBar, QSizePolicy, QWidget

from napari_sam2._errors import DownloadError
from napari_sam2._qt.background import BackgroundTask, TaskContext
from napari_sam2._qt.layout import button, column, combo, line, named, open_dialog, row, show_error
from napari_sam2.weights.downloads import BUNDLED_MODEL, ModelInfo, download_model, list_models

__all__ = ["ModelChooser", "describe_model"]

_FILE_ENTRY = "Open a checkpoint file..."
_FILTER = "Weights (*.pt *.pth *.safetensors);;All files (*)"
_MIB = 1e6


def describe_model(info: ModelInfo) -> str:
    """One line: name, size, licence and whether it is here."""
    where = "bundled" if info.url is None else ("on this computer" if info.is_present else "not downloaded")
    return f"{info.name} · {info.size_mb:.0f} MB · {info.licence} · {where}"


class ModelChooser(QWidget):
    """A combo box of models, with a download for those that are not here.

    Attributes
    ----------
    model_chosen : Signal
        Emitted with a name or path that can be loaded at once: not before a download has ended.
    """

    model_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._chosen = BUNDLED_MODEL
        self._infos: dict[str, ModelInfo] = {}
        self.combo = combo(
            "sam2_model",
            "The model. The bundled one is small and fast; larger ones are more accurate and are downloaded once.",
        )
        self.download_button = button(
            "Download", "sam2_download", "Download this model once; it is kept on this computer.", self.download
        )
        self.cancel_button = button(
            "Cancel", "sam2_download_cancel", "Cancel the download; no partial file is left.", self.cancel_download
        )
        self.progress = named(QProgressBar(), "sam2_download_progress", "Progress of the download.")
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.message = line("sam2_model_message", "Why the model cannot be used, and what to do.")
        layout = column(self)
        layout.addWidget(self.combo)
        layout.addLayout(row(self.download_button, self.progress, self.cancel_button))
        layout.addWidget(self.message)
        self.message.hide()
        self._task = BackgroundTask(self, "napari-sam2 download")
        self._task.progressed.connect(self._show_progress)
        self._task.succeeded.connect(self._take_download)
        self._task.failed.connect(self._show_failure)
        self._task.ended.connect(self._show_download)
        self._downloading = ""
        self.refresh()
        self.combo.activated.connect(self._on_activated)

    # ------------------------------------------------------------------ what is chosen
    @property
    def chosen(self) -> str:
        """Name or path of the model in use."""
        return self._chosen

    @property
    def selected(self) -> str:
        """Name or path of what the combo box shows, which may have to be downloaded first."""
        return str(self.combo.currentData() or self._chosen)

    def show_chosen(self, name_or_path: str) -> None:
        """Show the model in use, without emitting a signal."""
        self._chosen = name_or_path
        self._show_entry(name_or_path)

    def choose(self, name_or_path: str) -> None:
        """Use a model, as when the user picks it: at once if it is here, else a download is offered.

        The one in use may be chosen again, such as after loading it has failed.
        """
        self._show_entry(name_or_path)
        self.message.hide()
        info = self._infos.get(name_or_path)
        if info is not None and not info.is_present:
            used = Path(self._chosen).name
            self.message.setText(f"{info.name} is not on this computer yet; {used} is used until it is downloaded")
            self.message.show()
            return
        self._chosen = name_or_path
        self.model_chosen.emit(name_or_path)

    def refresh(self) -> None:
        """List the models again."""
        selected = self.selected
        paths = [str(self.combo.itemData(i)) for i in range(self.combo.count()) if self.combo.itemData(i)]
        self._infos = {info.name: info for info in list_models()}
        self.combo.clear()
        for info in self._infos.values():
            self._add_entry(describe_model(info), info.name)
        for path in paths:
            if path not in self._infos:
                self._add_entry(_short(path), path)
        self._add_entry(_FILE_ENTRY, "")
        self._show_entry(selected)
        widest = max(self.fontMetrics().horizontalAdvance(self.combo.itemText(i)) for i in range(self.combo.count()))
        view = self.combo.view()
        if view is not None:
            view.setMinimumWidth(widest + 24)  # the list may be wider than the dock

    def _add_entry(self, text: str, value: str, at: int | None = None) -> None:
        index = self.combo.count() if at is None else at
        self.combo.insertItem(index, text, value)
        info = self._infos.get(value)
        tip = f"{info.parameters / 1e6:.1f} million parameters; {info.path}" if info is not None else (value or text)
        self.combo.setItemData(index, tip, 3)  # Qt.ToolTipRole

    def _show_entry(self, value: str) -> None:
        index = self.combo.findData(value)
        if index < 0:
            index = self.combo.count() - 1
            self._add_entry(_short(value), value, index)
        self.combo.setCurrentIndex(index)
        self._show_download()

    def _on_activated(self, index: int) -> None:
        value = str(self.combo.itemData(index) or "")
        if value:
            self.choose(value)
        else:
            self._show_entry(self._chosen)
            self.ask_for_file()

    # ------------------------------------------------------------------ a file of one's own
    def ask_for_file(self) -> None:
        """Let the user point at a checkpoint; the window stays usable meanwhile."""
        dialog = QFileDialog(self, "Open a checkpoint file", str(Path.home()), _FILTER)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self.open_checkpoint)
        open_dialog(dialog)

    def open_checkpoint(self, path: str) -> None:
        """Use the weights of a file."""
        if not Path(path).exists():
            show_error(self.message, f"{path} does not exist; choose a file that ends in .pt, .pth or .safetensors")
            return
        self.choose(str(path))

    # ------------------------------------------------------------------ download
    @property
    def is_downloading(self) -> bool:
        """Whether a download runs."""
        return self._task.is_running

    def download(self) -> None:
        """Fetch the selected model in the background."""
        info = self._infos.get(self.selected)
        if info is None or info.is_present or self._task.is_running:
            return
        name = self._downloading = info.name
        total = int(info.size_mb * _MIB)

        def work(context: TaskContext) -> str:
            def progress(done: int, expected: int) -> None:
                context.report((done, expected or total))

            download_model(name, progress=progress, cancelled=context.should_stop)
            return name

        self.message.hide()
        self._task.start(work)
        self._show_progress((0, total))
        self._show_download()

    def cancel_download(self) -> None:
        """End the download."""
        self._task.stop()
        self.cancel_button.setEnabled(False)

    def _show_download(self) -> None:
        """The row below the combo box, where it has something to say."""
        info = self._infos.get(self.selected)
        runs = self._task.is_running
        self.download_button.setVisible(not runs and info is not None and not info.is_present)
        if info is not None:
            self.download_button.setText(f"Download {info.size_mb:.0f} MB")
        self.progress.setVisible(runs)
        self.cancel_button.setVisible(runs)
        self.cancel_button.setEnabled(runs and not self._task.is_stopping)

    def _show_progress(self, progress: tuple[int, int]) -> None:
        done, expected = progress
        self.progress.setMaximum(max(1, round(expected / _MIB)))
        self.progress.setValue(round(done / _MIB))
        self.progress.setFormat(f"{self._downloading}: %v of %m MB")

    def _take_download(self, name: str) -> None:
        self.refresh()
        self.choose(name)

    def _show_failure(self, error: Exception) -> None:
        if isinstance(error, DownloadError) and "was cancelled" in str(error):
            self.message.setText(str(error))
            self.message.show()
            return
        show_error(self.message, error)

    # ------------------------------------------------------------------ end
    def close_tasks(self) -> None:
        """End the download; for the owner of this widget."""
        self._task.close()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 the name is Qt's
        """Leave nothing running."""
        self.close_tasks()
        super().closeEvent(event)


def _short(path: str) -> str:
    return f"{Path(path).name} · file" if path else path

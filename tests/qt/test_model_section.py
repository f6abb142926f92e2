"""The model box: what it lists, downloads and tells, without torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from napari.components import ViewerModel

from factories import make_model, make_movie
from napari_sam2._errors import DownloadError
from napari_sam2._qt import model_chooser
from napari_sam2._qt.advanced_section import AdvancedSection
from napari_sam2._qt.model_section import ModelSection, describe_state
from napari_sam2._viewer.binding import ViewerBinding
from napari_sam2.session.engines.configuration import remembered_server
from napari_sam2.session.session import Session
from napari_sam2.session.state.settings import ModelState
from napari_sam2.weights.downloads import list_models


@pytest.fixture
def section(qtbot) -> ModelSection:
    made = ModelSection()
    qtbot.addWidget(made)
    return made


def test_making_the_sections_imports_no_torch() -> None:
    script = """
import sys
from qtpy.QtWidgets import QApplication
app = QApplication([])
from napari_sam2._qt.model_section import AdvancedSection, ModelSection
from napari_sam2._qt.save_section import SaveSection
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.automatic_widget import AutomaticWidget
from napari_sam2._qt.fine_tune_widget import FineTuneWidget
from napari.components import ViewerModel
viewer = ViewerModel()
made = [AdvancedSection(), ModelSection(), SaveSection(), ReviewSection()]
made += [AutomaticWidget(viewer), FineTuneWidget(viewer)]
assert "torch" not in sys.modules
"""
    environment = {**__import__("os").environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_list_begins_with_the_bundled_model_and_names_size_and_licence(section: ModelSection) -> None:
    combo = section.chooser.combo
    texts = [combo.itemText(i) for i in range(combo.count())]
    assert texts[0].startswith("sam2_micro")
    assert "bundled" in texts[0]
    assert len(texts) == len(list_models()) + 1
    assert all("MB" in text and "Apache-2.0" in text for text in texts[1:-1])
    assert texts[-1] == "Open a checkpoint file..."


def test_absent_model_is_used_only_after_its_download(section: ModelSection, qtbot, monkeypatch, tmp_path) -> None:
    chooser, arrived = section.chooser, []
    section.model_chosen.connect(arrived.append)

    def download(name, *, progress, cancelled) -> Path:
        progress(50_000_000, 156_000_000)
        return tmp_path

    monkeypatch.setattr(model_chooser, "download_model", download)
    section.choose("sam2.1_hiera_tiny")
    assert arrived == []
    assert not chooser.download_button.isHidden()
    infos = [info if info.name != "sam2.1_hiera_tiny" else _present(info) for info in list_models()]
    with qtbot.waitSignal(section.model_chosen):
        chooser.download()
        monkeypatch.setattr(model_chooser, "list_models", lambda: infos)
    assert arrived == ["sam2.1_hiera_tiny"]
    assert section.chosen_model == "sam2.1_hiera_tiny"
    assert chooser.progress.value() == 50
    assert chooser.download_button.isHidden()


def _present(info):
    from dataclasses import replace

    return replace(info, is_present=True)


def test_download_can_be_cancelled_and_says_so(section: ModelSection, qtbot, monkeypatch) -> None:
    def download(name, *, progress, cancelled) -> Path:
        while not cancelled():
            time.sleep(0.01)
        raise DownloadError(f"the download of {name} was cancelled; nothing was left behind")

    monkeypatch.setattr(model_chooser, "download_model", download)
    chooser = section.chooser
    section.choose("sam2.1_hiera_small")
    chooser.download()
    assert not chooser.cancel_button.isHidden()
    chooser.cancel_download()
    qtbot.waitUntil(lambda: not chooser.is_downloading)
    assert "cancelled" in chooser.message.text()
    assert not chooser.download_button.isHidden()


def test_failed_download_is_told_with_its_remedy(section: ModelSection, qtbot, monkeypatch) -> None:
    def download(name, *, progress, cancelled) -> Path:
        raise DownloadError("cannot be fetched; put it there by other means")

    monkeypatch.setattr(model_chooser, "download_model", download)
    section.choose("sam2.1_hiera_small")
    section.chooser.download()
    qtbot.waitUntil(lambda: not section.chooser.is_downloading)
    assert "other means" in section.chooser.message.text()


def test_checkpoint_file_becomes_an_entry(section: ModelSection, qtbot, tmp_path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"")
    with qtbot.waitSignal(section.model_chosen) as told:
        section.chooser.open_checkpoint(str(path))
    assert told.args == [str(path)]
    assert section.chooser.combo.currentText().startswith("mine.safetensors")
    section.chooser.open_checkpoint(str(tmp_path / "gone.pt"))
    assert "does not exist" in section.chooser.message.text()
    assert section.chosen_model == str(path)


def test_choice_reaches_the_session_and_undo_brings_it_back(section: ModelSection, binding, tmp_path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"")
    binding.session.prepare = lambda *_: None
    section.set_binding(binding)
    before = binding.session.model
    section.choose(str(path))
    assert binding.session.model == str(path)
    binding.session.undo()
    assert binding.session.model is before
    assert section.chosen_model == "sam2_micro"
    section.set_binding(None)
    section.choose(str(path))
    assert binding.session.model is before


def test_model_in_use_can_be_chosen_again_after_it_failed(section: ModelSection, binding) -> None:
    asked = []
    binding.session.prepare = asked.append
    section.set_binding(binding)
    section.choose("sam2_micro")
    assert asked == [binding.current_plane]
    assert not binding.session.can_undo


@pytest.mark.parametrize(
    ("state", "text"),
    [
        pytest.param(ModelState("waiting"), "waiting", id="waiting"),
        pytest.param(ModelState("loading"), "loading", id="loading"),
        pytest.param(ModelState("ready", "sam2_micro", "cpu", "float32", 512), "ready on CPU, float32", id="ready"),
        pytest.param(ModelState("failed", message="no such file"), "no such file", id="failed"),
    ],
)
def test_state_is_told_in_words(section: ModelSection, binding, state: ModelState, text: str) -> None:
    section.set_binding(binding)
    binding.session.model_changed.emit(state)
    assert text in section.state.text()


def test_advanced_settings_follow_and_change_the_session(qtbot, binding) -> None:
    advanced = AdvancedSection()
    qtbot.addWidget(advanced)
    binding.session.prepare = lambda *_: None
    advanced.set_binding(binding)
    advanced.overlap.setCurrentIndex(1)
    advanced.overlap.activated.emit(1)
    advanced.keep_apart.click()
    advanced.lost_after.setValue(0)
    advanced.precision.setCurrentText("bfloat16")
    advanced.precision.activated.emit(0)
    settings = binding.session.settings
    assert (settings.overlap, settings.lost_after, settings.dtype) == ("overwrite", None, "bfloat16")
    assert settings.keep_apart
    binding.session.undo()
    assert advanced.lost_after.value() == 5
    assert advanced.overlap.currentData() == "overwrite"
    binding.session.undo()
    assert not advanced.keep_apart.isChecked()
    assert binding.session.settings.lost_after == 5


def test_contrast_in_use_is_told_and_renewed_on_request(qtbot, binding) -> None:
    advanced = AdvancedSection()
    qtbot.addWidget(advanced)
    advanced.set_binding(binding)
    binding.images[0].contrast_limits = (10, 77)
    assert "10 to 77" not in advanced.contrast.text()
    advanced.contrast_button.click()
    assert "10 to 77" in advanced.contrast.text()


def test_hardware_change_loads_the_model_anew(binding) -> None:
    session, states = binding.session, []
    session.model_changed.connect(lambda state: states.append(state.stage))
    session.add_points([[0, 20, 15]])
    assert states.count("ready") == 1
    session.set_hardware(threads=1)
    session.add_points([[0, 30, 50]])
    assert states.count("ready") == 2
    assert make_model().image_size == 64


def test_the_server_is_remembered_and_used_for_later_sessions(qtbot, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("NAPARI_SAM2_CONFIG", str(tmp_path / "configuration"))
    section = AdvancedSection()
    qtbot.addWidget(section)
    assert section.server.text() == ""
    for text, message in (("http://box", "expected tls://HOST:PORT"), ("tcp://box", "tcp is not encrypted")):
        section.server.setText(text)
        section.server.editingFinished.emit()
        assert message in section.message.text()
        assert remembered_server() is None
    section.server.setText(" tls://box:8786 ")
    section.server.editingFinished.emit()
    assert section.message.isHidden()
    assert remembered_server() == "tls://box:8786"

    again = AdvancedSection()
    qtbot.addWidget(again)
    assert again.server.text() == "tls://box:8786"
    chosen: list[str | None] = []
    with Session(make_movie(2), model="sam2_micro") as session:
        monkeypatch.setattr(session, "set_compute", chosen.append)
        viewer = ViewerModel()
        binding = ViewerBinding(viewer, [viewer.add_image(make_movie(2))], session=session)
        again.set_binding(binding)
        again.server.clear()
        again.server.editingFinished.emit()
        again.set_binding(None)
        binding.close()
    assert chosen == ["tls://box:8786", None]
    assert remembered_server() is None


def test_the_state_names_the_server_and_what_it_waits_for() -> None:
    ready = ModelState("ready", "sam2_micro", "cuda:0", "bfloat16", 256, server="tls://box:8786")
    assert describe_state(ready) == "ready on GPU of tls://box:8786, bfloat16"
    assert describe_state(ModelState("loading", message="all 2 places are in use")) == "all 2 places are in use"

"""Sections that are gone hear nothing of a session that lives on, and leave no connection, timer or thread."""

from __future__ import annotations

import threading

import pytest
from qt_tools import add_disc
from qtpy.QtWidgets import QWidget

from napari_sam2._qt.model_section import AdvancedSection, ModelSection
from napari_sam2._qt.review_section import ReviewSection
from napari_sam2._qt.save_section import SaveSection
from napari_sam2.session.state.settings import ModelState

SECTIONS = (AdvancedSection, ModelSection, ReviewSection, SaveSection)


def _receivers(binding) -> int:
    session = binding.session
    signals = (session.changed, session.model_changed, session.propagation_changed, binding.notice)
    return sum(len(signal) for signal in (*signals, binding.current_changed))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
@pytest.mark.parametrize("ends_by", ["None", "close", "destroy"])
def test_section_that_is_gone_hears_nothing(binding, qtbot, section: type, ends_by: str) -> None:
    before = _receivers(binding)
    parent = QWidget()
    made = section(parent)
    made.set_binding(binding)
    assert _receivers(binding) > before
    if ends_by == "None":
        made.set_binding(None)
    elif ends_by == "close":
        made.close()
    else:
        parent.deleteLater()
        qtbot.waitUntil(lambda: _receivers(binding) == before)
    assert _receivers(binding) == before
    add_disc(binding)
    binding.session.model_changed.emit(ModelState("loading"))
    binding.viewer.dims.set_point(0, 1)
    binding.notice.emit("hello", False)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("napari-sam2 ")]
    if ends_by != "destroy":
        qtbot.addWidget(parent)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_control_has_a_name_and_a_tooltip_and_fits_into_300_pixels(qtbot, binding, section: type) -> None:
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox

    made = section()
    qtbot.addWidget(made)
    made.set_binding(binding)
    controls = [c for kind in (QAbstractButton, QAbstractSpinBox, QComboBox) for c in made.findChildren(kind)]
    assert controls
    for control in controls:
        assert control.objectName().startswith("sam2_"), control
        assert control.toolTip(), control.objectName()
    assert made.minimumSizeHint().width() <= 300

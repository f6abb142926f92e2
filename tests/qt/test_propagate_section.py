"""Buttons, range and progress of a propagation."""

from __future__ import annotations

import pytest
from napari.qt import get_stylesheet

from napari_sam2._qt.propagate_section import PropagateSection


@pytest.mark.parametrize("choice", ["all", "from here to", "next"])
def test_every_range_fits_into_a_dock_of_250_pixels(qtbot, binding, choice: str) -> None:
    made = PropagateSection()
    made.setStyleSheet(get_stylesheet("dark"))
    qtbot.addWidget(made)
    made.set_binding(binding)
    made.range_choice.setCurrentText(choice)
    assert made.limit.isHidden() == (choice == "all")
    made.ensurePolished()
    made.show()
    assert made.minimumSizeHint().width() <= 238

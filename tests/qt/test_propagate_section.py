"""Buttons, range and progress of a propagation."""

from __future__ import annotations

import pytest
from napari.qt import get_stylesheet
from qt_tools import add_disc

from napari_sam2._qt.propagate_section import THROUGH_TIME, PropagateSection
from napari_sam2._types import StageShift
from napari_sam2.session.worker.propagation_handle import PropagationHandle


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


def test_other_axes_of_the_volume_are_tracked_along_with_its_voxel_size(qtbot, binding, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(binding.session, "track_along", lambda axes, **more: calls.append((axes, more)))
    made = PropagateSection()
    qtbot.addWidget(made)
    made.set_binding(binding)
    made.axes = "ZYX"
    assert not made.forward.isEnabled()
    made.propagate()
    assert calls == [("ZYX", {"voxel_size": [1.0, 1.0, 1.0], "object_ids": None, "block": False})]
    made.axes = ""
    assert made.forward.isEnabled()


def test_volumes_over_time_are_propagated_through_both_axes(qtbot, binding, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(
        binding.session,
        "propagate_through_time",
        lambda **given: calls.append(given) or PropagationHandle(3, (1,)),
    )
    made = PropagateSection()
    qtbot.addWidget(made)
    made.set_binding(binding)
    made.axes = THROUGH_TIME
    assert not made.forward.isEnabled()
    made.propagate()
    assert calls == [{"object_ids": None, "block": False}]
    made.axes = ""
    assert made.forward.isEnabled()


def test_the_end_of_a_propagation_names_unusable_slices_and_movements_of_the_stage(qtbot, binding) -> None:
    made = PropagateSection()
    qtbot.addWidget(made)
    made.set_binding(binding)
    edits = binding.session.store.condition_edits(1, is_usable=False, shift=None)
    edits += binding.session.store.condition_edits(2, is_usable=True, shift=StageShift(2, -4, 7))
    binding.session.store.commit(edits)
    assert made._conditions() == "; slice 1 could not be used; the stage moved (y, x) before slice 2 (+7, -4 px)"


def test_what_was_done_is_said_until_it_is_undone_or_something_else_is_done(qtbot, binding) -> None:
    made = PropagateSection()
    qtbot.addWidget(made)
    made.set_binding(binding)
    add_disc(binding)
    made.propagate()
    binding.session.handle.wait(60)
    qtbot.waitUntil(lambda: "done: 5" in made.state.text(), timeout=30_000)
    made.propagate()
    assert "nothing to do" in made.state.text()
    binding.session.undo()
    assert made.state.text() == ""

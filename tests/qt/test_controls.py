"""All controls of the dock have names for screen readers, and the Tab key goes through them as the eye does; and a
session of random clicks, keys and layers.
"""

from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QSpinBox,
    QTableWidget,
    QWidget,
)

from factories import make_model, make_movie
from napari_sam2 import PromptError
from napari_sam2._qt.keys import SHORTCUTS
from napari_sam2._qt.main_widget import SAM2Widget
from places import ROOT

CONTROLS = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
ROW = 14  # pixels: controls whose middles differ less stand in one row
LEAVES = (
    "sam2_save",
    "sam2_open",
    "sam2_export",
    "sam2_download",
    "sam2_auto",
    "sam2_files",
    "sam2_tune",
    "sam2_measure",
    "sam2_show_measurements",
    "sam2_sample",
)


@pytest.fixture
def widget(qtbot, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM2_SESSIONS", str(tmp_path))
    monkeypatch.setattr("napari_sam2.session.engines.local_engine.load_model", lambda *_, **__: make_model(1))
    viewer = ViewerModel()
    viewer.add_image(make_movie(6), name="cells")
    made = SAM2Widget(viewer)
    qtbot.addWidget(made)
    made.resize(280, 620)
    made.show()
    qtbot.waitUntil(lambda: made.binding is not None, timeout=60_000)
    yield made
    made.shut_down()


def _controls(widget: SAM2Widget) -> list[QWidget]:
    """Those that a user meets; parts that Qt puts into its own controls are theirs."""
    return [
        each
        for kind in CONTROLS
        for each in widget.findChildren(kind)
        if not each.objectName().startswith("qt_") and not isinstance(each.parent(), (QComboBox, QAbstractSpinBox))
    ]


def test_every_control_has_an_accessible_name_and_a_tooltip(widget):
    for name in ("Everything", "Many files", "Train", "Click"):
        widget.show_tab(name)
    nameless = [
        each.objectName() or type(each).__name__
        for each in _controls(widget)
        if not (each.accessibleName() and each.toolTip()) and type(each).__name__ not in ("CloseButton", "QTabBar")
        and each.parent() is not widget.tabs.tabBar()
    ]  # fmt: skip
    assert nameless == []


@pytest.mark.parametrize("name", ["Click", "Everything", "Many files", "Train"])
def test_the_tab_key_goes_from_top_to_bottom(widget, qtbot, name):
    page = widget.show_tab(name)
    qtbot.wait(50)
    order, each = [], widget.nextInFocusChain()
    while each is not widget:
        is_inner = each.objectName().startswith("qt_")  # a part of a spin box, or the tabs themselves
        is_met = each.focusPolicy() & Qt.FocusPolicy.TabFocus and each.isVisible() and not is_inner
        if is_met and page.isAncestorOf(each) and each.focusProxy() is None:  # a tab widget hands it to its bar
            order.append(each)
        each = each.nextInFocusChain()
    middles = [each.mapTo(widget, QPoint(each.width() // 2, each.height() // 2)) for each in order]
    places = list(zip(middles, order, strict=True))
    for (before, one), (after, other) in pairwise(places):
        is_below = after.y() >= before.y() - ROW
        is_right = abs(after.y() - before.y()) >= ROW or after.x() > before.x()
        assert is_below and is_right, (one.objectName(), other.objectName())  # noqa: PT018 one statement about two
    assert len(order) > 4


def test_the_tab_key_leaves_tables(widget, qtbot):
    widget.show_tab("Many files")
    tables = [*widget.findChildren(QTableWidget), *widget.show_measurements().findChildren(QTableWidget)]
    assert len(tables) >= 3
    assert [each.objectName() for each in tables if each.tabKeyNavigation()] == []


def test_a_click_on_a_control_leaves_the_keys_to_the_canvas(widget):
    """A button that was hidden after the click handed the focus to the next combo box, and keys chose in that."""
    for name in ("Everything", "Many files", "Train", "Click"):
        widget.show_tab(name)
    takes_focus = [
        each.objectName() or type(each).__name__
        for each in _controls(widget)
        if isinstance(each, (QAbstractButton, QComboBox, QAbstractItemView))
        and each.focusPolicy() & Qt.FocusPolicy.ClickFocus
    ]
    assert takes_focus == []


def _texts(widget: SAM2Widget) -> set[str]:
    """All that the dock, its menus and its table of measurements say."""
    widgets = [each for root in (widget, widget.show_measurements()) for each in (root, *root.findChildren(QWidget))]
    found = [text for each in widgets for text in (each.toolTip(), each.accessibleName())]
    found += [each.text() for each in widgets if isinstance(each, (QAbstractButton, QLabel))]
    found += [box.itemText(n) for box in widgets if isinstance(box, QComboBox) for n in range(box.count())]
    found += [each.suffix() for each in widgets if isinstance(each, (QSpinBox, QDoubleSpinBox))]
    for menu in (widget.objects.menu, widget.saving.menu):
        menu.aboutToShow.emit()
    found += [text for each in widget.findChildren(QAction) for text in (each.text(), each.toolTip())]
    headers = [widget.objects.table.horizontalHeaderItem(n) for n in range(widget.objects.table.columnCount())]
    return {*found, *(text for each in headers for text in (each.text(), each.toolTip()))}


@pytest.mark.parametrize(("axis", "other"), [("t", "slice"), ("z", "frame")])
def test_planes_are_frames_of_a_movie_and_slices_of_anything_else(widget, qtbot, axis, other):
    for name in ("Everything", "Many files", "Train", "Click"):
        widget.show_tab(name)
    for each in (axis, "z", axis):
        widget.viewer.layers.clear()
        widget.viewer.add_image(make_movie(6), name="cells", axis_labels=(each, "y", "x"))
        qtbot.waitUntil(lambda: widget.binding is not None, timeout=60_000)
    widget.viewer.add_labels(np.ones((6, 48, 64), np.uint8), name="mine", axis_labels=(axis, "y", "x"))
    assert [text for text in _texts(widget) if re.search(rf"\b{other}s?\b", text, re.IGNORECASE)] == []


def test_errors_of_a_session_say_frames_or_slices_and_names_stay(widget, qtbot):
    widget.viewer.layers.clear()
    widget.viewer.add_image(make_movie(6), name="frame 7", axis_labels=("z", "y", "x"))
    qtbot.waitUntil(lambda: widget.binding is not None, timeout=60_000)
    error = PromptError(
        "frame 7 objects: object 1 is locked on frame 5; Frames 2 and 3 are not, key frame 4 is; see frame/frame.tif"
    )
    said = "frame 7 objects: object 1 is locked on slice 5; Slices 2 and 3 are not, key frame 4 is; see frame/frame.tif"
    assert widget.binding.in_words(error) == said


def _act(widget: SAM2Widget, rng: random.Random, images: list[int]) -> str:
    """One thing that a user may do."""
    viewer, binding = widget.viewer, widget.binding
    choice = rng.random()
    if choice < 0.4:
        buttons = [
            each
            for each in widget.findChildren(QAbstractButton)
            if each.isVisible() and each.isEnabled() and each.objectName().startswith(("sam2", "propagate"))
            and not each.objectName().startswith(LEAVES)
        ]  # fmt: skip
        button = rng.choice(buttons)
        if getattr(button, "menu", lambda: None)() is None:
            button.click()
        return button.objectName()
    if choice < 0.7:
        method = rng.choice(SHORTCUTS).method
        getattr(widget, method)()
        return method
    if choice < 0.85 and binding is not None and binding.points in viewer.layers:
        h, w = binding.geometry.hw
        binding.points.add([[*binding.geometry.index(binding.current_plane), rng.randrange(h), rng.randrange(w)]])
        return "click on the image"
    if choice < 0.93:
        viewer.dims.set_current_step(0, rng.randrange(6))
        return "slider"
    if choice < 0.96:
        images.append(1)
        shape = rng.choice([(48, 64), (6, 48, 64)])
        viewer.add_image(np.random.default_rng(len(images)).random(shape, np.float32), name=f"image {len(images)}")
        return "image"
    if viewer.layers:
        viewer.layers.remove(rng.choice(list(viewer.layers)))
    return "layer removed"


@pytest.mark.parametrize(
    ("seed", "steps"), [(1, 40), *(pytest.param(seed, 2000, marks=pytest.mark.slow) for seed in (2, 3))]
)
def test_random_use_ends_in_no_exception_and_no_wrong_binding(widget, qtbot, seed, steps):
    rng, images, done = random.Random(seed), [], []
    for name in ("Everything", "Many files", "Train", "Click"):
        widget.show_tab(name)
    qtbot.wait(50)
    count = len(widget.findChildren(QWidget))
    for _ in range(steps):
        done.append(_act(widget, rng, images))
        qtbot.wait(5)
        binding = widget.binding
        assert binding is None or binding.images[0] in widget.viewer.layers, done[-5:]
        if binding is not None and binding.current is not None:
            assert binding.current in binding.session.store.objects, done[-5:]
    widget.show_tab("Click")
    widget.viewer.layers.clear()
    qtbot.waitUntil(lambda: widget.binding is None, timeout=30_000)
    assert len(widget.findChildren(QWidget)) <= count + 5


def test_pages_name_settings_behind_the_gear_that_are_there(widget):
    texts = {each.text().rstrip(":") for kind in (QLabel, QAbstractButton) for each in widget.findChildren(kind)}
    texts |= {box.itemText(n) for box in widget.findChildren(QComboBox) for n in range(box.count())}
    named = []
    for page in (ROOT / "docs").rglob("*.md"):
        for paragraph in page.read_text(encoding="utf-8").split("\n\n"):
            sentences = [s for s in paragraph.replace("\n", " ").split(". ") if "behind the gear" in s.lower()]
            named += [word for s in sentences for bold in re.findall(r"\*\*(.+?)\*\*", s) for word in bold.split(" > ")]
    assert {"Stop after", "Device", "Use current contrast"} <= set(named)
    assert [word for word in named if word not in texts] == []

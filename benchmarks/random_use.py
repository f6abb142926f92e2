"""A session of random clicks, drags, keys and layers in a real window; ends with an error at the first fault.

Run under a display (``xvfb-run -a python benchmarks/random_use.py --kind movie --seed 1 --seconds 360``). Mouse and key
events go through Qt to the canvas, buttons, tables, menus and combo boxes of the dock; dialogs and menus that open are
closed again. Faults are uncaught exceptions, a session on an image that is gone, a current
object that does not exist, prompts of unknown objects, and widgets, threads or memory that grow without end.

The window is used in a process of its own: if a library crashes it, such as OpenGL, that is said with the last things
that were done and what was being drawn. napari 0.9.2 on Mesa's software renderer (22.3.6) crashes in ``glDrawArrays``
without this package too: two runs of two, within 20 rounds of adding an image, points, shapes and labels and
removing all layers. What is drawn at that moment seems to be the rectangle behind napari's own text on the canvas.

With ``LP_NUM_THREADS=0`` in the environment, where Mesa draws on the calling thread, a run of 30 minutes
(``--kind stack --seed 18``, 450 things) ended without it.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:
    import napari

    from napari_sam2._qt.main_widget import SAM2Widget

KINDS = ("stack", "movie", "rgb", "tzyx", "channels", "image")
NOT_PRESSED = ("sam2_download", "sam2_files", "sam2_tune", "sam2_sample")  # they take long, or add large images
NAPARI_KEYS = ("Left", "Right", "Up", "Delete", "Ctrl+Y", "Ctrl+E", "1", "2", "3", "4", "B", "V")
MORE_WIDGETS, MORE_THREADS, MORE_MIB = 10, 3, 1500
SETTLED_S = 8.0  # before widgets, threads and memory are counted


def open_kind(viewer: napari.Viewer, kind: str, seed: int = 0) -> None:
    """Open an image of a kind."""
    from napari_sam2.training.synthetic import make_demo_stack, make_dividing_cells_movie

    if kind == "movie":
        frames = make_dividing_cells_movie(seed)[0]
        viewer.add_image(frames[:10], name=f"cells {seed}", axis_labels=("t", "y", "x"))
        return
    stack = make_demo_stack(seed)[0]
    if kind == "stack":
        viewer.add_image(stack, name=f"nuclei {seed}", scale=(0.9, 0.3, 0.3), axis_labels=("z", "y", "x"))
    elif kind == "rgb":
        middle = stack[len(stack) // 2].astype(np.float32)
        shades = np.stack([255 - middle * share / middle.max() * 255 for share in (0.5, 0.9, 0.3)], -1)
        viewer.add_image(shades.astype(np.uint8), name=f"histology {seed}", rgb=True)
    elif kind == "tzyx":
        times = np.stack([np.roll(stack[6:16], 3 * shift, -1) for shift in range(4)])
        viewer.add_image(times, name=f"embryo {seed}", scale=(1, 2, 0.5, 0.5), axis_labels=("t", "z", "y", "x"))
    elif kind == "channels":
        other = (stack[:, ::-1].astype(np.uint16) * 200).astype(np.uint16)
        viewer.add_image(stack.astype(np.uint16) * 90, name=f"green {seed}", colormap="green", blending="additive")
        viewer.add_image(other, name=f"red {seed}", colormap="red", blending="additive")
    else:
        viewer.add_image(stack[len(stack) // 2], name=f"plane {seed}")


class RandomUser:
    """Does one random thing after the other, and remembers what.

    Parameters
    ----------
    viewer : napari.Viewer
        Of the window.
    widget : SAM2Widget
        In a dock of it.
    kind : str
        Of the images that are opened.
    seed : int
        Of the choices.
    """

    def __init__(self, viewer: napari.Viewer, widget: SAM2Widget, kind: str, seed: int) -> None:
        self.viewer, self.widget, self.kind = viewer, widget, kind
        self.rng = random.Random(seed)
        self.done: list[str] = []
        self.counts: Counter[str] = Counter()
        self.num_images = 1
        canvas = viewer.window._qt_viewer.canvas  # noqa: SLF001 napari has no public way to it
        self.canvas = canvas.native

    def act(self) -> None:
        """One thing that a user may do."""
        chosen = self.rng.choices(
            (self.click, self.drag, self.key, self.press, self.slide, self.row, self.menu, self.choose, self.layer),
            (24, 12, 18, 18, 8, 6, 4, 3, 3),
        )[0]
        self.counts[chosen.__name__] += 1
        self.done.append(chosen.__name__)
        detail = chosen()
        self.done[-1] += f" {detail}"

    def _spot(self) -> Any:
        from qtpy.QtCore import QPoint

        size = self.canvas.size()
        # mostly in the middle, where the image is
        return QPoint(
            *(int(min(max(self.rng.gauss(0.5, 0.16), 0.01), 0.99) * n) for n in (size.width(), size.height()))
        )

    def click(self) -> str:
        """Click on the canvas."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        spot = self._spot()
        held = Qt.KeyboardModifier.ControlModifier if self.rng.random() < 0.15 else Qt.KeyboardModifier.NoModifier
        QTest.mouseMove(self.canvas, spot)
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, held, spot)
        return f"{spot.x()}, {spot.y()} {held}"

    def drag(self) -> str:
        """Drag on the canvas, as with the box, the lasso and the brush."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QApplication

        start, end = self._spot(), self._spot()
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
        for part in (0.2, 0.4, 0.6, 0.8, 1.0):
            way = QPointF(start) * (1 - part) + QPointF(end) * part
            QApplication.sendEvent(
                self.canvas,
                QMouseEvent(
                    QEvent.Type.MouseMove,
                    way,
                    self.canvas.mapToGlobal(way),
                    Qt.MouseButton.NoButton,
                    Qt.MouseButton.LeftButton,
                    Qt.KeyboardModifier.NoModifier,
                ),
            )
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, end)
        return f"{start.x()}, {start.y()} to {end.x()}, {end.y()}"

    def key(self) -> str:
        """Press one of our keys, or one of napari's."""
        from qtpy.QtCore import Qt
        from qtpy.QtGui import QKeySequence
        from qtpy.QtTest import QTest

        from napari_sam2._qt.keys import SHORTCUTS

        ours = [each.key.replace("-", "+").replace("Control", "Ctrl").replace("Escape", "Esc") for each in SHORTCUTS]
        text = self.rng.choice(
            [*ours, "Left", "Right", "Up", "Delete", "Ctrl+Y", "Ctrl+E", "1", "2", "3", "4", "B", "V"]
        )
        code = QKeySequence(text.replace("Delete", "Del"))[0]
        pressed = getattr(code, "key", lambda: Qt.Key.Key_W)(), getattr(code, "keyboardModifiers", lambda: None)()
        QTest.keyClick(self.canvas, *pressed)
        return text

    def press(self) -> str:
        """Press a button of the dock."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QAbstractButton

        buttons = [
            each
            for each in self.widget.findChildren(QAbstractButton)
            if each.isVisible() and each.isEnabled() and not each.objectName().startswith(NOT_PRESSED)
        ]
        if not buttons:
            return "no button"
        button = self.rng.choice(buttons)
        if self.rng.random() < 0.1:
            self.widget.tabs.setCurrentIndex(self.rng.randrange(2))
        if button.isVisible():
            QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        return button.objectName() or button.text()

    def slide(self) -> str:
        """Go to another slice, or time."""
        dims = self.viewer.dims
        axes = [axis for axis in dims.not_displayed if dims.nsteps[axis] > 1]
        if not axes:
            return "no slider"
        axis = self.rng.choice(axes)
        dims.set_current_step(axis, self.rng.randrange(dims.nsteps[axis]))
        return f"{axis}"

    def row(self) -> str:
        """Click, or double-click, on a cell of the table of objects."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        table = self.widget.objects.table
        if not table.rowCount() or not table.isVisible():
            return "no row"
        place = self.rng.randrange(table.rowCount()), self.rng.randrange(table.columnCount())
        item = table.item(*place)
        if item is None:
            return "no cell"
        spot = table.visualItemRect(item).center()
        QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, spot)
        return f"{place}"

    def menu(self) -> str:
        """Choose from a menu of the dock."""
        menu = self.rng.choice([self.widget.objects.menu, self.widget.saving.menu])
        menu.aboutToShow.emit()
        actions = [each for each in _leaves(menu) if each.isEnabled()]
        if not actions:
            return "empty"
        action = self.rng.choice(actions)
        text = action.text()
        action.trigger()
        return text

    def choose(self) -> str:
        """Choose in a combo box, or turn a spin box."""
        from qtpy.QtWidgets import QComboBox

        boxes = [
            each
            for each in self.widget.findChildren(QComboBox)
            if each.isVisible() and each.isEnabled() and each.count() and not each.objectName().startswith("sam2_model")
        ]
        if not boxes:
            return "no box"
        box = self.rng.choice(boxes)
        index = self.rng.randrange(box.count())
        box.setCurrentIndex(index)
        box.activated.emit(index)
        return box.objectName()

    def layer(self) -> str:
        """Open another image, select or remove a layer, or go to 3D and back."""
        choice = self.rng.random()
        layers = list(self.viewer.layers)
        if choice < 0.3 and len(layers) < 12:
            self.num_images += 1
            open_kind(self.viewer, self.rng.choice([self.kind, self.kind, *KINDS]), self.num_images)
            return "opened"
        if choice < 0.55 and layers:
            removed = self.rng.choice(layers)
            self.viewer.layers.remove(removed)
            return f"{removed.name} removed"
        if choice < 0.6:
            self.viewer.layers.clear()
            open_kind(self.viewer, self.kind, self.num_images)
            return "all removed"
        if choice < 0.7:
            self.viewer.dims.ndisplay = 5 - self.viewer.dims.ndisplay
            return f"{self.viewer.dims.ndisplay}D"
        if layers:
            self.viewer.layers.selection.active = self.rng.choice(layers)
            return "selected"
        return ""


def _leaves(menu: Any) -> list[Any]:
    found: list[Any] = []
    for action in menu.actions():
        if action.menu() is not None:
            action.menu().aboutToShow.emit()
            found += _leaves(action.menu())
        elif not action.isSeparator():
            found.append(action)
    return found


def wrong(widget: SAM2Widget) -> str:
    """What is wrong with the session and its layers; empty if nothing is."""
    binding = widget.binding
    if binding is None:
        return ""
    if binding.images[0] not in widget.viewer.layers:
        return "the session is on an image that is gone"
    numbers = set(binding.session.store.objects)
    if binding.current is not None and binding.current not in numbers:
        return f"the current object {binding.current} does not exist"
    for object_id, _ in binding.session.store.prompts:
        if object_id not in numbers:
            return f"there is a prompt of object {object_id}, which does not exist"
    return ""


def note_drawing(path: Path) -> None:
    """Keep in a file what is drawn last, for `watch`."""
    from vispy.gloo.glir import GlirProgram
    from vispy.visuals.visual import Visual

    draw_visual, draw_program = Visual.draw, GlirProgram.draw
    drawn = path.open("w", encoding="utf-8")
    of_visual = [""]

    def note_visual(self: Any) -> Any:
        of_visual[0] = type(self).__name__
        return draw_visual(self)

    def note_program(self: Any, mode: Any, selection: Any, instances: int = 1) -> Any:
        drawn.seek(0)
        drawn.write(f"{of_visual[0]}: {mode}, vertices {selection}".ljust(200))
        drawn.flush()
        return draw_program(self, mode, selection, instances)

    Visual.draw, GlirProgram.draw = note_visual, note_program


def watch() -> int:
    """Use the window in another process, and say so if a library has ended it; 1 if anything was wrong."""
    with tempfile.TemporaryDirectory(prefix="random_use_") as folder:
        command = [sys.executable, "-X", "faulthandler", __file__, *sys.argv[1:], "--notes", folder]
        ended = subprocess.run(command, check=False).returncode
        if ended >= 0:
            return ended
        name, notes = signal.Signals(-ended).name, Path(folder)
        print(f"CRASHED with {name}: in a library, as Python has no such end (its stack is above)")
        if (notes / "drawn.txt").exists():
            print(f"drawn last: {(notes / 'drawn.txt').read_text(encoding='utf-8').strip()}")
        if (notes / "done.txt").exists():
            print("LAST:", *(notes / "done.txt").read_text(encoding="utf-8").splitlines()[-25:], sep="\n  ")
    return 1


def main() -> int:
    """Use the window at random; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="stack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--size", type=int, nargs=2, default=(900, 700), help="width and height of the window")
    parser.add_argument("--picture", help="PNG of the window at the end")
    parser.add_argument("--notes", type=Path, help="folder that tells what was done before a crash; used internally")
    given = parser.parse_args()
    if given.notes is None:
        return watch()
    os.environ["NAPARI_SAM2_SESSIONS"] = str(given.notes / "sessions")
    note_drawing(given.notes / "drawn.txt")

    import napari
    from napari.utils.notifications import notification_manager
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication, QWidget

    from napari_sam2._qt.main_widget import SAM2Widget

    faults: list[str] = []
    told: set[str] = set()

    def on_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        faults.append("".join(traceback.format_exception(kind, error, trace)))

    viewer = napari.Viewer()
    open_kind(viewer, given.kind)
    widget = SAM2Widget(viewer)
    viewer.window.add_dock_widget(widget, name="SAM 2")
    viewer.window.resize(*given.size)
    for name in ("Everything", "Many files", "Train", "Click"):
        widget.show_tab(name)  # made when they are first shown: widgets are counted with them
    application = QApplication.instance()
    assert application is not None

    def on_notification(notification: Any) -> None:
        error = getattr(notification, "exception", None)  # refusals have none
        if error is not None:
            on_exception(type(error), error, error.__traceback__)
        told.add(str(notification.message))

    notification_manager.notification_ready.connect(on_notification)
    sys.excepthook = on_exception
    threading.excepthook = lambda hook: on_exception(hook.exc_type, hook.exc_value, hook.exc_traceback)

    def close_what_opens() -> None:
        for opened in (QApplication.activePopupWidget(), QApplication.activeModalWidget()):
            if opened is not None:
                opened.close()

    closing = QTimer()
    closing.timeout.connect(close_what_opens)
    closing.start(150)
    user = RandomUser(viewer, widget, given.kind, given.seed)

    def size() -> tuple[int, int, float]:
        gc.collect()
        return len(widget.findChildren(QWidget)), threading.active_count(), psutil.Process().memory_info().rss / 2**20

    def run(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            application.processEvents()
            time.sleep(0.005)

    run(SETTLED_S)
    settled = size()
    began, num_steps = time.monotonic(), 0
    notes = (given.notes / "done.txt").open("w", encoding="utf-8")
    while time.monotonic() - began < given.seconds and not faults:
        try:
            user.act()
            notes.write(f"{user.done[-1]}\n")
            notes.flush()
        except Exception as error:  # noqa: BLE001 any is a fault
            on_exception(type(error), error, error.__traceback__)
        run(user.rng.choice((0.005, 0.02, 0.1)))
        num_steps += 1
        found = wrong(widget)
        if found:
            faults.append(found)
    notes.close()
    took = time.monotonic() - began
    print(f"{given.kind}, seed {given.seed}: {num_steps} things in {took:.0f} s: {dict(user.counts)}")
    if given.picture:
        viewer.window.screenshot(given.picture, canvas_only=False, flash=False)
    viewer.layers.clear()  # sessions end, and rows of tables go
    run(SETTLED_S)
    last = size()
    for name, before, after, more in zip(
        ("widgets", "threads", "MiB"), settled, last, (MORE_WIDGETS, MORE_THREADS, MORE_MIB), strict=True
    ):
        print(f"{name}: {before:.0f} at the beginning, {after:.0f} at the end")
        if after > before + more:
            faults.append(f"{name} grew from {before:.0f} to {after:.0f}")
    print("told:", *sorted(told), sep="\n  ")
    if faults:
        print("LAST:", *user.done[-25:], sep="\n  ")
        print(*faults, sep="\n")
    closing.stop()
    began = time.monotonic()
    viewer.close()
    print(f"closed in {time.monotonic() - began:.1f} s")
    while [t for t in threading.enumerate() if t.name.startswith("napari-sam2")] and time.monotonic() - began < 60:
        application.processEvents()
        time.sleep(0.05)
    left = [t.name for t in threading.enumerate() if t.name.startswith("napari-sam2")]
    if left:
        faults.append(f"threads after the end: {left}")
        print(faults[-1])
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

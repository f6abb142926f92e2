"""Take pictures of the dock at several sizes of window, dock and font, dark and light, to look at before a change.

Text that is cut off, and pages that need a scroll bar, are printed too. It needs a window; on a machine without one:
``xvfb-run -a -s "-screen 0 1920x1200x24" python docs/make_dock_pictures.py FOLDER``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

WINDOWS = ((1066, 651), (1600, 1000))
WIDTHS = (250, 280, 400)  # pixels of the dock
FONTS = (9, 16)  # points
THEMES = ("dark", "light")
NUM_OBJECTS = 40
SHAPE = (24, 256, 256)
PATIENCE = 600.0  # s


@dataclass(frozen=True)
class Look:
    """How the window is shown.

    Attributes
    ----------
    window : (int, int)
        Width and height in pixels.
    width : int
        Of the dock, in pixels.
    font : int
        Points.
    theme : str
        "dark" or "light".
    """

    window: tuple[int, int]
    width: int
    font: int
    theme: str

    def __str__(self) -> str:
        width, height = self.window
        return f"{self.theme}_{self.font}pt_{width}x{height}_dock{self.width}"


def draw_stack() -> tuple[np.ndarray, np.ndarray]:
    """Spheres in a grid: image (Z, Y, X) uint8, and labels."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(np.float32)
    image = np.random.default_rng(0).normal(20, 4, SHAPE)
    labels = np.zeros(SHAPE, np.int32)
    for number in range(NUM_OBJECTS):
        row, column = divmod(number, 7)
        centre = (8 + number % 9, 20 + 40 * row, 20 + 36 * column)
        inside = ((z - centre[0]) * 2) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < (9 + number % 4) ** 2
        image[inside] += 90 + number
        labels[inside] = number + 1
    return image.clip(0, 255).astype(np.uint8), labels


class Window:
    """A viewer with the dock, in states that users meet."""

    def __init__(self, font: int) -> None:
        import napari
        from napari.settings import get_settings
        from qtpy.QtWidgets import QApplication

        # a folder for each window, or one offers to restore what the one before left
        os.environ["NAPARI_SAM2_SESSIONS"] = tempfile.mkdtemp(dir=Path(os.environ["NAPARI_CONFIG"]).parent)
        self.settings = get_settings()
        self.settings.application.gui_notification_level = "error"
        self.settings.appearance.font_size = font
        self.viewer = napari.Viewer(show=True)
        self.app = QApplication.instance()
        self.dock, self.widget = self.viewer.window.add_plugin_dock_widget("napari-sam2", "SAM 2")
        self.image, self.labels = draw_stack()
        self.pump(0.5)

    def pump(self, seconds: float) -> None:
        """Let the window live."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.01)

    def until(self, is_done: Callable[[], bool]) -> None:
        """Let the window live until something holds."""
        end = time.monotonic() + PATIENCE
        while not is_done():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing came within {PATIENCE:.0f} s; close other programs and try again")
            self.pump(0.05)

    def show(self, look: Look) -> None:
        """Give the window its looks."""
        from qtpy.QtCore import Qt

        if self.viewer.theme != look.theme:
            self.viewer.theme = look.theme
        self.viewer.window.resize(*look.window)
        self.pump(0.1)
        # as with the mouse: a dock is never narrower than its controls
        window = self.dock.parentWidget()
        window.resizeDocks([self.dock], [look.width], Qt.Orientation.Horizontal)
        self.pump(0.3)

    def open(self, data: np.ndarray, **options: Any) -> Any:
        """Close all images, open one, and wait for its session."""
        self.viewer.layers.clear()
        self.until(lambda: self.widget.binding is None)
        self.viewer.add_image(data, name="cells", **options)
        self.until(lambda: self.widget.binding is not None)
        self.viewer.reset_view()
        return self.widget.binding.session

    # ------------------------------------------------------------------ states
    def states(self) -> Iterator[str]:
        """Bring the window from one state to the next, and name it."""
        yield "empty"
        for tab in ("Everything", "Many files", "Train"):
            self.widget.show_tab(tab)
            yield f"empty_{tab.lower().replace(' ', '_')}"
        self.widget.show_tab("Click")
        session = self.open(self.image[8])
        for number in np.unique(self.labels[8])[1:6]:
            session.add_mask(self.labels[8] == number)
        yield "one_image"
        self.widget.show_tab("Everything")
        yield "one_image_everything"
        self.widget.show_tab("Click")
        session = self.open(self.image, axis_labels=("z", "y", "x"), scale=(2, 1, 1))
        self.fill(session)
        yield "stack"
        self.track_to_the_end(session)
        self.until(lambda: bool(self.widget.review.doubts))
        self.widget.review.next_doubtful()
        yield "review"
        for tab in ("Everything", "Many files", "Train"):
            self.widget.show_tab(tab)
            yield f"stack_{tab.lower().replace(' ', '_')}"
        self.widget.show_tab("Click")
        self.widget.settings_button.setChecked(True)
        yield "settings"
        self.widget.settings_button.setChecked(False)
        table = self.widget.show_measurements()
        self.until(lambda: table.data is not None)
        yield "measurements"
        table.parent().close()
        self.widget.propagate_both()
        self.until(lambda: session.handle is not None)
        self.pump(1.0)
        yield "running"
        session.cancel()
        self.until(lambda: not session.handle.is_running)

    def fill(self, session: Any) -> None:
        """Give all objects their masks, with one that is lost and one that jumps for the review."""
        from napari_sam2 import import_tracks

        labels = self.labels.copy()
        for plane in (8, 9):
            labels[plane][labels[plane] == 1] = 0
            labels[plane, 200:250, 200:250] = 2
        import_tracks(session, labels)
        self.widget.binding.select(1)
        self.widget.binding.go_to(8)

    def track_to_the_end(self, session: Any) -> None:
        """Track an object that is blanked out from one slice to the next, which the review has to show."""
        row, column = np.argwhere(self.labels[8] == 3).mean(0).astype(int)
        frames = self.widget.binding.images[0].data
        frames[10:, row - 20 : row + 20, column - 20 : column + 20] = 20
        session.remove_object(3)
        made = session.add_points([(8, row, column)])
        session.rename(made, "mitotic")
        session.set_class(made, "dividing")
        handle = session.propagate("forward", object_ids=[made], max_frames=6, block=False)
        self.until(lambda: not handle.is_running)
        self.widget.binding.select(made)

    # ------------------------------------------------------------------ what is wrong
    def faults(self, look: Look) -> list[str]:
        """Controls of the dock whose text is cut off, pages that need a scroll bar, and a dock that is too wide."""
        from qtpy.QtWidgets import QAbstractButton, QLabel, QScrollArea

        found = []
        if self.dock.width() > look.width:
            found.append(f"the dock takes {self.dock.width()} pixels")
        for kind in (QAbstractButton, QLabel):
            for each in self.widget.findChildren(kind):
                wraps = isinstance(each, QLabel) and each.wordWrap()
                text = each.text()
                is_cut = any(each.width() < each.fontMetrics().horizontalAdvance(line) for line in text.split("\n"))
                if each.isVisible() and text and not wraps and is_cut and type(each).__name__ != "QElidingLabel":
                    found.append(f"{each.objectName() or type(each).__name__} {text!r}")
        for area in self.widget.findChildren(QScrollArea):
            bar = area.verticalScrollBar()
            if bar is not None and bar.isVisible():
                found.append(f"scroll bar of {bar.maximum()} pixels")
        return found

    def picture(self) -> np.ndarray:
        """The whole window, (H, W, 3) uint8."""
        return np.asarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])

    def close(self) -> None:
        """End the widget and the window."""
        self.widget.shut_down()
        self.viewer.close()


def take(folder: Path, looks: list[Look]) -> int:
    """Take all pictures; how many faults there are."""
    from PIL import Image

    num_faults = 0
    for font in sorted({look.font for look in looks}):  # docks stay as wide as a larger font made them
        window = Window(font)
        for state in window.states():
            for look in looks:
                if look.font != font:
                    continue
                window.show(look)
                faults = window.faults(look)
                num_faults += len(faults)
                Image.fromarray(window.picture()).save(folder / f"{state}_{look}.png")
                for fault in faults:
                    print(f"{state}, {look}: {fault}", flush=True)
        window.close()
    return num_faults


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--few", action="store_true", help="each size, width, font and theme at least once")
    given = parser.parse_args()
    looks = [Look(*each) for each in product(WINDOWS, WIDTHS, FONTS, THEMES)]
    if given.few:
        looks = [
            Look(WINDOWS[0], 280, 9, "dark"),
            Look(WINDOWS[0], 250, 16, "light"),
            Look(WINDOWS[1], 400, 9, "light"),
        ]
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # neither the settings nor the sessions of whoever runs this
        os.environ["NAPARI_CONFIG"] = str(Path(scratch) / "settings.yaml")
        num_faults = take(given.folder, looks)
    print(f"{given.folder}: {num_faults} faults")


if __name__ == "__main__":
    main()

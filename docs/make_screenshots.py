"""Take the pictures of the documentation, and a film of half a minute, from the running plugin on its sample data.

It needs a window; on a machine without one: ``xvfb-run -a python docs/make_screenshots.py``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = Path(__file__).parent / "images"
SIZE = (1250, 850)  # pixels of the window
MAX_BYTES = 200_000
FILM_SIZE = (1000, 680)
MAX_FILM_BYTES = 2_000_000
START = 13  # slice of the first click
REACH = 6  # slices to propagate over
LATER = 6  # slices from the first click to the correction
NUCLEI = (22, 33, 14)  # of the sample's truth, in the order in which they are clicked
NARROW = 300  # pixels
PATIENCE = 600.0  # s, for one propagation


class Film:
    """Pictures of the window, each shown for a while, written as one animated WebP."""

    def __init__(self) -> None:
        self._pictures: list[Any] = []
        self._durations: list[int] = []

    @property
    def seconds(self) -> float:
        """How long it is."""
        return sum(self._durations) / 1000

    def add(self, rgb: np.ndarray, seconds: float) -> None:
        """Show a picture for a while."""
        from PIL import Image

        self._pictures.append(Image.fromarray(rgb).resize(FILM_SIZE, Image.Resampling.LANCZOS))
        self._durations.append(round(1000 * seconds))

    def write(self, path: Path) -> None:
        """Write the film, which is played again and again."""
        first, *others = self._pictures
        first.save(path, save_all=True, append_images=others, duration=self._durations, loop=0, quality=60, method=4)
        if path.stat().st_size > MAX_FILM_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size} bytes; expected {MAX_FILM_BYTES}: show less in it")


class Story:
    """A viewer with the widget on the sample of nuclei, and what a user does there.

    Parameters
    ----------
    folder : Path
        Where the pictures go.
    """

    def __init__(self, folder: Path) -> None:
        import napari
        from napari.settings import get_settings
        from qtpy.QtWidgets import QApplication

        # what they say stands in the widget too, and they would hide part of the image
        get_settings().application.gui_notification_level = "error"
        self.folder = folder
        self.film = Film()
        self.viewer = napari.Viewer(show=True)
        self.viewer.theme = "dark"
        self.app = QApplication.instance()
        self.viewer.window.resize(*SIZE)
        self.viewer.open_sample("napari-sam2", "nuclei")
        self.truth = np.asarray(self.viewer.layers["nuclei (truth)"].data)
        self.dock, self.widget = self.viewer.window.add_plugin_dock_widget("napari-sam2", "SAM 2")
        self.until(lambda: self.widget.binding is not None)
        self.until(lambda: self.session.model_state.stage == "ready")
        self.viewer.reset_view()
        self.go_to(START)

    @property
    def session(self) -> Any:
        """The session of the sample."""
        return self.widget.binding.session

    # ------------------------------------------------------------------ time
    def pump(self, seconds: float = 0.6) -> None:
        """Let the window live."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.app.processEvents()
            time.sleep(0.005)

    def until(self, is_done: Callable[[], bool]) -> None:
        """Let the window live until something holds."""
        end = time.monotonic() + PATIENCE
        while not is_done():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing came within {PATIENCE:.0f} s; close other programs and try again")
            self.pump(0.02)

    # ------------------------------------------------------------------ what a user does
    def go_to(self, plane: int) -> None:
        """Move the slider."""
        self.viewer.dims.set_current_step(0, plane)
        self.pump(0.1)

    def click(self, yx: tuple[int, int]) -> None:
        """Click on the slice that is shown, and wait for the mask."""
        self.widget.binding.points.add([[self.viewer.dims.current_step[0], *yx]])
        self.until(lambda: not self.session.is_answering)

    def click_nucleus(self, number: int) -> None:
        """Click into the middle of a nucleus, as a new object."""
        self.widget.use_points()
        self.widget.new_object()
        self.click(middle(self.truth[self.viewer.dims.current_step[0]] == number))

    def box(self, number: int) -> None:
        """Draw a box around a nucleus on the slice that is shown, for the current object, and wait for the mask."""
        self.widget.use_box()
        plane = self.viewer.dims.current_step[0]
        rows, columns = np.nonzero(self.truth[plane] == number)
        (y0, y1), (x0, x1) = ((v.min() - 1, v.max() + 1) for v in (rows, columns))
        corners = np.array([(plane, y0, x0), (plane, y0, x1), (plane, y1, x1), (plane, y1, x0)])
        self.widget.binding.shapes.add_rectangles([corners])
        self.until(lambda: not self.session.is_answering)

    def propagate(self) -> None:
        """Propagate forwards over the next slices."""
        self.go_to(START)
        section = self.widget.propagation
        section.range_choice.setCurrentText("next")
        section.limit.setValue(REACH)
        section.forward.click()
        self.until(lambda: self.session.handle is not None and not self.session.handle.is_running)

    def correct(self, numbers: Sequence[int]) -> None:
        """Draw around the nucleus whose mask is worst on the slice that is shown; objects are 1, 2, ..."""
        from skimage.measure import find_contours

        self.widget.use_lasso()
        plane = self.viewer.dims.current_step[0]
        truth, found = self.truth[plane], np.asarray(self.session.labels[plane])

        def overlap(object_id: int) -> float:
            is_there, is_found = truth == numbers[object_id - 1], found == object_id
            return float((is_there & is_found).sum() / (is_there | is_found).sum())

        worst = min(range(1, len(numbers) + 1), key=overlap)
        self.widget.binding.select(worst)
        nucleus = np.pad(truth == numbers[worst - 1], 1)
        outline = max(find_contours(nucleus.astype(float), 0.5), key=len) - 1
        self.widget.binding.shapes.add_polygons([np.insert(outline, 0, plane, axis=1)])
        self.until(lambda: not self.session.is_answering)

    # ------------------------------------------------------------------ pictures
    def _window(self) -> np.ndarray:
        return np.asarray(self.viewer.screenshot(canvas_only=False, flash=False)[..., :3])

    def show(self, seconds: float) -> None:
        """Add what the window shows now to the film."""
        self.pump(0.3)
        self.film.add(self._window(), seconds)

    def show_slices(self, planes: Sequence[int], seconds: float = 0.5) -> None:
        """Add slices to the film, one after the other."""
        for plane in planes:
            self.go_to(plane)
            self.show(seconds)

    def take(self, name: str) -> Path:
        """Write a picture of the whole window."""
        from PIL import Image

        self.pump(1.5)  # the review follows a change after a while
        picture = Image.fromarray(self._window())
        path = self.folder / f"{name}.png"
        picture.resize(SIZE).quantize(256, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size} bytes; expected {MAX_BYTES}: show less on it")
        return path

    def close(self) -> None:
        """End the widget and the window."""
        self.widget.shut_down()
        self.viewer.close()


def middle(region: np.ndarray) -> tuple[int, int]:
    """Row and column of the pixel of a region, (H, W) bool, that lies furthest from its edge."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y), int(x)


def tell(story: Story) -> None:
    """The tutorial, picture by picture."""
    story.show(2.0)
    story.click_nucleus(NUCLEI[0])
    story.take("first_click")
    story.show(2.0)

    for number in NUCLEI[1:]:
        story.click_nucleus(number)
        story.show(1.5)
    story.propagate()
    story.show_slices(range(START, START + REACH + 1), 0.8)
    story.go_to(START + LATER)
    story.take("propagated")
    story.show(2.0)

    story.correct(NUCLEI)
    story.take("correction")
    story.show(2.5)

    story.propagate()
    story.show_slices(range(START, START + REACH + 1), 0.8)
    story.go_to(START + LATER)
    story.widget.accept()
    story.take("review")
    story.show(2.5)

    story.go_to(START)
    for number in np.unique(story.truth[START]):
        if number and number not in NUCLEI:
            story.widget.new_object()
            story.box(int(number))
            story.show(0.4)
    story.take("objects")
    story.show(1.5)
    table = story.widget.show_measurements()
    story.until(lambda: table.data is not None)
    story.show(2.5)
    table.parent().close()
    story.film.write(story.folder / "film.webp")

    story.viewer.theme = "light"
    story.dock.setFixedWidth(NARROW)
    story.viewer.window.resize(*SIZE)
    story.widget.binding.select(1)
    story.take("narrow_dock")


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        # neither the settings nor the sessions of whoever runs this
        os.environ["NAPARI_CONFIG"] = str(Path(scratch) / "settings.yaml")
        os.environ["NAPARI_SAM2_SESSIONS"] = str(Path(scratch) / "sessions")
        begin = time.monotonic()
        story = Story(folder)
        tell(story)
        story.close()
    print(f"{folder}: taken in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()

"""What a user waits for in the running viewer: the dock, the model, a click, and gaps of the event loop.

Clicks come from code first, without a mouse, and then from a mouse that rests for 0.6 s before each.
Run under a display (``xvfb-run -a python benchmarks/viewer_latency.py``). Times are wall-clock medians of a shared
machine; the gaps are the longest intervals between two turns of the event loop, with a timer of 5 ms. Beside them
stands what napari itself needs in the same window, without this plugin, for three new layers and for a point and a
changed region of labels: where OpenGL is computed by the processor, drawing takes most of both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray
    from qtpy.QtCore import QPoint


def _gap_of_napari(
    viewer: napari.Viewer, labels: NDArray[np.int32], run: Callable[[float], None], gaps: list[float]
) -> tuple[float, float]:
    """Longest gaps, in ms: three layers of napari's own are added, then ten points and squares to two of them."""
    frame, scale, units = len(labels) // 2, viewer.layers[0].scale, viewer.layers[0].units
    gaps.clear()
    layer = viewer.add_labels(labels, scale=scale, units=units)
    shapes = viewer.add_shapes(None, ndim=3, scale=scale, units=units)
    points = viewer.add_points([[frame, 10, 40]], size=6, scale=scale, units=units)
    viewer.dims.set_point(0, frame * scale[0])
    run(1)
    adding = 1000 * max(gaps)
    gaps.clear()
    for n in range(10):
        points.add([[frame, 20 + 10 * n, 40]])
        layer.data[frame, 20 + 10 * n : 30 + 10 * n, 40:60] = n + 1
        layer.refresh()
        run(0.2)
    longest = 1000 * max(gaps)
    for each in (layer, shapes, points):
        each.visible = False  # not removed: where its points were, Mesa's software OpenGL ends the process
    run(0.5)
    return adding, longest


def _on_canvas(viewer: napari.Viewer, y: float, x: float) -> QPoint:
    """Where the world's (y, x) is on the canvas."""
    from qtpy.QtCore import QPoint

    # napari has no public way from data to the window
    canvas = viewer.window._qt_viewer.canvas  # noqa: SLF001
    origin, right, down = (
        np.array(canvas._map_canvas2world(spot, canvas.view)[-2:], float)  # noqa: SLF001
        for spot in ((0, 0), (100, 0), (0, 100))
    )
    column, row = np.linalg.solve(np.stack(((right - origin) / 100, (down - origin) / 100), 1), (y, x) - origin)
    return QPoint(round(column), round(row))


def main() -> None:
    """Measure and print; ``--json FILE`` keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    import napari
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    from napari_sam2._viewer.sample_data import nuclei_stack

    viewer = napari.Viewer()
    (truth, _, _), (stack, options, _) = nuclei_stack()
    viewer.add_image(stack[: given.frames], **options)
    application = QApplication.instance()
    assert application is not None
    gaps: list[float] = []
    last = time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        gaps.append(now - last)
        last = now

    def run(seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            application.processEvents()
            time.sleep(0.001)

    run(2)
    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(5)
    figures: dict[str, float] = {}

    run(0.5)
    gaps.clear()
    run(2)
    figures["gap_idle_ms"] = 1000 * max(gaps)
    alone = _gap_of_napari(viewer, np.zeros_like(truth[: given.frames]), run, gaps)
    figures["gap_napari_layers_ms"], figures["gap_napari_alone_ms"] = alone

    from napari_sam2._qt.main_widget import SAM2Widget

    assert "torch" not in sys.modules
    start = time.perf_counter()
    widget = SAM2Widget(viewer)
    viewer.window.add_dock_widget(widget, name="SAM 2")
    figures["open_dock_ms"] = 1000 * (time.perf_counter() - start)
    run(0.3)
    gaps.clear()
    while widget.binding is None or widget.binding.session.model_state.stage != "ready":
        run(0.01)
    figures["model_ready_s"] = time.perf_counter() - start
    figures["gap_loading_ms"] = 1000 * max(gaps)

    binding, session = widget.binding, widget.binding.session
    middle = given.frames // 2
    binding.go_to(middle)
    run(0.5)
    ids = [int(i) for i in np.unique(truth[middle]) if i]
    clicks = [np.argwhere(truth[middle] == i).mean(0) for i in ids]
    waits = []
    gaps.clear()
    for n in range(given.objects):
        widget.new_object()
        run(0.05)
        y, x = clicks[n % len(clicks)] + n // len(clicks)
        start = time.perf_counter()
        binding.points.add([[middle, y, x]])
        while session.is_answering:
            # as a running application waits: in Qt, without Python's lock, until the timer or an answer comes
            application.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        waits.append(1000 * (time.perf_counter() - start))
    figures["click_median_ms"] = statistics.median(waits[1:])
    figures["gap_clicks_ms"] = 1000 * max(gaps)

    native, by_mouse = viewer.window._qt_viewer.canvas.native, []  # noqa: SLF001
    viewer.layers.selection.active = binding.points
    binding.points.mode = "add"
    for y, x in clicks[:8]:
        widget.new_object()
        at = _on_canvas(viewer, *binding.labels.data_to_world([middle, y + 2, x + 2])[-2:])  # not where a point lies
        QTest.mouseMove(native, at)
        run(0.6)
        answered = len(session.store.prompts)
        start = time.perf_counter()
        QTest.mouseClick(native, Qt.MouseButton.LeftButton, pos=at)
        while session.is_answering or len(session.store.prompts) == answered:
            application.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
        by_mouse.append(1000 * (time.perf_counter() - start))
    figures["mouse_click_median_ms"] = statistics.median(by_mouse)

    for given_object in session.objects[given.objects :]:
        session.remove_object(given_object.object_id)
    run(0.5)
    gaps.clear()
    start = time.perf_counter()
    widget.propagate_both()
    while session.handle is None or session.handle.is_running:
        run(0.02)
    figures["propagation_s"] = time.perf_counter() - start
    figures["object_frames_per_s"] = given.objects * (given.frames - 1) / figures["propagation_s"]
    figures["gap_propagating_ms"] = 1000 * max(gaps)
    figures["gap_propagating_median_ms"] = 1000 * statistics.median(gaps)
    figures["gap_propagating_p99_ms"] = 1000 * float(np.percentile(gaps, 99))
    for name, value in figures.items():
        print(f"{name:28} {value:8.1f}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    widget.shut_down()
    viewer.close()


if __name__ == "__main__":
    main()

"""The two widgets without a session in a real viewer, which hands plugins proxies of its layers."""

from __future__ import annotations

import threading

import numpy as np

from factories import make_model, make_movie
from napari_sam2._qt.automatic_widget import AutomaticWidget
from napari_sam2._qt.fine_tune_widget import FineTuneWidget
from napari_sam2._viewer.layer_frames import training_frames
from napari_sam2.weights import loading as checkpoints


def test_widgets_work_through_the_viewer_s_proxy_and_end_with_their_docks(
    make_napari_viewer_proxy, qtbot, monkeypatch
) -> None:
    monkeypatch.setattr(checkpoints, "load_model", lambda *_, **__: make_model())
    viewer = make_napari_viewer_proxy()
    viewer.add_image(make_movie(3), name="cells", scale=(1, 0.5, 0.5))
    automatic, tuning = AutomaticWidget(viewer), FineTuneWidget(viewer)
    docks = [viewer.window.add_dock_widget(w, name=n) for w, n in ((automatic, "everything"), (tuning, "tune"))]
    for spin in (automatic.min_iou, automatic.min_stability):
        spin.setValue(0)
    automatic.segment()
    qtbot.waitUntil(lambda: not automatic.is_running, timeout=60_000)
    result = viewer.layers["cells everything"]
    assert np.allclose(result.scale, (1, 0.5, 0.5))
    frames, labels = training_frames(tuning.image.layer, tuning.labels.layer)
    assert (len(frames), len(labels)) == (1, 1)
    automatic.segment()
    for dock in docks:
        viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not any(t.name.startswith("napari-sam2") for t in threading.enumerate()), timeout=30_000)
    viewer.layers.clear()

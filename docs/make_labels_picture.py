"""Take docs/images/labels_in_zarr.png: labels written into an OME-Zarr image, opened by napari over their image.

It needs a window; on a machine without one: ``xvfb-run -a python docs/make_labels_picture.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import zarr

from napari_sam2 import SAM2ImagePredictor, open_frames
from napari_sam2.labels.files import LabelWriter
from napari_sam2.training.synthetic import make_demo_stack
from napari_sam2.weights.loading import load_model

PICTURE = Path(__file__).parent / "images" / "labels_in_zarr.png"
NUM_OBJECTS = 12
SIZE = (900, 600)  # pixels of the window


def write_image(path: Path, stack: np.ndarray) -> None:
    """An OME-Zarr 0.5 image with voxels of 0.9 x 0.3 x 0.3 micrometres."""
    group = zarr.open_group(path, mode="w")
    group.create_array("0", data=stack, chunks=(1, *stack.shape[1:]))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = {"type": "scale", "scale": [0.9, 0.3, 0.3]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PICTURE)
    output = parser.parse_args().output
    stack, truth = make_demo_stack(0)
    plane = int(np.argmax([len(np.unique(labels)) for labels in truth]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nuclei.ome.zarr"
        write_image(path, stack)
        frames = open_frames(path)
        predictor = SAM2ImagePredictor(load_model("sam2_micro"))
        predictor.set_frame(frames, plane)
        labels = np.zeros(frames.shape[1:], np.int32)
        sizes = np.bincount(truth[plane].ravel())
        sizes[0] = 0
        for number, chosen in enumerate(np.argsort(sizes)[::-1][:NUM_OBJECTS], 1):
            rows, columns = np.nonzero(truth[plane] == chosen)
            if len(rows):
                masks, scores, _ = predictor.predict(point_coords=[[columns.mean(), rows.mean()]], point_labels=[1])
                labels[(labels == 0) & masks[int(np.argmax(scores))]] = number
        with LabelWriter.for_frames(path / "labels" / "nuclei", frames) as writer:
            writer.write(plane, labels)
        take(path, plane, output)


def take(path: Path, plane: int, output: Path) -> None:
    """A window of napari with what the reader of this plugin gives for the image."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    viewer.open(str(path), plugin="napari-sam2")
    viewer.dims.set_current_step(0, plane)
    viewer.reset_view()
    viewer.screenshot(str(output), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()

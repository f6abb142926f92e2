"""Write labels slice by slice to OME-TIFF and OME-Zarr with the voxel size, and read them back."""

import numpy as np

from napari_sam2 import LabelWriter, open_frames, read_labels
from napari_sam2.training.synthetic import make_demo_stack

stack, truth = make_demo_stack(0)
voxel_size = {"Z": (0.5, "micrometer"), "Y": (0.25, "micrometer"), "X": (0.25, "micrometer")}
for name in ("labels.ome.tif", "labels.ome.zarr"):
    with LabelWriter(name, truth.shape, voxel_size=voxel_size, overwrite=True) as writer:
        for number, labels in enumerate(truth):
            writer.write(number, labels)  # the file appears under its name when it is complete
    assert np.array_equal(read_labels(name), truth)
    print(f"{name}: {open_frames(name, contrast='dtype').voxel_size}")
